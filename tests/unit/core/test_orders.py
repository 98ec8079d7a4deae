"""The order for a resume says who did it, as Argo's own server would, and leaves our marker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer.api import constants
from resumer.core import orders
from resumer.core.markers import Marker
from resumer.core.suspended import Gate
from resumer.core.workflows import NodeStorage
from tests.builders import (
    NOW,
    STAGE,
    WorkflowBuilder,
    a_request,
    a_workflow,
    at,
    at_review,
    supplied,
    three_stages,
)
from tests.unit.core.scenes import decided, order_of

SIGNATURE = "Resumed by: workflowresume/wake (uid uid-of-wake)"
MARKER_KEY = f"{constants.STAGE_MARKER_PREFIX}{STAGE}"


def test_an_order_names_the_workflow_the_gate_and_the_time() -> None:
    workflow = at_review(outputs={"a": supplied("x")})
    order = order_of(decided(None, workflow, now=NOW + timedelta(microseconds=999_999)))
    assert str(order.key) == "team/play"
    assert order.uid == "uid-of-play"
    assert (order.storage, order.lift_suspend) == (NodeStorage.PLAIN, False)
    assert order.finished_at == at(0)
    (gate,) = order.gates
    assert (gate.id, gate.started_at) == (workflow.node_id("wait"), at(-120))
    assert gate.message == SIGNATURE
    assert [(fill.name, fill.value) for fill in gate.fills] == [("a", "x")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, SIGNATURE),
        ("", SIGNATURE),
        ("waits", f"waits; {SIGNATURE}"),
        ("x" * 600, f"{'x' * 511}…; {SIGNATURE}"),
    ],
)
def test_the_message_of_the_node_is_kept_and_signed(before: str | None, after: str) -> None:
    order = order_of(decided(None, at_review(message=before)))
    assert order.gates[0].message == after


def test_the_marker_tells_gate_start_request_and_time() -> None:
    workflow = at_review()
    order = order_of(decided(None, workflow))
    assert order.marker_key == MARKER_KEY
    assert order.marker == Marker(
        workflow_uid="uid-of-play",
        node_id=workflow.node_id("wait"),
        started_at=at(-120),
        name="wake",
        uid="uid-of-wake",
        time=at(0),
    )


def test_the_marker_of_a_whole_workflow_suspend_names_no_gate() -> None:
    order = order_of(decided(None, a_workflow().in_stage(STAGE).suspended()))
    assert order.marker.is_whole_workflow
    assert order.marker.started_at == ""


def test_without_a_stage_the_marker_is_for_the_event_type() -> None:
    request = a_request().for_stage(None).of_event("merged")
    order = order_of(decided(request, a_workflow().gate()))
    assert order.marker_key == f"{constants.EVENT_MARKER_PREFIX}merged"


def test_of_several_gates_the_marker_names_the_first() -> None:
    workflow = a_workflow().in_stage(STAGE).gate("b").gate("a")
    order = order_of(decided(a_request().with_spec(allGates=True), workflow))
    assert [gate.display_name for gate in order.gates] == ["a", "b"]
    assert order.marker.node_id == workflow.node_id("a")


# --- labels --------------------------------------------------------------------------------------


def test_the_labels_are_those_of_the_stage_then_of_the_request_then_argos() -> None:
    policy = three_stages(setLabels={"current-stage": "release", "by": "policy"})
    order = order_of(
        decided(a_request().with_spec(setLabels={"by": "request", "empty": ""}), policy=policy)
    )
    assert order.labels == {
        "current-stage": "release",
        "by": "request",
        "empty": "",
        constants.LABEL_ACTION: "Resume",
    }


@pytest.mark.parametrize(
    ("sender", "label"),
    [
        ("cleo", "cleo"),
        ("cleo[bot]", "cleo-bot"),
        ("a@b.example", "a-b.example"),
        ("_x_", "x"),
        ("x" * 70, "x" * 63),
        ("a" + "-" * 62 + "b", "b"),
        ("ünï", "n"),
        ("[]", None),
        ("", None),
        (None, None),
    ],
)
def test_the_actor_is_the_sender_of_the_event_as_a_label_value(
    sender: str | None, label: str | None
) -> None:
    request = a_request() if sender is None else a_request().saying(sender=sender)
    assert order_of(decided(request)).labels.get(constants.LABEL_ACTOR) == label


@pytest.mark.parametrize(
    ("sender", "stale"),
    [
        (None, [constants.LABEL_ACTOR, constants.LABEL_ACTOR_EMAIL]),
        ("cleo", [constants.LABEL_ACTOR_EMAIL]),
    ],
)
def test_what_an_earlier_actor_left_is_taken_away(sender: str | None, stale: list[str]) -> None:
    labels = {constants.LABEL_ACTOR: "before", constants.LABEL_ACTOR_EMAIL: "before.at.x"}
    request = a_request() if sender is None else a_request().saying(sender=sender)
    order = order_of(decided(request, at_review().with_labels(labels)))
    assert list(order.stale_labels) == stale
    assert order.has_labels


# --- what the write makes of the workflow --------------------------------------------------------


def test_the_workflow_after_the_write_is_foreseen() -> None:
    workflow = (
        at_review()
        .gate("other", template="other", duration="1h")
        .suspended()
        .with_labels({constants.LABEL_ACTOR: "before"})
    )
    view = workflow.view()
    request = a_request().with_spec(allGates=True, setLabels={"current-stage": "release"})
    order = order_of(decided(request, workflow))
    after = orders.applied(view, order)
    assert after.labels == {
        "task-id": "7",
        "current-stage": "release",
        constants.LABEL_ACTION: "Resume",
    }
    assert not after.suspended
    assert {gate.display_name: gate.phase for gate in after.gates} == {
        "wait": "Succeeded",
        "other": "Running",
    }
    opened = after.gate(order.gates[0].id)
    assert opened is not None
    assert orders.is_signed_by(opened, "uid-of-wake")
    assert after.markers == {MARKER_KEY: order.marker}
    assert (after.has_annotations, after.has_labels) == (True, True)
    assert (after.uid, after.resource_version) == (view.uid, view.resource_version)


def test_a_suspension_that_is_not_lifted_stays() -> None:
    workflow = at_review().suspended()
    assert orders.applied(workflow.view(), order_of(decided(None, workflow))).suspended


# --- signatures ----------------------------------------------------------------------------------


def the_gate(workflow: WorkflowBuilder) -> Gate:
    return workflow.view().gates[0]


@pytest.mark.parametrize(
    ("message", "uid", "signed"),
    [
        (SIGNATURE, "uid-of-wake", True),
        (f"x; {SIGNATURE}", "uid-of-wake", True),
        (SIGNATURE, "uid-of", False),
        (SIGNATURE, "", False),
        ("Resumed by: workflowresume/wake (uid )", "", False),
        ("", "uid-of-wake", False),
    ],
)
def test_a_gate_is_signed_by_the_request_whose_uid_it_carries(
    message: str, uid: str, signed: bool
) -> None:
    assert orders.is_signed_by(the_gate(at_review(message=message)), uid) is signed


def test_a_long_name_of_who_opened_a_gate_is_cut() -> None:
    gate = the_gate(at_review(message=f"Resumed by: {'x' * 300}"))
    assert len(orders.opener(gate)) == 200
