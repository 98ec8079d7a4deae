"""A request that was withdrawn opens nothing, whether the watch tells of it or not."""

from __future__ import annotations

from typing import Any

import pytest

from resumer import errors
from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, World, key

READ = "reader.request"
WRITE = "backend.resume"


async def test_while_the_watch_is_heard_nothing_is_asked(world: World) -> None:
    await world.start().look()
    assert world.faults.made == [WRITE, "requests.write_status"]


async def test_after_a_gap_one_read_tells_that_a_request_still_stands(world: World) -> None:
    operator = world.start()
    operator.hears = False
    assert await operator.look() is None
    assert world.faults.made == [READ, WRITE, "requests.write_status"]
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)


def withdraw(world: World) -> None:
    world.api.delete(REQUESTS, key())


def withdraw_what_a_finalizer_holds(world: World) -> None:
    def deleted(body: dict[str, Any]) -> None:
        body["metadata"].update(finalizers=["example.com/held"], deletionTimestamp=builders.at(0))

    world.api.change(REQUESTS, key(), deleted)


def withdraw_and_ask_anew(world: World) -> None:
    withdraw(world)
    anew = builders.a_request("wake").build()
    anew["metadata"]["uid"] = "another"
    world.api.create(REQUESTS, anew)


def end(world: World) -> None:
    def ended(body: dict[str, Any]) -> None:
        body["status"] = {"outcome": "AlreadyResumed", "phase": "Succeeded"}

    world.api.change(REQUESTS, key(), ended)


WITHDRAWN = [withdraw, withdraw_what_a_finalizer_holds, withdraw_and_ask_anew]


@pytest.mark.parametrize("happened", [*WITHDRAWN, end])
async def test_what_happened_unseen_to_a_request_is_found_before_the_write(
    world: World, happened: Any
) -> None:
    operator = world.start(watching=False)
    happened(world)
    operator.hears = False

    assert await operator.look() is None

    assert world.faults.made == [READ]
    assert (world.opened(), world.writes()) == ([], 0)
    assert key() not in operator.stores.requests
    # A list that shows another one of its name brings that.
    operator.list_all()
    await operator.settle()
    assert world.opened() == ([] if happened is not withdraw_and_ask_anew else ["wait"])


@pytest.mark.parametrize("happened", WITHDRAWN)
async def test_a_request_that_goes_while_workflows_are_read_opens_nothing_more(
    world: World, happened: Any
) -> None:
    """The look was under way when the watch told of it."""
    operator = world.start()
    world.faults.on(WRITE, fakes.Fault(errors.PreconditionError("changed")))
    reads = fakes.Fault(before=lambda: happened(world))
    world.faults.on("workflows.find", reads)

    assert await operator.look() is None

    assert world.faults.count(WRITE) == 1
    assert world.opened() == []


async def test_a_withdrawn_request_claims_no_probe_of_a_breaker(world: World) -> None:
    operator = world.start(watching=False)
    stage = builders.three_stages().resolved().stages[1]
    for number in range(stage.breaker.failure_threshold):
        await operator.guard.failed(
            builders.NAMESPACE, stage, f"uid-{number}", "Refused", world.clock.now()
        )
    world.clock.advance(stage.breaker.open_seconds + 1)
    world.faults.made.clear()
    withdraw(world)
    operator.hears = False

    assert await operator.look() is None

    assert world.faults.made == [READ]


async def test_what_is_withdrawn_while_its_status_is_written_is_not_put_back() -> None:
    world = World().under(builders.three_stages()).add(builders.a_request())
    operator = world.start(watching=False)
    world.faults.on(
        "requests.write_status", fakes.Fault(before=lambda: withdraw_what_a_finalizer_holds(world))
    )

    await operator.look()

    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert key() not in operator.stores.requests


async def test_a_read_that_fails_is_made_again_and_is_no_attempt(world: World) -> None:
    operator = world.start()
    operator.hears = False
    unavailable = errors.TransientError("not now", status=503)
    world.faults.on(READ, fakes.Fault(unavailable))

    with pytest.raises(errors.TransientError):
        await operator.look()

    assert (world.outcome(), world.writes()) == ((None, None), 0)
    await operator.settle()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert [attempt.number for attempt in world.status().attempts] == [1]
