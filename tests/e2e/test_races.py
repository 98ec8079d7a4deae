"""Others change the same Workflow at the same moment: Argo's controller, Argo's resume, a person.

Exactly one opens the gate, and who came second says so truthfully. The stages name their gate, so
that the gate behind it is nobody's: it tells of a gate too many. What has to happen in between is
held there by the proxy; where both are let go at once, chance decides who is first.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import build, client, components
from tests.e2e.support import faults, manifests, rig
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json
from tests.e2e.support.rig import Rig

STAGE = "raced"
FIRST = "displayName=first"
RACES = 12
BUSY = 10


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy; on a busy machine a slow answer is no failure."""
    options = ["--request-timeout", "30"]
    with rig.running(home, tmp_path_factory.mktemp("races"), options=options) as started:
        started.policy(STAGE, nodeFieldSelector=FIRST)
        yield started


def held(plant: Rig, workflow: Json, **request: Any) -> faults.Hold:
    """Asks for the gate of a new Workflow, and stops the operator at the write."""
    name, hold = workflow["metadata"]["name"], faults.Hold()
    plant.proxy.on("PATCH", rf"/workflows/{name}$", hold)
    # First the request: a gate that does not stay open for long is found at once.
    plant.home.ask(plant.request(name, STAGE, **request))
    plant.home.cluster.create(workflow, plant.home.namespace)
    hold.wait()
    return hold


def nothing_written(plant: Rig, name: str) -> None:
    assert not [one for one in plant.writes(name) if one.took_effect]


# --- Argo's controller ----------------------------------------------------------------------------


def test_workflows_that_argo_changes_all_the_time_are_resumed_once(plant: Rig) -> None:
    """Beside the gate, delays end and begin: Argo writes each Workflow several times a second."""
    names = [f"busy-{number}" for number in range(BUSY)]
    delays = [f"delay-{number}" for number in range(25)]
    tasks = [
        manifests.step("first", "first"),
        manifests.step("second", "second", dependencies=["first"]),
        *(
            manifests.step(one, "delay", **({"dependencies": [before]} if before else {}))
            for before, one in zip(["", *delays], delays, strict=False)
        ),
    ]
    templates = [
        manifests.dag(*tasks),
        manifests.gate("first"),
        manifests.gate("second"),
        manifests.gate("delay", duration="200ms"),
    ]
    for name in names:
        body = plant.workflow(name, STAGE)
        body["spec"]["templates"] = templates
        plant.home.cluster.create(body, plant.home.namespace)
    for name in names:
        plant.home.at_gate(name, "first")
    plant.home.ask(*(plant.request(name, STAGE) for name in names))
    for name in names:
        assert "retry" not in plant.resumed_once(name)


@pytest.mark.parametrize("shutdown", ["Stop", "Terminate"])
@pytest.mark.parametrize("ended", [False, True], ids=["still ending", "ended"])
def test_a_workflow_that_is_shut_down_between_decision_and_write_makes_the_request_late(
    plant: Rig, shutdown: str, ended: bool
) -> None:
    name = f"{shutdown.lower()}-{ended}".lower()
    hold = held(plant, plant.workflow(name, STAGE))
    patch = {"spec": {"shutdown": shutdown}}
    plant.home.cluster.patch(homes.WORKFLOW, name, plant.home.namespace, patch)
    if ended:
        plant.home.ended(name, "Failed")
    hold.release()
    plant.came_to(name, Reason.WORKFLOW_FINISHED)
    nothing_written(plant, name)
    node = homes.node(plant.home.ended(name, "Failed"), "first")
    assert (node["phase"], node["message"]) == ("Failed", f"Stopped with strategy '{shutdown}'")


def test_a_gate_in_the_exit_handler_of_a_stopped_workflow_is_opened(plant: Rig) -> None:
    body = plant.workflow("leaving", STAGE, onExit="leave")
    body["spec"]["templates"] += [
        manifests.steps(manifests.step("first", "first"), name="leave"),
    ]
    body["spec"]["templates"][0] = manifests.steps(manifests.step("begin", "second"))
    plant.home.submit(body)
    plant.home.ask(plant.request("leaving", STAGE))
    plant.history.wait_reason("leaving", "GateNotOpen")
    stop = {"spec": {"shutdown": "Stop"}}
    plant.home.cluster.patch(homes.WORKFLOW, "leaving", plant.home.namespace, stop)
    plant.came_to("leaving", Reason.GATE_OPENED)
    ended = plant.home.ended("leaving", "Failed")
    assert homes.node(ended, "begin")["phase"] == "Failed"
    assert "workflowresume/leaving " in homes.node(ended, "first")["message"]


