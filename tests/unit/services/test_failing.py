"""A gate is failed with the guarantees of a resume: once, told truthfully, whatever goes wrong."""

from __future__ import annotations

import pytest

from resumer import errors
from resumer.api import constants
from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services.world import World

LONGEST = 20
"""More calls than any of these passes makes."""


@pytest.fixture
def world() -> World:
    """A workflow at its gate, with another one open, and an event that fails the first."""
    return scene()


def scene() -> World:
    policy = builders.three_stages(failOn=["closed"], nodeFieldSelector="displayName=wait")
    workflow = builders.at_review().gate("other", template="other")
    request = builders.a_request("wake").for_stage(None).of_event("closed")
    return World().under(policy).add(workflow, request)


async def test_it_costs_two_writes_and_is_told_as_what_it_is(world: World) -> None:
    assert await world.start().look() is None

    assert world.faults.made == ["backend.resume", "requests.write_status"]
    assert world.outcome() == (Outcome.GATE_FAILED, Reason.FAILED_BY_EVENT)
    assert (world.node()["phase"], world.node("other")["phase"]) == ("Failed", "Running")
    status = world.status()
    assert (status.resumed_by, status.resumed_time, status.retry) == (None, None, None)
    assert {one.type: str(one.status) for one in status.conditions} == {
        "Correlated": "True",
        "Validated": "True",
        "Resumed": "False",
        "Stalled": "False",
        "Ready": "True",
    }
    told = [(event.kind, event.reason, event.warning) for event in world.events.published]
    assert told == [
        (constants.RESUME_KIND, "FailedByEvent", False),
        (constants.WORKFLOW_KIND, "FailedByRequest", True),
    ]
    assert world.telemetry.decisions == [("review", "GateFailed", "FailedByEvent")]
    assert world.telemetry.latencies == []


async def test_after_a_lost_answer_it_is_known_to_be_done(world: World) -> None:
    lost = errors.TransientError("no answer", reason="ServerTimeout")
    world.faults.on("backend.resume", fakes.Fault(lost, applied=True))
    await world.start().settle()
    assert world.outcome() == (Outcome.GATE_FAILED, Reason.FAILED_BY_EVENT)
    assert world.writes() == 1


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_killed_at_any_call_the_next_life_comes_to_the_same_end(applied: bool) -> None:
    kills = 0
    for number in range(1, LONGEST):
        world = scene()
        world.faults.at(number, fakes.Fault(fakes.Killed(), applied=applied))
        try:
            await world.start().settle()
        except fakes.Killed:
            kills += 1
            await world.start().settle()
        assert world.outcome() == (Outcome.GATE_FAILED, Reason.FAILED_BY_EVENT), number
        assert world.opened() == ["wait"]
        assert world.writes() == 1
        if kills < number:
            break
    assert 2 <= kills < LONGEST - 1
