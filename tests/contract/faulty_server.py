"""A local HTTP server that answers as a test tells it to, also as no healthy API server would."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import yaml
from aiohttp import web

from resumer import ports
from resumer.adapters import clock, connection, metering, watches

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FaultyServer:
    """Gives the planned answers in order, the last one again and again.

    Attributes:
        readiness: the status of its answers to `/readyz`, which need not be planned
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.readiness = 200
        self.received: list[Received] = []
        self._planned: list[Answer] = []

    def plan(self, *answers: Answer) -> None:
        self._planned = list(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/readyz":
            return web.Response(status=self.readiness)
        body = await request.read()
        self.received.append(
            Received(request.method, request.raw_path, request.query, request.headers, body)
        )
        answer = self._planned.pop(0) if len(self._planned) > 1 else self._planned[0]
        return await answer(request)

    def kubeconfig(self, **user: Any) -> str:
        """The text of a kubeconfig for this server, with the given user entry."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": user}],
        }
        return yaml.safe_dump(config)


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    """An answer with a JSON object, or with bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def give(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers=named)

    return give


def status(code: int, reason: str, message: str, **details: Any) -> Answer:
    """An answer with a Status object, as the API server words its refusals."""
    return answer(code, status_object(code, reason, message, **details))


def status_object(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


async def reset(request: web.Request) -> web.StreamResponse:
    """Breaks the connection after the request has arrived."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request) -> web.StreamResponse:
    """Breaks the connection in the middle of a success."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind"')
    assert request.transport is not None
    request.transport.abort()
    return response


async def silence(_: web.Request) -> web.StreamResponse:
    """Takes the request and never answers."""
    await asyncio.Event().wait()
    return web.Response()


@contextlib.asynccontextmanager
async def serve() -> AsyncIterator[FaultyServer]:
    """A server on a free port, for as long as the context."""
    server = FaultyServer("")
    app = web.Application(client_max_size=8 * 2**20)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def connected(
    kubeconfig: str,
    *,
    moment: ports.Clock | None = None,
    activity: watches.WatchActivity | None = None,
    meter: metering.Meter | None = None,
) -> AsyncIterator[connection.Connection]:
    """A connection by a kubeconfig file, closed with the context."""
    link = await connection.Connection.open(
        moment or clock.SystemClock(),
        activity or watches.WatchActivity((), namespaces=(), now=0.0),
        kubeconfig=kubeconfig,
        onlookers=[meter] if meter else [],
    )
    try:
        yield link
    finally:
        await link.close()
