"""The status says what was decided, keeps what it knew, and does not move without news."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from resumer.api import resume
from resumer.api.conditions import ConditionStatus
from resumer.api.outcomes import ConditionType, Outcome, Phase, Reason
from resumer.api.resume import Attempt, ResumeStatus, RetryStatus
from resumer.core import policies, status
from resumer.core.observation import NOTHING, End, Facts
from tests.builders import (
    NOW,
    STAGE,
    RequestBuilder,
    a_bare_workflow,
    a_request,
    a_workflow,
    at_review,
)
from tests.unit.core.scenes import decided

LATER = NOW + timedelta(seconds=30)
REQUEST = a_request()


def composed(
    end: End,
    before: ResumeStatus = status.EMPTY,
    *,
    facts: Facts = NOTHING,
    attempt: Attempt | None = None,
    now: datetime = NOW,
) -> ResumeStatus:
    return status.compose(REQUEST.model().metadata, before, end, now, facts=facts, attempt=attempt)


def attempted(end: End, number: int = 1) -> Attempt:
    return Attempt(
        number=number,
        start_time=NOW,
        end_time=NOW,
        outcome=end.reason.outcome,
        reason=str(end.reason),
        message=end.message,
    )


def condition(found: ResumeStatus, kind: ConditionType) -> ConditionStatus:
    return next(item.status for item in found.conditions if item.type == kind)


OPENED = End(Reason.GATE_OPENED, "opened 'wait' of workflow 'play'")
WAITS = End(Reason.GATE_NOT_OPEN, "no gate is suspended", LATER)
BACKS_OFF = End(Reason.API_UNAVAILABLE, "attempt 1 of 3 failed: no answer", LATER)
RATE_LIMITED = End(Reason.RATE_LIMITED, "no attempt was made: 429", LATER)
HELD = End(Reason.BREAKER_OPEN, "held", LATER)
GAVE_UP = End(Reason.RETRIES_EXHAUSTED, "attempt 3 of 3 failed")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_makes_a_status_that_says_it(reason: Reason) -> None:
    found = composed(End(reason, "why", None if reason.outcome.terminal else LATER))
    assert (found.outcome, found.reason, found.message) == (reason.outcome, str(reason), "why")
    assert found.phase is reason.outcome.phase
    assert {item.type for item in found.conditions} == {
        *("Correlated", "Validated", "Resumed", "Stalled", "Ready")
    }
    assert (condition(found, ConditionType.RESUMED) is ConditionStatus.TRUE) is (
        reason.outcome is Outcome.RESUMED
    )
    assert resume.ResumeStatus.from_json(found.to_json()) == found


def test_a_resume_is_told_with_gate_workflow_and_time() -> None:
    facts = decided(None, at_review()).facts
    found = composed(OPENED, facts=facts, attempt=attempted(OPENED))
    assert found.phase is Phase.SUCCEEDED
    assert found.workflow is not None
    assert (found.workflow.name, found.workflow.uid) == ("play", "uid-of-play")
    assert found.workflow.stage == STAGE
    (node,) = found.workflow.nodes
    assert (node.id, node.display_name) == (at_review().node_id("wait"), "wait")
    assert (node.template_name, node.started_at) == ("approve", NOW - timedelta(seconds=120))
    assert (found.resumed_time, found.resumed_by) == (NOW, "workflowresume/wake")
    assert found.correlation_id == "uid-of-wake"
    assert found.observed_generation == 1
    assert (found.retry, found.deadline_time) == (None, None)
    for kind in (ConditionType.CORRELATED, ConditionType.VALIDATED, ConditionType.READY):
        assert condition(found, kind) is ConditionStatus.TRUE


def test_of_a_duplicate_it_says_who_was_first() -> None:
    found_before = decided(None, at_review().marked(by="first"))
    assert isinstance(found_before.what, End)
    found = composed(found_before.what, facts=found_before.facts)
    assert (found.resumed_by, found.resumed_time) == ("workflowresume/first", None)


def test_what_waits_says_until_when() -> None:
    facts = decided(None, at_review(phase="Pending")).facts
    found = composed(WAITS, facts=facts)
    assert found.deadline_time == NOW + timedelta(seconds=840)
    assert composed(OPENED, found, facts=facts).deadline_time is None


def test_the_checks_are_told_and_stay() -> None:
    request = a_request().rule("event.action", "absent").rule("approved", "exists")
    found = composed(WAITS, facts=decided(request, at_review()).facts)
    assert [(check.field, check.operator, check.passed) for check in found.checks] == [
        ("event.action", "absent", True),
        ("approved", "exists", False),
    ]
    assert composed(HELD, found).checks == found.checks


def test_a_workflow_that_was_known_stays_known() -> None:
    found = composed(WAITS, facts=decided(None, at_review()).facts)
    assert composed(HELD, found).workflow == found.workflow


@pytest.mark.parametrize(
    ("request_", "stage"),
    [(a_request(), STAGE), (a_request().for_stage(None).of_event("merged"), None)],
)
def test_the_stage_is_told_before_there_is_a_workflow(
    request_: RequestBuilder, stage: str | None
) -> None:
    found = composed(WAITS, facts=decided(request_, a_bare_workflow()).facts)
    assert (found.workflow.stage if found.workflow else None) == stage


def test_a_request_without_a_stage_names_its_workflow_all_the_same() -> None:
    request = a_request().for_stage(None).of_event("merged")
    found = composed(OPENED, facts=decided(request, a_workflow().gate()).facts)
    assert found.workflow is not None
    assert (found.workflow.name, found.workflow.stage) == ("play", None)


# --- attempts and their schedule -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "end", "attempt", "retry"),
    [
        (None, WAITS, None, None),
        (None, OPENED, attempted(OPENED), None),
        (None, BACKS_OFF, attempted(BACKS_OFF), RetryStatus(count=1, next_attempt_time=LATER)),
        (
            RetryStatus(count=1, next_attempt_time=NOW),
            BACKS_OFF,
            attempted(BACKS_OFF),
            RetryStatus(count=2, next_attempt_time=LATER),
        ),
        (None, RATE_LIMITED, None, RetryStatus(count=0, next_attempt_time=LATER)),
        (
            RetryStatus(count=0, next_attempt_time=LATER),
            OPENED,
            attempted(OPENED),
            None,
        ),
        (
            RetryStatus(count=1, next_attempt_time=LATER),
            RATE_LIMITED,
            None,
            RetryStatus(count=1, next_attempt_time=LATER),
        ),
        (
            RetryStatus(count=1, next_attempt_time=LATER),
            WAITS,
            None,
            RetryStatus(count=1, next_attempt_time=LATER),
        ),
        (
            RetryStatus(count=1, next_attempt_time=LATER),
            HELD,
            None,
            RetryStatus(count=1, next_attempt_time=LATER),
        ),
        (
            RetryStatus(count=2, next_attempt_time=NOW),
            GAVE_UP,
            attempted(GAVE_UP),
            RetryStatus(count=3),
        ),
        (
            RetryStatus(count=2, next_attempt_time=NOW),
            OPENED,
            attempted(OPENED),
            RetryStatus(count=2),
        ),
    ],
    ids=[
        "no attempt was made",
        "the first attempt succeeds",
        "the first attempt fails",
        "the second attempt fails",
        "turned away before the first attempt",
        "the first attempt succeeds after it was turned away",
        "the next attempt is not due",
        "the gate is closed meanwhile",
        "the circuit is open meanwhile",
        "the last attempt fails",
        "an attempt succeeds after two that failed",
    ],
)
def test_failed_attempts_are_counted_and_the_next_one_has_a_time(
    before: RetryStatus | None, end: End, attempt: Attempt | None, retry: RetryStatus | None
) -> None:
    found = composed(end, ResumeStatus(retry=before), attempt=attempt)
    assert found.retry == retry
    assert status.attempts_made(found) == (retry.count if retry else 0)


def test_the_last_ten_attempts_are_kept() -> None:
    found = status.EMPTY
    for number in range(1, 13):
        found = composed(BACKS_OFF, found, attempt=attempted(BACKS_OFF, number))
    assert [attempt.number for attempt in found.attempts] == list(range(3, 13))
    assert composed(WAITS, found).attempts == found.attempts


# --- bounds and quiet ----------------------------------------------------------------------------


def test_what_others_wrote_is_cut_to_the_bounds_of_the_schema() -> None:
    workflow = a_workflow().in_stage(STAGE)
    for number in range(resume.MAX_NODES + 5):
        workflow.gate(f"gate-{number}", displayName="d" * 999, startedAt="not a time")
    facts = decided(a_request().with_spec(allGates=True), workflow).facts
    found = composed(End(Reason.GATE_OPENED, "x" * 5000), facts=facts)
    assert found.message is not None
    assert len(found.message) == status.MAX_MESSAGE
    assert found.workflow is not None
    assert len(found.workflow.nodes) == resume.MAX_NODES
    assert len(found.workflow.nodes[0].display_name) == 256
    assert found.workflow.nodes[0].started_at is None


@pytest.mark.parametrize("end", [WAITS, HELD, BACKS_OFF, GAVE_UP])
def test_the_same_again_later_is_the_same_status(end: End) -> None:
    facts = decided(None, at_review()).facts
    first = composed(end, facts=facts)
    assert composed(end, first, facts=facts, now=LATER) == first


def test_the_policy_that_was_used_is_named_with_the_first_of_those_that_match_as_well() -> None:
    facts = decided(None, at_review()).facts
    others = tuple(f"other-{number}" for number in range(100))
    found = composed(OPENED, facts=dataclasses.replace(facts, also_matching=others)).policy
    assert found is not None
    assert found.name == "play"
    assert found.also_matching == others[: resume.MAX_OTHER_POLICIES]
    built_in = dataclasses.replace(facts, policy=policies.BUILT_IN)
    assert composed(OPENED, facts=built_in).policy is None
