"""Workflows whose node status Argo's controller has compressed are resumed like the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client, launcher
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

pytestmark = pytest.mark.usefixtures("operator")

MAX_WORKFLOW_SIZE = "8000"
GATES = 30


@pytest.fixture(scope="module")
def home(built_components: None) -> Iterator[Home]:
    """A namespace of a cluster whose Argo compresses what is larger than some kilobytes."""
    with (
        launcher.start(extra_env={"MAX_WORKFLOW_SIZE": MAX_WORKFLOW_SIZE}, audit=True) as plane,
        contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster,
        homes.new(cluster, plane.audit_log) as made,
    ):
        yield made


def large(name: str, task: str) -> Json:
    """A workflow with many open gates, one more that hands on a value, and a step that is done."""
    handed = {"answer": "{{tasks.one.outputs.parameters.answer}}"}
    return manifests.workflow(
        name,
        manifests.dag(
            step("done", "witness", arguments={"answer": "none"}),
            step("many", "gate", withSequence={"count": str(GATES)}, depends="done"),
            step("one", "one", depends="done"),
            step("after", "witness", depends="one", arguments=handed),
        ),
        manifests.gate(),
        manifests.gate("one", "answer"),
        manifests.witness("answer"),
        task=task,
    )


def is_compressed(body: Json) -> bool:
    """Whether a Workflow has its nodes in compressed form, and in that form alone."""
    return bool(body["status"].get("compressedNodes")) and "nodes" not in body["status"]


def test_exactly_the_named_gate_opens_and_nothing_that_was_done_is_done_again(home: Home) -> None:
    before = home.submit(large("packed", "91"), gates=GATES + 1)
    assert is_compressed(before)
    home.ask(
        manifests.resume(
            "packed",
            task="91",
            nodeFieldSelector="templateName=one",
            parameters={"answer": '"42", { %s'},
            setLabels={"moved": "on"},
        )
    )
    status = home.resumed("packed")
    assert [one["displayName"] for one in status["workflow"]["nodes"]] == ["one"]
    after = home.past("packed", "after")
    assert is_compressed(after)
    assert after["metadata"]["labels"]["moved"] == "on"
    assert homes.inputs(after, "after") == {"answer": '"42", { %s'}
    assert set(homes.open_gates(after)) == set(homes.open_gates(before)) - {"one"}
    assert homes.node(after, "done") == homes.node(before, "done")
    assert homes.node(after, "one")["message"].startswith("Resumed by: workflowresume/packed ")


def test_all_gates_open_at_once_and_the_workflow_ends(home: Home) -> None:
    home.submit(large("all", "92"), gates=GATES + 1)
    home.ask(
        manifests.resume("all", task="92", allGates=True, nodeFieldSelector="templateName=gate")
    )
    assert len(home.resumed("all")["workflow"]["nodes"]) == GATES
    home.ask(manifests.resume("one", task="92", event_type="other", parameters={"answer": "1"}))
    home.resumed("one")
    home.ended("all")


def test_requests_at_the_same_time_for_gates_of_one_workflow_all_come_through(home: Home) -> None:
    """Each rewrites the whole of the nodes: none may undo what another did."""
    home.submit(large("crowd", "93"), gates=GATES + 1)
    numbers = range(8)
    home.ask(
        *(
            manifests.resume(
                f"crowd-{number}",
                task="93",
                event_type=f"event-{number}",
                nodeFieldSelector=f"displayName=many({number}:{number})",
            )
            for number in numbers
        )
    )
    for number in numbers:
        home.resumed(f"crowd-{number}")
    left = {f"many({number}:{number})" for number in range(len(numbers), GATES)} | {"one"}
    assert set(homes.open_gates(home.workflow("crowd"))) == left


def test_duplicates_and_late_requests_are_told_as_for_other_workflows(home: Home) -> None:
    home.submit(large("twice", "94"), gates=GATES + 1)
    home.ask(
        manifests.resume("twice-a", task="94", nodeFieldSelector="displayName=many(3:3)"),
    )
    home.resumed("twice-a")
    home.ask(manifests.resume("twice-b", task="94", nodeFieldSelector="displayName=many(4:4)"))
    status = home.came_to("twice-b", Reason.STAGE_ALREADY_RESUMED)
    assert status["resumedBy"] == "workflowresume/twice-a"
    home.ask(
        manifests.resume(
            "twice-c", task="94", event_type="other", nodeFieldSelector="displayName=many(3:3)"
        )
    )
    home.came_to("twice-c", Reason.GATE_ALREADY_OPENED)
