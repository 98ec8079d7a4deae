"""`Recorder`: a status that somebody else had a hand in."""

from __future__ import annotations

from typing import Any

import pytest

from resumer import errors
from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, World, key

CONFLICT = errors.PreconditionError("changed", status=422, reason="PatchTestFailed")


def by_hand(world: World, status: dict[str, Any]) -> None:
    """Somebody who may do so writes a status."""
    world.api.change(REQUESTS, key(), lambda body: body.update(status=status))


@pytest.mark.parametrize("status", [{}, {"phase": "Pending"}, {"phase": "Waiting", "message": "?"}])
async def test_a_status_without_an_outcome_is_replaced_at_the_first_try(
    world: World, status: dict[str, Any]
) -> None:
    by_hand(world, status)
    operator = world.start()

    assert await operator.look() is None

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.made == ["backend.resume", "requests.write_status"]


async def test_a_status_without_an_outcome_of_an_invalid_object_is_replaced() -> None:
    world = World()
    body = builders.a_request("wake").with_spec(correlationData={"taskId": "7"}).build()
    world.api.create(REQUESTS, {**body, "status": {"phase": "Pending"}})
    operator = world.start(watching=False)

    assert await operator.look() is None

    assert world.outcome() == (Outcome.REJECTED, Reason.INVALID_OBJECT)
    assert world.telemetry.decisions == [("other", "Rejected", "InvalidObject")]


async def test_a_status_that_somebody_writes_first_is_tried_again_less_and_less_often(
    world: World,
) -> None:
    """It never becomes a hot loop, even if the watch never shows what was written."""
    operator = world.start(watching=False)
    world.faults.always("requests.write_status", fakes.Fault(CONFLICT))

    delays = [await operator.look() or 0.0 for _ in range(12)]

    assert delays[:3] == [0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == 30.0
    assert world.faults.count("backend.resume") == 1, "the gate is opened once"

    world.faults.clear()
    assert await operator.look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)


async def test_a_conflict_that_is_over_is_forgotten(world: World) -> None:
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=100))
    operator = world.start()
    world.faults.on("requests.write_status", *[fakes.Fault(CONFLICT)] * 3)
    for _ in range(4):
        await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)

    world.clock.advance(40)
    world.faults.on("requests.write_status", fakes.Fault(CONFLICT))
    assert await operator.look() == 0.2


async def test_an_invalid_object_that_somebody_wrote_to_is_looked_at_again() -> None:
    world = World()
    body = builders.a_request("wake").with_spec(correlationData={"taskId": "7"}).build()
    world.api.create(REQUESTS, body)
    operator = world.start()
    world.faults.on(
        "requests.write_status",
        fakes.Fault(before=lambda: by_hand(world, {"outcome": "Waiting"})),
    )

    assert await operator.look() == 0.2
    assert world.telemetry.decisions == []
    assert await operator.look() is None

    assert world.outcome() == (Outcome.REJECTED, Reason.INVALID_OBJECT)
    assert world.telemetry.decisions == [("other", "Rejected", "InvalidObject")]
