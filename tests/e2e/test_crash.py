"""The operator killed at any moment: no gate is opened twice, none is forgotten, no other opened.

The proxy stops the operator's call at a point where it can die, the test kills the process, and
what was stopped is lost or still arrives. Each Workflow has a second gate behind the first, which
nobody asks for: it tells of a gate too many.
"""

from __future__ import annotations

import concurrent.futures
import random
import signal
import time
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import faults, manifests, process, rig, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STAGE = "gates"
SOAK = 60
KILLS = 5

WORKFLOW_WRITE = r"/workflows/{}$"
STATUS_WRITE = r"/workflowresumes/{}/status$"


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy, and a policy."""
    with rig.running(home, tmp_path_factory.mktemp("crash")) as started:
        started.policy(STAGE, retry={"maxAttempts": 20}, circuitBreaker={"failureThreshold": 1000})
        yield started


@pytest.mark.parametrize(
    ("point", "call", "after", "late"),
    [
        ("before the Workflow is written", WORKFLOW_WRITE, False, "lost"),
        ("before the Workflow is written", WORKFLOW_WRITE, False, "arrives"),
        ("after the Workflow was written", WORKFLOW_WRITE, True, "lost"),
        ("before the status is written", STATUS_WRITE, False, "lost"),
        ("before the status is written", STATUS_WRITE, False, "arrives"),
        ("after the status was written", STATUS_WRITE, True, "lost"),
    ],
)
def test_killed_at_a_write_the_next_operator_ends_what_was_begun(
    plant: Rig, point: str, call: str, after: bool, late: str
) -> None:
    name = f"{point.replace(' the ', '-').replace(' ', '-').lower()}-{late}"
    plant.shown(name, STAGE)
    hold = faults.Hold(after=after)
    plant.proxy.on("PATCH", call.format(name), hold)
    plant.home.ask(plant.request(name, STAGE))
    hold.wait()
    plant.kill()
    if late == "lost":
        hold.drop()
    plant.start()
    status = plant.came_to(name, Reason.GATE_OPENED)
    if late == "arrives":
        # The call of the dead operator reaches the API server after all has been done.
        calls = len(plant.proxy.log("PATCH", call.format(name)))
        hold.release()
        waiting.eventually(
            lambda: len(plant.proxy.log("PATCH", call.format(name))) > calls,
            lambda: "the late call has not ended",
        )
    plant.opened_once(name)
    assert status["resumedBy"] == f"workflowresume/{name}"
    now = plant.home.cluster.get(homes.RESUME, name, plant.home.namespace)["status"]
    assert now == status
    assert plant.history.reasons(name) == ["GateOpened"]


def test_answers_that_take_ten_seconds_hold_up_nobody_else(plant: Rig) -> None:
    """The longest that one call may take, unless an option says otherwise."""
    names = ["tardy-write", "tardy-status", "prompt"]
    for name in names:
        plant.shown(name, STAGE)
    tardy = faults.delay(10.5)
    plant.proxy.on("PATCH", WORKFLOW_WRITE.format("tardy-write"), tardy)
    plant.proxy.on("PATCH", STATUS_WRITE.format("tardy-status"), tardy)
    plant.home.ask(*(plant.request(name, STAGE) for name in names))
    plant.resumed_once("prompt")
    assert plant.proxy.log("PATCH", WORKFLOW_WRITE.format("tardy-write")) == []
    plant.resumed_once("tardy-write")
    plant.resumed_once("tardy-status")
    assert plant.history.reasons("tardy-status") == ["GateOpened"]


def test_killed_while_it_backs_off_the_late_status_of_the_dead_operator_changes_nothing(
    plant: Rig,
) -> None:
    plant.shown("late-status", STAGE)
    plant.proxy.on("PATCH", WORKFLOW_WRITE.format("late-status"), faults.answer(503))
    hold = faults.Hold()
    plant.proxy.on("PATCH", STATUS_WRITE.format("late-status"), hold)
    plant.home.ask(plant.request("late-status", STAGE))
    hold.wait()
    plant.kill()
    plant.start()
    plant.resumed_once("late-status")
    hold.release()
    path = STATUS_WRITE.format("late-status")
    waiting.eventually(
        lambda: [one.upstream for one in plant.proxy.log("PATCH", path)] == [200, 422],
        lambda: str(plant.proxy.log("PATCH", path)),
    )
    assert plant.history.reasons("late-status") == ["GateOpened"]


@pytest.mark.parametrize(
    ("point", "call", "after"),
    [
        ("after the newest was resumed", WORKFLOW_WRITE.format("{}-3"), True),
        ("after an older one was terminated", WORKFLOW_WRITE.format("{}-2"), True),
        ("before the status is written", STATUS_WRITE, False),
    ],
)
def test_killed_while_it_supersedes_the_newest_is_resumed_once_and_the_older_are_terminated(
    plant: Rig, superseding: str, point: str, call: str, after: bool
) -> None:
    task = f"superseded-{point.replace(' ', '-')}"
    names = [f"{task}-{number}" for number in (1, 2, 3)]
    for name in names:
        body = plant.workflow(name, superseding)
        body["metadata"]["labels"][manifests.TASK] = task
        plant.home.submit(body)
    hold = faults.Hold(after=after)
    plant.proxy.on("PATCH", call.format(task), hold)
    plant.home.ask(plant.request(task, superseding))
    hold.wait()
    plant.kill()
    hold.drop()
    plant.start()
    plant.came_to(task, Reason.GATE_OPENED)
    plant.opened_once(names[-1], task)
    for name in names[:-1]:
        gate = homes.node(plant.home.ended(name, "Failed"), "first")
        assert (gate["phase"], gate["message"]) == ("Failed", "Stopped with strategy 'Terminate'")
    assert plant.history.reasons(task) == ["GateOpened"]


@pytest.fixture(scope="module")
def superseding(plant: Rig) -> str:
    """A stage whose policy means the newest workflow of a task, and ends the others."""
    plant.policy("superseding", ambiguity="NewestCancelOthers")
    return "superseding"


def test_told_to_end_it_ends_what_it_has_begun_and_says_so(plant: Rig) -> None:
    plant.shown("leaving", STAGE)
    hold = faults.Hold()
    plant.proxy.on("PATCH", WORKFLOW_WRITE.format("leaving"), hold)
    plant.home.ask(plant.request("leaving", STAGE))
    hold.wait()
    plant.operator.signal(signal.SIGTERM)
    plant.operator.wait_logged("stopping")
    hold.release()
    plant.stop()
    # Before the next operator is there.
    plant.resumed_once("leaving")
    plant.start()


def test_stopped_in_the_middle_of_a_write_for_a_while_it_goes_on_with_what_is_then(
    plant: Rig,
) -> None:
    """As a suspended virtual machine is: what was going on meanwhile comes all at once."""
    for name in ("paused", "opened-meanwhile", "asked-meanwhile"):
        plant.shown(name, STAGE)
    holds = [faults.Hold() for _ in range(2)]
    for name, hold in zip(("paused", "opened-meanwhile"), holds, strict=True):
        plant.proxy.on("PATCH", WORKFLOW_WRITE.format(name), hold)
        plant.home.ask(plant.request(name, STAGE, nodeFieldSelector="displayName=first"))
        hold.wait()
    operator = plant.operator
    opened = homes.node(plant.home.workflow("opened-meanwhile"), "first")["id"]
    operator.signal(signal.SIGSTOP)
    try:
        plant.home.cluster.patch(
            homes.WORKFLOW,
            "opened-meanwhile",
            plant.home.namespace,
            {"status": {"nodes": {opened: {"phase": "Succeeded"}}}},
        )
        plant.home.ask(plant.request("asked-meanwhile", STAGE))
        for hold in holds:
            hold.release()
        time.sleep(3)
    finally:
        operator.signal(signal.SIGCONT)
    plant.resumed_once("paused")
    plant.resumed_once("asked-meanwhile")
    status = plant.came_to("opened-meanwhile", Reason.GATE_ALREADY_OPENED)
    assert status["resumedBy"] == "somebody else"
    assert plant.operator is operator


@pytest.mark.timeout(400)
def test_killed_in_a_storm_while_the_breaker_is_open_it_holds_on_and_then_resumes_each_once(
    plant: Rig,
) -> None:
    breaker = {"failureThreshold": 3, "openSeconds": 3}
    plant.policy("storm", retry={"maxAttempts": 20}, circuitBreaker=breaker)
    names = plant.at_gates("storm", 20)
    (calm,) = plant.at_gates(STAGE, 1, "calm")
    refused = faults.answer(503)
    with plant.proxy.on("PATCH", WORKFLOW_WRITE.format(r"storm-\d+"), refused, times=None) as rule:
        plant.home.ask(*(plant.request(name, "storm") for name in names))
        plant.breaker_in("storm", "Open")
        for _ in range(2):
            plant.kill()
            before = rule.hits
            plant.start()
            # The breaker outlives the operator: what is tried are its probes, one at a time.
            rule.wait(before + 1)
            assert rule.hits < before + 10
        plant.home.ask(plant.request(calm, STAGE))
        plant.resumed_once(calm)
    for name in names:
        plant.came_to(name, Reason.GATE_OPENED)
    for name in names:
        plant.opened_once(name)
        assert [one["outcome"] for one in plant.history.of(name)].count("Resumed") == 1
    failed = [
        one
        for name in names
        for one in plant.came_to(name, Reason.GATE_OPENED)["attempts"]
        if one["reason"] == "ApiUnavailable"
    ]
    # Nobody who was held lost an attempt by it; one that a killed operator made may be unknown.
    assert len(failed) <= rule.hits


@pytest.mark.timeout(400)
def test_killed_again_and_again_it_resumes_everything_once(plant: Rig) -> None:
    chance = random.Random(20261121)
    names = [f"soak-{number}" for number in range(SOAK)]
    for name in names:
        plant.home.cluster.create(plant.workflow(name, STAGE), plant.home.namespace)
    for name in names:
        plant.home.at_gate(name, "first")
    # Slow enough for a kill to meet calls under way.
    slow = [
        plant.proxy.on("PATCH", WORKFLOW_WRITE.format(r"soak-\d+"), faults.delay(0.05), times=None),
        plant.proxy.on("PATCH", STATUS_WRITE.format(r"soak-\d+"), faults.delay(0.05), times=None),
    ]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(_ask_slowly, plant, names)
        for number in range(KILLS):
            # Some die before they are at work, most of them in the middle of it.
            plant.operator.wait_logged(
                "starting" if number % 3 == 2 else "ready", process.START_TIMEOUT
            )
            time.sleep(chance.uniform(0.02, 0.6))
            plant.kill()
            plant.start(ready=False)
        asking.result()
    plant.operator.wait_logged("ready", process.START_TIMEOUT)
    for name in names:
        plant.came_to(name, Reason.GATE_OPENED)
    for rule in slow:
        rule.remove()
    for name in names:
        plant.opened_once(name)
        assert {"AlreadyResumed", "Failed", "Late"}.isdisjoint(
            str(status["outcome"]) for status in plant.history.of(name)
        )
        assert [one["outcome"] for one in plant.history.of(name)].count("Resumed") == 1


def _ask_slowly(plant: Rig, names: list[str]) -> None:
    """Requests come for as long as operators are killed."""
    for name in names:
        plant.home.ask(plant.request(name, STAGE))
        time.sleep(0.1)
