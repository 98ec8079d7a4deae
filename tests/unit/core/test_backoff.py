"""Waits grow as the strategy says, stay in their bounds, and are spread by jitter only."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.api import policy
from resumer.api.policy import Jitter
from resumer.core import backoff
from resumer.core.backoff import RetryStrategy

Strategy = policy.RetryStrategy
SECONDS = st.floats(0, 3600)
UNIT = st.floats(0, 1, exclude_max=True)
STRATEGIES = st.builds(
    RetryStrategy,
    strategy=st.sampled_from(list(Strategy)),
    base_seconds=SECONDS,
    factor=st.floats(1, 10),
    cap_seconds=SECONDS,
    increment_seconds=SECONDS,
    delays_seconds=st.lists(SECONDS, max_size=20).map(tuple),
    jitter=st.sampled_from(list(Jitter)),
)


def waits(strategy: RetryStrategy, attempts: int = 6) -> list[float]:
    return [
        backoff.delay(strategy, attempt, Jitter.NONE, 0.5) for attempt in range(1, attempts + 1)
    ]


def test_the_default_is_that_of_the_requirements() -> None:
    assert waits(RetryStrategy()) == [2, 4, 8, 16, 30, 30]
    assert RetryStrategy().max_attempts == 3


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (RetryStrategy(factor=3, cap_seconds=50), [2, 6, 18, 50, 50, 50]),
        (RetryStrategy(factor=1), [2] * 6),
        (RetryStrategy(base_seconds=60), [30] * 6),
        (
            RetryStrategy(Strategy.LINEAR, base_seconds=5, increment_seconds=10),
            [5, 15, 25, 30, 30, 30],
        ),
        (RetryStrategy(Strategy.FIXED, base_seconds=60), [60] * 6),
        (
            RetryStrategy(Strategy.CUSTOM, delays_seconds=(30, 60, 120)),
            [30, 60, 120, 120, 120, 120],
        ),
        (RetryStrategy(Strategy.CUSTOM), [2] * 6),
    ],
)
def test_a_strategy_without_jitter_is_its_formula(
    strategy: RetryStrategy, expected: list[float]
) -> None:
    assert waits(strategy) == expected


@pytest.mark.parametrize(
    ("jitter", "low", "middle", "high"),
    [
        (Jitter.NONE, 10, 10, 10),
        (Jitter.PROPORTIONAL, 9, 10, 11),
        (Jitter.FULL, 0, 5, 10),
        (Jitter.EQUAL, 5, 7.5, 10),
    ],
)
def test_jitter_spreads_a_wait_over_its_range(
    jitter: Jitter, low: float, middle: float, high: float
) -> None:
    own = RetryStrategy(Strategy.FIXED, base_seconds=10, jitter=jitter)
    other = RetryStrategy(Strategy.FIXED, base_seconds=10, jitter=Jitter.FULL)
    for drawn, expected in ((0.0, low), (0.5, middle), (1.0, high)):
        assert backoff.delay(own, 1, None, drawn) == pytest.approx(expected)
        assert backoff.delay(other, 1, jitter, drawn) == pytest.approx(expected)


@given(STRATEGIES, st.integers(-1, 10**6), st.none() | st.sampled_from(list(Jitter)), UNIT)
def test_a_wait_is_never_negative_and_never_over_its_bound(
    strategy: RetryStrategy, attempt: int, jitter: Jitter | None, drawn: float
) -> None:
    bounds = {
        Strategy.EXPONENTIAL: strategy.cap_seconds,
        Strategy.LINEAR: strategy.cap_seconds,
        Strategy.FIXED: strategy.base_seconds,
        Strategy.CUSTOM: max(strategy.delays_seconds, default=strategy.base_seconds),
    }
    wait = backoff.delay(strategy, attempt, jitter, drawn)
    assert 0 <= wait <= bounds[strategy.strategy] * 1.1 + 1e-9


@given(STRATEGIES.filter(lambda strategy: strategy.strategy is not Strategy.CUSTOM))
def test_without_jitter_a_wait_is_never_shorter_than_the_one_before(
    strategy: RetryStrategy,
) -> None:
    found = waits(strategy, 100)
    assert found == sorted(found)


@given(STRATEGIES, st.integers(1, 20), UNIT, UNIT)
def test_a_greater_number_never_makes_a_shorter_wait(
    strategy: RetryStrategy, attempt: int, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    shorter = backoff.delay(strategy, attempt, None, low)
    assert shorter <= backoff.delay(strategy, attempt, None, high) + 1e-9


def test_pauses_of_what_is_tried_for_ever_double_up_to_the_longest_and_leave_half_to_chance() -> (
    None
):
    drawn = iter([0.0, 0.5, 1.0, 1.0, 0.0])
    pauses = backoff.growing(lambda: next(drawn), 1.0, 3.0)
    assert list(itertools.islice(pauses, 5)) == [0.5, 1.5, 3.0, 3.0, 1.5]
