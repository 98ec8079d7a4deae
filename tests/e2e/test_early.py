"""An event that comes before its gate waits, and is answered as soon as the gate is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

pytestmark = pytest.mark.usefixtures("operator")


def test_a_request_that_is_there_before_its_workflow_resumes_it(home: Home) -> None:
    home.ask(
        manifests.resume("before", task="81"),
        manifests.resume("before-by-name", "named", task="82"),
    )
    for name in ("before", "before-by-name"):
        home.came_to(name, Reason.WORKFLOW_NOT_FOUND)
    home.cluster.create(manifests.workflow("found", task="81"), home.namespace)
    home.cluster.create(manifests.workflow("named", task="82"), home.namespace)
    for request, name in (("before", "found"), ("before-by-name", "named")):
        assert home.resumed(request)["workflow"]["name"] == name
        home.ended(name)


def test_a_request_that_is_there_before_its_stage_resumes_once_the_label_says_so(
    home: Home,
) -> None:
    home.submit(manifests.workflow("staged", task="83", stage=None))
    home.ask(manifests.resume("staged", task="83"))
    home.came_to("staged", Reason.STAGE_NOT_REACHED)
    home.cluster.patch(
        homes.WORKFLOW,
        "staged",
        home.namespace,
        {"metadata": {"labels": {manifests.STAGE: manifests.PR_CREATED}}},
    )
    home.resumed("staged")
    home.ended("staged")


def test_a_request_that_is_there_before_its_gate_resumes_once_it_opens(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "gated",
            manifests.steps(step("nap", "nap"), step("wait", "gate")),
            manifests.gate("nap", duration="10s"),
            manifests.gate(),
            task="84",
        )
    )
    home.ask(manifests.resume("gated", task="84"))
    home.came_to("gated", Reason.GATE_NOT_OPEN)
    assert [one["displayName"] for one in home.resumed("gated")["workflow"]["nodes"]] == ["wait"]
    home.ended("gated")


def test_a_request_for_a_gate_that_waits_for_a_lock_resumes_once_it_has_it(home: Home) -> None:
    """Until then the node is Pending, and Argo would lose a resume."""
    lock = {"mutexes": [{"name": "one-at-a-time"}]}
    for name in ("holder", "queued"):
        home.cluster.create(
            manifests.workflow(
                name,
                manifests.steps(step("wait", "gate")),
                manifests.gate(synchronization=lock),
                task=name,
            ),
            home.namespace,
        )
        if name == "holder":
            home.at_gate("holder")
    home.cluster.wait_for(
        homes.WORKFLOW,
        "queued",
        home.namespace,
        lambda body: any(node.get("phase") == "Pending" for node in homes.nodes(body)),
        homes.TIMEOUT,
        describe="with a gate that waits for the lock",
    )
    home.ask(manifests.resume("queued", task="queued"))
    home.came_to("queued", Reason.GATE_NOT_OPEN)
    home.ask(manifests.resume("holder", task="holder"))
    home.resumed("holder")
    home.resumed("queued")
    home.ended("queued")


def test_a_request_that_is_there_before_its_policy_follows_it(home: Home) -> None:
    ours = {"early": "policy"}
    home.submit(manifests.workflow("ruled", task="85", labels=ours, stage="by-policy"))
    home.ask(manifests.resume("ruled", task="85", event_type="pr-created"))
    home.came_to("ruled", Reason.STAGE_NOT_REACHED)
    stage = {"name": "by-policy", "eventTypes": ["pr-created"]}
    home.ask(manifests.policy("early", stage, matches=ours))
    home.resumed("ruled")


def nothing(home: Home) -> None:
    """No workflow at all."""


def in_an_earlier_stage(home: Home) -> None:
    home.submit(manifests.workflow("too-early", task="missing-stage", stage=None))


def at_a_delay(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "no-gate",
            manifests.steps(step("nap", "nap")),
            manifests.gate("nap", duration="1h"),
            task="missing-gate",
        )
    )


MISSING: dict[str, tuple[Callable[[Home], None], str]] = {
    "workflow": (nothing, "there is no workflow"),
    "stage": (in_an_earlier_stage, "without a stage"),
    "gate": (at_a_delay, "is suspended"),
}


@pytest.mark.parametrize("seconds", [0, 2])
@pytest.mark.parametrize("what", MISSING)
def test_past_its_deadline_a_request_expires_and_says_what_was_missing(
    home: Home, what: str, seconds: int
) -> None:
    prepare, words = MISSING[what]
    task = f"missing-{what}"
    if not home.cluster.list_all(homes.WORKFLOW, home.namespace, selector=f"task-id={task}"):
        prepare(home)
    name = f"{task}-{seconds}"
    home.ask(manifests.resume(name, task=task, deadlineSeconds=seconds))
    if seconds:
        home.cluster.wait_for(
            homes.RESUME,
            name,
            home.namespace,
            lambda body: "outcome" in body.get("status", {}),
            homes.TIMEOUT,
            describe="looked at",
        )
    status = expired(home, name)
    assert "deadline" in status["message"]
    assert words in status["message"]


def expired(home: Home, name: str) -> Json:
    """The status of a request that waits for nothing but its deadline."""
    return home.came_to(name, Reason.DEADLINE_EXCEEDED)


def test_a_gate_that_opens_after_the_deadline_is_left_to_others(home: Home) -> None:
    home.ask(manifests.resume("too-late", task="86", deadlineSeconds=1))
    before = expired(home, "too-late")
    home.submit(manifests.workflow("opens-late", task="86"))
    home.ask(manifests.resume("in-time", task="86"))
    home.resumed("in-time")
    assert expired(home, "too-late") == before
