"""The play workflow of the requirements, resumed by the requirements' own manifests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

PLAY = {"workflow-type": "play-orchestration"}
STAGES = (manifests.PR_CREATED, manifests.READY_FOR_QA, manifests.PR_APPROVED)
FINDS = ("pr-number", "pr-url", "cleo-completion-time", "tess-approval-time", "review-id")

pytestmark = pytest.mark.usefixtures("operator")


def play(name: str, task: str, **more: object) -> Json:
    """A workflow with the three gates of the requirements, and a step that sees all values."""

    def waits(stage: str, *outputs: str) -> Json:
        return manifests.gate(f"suspend-{stage}", *outputs)

    rex = "{{steps.rex.outputs.parameters.%s}}"
    cleo = "{{steps.cleo.outputs.parameters.%s}}"
    tess = "{{steps.tess.outputs.parameters.%s}}"
    seen = {
        "pr-number": rex % "pr-number",
        "pr-url": rex % "pr-url",
        "cleo-completion-time": cleo % "cleo-completion-time",
        "tess-approval-time": tess % "tess-approval-time",
        "review-id": tess % "review-id",
    }
    body = manifests.workflow(
        name,
        manifests.steps(
            manifests.step("rex", f"suspend-{STAGES[0]}"),
            manifests.step("cleo", f"suspend-{STAGES[1]}"),
            manifests.step("tess", f"suspend-{STAGES[2]}"),
            manifests.step("done", "witness", arguments=seen),
        ),
        waits(STAGES[0], "pr-number", "pr-url"),
        waits(STAGES[1], "cleo-completion-time"),
        waits(STAGES[2], "tess-approval-time", "review-id"),
        manifests.witness(*FINDS),
        task=task,
        labels=PLAY,
    )
    body["metadata"]["labels"] |= more
    return body


def requests(task: str, **spec: Mapping[str, str]) -> tuple[Json, Json, Json]:
    """The three manifests, filled in; each moves the stage on as `spec` has it."""
    created = manifests.seed(
        "resume-after-pr-created",
        {"extracted-task-id": task, "pr-number": "123", "pr-url": "https://example.com/pull/123"},
    )
    ready = manifests.seed(
        "resume-after-ready-for-qa",
        {"extracted-task-id": task, "event-timestamp": "2025-01-02T03:04:05Z"},
    )
    approved = manifests.seed(
        "resume-after-pr-approved",
        {"extracted-task-id": task, "event-timestamp": "2025-01-03T04:05:06Z", "review-id": "77"},
    )
    for manifest in (created, ready, approved):
        manifest["metadata"]["name"] += f"-{task}"
    return created, ready, approved


def advancing(*manifests_in_order: Json) -> None:
    """Lets each request but the last move the workflow to the stage after its own."""
    for request, stage in zip(manifests_in_order, STAGES[1:], strict=False):
        request["spec"]["setLabels"] = {manifests.STAGE: stage}


def came_through(home: Home, name: str) -> None:
    """The workflow succeeded and its last step saw the values of all three events."""
    assert homes.inputs(home.ended(name), "done") == {
        "pr-number": "123",
        "pr-url": "https://example.com/pull/123",
        "cleo-completion-time": "2025-01-02T03:04:05Z",
        "tess-approval-time": "2025-01-03T04:05:06Z",
        "review-id": "77",
    }


def test_the_three_manifests_one_after_the_other_lead_a_workflow_through_its_gates(
    home: Home,
) -> None:
    created, ready, approved = requests("21")
    advancing(created, ready, approved)
    home.submit(play("in-order", "21"))
    for request, step, following in (
        (created, "rex", "cleo"),
        (ready, "cleo", "tess"),
        (approved, "tess", None),
    ):
        home.ask(request)
        status = home.resumed(request["metadata"]["name"])
        assert [one["displayName"] for one in status["workflow"]["nodes"]] == [step]
        if following:
            assert list(homes.open_gates(home.at_gate("in-order", following))) == [following]
    came_through(home, "in-order")


def test_the_three_manifests_created_before_the_workflow_lead_it_through_its_gates(
    home: Home,
) -> None:
    created, ready, approved = requests("22")
    advancing(created, ready, approved)
    # The last one first: their order is the workflow's, not that of their creation.
    home.ask(approved, ready, created)
    for request in (created, ready, approved):
        home.came_to(request["metadata"]["name"], Reason.WORKFLOW_NOT_FOUND)
    home.cluster.create(play("all-early", "22"), home.namespace)
    came_through(home, "all-early")
    for request, step in ((created, "rex"), (ready, "cleo"), (approved, "tess")):
        status = home.resumed(request["metadata"]["name"])
        assert [one["displayName"] for one in status["workflow"]["nodes"]] == [step]


def test_a_policy_moves_the_stage_on_so_that_the_manifests_can_stay_as_they_stand(
    home: Home,
) -> None:
    home.govern(
        manifests.policy(
            "moves-on",
            {
                "name": STAGES[0],
                "eventTypes": ["pr-created"],
                "setLabels": {manifests.STAGE: STAGES[1]},
            },
            {
                "name": STAGES[1],
                "eventTypes": ["pr-labeled-ready"],
                "setLabels": {manifests.STAGE: STAGES[2]},
            },
            {"name": STAGES[2], "eventTypes": ["pr-approved"]},
            matches={"moved-by": "policy"},
        )
    )
    early = requests("23")
    home.ask(*early)
    home.cluster.create(play("by-policy", "23", **{"moved-by": "policy"}), home.namespace)
    came_through(home, "by-policy")
    for request in early:
        home.resumed(request["metadata"]["name"])


def test_the_manifest_with_a_name_and_a_node_selector_opens_that_gate_alone(home: Home) -> None:
    request = manifests.seed("resume-operation", {})
    request["metadata"]["namespace"] = home.namespace
    name = request["spec"]["workflowName"]
    home.submit(
        manifests.workflow(
            name,
            manifests.dag(
                manifests.step("webhook", "suspend-for-webhook"),
                manifests.step("person", "suspend-for-person"),
            ),
            manifests.gate("suspend-for-webhook"),
            manifests.gate("suspend-for-person"),
        ),
        gates=2,
    )
    home.ask(request)
    home.resumed("resume-operation")
    assert list(homes.open_gates(home.workflow(name))) == ["person"]
