"""Reads of workflows that fail for a request again and again: when that is told, and the next one.

A short outage costs no write of a status: the queue brings the request back in a moment. One that
lasts is told, with the time of the next read, which comes later each time.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

from resumer import ports
from resumer.api.outcomes import Reason
from resumer.api.resume import ResumeStatus
from resumer.core import backoff
from resumer.core.keys import Key

UNTOLD: Final = 2
"""Failures in a row that are left to the queue."""
WAITS: Final = backoff.doubling(2.0, 60.0)
"""The waits after those that are told; half of each is chance, as they come in crowds."""


class Reads:
    """Counts the reads that failed, by request."""

    def __init__(self, clock: ports.Clock) -> None:
        """Has counted none.

        Args:
            clock: Chance.
        """
        self._clock = clock
        self._failed: Counter[Key] = Counter()

    def failed(self, key: Key, asked: float | None = None) -> float | None:
        """A read failed.

        Args:
            key: Of the request.
            asked: The seconds of patience that the API server asked for.

        Returns:
            Seconds until the next one, longer if the API server asked for that; None: it is not
            told yet.
        """
        self._failed[key] += 1
        told = self._failed[key] - UNTOLD
        if told < 1:
            return None
        return max(backoff.delay(WAITS, told, None, self._clock.random()), asked or 0.0)

    def worked(self, key: Key) -> None:
        """A read was answered, or the request is gone."""
        self._failed.pop(key, None)

    def failing(self, key: Key) -> bool:
        """Whether the last one failed."""
        return key in self._failed

    def due(self, key: Key, told: ResumeStatus) -> datetime | None:
        """When the next read is due, by the status of the request; None: it does not say."""
        waits = told.reason == Reason.API_UNAVAILABLE and self.failing(key)
        return told.retry.next_attempt_time if waits and told.retry else None
