"""The write that resumes changes what Argo's own resume changes, our marker, and nothing else.

`applied` evaluates a JSON-Patch as the API server does (RFC 6902 as in evanphx/json-patch): all of
it or nothing, and a test for null holds where there is nothing.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.api import constants
from resumer.core import packing, patches, values, workflows
from resumer.core.observation import ResumeOrder
from resumer.core.patches import Operation
from resumer.errors import PreconditionError
from tests.builders import (
    STAGE,
    Json,
    WorkflowBuilder,
    a_request,
    a_workflow,
    at,
    at_review,
    supplied,
)
from tests.builders import given as a_value
from tests.unit.core.scenes import decided, order_of

# --- a small evaluator ---------------------------------------------------------------------------


class TestFailedError(Exception):
    """A test of the patch did not hold, or a place is not there: the server answers 422."""

    __test__ = False


def _step(place: Any, token: str) -> Any:
    """The key or index of a token in a container."""
    return int(token) if isinstance(place, list) else token


def _there(place: Any, token: str) -> bool:
    if isinstance(place, list):
        return token.isdigit() and int(token) < len(place)
    return isinstance(place, dict) and token in place


def apply_patch(body: Json, operations: list[Operation]) -> Json:
    """The body after the patch.

    Raises:
        TestFailedError: An operation could not be carried out.
    """
    after = copy.deepcopy(body)
    for operation in operations:
        tokens = [
            token.replace("~1", "/").replace("~0", "~")
            for token in operation["path"].split("/")[1:]
        ]
        place: Any = after
        for token in tokens[:-1]:
            if not _there(place, token):
                raise TestFailedError(operation)
            place = place[_step(place, token)]
        last = tokens[-1]
        there = _there(place, last)
        match operation["op"]:
            case "test":
                if (place[_step(place, last)] if there else None) != operation["value"]:
                    raise TestFailedError(operation)
            case "add" if isinstance(place, list) and last == "-":
                place.append(copy.deepcopy(operation["value"]))
            case "add" if isinstance(place, dict):
                place[last] = copy.deepcopy(operation["value"])
            case "replace" if there:
                place[_step(place, last)] = copy.deepcopy(operation["value"])
            case "remove" if there:
                del place[_step(place, last)]
            case _:
                raise TestFailedError(operation)
    return after


def changes(before: Any, after: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The places where two JSON values differ."""
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(key, before.get(key), after.get(key)) for key in {*before, *after}]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        numbered = enumerate(zip(before, after, strict=True))
        pairs = [(str(index), old, new) for index, (old, new) in numbered]
    elif before != after:
        return {path}
    return {place for key, old, new in pairs for place in changes(old, new, (*path, key))}


# --- plain nodes ---------------------------------------------------------------------------------

ALLOWED = re.compile(
    r"status/nodes/[^/]+/(phase|finishedAt|message)"
    r"|status/nodes/[^/]+/outputs/parameters/\d+/(value|valueFrom)"
    r"|metadata/(annotations|labels)(/.+)?"
    r"|spec/suspend"
    r"|status/outputs(/parameters(/\d+/value)?)?"
)
FULL = (
    at_review(
        outputs={
            "number": supplied(),
            "kind": {**supplied("bug"), "globalName": "sort"},
            "done": a_value("yes"),
        },
        message="waits",
    )
    .gate("second", template="second", outputs={"number": supplied()})
    .gate("later", template="later", duration="1h")
    .node("build", type="Pod")
    .suspended()
    .annotated("note", "kept")
    .with_labels({constants.LABEL_ACTOR_EMAIL: "before.at.x"})
)


def full_order() -> ResumeOrder:
    request = a_request().saying(sender="cleo").parameter("number", "5")
    request.with_spec(allGates=True, setLabels={"current-stage": "release"})
    return order_of(decided(request, FULL))


def test_the_patch_makes_what_argos_own_resume_makes_and_our_marker() -> None:
    before, order = FULL.build(), full_order()
    after = apply_patch(before, patches.for_plain_nodes(order))
    wanted = copy.deepcopy(before)
    signature = "Resumed by: workflowresume/wake (uid uid-of-wake)"
    for name, message in (("wait", f"waits; {signature}"), ("second", signature)):
        node = wanted["status"]["nodes"][FULL.node_id(name)]
        node.update(phase="Succeeded", finishedAt=at(0), message=message)
        node["outputs"]["parameters"][0] = {"name": "number", "value": "5"}
    first = wanted["status"]["nodes"][FULL.node_id("wait")]
    first["outputs"]["parameters"][1] = {"name": "kind", "value": "bug", "globalName": "sort"}
    wanted["status"]["outputs"] = {"parameters": [{"name": "sort", "value": "bug"}]}
    del wanted["spec"]["suspend"]
    wanted["metadata"]["labels"] = {
        "task-id": "7",
        "current-stage": "release",
        constants.LABEL_ACTION: "Resume",
        constants.LABEL_ACTOR: "cleo",
    }
    marker = f"{constants.STAGE_MARKER_PREFIX}{STAGE}"
    wanted["metadata"]["annotations"] = {"note": "kept", marker: order.marker.encode()}
    assert after == wanted


