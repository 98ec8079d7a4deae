"""A status whose write got no answer is told once, and only if it was written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resumer import errors
from resumer.api.outcomes import Outcome, Reason
from resumer.services import telling
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.test_traced import Told
from tests.unit.services.world import REQUESTS, Operator, World, at_its_gate, key

LOST = errors.TransientError("connection reset", reason="ClientOSError")


def rejected() -> World:
    """A request that ends without an attempt."""
    event = {"action": "opened", "pull_request": {"labels": [{"name": "task-8"}]}}
    correlation = {"taskId": "7", "eventType": "review", "githubEvent": event}
    return (
        World()
        .under(builders.three_stages())
        .add(builders.a_request("wake").with_spec(correlationData=correlation))
    )


def lose(world: World, *, applied: bool = True) -> None:
    world.faults.on("requests.write_status", fakes.Fault(LOST, applied=applied))


async def fail(operator: Operator) -> None:
    with pytest.raises(errors.TransientError):
        await operator.look()


def told(world: World) -> list[tuple[str, str]]:
    """Outcomes and reasons that were counted."""
    return [(outcome, reason) for _, outcome, reason in world.telemetry.decisions]


@pytest.mark.parametrize("make", [at_its_gate, rejected])
async def test_the_watch_shows_that_the_request_has_finished(make: Any) -> None:
    world = make()
    operator = world.start()
    lose(world)
    await fail(operator)
    assert key() not in operator.stores.requests
    assert told(world) == []

    assert await operator.look() is None

    assert told(world) == [world.outcome()]
    on_request = [event for event in world.events.published if event.kind == "WorkflowResume"]
    assert [event.reason for event in on_request] == [world.outcome()[1]]
    assert world.faults.count("reader.request") == 1
    assert await operator.look() is None
    assert len(told(world)) == 1
    assert operator.reconciler.forget(key()) is False


@pytest.mark.parametrize("make", [at_its_gate, rejected])
async def test_the_next_write_meets_the_one_before(make: Any) -> None:
    world = make()
    operator = world.start(watching=False)
    lose(world)
    await fail(operator)

    assert await operator.look() is None

    assert told(world) == [world.outcome()]
    operator.intake.request_gone(key())
    assert await operator.look() is None
    assert len(told(world)) == 1
    assert world.faults.count("reader.request") == 1


@pytest.mark.parametrize("make", [at_its_gate, rejected])
async def test_a_write_that_was_not_carried_out_is_told_with_the_one_that_was(make: Any) -> None:
    world = make()
    operator = world.start()
    lose(world, applied=False)
    await fail(operator)
    await operator.look()
    await operator.look()
    assert told(world) == [world.outcome()]
    assert world.faults.count("reader.request") == 0


async def test_a_state_that_is_not_the_last_is_told_when_the_watch_shows_it() -> None:
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=100))
    operator = world.start()
    lose(world)
    await fail(operator)
    assert told(world) == []
    await operator.look()
    await operator.look()
    assert told(world) == [(Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)]
    assert world.faults.count("requests.write_status") == 1
    assert world.faults.count("reader.request") == 0


async def test_a_state_that_is_not_the_last_is_told_when_the_next_write_meets_it() -> None:
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=100))
    operator = world.start(watching=False)
    lose(world)
    await fail(operator)
    assert await operator.look() == pytest.approx(0.2)
    assert told(world) == [(Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)]
    operator.intake.request(world.api.get(REQUESTS, key()))
    await operator.look()
    assert len(told(world)) == 1


async def test_what_somebody_else_wrote_is_theirs_to_tell() -> None:
    world = at_its_gate()
    operator = world.start()
    lose(world, applied=False)
    await fail(operator)

    def decide(body: builders.Json) -> None:
        body["status"] = {"phase": "Failed", "outcome": "Failed", "reason": "Forbidden"}

    world.api.change(REQUESTS, key(), decide)
    assert await operator.look() is None
    assert told(world) == []
    assert operator.reconciler.forget(key()) is False


async def test_of_what_was_deleted_nobody_tells() -> None:
    world = rejected()
    operator = world.start(watching=False)
    lose(world)
    await fail(operator)
    world.api.delete(REQUESTS, key())
    assert await operator.look() is None
    operator.intake.request_gone(key())
    assert await operator.look() is None
    assert told(world) == []


async def test_a_recreated_request_is_another() -> None:
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=100))
    operator = world.start()
    lose(world, applied=False)
    await fail(operator)
    world.api.delete(REQUESTS, key())
    other = builders.a_request("wake").build()
    other["metadata"]["uid"] = "another"
    other["status"] = {"phase": "Waiting", "outcome": "Waiting", "reason": "WorkflowNotFound"}
    world.api.create(REQUESTS, other)
    operator.intake.request(world.api.get(REQUESTS, key()))
    await operator.look()
    assert told(world) == []
    assert operator.reconciler.forget(key()) is False


@pytest.mark.parametrize("error", [LOST, errors.PermanentError("not allowed", status=403)])
async def test_what_it_came_to_is_read_until_that_is_answered(error: errors.ApiError) -> None:
    world = at_its_gate()
    operator = world.start()
    lose(world)
    await fail(operator)
    world.faults.on("reader.request", fakes.Fault(error))
    if error is LOST:
        await fail(operator)
    assert await operator.look() is None
    assert len(told(world)) == (1 if error is LOST else 0)
    assert operator.reconciler.forget(key()) is False


async def test_a_resume_is_measured_up_to_its_first_write_and_its_trace_ends() -> None:
    trace = Told()
    world = World(tracing=trace).under(builders.three_stages())
    world.add(builders.at_review(), builders.a_request())
    operator = world.start()
    lose(world)
    await fail(operator)
    assert world.telemetry.latencies == []
    world.clock.advance(50)
    await operator.look()
    assert world.telemetry.latencies == [("review", 60.0, 120.0)]
    assert trace.passes[-1] == ["wake", "GateOpened review", "ended"]
    assert sum("ended" in one for one in trace.passes) == 1


def test_the_queue_finds_out_by_itself() -> None:
    async def main() -> None:
        world = at_its_gate()
        operator = world.start()
        lose(world)
        operator.intake.start()
        await asyncio.sleep(60)
        assert told(world) == [(Outcome.RESUMED, Reason.GATE_OPENED)]
        assert world.faults.count("backend.resume") == 1

    virtual.run(main())


def test_a_pass_that_is_cut_off_while_it_records_is_told_once() -> None:
    async def main() -> None:
        world = rejected()
        operator = world.start()
        world.faults.on("requests.write_status", fakes.Fault(hangs=True, applied=True))
        operator.intake.start()
        await asyncio.sleep(300)
        assert told(world) == [world.outcome()]

    virtual.run(main())


async def test_in_an_outage_only_so_many_writes_without_an_answer_are_remembered() -> None:
    world = World()
    names = [f"wake-{number}" for number in range(telling.MAX_UNANSWERED + 2)]
    for name in names:
        world.add(builders.a_request(name))
    no_answer = fakes.Fault(errors.TransientError("no answer"))
    world.faults.always("requests.write_status", no_answer)
    operator = world.start()
    for name in names:
        with pytest.raises(errors.TransientError):
            await operator.look(name)
    teller = operator.reconciler._teller
    in_doubt = [name for name in names if teller.in_doubt(key(name))]
    assert in_doubt == names[2:]
