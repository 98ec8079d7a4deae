"""The circuit breaker: each transition, and any history of calls against an independent model.

The cases follow those of resilience4j's state machine tests: closed counts, open refuses, half open
lets a few through, and what is ignored is neither a success nor a failure.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resumer.api.breaker import BreakerState
from resumer.core import breaker
from resumer.core.breaker import (
    PROBE_SECONDS,
    Admitted,
    Breaker,
    BreakerSettings,
    Probe,
    Refused,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = BreakerSettings(failure_threshold=3, open_seconds=30, half_open_calls=2)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def opened(settings: BreakerSettings = SETTINGS) -> Breaker:
    state = Breaker()
    for _ in range(settings.failure_threshold):
        state = breaker.on_failure(state, settings, "a", "Timeout", START)
    return state


def probed(state: Breaker, holder: str, now: datetime) -> Breaker:
    answer = breaker.admit(state, SETTINGS, holder, now)
    assert isinstance(answer, Admitted)
    assert answer.probe
    return answer.breaker


@pytest.mark.parametrize(("seconds", "holds"), [(20, True), (31, False), (3600, False)])
def test_what_was_noted_before_the_clock_was_put_back_holds_nobody_longer(
    seconds: int, holds: bool
) -> None:
    noted = at(seconds)
    open_ = Breaker(BreakerState.OPEN, 3, noted, noted + timedelta(seconds=30))
    assert isinstance(breaker.admit(open_, SETTINGS, "a", START), Refused) is holds
    probes = (Probe("x", noted), Probe("y", noted))
    half = Breaker(BreakerState.HALF_OPEN, 3, probes=probes)
    assert isinstance(breaker.admit(half, SETTINGS, "a", START), Refused) is holds


def test_the_default_settings_are_those_of_the_requirements() -> None:
    settings = BreakerSettings()
    assert (settings.failure_threshold, settings.open_seconds, settings.half_open_calls) == (
        5,
        30,
        1,
    )


def test_a_closed_circuit_admits_and_a_success_changes_nothing() -> None:
    state = Breaker()
    answer = breaker.admit(state, SETTINGS, "a", START)
    assert isinstance(answer, Admitted)
    assert answer.breaker is state
    assert not answer.probe
    assert breaker.on_success(state, "a", START) is state
    assert breaker.on_ignored(state, "a") is state


def test_failures_below_the_threshold_keep_it_closed() -> None:
    state = Breaker()
    for count in (1, 2):
        state = breaker.on_failure(state, SETTINGS, "a", "Timeout", at(count))
        assert state == Breaker(
            consecutive_failures=count, last_failure_at=at(count), last_failure_reason="Timeout"
        )


def test_a_success_ends_the_failures_in_a_row() -> None:
    state = breaker.on_failure(Breaker(), SETTINGS, "a", "Timeout", START)
    state = breaker.on_success(state, "b", at(1))
    assert state.consecutive_failures == 0
    assert state.last_failure_reason == "Timeout"
    assert breaker.on_success(state, "b", at(2)) is state


def test_the_failure_that_reaches_the_threshold_opens_it() -> None:
    assert opened() == Breaker(
        state=BreakerState.OPEN,
        consecutive_failures=3,
        opened_at=START,
        open_until=at(30),
        last_failure_at=START,
        last_failure_reason="Timeout",
        last_transition_at=START,
    )


def test_a_lower_threshold_counts_from_the_next_failure_on() -> None:
    state = Breaker(consecutive_failures=4)
    lower = BreakerSettings(failure_threshold=2)
    assert isinstance(breaker.admit(state, lower, "a", START), Admitted)
    assert breaker.on_failure(state, lower, "a", "Timeout", START).state is BreakerState.OPEN


def test_an_open_circuit_refuses_until_its_time_has_come() -> None:
    state = opened()
    assert breaker.admit(state, SETTINGS, "a", at(29.9)) == Refused(at(30))
    assert isinstance(breaker.admit(state, SETTINGS, "a", at(30)), Admitted)


def test_an_open_time_that_the_policy_shortens_counts_at_once_and_a_longer_one_later() -> None:
    state = opened()
    shorter = dataclasses.replace(SETTINGS, open_seconds=5)
    assert breaker.admit(state, shorter, "a", at(4)) == Refused(at(5))
    assert isinstance(breaker.admit(state, shorter, "a", at(5)), Admitted)
    longer = dataclasses.replace(SETTINGS, open_seconds=300)
    assert isinstance(breaker.admit(state, longer, "a", at(30)), Admitted)


def test_a_circuit_says_when_it_lets_somebody_through_although_nobody_writes() -> None:
    assert Breaker(consecutive_failures=2).changes_at is None
    assert opened().changes_at == at(30)
    first = probed(opened(), "a", at(30))
    assert probed(first, "b", at(40)).changes_at == at(30 + PROBE_SECONDS)
    assert Breaker(state=BreakerState.HALF_OPEN).changes_at is None


def test_an_open_circuit_is_not_changed_by_results_of_calls_from_before() -> None:
    state = opened()
    assert breaker.on_success(state, "b", at(1)) is state
    assert breaker.on_failure(state, SETTINGS, "b", "Timeout", at(1)) is state
    assert breaker.on_ignored(state, "b") is state


def test_an_open_circuit_without_an_end_is_probed() -> None:
    answer = breaker.admit(Breaker(state=BreakerState.OPEN), SETTINGS, "a", START)
    assert isinstance(answer, Admitted)
    assert answer.probe


def test_an_open_circuit_that_does_not_say_since_when_is_probed_at_its_end() -> None:
    state = Breaker(state=BreakerState.OPEN, open_until=at(30))
    assert breaker.admit(state, SETTINGS, "a", at(29)) == Refused(at(30))
    assert isinstance(breaker.admit(state, SETTINGS, "a", at(30)), Admitted)


def test_the_first_call_after_the_open_time_is_a_probe() -> None:
    state = probed(opened(), "a", at(30))
    assert state.state is BreakerState.HALF_OPEN
    assert state.probes == (Probe("a", at(30)),)
    assert state.last_transition_at == at(30)
    assert state.opened_at == START


def test_a_half_open_circuit_admits_as_many_probes_as_are_allowed() -> None:
    state = probed(probed(opened(), "a", at(30)), "b", at(31))
    assert breaker.admit(state, SETTINGS, "c", at(32)) == Refused(at(30 + PROBE_SECONDS))


def test_a_holder_that_asks_again_keeps_its_one_claim_and_renews_it() -> None:
    state = probed(probed(opened(), "a", at(30)), "b", at(31))
    again = probed(state, "a", at(32))
    assert sorted(again.probes, key=lambda probe: probe.holder) == [
        Probe("a", at(32)),
        Probe("b", at(31)),
    ]


def test_asking_again_at_the_same_moment_changes_nothing() -> None:
    state = probed(opened(), "a", at(30))
    assert probed(state, "a", at(30)) is state


def test_a_claim_without_a_result_ends_by_itself() -> None:
    state = probed(probed(opened(), "a", at(30)), "b", at(31))
    assert isinstance(breaker.admit(state, SETTINGS, "c", at(89.9)), Refused)
    assert probed(state, "c", at(90)).probes == (Probe("b", at(31)), Probe("c", at(90)))


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    state = probed(probed(opened(), "a", at(30)), "b", at(31))
    assert breaker.on_success(state, "b", at(32)) == Breaker(
        last_failure_at=START, last_failure_reason="Timeout", last_transition_at=at(32)
    )


def test_a_probe_that_fails_opens_the_circuit_again_for_the_whole_time() -> None:
    state = probed(opened(), "a", at(45))
    state = breaker.on_failure(state, SETTINGS, "a", "Unavailable", at(46))
    assert state == Breaker(
        state=BreakerState.OPEN,
        consecutive_failures=4,
        opened_at=at(46),
        open_until=at(76),
        last_failure_at=at(46),
        last_failure_reason="Unavailable",
        last_transition_at=at(46),
    )


def test_an_ignored_probe_gives_its_permit_back_and_keeps_the_circuit_half_open() -> None:
    state = probed(probed(opened(), "a", at(30)), "b", at(31))
    state = breaker.on_ignored(state, "a")
    assert state.state is BreakerState.HALF_OPEN
    assert state.probes == (Probe("b", at(31)),)
    assert breaker.on_ignored(state, "a") is state
    assert isinstance(breaker.admit(state, SETTINGS, "c", at(32)), Admitted)


@pytest.mark.parametrize("holder", ["x", ""])
def test_who_has_no_claim_decides_nothing(holder: str) -> None:
    state = probed(opened(), "a", at(30))
    assert breaker.on_success(state, holder, at(31)) is state
    assert breaker.on_failure(state, SETTINGS, holder, "Timeout", at(31)) is state


def test_a_late_result_counts_as_long_as_nobody_took_the_place_of_its_claim() -> None:
    state = probed(opened(), "a", at(30))
    assert breaker.on_success(state, "a", at(300)).state is BreakerState.CLOSED
    replaced = probed(state, "b", at(100))
    assert breaker.on_success(replaced, "a", at(300)) is replaced


HOLDERS = st.sampled_from(["a", "b", "c", "d"])


class AnyHistory(RuleBasedStateMachine):
    """Any history of calls, compared with a model that remembers what happened instead of a state.

    The model keeps the failures since the last success, until when the circuit is open, if it is,
    and the moment each holder began to probe. What state that is follows from them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.settings = BreakerSettings(failure_threshold=2, open_seconds=30, half_open_calls=2)
        self.now = START
        self.breaker = Breaker()
        self.failures = 0
        self.opened_at = START
        self.opened: datetime | None = None
        self.probing: dict[str, datetime] | None = None

    @rule(seconds=st.sampled_from([0.5, 10, 29.5, 30, 59.5, 60, 300]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(threshold=st.integers(1, 3), calls=st.integers(1, 3), seconds=st.sampled_from([5, 30]))
    def the_policy_changes(self, threshold: int, calls: int, seconds: int) -> None:
        self.settings = BreakerSettings(threshold, seconds, calls)

    @rule(holder=HOLDERS)
    def somebody_asks(self, holder: str) -> None:
        answer = breaker.admit(self.breaker, self.settings, holder, self.now)
        shortened = self.opened_at + timedelta(seconds=self.settings.open_seconds)
        until = min(self.opened, shortened) if self.opened else None
        if until is not None and self.now >= until:
            self.opened, self.probing = None, {}
        if self.probing is None:
            expected = self.opened is None
            assert isinstance(answer, Admitted) is expected
            if isinstance(answer, Admitted):
                assert answer.breaker is self.breaker
                assert not answer.probe
            else:
                assert answer.until == until
            return
        alive = {
            name: since
            for name, since in self.probing.items()
            if name != holder and (self.now - since).total_seconds() < 60
        }
        if len(alive) < self.settings.half_open_calls:
            self.probing = {**alive, holder: self.now}
            assert isinstance(answer, Admitted)
            assert answer.probe
            self.breaker = answer.breaker
        else:
            assert isinstance(answer, Refused)
            assert answer.until == min(alive.values()) + timedelta(seconds=60)
            assert answer.until > self.now

    @rule(holder=HOLDERS)
    def a_call_succeeds(self, holder: str) -> None:
        before = self.breaker
        self.breaker = breaker.on_success(before, holder, self.now)
        if self.opened is None and (self.probing is None or holder in self.probing):
            changed = self.failures > 0 or self.probing is not None
            self.failures, self.probing = 0, None
        else:
            changed = False
        assert (self.breaker is not before) is changed

    @rule(holder=HOLDERS)
    def a_call_fails(self, holder: str) -> None:
        before = self.breaker
        self.breaker = breaker.on_failure(before, self.settings, holder, "Timeout", self.now)
        if self.opened is not None or (self.probing is not None and holder not in self.probing):
            assert self.breaker is before
            return
        self.failures += 1
        if self.probing is not None or self.failures >= self.settings.failure_threshold:
            self.opened_at = self.now
            self.opened = self.now + timedelta(seconds=self.settings.open_seconds)
            self.probing = None
        assert self.breaker is not before

    @rule(holder=HOLDERS)
    def a_call_says_nothing(self, holder: str) -> None:
        before = self.breaker
        self.breaker = breaker.on_ignored(before, holder)
        released = self.probing is not None and self.probing.pop(holder, None) is not None
        assert (self.breaker is not before) is released

    @precondition(lambda self: self.probing is not None)
    @rule()
    def everybody_dies(self) -> None:
        """After the life of a claim there is always a way on."""
        self.now += timedelta(seconds=PROBE_SECONDS)
        answer = breaker.admit(self.breaker, self.settings, "e", self.now)
        assert isinstance(answer, Admitted)

    @invariant()
    def the_state_follows_from_what_happened(self) -> None:
        if self.opened is not None:
            state = BreakerState.OPEN
        else:
            state = BreakerState.CLOSED if self.probing is None else BreakerState.HALF_OPEN
        assert self.breaker.state is state
        assert self.breaker.consecutive_failures == self.failures
        assert self.breaker.open_until == self.opened or state is BreakerState.HALF_OPEN
        assert {item.holder: item.claimed_at for item in self.breaker.probes} == (
            self.probing or {}
        )


AnyHistory.TestCase.settings = hypothesis.settings(stateful_step_count=40, deadline=None)
TestAnyHistory = AnyHistory.TestCase
