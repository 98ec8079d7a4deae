"""Waiting for what has to become true, with a deadline and the last state seen."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT = 90.0
"""Seconds for anything that should take one: the cores are shared."""

_POLL = 0.02


def eventually(
    holds: Callable[[], object], describe: Callable[[], str], timeout: float = TIMEOUT
) -> None:
    """Return as soon as something holds.

    Arguments:
        holds: asked again and again
        describe: tells the last state, if it does not come true
        timeout: seconds

    Raises:
        AssertionError: it did not come true in time
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() > deadline
        if holds():
            return
        if late:
            raise AssertionError(f"not within {timeout:g} s: {describe()}")
        time.sleep(_POLL)
