"""The checks on a request by itself: readable, under which policy, with what event and rules."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer.api.outcomes import Reason
from resumer.core.case import Case
from resumer.core.checks import of_request
from resumer.core.patterns import MAX_STEPS
from tests.builders import (
    NOW,
    STAGE,
    PolicyBuilder,
    RequestBuilder,
    a_bare_workflow,
    a_policy,
    a_request,
    a_workflow,
    at_review,
    three_stages,
)
from tests.unit.core.scenes import Scene, decided, end_of, facts_of, order_of, word


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (a_request().selecting("a in ("), "spec.labelSelector"),
        (a_request().selecting(" "), "spec.labelSelector"),
        (a_request().at_gate("bogus=1"), "spec.nodeFieldSelector"),
        (a_request().at_gate(","), "spec.nodeFieldSelector"),
    ],
)
def test_a_selector_that_cannot_be_read_is_rejected_by_its_field(
    request_: RequestBuilder, field: str
) -> None:
    found = decided(request_)
    reason, message = end_of(found)
    assert reason is Reason.INVALID_SELECTOR
    assert field in message


def test_a_request_needs_no_label_selector_if_it_has_a_name() -> None:
    assert word(decided(a_request().selecting(None).named("play"))) == "Resume wait"


def test_a_policy_that_is_not_there_yet_is_waited_for_and_then_missed() -> None:
    request = a_request().with_spec(policyName="later")
    early, late = decided(request), decided(request, now=NOW + timedelta(hours=1))
    message = "policyName 'later': there is no policy of this name in the namespace"
    assert end_of(early) == (Reason.POLICY_NOT_FOUND, message)
    assert end_of(late) == (Reason.DEADLINE_EXCEEDED, f"waited until the deadline, but {message}")


NO_GATE = "no such field"


@pytest.mark.parametrize("named", [True, False])
def test_a_policy_that_was_never_valid_lets_its_workflows_wait(*, named: bool) -> None:
    request = a_request().with_spec(policyName="play" if named else None)
    policy = three_stages(nodeFieldSelector=NO_GATE, deadlineSeconds=7200)
    found = decided(request, policy=policy, now=NOW + timedelta(hours=1))
    reason, message = end_of(found)
    assert reason is Reason.POLICY_INVALID
    assert message.startswith("policy 'play' is not valid, and no valid version of it is known: ")
    assert "spec.stages[review].nodeFieldSelector" in message
    assert facts_of(found).deadline == NOW + timedelta(seconds=7200 - 60)
    assert facts_of(found).stage.name == STAGE


def test_a_policy_that_was_never_valid_concerns_no_other_workflows() -> None:
    scene = Scene(policy=three_stages(nodeFieldSelector=NO_GATE))
    scene.policy.for_workflows({"kind": "broken"})
    assert word(scene.decided()) == "Resume wait"


def test_what_needs_no_policy_is_decided_under_one_that_was_never_valid() -> None:
    policy = three_stages(nodeFieldSelector=NO_GATE)
    assert word(decided(None, at_review().finished(), policy=policy)) == "WorkflowFinished"
    assert word(decided(None, at_review().marked(), policy=policy)) == "StageAlreadyResumed"
    assert word(decided(None, a_bare_workflow(), policy=policy)) == "WorkflowNotFound"


def test_policies_that_match_as_well_are_named_unless_one_was_asked_for() -> None:
    scene = Scene(workflow=at_review().labelled(kind="play"))
    scene.policy.for_workflows({"kind": "play"})
    scene.other_policies = (a_policy("every"), a_policy("none").for_workflows({"kind": "no"}))
    assert facts_of(scene.decided()).policy.name == "play"
    assert facts_of(scene.decided()).also_matching == ("every",)
    scene.request.with_spec(policyName="play")
    assert facts_of(scene.decided()).also_matching == ()


def test_a_stage_that_the_policy_does_not_list_takes_its_defaults() -> None:
    policy = three_stages().defaults(setLabels={"seen": "yes"})
    found = decided(
        a_request().for_stage("extra"), a_workflow().in_stage("extra").gate(), policy=policy
    )
    assert order_of(found).labels["seen"] == "yes"
    assert facts_of(found).stage.name == "extra"


@pytest.mark.parametrize(
    ("event", "reason", "message"),
    [
        (
            {"labels": ["task-8"]},
            Reason.TASK_MISMATCH,
            "the event's labels or branch name task '8', correlationData.taskId is '7'",
        ),
        (
            {"branch": "task-8-x"},
            Reason.TASK_MISMATCH,
            "the event's labels or branch name task '8', correlationData.taskId is '7'",
        ),
        (
            {"labels": ["bug"]},
            Reason.TASK_MISMATCH,
            (
                "the event's labels or branch name no task (none is `task-<number>`), "
                "correlationData.taskId is '7'"
            ),
        ),
        (
            {"labels": ["task-7"], "branch": "task-8"},
            Reason.TASK_MISMATCH,
            "the event's labels and branch name several tasks: '7', '8'",
        ),
        (
            {"action": "opened"},
            Reason.EVENT_TYPE_MISMATCH,
            (
                "the event says 'pr-created' (action 'opened'), "
                "correlationData.eventType is 'reviewed'"
            ),
        ),
        (
            {"labels": [f"task-{number}" for number in range(20_000)]},
            Reason.INVALID_OBJECT,
            "correlationData.githubEvent: ",
        ),
    ],
)
def test_an_event_that_contradicts_the_request_is_rejected(
    event: dict[str, object], reason: Reason, message: str
) -> None:
    found = decided(a_request().saying(**event))
    assert end_of(found)[0] is reason
    assert end_of(found)[1].startswith(message)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"labels": []},
        {"labels": ["task-7", "bug"], "branch": "task-7-fix"},
        {"action": "closed"},
    ],
)
def test_an_event_that_says_the_same_or_nothing_agrees(event: dict[str, object]) -> None:
    assert word(decided(a_request().saying(**event))) == "Resume wait"


def worded(number: int, pattern: str) -> PolicyBuilder:
    """A policy for other workflows whose tasks are in the titles."""
    sources = [{"from": "Title", "pattern": pattern}]
    return (
        a_policy(f"p{number}")
        .for_workflows({"of": "others"})
        .with_spec(events={"taskIdSources": sources})
    )


HEAVY = [worded(number, f"((?:.{{1,{20 + number}}}){{1,9}})z") for number in range(30)]


def test_policies_too_heavy_to_try_them_all_leave_the_event_to_the_one_in_charge() -> None:
    other = {"branch": "task-8", "title": "a" * 4096}
    request = a_request().saying(**other)
    found = Scene(request=request, other_policies=tuple(HEAVY)).decided()
    assert end_of(found) == (
        Reason.TASK_MISMATCH,
        "the event's labels or branch name task '8', correlationData.taskId is '7'",
    )
    waits = Scene(request=request.named("none"), other_policies=tuple(HEAVY)).decided()
    assert end_of(waits)[0] is Reason.WORKFLOW_NOT_FOUND


def test_a_policy_too_heavy_for_an_event_refuses_it_and_says_so() -> None:
    sources = [{"from": "Title", "pattern": "((?:.{1,80}){1,9})z"}]
    own = three_stages().with_spec(events={"taskIdSources": sources})
    request = a_request().saying(title="a" * 4096)
    for asked in (request, request.with_spec(policyName="play")):
        reason, message = end_of(decided(asked, policy=own))
        assert reason is Reason.INVALID_OBJECT
        assert "steps of matching" in message


def test_thirty_two_of_the_heaviest_rules_are_refused_before_any_search() -> None:
    request = a_request().saying(t="\N{LATIN SMALL LETTER E WITH ACUTE}" * 8191 + "z")
    for _ in range(32):
        request.rule("event.t", "regex", "(?:.{1,80}){1,10}z")
    found = decided(request)
    assert end_of(found)[0] is Reason.INVALID_RULE
    assert "steps of matching" in end_of(found)[1]


def test_the_rules_on_the_event_and_on_the_workflow_share_what_they_may_search() -> None:
    event = "a" * 5000 + "z"
    request = a_request().saying(t=event).rule("task-id", "regex", "(?:.{1,80}){1,9}7|7")
    assert word(decided(request)) == "Resume wait"
    for _ in range(5):
        request.rule("event.t", "regex", "(?:.{1,3}){1,9}z")
    case = Case(Scene(request=request).observed(), NOW)
    assert isinstance(of_request.event_rules_pass(case), Case)
    assert case.effort.left < MAX_STEPS / 10
    reason, message = end_of(decided(request))
    assert reason is Reason.RULE_FAILED
    assert message.startswith("rule on task-id (regex (?:.{1,80}){1,9}7|7): found ")
    assert "steps of matching" in message


def test_a_rule_on_the_event_is_judged_before_there_is_a_workflow() -> None:
    request = (
        a_request()
        .saying(sender="eve")
        .rule("sender", "exists")
        .rule("event.sender", "equals", "cleo")
    )
    found = decided(request, a_bare_workflow())
    assert end_of(found) == (Reason.RULE_FAILED, 'rule on event.sender (equals cleo): found "eve"')
    assert [check.passed for check in facts_of(found).checks] == [False]


def test_the_first_failed_rule_is_named_and_the_others_counted() -> None:
    request = a_request().saying(draft=False).rule("a", "exists").rule("b", "exists")
    request.rule("current-stage", "equals", STAGE).rule("event.draft", "equals", "false")
    found = decided(request)
    assert end_of(found) == (Reason.RULE_FAILED, "rule on a (exists): found nothing (and 1 more)")
    assert [(check.field, check.passed) for check in facts_of(found).checks] == [
        ("event.draft", True),
        ("a", False),
        ("b", False),
        ("current-stage", True),
    ]


@pytest.mark.parametrize("field", ["event.sender", "workflow.metadata.name", "approved"])
def test_a_rule_that_cannot_be_read_is_rejected_at_once(field: str) -> None:
    found = decided(a_request().rule(field, "regex", "("), a_bare_workflow())
    assert end_of(found)[0] is Reason.INVALID_RULE
    assert field in end_of(found)[1]
