"""The machine's clock and its chance: the one module that reads either.

Everything else takes a `resumer.ports.Clock`, so that a test can set the time.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements `resumer.ports.Clock` on the operating system."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences mean something."""
        return time.monotonic()

    def random(self) -> float:
        """A number in [0, 1), to spread waits; never for a secret."""
        return random.random()  # noqa: S311 - spreads waits, guards nothing
