"""``resumer replay``: the WorkflowResume that a saved delivery becomes, and what becomes of that.

The manifest goes to standard output and the explanation to standard error, so that the first can
be piped on and a person in a terminal sees both.
"""

from __future__ import annotations

import asyncio
import enum
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn

import typer

from resumer import errors, settings
from resumer.cli import cluster

_FAILED: Final = 1
_MAX_BYTES: Final = 25_000_000
"""What GitHub sends at most."""


class Format(enum.StrEnum):
    """How the request is printed."""

    YAML = "yaml"
    JSON = "json"


_FROM, _SAY = "The delivery", "The request"


def replay(  # noqa: PLR0913 - one argument per option is how typer reads them
    payload: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The delivery, as JSON; - for standard input.", show_default=False
        ),
    ],
    event: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Its header X-GitHub-Event, if the file does not hold it, as `pull_request`.",
            rich_help_panel=_FROM,
        ),
    ] = "",
    delivery: Annotated[
        str,
        typer.Option(metavar="ID", help="Its header X-GitHub-Delivery.", rich_help_panel=_FROM),
    ] = "",
    task: Annotated[
        str,
        typer.Option(metavar="ID", help="The task, if not the event's.", rich_help_panel=_SAY),
    ] = "",
    event_type: Annotated[
        str,
        typer.Option(
            "--type", metavar="TYPE", help="The type, if not the event's.", rich_help_panel=_SAY
        ),
    ] = "",
    selector: Annotated[
        str,
        typer.Option(
            "--selector",
            "-l",
            metavar="LABELS",
            help="Its labelSelector. Default: the policy's workflowSelector, and the task.",
            rich_help_panel=_SAY,
        ),
    ] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=PATH",
            help="A resume parameter and where in the event its value is, as "
            "`pr-number=pull_request.number`; any number of them. Default: those that the Sensor "
            "which comes with Resumer sets.",
            rich_help_panel=_SAY,
        ),
    ] = None,
    no_parameters: Annotated[
        bool, typer.Option("--no-parameters", help="None.", rich_help_panel=_SAY)
    ] = False,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Policies to try, instead of those in the cluster; may be given again.",
            rich_help_panel=cluster.PANEL,
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read nothing from it.", rich_help_panel=cluster.PANEL)
    ] = False,
    workflow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Offline, the Workflows there are, as `kubectl get wf -o yaml` prints them.",
            rich_help_panel=cluster.PANEL,
        ),
    ] = None,
    namespace: cluster.Namespace = "default",
    kubeconfig: cluster.Kubeconfig = "",
    context: cluster.Context = "",
    instance_id: cluster.InstanceId = "",
    output: Annotated[
        Format,
        typer.Option(
            "--output",
            "-o",
            help="The manifest, with the explanation on standard error; or both in one object.",
        ),
    ] = Format.YAML,
) -> None:
    """Show the WorkflowResume that a saved delivery of GitHub becomes, and explain it.

    The delivery is the payload as GitHub's page of recent deliveries shows it, or with its headers
    around it, as Argo Events has it. The request is made as the Sensor makes it that comes with
    Resumer, by the rules of the policy in force, and explained as `resumer explain` does. Nothing
    is written. The manifest alone goes to standard output, so that
    `resumer replay FILE | kubectl create -f -` sends it.
    """
    if workflow and not offline:
        raise typer.BadParameter("--workflow needs --offline: else the cluster's are read")
    if parameter and no_parameters:
        raise typer.BadParameter("give either --parameter or --no-parameters")
    values = () if no_parameters else tuple(map(_named, parameter)) if parameter else None
    chosen = settings.Settings(
        namespaces=(namespace,), kubeconfig=kubeconfig, context=context, instance_id=instance_id
    )
    document = _document(payload)
    policies = list(_objects(policy, "WorkflowResumePolicy")) if policy else None
    workflows = list(_objects(workflow or (), "Workflow"))

    from resumer import factory  # noqa: PLC0415 - --help and a mistake should be quick
    from resumer.core import deliveries  # noqa: PLC0415 - as above
    from resumer.core.proposals import Dropped, Wish  # noqa: PLC0415 - as above

    try:
        found = asyncio.run(
            factory.replay(
                chosen,
                deliveries.read(document, name=event, delivery=delivery),
                Wish(event_type, task, selector, values),
                offline=offline,
                policies=policies,
                workflows=workflows,
            )
        )
    except errors.SettingsError:
        raise
    except (errors.ApiError, errors.InvalidError) as error:
        _fail(str(error))
    if isinstance(found, Dropped):
        _fail(f"no request becomes of it: {found.why}")
    _show(found, as_json=output is Format.JSON, offline=offline)


def _show(found: Any, *, as_json: bool, offline: bool) -> None:
    from resumer.cli import explained, manifests  # noqa: PLC0415 - as above

    if as_json:
        told = {"request": found.manifest, **explained.as_json(found.explanation)}
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(manifests.as_yaml(found.manifest), nl=False)
    typer.echo(f"\n{explained.as_text(found.explanation)}", err=True)
    if offline:
        typer.echo("\nOffline: the cluster was not looked at.", err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(f"resumer: {message}", err=True)
    raise typer.Exit(_FAILED)


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise typer.BadParameter(f"--parameter: {text!r} is not NAME=PATH")
    return name, path


def _document(file: str) -> object:
    """What is in a file of JSON."""
    raw = _bytes(file, _MAX_BYTES)
    if len(raw) > _MAX_BYTES:
        raise typer.BadParameter(f"{file} has more than {_MAX_BYTES:,} bytes, GitHub's limit")
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_no_number)
    except RecursionError:
        raise typer.BadParameter(f"{file} cannot be read: it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _objects(files: Sequence[str], kind: str) -> Iterator[Mapping[str, Any]]:
    """The objects in files of YAML or JSON, those in lists too; all have to be of this kind."""
    import yaml  # noqa: PLC0415 - as above

    for file in files:
        try:
            found = list(yaml.safe_load_all(_bytes(file, None)))
        except (yaml.YAMLError, RecursionError) as error:
            raise typer.BadParameter(f"{file} cannot be read: {error}") from None
        for one in found:
            listed = one.get("items") if isinstance(one, dict) else None
            for body in listed if isinstance(listed, list) else [one]:
                if not _is(body, kind):
                    raise typer.BadParameter(f"{file} holds something else than {kind} objects")
                # Times become text, as in an answer of the API server.
                yield json.loads(json.dumps(body, default=str))


def _is(body: object, kind: str) -> bool:
    if not isinstance(body, dict) or body.get("kind") != kind:
        return False
    metadata = body.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str)


def _bytes(file: str, most: int | None) -> bytes:
    """The bytes of a file, or one more than the most."""
    size = -1 if most is None else most + 1
    try:
        if file == "-":
            return typer.get_binary_stream("stdin").read(size)
        with pathlib.Path(file).open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
