"""A view of a Workflow shows what Argo means by its JSON, and survives every other JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resumer.api import constants
from resumer.core import packing, workflows
from resumer.core.keys import Key
from resumer.core.markers import Marker
from resumer.core.suspended import Gate, Output
from resumer.core.workflows import NodeStorage, WorkflowView
from resumer.errors import MalformedWorkflowError
from tests import builders
from tests.builders import a_bare_workflow, a_workflow, at, at_review, supplied

# --- what a view shows -----------------------------------------------------------------------


def the_gate(view: WorkflowView) -> Gate:
    assert view.problem == ""
    assert len(view.gates) == 1
    return view.gates[0]


def test_a_view_shows_what_identifies_the_workflow() -> None:
    view = a_workflow("play").in_stage("review").with_uid("u-1").created(-5).view()
    assert view.key == Key(builders.NAMESPACE, "play")
    assert str(view.key) == "team/play"
    assert (view.uid, view.resource_version, view.created) == ("u-1", "100", at(-5))
    assert view.labels == {"task-id": "7", "current-stage": "review"}
    assert (view.phase, view.finished, view.suspended) == ("Running", False, False)
    assert (view.storage, view.unpacked) == (NodeStorage.PLAIN, True)
    assert (view.has_labels, view.has_annotations) == (True, False)


def test_an_outline_shows_what_the_metadata_tell_and_that_the_rest_is_not_read() -> None:
    whole = a_workflow("play").in_stage("review").marked("draft").gate("wait")
    outline = workflows.outline(whole.metadata())
    known = ("key", "uid", "resource_version", "created", "labels", "markers", "finished")
    assert [getattr(outline, name) for name in known] == [
        getattr(whole.view(), name) for name in known
    ]
    assert (outline.read, outline.gates, outline.problem) == (False, (), "")
    assert whole.view().read


def an_output(
    index: int,
    name: str,
    *,
    supplied: bool = False,
    value: str | None = None,
    default: str | None = None,
    global_name: str = "",
) -> Output:
    return Output(
        index=index,
        name=name,
        supplied=supplied,
        value=value,
        default=default,
        allowed=(),
        global_name=global_name,
    )


def test_a_view_shows_a_gate_with_its_inputs_and_outputs() -> None:
    workflow = a_workflow().gate(
        "wait",
        template="approve",
        inputs={"stage": "review"},
        outputs={
            "number": supplied(),
            "kind": {**supplied("bug"), "globalName": "sort"},
            "done": builders.given("yes"),
        },
        message="before",
    )
    gate = the_gate(workflow.view())
    assert gate == Gate(
        id=workflow.node_id("wait"),
        name="play[0].wait",
        display_name="wait",
        template_name="approve",
        ref_name="",
        phase="Running",
        started_at=at(-120),
        message="before",
        delay=False,
        inputs=(("stage", "review"),),
        outputs=(
            an_output(0, "number", supplied=True),
            an_output(1, "kind", supplied=True, default="bug", global_name="sort"),
            an_output(2, "done", value="yes"),
        ),
    )
    assert gate.is_open
    assert workflow.view().gate(gate.id) == gate
    assert workflow.view().gate("another") is None


def test_only_suspend_nodes_are_gates() -> None:
    view = a_workflow().node("build", type="Pod").node("loop", type="Retry").view()
    assert view.gates == ()


@pytest.mark.parametrize(
    ("phase", "is_open"),
    [
        ("Running", True),
        ("Pending", False),
        ("Succeeded", False),
        ("Failed", False),
        ("Error", False),
        ("Skipped", False),
        ("Omitted", False),
        ("running", False),
        ("", False),
    ],
)
def test_a_gate_is_open_while_its_phase_is_running(phase: str, is_open: bool) -> None:
    assert the_gate(a_workflow().gate(phase=phase).view()).is_open is is_open


def test_the_values_that_an_input_allows_bound_the_output_of_the_same_name() -> None:
    allowed = [{"name": "answer", "value": "YES", "enum": ["YES", "NO", 3]}]
    workflow = a_workflow().gate(outputs={"answer": supplied()}, inputs=None)
    body = workflow.build()
    body["status"]["nodes"][workflow.node_id("wait")]["inputs"] = {"parameters": allowed}
    assert the_gate(workflows.view(body)).outputs[0].allowed == ("YES", "NO", "3")


def test_the_place_of_an_output_counts_what_is_no_parameter() -> None:
    workflow = a_workflow().gate(outputs={"answer": supplied()})
    body = workflow.build()
    node = body["status"]["nodes"][workflow.node_id("wait")]
    node["outputs"]["parameters"].insert(0, "junk")
    assert [output.index for output in the_gate(workflows.view(body)).outputs] == [1]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ({"value": "a"}, "a"),
        ({"value": 5}, "5"),
        ({"value": True}, "true"),
        ({"value": {"a": [1]}}, '{"a": [1]}'),
        ({"default": "b"}, "b"),
        ({"value": None, "default": "b"}, None),
        ({}, None),
    ],
)
def test_an_input_reads_as_the_text_that_argo_makes_of_it(
    parameter: dict[str, Any], value: str | None
) -> None:
    workflow = a_workflow().gate(inputs={"x": "y"})
    body = workflow.build()
    node = body["status"]["nodes"][workflow.node_id("wait")]
    node["inputs"]["parameters"] = [{"name": "x", **parameter}]
    assert the_gate(workflows.view(body)).input("x") == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("displayName", "wait"),
        ("name", "play[0].wait"),
        ("id", a_workflow().node_id("wait")),
        ("phase", "Running"),
        ("templateName", "approve"),
        ("templateRef.name", ""),
        ("templateRef.template", ""),
        ("inputs.parameters.stage.value", "review"),
        ("inputs.parameters.other.value", ""),
    ],
)
def test_the_fields_of_a_gate_are_those_of_argos_selector(field: str, value: str) -> None:
    assert the_gate(a_workflow().gate(inputs={"stage": "review"}).view()).field(field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [("templateName", "approve"), ("templateRef.name", "ref"), ("templateRef.template", "approve")],
)
def test_a_gate_of_a_template_reference_is_found_by_the_referenced_template(
    field: str, value: str
) -> None:
    reference = {"name": "ref", "template": "approve"}
    gate = the_gate(a_workflow().gate(templateName=None, templateRef=reference).view())
    assert gate.field(field) == value


# --- delays: where Argo keeps the template of a node -------------------------------------------

SUSPEND = {"suspend": {"duration": "1h"}}
INLINE_STEP = {"name": "main", "steps": [[{"name": "wait", "inline": SUSPEND}]]}
INLINE_TASK = {"name": "main", "dag": {"tasks": [{"name": "wait", "inline": SUSPEND}]}}
NESTED = {"name": "main", "steps": [[{"name": "inner", "inline": {"dag": INLINE_TASK["dag"]}}]]}
REFERENCE = {"name": "lib", "template": "hold"}


def delays(workflow: builders.WorkflowBuilder) -> list[bool]:
    return [gate.delay for gate in workflow.view().gates]


@pytest.mark.parametrize(
    ("duration", "delay"),
    [
        ("", False),
        ("20", True),
        ("6h", True),
        ("{{inputs.parameters.hold}}", True),
        ("{{ inputs.parameters.hold }}", True),
        ("{{inputs.parameters.empty}}", False),
        ("{{inputs.parameters.absent}}", False),
        ("{{workflow.parameters.hold}}", True),
    ],
)
def test_a_suspend_with_a_duration_is_a_delay(duration: str, delay: bool) -> None:
    inputs = {"hold": "5m", "empty": ""}
    assert delays(a_workflow().gate(duration=duration, inputs=inputs)) == [delay]


def test_a_duration_that_is_a_number_is_a_delay_too() -> None:
    workflow = a_workflow().template("hold", suspend={"duration": 20})
    assert delays(workflow.node("wait", templateName="hold")) == [True]


@pytest.mark.parametrize(
    ("fields", "status", "delay"),
    [
        ({"templateRef": REFERENCE}, {"namespaced/lib/hold": SUSPEND}, True),
        ({"templateRef": REFERENCE}, {"cluster/lib/hold": SUSPEND}, False),
        (
            {"templateRef": {**REFERENCE, "clusterScope": True}},
            {"cluster/lib/hold": SUSPEND},
            True,
        ),
        (
            {"templateName": "hold", "templateScope": "namespaced/lib"},
            {"namespaced/lib/hold": SUSPEND},
            True,
        ),
        (
            {"templateName": "hold", "templateScope": "cluster/lib"},
            {"namespaced/lib/hold": SUSPEND},
            False,
        ),
        ({"templateScope": "namespaced/lib"}, {"namespaced/lib/inline/wait": SUSPEND}, True),
        ({"templateScope": "namespaced/lib"}, {"namespaced/lib/inline/other": SUSPEND}, False),
    ],
)
def test_a_template_from_elsewhere_is_found_where_argo_stores_it(
    fields: dict[str, Any], status: dict[str, Any], delay: bool
) -> None:
    assert delays(a_workflow().node("wait", **fields).with_status(storedTemplates=status)) == [
        delay
    ]


def test_with_a_workflow_template_the_stored_spec_counts() -> None:
    stored = {"templates": [{"name": "hold", **SUSPEND}]}
    workflow = a_workflow().template("hold", suspend={}).node("wait", templateName="hold")
    assert delays(workflow) == [False]
    assert delays(workflow.with_status(storedWorkflowTemplateSpec=stored)) == [True]


@pytest.mark.parametrize("template", [INLINE_STEP, INLINE_TASK], ids=["step", "task"])
@pytest.mark.parametrize("name", ["wait", "wait(0)", "wait(1:a)"])
def test_an_inline_template_is_that_of_the_step_or_task(
    template: dict[str, Any], name: str
) -> None:
    workflow = a_workflow().with_spec(templates=["junk", {"name": "other"}, template])
    assert delays(workflow.node(name)) == [True]


def test_an_inline_template_may_lie_in_an_inline_template() -> None:
    workflow = a_workflow().with_spec(templates=[NESTED]).node("inner", type="DAG")
    assert delays(workflow.node("wait", boundaryID=workflow.node_id("inner"))) == [True]


@pytest.mark.parametrize(
    "boundary", ["wait", "absent", "play"], ids=["itself", "nowhere", "without such a step"]
)
def test_an_inline_template_that_is_not_to_be_found_is_no_delay(boundary: str) -> None:
    workflow = a_workflow()
    assert delays(workflow.node("wait", boundaryID=workflow.node_id(boundary))) == [False]


# --- suspension, ends, storage -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("suspend", "suspended"), [(True, True), (False, False), (None, False), ("true", False)]
)
def test_a_workflow_is_suspended_as_a_whole_if_its_spec_says_true(
    suspend: object, suspended: bool
) -> None:
    assert a_workflow().with_spec(suspend=suspend).view().suspended is suspended


@pytest.mark.parametrize(
    ("workflow", "finished"),
    [
        (a_workflow(), False),
        (a_workflow().with_status(phase="Pending"), False),
        (a_workflow().with_labels({constants.LABEL_COMPLETED: "false"}), False),
        (a_workflow().with_labels({constants.LABEL_COMPLETED: "true"}), True),
        (a_workflow().with_status(phase="Succeeded"), True),
        (a_workflow().with_status(phase="Failed"), True),
        (a_workflow().with_status(phase="Error"), True),
    ],
)
def test_a_workflow_is_finished_by_its_label_or_its_phase(
    workflow: builders.WorkflowBuilder, finished: bool
) -> None:
    assert workflow.view().finished is finished


def test_compressed_nodes_are_seen_only_if_asked_for() -> None:
    workflow = a_workflow().gate().compressed()
    folded, unfolded = workflow.view(), workflow.view(unpack=True)
    assert (folded.storage, folded.unpacked, folded.gates) == (NodeStorage.COMPRESSED, False, ())
    assert (unfolded.storage, unfolded.unpacked) == (NodeStorage.COMPRESSED, True)
    assert unfolded.gates == a_workflow().gate().view().gates


def test_offloaded_nodes_are_never_seen() -> None:
    view = a_workflow().gate().offloaded().view(unpack=True)
    assert (view.storage, view.unpacked, view.gates) == (NodeStorage.OFFLOADED, False, ())


@pytest.mark.parametrize("shutdown", [True, 1, {}, ["Stop"]])
def test_a_shutdown_that_is_no_text_is_a_problem(shutdown: object) -> None:
    view = a_workflow().gate().with_spec(shutdown=shutdown).view()
    assert view.problem.startswith("spec.shutdown is ")
    assert (view.shutdown, view.gates) == (None, ())


@pytest.mark.parametrize("shutdown", [None, "", "Later"])
def test_a_shutdown_that_argo_does_not_know_shuts_nothing_down(shutdown: object) -> None:
    view = a_workflow().gate().with_spec(shutdown=shutdown).view()
    assert not view.terminated
    assert view.leads_on(the_gate(view))


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"nodes": []}, "status.nodes is a list, not an object"),
        ({"nodes": "x"}, "status.nodes is a string, not an object"),
        ({"nodes": False}, "status.nodes is a boolean, not an object"),
        ({"nodes": 5}, "status.nodes is a number, not an object"),
        ({"outputs": "x"}, "status.outputs is a string"),
        ({"outputs": {"parameters": {}}}, "status.outputs.parameters is an object"),
        ({"nodes": {}, "compressedNodes": "%"}, "status.compressedNodes is not base64"),
        ({"nodes": {}, "compressedNodes": 5}, "status.compressedNodes is a number, not text"),
        (
            {"compressedNodes": packing.encode({})},
            "status has both nodes and compressedNodes",
        ),
    ],
)
def test_what_argo_would_not_write_is_a_problem_and_shows_no_gate(
    status: dict[str, Any], problem: str
) -> None:
    view = a_workflow().gate().with_status(**status).view(unpack=True)
    assert (view.problem, view.gates) == (problem, ())


@pytest.mark.parametrize(
    ("outputs", "has_outputs", "exported"),
    [
        (None, False, None),
        ({}, True, None),
        ({"parameters": None}, True, None),
        ({"parameters": []}, True, ()),
        ({"parameters": [{"name": "a"}, 5]}, True, ("a", "")),
    ],
)
def test_a_view_shows_what_the_workflow_exports(
    outputs: object, has_outputs: bool, exported: tuple[str, ...] | None
) -> None:
    view = a_workflow().gate().with_status(outputs=outputs).view()
    assert (view.problem, view.has_outputs, view.exported) == ("", has_outputs, exported)


@pytest.mark.parametrize("status", [{"nodes": None}, {}, None, "text"])
def test_a_workflow_that_was_not_begun_has_no_gates_and_no_problem(status: object) -> None:
    body = {**a_workflow().build(), "status": status}
    assert (workflows.view(body).gates, workflows.view(body).problem) == ((), "")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"startedAt": None}, "has no startedAt"),
        ({"startedAt": 5}, "has no startedAt"),
        ({"outputs": {"parameters": [supplied()]}}, "has a supplied output without name"),
        ({"outputs": {"parameters": [{"name": 5, **supplied()}]}}, "supplied output without name"),
        (
            {"outputs": {"parameters": [{"name": "a", **supplied()}] * 2}},
            "has two supplied outputs of a name",
        ),
    ],
)
def test_an_open_gate_that_a_write_could_not_pin_is_a_problem(
    fields: dict[str, Any], problem: str
) -> None:
    view = a_workflow().node("wait", **fields).view()
    assert problem in view.problem
    assert view.gates == ()
    assert a_workflow().node("wait", **fields, phase="Succeeded").view().problem == ""


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T13:00:00+01:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_moment_has_a_time_zone_and_is_a_time(text: str, moment: datetime | None) -> None:
    assert workflows.moment(text) == moment


# --- markers -----------------------------------------------------------------------------------


def test_a_marker_is_read_as_it_was_written() -> None:
    marker = Marker("w", "play-1", "t", "wake", "u", "now")
    assert Marker.decode(marker.encode()) == marker
    assert not marker.is_whole_workflow
    assert Marker("w", constants.WHOLE_WORKFLOW, "", "wake", "u", "now").is_whole_workflow


@pytest.mark.parametrize("text", ["", "x", "[]", "5", "null", "[" * 100_000])
def test_what_is_no_marker_is_none(text: str) -> None:
    assert Marker.decode(text) is None


def test_a_view_has_the_markers_of_this_very_workflow_only() -> None:
    workflow = (
        a_workflow()
        .marked("review", by="one")
        .marked(event_type="reviewed", by="two")
        .marked("draft", workflow_uid="uid-before-the-resubmit")
        .annotated(f"{constants.STAGE_MARKER_PREFIX}broken", "{")
        .annotated("note", "text")
    )
    view = workflow.view()
    assert {key: marker.name for key, marker in view.markers.items()} == {
        f"{constants.STAGE_MARKER_PREFIX}review": "one",
        f"{constants.EVENT_MARKER_PREFIX}reviewed": "two",
    }
    assert view.has_annotations


def test_an_annotation_that_is_no_text_is_no_marker() -> None:
    body = a_workflow().annotated(f"{constants.STAGE_MARKER_PREFIX}review", "").build()
    body["metadata"]["annotations"] = {f"{constants.STAGE_MARKER_PREFIX}review": 5}
    assert workflows.view(body).markers == {}


# --- hostile JSON ------------------------------------------------------------------------------

TEXTS = st.sampled_from(
    ["", "Suspend", "Running", "Succeeded", "true", "local/play", "main", "wait", "play", "\ud800"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.text(max_size=3), inner),
    max_leaves=6,
)


def rich() -> dict[str, Any]:
    """A body in which every field that a view looks at is set."""
    return (
        at_review(
            inputs={"stage": "review"},
            outputs={"number": supplied("1"), "done": builders.given("yes")},
            message="m",
        )
        .gate("second", templateName=None, templateRef=REFERENCE)
        .gate("third", templateName=None)
        .marked("draft", node="wait")
        .suspended()
        .with_spec(templates=[INLINE_STEP, INLINE_TASK])
        .with_status(
            storedTemplates={"namespaced/lib/hold": SUSPEND},
            storedWorkflowTemplateSpec={"templates": [INLINE_STEP]},
            compressedNodes="",
            outputs={"parameters": [{"name": "sort", "value": "bug"}]},
            offloadNodeStatusVersion="",
        )
        .build()
    )


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a JSON value, as a path."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path, *(found for key, item in children for found in places(item, (*path, key)))]


RICH = rich()  # never changed: `replaced` copies what it changes
PLACES = [path for path in places(RICH) if path]


def replaced(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The body with another value at a path; shapes on the way that are gone are left alone."""
    if not path:
        return value
    if isinstance(body, dict):
        return {**body, path[0]: replaced(body.get(str(path[0])), path[1:], value)}
    if isinstance(body, list) and isinstance(path[0], int) and path[0] < len(body):
        return [*body[: path[0]], replaced(body[path[0]], path[1:], value), *body[path[0] + 1 :]]
    return body