def test_first_comes_everything_that_must_hold_and_then_everything_that_changes() -> None:
    kinds = [operation["op"] for operation in patches.for_plain_nodes(full_order())]
    assert kinds[0] == "test"
    assert kinds == sorted(kinds, key=lambda kind: kind != "test")


def test_the_patch_changes_only_what_a_resume_may_change() -> None:
    before = FULL.build()
    after = apply_patch(before, patches.for_plain_nodes(full_order()))
    for place in changes(before, after):
        assert ALLOWED.fullmatch("/".join(place)), place


@pytest.mark.parametrize(
    "workflow",
    [
        at_review(),
        at_review().with_labels({constants.LABEL_ACTOR: "before"}),
        at_review().marked("draft"),
        a_workflow().in_stage(STAGE).suspended(),
    ],
    ids=["nothing there", "an earlier actor", "an annotation", "the whole workflow"],
)
def test_after_the_patch_the_workflow_is_as_foreseen(workflow: WorkflowBuilder) -> None:
    found = decided(None, workflow)
    order = order_of(found)
    after = workflows.view(apply_patch(workflow.build(), patches.for_plain_nodes(order)))
    assert after.suspended is False
    assert not any(gate.is_open for gate in after.gates)
    assert after.markers[order.marker_key] == order.marker
    assert decided(None, workflow).what == found.what


def test_a_workflow_without_labels_and_annotations_gets_them() -> None:
    order = dataclasses.replace(full_order(), has_labels=False, stale_labels=(), gates=())
    order = dataclasses.replace(order, lift_suspend=False, has_annotations=False)
    bare = a_workflow().without_labels().build()
    after = apply_patch(bare, patches.for_plain_nodes(order))
    assert after["metadata"]["labels"] == order.labels
    assert after["metadata"]["annotations"] == {order.marker_key: order.marker.encode()}
    for change in ({"labels": {"a": "b"}}, {"annotations": {"a": "b"}}):
        changed = {**bare, "metadata": {**bare["metadata"], **change}}
        with pytest.raises(TestFailedError):
            apply_patch(changed, patches.for_plain_nodes(order))


def _node(body: Json) -> Json:
    node: Json = body["status"]["nodes"][FULL.node_id("wait")]
    return node


def _set(value: Json, **fields: Any) -> None:
    value.update(fields)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda body: _set(body["metadata"], uid="another"),
        lambda body: body["spec"].pop("suspend"),
        lambda body: _set(body["spec"], suspend=False),
        lambda body: _set(_node(body), phase="Succeeded"),
        lambda body: _set(_node(body), phase="Failed"),
        lambda body: _set(_node(body), type="Pod"),
        lambda body: _set(_node(body), startedAt=at(-1)),
        lambda body: body["status"]["nodes"].pop(FULL.node_id("second")),
        lambda body: _set(body["status"], nodes=None, compressedNodes="x"),
        lambda body: _set(_node(body)["outputs"]["parameters"][0], name="other"),
        lambda body: _set(_node(body)["outputs"], parameters=[]),
        lambda body: _node(body)["outputs"]["parameters"].reverse(),
        lambda body: _node(body)["outputs"]["parameters"][0].pop("valueFrom"),
        lambda body: body["metadata"]["labels"].pop(constants.LABEL_ACTOR_EMAIL),
    ],
    ids=[
        "recreated",
        "resumed as a whole",
        "resumed as a whole, written as false",
        "the gate was opened",
        "the gate failed",
        "the node is none",
        "the gate was started anew",
        "one gate of two is gone",
        "the nodes were compressed",
        "an output has another name",
        "the outputs are gone",
        "the outputs have another order",
        "an output was set",
        "an actor's label is gone",
    ],
)
def test_if_anything_changed_meanwhile_nothing_at_all_is_written(meanwhile: Any) -> None:
    body = FULL.build()
    meanwhile(body)
    with pytest.raises(TestFailedError):
        apply_patch(body, patches.for_plain_nodes(full_order()))


