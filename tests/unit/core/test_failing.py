"""An event that means "do not resume" fails the gate, where the policy says so and nowhere else."""

from __future__ import annotations

import pytest

from resumer.api import constants
from resumer.api.outcomes import Reason
from resumer.core import extraction, orders, patches, workflows
from resumer.core.markers import Marker
from resumer.core.suspended import FAILED, SUCCEEDED
from tests.builders import (
    STAGE,
    PolicyBuilder,
    RequestBuilder,
    WorkflowBuilder,
    a_policy,
    a_request,
    a_workflow,
    at_review,
    supplied,
    three_stages,
)
from tests.unit.core.scenes import decided, end_of, order_of, word
from tests.unit.core.test_patches import apply_patch

SIGNATURE = "Failed by: workflowresume/wake (uid uid-of-wake) for event closed"


def closed() -> RequestBuilder:
    """A request whose event fails the gate of the policies here."""
    return a_request().for_stage(None).of_event("closed")


def failing(**settings: object) -> PolicyBuilder:
    """The policy of most tests, whose stage `STAGE` fails on ``closed``."""
    return three_stages(failOn=["closed"], **settings)


def everywhere(**settings: object) -> PolicyBuilder:
    """Each stage fails on ``closed``."""
    return three_stages(**settings).defaults(failOn=["closed"])


def test_the_order_is_that_of_a_resume_with_another_phase_message_and_action() -> None:
    order = order_of(decided(closed(), at_review(), policy=failing()))
    resume = order_of(decided(None, at_review(), policy=failing()))
    assert (order.phase, resume.phase) == (FAILED, SUCCEEDED)
    assert [gate.message for gate in order.gates] == [SIGNATURE]
    assert order.labels == {constants.LABEL_ACTION: "Stop"}
    assert order.marker_key == resume.marker_key
    assert order.marker.failed
    assert [(gate.id, gate.started_at) for gate in order.gates] == [
        (gate.id, gate.started_at) for gate in resume.gates
    ]


def test_the_write_tests_the_same_and_makes_the_node_failed() -> None:
    workflow = at_review()
    order = order_of(decided(closed(), workflow, policy=failing()))
    resume = order_of(decided(None, workflow, policy=failing()))
    patch = patches.for_plain_nodes(order)
    tests = [operation for operation in patch if operation["op"] == "test"]
    assert tests == [one for one in patches.for_plain_nodes(resume) if one["op"] == "test"]
    body = apply_patch(workflow.build(), patch)
    node = body["status"]["nodes"][workflow.node_id("wait")]
    assert (node["phase"], node["message"]) == ("Failed", SIGNATURE)
    assert node["finishedAt"] == order.finished_at
    view = orders.applied(workflow.view(), order)
    assert view.gates == workflows.view(body).gates
    assert view.markers == workflows.view(body).markers == {order.marker_key: order.marker}


def test_compressed_nodes_are_failed_too() -> None:
    workflow = at_review().compressed()
    order = order_of(decided(closed(), workflow, policy=failing()))
    body = apply_patch(workflow.build(), patches.for_compressed_nodes(order, workflow.build()))
    (gate,) = workflows.view(body, unpack=True).gates
    assert gate.phase == FAILED


def test_a_marker_keeps_that_the_gate_was_failed() -> None:
    marker = Marker("w", "n", "s", "wake", "u", "t", failed=True)
    assert Marker.decode(marker.encode()) == marker
    opened = Marker("w", "n", "s", "wake", "u", "t")
    assert Marker.decode(opened.encode()) == opened
    assert "failed" not in opened.encode()


def test_the_stages_labels_are_not_set_and_the_requests_are() -> None:
    policy = failing(setLabels={"current-stage": "release"})
    order = order_of(decided(closed(), at_review(), policy=policy))
    assert "current-stage" not in order.labels
    request = closed().with_spec(setLabels={"current-stage": "rework"})
    assert order_of(decided(request, at_review(), policy=policy)).labels["current-stage"] == (
        "rework"
    )


@pytest.mark.parametrize("event_type", sorted(extraction.UNWELCOME))
def test_such_an_event_opens_nothing_where_no_policy_asks_for_it(event_type: str) -> None:
    request = a_request().for_stage(None).of_event(event_type)
    reason, message = end_of(decided(request, at_review(), policy=three_stages()))
    assert reason is Reason.EVENT_TYPE_MISMATCH
    assert message == (
        f"events of type {event_type!r} open no gate by themselves, and no stage of policy 'play' "
        "lists them under eventTypes or failOn"
    )
    welcome = a_policy().stage(STAGE, event_type)
    assert word(decided(request, at_review(), policy=welcome)) == "Resume wait"
    meant = a_request().for_stage(STAGE).of_event(event_type)
    assert word(decided(meant, at_review(), policy=three_stages())) == "Resume wait"


def test_the_types_that_open_nothing_are_those_of_the_rules() -> None:
    assert {rule.type for rule in extraction.DEFAULT.types} >= extraction.UNWELCOME


def test_nothing_fails_unless_the_policy_says_so() -> None:
    request = a_request().of_event("closed")
    assert order_of(decided(request, at_review(), policy=three_stages())).phase == SUCCEEDED


