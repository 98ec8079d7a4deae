"""Puts the clock right by the times in the API server's answers.

A middleware of the sessions that `connection` makes: it sees each answer as soon as its headers are
there, those of watches too. A `Date` that nobody can read, and the answer of a proxy that could not
reach the API server, teach nothing.
"""

from __future__ import annotations

import email.utils
import functools
from datetime import UTC, datetime

import aiohttp
import structlog

from resumer.adapters import clock as clocks

_TOLD = 5.0
"""Seconds by which the clock has to be off for a person to be told."""

_log = structlog.get_logger(__name__)


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> datetime | None:
    """The time in a `Date` header, or None; many answers have the same."""
    try:
        parsed = email.utils.parsedate_to_datetime(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


class Timekeeper:
    """An aiohttp client middleware."""

    def __init__(self, clock: clocks.SystemClock) -> None:
        """Teaches this clock."""
        self._clock = clock

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Passes a call on."""
        sent = self._clock.monotonic()
        response = await handler(request)
        if response.status < 500:
            self._learn(response.headers.get("Date", ""), sent)
        return response

    def _learn(self, text: str, sent: float) -> None:
        date = _parsed(text)
        if date is None:
            return
        step = self._clock.learn(date, sent, self._clock.monotonic())
        if abs(step) >= _TOLD:
            _log.warning(
                "the machine's clock is wrong: going by the API server's", seconds=round(step, 1)
            )
