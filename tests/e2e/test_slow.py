"""Slow answers that add up: a look at a request is cut off in time, and nobody waits for it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from tests.e2e.support import faults, manifests, rig
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STAGE = "slowly"
ONE_CALL, ALL_CALLS = 10, 11
"""Seconds that are allowed."""
SLOW = 6.0
"""Seconds for one answer: less than a call may take, and more than two of them may."""


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    options = ["--request-timeout", str(ONE_CALL), "--reconcile-timeout", str(ALL_CALLS)]
    with rig.running(home, tmp_path_factory.mktemp("slow"), options=options) as started:
        started.policy(STAGE)
        yield started


def test_a_look_at_a_request_that_takes_too_long_is_cut_off_and_made_again(plant: Rig) -> None:
    for name in ("slow", "quick"):
        plant.home.submit(plant.workflow(name, STAGE))
    # The rule is on the workflow, which is read for it. The write arrives when it was given up.
    reading = plant.proxy.on("GET", "/workflows$", faults.delay(SLOW))
    plant.proxy.on("PATCH", "/workflows/slow$", faults.delay(SLOW))
    rules = [manifests.rule("workflow.metadata.name", "equals", "slow")]
    plant.home.ask(plant.request("slow", STAGE, rules=rules))
    reading.wait(1)
    plant.home.ask(plant.request("quick", STAGE))
    plant.resumed_once("quick")
    told = plant.history.wait_reason("slow", "ApiUnavailable")
    assert f"no end after {ALL_CALLS} s" in told["message"]
    assert told["retry"]["count"] == 1
    (attempt,) = told["attempts"]
    lasted = datetime.datetime.fromisoformat(attempt["endTime"]) - datetime.datetime.fromisoformat(
        attempt["startTime"]
    )
    assert lasted < datetime.timedelta(seconds=ONE_CALL)
    status = plant.resumed_once("slow")
    assert status["resumedBy"] == "workflowresume/slow"
    plant.operator.wait_logged("pass cut off")