@pytest.mark.parametrize(
    ("request_", "workflow", "policy", "said"),
    [
        (closed(), at_review(), failing(), "Resume wait"),
        (closed(), at_review(), everywhere(), "Resume wait"),
        (closed(), a_workflow().in_stage("draft").gate(), failing(), "StageNotReached"),
        (closed(), a_workflow().in_stage("draft").gate(), everywhere(), "Resume wait"),
        (closed(), a_workflow().in_stage("release").gate(), failing(), "StagePassed"),
        (closed(), a_workflow().in_stage("release").gate(), everywhere(), "Resume wait"),
        (closed(), a_workflow().gate(), everywhere(), "StageNotReached"),
        (closed(), at_review().marked(), everywhere(), "StageNotReached"),
        (closed(), at_review().marked(), failing(), "StageAlreadyResumed"),
        (closed(), at_review().finished(), everywhere(), "WorkflowFinished"),
        (closed().for_stage("draft"), at_review(), everywhere(), "StagePassed"),
        (closed().for_stage("release"), at_review(), everywhere(), "StageNotReached"),
        (closed().selecting("current-stage=review"), at_review(), everywhere(), "Resume wait"),
        (closed().selecting("current-stage=draft"), at_review(), everywhere(), "StagePassed"),
        (closed().selecting("current-stage=draft"), at_review(), failing(), "SelectorMismatch"),
        (closed().selecting("current-stage!=draft"), at_review(), everywhere(), "Resume wait"),
        (
            closed(),
            a_workflow().in_stage("draft").gate(),
            three_stages(failOn=[]).defaults(failOn=["closed"]),
            "Resume wait",
        ),
        (
            closed(),
            at_review(),
            three_stages(failOn=[]).defaults(failOn=["closed"]),
            "StageNotReached",
        ),
        (closed(), a_workflow().gate(), a_policy().defaults(failOn=["closed"]), "Resume wait"),
    ],
)
def test_an_event_that_fails_gates_means_the_stage_that_the_workflow_is_in(
    request_: RequestBuilder, workflow: WorkflowBuilder, policy: PolicyBuilder, said: str
) -> None:
    found = decided(request_, workflow, policy=policy)
    assert word(found) == said
    if said.startswith("Resume"):
        assert order_of(found).phase == FAILED


def test_a_type_that_fails_gates_opens_none() -> None:
    request = closed().for_stage("draft")
    reason, message = end_of(
        decided(request, a_workflow().in_stage("draft").gate(), policy=failing())
    )
    assert reason is Reason.EVENT_TYPE_MISMATCH
    assert "events of type 'closed' fail the gates of 'review' by policy 'play'" in message
    assert "the request is for stage 'draft'" in message


def test_a_workflow_that_is_suspended_as_a_whole_has_no_gate_to_fail() -> None:
    workflow = a_workflow().in_stage(STAGE).suspended()
    reason, message = end_of(decided(closed(), workflow, policy=failing()))
    assert reason is Reason.NO_GATE_TO_FAIL
    assert "no open gate that event 'closed' could fail; argo stop ends the workflow" in message


def test_of_a_suspended_workflow_with_a_gate_only_the_gate_is_failed() -> None:
    request = closed().with_spec(allGates=True)
    order = order_of(decided(request, at_review().gate("b").suspended(), policy=failing()))
    assert [gate.display_name for gate in order.gates] == ["b", "wait"]
    assert not order.lift_suspend


def test_outputs_get_what_values_there_are() -> None:
    workflow = at_review(outputs={"a": supplied(), "b": supplied("x"), "c": supplied()})
    request = closed().parameter("a", "1")
    order = order_of(decided(request, workflow, policy=failing()))
    assert [(fill.name, fill.value) for fill in order.gates[0].fills] == [("a", "1"), ("b", "x")]
    unknown = decided(closed().parameter("z", "1"), workflow, policy=failing())
    assert end_of(unknown)[0] is Reason.UNKNOWN_PARAMETER


def test_a_dry_run_says_that_it_would_fail() -> None:
    found = decided(closed().with_spec(dryRun=True), at_review(), policy=failing())
    assert end_of(found) == (
        Reason.WOULD_FAIL,
        "would fail 'wait' of workflow 'play'; nothing was written",
    )


def test_older_workflows_are_not_terminated_with_it() -> None:
    policy = failing(ambiguity="NewestCancelOthers")
    found = decided(closed(), at_review(), at_review("old").created(-9999), policy=policy)
    assert order_of(found).phase == FAILED
    assert found.facts.superseded == ()


@pytest.mark.parametrize("known_by", ["marker", "message"])
def test_a_request_finds_its_own_trace(known_by: str) -> None:
    workflow = at_review(phase="Failed", message=SIGNATURE)
    if known_by == "marker":
        marker = order_of(decided(closed(), at_review(), policy=everywhere())).marker
        workflow = (
            a_workflow()
            .in_stage(STAGE)
            .annotated(f"{constants.STAGE_MARKER_PREFIX}{STAGE}", marker.encode())
        )
    found = decided(closed(), workflow, policy=everywhere())
    assert end_of(found)[0] is Reason.FAILED_BY_EVENT
    if known_by == "marker":
        assert found.facts.stage.name == STAGE
    else:
        assert end_of(found)[1] == "failed 'wait' of workflow 'play'"


@pytest.mark.parametrize("request_", [closed(), a_request()], ids=["to fail", "to resume"])
def test_whoever_comes_after_is_told_who_failed_the_gate(request_: RequestBuilder) -> None:
    order = order_of(decided(closed(), at_review(), policy=failing()))
    after = at_review(phase="Failed").annotated(order.marker_key, order.marker.encode())
    another = a_request("another").with_spec(**request_.build()["spec"])
    assert end_of(decided(another, after, policy=failing())) == (
        Reason.GATE_ALREADY_FAILED,
        "the gate of stage 'review' of workflow 'play' was failed by workflowresume/wake",
    )
