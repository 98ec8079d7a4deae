"""When the next call to the API server may be made: three limits, and a call has to pass all.

    rate     a token bucket, as client-go has one: so many calls a second, and so many at once after
             a quiet time
    window   how many calls are under way at once
    pause    no call at all, once the API server has turned one away

The API server's priority and fairness counts calls that are under way, and turns away those beyond
their share with 429. How large that share is nobody is told, so it is felt for, as TCP feels for
the capacity of a network (Tahoe): turned away, the window falls to one call; it grows by one with
each answer up to half of what was too much, and from there by one a second.

Times are seconds on a clock that never jumps.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

JITTER = 0.5
"""How much longer than it was asked to everybody pauses at most, as a part of the pause: several
replicas must not come back in the same moment."""

GROWTH = 1.0
"""Calls by which the window grows in a second, once it is near what was too much."""

_LOST = 1e-6
"""What floats may lose of a token."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was set."""

    rate: float
    """Calls a second in the long run; 0: any number."""
    burst: int
    """Calls without a wait after a quiet time."""
    window: int
    """Calls under way at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How it stands."""

    tokens: float
    """Calls that the rate allows at once, when they were `counted`."""
    counted: float
    window: float
    """Calls that may be under way at once; the whole ones count."""
    threshold: float
    """Up to here the window grows with each answer."""
    grown: float
    """When the window last grew; after a pause, when that ends."""
    running: int = 0
    """Calls under way."""
    paused: float = float("-inf")
    """Until when no call is made."""
    slowed: float = float("-inf")
    """When the window last fell; what was sent before that tells nothing about how it is now."""


def start(limits: Limits, now: float) -> Pace:
    """Nothing was called yet."""
    return Pace(
        tokens=limits.burst,
        counted=now,
        window=limits.window,
        threshold=limits.window,
        grown=now,
    )


def wait(pace: Pace, limits: Limits, now: float) -> float | None:
    """In how many seconds the next call may be made; 0: now.

    Returns:
        Seconds, or None if a call that is under way has to end before.
    """
    if pace.running >= int(pace.window):
        return None
    lacking = 1 - _tokens(pace, limits, now)
    earned = lacking / limits.rate if limits.rate and lacking > _LOST else 0.0
    return max(0.0, earned, pace.paused - now)


def began(pace: Pace, limits: Limits, now: float) -> Pace:
    """A call is made."""
    left = max(0.0, _tokens(pace, limits, now) - 1) if limits.rate else pace.tokens
    return dataclasses.replace(pace, tokens=left, counted=now, running=pace.running + 1)


def ended(pace: Pace, limits: Limits, sent: float, now: float) -> Pace:
    """A call was not turned away, whatever else became of it.

    Args:
        pace: How it stands.
        limits: What was set.
        sent: When this call began.
        now: The time.
    """
    pace = dataclasses.replace(pace, running=pace.running - 1)
    if pace.window >= limits.window or sent <= pace.slowed:
        return pace
    more = 1.0 if pace.window < pace.threshold else GROWTH * max(0.0, now - pace.grown)
    return dataclasses.replace(pace, window=min(limits.window, pace.window + more), grown=now)


def left(pace: Pace) -> Pace:
    """A call is under way for so long that it does not count any more."""
    return dataclasses.replace(pace, running=pace.running - 1)


def came_back(pace: Pace) -> Pace:
    """A call that had `left` is about to end."""
    return dataclasses.replace(pace, running=pace.running + 1)


def turned_away(pace: Pace, sent: float, now: float, seconds: float, unit_random: float) -> Pace:
    """A call was turned away.

    Calls that were under way together are turned away together: only the first of them narrows the
    window.

    Args:
        pace: How it stands.
        sent: When this call began.
        now: The time.
        seconds: For how long the API server wants to be left alone.
        unit_random: A drawn number in [0, 1).
    """
    until = max(pace.paused, now + seconds * (1 + JITTER * unit_random))
    pace = dataclasses.replace(pace, running=pace.running - 1, paused=until)
    if sent <= pace.slowed:
        return pace
    half = max(1.0, pace.window / 2)
    return dataclasses.replace(pace, window=1.0, threshold=half, grown=until, slowed=now)


def _tokens(pace: Pace, limits: Limits, now: float) -> float:
    return min(limits.burst, pace.tokens + (now - pace.counted) * limits.rate)
