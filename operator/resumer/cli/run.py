"""``resumer run``: the operator itself.

Turns options and environment variables into `resumer.settings.Settings`, sets up the logs and hands
over to what `resumer.__main__` gave it to start. Whatever decides anything lies behind that call,
and is imported only when the command runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.models import OptionInfo

from resumer import errors, settings
from resumer.cli import options

_DEFAULTS = settings.Settings()
_NO_PORT = "none"

_SCOPE = "What to work on"
_CONNECTION = "The API server"
_LOGS = "Logs"
_TRACES = "Traces"
_PROBES = "Metrics and health"
_LIMITS = "Limits"
_ELECTION = "Leader election"
# Apart from the switch: its two names would leave the others no room on a terminal of 80 columns.
_LEASE = "The Lease of the leader"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of seconds") from None


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number of calls a second") from None


# typer's own conversion says neither what was found nor what is meant.
_NUMBERS: dict[str, Callable[[str], float]] = {
    "COUNT": _whole,
    "RATE": _rate,
    "SECONDS": _seconds,
}


def _option(panel: str, field: str, metavar: str, text: str, also: str = "") -> OptionInfo:
    """An option for a field of the settings, with its variable and its place in the help.

    Args:
        panel: The heading it stands under.
        field: The field of the settings.
        metavar: What kind of value it takes, for the help; "" for a switch.
        text: What it does.
        also: A second environment variable, read where the first is not set.
    """
    first = options.variable(field)
    flag = options.flag(field)
    info = typer.Option(
        flag if metavar else f"{flag}/{options.negated(field)}",
        metavar=metavar or None,
        envvar=[first, also] if also else first,
        help=text,
        rich_help_panel=panel,
        parser=_NUMBERS.get(metavar),
    )
    assert isinstance(info, OptionInfo)
    return info


Operate = Callable[[settings.Settings], int]
"""Starts the operator, and returns its exit code when it has ended."""


def run(  # noqa: PLR0913 - one argument per option is how typer reads them
    command: typer.Context,
    namespaces: Annotated[
        list[str],
        _option(
            _SCOPE,
            "namespaces",
            "NAME",
            "Work in this namespace only. Repeatable; the variable takes several, separated by "
            "commas or spaces. Without it: all namespaces.",
        ),
    ] = [],  # noqa: B006 - typer copies the default; it is never changed
    instance_id: Annotated[
        str,
        _option(
            _SCOPE,
            "instance_id",
            "ID",
            "Touch only the Workflows of the Argo controller with this instance ID. Without it: "
            "only Workflows that carry none.",
        ),
    ] = _DEFAULTS.instance_id,
    kubeconfig: Annotated[
        str,
        _option(
            _CONNECTION,
            "kubeconfig",
            "PATH",
            "Connect as this file says. Without it: as the pod's service account or, outside of a "
            "cluster, as ~/.kube/config says.",
            also="KUBECONFIG",
        ),
    ] = _DEFAULTS.kubeconfig,
    context: Annotated[
        str,
        _option(
            _CONNECTION,
            "context",
            "NAME",
            "The context of the kubeconfig to use. Without it: its current one.",
        ),
    ] = _DEFAULTS.context,
    request_timeout: Annotated[
        float,
        _option(
            _CONNECTION,
            "request_timeout",
            "SECONDS",
            "How long one request may take, 0.1 to 60. A timeout counts as a transient failure.",
        ),
    ] = _DEFAULTS.request_timeout,
    api_connections: Annotated[
        int,
        _option(
            _CONNECTION,
            "api_connections",
            "COUNT",
            "How many connections to open at most, 1 to 1000, not counting those of watches.",
        ),
    ] = _DEFAULTS.api_connections,
    api_rate: Annotated[
        float,
        _option(
            _CONNECTION,
            "api_rate",
            "RATE",
            "How many calls to make a second in the long run, up to 100000; 0: as many as it "
            "takes. A resume is two calls.",
        ),
    ] = _DEFAULTS.api_rate,
    api_burst: Annotated[
        int,
        _option(
            _CONNECTION,
            "api_burst",
            "COUNT",
            "How many calls to make without a wait after a quiet time, 1 to 100000.",
        ),
    ] = _DEFAULTS.api_burst,
    log_format: Annotated[
        settings.LogFormat,
        _option(
            _LOGS,
            "log_format",
            "json|console",
            "One JSON object per line, or lines for a person to read.",
        ),
    ] = _DEFAULTS.log_format,
    log_level: Annotated[
        settings.LogLevel,
        _option(
            _LOGS,
            "log_level",
            "debug|info|warning|error",
            "The least important lines to write. At info, each outcome of a request is one line.",
        ),
    ] = _DEFAULTS.log_level,
    tracing: Annotated[
        bool,
        _option(
            _TRACES,
            "tracing",
            "",
            "Send a trace of each WorkflowResume to where OTEL_EXPORTER_OTLP_ENDPOINT says, by "
            "OTLP over HTTP. `--no-tracing` sends none.",
        ),
    ] = _DEFAULTS.tracing,
    metrics_host: Annotated[
        str,
        _option(
            _PROBES,
            "metrics_host",
            "ADDRESS",
            "Serve /metrics, /healthz and /readyz on this address. Without it: on all, IPv4 and "
            "IPv6.",
        ),
    ] = _DEFAULTS.metrics_host,
    metrics_port: Annotated[
        str,
        _option(
            _PROBES,
            "metrics_port",
            f"PORT|{_NO_PORT}",
            f"Serve them on this port; 0 takes a free one and logs it, '{_NO_PORT}' serves none.",
        ),
    ] = str(_DEFAULTS.metrics_port),
    stale_seconds: Annotated[
        float,
        _option(
            _PROBES,
            "stale_seconds",
            "SECONDS",
            "/healthz fails once nothing has come on a watch and nothing was tried for it for so "
            "long, 10 to 3600. The API server says something every minute; while it is away, its "
            "answer is asked for every few seconds.",
        ),
    ] = _DEFAULTS.stale_seconds,
    workers: Annotated[
        int,
        _option(
            _LIMITS, "workers", "COUNT", "How many requests to work on at the same time, 1 to 1000."
        ),
    ] = _DEFAULTS.workers,
    reconcile_timeout: Annotated[
        float,
        _option(
            _LIMITS,
            "reconcile_timeout",
            "SECONDS",
            "How long one look at a request may take with all its calls, up to 3600; not less than "
            "one call may take. After that the request backs off.",
        ),
    ] = _DEFAULTS.reconcile_timeout,
    cleanup_interval: Annotated[
        float,
        _option(
            _LIMITS,
            "cleanup_interval",
            "SECONDS",
            "How often to delete finished WorkflowResumes whose time to live is over, up to "
            "86400; 0: never.",
        ),
    ] = _DEFAULTS.cleanup_interval,
    drain_seconds: Annotated[
        float,
        _option(
            _LIMITS,
            "drain_seconds",
            "SECONDS",
            "How long running work may take to end after SIGTERM, up to 600. What is cut off is "
            "picked up after the restart.",
        ),
    ] = _DEFAULTS.drain_seconds,
    leader_elect: Annotated[
        bool,
        _option(
            _ELECTION,
            "leader_elect",
            "",
            "Work only while holding a Lease, and stand by otherwise, so that several replicas "
            "can run. `--no-leader-elect` works at once.",
        ),
    ] = _DEFAULTS.leader_elect,
    leader_elect_lease_name: Annotated[
        str,
        _option(
            _LEASE,
            "leader_elect_lease_name",
            "NAME",
            "The Lease. Replicas share one; each shard has its own.",
        ),
    ] = _DEFAULTS.leader_elect_lease_name,
    leader_elect_namespace: Annotated[
        str,
        _option(
            _LEASE,
            "leader_elect_namespace",
            "NAME",
            "The namespace of the Lease. Without it: the pod's own.",
        ),
    ] = _DEFAULTS.leader_elect_namespace,
    lease_seconds: Annotated[
        float,
        _option(
            _LEASE,
            "lease_seconds",
            "SECONDS",
            "How long after its last sign a leader is left alone, 1 to 3600.",
        ),
    ] = _DEFAULTS.lease_seconds,
    lease_renew_seconds: Annotated[
        float,
        _option(
            _LEASE,
            "lease_renew_seconds",
            "SECONDS",
            "When a leader that cannot renew has stopped; less than the lease.",
        ),
    ] = _DEFAULTS.lease_renew_seconds,
    lease_retry_seconds: Annotated[
        float,
        _option(
            _LEASE,
            "lease_retry_seconds",
            "SECONDS",
            "How often a leader renews, at least 0.1; less than the time to renew. Who stands by "
            "looks twice as often.",
        ),
    ] = _DEFAULTS.lease_retry_seconds,
) -> None:
    """Start the operator: watch WorkflowResumes and resume the workflows they mean.

    It runs until SIGTERM or SIGINT, lets running work end, and exits with 0. It may be killed at
    any moment: no gate is opened twice and none is forgotten. A value that is not allowed ends it
    at once, with exit code 2.
    """
    chosen = settings.Settings(
        namespaces=_names(namespaces),
        instance_id=instance_id,
        kubeconfig=kubeconfig,
        context=context,
        log_format=log_format,
        log_level=log_level,
        tracing=tracing,
        metrics_host=metrics_host,
        metrics_port=_port(metrics_port),
        workers=workers,
        api_connections=api_connections,
        api_rate=api_rate,
        api_burst=api_burst,
        request_timeout=request_timeout,
        reconcile_timeout=reconcile_timeout,
        cleanup_interval=cleanup_interval,
        drain_seconds=drain_seconds,
        stale_seconds=stale_seconds,
        leader_elect=leader_elect,
        leader_elect_lease_name=leader_elect_lease_name,
        leader_elect_namespace=leader_elect_namespace,
        lease_seconds=lease_seconds,
        lease_renew_seconds=lease_renew_seconds,
        lease_retry_seconds=lease_retry_seconds,
    )
    # Here and not above: --help and a mistake should be quick.
    from resumer.telemetry import logs  # noqa: PLC0415 - not for --help

    logs.configure(chosen.log_format, chosen.log_level)
    try:
        operate: Operate = command.obj
        code = operate(chosen)
    except errors.SettingsError:
        raise
    except Exception:  # noqa: BLE001 - the last resort: a traceback would not be a log line
        logs.get(__name__).exception("the operator ended by an error nobody expected")
        code = 1
    raise typer.Exit(code)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for text in given for name in re.split(r"[,\s]+", text) if name)


def _port(text: str) -> int | None:
    if text.lower() == _NO_PORT:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise errors.SettingsError(
            "metrics_port", f"{text!r} is neither a port, 0 to 65535, nor '{_NO_PORT}'"
        )
    return int(text)
