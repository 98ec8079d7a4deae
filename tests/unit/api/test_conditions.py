"""Conditions: what tools and people read, and when a transition counts as one."""

from __future__ import annotations

import datetime

import hypothesis
import pytest
from hypothesis import strategies as st

from resumer.api import conditions
from resumer.api.conditions import Condition, ConditionStatus
from resumer.api.outcomes import ConditionType, Outcome, Phase, Reason

NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=datetime.UTC)
LATER = NOON + datetime.timedelta(minutes=5)
KINDS = (
    ConditionType.CORRELATED,
    ConditionType.VALIDATED,
    ConditionType.RESUMED,
    ConditionType.STALLED,
    ConditionType.READY,
)


def after(
    reason: Reason,
    existing: tuple[Condition, ...] = (),
    *,
    now: datetime.datetime = NOON,
    correlated: bool = False,
    validated: bool = False,
) -> tuple[Condition, ...]:
    """The conditions of a request that has come to this."""
    return conditions.of_resume(
        existing,
        outcome=reason.outcome,
        reason=reason,
        message="a sentence",
        generation=1,
        now=now,
        correlated=correlated,
        validated=validated,
    )


def status(found: tuple[Condition, ...], kind: ConditionType) -> str:
    """The status of one condition."""
    condition = conditions.find(found, kind)
    assert condition is not None, f"no {kind} in {found}"
    return condition.status.value


def kstatus(found: tuple[Condition, ...]) -> str:
    """What kstatus computes from conditions whose generation is observed."""
    if status(found, ConditionType.STALLED) == "True":
        return "Failed"
    return "Current" if status(found, ConditionType.READY) == "True" else "InProgress"


@pytest.mark.parametrize("reason", Reason)
def test_kstatus_sees_success_failure_and_waiting(reason: Reason) -> None:
    expected = {
        Phase.SUCCEEDED: "Current",
        Phase.FAILED: "Failed",
        Phase.WAITING: "InProgress",
    }
    assert kstatus(after(reason)) == expected[reason.outcome.phase]


@pytest.mark.parametrize("reason", Reason)
def test_all_five_conditions_are_set_at_the_first_visit(reason: Reason) -> None:
    assert tuple(condition.type for condition in after(reason)) == KINDS


@pytest.mark.parametrize("reason", Reason)
def test_only_the_request_that_opened_the_gate_is_resumed(reason: Reason) -> None:
    resumed = status(after(reason), ConditionType.RESUMED)
    assert resumed == ("True" if reason.outcome is Outcome.RESUMED else "False")


def test_what_is_not_known_yet_is_unknown() -> None:
    found = after(Reason.WORKFLOW_NOT_FOUND)
    assert status(found, ConditionType.CORRELATED) == "Unknown"
    assert status(found, ConditionType.VALIDATED) == "Unknown"


def test_a_failed_rule_is_a_failed_validation() -> None:
    found = conditions.find(after(Reason.RULE_FAILED), ConditionType.VALIDATED)
    assert found is not None
    assert (found.status, found.reason, found.message) == (
        ConditionStatus.FALSE,
        "RuleFailed",
        "a sentence",
    )


@pytest.mark.parametrize(
    "reason",
    [
        Reason.SEVERAL_WORKFLOWS,
        Reason.SELECTOR_MISMATCH,
        Reason.TASK_LABEL_MISSING,
        Reason.INVALID_SELECTOR,
    ],
)
def test_where_it_cannot_be_known_which_workflow_is_meant_it_is_not_correlated(
    reason: Reason,
) -> None:
    assert status(after(reason), ConditionType.CORRELATED) == "False"


def test_a_reason_that_says_nothing_about_a_question_keeps_its_answer() -> None:
    waiting = after(Reason.GATE_NOT_OPEN, correlated=True)
    expired = after(Reason.DEADLINE_EXCEEDED, waiting, now=LATER)
    before = conditions.find(waiting, ConditionType.CORRELATED)
    found = conditions.find(expired, ConditionType.CORRELATED)
    assert before == found
    assert found is not None
    assert found.status is ConditionStatus.TRUE


def test_what_is_known_is_true_whatever_the_reason() -> None:
    found = after(Reason.BREAKER_OPEN, correlated=True, validated=True)
    assert status(found, ConditionType.CORRELATED) == "True"
    assert status(found, ConditionType.VALIDATED) == "True"


@pytest.mark.parametrize("reason", Reason)
def test_whoever_is_rejected_has_failed_a_check_and_nobody_else(reason: Reason) -> None:
    found = status(after(reason), ConditionType.VALIDATED)
    assert found == ("False" if reason.outcome is Outcome.REJECTED else "Unknown")


def test_times_are_whole_seconds() -> None:
    (first, *_) = after(Reason.GATE_OPENED)
    assert first.to_json()["lastTransitionTime"] == "2026-01-02T12:00:00Z"


def test_a_long_message_is_cut() -> None:
    found = conditions.of_policy((), problem="x" * 5000, generation=1, now=NOON)
    valid = conditions.find(found, ConditionType.VALID)
    assert valid is not None
    assert len(valid.message) == conditions.MAX_MESSAGE
    assert valid.message.endswith("…")


@pytest.mark.parametrize(("problem", "expected"), [("", "True"), ("stages[0]: no", "False")])
def test_a_policy_is_valid_unless_there_is_a_problem(problem: str, expected: str) -> None:
    found = conditions.of_policy((), problem=problem, generation=3, now=NOON)
    assert status(found, ConditionType.VALID) == expected
    assert kstatus(found) == ("Failed" if problem else "Current")
    assert {condition.observed_generation for condition in found} == {3}


@hypothesis.given(st.lists(st.sampled_from(Reason), min_size=1, max_size=8))
def test_a_transition_time_moves_when_and_only_when_the_status_does(reasons: list[Reason]) -> None:
    found: tuple[Condition, ...] = ()
    for minute, reason in enumerate(reasons):
        now = NOON + datetime.timedelta(minutes=minute)
        following = after(reason, found, now=now)
        for kind in KINDS:
            old, new = conditions.find(found, kind), conditions.find(following, kind)
            assert new is not None
            if old is not None and old.status is new.status:
                assert new.last_transition_time == old.last_transition_time
            else:
                assert new.last_transition_time == now.replace(microsecond=0)
        found = following


@hypothesis.given(st.sampled_from(Reason), st.sampled_from(Reason))
def test_the_same_outcome_again_changes_nothing(first: Reason, second: Reason) -> None:
    found = after(second, after(first))
    assert after(second, found, now=LATER) == found
