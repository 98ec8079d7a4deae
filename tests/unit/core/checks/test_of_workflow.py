"""The checks that find the workflow: done already, the one right one, within reach."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer.api.outcomes import Reason
from resumer.core.case import Case
from resumer.core.checks import of_workflow
from resumer.core.observation import End
from tests.builders import (
    NOW,
    STAGE,
    PolicyBuilder,
    RequestBuilder,
    WorkflowBuilder,
    a_bare_workflow,
    a_request,
    a_workflow,
    at_review,
    three_stages,
)
from tests.unit.core.scenes import Scene, decided, end_of, facts_of, opened_by, order_of, word

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
    assert (facts.validated, facts.stage.name) == (True, STAGE)


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
    assert end_of(late) == (Reason.DEADLINE_EXCEEDED, f"waited until the deadline, but {message}")


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
    [at_review("new").created(-300).marked(), at_review("new").created(-300).marked().finished()],
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


def test_a_check_that_needs_the_workflow_may_not_come_before_it_is_known() -> None:
    with pytest.raises(LookupError, match="no workflow is known at this point of the chain"):
        of_workflow.within_reach(Case(Scene().observed(), NOW))
