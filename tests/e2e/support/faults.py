"""What can happen to a call between the operator and the API server; `proxy` makes it happen.

A `Fault` gets the call and decides whether, when and how often it is passed on, and what the
operator is told: an answer, or nothing on a connection that breaks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from tests.e2e.support import waiting


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came from the API server, or as a fault makes it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


Send = Callable[[web.Request, bytes], Awaitable[Reply]]
"""Passes a call on to the API server."""


class Call:
    """One call under way, in the hands of a fault."""

    def __init__(self, send: Send, request: web.Request, body: bytes) -> None:
        self.request = request
        self.body = body
        self.began = datetime.datetime.now(datetime.UTC)
        self.upstream: int | None = None
        self._send = send

    async def forward(self) -> Reply:
        """Passes it on to the API server; the operator is not told yet."""
        reply = await self._send(self.request, self.body)
        self.upstream = reply.status
        return reply

    def reset(self) -> None:
        """Breaks the connection to the operator with a TCP reset."""
        transport = self.request.transport
        if transport is None:
            return
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def drop(self) -> None:
        """Closes the connection to the operator without an answer."""
        if self.request.transport is not None:
            self.request.transport.abort()


Fault = Callable[[Call], Awaitable[Reply | None]]
"""What happens to a call: the answer that the operator gets, or None for no answer."""


def answer(status: int, *, reason: str = "", retry_after: int | None = None) -> Fault:
    """Answers in the API server's stead, in its words."""
    named = {
        409: "Conflict",
        422: "Invalid",
        429: "TooManyRequests",
        500: "InternalError",
        503: "ServiceUnavailable",
        504: "Timeout",
    }
    message = {
        409: "the object has been modified; please apply your changes to the latest version",
        422: "the server rejected our request due to an error in our request",
    }.get(status, f"broken by a test: {status}")
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": status,
        "reason": reason or named.get(status, ""),
        "message": message,
        "details": {},
    }
    headers = {"Content-Type": "application/json"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)

    async def give(call: Call) -> Reply:
        return Reply(status, json.dumps(body).encode(), headers)

    return give


def answer_after(status: int) -> Fault:
    """Passes the call on, and then tells the operator something else than the API server did."""
    give = answer(status)

    async def lie(call: Call) -> Reply | None:
        await call.forward()
        return await give(call)

    return lie


async def drop_before(call: Call) -> None:
    """Closes the connection before the call was passed on."""
    call.drop()


async def reset_before(call: Call) -> None:
    """Resets the connection before the call was passed on."""
    call.reset()


async def drop_after(call: Call) -> None:
    """Passes the call on and loses the answer."""
    await call.forward()
    call.drop()


async def reset_after(call: Call) -> None:
    """Passes the call on and resets the connection instead of the answer."""
    await call.forward()
    call.reset()


async def garble_after(call: Call) -> Reply:
    """Passes the call on and returns a success whose body is no JSON."""
    await call.forward()
    return Reply(200, b"<html>it works</html>", {"Content-Type": "text/html"})


def delay(seconds: float) -> Fault:
    """Passes the call on so many seconds late, even if the operator has given it up by then."""

    async def late(call: Call) -> Reply:
        await asyncio.sleep(seconds)
        return await call.forward()

    return late


KINDS: Mapping[str, Fault] = {
    "409 conflict": answer(409),
    "422 invalid": answer(422),
    "429 with Retry-After": answer(429, retry_after=1),
    "500": answer(500),
    "503": answer(503),
    "504": answer(504),
    "connection closed before the call": drop_before,
    "connection reset before the call": reset_before,
    "answer lost after the call": drop_after,
    "connection reset after the call": reset_after,
    "garbage in place of the answer": garble_after,
    "504 in place of the answer": answer_after(504),
    "half a second late": delay(0.5),
}
"""Faults of all kinds, for those who draw one."""


class Hold:
    """Stops calls, before or after they are passed on, until the test lets them go or drops them.

    Arguments:
        after: whether they are held after the API server carried them out
    """

    def __init__(self, *, after: bool = False) -> None:
        self._after = after
        self._lock = threading.Lock()
        self._held: list[asyncio.Future[bool]] = []
        self._seen: list[str] = []
        self._is_open = False

    async def __call__(self, call: Call) -> Reply | None:
        reply = await call.forward() if self._after else None
        released: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._seen.append(call.request.path)
            if self._is_open:
                released.set_result(True)
            else:
                self._held.append(released)
        if not await released:
            call.drop()
            return None
        return reply or await call.forward()

    @property
    def paths(self) -> Sequence[str]:
        """The paths of all calls that were stopped so far."""
        with self._lock:
            return tuple(self._seen)

    def wait(self, count: int = 1, timeout: float = waiting.TIMEOUT) -> None:
        """Return as soon as so many calls were stopped.

        Raises:
            AssertionError: they did not come in time
        """
        waiting.eventually(
            lambda: len(self.paths) >= count, lambda: f"held {self.paths}, not {count}", timeout
        )

    def release(self) -> None:
        """Let go all that are held now."""
        self._end(passing=True)

    def open(self) -> None:
        """Let go all that are held now, and stop no more."""
        with self._lock:
            self._is_open = True
        self.release()

    def drop(self) -> None:
        """Break the connections of all that are held now; what was held before never happens."""
        self._end(passing=False)

    def _end(self, *, passing: bool) -> None:
        with self._lock:
            held, self._held = self._held, []
        for one in held:
            one.get_loop().call_soon_threadsafe(_settle, one, passing)


def _settle(future: asyncio.Future[bool], passing: bool) -> None:
    if not future.done():
        future.set_result(passing)
