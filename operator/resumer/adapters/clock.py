"""The machine's clock and its chance: the one module that reads either.

Everything else takes a `resumer.ports.Clock`, so that a test can set the time.

The time of day is the API server's. Deadlines run from a request's creation, which is a time of the
API server, and replicas compare each other's times in statuses and breakers: a machine whose clock
is an hour off, or is put right while it works, must not let events expire or hold them back. So the
machine's own time of day is taken once, goes on with the monotonic clock, and is put right by the
``Date`` of the API server's answers.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Final

DATE_PRECISION: Final = 1.0
"""Seconds: a ``Date`` header is cut down to whole ones."""


class SystemClock:
    """Implements `resumer.ports.Clock` on the operating system and the API server's answers."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        """Seconds from the monotonic clock to the time of day."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC; it goes on evenly between two calls of `learn`."""
        return datetime.fromtimestamp(time.monotonic() + self._offset, UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences mean something."""
        return time.monotonic()

    def random(self) -> float:
        """A number in [0, 1), to spread waits; never for a secret."""
        return random.random()  # noqa: S311 - spreads waits, guards nothing

    def learn(self, date: datetime, sent: float, received: float) -> float:
        """Puts the time of day right by an answer, if the two contradict each other.

        Args:
            date: What the answer says, in whole seconds.
            sent: When the call began, of `monotonic`.
            received: When its answer was there.

        Returns:
            By how many seconds the time of day was put forward; 0 if it was right.
        """
        # At some moment from sent to received it was between date and a second later.
        earliest = date.timestamp() - received
        latest = date.timestamp() + DATE_PRECISION - sent
        step = min(max(self._offset, earliest), latest) - self._offset
        self._offset += step
        return step
