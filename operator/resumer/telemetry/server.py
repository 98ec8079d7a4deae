"""The small web server for metrics and health, in the operator's own event loop.

In its own loop on purpose: a loop that is stuck does not answer, and the liveness probe then ends
the process. It serves what anybody in the pod network may read: no names of objects, no values,
nothing that writes.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import socket
from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

import resumer
from resumer import errors
from resumer.telemetry import health

_INDEX = """Resumer {version}
/metrics  Prometheus metrics
/healthz  200 while every watch is heard of or tried, else 503; the body says which is not
/readyz   200 once everything that existed at the start is known, else 503
"""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_SHUTDOWN_SECONDS = 1.0
# A scrape takes milliseconds; nobody's open connection may hold up the end of the process.


class Server:
    """Serves ``/metrics``, ``/healthz``, ``/readyz`` and a short index.

    Args:
        registry: The metrics.
        healthy: What ``/healthz`` asks; all checks must be well.
        ready: What ``/readyz`` asks; all checks must be well.
        host: The address to listen on; ``""`` for all, IPv4 and IPv6.
        port: The port to listen on; 0 for a free one.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        healthy: health.Probe,
        ready: health.Probe,
        host: str,
        port: int,
    ) -> None:
        self._registry = registry
        self._healthy = healthy
        self._ready = ready
        self._host = host
        self._wanted = port
        self._runner: web.AppRunner | None = None
        self.port = 0
        """The port that is listened on; 0 before `start`."""

    async def start(self) -> None:
        """Listens, and sets `port`.

        Raises:
            SettingsError: The address is not one of this machine, or the port is taken.
        """
        listener = _listen(self._host, self._wanted)
        application = web.Application()
        application.add_routes(
            [
                web.get("/", self._index),
                web.get("/metrics", make_aiohttp_handler(self._registry)),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        self.port = listener.getsockname()[1]

    async def stop(self) -> None:
        """Stops to listen and closes all connections within a second; harmless before `start`."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX.format(version=resumer.__version__), headers=_HEADERS)

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._healthy())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._ready())


def _answer(checks: Sequence[health.Check]) -> web.Response:
    well = all(check.ok for check in checks)
    body = {
        "status": "ok" if well else "failing",
        "checks": [dataclasses.asdict(check) for check in checks],
    }
    return web.Response(
        status=200 if well else 503,
        text=json.dumps(body, indent=2) + "\n",
        content_type="application/json",
        headers=_HEADERS,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; for all addresses one for IPv4 and IPv6, so that a free port is one."""
    try:
        if not host:
            return _listen_on_all(port)
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror as error:
        raise errors.SettingsError(
            "metrics_host", f"{host!r} is not an address: {error.strerror}"
        ) from error
    except OSError as error:
        field = "metrics_host" if error.errno == errno.EADDRNOTAVAIL else "metrics_port"
        raise errors.SettingsError(
            field, f"cannot listen on {host or 'all addresses'}, port {port}: {error.strerror}"
        ) from error


def _listen_on_all(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            # A kernel may know IPv6 and yet have it switched off for every interface.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port))
