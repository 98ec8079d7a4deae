"""``resumer explain``: what would be decided about a WorkflowResume now, check by check."""

from __future__ import annotations

import asyncio
import enum
import json
import pathlib
from typing import Annotated, Any

import typer

from resumer import errors, settings
from resumer.cli import cluster

_FAILED = 1


class Format(enum.StrEnum):
    """How an explanation is printed."""

    TEXT = "text"
    JSON = "json"


def explain(  # noqa: PLR0913 - one argument per option is how typer reads them
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A WorkflowResume in the cluster.")
    ] = "",
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="FILE", help="A manifest instead; - for standard input."
        ),
    ] = "",
    namespace: cluster.Namespace = "default",
    kubeconfig: cluster.Kubeconfig = "",
    context: cluster.Context = "",
    instance_id: cluster.InstanceId = "",
    output: Annotated[
        Format, typer.Option("--output", "-o", help="For a person, or for a program.")
    ] = Format.TEXT,
) -> None:
    """Say what would be decided about a WorkflowResume now, and why. Writes nothing.

    Everything is read afresh from the cluster and goes through the checks of the operator, with
    your own rights: you need to read Workflows and the kinds of Resumer.
    """
    if bool(name) == bool(file):
        raise typer.BadParameter("give either the NAME of a WorkflowResume, or a file with -f")
    manifest = _read(file) if file else None
    chosen = settings.Settings(
        namespaces=(namespace,), kubeconfig=kubeconfig, context=context, instance_id=instance_id
    )
    from resumer import factory  # noqa: PLC0415 - --help and a mistake should be quick
    from resumer.cli import explained  # noqa: PLC0415 - as above

    try:
        found = asyncio.run(factory.explain(chosen, manifest if manifest is not None else name))
    except errors.SettingsError:
        raise
    except (errors.ApiError, errors.InvalidError) as error:
        typer.echo(f"resumer: {error}", err=True)
        raise typer.Exit(_FAILED) from None
    as_json = output is Format.JSON
    shown = json.dumps(explained.as_json(found), indent=2) if as_json else explained.as_text(found)
    typer.echo(shown)


def _read(file: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - as above

    try:
        text = (
            typer.get_text_stream("stdin").read() if file == "-" else pathlib.Path(file).read_text()
        )
        manifest = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != "WorkflowResume":
        raise typer.BadParameter(f"{file} is not one WorkflowResume")
    return dict(json.loads(json.dumps(manifest, default=str)))
