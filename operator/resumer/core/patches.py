"""The write that resumes, as JSON-Patch (RFC 6902): first what must hold, then what changes.

The API server carries out all of it or nothing, and it evaluates the tests on the newest state, so
a write that went through is proof that the gate was open and is now opened by us. Never a
server-side apply: under Argo's minimal CRDs ``status`` is atomic and would be replaced as a whole.
Never a node that is not there: nodes are only tested and changed.

Values are written into exactly the fields that are named here; nothing a user wrote reaches a path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from resumer.core import exports, packing, suspended, workflows
from resumer.core.gates import Fill
from resumer.core.observation import GateOrder, ResumeOrder
from resumer.errors import PreconditionError

Operation = dict[str, Any]


def for_plain_nodes(order: ResumeOrder) -> list[Operation]:
    """The patch for a Workflow whose nodes lie open in ``status.nodes``."""
    return [
        _test("/metadata/uid", order.uid),
        *(operation for gate in order.gates for operation in _tests_of_gate(gate)),
        *_tests_of_workflow(order),
        *(operation for gate in order.gates for operation in _changes_of_gate(gate, order)),
        *_changes_of_workflow(order),
    ]


def for_compressed_nodes(order: ResumeOrder, body: Mapping[str, Any]) -> list[Operation]:
    """The patch for a Workflow with compressed nodes: unpacked, edited and packed as a whole.

    Args:
        order: What to do.
        body: The Workflow as just read; its resourceVersion guards the whole.

    Raises:
        PreconditionError: A gate of the order is no longer open in this body.
        MalformedWorkflowError: The compressed nodes cannot be unpacked.
    """
    nodes = copy.deepcopy(dict(workflows.nodes(body)))
    for gate in order.gates:
        _edit(nodes, gate, order)
    return [
        _test("/metadata/uid", order.uid),
        _test("/metadata/resourceVersion", body["metadata"]["resourceVersion"]),
        *_tests_of_workflow(order),
        {"op": "replace", "path": "/status/compressedNodes", "value": packing.encode(nodes)},
        *_changes_of_workflow(order),
    ]


def _tests_of_gate(gate: GateOrder) -> Iterator[Operation]:
    node = _node(gate)
    yield _test(f"{node}/type", "Suspend")
    yield _test(f"{node}/phase", suspended.RUNNING)
    yield _test(f"{node}/startedAt", gate.started_at)
    for fill in gate.fills:
        yield _test(f"{node}/outputs/parameters/{fill.index}/name", fill.name)


def _changes_of_gate(gate: GateOrder, order: ResumeOrder) -> Iterator[Operation]:
    node = _node(gate)
    yield {"op": "replace", "path": f"{node}/phase", "value": order.phase}
    yield {"op": "add", "path": f"{node}/finishedAt", "value": order.finished_at}
    yield {"op": "add", "path": f"{node}/message", "value": gate.message}
    for fill in gate.fills:
        parameter = f"{node}/outputs/parameters/{fill.index}"
        yield {"op": "add", "path": f"{parameter}/value", "value": fill.value}
        yield {
            "op": "remove",
            "path": f"{parameter}/valueFrom",
        }  # fails if somebody else set the value by now


def _tests_of_workflow(order: ResumeOrder) -> Iterator[Operation]:
    # Shut down meanwhile, it would not go on from the gate.
    yield _test("/spec/shutdown", order.shutdown)
    if order.lift_suspend:
        yield _test("/spec/suspend", True)
    if not order.has_annotations:
        yield _test("/metadata/annotations", None)
    if not order.has_labels:
        yield _test("/metadata/labels", None)
    yield from exports.tests(order)


def _changes_of_workflow(order: ResumeOrder) -> Iterator[Operation]:
    if order.lift_suspend:
        yield {"op": "remove", "path": "/spec/suspend"}
    if not order.has_annotations:
        yield {"op": "add", "path": "/metadata/annotations", "value": {}}
    if not order.has_labels:
        yield {"op": "add", "path": "/metadata/labels", "value": {}}
    yield {
        "op": "add",
        "path": f"/metadata/annotations/{_escape(order.marker_key)}",
        "value": order.marker.encode(),
    }
    for key, value in order.labels.items():
        yield {"op": "add", "path": f"/metadata/labels/{_escape(key)}", "value": value}
    for key in order.stale_labels:
        yield {"op": "remove", "path": f"/metadata/labels/{_escape(key)}"}
    yield from exports.changes(order)


def _edit(nodes: dict[str, Any], gate: GateOrder, order: ResumeOrder) -> None:
    """Does to an unpacked node what `_changes_of_gate` does to a plain one, with the same tests."""
    node = nodes.get(gate.id)
    wanted = {"type": "Suspend", "phase": suspended.RUNNING, "startedAt": gate.started_at}
    if not isinstance(node, dict) or {key: node.get(key) for key in wanted} != wanted:
        raise PreconditionError(
            f"gate {gate.display_name!r} is no longer open", reason="GateNotOpen"
        )
    node.update(phase=order.phase, finishedAt=order.finished_at, message=gate.message)
    for fill in gate.fills:
        parameter = _output(node, fill)
        if parameter.get("name") != fill.name or parameter.pop("valueFrom", None) is None:
            raise PreconditionError(f"output {fill.name!r} waits no more", reason="OutputSet")
        parameter["value"] = fill.value


def _output(node: Mapping[str, Any], fill: Fill) -> dict[str, Any]:
    """The output parameter to fill, or an empty one where there is none any more."""
    try:
        parameter = node["outputs"]["parameters"][fill.index]
    except (LookupError, TypeError):
        return {}
    return parameter if isinstance(parameter, dict) else {}


def _test(path: str, value: Any) -> Operation:
    return {"op": "test", "path": path, "value": value}


def _node(gate: GateOrder) -> str:
    return f"/status/nodes/{_escape(gate.id)}"


def _escape(key: str) -> str:
    """A key as a JSON-Pointer token (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
