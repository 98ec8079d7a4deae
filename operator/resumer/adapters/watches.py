"""How fresh each watch stream is, seen from below whoever reads it.

kopf reconnects a silent stream, but hides from its handlers when anything last arrived, bookmarks
included. Its session is given the response class made here: each watch response notes itself, and
aiohttp counts its bytes anyway, so that an event costs nothing. Times are those of the calls of
`ages`: as fine as it is called often (a liveness probe calls it every few seconds).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import aiohttp


class WatchActivity:
    """The watch streams of one process: which ones live, and when each last got a byte.

    A stream is a resource in a namespace, or in all of them; a new connection of the same stream
    continues it.
    """

    def __init__(self, expected: Iterable[str], *, namespaces: Iterable[str], now: float) -> None:
        """Expects a stream of each resource in each namespace.

        Args:
            expected: Plurals, as `workflows`.
            namespaces: The namespaces watched, or none for all of them.
            now: Seconds of a monotonic clock; a stream that never starts ages from here.
        """
        spaces = tuple(namespaces) or ("",)
        self._last = {(plural, space): now for plural in expected for space in spaces}
        self._open: weakref.WeakKeyDictionary[aiohttp.ClientResponse, int] = (
            weakref.WeakKeyDictionary()
        )
        self._listeners: list[tuple[Collection[str], Callable[[], None]]] = []
        note = self._note

        class WatchedResponse(aiohttp.ClientResponse):
            async def start(self, connection: Any) -> aiohttp.ClientResponse:
                response = await super().start(connection)
                if "watch" in self.url.query:
                    note(self)
                return response

        self.response_class: type[aiohttp.ClientResponse] = WatchedResponse

    def ages(self, now: float) -> Mapping[str, float]:
        """Seconds since the last byte, by resource: its most silent stream counts.

        Healthy streams stay below about 75 s, because the API server sends a bookmark each minute
        and kopf reconnects after 70 s without one.

        Args:
            now: Seconds of the monotonic clock.
        """
        for response, seen in tuple(self._open.items()):
            stream, count = _stream_of(response), response.content.total_bytes
            if count != seen:
                self._open[response] = count
                if stream in self._last:
                    self._last[stream] = now
        ages: dict[str, float] = {}
        for (plural, _), last in self._last.items():
            ages[plural] = max(ages.get(plural, 0.0), now - last)
        return ages

    def missing(self) -> frozenset[tuple[str, str]]:
        """The expected streams that are not connected at this moment: (plural, namespace or "")."""
        return frozenset(self._last) - {
            _stream_of(response) for response in tuple(self._open) if not response.closed
        }

    def on_opened(self, plurals: Collection[str], tell: Callable[[], None]) -> None:
        """Has somebody told of each new stream of these resources; it is called at once."""
        self._listeners.append((plurals, tell))

    def _note(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            # Less than any count of bytes: that the stream was opened is activity too.
            self._open[response] = -1
            plural, _ = _stream_of(response)
            for plurals, tell in self._listeners:
                if plural in plurals:
                    tell()


def _stream_of(response: aiohttp.ClientResponse) -> tuple[str, str]:
    """Resource and namespace, from the end of the path: .../namespaces/NS/PLURAL or .../PLURAL."""
    parts = response.url.path.rstrip("/").split("/")
    namespaced = len(parts) > 3 and parts[-3] == "namespaces"
    return parts[-1], parts[-2] if namespaced else ""