def test_a_delay_that_argo_ends_while_it_is_resumed_was_not_ended_by_the_request(
    plant: Rig,
) -> None:
    body = plant.workflow("delayed", STAGE)
    body["spec"]["templates"][1] = manifests.gate("first", duration="12s")
    hold = held(plant, body, nodeFieldSelector=FIRST)
    plant.home.at_gate("delayed", "second")
    hold.release()
    status = plant.came_to("delayed", Reason.GATE_ALREADY_OPENED)
    assert status["resumedBy"] == "its duration"
    nothing_written(plant, "delayed")


def test_a_workflow_whose_deadline_passes_while_it_is_resumed_makes_the_request_late(
    plant: Rig,
) -> None:
    hold = held(plant, plant.workflow("overdue", STAGE, activeDeadlineSeconds=12))
    plant.home.ended("overdue", "Failed")
    hold.release()
    plant.came_to("overdue", Reason.WORKFLOW_FINISHED)
    nothing_written(plant, "overdue")


# --- Argo's resume, and a person ------------------------------------------------------------------


@pytest.fixture(scope="module")
def argo_resume() -> pathlib.Path:
    """A program that resumes with Argo's own function, as `argo resume` does."""
    return build.ensure((components.ARGO_RESUME,))[components.ARGO_RESUME.name].binary


class ArgoResume:
    """It at work in a namespace: a name a line goes in, what became of it comes out."""

    def __init__(self, binary: pathlib.Path, home: Home) -> None:
        argv = [binary, "-kubeconfig", home.cluster.kubeconfig, "-namespace", home.namespace]
        self._process = subprocess.Popen(
            [*map(str, argv), "-node-field-selector", FIRST, "-concurrency", "4"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ArgoResume:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def resume(self, names: Sequence[str]) -> dict[str, str]:
        """What it says of each Workflow: an error, or "" where it opened the gate."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.writelines(f"{name}\n" for name in names)
        self._process.stdin.flush()
        found = [json.loads(self._process.stdout.readline()) for _ in names]
        return {one["name"]: one["error"] for one in found}


def marks_as_opened(node_id: str) -> Sequence[Json]:
    """What a person patches who knows what Argo looks at."""
    node = f"/status/nodes/{node_id}"
    return [
        {"op": "test", "path": f"{node}/phase", "value": "Running"},
        {"op": "replace", "path": f"{node}/phase", "value": "Succeeded"},
    ]


def lost(plant: Rig, name: str) -> Json:
    """The status of a request that came second; its Workflow is at the second gate."""
    status = plant.came_to(name, Reason.GATE_ALREADY_OPENED)
    body = plant.home.at_gate(name, "second")
    assert list(homes.open_gates(body)) == ["second"]
    assert "workflowresume/" not in homes.node(body, "first").get("message", "")
    nothing_written(plant, name)
    return status


def test_a_person_who_is_quicker_has_opened_the_gate(plant: Rig) -> None:
    hold = held(plant, plant.workflow("person", STAGE))
    body = plant.home.workflow("person")
    plant.home.cluster.patch(
        homes.WORKFLOW,
        "person",
        plant.home.namespace,
        marks_as_opened(homes.node(body, "first")["id"]),
        content_type=client.JSON_PATCH,
    )
    hold.release()
    assert lost(plant, "person")["resumedBy"] == "somebody else"


@pytest.mark.timeout(900)  # the program may have to be built first
def test_argo_resume_that_is_quicker_has_opened_the_gate(
    plant: Rig, argo_resume: pathlib.Path
) -> None:
    hold = held(plant, plant.workflow("quicker", STAGE))
    with ArgoResume(argo_resume, plant.home) as argo:
        assert argo.resume(["quicker"]) == {"quicker": ""}
    hold.release()
    assert lost(plant, "quicker")["resumedBy"]


@pytest.mark.timeout(900)
def test_of_argo_resume_and_a_request_at_the_same_moment_one_opens_the_gate_and_both_know(
    plant: Rig, argo_resume: pathlib.Path
) -> None:
    names = [f"race-{number}" for number in range(RACES)]
    for name in names:
        plant.home.cluster.create(plant.workflow(name, STAGE), plant.home.namespace)
    for name in names:
        plant.home.at_gate(name, "first")
    said: dict[str, str] = {}
    with ArgoResume(argo_resume, plant.home) as argo:
        together(
            lambda: plant.home.ask(*(plant.request(name, STAGE) for name in names)),
            lambda: said.update(argo.resume(names)),
        )
    for name in names:
        plant.home.decided(name)
        if said[name]:
            plant.resumed_once(name)
        else:
            lost(plant, name)


def together(*works: Callable[[], object]) -> None:
    """Does things at the same time."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(homes.TIMEOUT)
        assert not thread.is_alive()