def test_what_the_order_does_not_touch_may_change_meanwhile() -> None:
    body = FULL.build()
    body["metadata"].update(resourceVersion="999")
    body["status"]["nodes"][FULL.node_id("build")].update(phase="Succeeded")
    apply_patch(body, patches.for_plain_nodes(full_order()))


TEXT = st.text(max_size=12) | st.sampled_from(["/spec/suspend", "~1", "a/b", "../x", "{{x}}"])


PARAMETER = TEXT.filter(
    lambda text: not values.is_template(text) and values.unfit_character(text) is None
)


@given(value=PARAMETER, sender=TEXT, node_id=TEXT.filter(bool), name=TEXT)
def test_nothing_that_a_user_writes_reaches_a_place_that_it_should_not(
    value: str, sender: str, node_id: str, name: str
) -> None:
    workflow = at_review(outputs={"number": supplied()}, displayName=name, message=sender)
    body = workflow.build()
    body["status"]["nodes"] = {node_id: body["status"]["nodes"][workflow.node_id("wait")]}
    found = workflows.view(body)
    request = a_request().saying(sender=sender).parameter("number", value)
    order = order_of(decided(request, workflow))
    order = dataclasses.replace(
        order, gates=(dataclasses.replace(order.gates[0], id=found.gates[0].id),)
    )
    after = apply_patch(body, patches.for_plain_nodes(order))
    for place in changes(body, after):
        kind = place[:3] if place[0] == "status" else place[:2]
        assert kind in {
            ("status", "nodes", node_id),
            ("metadata", "labels"),
            ("metadata", "annotations"),
        }
    json.dumps(patches.for_plain_nodes(order))


# --- compressed nodes ----------------------------------------------------------------------------


def unpacked(body: Json) -> Json:
    """The same Workflow with its nodes in plain sight."""
    status = dict(body["status"])
    nodes = packing.decode(status.pop("compressedNodes"))
    return {**body, "status": {**status, "nodes": nodes}}


def test_compressed_nodes_become_what_plain_ones_become() -> None:
    order = full_order()
    folded = copy.deepcopy(FULL).compressed().build()
    written = apply_patch(folded, patches.for_compressed_nodes(order, folded))
    plain = apply_patch(FULL.build(), patches.for_plain_nodes(order))
    assert unpacked(written) == plain
    assert "nodes" not in written["status"]


def test_compressed_nodes_are_written_only_over_the_version_that_was_read() -> None:
    folded = copy.deepcopy(FULL).compressed().build()
    operations = patches.for_compressed_nodes(full_order(), folded)
    kinds = [operation["op"] for operation in operations]
    assert kinds == sorted(kinds, key=lambda kind: kind != "test")
    for change in ({"resourceVersion": "101"}, {"uid": "another"}):
        changed = {**folded, "metadata": {**folded["metadata"], **change}}
        with pytest.raises(TestFailedError):
            apply_patch(changed, operations)


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [
        (lambda body: _set(_node(body), phase="Succeeded"), "GateNotOpen"),
        (lambda body: _set(_node(body), type="Pod"), "GateNotOpen"),
        (lambda body: _set(_node(body), startedAt=at(-1)), "GateNotOpen"),
        (lambda body: body["status"]["nodes"].pop(FULL.node_id("wait")), "GateNotOpen"),
        (lambda body: _set(body["status"]["nodes"], **{FULL.node_id("wait"): []}), "GateNotOpen"),
        (lambda body: _node(body)["outputs"]["parameters"].reverse(), "OutputSet"),
        (lambda body: _node(body)["outputs"]["parameters"][0].pop("valueFrom"), "OutputSet"),
        (lambda body: _set(_node(body)["outputs"], parameters=[]), "OutputSet"),
        (lambda body: _set(_node(body)["outputs"], parameters=["x"]), "OutputSet"),
        (lambda body: _set(_node(body), outputs=None), "OutputSet"),
        (lambda body: _node(body).pop("outputs"), "OutputSet"),
    ],
)
def test_a_compressed_gate_that_changed_meanwhile_is_not_written(
    meanwhile: Any, reason: str
) -> None:
    body = FULL.build()
    meanwhile(body)
    body["status"]["compressedNodes"] = packing.encode(body["status"].pop("nodes"))
    with pytest.raises(PreconditionError) as raised:
        patches.for_compressed_nodes(full_order(), body)
    assert raised.value.reason == reason
