"""The settings of one operator process: read once at start, never changed afterwards.

The command line builds them (`resumer.cli.run`), `resumer.factory` hands them to whoever needs one.
A value that cannot work is refused here, before anything is started, with a message that names the
field, what was found and what is allowed. What needs a look at the outside (does the kubeconfig
exist, is the port free) is not checked here.
"""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass

from resumer import errors, names

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LEASE_NAME = re.compile(names.DNS_SUBDOMAIN)
_LABEL_VALUE = re.compile(names.LABEL_VALUE)


class LogFormat(enum.StrEnum):
    """How a log line is written."""

    JSON = "json"
    """One JSON object per line."""

    CONSOLE = "console"
    """For a person at a terminal; coloured there, and only there."""


class LogLevel(enum.StrEnum):
    """The least important lines that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that can be set; every field has a default that suits an operator in a cluster.

    Raises:
        SettingsError: A value is outside of what its field allows; raised by the constructor.
    """

    namespaces: tuple[str, ...] = ()
    """The namespaces to work in. Empty: all, which needs cluster-wide rights."""

    instance_id: str = ""
    """Argo's ``controller-instanceid``: only Workflows that carry it are touched. Empty: only those
    without one.

    It is what tells the Workflows of several Argo controllers in one cluster apart, so it has to be
    the same here.
    """

    kubeconfig: str = ""
    """Path of a kubeconfig. Empty: the pod's service account, or outside of a cluster
    ``~/.kube/config``.
    """

    context: str = ""
    """The context of the kubeconfig. Empty: its current one."""

    log_format: LogFormat = LogFormat.JSON
    """JSON by default, because in a cluster a log is read by a program first."""

    log_level: LogLevel = LogLevel.INFO
    """Info by default: each outcome of a request is one line, and nothing else is said as long as
    all is well.
    """

    tracing: bool = False
    """Whether to export traces, as the environment says (``OTEL_...``). Off by default: it needs a
    collector.
    """

    metrics_host: str = ""
    """The address to serve metrics and health on. Empty: all, IPv4 and IPv6, because a probe comes
    to the pod's.
    """

    metrics_port: int | None = 9402
    """The port of metrics and health: 0 takes a free one (the log says which), None serves
    neither.
    """

    workers: int = 64
    """Reconciles at the same time, 1 to 1000. Each mostly waits for the API server; more than
    `api_connections` only queue up there."""

    api_connections: int = 64
    """Connections to the API server for requests, 1 to 1000 (watches have their own).

    As many as `workers`, so that no worker waits for another; a bound at all, so that catching up
    after an outage does not open one for each waiting request.
    """

    api_rate: float = 400.0
    """Calls to the API server a second in the long run, 0 to 100000; 0: as many as it takes.

    A resume is two calls. The API server protects itself by priority and fairness, which bounds the
    calls under way; this bounds their number.
    """

    api_burst: int = 800
    """Calls without a wait after a quiet time, 1 to 100000."""

    request_timeout: float = 10.0
    """Seconds for one request to the API server, 0.1 to 60. Ten is well above a slow answer (about
    one second), and leaves room for several attempts in the 60 seconds that one resume's work may
    take.
    """

    reconcile_timeout: float = 60.0
    """Seconds for one look at a WorkflowResume, with all its calls, up to 3600; not less than
    `request_timeout`.

    Each call has a timeout of its own, and slow answers add up: a look may read page after page.
    Cut off, the request backs off, and its worker is free for others.
    """

    cleanup_interval: float = 60.0
    """Seconds between two sweeps that delete finished WorkflowResumes past their time to live, 0 to
    86400; 0: never.

    A minute, as such objects live for a day: a sweep lists the finished ones page by page.
    """

    drain_seconds: float = 8.0
    """Seconds that running reconciles get to end after SIGTERM, 0 to 600. With the two that closing
    takes, the process ends within ten; what is cut off is picked up after the restart.
    """

    stale_seconds: float = 180.0
    """Seconds, 10 to 3600, after which ``/healthz`` fails if nothing came on a watch and nothing
    was tried for it.

    The API server sends a bookmark each minute, a stream that brings none for 70 seconds is opened
    anew, and while that fails, or the kinds are missing, it is tried every few seconds: a watch
    that does nothing for so long hangs.
    """

    leader_elect: bool = False
    """Whether to work only while this process holds a Lease, and to stand by otherwise.

    Off for a person at a terminal; on wherever more than one replica is to run.
    """

    leader_elect_lease_name: str = "resumer"
    """The name of the Lease. Operators that share it take turns, so each shard has one of its own.
    """

    leader_elect_namespace: str = ""
    """The namespace of the Lease. Empty: the pod's own."""

    lease_seconds: float = 10.0
    """Seconds, 1 to 3600, that others wait after the last sign of a leader before one takes over.

    With ten, another one works within fifteen seconds of a leader's sudden end.
    """

    lease_renew_seconds: float = 7.0
    """Seconds without a renewal after which a leader ends, less than the lease: the difference is
    for what it has just sent, and for clocks that do not run alike.
    """

    lease_retry_seconds: float = 2.0
    """Seconds between two renewals, at least 0.1 and less than the time to renew."""

    def __post_init__(self) -> None:
        for namespace in self.namespaces:
            if not _NAMESPACE.fullmatch(namespace):
                raise errors.SettingsError(
                    "namespaces",
                    f"{namespace!r} is not the name of a namespace: 1 to 63 of a-z, 0-9 and '-', "
                    "with a letter or a digit first and last",
                )
        if len(set(self.namespaces)) != len(self.namespaces):
            twice = next(name for name in self.namespaces if self.namespaces.count(name) > 1)
            raise errors.SettingsError("namespaces", f"{twice!r} is given more than once")
        if self.instance_id and not _LABEL_VALUE.fullmatch(self.instance_id):
            raise errors.SettingsError(
                "instance_id",
                f"{self.instance_id!r} is not a label value: 1 to 63 of A-Z, a-z, 0-9, '-', '_' "
                "and '.', with a letter or a digit first and last",
            )
        if self.metrics_port is not None:
            _within("metrics_port", self.metrics_port, 0, 65535)
        _within("workers", self.workers, 1, 1000)
        _within("api_connections", self.api_connections, 1, 1000)
        _within("api_rate", self.api_rate, 0, 100_000)
        _within("api_burst", self.api_burst, 1, 100_000)
        _within("request_timeout", self.request_timeout, 0.1, 60)
        _within("reconcile_timeout", self.reconcile_timeout, self.request_timeout, 3600)
        _within("cleanup_interval", self.cleanup_interval, 0, 86400)
        _within("drain_seconds", self.drain_seconds, 0, 600)
        _within("stale_seconds", self.stale_seconds, 10, 3600)
        self._check_election()

    def _check_election(self) -> None:
        name, namespace = self.leader_elect_lease_name, self.leader_elect_namespace
        if len(name) > names.MAX_NAME or not _LEASE_NAME.fullmatch(name):
            raise errors.SettingsError(
                "leader_elect_lease_name",
                f"{name!r} is not the name of a Lease: 1 to 253 of a-z, 0-9, '-' and '.', with a "
                "letter or a digit at each end and on both sides of each '.'",
            )
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise errors.SettingsError(
                "leader_elect_namespace", f"{namespace!r} is not the name of a namespace"
            )
        lease, renew = self.lease_seconds, self.lease_renew_seconds
        retry = self.lease_retry_seconds
        _within("lease_seconds", lease, 1, 3600)
        _within("lease_retry_seconds", retry, 0.1, 3600)
        if not renew < lease:
            raise errors.SettingsError(
                "lease_renew_seconds", f"{renew:g} is not less than the lease, {lease:g}"
            )
        if not retry < renew:
            raise errors.SettingsError(
                "lease_retry_seconds",
                f"{retry:g} is not less than the time to renew, {renew:g}",
            )


def _within(field: str, value: float, least: float, most: float) -> None:
    if math.isnan(value) or not least <= value <= most:
        raise errors.SettingsError(field, f"{value:g} is not within {least:g} and {most:g}")
