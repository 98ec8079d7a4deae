"""An event that means "do not resume" fails the gate, and Argo goes on as after any failed node.

Every Workflow here is under a policy of its own label, so that the other modules' rules hold
nowhere in it.
"""

from __future__ import annotations

from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests import github
from tests.e2e.support import home as homes
from tests.e2e.support import manifests, process
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

APPROVAL = "waiting-pr-approved"
LABELS = {"flow": "review"}


@pytest.fixture(scope="module", autouse=True)
def policy(home: Home, operator: process.Operator) -> None:
    """Two stages; a pull request that is closed fails the gate of either."""
    assert operator.alive
    stages: list[Json] = [
        {"name": "waiting-pr-created", "eventTypes": ["pr-created"]},
        {
            "name": APPROVAL,
            "eventTypes": ["pr-approved"],
            "failOn": ["pr-changes-requested", "pr-closed"],
            "setLabels": {"current-stage": "done"},
        },
    ]
    sources = [
        {"from": "Branch", "pattern": "^task-([0-9]+)"},
        {"from": "Title", "pattern": "#([0-9]+)"},
    ]
    body = manifests.policy(
        "review",
        *stages,
        matches=LABELS,
        defaults={"failOn": ["pr-closed"]},
        events={"taskIdSources": sources},
    )
    home.govern(body)


def workflow(name: str, *templates: Json, task: str, **spec: Any) -> Json:
    return manifests.workflow(name, *templates, task=task, stage=APPROVAL, labels=LABELS, **spec)


def closed(task: str) -> Json:
    """GitHub's own event of a pull request that was closed without being merged."""
    return github.event("pull_request.closed", pull_request__head__ref=f"task-{task}-x")


def rejected(task: str) -> Json:
    """GitHub's own event of a review that asks for changes."""
    return github.event(
        "pull_request_review.submitted",
        review__state="changes_requested",
        pull_request__head__ref="patch-1",
        pull_request__title=f"Add it (#{task})",
    )


def test_the_workflow_ends_failed_and_everything_says_why(home: Home) -> None:
    home.submit(workflow("closed", task="81"))
    home.ask(manifests.resume("closed", task="81", event_type="pr-closed", event=closed("81")))
    status = home.came_to("closed", Reason.FAILED_BY_EVENT)
    assert status["workflow"]["stage"] == APPROVAL
    body = home.ended("closed", "Failed")
    node = homes.node(body, "wait")
    assert node["phase"] == "Failed"
    assert node["message"].startswith("Failed by: workflowresume/closed (uid ")
    assert node["message"].endswith(" for event pr-closed")
    labels = body["metadata"]["labels"]
    assert labels["workflows.argoproj.io/action"] == "Stop"
    assert labels["workflows.argoproj.io/actor"] == "Codertocat"
    assert labels["current-stage"] == APPROVAL
    home.told("closed", "FailedByEvent", "FailedByRequest")


def test_a_branch_for_a_failed_gate_runs_with_what_the_gate_was_given(home: Home) -> None:
    dag = manifests.dag(
        step("wait", "gate"),
        step(
            "rework",
            "witness",
            depends="wait.Failed",
            arguments={"by": "{{tasks.wait.outputs.parameters.by}}"},
        ),
    )
    gate = manifests.gate("gate", "by", "unused")
    home.submit(workflow("branch", dag, gate, manifests.witness("by"), task="82"))
    request = manifests.resume(
        "branch",
        task="82",
        event_type="pr-changes-requested",
        event=rejected("82"),
        parameters={"by": "cleo"},
    )
    home.ask(request)
    home.came_to("branch", Reason.FAILED_BY_EVENT)
    body = home.ended("branch")
    assert homes.inputs(body, "rework") == {"by": "cleo"}
    assert homes.node(body, "wait")["phase"] == "Failed"


def test_steps_that_continue_on_a_failure_do_and_the_exit_handler_runs(home: Home) -> None:
    main = manifests.steps(
        step("wait", "gate", continueOn={"failed": True}), step("after", "witness")
    )
    witness = manifests.witness()
    body = workflow("onwards", main, manifests.gate(), witness, task="83", onExit="witness")
    home.submit(body)
    home.ask(manifests.resume("onwards", task="83", event_type="pr-closed", event=closed("83")))
    home.came_to("onwards", Reason.FAILED_BY_EVENT)
    found = home.ended("onwards")
    assert homes.node(found, "wait")["phase"] == "Failed"
    assert homes.node(found, "after")["phase"] == "Succeeded"
    assert homes.node(found, "onwards.onExit")["phase"] == "Succeeded"


def test_whoever_comes_after_is_told_and_changes_nothing(home: Home) -> None:
    main = manifests.steps(step("wait", "gate", continueOn={"failed": True}), step("next", "gate"))
    home.submit(workflow("once", main, manifests.gate(), task="84"))
    home.ask(manifests.resume("once", task="84", event_type="pr-closed", event=closed("84")))
    home.came_to("once", Reason.FAILED_BY_EVENT)
    home.at_gate("once", "next")
    again = manifests.resume("again", task="84", event_type="pr-closed", event=closed("84"))
    approved = manifests.resume("approved", task="84", event_type="pr-approved")
    home.ask(again, approved)
    home.came_to("again", Reason.GATE_ALREADY_FAILED)
    home.came_to("approved", Reason.GATE_ALREADY_FAILED)
    assert list(homes.open_gates(home.workflow("once"))) == ["next"]


def test_a_workflow_that_is_suspended_as_a_whole_is_left_alone(home: Home) -> None:
    main = manifests.steps(step("wait", manifests.witness(name="")))
    home.cluster.create(workflow("whole", main, task="85", suspend=True), home.namespace)
    home.ask(manifests.resume("whole", task="85", event_type="pr-closed", event=closed("85")))
    status = home.came_to("whole", Reason.NO_GATE_TO_FAIL)
    assert "argo stop ends the workflow" in status["message"]
    assert home.workflow("whole")["spec"]["suspend"] is True


def test_an_event_of_another_task_fails_nothing(home: Home) -> None:
    home.submit(workflow("other", task="86"))
    home.ask(manifests.resume("other", task="86", event_type="pr-closed", event=closed("87")))
    home.came_to("other", Reason.TASK_MISMATCH)
    assert list(homes.open_gates(home.workflow("other"))) == ["wait"]


def test_a_pattern_that_re2_refuses_makes_the_policy_invalid_and_is_named(home: Home) -> None:
    sources = [{"from": "Title", "pattern": "(?=x)(y)"}]
    body = manifests.policy("broken", matches={"flow": "broken"}, events={"taskIdSources": sources})
    status = home.govern(body)
    valid = next(one for one in status["conditions"] if one["type"] == "Valid")
    assert (valid["status"], valid["reason"]) == ("False", "PolicyInvalid")
    assert "spec.events.taskIdSources[0].pattern: '(?=x)(y)' is not a pattern" in valid["message"]
