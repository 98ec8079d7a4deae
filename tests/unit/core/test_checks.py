"""Each check of the chain by itself: when it lets a request pass, and with which words it stops it.

The tables go through `decide`, as every check but the looked-at one is content with the scene.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Reason
from resumer.core import breaker, policies
from resumer.core.breaker import Breaker
from resumer.core.case import Case
from resumer.core.checks import of_attempt, of_request, of_workflow
from resumer.core.observation import End
from resumer.core.patterns import MAX_STEPS
from tests.builders import (
    NOW,
    STAGE,
    PolicyBuilder,
    RequestBuilder,
    WorkflowBuilder,
    a_bare_workflow,
    a_policy,
    a_request,
    a_workflow,
    at,
    at_review,
    given,
    supplied,
    three_stages,
)
from tests.unit.core.scenes import (
    Scene,
    decided,
    end_of,
    facts_of,
    opened_by,
    order_of,
    word,
)

# --- readable ------------------------------------------------------------------------------------


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
    assert facts_of(found).validated is False


def test_a_request_needs_no_label_selector_if_it_has_a_name() -> None:
    assert word(decided(a_request().selecting(None).named("play"))) == "Resume wait"


# --- recorded ------------------------------------------------------------------------------------

SIGNED = "Resumed by: workflowresume/wake (uid uid-of-wake)"


@pytest.mark.parametrize(
    ("workflow", "reason", "message"),
    [
        (
            at_review(phase="Succeeded", message=SIGNED).marked(uid="uid-of-wake", node="wait"),
            Reason.GATE_OPENED,
            "opened 'wait' of workflow 'play'",
        ),
        (
            at_review(phase="Succeeded", message=f"before; {SIGNED}"),
            Reason.GATE_OPENED,
            "opened 'wait' of workflow 'play'",
        ),
        (
            a_workflow().marked(uid="uid-of-wake", node="gone"),
            Reason.GATE_OPENED,
            "opened the gate of workflow 'play'",
        ),
        (
            a_workflow().marked(uid="uid-of-wake"),
            Reason.WORKFLOW_UNSUSPENDED,
            "lifted spec.suspend of workflow 'play'",
        ),
        (
            a_workflow().marked(uid="uid-of-wake", node="gone").finished(),
            Reason.GATE_OPENED,
            "opened the gate of workflow 'play'",
        ),
        (
            at_review("old").gate("second", phase="Succeeded", message=SIGNED),
            Reason.GATE_OPENED,
            "opened 'second' of workflow 'old'",
        ),
    ],
    ids=[
        "marker and message",
        "only the message, behind another",
        "only the marker, the gate is gone",
        "the whole workflow",
        "the workflow has finished since",
        "another gate is open by now",
    ],
)
@pytest.mark.parametrize("fresh", [True, False], ids=["read", "watched"])
def test_its_own_trace_tells_a_request_after_a_crash_that_it_has_resumed(
    workflow: WorkflowBuilder, reason: Reason, message: str, fresh: bool
) -> None:
    found = decided(None, workflow, fresh=fresh)
    assert end_of(found) == (reason, message)
    facts = facts_of(found)
    assert (facts.correlated, facts.validated, facts.stage.name) == (True, True, STAGE)


def test_its_own_trace_counts_whatever_policy_is_missing_now() -> None:
    request = a_request().with_spec(policyName="gone")
    found = decided(request, a_workflow().marked(uid="uid-of-wake", node="gone"))
    assert end_of(found)[0] is Reason.GATE_OPENED


@pytest.mark.parametrize(
    "message",
    [
        "Resumed by: workflowresume/wake (uid uid-of-another)",
        "(uid uid-of-wake)",
        "Resumed by: map[User:cleo]",
    ],
)
def test_a_message_of_anybody_else_is_no_trace(message: str) -> None:
    workflow = at_review().gate("other", template="other", phase="Succeeded", message=message)
    assert word(decided(None, workflow)) == "Resume wait"


# --- under_policy --------------------------------------------------------------------------------


def test_a_policy_that_is_not_there_yet_is_waited_for_and_then_missed() -> None:
    request = a_request().with_spec(policyName="later")
    early, late = decided(request), decided(request, now=NOW + timedelta(hours=1))
    message = "policyName 'later': there is no policy of this name in the namespace"
    assert end_of(early) == (Reason.POLICY_NOT_FOUND, message)
    assert end_of(late) == (
        Reason.DEADLINE_EXCEEDED,
        f"waited until the deadline, but {message}",
    )


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


# --- event_agrees --------------------------------------------------------------------------------


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
    assert facts_of(found).validated is False


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


# --- rules ---------------------------------------------------------------------------------------


def test_thirty_two_of_the_heaviest_rules_are_refused_before_any_search() -> None:
    request = a_request().saying(t="\N{LATIN SMALL LETTER E WITH ACUTE}" * 8191 + "z")
    for _ in range(32):
        request.rule("event.t", "regex", "(?:.{1,80}){1,10}z")
    found = decided(request)
    assert end_of(found)[0] is Reason.INVALID_RULE
    assert "steps of matching" in end_of(found)[1]
    assert facts_of(found).validated is False


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
    assert end_of(found) == (
        Reason.RULE_FAILED,
        'rule on event.sender (equals cleo): found "eve"',
    )
    assert [check.passed for check in facts_of(found).checks] == [False]
    assert facts_of(found).validated is False


def test_a_rule_on_the_workflow_is_judged_when_the_gate_is_open() -> None:
    request = a_request().rule("approved", "equals", "yes")
    early = at_review(phase="Pending")
    assert end_of(decided(request, early))[0] is Reason.GATE_NOT_OPEN
    assert end_of(decided(request)) == (
        Reason.RULE_FAILED,
        "rule on approved (equals yes): found nothing",
    )
    assert word(decided(request, at_review().labelled(approved="yes"))) == "Resume wait"


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


def test_a_rule_on_more_than_labels_needs_the_whole_workflow() -> None:
    request = a_request().rule("workflow.spec.entrypoint", "equals", "main")
    assert word(decided(request, fresh=False)) == "Look"
    assert word(decided(request)) == "Resume wait"


# --- correlated: early, late, duplicate, several -------------------------------------------------


@pytest.mark.parametrize(
    ("workflows", "reason", "message"),
    [
        (
            (a_bare_workflow(),),
            Reason.WORKFLOW_NOT_FOUND,
            "there is no workflow with labels task-id,task-id=7",
        ),
        (
            (a_workflow(),),
            Reason.STAGE_NOT_REACHED,
            (
                "workflow 'play' is without a stage (label 'current-stage'); "
                "the request is for stage 'review'"
            ),
        ),
        (
            (a_workflow().in_stage("draft"),),
            Reason.STAGE_NOT_REACHED,
            "workflow 'play' is in stage 'draft'; the request is for stage 'review'",
        ),
        (
            (at_review(phase="Pending"),),
            Reason.GATE_NOT_OPEN,
            "no gate of workflow 'play' is suspended",
        ),
    ],
    ids=["no workflow", "no stage", "an earlier stage", "the gate waits for a lock"],
)
def test_an_early_event_waits_until_its_deadline_and_then_expires(
    workflows: tuple[WorkflowBuilder, ...], reason: Reason, message: str
) -> None:
    early = decided(None, *workflows)
    assert end_of(early) == (reason, message)
    assert isinstance(early.what, End)
    assert early.what.until == NOW + timedelta(seconds=900 - 60)
    late = decided(None, *workflows, now=NOW + timedelta(seconds=900 - 60))
    assert end_of(late) == (
        Reason.DEADLINE_EXCEEDED,
        f"waited until the deadline, but {message}",
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (a_request().named("other"), "there is no workflow named 'other' with labels task-id,"),
        (
            a_request().selecting("current-stage=review"),
            "there is no workflow with labels task-id=7",
        ),
        (a_request().selecting("task-id=7"), "there is no workflow with labels task-id=7"),
        (
            a_request().named("other").selecting(None),
            "there is no workflow named 'other' with labels task-id=7",
        ),
        (
            a_request().selecting("task-id,x in (" + ",".join(f"v{n}" for n in range(99)) + ")"),
            "there is no workflow with labels task-id,x in (v0,v1,",
        ),
    ],
)
def test_a_missing_workflow_is_described_by_what_was_looked_for(
    request_: RequestBuilder, message: str
) -> None:
    reason, found = end_of(decided(request_, a_bare_workflow()))
    assert reason is Reason.WORKFLOW_NOT_FOUND
    assert found.startswith(message)
    assert len(found) < 300
    assert "task-id=7,task-id=7" not in found


@pytest.mark.parametrize(
    ("workflow", "reason", "message"),
    [
        (
            a_workflow().finished("Failed"),
            Reason.WORKFLOW_FINISHED,
            "workflow 'play' has finished (Failed)",
        ),
        (
            a_workflow().finished("Failed").with_status(phase=None),
            Reason.WORKFLOW_FINISHED,
            "workflow 'play' has finished (completed)",
        ),
        (
            a_workflow().in_stage("release"),
            Reason.STAGE_PASSED,
            "workflow 'play' is in stage 'release' already, past stage 'review'",
        ),
        (
            at_review().marked(node="wait", by="first"),
            Reason.STAGE_ALREADY_RESUMED,
            "stage 'review' of workflow 'play' was resumed by workflowresume/first",
        ),
    ],
)
def test_a_late_event_and_a_duplicate_say_so(
    workflow: WorkflowBuilder, reason: Reason, message: str
) -> None:
    assert end_of(decided(None, workflow)) == (reason, message)


def test_a_duplicate_without_a_stage_is_known_by_its_event_type() -> None:
    request = a_request().for_stage(None).of_event("merged")
    workflow = a_workflow().gate().marked(event_type="merged", by="first")
    found = decided(request, workflow)
    assert end_of(found) == (
        Reason.STAGE_ALREADY_RESUMED,
        "event 'merged' of workflow 'play' was resumed by workflowresume/first",
    )
    assert facts_of(found).resumed_by == "workflowresume/first"


@pytest.mark.parametrize(
    ("workflow", "policy"),
    [
        (at_review().marked(node="wait", started=-999), three_stages()),
        (at_review().marked(workflow_uid="before-the-resubmit"), three_stages()),
        (at_review().marked(), three_stages(repeatable=True)),
        (at_review().marked("draft"), three_stages()),
    ],
    ids=["argo retry", "argo resubmit", "repeatable", "another stage"],
)
def test_a_marker_that_does_not_count_is_no_duplicate(
    workflow: WorkflowBuilder, policy: PolicyBuilder
) -> None:
    assert word(decided(None, workflow, policy=policy)) == "Resume wait"


@pytest.mark.parametrize(
    ("workflow", "reason"),
    [
        (a_bare_workflow(), Reason.TASK_LABEL_MISSING),
        (a_workflow().labelled(task="8"), Reason.TASK_MISMATCH),
        (a_workflow().labelled(kind="ticket"), Reason.SELECTOR_MISMATCH),
    ],
)
def test_the_named_workflow_has_to_be_the_described_one(
    workflow: WorkflowBuilder, reason: Reason
) -> None:
    found = decided(a_request().named("play").selecting("kind=play"), workflow)
    assert end_of(found)[0] is reason
    assert facts_of(found).validated is False


def test_a_contradiction_counts_only_if_no_workflow_fits() -> None:
    other = three_stages().for_workflows({"kind": "x"}).with_spec(stageLabel="step")
    request = a_request().selecting("current-stage=draft")
    assert end_of(decided(request, policy=other))[0] is Reason.SELECTOR_MISMATCH
    fits = a_workflow("fits").labelled(kind="x", step=STAGE, current_stage="draft").gate()
    assert opened_by(decided(request, at_review(), fits, policy=other)) == ["wait"]


OLD, NEW = at_review("old").created(-900), at_review("new").created(-300)


@pytest.mark.parametrize(
    ("ambiguity", "result"),
    [
        ("Fail", "SeveralWorkflows"),
        ("Newest", "Resume wait"),
        ("NewestCancelOthers", "Resume wait"),
    ],
)
@pytest.mark.parametrize("workflows", [(OLD, NEW), (NEW, OLD)])
def test_of_several_workflows_the_policy_chooses(
    ambiguity: str, result: str, workflows: tuple[WorkflowBuilder, ...]
) -> None:
    found = decided(None, *workflows, policy=three_stages(ambiguity=ambiguity))
    assert word(found) == result
    if ambiguity == "Fail":
        assert end_of(found)[1] == (
            "2 live workflows match with labels task-id,task-id=7: 'new', 'old'"
        )
        assert facts_of(found).workflow is None
    else:
        order = order_of(found)
        assert order.key.name == "new"
        cancelled = ["old"] if ambiguity == "NewestCancelOthers" else []
        assert [older.key.name for older in facts_of(found).superseded] == cancelled


@pytest.mark.parametrize(
    "other",
    [
        a_workflow("other").in_stage("draft").created(-1),
        a_workflow("other").in_stage("release").created(-1),
        at_review("other").marked().created(-900),
        at_review("other").finished().created(-1),
        at_review("other").labelled(task="8").created(-1),
    ],
    ids=["earlier", "later", "older and resumed", "finished", "of another task"],
)
def test_a_workflow_elsewhere_makes_nothing_ambiguous_and_is_never_cancelled(
    other: WorkflowBuilder,
) -> None:
    policy = three_stages(ambiguity="NewestCancelOthers")
    found = decided(None, at_review(), other, policy=policy)
    assert (order_of(found).key.name, facts_of(found).superseded) == ("play", ())


def test_who_resumed_the_newest_before_it_died_still_ends_the_older_ones() -> None:
    mine = at_review("new").created(-300).marked(node="wait", uid="uid-of-wake")
    others = (OLD, at_review("newer").created(-200), a_workflow("draft").created(-900))
    policy = three_stages(ambiguity="NewestCancelOthers")
    found = decided(None, mine, *others, policy=policy)
    assert end_of(found)[0] is Reason.GATE_OPENED
    assert [older.key.name for older in facts_of(found).superseded] == ["old"]
    assert word(decided(None, mine, *others, policy=policy, fresh=False)) == "Look"
    fails = decided(None, mine, *others, policy=three_stages())
    assert (end_of(fails)[0], facts_of(fails).superseded) == (Reason.GATE_OPENED, ())


# --- a workflow that is being shut down ----------------------------------------------------------


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_a_workflow_that_is_being_terminated_is_too_late_for_any_request(phase: str) -> None:
    workflow = at_review(phase=phase).with_spec(shutdown="Terminate")
    assert end_of(decided(None, workflow)) == (
        Reason.WORKFLOW_FINISHED,
        "workflow 'play' is being terminated (spec.shutdown)",
    )
    assert word(decided(None, workflow, fresh=False)) == "Look"


def test_a_workflow_that_is_being_terminated_makes_nothing_ambiguous() -> None:
    other = at_review("other").with_spec(shutdown="Terminate")
    assert order_of(decided(None, at_review(), other)).key.name == "play"


def test_of_a_workflow_that_is_being_stopped_only_gates_of_exit_handlers_open() -> None:
    stopped = at_review().with_spec(shutdown="Stop")
    assert end_of(decided(None, stopped)) == (
        Reason.GATE_NOT_OPEN,
        "workflow 'play' is being stopped, and no gate in its exit handler is suspended",
    )
    leaving = at_review().gate("leave", name="play.onExit[0].leave").with_spec(shutdown="Stop")
    found = decided(None, leaving)
    assert opened_by(found) == ["leave"]
    assert order_of(found).shutdown == "Stop"


def test_a_suspended_workflow_that_is_being_stopped_is_not_set_going_again() -> None:
    stopped = a_workflow().in_stage(STAGE).suspended().with_spec(shutdown="Stop")
    assert end_of(decided(None, stopped))[0] is Reason.GATE_NOT_OPEN


@pytest.mark.parametrize("ambiguity", ["Newest", "NewestCancelOthers"])
@pytest.mark.parametrize(
    "newer",
    [
        at_review("new").created(-300).marked(),
        at_review("new").created(-300).marked().finished(),
    ],
)
def test_where_the_newest_is_meant_an_older_one_does_not_take_the_event_that_resumed_it(
    ambiguity: str, newer: WorkflowBuilder
) -> None:
    found = decided(
        None, at_review("older").created(-900), newer, policy=three_stages(ambiguity=ambiguity)
    )
    assert end_of(found)[0] is Reason.STAGE_ALREADY_RESUMED


@pytest.mark.parametrize(
    ("selector", "opens"),
    [
        ("current-stage in (draft,review)", True),
        ("current-stage!=release", True),
        ("current-stage in (draft,release)", False),
        ("current-stage notin (review)", False),
    ],
)
def test_without_a_stage_the_selector_still_has_to_fit_the_stage(
    selector: str, opens: bool
) -> None:
    request = a_request().selecting(f"task-id,{selector}")
    request.with_spec(targetStage=None, correlationData={"taskId": "7", "eventType": "of-no-stage"})
    found = decided(request, at_review())
    assert (word(found) == "Resume wait") is opens
    if not opens:
        assert end_of(found)[0] is Reason.STAGE_NOT_REACHED


def test_a_workflow_is_never_past_a_stage_that_it_may_come_to_again() -> None:
    beyond = a_workflow().in_stage("release")
    assert end_of(decided(None, beyond))[0] is Reason.STAGE_PASSED
    again = decided(None, beyond, policy=three_stages(repeatable=True))
    assert end_of(again)[0] is Reason.STAGE_NOT_REACHED


def test_an_earlier_workflow_is_waited_for_although_a_finished_one_matches() -> None:
    found = decided(None, at_review("old").finished(), a_workflow("new").in_stage("draft"))
    assert end_of(found)[0] is Reason.STAGE_NOT_REACHED


def test_a_message_names_five_and_counts_the_rest() -> None:
    names = [f"play-{number}" for number in range(7)]
    message = end_of(decided(None, *(at_review(name) for name in names)))[1]
    assert message.endswith("'play-6', 'play-5', 'play-4', 'play-3', 'play-2' and 2 more")


# --- within_reach --------------------------------------------------------------------------------


def test_offloaded_node_status_is_out_of_reach() -> None:
    assert end_of(decided(None, at_review().offloaded())) == (
        Reason.NODE_STATUS_OFFLOADED,
        (
            "the node status of workflow 'play' is offloaded to the database of Argo's controller; "
            "resume it through the Argo Server"
        ),
    )


def test_a_workflow_that_argo_would_not_write_is_not_touched() -> None:
    found = decided(None, at_review().with_status(nodes=[]))
    assert end_of(found) == (
        Reason.MALFORMED_WORKFLOW,
        "workflow 'play': status.nodes is a list, not an object",
    )


def test_compressed_node_status_is_read_before_it_is_decided_on() -> None:
    assert word(decided(None, at_review().compressed(), fresh=False)) == "Look"
    assert word(decided(None, at_review().compressed())) == "Resume wait"


@pytest.mark.parametrize(
    ("workflow", "watched", "read"),
    [
        (a_workflow().gate(inputs={"stage": STAGE}).compressed(), "Look", "Resume wait"),
        (a_workflow().gate(inputs={"stage": STAGE}).offloaded(), "Look", "NodeStatusOffloaded"),
        (a_workflow().with_status(nodes=[]), "Look", "MalformedWorkflow"),
        (a_workflow().gate(inputs={"stage": "draft"}), "StageNotReached", "StageNotReached"),
    ],
)
def test_a_stage_on_a_gate_that_is_out_of_sight_is_not_taken_for_an_early_one(
    workflow: WorkflowBuilder, watched: str, read: str
) -> None:
    policy = three_stages().with_spec(stageParameter="stage")
    assert word(decided(None, workflow, policy=policy, fresh=False)) == watched
    assert word(decided(None, workflow, policy=policy)) == read


# --- at_gate -------------------------------------------------------------------------------------

TWO = a_workflow().in_stage(STAGE).gate("a").gate("b")


@pytest.mark.parametrize(
    ("request_", "workflow", "result"),
    [
        (a_request(), TWO, "SeveralGates"),
        (a_request().at_gate("displayName=b"), TWO, "Resume b"),
        (a_request().with_spec(allGates=True), TWO, "Resume a b"),
        (a_request().with_spec(allGates=True).at_gate("displayName!=a"), TWO, "Resume b"),
        (a_request(), at_review(duration="1h"), "GateNotOpen"),
        (a_request().with_spec(allGates=True), at_review(duration="1h"), "GateNotOpen"),
        (a_request().at_gate("displayName=wait"), at_review(duration="1h"), "Resume wait"),
        (a_request().at_gate("displayName=x"), at_review(), "GateNotOpen"),
        (
            a_request().at_gate("displayName=wait"),
            at_review(phase="Succeeded"),
            "GateAlreadyOpened",
        ),
        (a_request(), at_review(phase="Succeeded"), "GateNotOpen"),
        (a_request(), a_workflow().in_stage(STAGE), "GateNotOpen"),
    ],
)
def test_exactly_the_gate_that_is_meant_is_opened(
    request_: RequestBuilder, workflow: WorkflowBuilder, result: str
) -> None:
    assert word(decided(request_, workflow)) == result


def test_several_gates_are_named_and_both_ways_out() -> None:
    assert end_of(decided(None, TWO))[1] == (
        "2 open gates of workflow 'play' match: 'a', 'b'; "
        "name one with nodeFieldSelector, or say allGates: true"
    )


@pytest.mark.parametrize(
    ("message", "duration", "by"),
    [
        ("Resumed by: map[Email:a@b User:cleo]", "", "map[Email:a@b User:cleo]"),
        ("x; Resumed by: workflowresume/first (uid 1)", "", "workflowresume/first (uid 1)"),
        (None, "", "somebody else"),
        (None, "1h", "its duration"),
    ],
)
def test_a_gate_that_was_opened_before_says_by_whom(
    message: str | None, duration: str, by: str
) -> None:
    workflow = at_review(phase="Succeeded", message=message, duration=duration)
    found = decided(a_request().at_gate("displayName=wait"), workflow)
    assert end_of(found) == (
        Reason.GATE_ALREADY_OPENED,
        f"gate 'wait' of workflow 'play' was opened by {by}",
    )
    assert facts_of(found).resumed_by == by


def test_an_opened_gate_of_a_repeatable_stage_may_open_again() -> None:
    found = decided(
        a_request().at_gate("displayName=wait"),
        at_review(phase="Succeeded"),
        policy=three_stages(repeatable=True),
    )
    assert end_of(found) == (
        Reason.GATE_NOT_OPEN,
        "no matching gate of workflow 'play' is suspended",
    )


def test_the_gate_of_another_stage_that_was_opened_is_not_ours() -> None:
    policy = three_stages().with_spec(stageParameter="stage")
    workflow = a_workflow().in_stage(STAGE).gate("first", phase="Succeeded")
    assert word(decided(None, workflow, policy=policy)) == "GateNotOpen"


@pytest.mark.parametrize(
    ("request_", "workflow", "gates", "lifted"),
    [
        (a_request(), a_workflow().in_stage(STAGE).suspended(), [], True),
        (a_request(), at_review().suspended(), ["wait"], False),
        (a_request().with_spec(allGates=True), at_review().suspended(), ["wait"], True),
        (a_request().with_spec(allGates=True), at_review(), ["wait"], False),
        (a_request(), at_review(duration="1h").suspended(), [], True),
    ],
    ids=["nothing else waits", "a gate waits", "all", "all, and it is not suspended", "a delay"],
)
def test_a_whole_workflow_suspend_is_lifted_if_nothing_else_waits_or_all_is_asked_for(
    request_: RequestBuilder, workflow: WorkflowBuilder, gates: list[str], lifted: bool
) -> None:
    found = decided(request_, workflow)
    assert (opened_by(found), order_of(found).lift_suspend) == (gates, lifted)


def test_a_whole_workflow_suspend_is_not_lifted_for_a_gate_that_is_named() -> None:
    workflow = a_workflow().in_stage(STAGE).suspended()
    assert word(decided(a_request().at_gate("displayName=x"), workflow)) == "GateNotOpen"


@pytest.mark.parametrize(
    ("deadline", "opened", "now", "result"),
    [
        (900, 0, 0, "Resume wait"),
        (60, 0, 7200, "Resume wait"),
        (60, -1, 7200, "Resume wait"),
        (60, 1, 7200, "DeadlineExceeded"),
        (0, -61, 0, "Resume wait"),
        (0, -60, 0, "Resume wait"),
        (0, -59, 0, "DeadlineExceeded"),
        (None, 840, 7200, "Resume wait"),
        (None, 841, 7200, "DeadlineExceeded"),
    ],
    ids=[
        "in time",
        "at the deadline, looked at long after",
        "before it, looked at long after",
        "a second too late",
        "decide at once: it was open",
        "decide at once: it opened in that second",
        "decide at once: it opened after",
        "the policy's deadline",
        "after the policy's deadline",
    ],
)
def test_a_gate_counts_if_it_opened_within_the_deadline_whenever_it_is_looked_at(
    deadline: int | None, opened: float, now: float, result: str
) -> None:
    request = a_request().with_spec(deadlineSeconds=deadline)
    workflow = at_review(started=opened)
    assert word(decided(request, workflow, now=NOW + timedelta(seconds=now))) == result


def test_a_gate_that_opened_too_late_is_named() -> None:
    found = decided(a_request().with_spec(deadlineSeconds=0), at_review(started=-1))
    assert end_of(found)[1] == "gate 'wait' of workflow 'play' opened only after the deadline"


def test_a_gate_whose_time_cannot_be_read_is_not_late() -> None:
    assert word(decided(None, at_review(startedAt="soon"))) == "Resume wait"


def test_a_request_without_a_time_of_creation_counts_from_now() -> None:
    observed = Scene().observed()
    metadata = observed.request.metadata.model_copy(update={"creation_timestamp": None})
    request = observed.request.model_copy(update={"metadata": metadata})
    case = Case(Scene().observed(), NOW)
    assert Case(type(observed)(request, (), ()), NOW).deadline == NOW + timedelta(seconds=900)
    assert case.deadline == NOW + timedelta(seconds=840)


def test_a_check_that_needs_the_workflow_may_not_come_before_it_is_known() -> None:
    with pytest.raises(LookupError, match="no workflow is known at this point of the chain"):
        of_workflow.within_reach(Case(Scene().observed(), NOW))


# --- parameters_fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "parameters", "reason"),
    [
        ({}, {"a": "x"}, Reason.UNKNOWN_PARAMETER),
        ({"a": supplied()}, {}, Reason.MISSING_PARAMETER),
        ({"a": given("x")}, {"a": "y"}, Reason.PARAMETER_ALREADY_SET),
        ({"a": supplied()}, {"a": "{{workflow.name}}"}, Reason.TEMPLATE_IN_PARAMETER),
        ({"a": supplied()}, {"a": "x {{= 1 }}"}, Reason.TEMPLATE_IN_PARAMETER),
    ],
)
def test_parameters_that_do_not_fit_are_rejected(
    outputs: dict[str, dict[str, object]], parameters: dict[str, str], reason: Reason
) -> None:
    request = a_request()
    for name, value in parameters.items():
        request.parameter(name, value)
    found = decided(request, at_review(outputs=outputs))
    assert end_of(found)[0] is reason
    assert facts_of(found).validated is False


def test_a_value_that_the_workflow_does_not_allow_is_rejected() -> None:
    workflow = at_review(outputs={"a": supplied()})
    workflow.node(
        "wait",
        inputs={"parameters": [{"name": "a", "value": "YES", "enum": ["YES", "NO"]}]},
        outputs={"parameters": [{"name": "a", **supplied()}]},
    )
    request = a_request().parameter("a", "MAYBE")
    assert end_of(decided(request, workflow))[0] is Reason.VALUE_NOT_ALLOWED


@pytest.mark.parametrize("value", ["{ x", "}}", "{ {x", "${x}", 'ünï\n"code"\\', ""])
def test_a_value_is_handed_on_as_it_is(value: str) -> None:
    found = decided(a_request().parameter("a", value), at_review(outputs={"a": supplied()}))
    assert order_of(found).gates[0].fills[0].value == value


@pytest.mark.parametrize("value", ["\x07", "a\x00", "\ud800", "\U000e0001"])
def test_a_value_that_argo_cannot_hand_on_is_rejected(value: str) -> None:
    found = decided(a_request().parameter("a", value), at_review(outputs={"a": supplied()}))
    assert end_of(found)[0] is Reason.VALUE_NOT_ALLOWED
    assert "a character that Argo cannot hand on" in end_of(found)[1]


def test_a_stage_may_allow_templates() -> None:
    found = decided(
        a_request().parameter("a", "{{workflow.name}}"),
        at_review(outputs={"a": supplied()}),
        policy=three_stages(allowTemplates=True),
    )
    assert order_of(found).gates[0].fills[0].value == "{{workflow.name}}"


def test_a_whole_workflow_suspend_takes_no_parameters() -> None:
    request = a_request().parameter("a", "x")
    found = decided(request, a_workflow().in_stage(STAGE).suspended())
    assert end_of(found)[0] is Reason.UNKNOWN_PARAMETER


# --- meant, attempt_due, circuit_closed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "what"),
    [
        (at_review(), "'wait'"),
        (a_workflow().in_stage(STAGE).suspended(), "spec.suspend"),
    ],
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
        (
            a_request().with_status(retry={"count": 1, "nextAttemptTime": at(5)}),
            "ApiUnavailable",
        ),
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


def test_who_waits_without_an_attempt_repeats_why() -> None:
    request = a_request().with_status(
        reason="ApiUnavailable", message="cut off", retry={"count": 0, "nextAttemptTime": at(5)}
    )
    assert end_of(decided(request))[1] == "cut off"


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
