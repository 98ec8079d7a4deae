"""The operator killed at any moment: no gate is opened twice, none is forgotten, no other opened.

The proxy stops the operator's call at a point where it can die, the test kills the process, and
what was stopped is lost or still arrives. Each Workflow has a second gate behind the first, which
nobody asks for: it tells of a gate too many.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import faults, rig, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STAGE = "gates"
SOAK = 100
KILLS = 6

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
    plant.home.submit(plant.workflow(name, STAGE))
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
        plant.home.submit(plant.workflow(name, STAGE))
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
    plant.home.submit(plant.workflow("late-status", STAGE))
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


@pytest.mark.timeout(240)
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
            plant.operator.wait_logged("starting" if number % 3 == 2 else "ready", 60)
            time.sleep(chance.uniform(0.02, 0.6))
            plant.kill()
            plant.start(ready=False)
        asking.result()
    plant.operator.wait_logged("ready", 60)
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
