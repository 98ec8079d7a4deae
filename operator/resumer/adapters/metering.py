"""Measures the calls to the API server, as they go over the wire.

A middleware of the sessions that `connection` makes, the innermost one: it sees each call that is
sent, the second one after a 401 and the opening of each watch as well, and none that waits for its
turn. What an answer means is none of its business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import aiohttp

from resumer import ports

NO_ANSWER: Final = "none"
"""Stands for the status where there was none: refused, broken, too slow, or given up here."""


class Meter:
    """An aiohttp client middleware."""

    def __init__(self, clock: ports.Clock, on_called: Callable[[str, str, float], None]) -> None:
        """Sees nothing yet.

        Args:
            clock: Says how long a call took.
            on_called: Called for each call with its verb (the HTTP method in small letters, or
                `watch`), the status of the answer or `NO_ANSWER`, and the seconds until the head of
                the answer was there.
        """
        self._clock = clock
        self._on_called = on_called

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Passes a call on."""
        verb = "watch" if "watch" in request.url.query else request.method.lower()
        code = NO_ANSWER
        sent = self._clock.monotonic()
        try:
            response = await handler(request)
            code = str(response.status)
            return response
        finally:
            self._on_called(verb, code, self._clock.monotonic() - sent)
