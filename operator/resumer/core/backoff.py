"""How long to wait before the next attempt: arithmetic on the attempts made and one drawn number.

The schedule itself (how many attempts were made, when the next one is due) is kept by the caller
and survives restarts; this module only says how long one wait is. The defaults are those of seed
000: 3 attempts, 2 seconds, doubled each time, at most 30 seconds.

What no policy speaks of, as a watch that is to be opened again, has waits that only grow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from resumer.api import policy
from resumer.api.policy import Jitter

FIRST_PAUSE: Final = 0.1
"""Seconds of the first pause at most, before what failed is tried again for ever."""
LONGEST_PAUSE: Final = 10.0
"""Seconds of any such pause at most: so much later than an API server is an operator back."""
PROPORTION: Final = 0.1
"""How far `Jitter.PROPORTIONAL` goes up or down, as a part of the wait."""

_MAX_GROWTH: Final = 64
"""Steps after which a wait stops to grow. No policy allows so many; floats end at 1e308."""


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """How often a transient failure is tried again and after which waits; fields as in a policy."""

    strategy: policy.RetryStrategy = policy.RetryStrategy.EXPONENTIAL
    max_attempts: int = 3
    """Attempts in all, the first one included."""
    base_seconds: float = 2.0
    factor: float = 2.0
    cap_seconds: float = 30.0
    """The longest wait of the strategies that grow, before jitter. `Fixed` and `Custom` say their
    waits themselves and are not cut."""
    increment_seconds: float = 0.0
    delays_seconds: tuple[float, ...] = ()
    jitter: Jitter = Jitter.PROPORTIONAL


def delay(
    strategy: RetryStrategy, attempt: int, jitter: Jitter | None, unit_random: float
) -> float:
    """The wait after a failed attempt.

    Args:
        strategy: Which waits, and which jitter.
        attempt: The number of the attempt that failed: 1 for the first one.
        jitter: Instead of the strategy's own; catching up after an outage is spread with `Full`.
        unit_random: A drawn number in [0, 1).

    Returns:
        Seconds, never negative.
    """
    wait = _wait(strategy, min(max(attempt - 1, 0), _MAX_GROWTH))
    spread = jitter or strategy.jitter
    match spread:
        case Jitter.NONE:
            return wait
        case Jitter.PROPORTIONAL:
            return wait * (1 - PROPORTION + 2 * PROPORTION * unit_random)
        case Jitter.FULL:
            return wait * unit_random
        case Jitter.EQUAL:
            return wait / 2 + wait / 2 * unit_random
        case _:
            assert_never(spread)


def doubling(first: float, longest: float, jitter: Jitter = Jitter.EQUAL) -> RetryStrategy:
    """The waits of what no policy speaks of, each twice as long as the last.

    Args:
        first: Seconds of the first wait at most.
        longest: Seconds of any wait at most.
        jitter: What of each wait is chance; by default half of it.
    """
    return RetryStrategy(
        strategy=policy.RetryStrategy.EXPONENTIAL,
        base_seconds=first,
        factor=2.0,
        cap_seconds=longest,
        jitter=jitter,
    )


def growing(
    unit_random: Callable[[], float], first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE
) -> Iterator[float]:
    """The pauses between tries of what is tried for ever, as `doubling` has them.

    Args:
        unit_random: Draws a number in [0, 1).
        first: Seconds of the first pause at most.
        longest: Seconds of any pause at most.

    Returns:
        Seconds, without end.
    """
    waits = doubling(first, longest)
    return (delay(waits, number, None, unit_random()) for number in itertools.count(1))


def _wait(strategy: RetryStrategy, step: int) -> float:
    """The wait without jitter; step 0 comes after the first attempt."""
    match strategy.strategy:
        case policy.RetryStrategy.EXPONENTIAL:
            grown = strategy.base_seconds * strategy.factor**step
            return min(grown, strategy.cap_seconds)
        case policy.RetryStrategy.LINEAR:
            grown = strategy.base_seconds + step * strategy.increment_seconds
            return min(grown, strategy.cap_seconds)
        case policy.RetryStrategy.FIXED:
            return strategy.base_seconds
        case policy.RetryStrategy.CUSTOM:
            delays = strategy.delays_seconds or (strategy.base_seconds,)
            return delays[min(step, len(delays) - 1)]
        case _:
            assert_never(strategy.strategy)
