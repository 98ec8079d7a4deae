"""The checks before an attempt: no dry run, due, and the circuit closed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Reason
from resumer.core import breaker, policies
from resumer.core.breaker import Breaker
from resumer.core.checks import of_attempt
from resumer.core.observation import End
from tests.builders import (
    NOW,
    STAGE,
    RequestBuilder,
    WorkflowBuilder,
    a_request,
    a_workflow,
    at,
    at_review,
    three_stages,
)
from tests.unit.core.scenes import decided, end_of, facts_of, word


@pytest.mark.parametrize(
    ("workflow", "what"),
    [(at_review(), "'wait'"), (a_workflow().in_stage(STAGE).suspended(), "spec.suspend")],
)
def test_a_dry_run_says_what_it_would_do(workflow: WorkflowBuilder, what: str) -> None:
    found = decided(a_request().with_spec(dryRun=True), workflow)
    assert end_of(found) == (
        Reason.WOULD_RESUME,
        f"would resume {what} of workflow 'play'; nothing was written",
    )
    assert facts_of(found).validated is True


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (a_request().failed_attempt(due=5), "ApiUnavailable"),
        (a_request().failed_attempt(due=5, reason="RateLimited"), "RateLimited"),
        (a_request().failed_attempt(due=0), "Resume wait"),
        (a_request().failed_attempt(due=-5), "Resume wait"),
        (
            a_request().with_status(
                reason="RateLimited", retry={"count": 0, "nextAttemptTime": at(5)}
            ),
            "RateLimited",
        ),
        (a_request().with_status(retry={"count": 1}), "Resume wait"),
        (a_request().with_status(retry={"count": 1, "nextAttemptTime": at(5)}), "ApiUnavailable"),
    ],
)
def test_an_attempt_waits_until_it_is_due(request_: RequestBuilder, result: str) -> None:
    assert word(decided(request_)) == result


def test_a_waiting_attempt_repeats_the_message_of_the_one_that_failed() -> None:
    request = a_request().failed_attempt(due=1).with_status(message="no gate is suspended")
    found = decided(request)
    assert end_of(found)[1] == "attempt 1 of 3 failed: no answer"
    assert isinstance(found.what, End)
    assert found.what.until == NOW + timedelta(seconds=1)


def test_who_waits_for_a_read_and_needs_none_resumes_at_once() -> None:
    request = a_request().with_status(
        reason="ApiUnavailable", message="cut off", retry={"count": 0, "nextAttemptTime": at(5)}
    )
    assert word(decided(request)) == "Resume wait"


FIXED = {"strategy": "Fixed", "jitter": "None"}


@pytest.mark.parametrize(
    ("reason", "retry", "due"),
    [
        ("ApiUnavailable", {**FIXED, "baseSeconds": 3600}, 1000),
        ("ApiUnavailable", {**FIXED, "baseSeconds": 30}, 29),
        ("ApiUnavailable", {**FIXED, "baseSeconds": 30, "jitter": "Proportional"}, 32),
        ("RateLimited", {**FIXED, "baseSeconds": 30}, 1000),
    ],
    ids=["longer", "shorter", "shorter, at most with jitter", "asked for by the API server"],
)
def test_a_shorter_wait_of_a_changed_policy_holds_for_the_wait_under_way(
    reason: str, retry: dict[str, Any], due: float
) -> None:
    """The last attempt ended a second ago, and was told to wait for 1000 more."""
    request = a_request().failed_attempt(due=1000, reason=reason)
    found = decided(request, policy=three_stages(retry=retry))
    assert isinstance(found.what, End)
    assert found.what.until == NOW + timedelta(seconds=due)


def test_an_attempt_due_by_a_changed_policy_is_made() -> None:
    policy = three_stages(retry={**FIXED, "baseSeconds": 1})
    assert word(decided(a_request().failed_attempt(due=1000), policy=policy)) == "Resume wait"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            a_request().failed_attempt(due=5),
            "1 attempts have failed, and the policy now allows 1; attempt 1 of 3 failed: no answer",
        ),
        (
            a_request().with_status(retry={"count": 2}),
            "2 attempts have failed, and the policy now allows 1",
        ),
    ],
    ids=["the last one is known", "it is not"],
)
def test_no_more_attempts_are_made_than_a_changed_policy_allows(
    request_: RequestBuilder, message: str
) -> None:
    found = decided(request_, policy=three_stages(retry={"maxAttempts": 1}))
    assert end_of(found) == (Reason.RETRIES_EXHAUSTED, message)


@pytest.mark.parametrize(
    ("seconds", "result"), [(20, "ApiUnavailable"), (31, "Resume wait"), (3600, "Resume wait")]
)
def test_an_attempt_that_ended_in_the_future_holds_nobody_back(seconds: int, result: str) -> None:
    """The clock was put back since."""
    request = a_request().failed_attempt(due=seconds + 2)
    (attempt,) = request.build()["status"]["attempts"]
    ended = {**attempt, "endTime": at(seconds)}
    assert word(decided(request.with_status(attempts=[ended]))) == result


OPEN = Breaker(BreakerState.OPEN, 5, NOW, NOW + timedelta(seconds=30))


@pytest.mark.parametrize(
    ("breakers", "result"),
    [
        ({}, "Resume wait"),
        ({STAGE: Breaker(consecutive_failures=4)}, "Resume wait"),
        ({STAGE: OPEN}, "BreakerOpen"),
        ({"draft": OPEN}, "Resume wait"),
        ({STAGE: Breaker(BreakerState.OPEN, 5, NOW, NOW)}, "Resume wait"),
    ],
    ids=["none", "failing", "open", "another stage's", "due to be probed"],
)
def test_an_open_circuit_holds_the_requests_of_its_stage(
    breakers: dict[str, Breaker], result: str
) -> None:
    assert word(decided(breakers=breakers)) == result


def test_a_held_request_is_told_until_when() -> None:
    refused = breaker.Refused(NOW)
    held = of_attempt.held(policies.BUILT_IN.stages[0], refused)
    assert (held.reason, held.until) == (Reason.BREAKER_OPEN, NOW)
    assert "'waiting-pr-created'" in held.message
