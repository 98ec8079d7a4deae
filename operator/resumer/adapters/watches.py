"""How fresh each watch stream is, and whether somebody still tries, seen from below its readers.

kopf reconnects a silent stream, but hides from its handlers when anything last arrived, bookmarks
included. Its session is given the response class made here: each watch response notes itself, and
aiohttp counts its bytes anyway, so that an event costs nothing.

News and tries are two things. No news means that requests wait, whatever the cause: that is what a
person is told (`ages`). But only a watcher that does nothing at all is mended by a new process
(`idle`): while the API server is away, refuses, or does not know the kinds yet, a new one would
fare no better. Times are those of the calls of either: as fine as they are called often (a liveness
probe calls every few seconds).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import aiohttp
import yarl


class WatchActivity:
    """The watch streams of one process: which ones live, when each last got a byte, or was tried.

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
        self._heard = {(plural, space): now for plural in expected for space in spaces}
        self._tried = dict(self._heard)
        self._ended: set[tuple[str, str]] = set()
        """Of which a try has ended since the last look."""
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
        self._look(now)
        return _longest(self._heard, now)

    def idle(self, now: float) -> Mapping[str, float]:
        """Seconds since bytes came or a try ended, in whatever way, by resource, as `ages`.

        Args:
            now: Seconds of the monotonic clock.
        """
        self._look(now)
        return _longest(self._tried, now)

    def tried(self, plural: str, namespace: str) -> None:
        """Notes that whoever reads this stream does something for it, with or without success."""
        self._ended.add((plural, namespace))

    def awaited(self) -> None:
        """Notes that somebody waits for what all streams need, and looks for it."""
        self._ended |= self._tried.keys()

    async def note_tries(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """A client middleware: a list, and the opening of a stream, is a try when it has ended."""
        try:
            return await handler(request)
        finally:
            self.tried(*_stream_of(request.url))

    def missing(self) -> frozenset[tuple[str, str]]:
        """The expected streams that are not connected at this moment: (plural, namespace or "")."""
        return frozenset(self._heard) - {
            _stream_of(response.url) for response in tuple(self._open) if not response.closed
        }

    def on_opened(self, plurals: Collection[str], tell: Callable[[], None]) -> None:
        """Has somebody told of each new stream of these resources; it is called at once."""
        self._listeners.append((plurals, tell))

    def _look(self, now: float) -> None:
        for response, seen in tuple(self._open.items()):
            stream, count = _stream_of(response.url), response.content.total_bytes
            if count != seen:
                self._open[response] = count
                self._ended.add(stream)
                if stream in self._heard:
                    self._heard[stream] = now
        self._tried.update(dict.fromkeys(self._ended & self._tried.keys(), now))
        self._ended.clear()

    def _note(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            # Less than any count of bytes: that the stream was opened is activity too.
            self._open[response] = -1
            plural, _ = _stream_of(response.url)
            for plurals, tell in self._listeners:
                if plural in plurals:
                    tell()


def _longest(last: Mapping[tuple[str, str], float], now: float) -> Mapping[str, float]:
    """Seconds since then, by resource: the longest of its streams."""
    found: dict[str, float] = {}
    for (plural, _), then in last.items():
        found[plural] = max(found.get(plural, 0.0), now - then)
    return found


def _stream_of(url: yarl.URL) -> tuple[str, str]:
    """Resource and namespace, from the end of the path: .../namespaces/NS/PLURAL or .../PLURAL."""
    parts = url.path.rstrip("/").split("/")
    namespaced = len(parts) > 3 and parts[-3] == "namespaces"
    return parts[-1], parts[-2] if namespaced else ""