def open_for_argo(body: dict[str, Any]) -> set[str]:
    """The ids of the nodes that `IsActiveSuspendNode` of argo-workflows holds for active."""
    status = body.get("status")
    nodes = status.get("nodes") if isinstance(status, dict) else None
    return {
        key
        for key, node in (nodes.items() if isinstance(nodes, dict) else ())
        if isinstance(node, dict)
        and node.get("type") == "Suspend"
        and node.get("phase") == "Running"
    }


def holds(body: dict[str, Any]) -> None:
    for unpack in (False, True):
        view = workflows.view(body, unpack=unpack)
        shown = {gate.id for gate in view.gates if gate.is_open}
        assert shown <= open_for_argo(body)
        assert not (shown and view.problem)
        json.dumps([view.uid, view.labels, view.phase, [gate.message for gate in view.gates]])


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=4))
def test_no_json_in_any_field_is_too_much_or_opens_a_gate(
    changes: list[tuple[tuple[str | int, ...], Any]],
) -> None:
    body = RICH
    for path, value in changes:
        body = replaced(body, path, value)
    holds(body)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_every_type_in_every_single_field_is_survived(path: tuple[str | int, ...]) -> None:
    values: list[Any] = [None, True, 5, 1.5, "", "x", [], ["x"], [None], {}, {"x": 1}, [[{}]]]
    for value in values:
        holds(replaced(RICH, path, value))


def deep(wrap: Callable[[Any], Any]) -> Any:
    value: Any = "x"
    for _ in range(sys.getrecursionlimit() * 200):
        value = wrap(value)
    return value


def test_a_value_too_deep_to_be_written_down_is_survived() -> None:
    body = at_review(inputs={"stage": "review"}).build()
    node = body["status"]["nodes"][at_review().node_id("wait")]
    node["inputs"]["parameters"][0]["value"] = deep(lambda inner: [inner])
    assert workflows.view(body).gates[0].input("stage") == ""


def test_compressed_nodes_are_raised_about_where_they_are_edited() -> None:
    body = a_bare_workflow().with_status(nodes={}, compressedNodes="%").build()
    with pytest.raises(MalformedWorkflowError, match="not base64"):
        workflows.nodes(body)
