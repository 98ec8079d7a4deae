"""The pace of calls: never above a rate, a window, or in a pause, and never at rest for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import pacing
from resumer.core.pacing import Limits, Pace

WIDE = Limits(rate=0, burst=1, window=1000)
UNIT = st.floats(0, 1, exclude_max=True)
LIMITS = st.builds(
    Limits,
    rate=st.one_of(st.just(0.0), st.floats(0.5, 500)),
    burst=st.integers(1, 50),
    window=st.integers(1, 20),
)


class Line:
    """Calls without end, each made as soon as it may be; the first that is under way ends first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now = 100.0
        self.pace = pacing.start(limits, self.now)
        self.sent: list[float] = []
        self.running: list[float] = []

    def call(self, many: int = 1000) -> int:
        """Makes calls as long as they may be made at this moment, and says how many."""
        before = len(self.sent)
        while len(self.sent) - before < many and pacing.wait(self.pace, self.limits, self.now) == 0:
            self.pace = pacing.began(self.pace, self.limits, self.now)
            self.sent.append(self.now)
            self.running.append(self.now)
        return len(self.sent) - before

    def end(self, many: int = 1) -> None:
        """So many calls are answered."""
        for _ in range(min(many, len(self.running))):
            self.pace = pacing.ended(self.pace, self.limits, self.running.pop(0), self.now)

    def turn_away(self, seconds: float, chance: float = 0.0) -> None:
        """One call is turned away."""
        sent = self.running.pop(0)
        self.pace = pacing.turned_away(self.pace, sent, self.now, seconds, chance)

    def wait(self) -> float | None:
        return pacing.wait(self.pace, self.limits, self.now)


def test_a_burst_goes_at_once_and_then_as_many_as_the_rate_says() -> None:
    line = Line(Limits(rate=10, burst=3, window=1000))
    assert line.call() == 3
    assert line.wait() == pytest.approx(0.1, abs=1e-6)
    line.now += 0.1
    assert line.call() == 1
    line.now += 0.25
    assert line.call() == 2
    line.now += 3600
    assert line.call() == 3


def test_without_a_rate_only_the_window_counts() -> None:
    line = Line(Limits(rate=0, burst=1, window=4))
    assert line.call() == 4
    assert line.wait() is None
    line.end()
    assert line.call() == 1


def test_nobody_calls_in_a_pause() -> None:
    line = Line(WIDE)
    line.call(2)
    line.turn_away(3)
    assert line.wait() is None  # the other one is still under way
    line.end()
    assert line.wait() == 3
    line.now += 2
    assert line.wait() == 1
    line.now += 1
    assert line.call() == 1


def test_a_pause_is_up_to_half_longer_than_it_was_asked_for() -> None:
    line = Line(WIDE)
    line.call(1)
    line.turn_away(2, chance=0.5)
    assert line.wait() == 2.5


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    line = Line(WIDE)
    line.call(2)
    line.turn_away(9)
    line.turn_away(1)
    assert line.wait() == 9


def test_after_a_pause_it_begins_with_one_and_doubles_up_to_half_of_what_was_too_much() -> None:
    line = Line(Limits(rate=0, burst=1, window=64))
    assert line.call() == 64
    line.turn_away(1)
    line.end(63)
    line.now += 1
    round_trips = []
    for _ in range(7):
        round_trips.append(line.call())
        line.end(round_trips[-1])
    assert round_trips == [1, 2, 4, 8, 16, 32, 32]


def test_from_there_on_one_more_is_under_way_each_second() -> None:
    line = Line(Limits(rate=0, burst=1, window=4))
    line.call()
    line.turn_away(1)
    line.end(3)
    line.now += 1
    round_trips = []
    for _ in range(6):
        round_trips.append(line.call())
        line.now += 1
        line.end(round_trips[-1])
    assert round_trips == [1, 2, 3, 4, 4, 4]


def test_calls_that_are_turned_away_together_slow_down_once() -> None:
    line = Line(Limits(rate=0, burst=1, window=64))
    line.call()
    for _ in range(60):
        line.now += 0.001
        line.turn_away(1)
    assert (line.pace.window, line.pace.threshold) == (1, 32)


def test_an_answer_to_what_was_sent_before_does_not_speed_up_again() -> None:
    line = Line(Limits(rate=0, burst=1, window=64))
    line.call()
    line.turn_away(1)
    line.end(63)
    assert line.pace.window == 1


@given(
    limits=LIMITS,
    steps=st.lists(
        st.tuples(st.floats(0, 3), st.integers(0, 5), st.integers(0, 2), st.floats(0, 5), UNIT),
        max_size=40,
    ),
)
def test_whatever_comes_no_limit_is_passed(
    limits: Limits, steps: list[tuple[float, int, int, float, float]]
) -> None:
    line = Line(limits)
    for passed, answered, refused, pause, chance in steps:
        line.now += passed
        line.end(answered)
        for _ in range(min(refused, len(line.running))):
            line.turn_away(pause, chance)
            assert line.pace.paused >= line.now + pause
        if line.call():
            assert line.now >= line.pace.paused
        assert line.pace.running == len(line.running) <= limits.window
        assert 1 <= line.pace.window <= limits.window
    if limits.rate:
        for first, since in enumerate(line.sent):
            for last in range(first, len(line.sent)):
                earned = limits.burst + (line.sent[last] - since) * limits.rate
                assert last - first + 1 <= earned + 1e-3


@given(limits=LIMITS, pauses=st.lists(st.floats(0, 60), max_size=5))
def test_once_all_have_ended_it_is_a_matter_of_time(limits: Limits, pauses: list[float]) -> None:
    line = Line(limits)
    for pause in pauses:
        line.call(3)
        if line.running:
            line.turn_away(pause)
        line.end(len(line.running))
        seconds = line.wait()
        assert seconds is not None
        line.now += seconds
        assert line.wait() == pytest.approx(0, abs=1e-6)
        line.now += 1e-6


def test_a_pace_says_what_it_starts_with() -> None:
    limits = Limits(rate=5, burst=7, window=3)
    assert pacing.start(limits, 1.0) == Pace(
        tokens=7, counted=1.0, window=3, threshold=3, grown=1.0
    )
