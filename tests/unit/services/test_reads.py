"""Reads that fail again and again are told, and neither use up an attempt nor move the breaker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer import errors
from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services.world import WORKFLOWS, Operator, World, at_its_gate

DOWN = errors.TransientError("the server is busy", status=503, reason="ServiceUnavailable")
LOST = errors.TransientError("connection reset", reason="ClientOSError")
BACKING_OFF = (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
MESSAGE = "no attempt was made: cannot read workflows: the server is busy"
UNKNOWN = "it is not known if the last attempt was carried out"


@pytest.fixture
def world() -> World:
    """A request for a workflow that does not exist: a read has to make sure of that."""
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=7200))
    world.faults.always("workflows.find", fakes.Fault(DOWN))
    return world


async def fail_twice(operator: Operator) -> None:
    """The two failures that the queue answers alone."""
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            await operator.look()


async def test_a_short_outage_costs_no_write_of_a_status(world: World) -> None:
    operator = world.start()
    await fail_twice(operator)
    assert world.faults.count("requests.write_status") == 0
    world.faults.clear()
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert world.faults.count("requests.write_status") == 1


async def test_an_outage_that_lasts_is_told_with_the_time_of_the_next_read(world: World) -> None:
    operator = world.start()
    await fail_twice(operator)

    delay = await operator.look()

    assert world.outcome() == BACKING_OFF
    status = world.status()
    assert status.message == MESSAGE
    assert delay is not None
    assert status.retry is not None
    assert status.retry.next_attempt_time == world.clock.now() + timedelta(seconds=delay)
    assert (status.attempts, status.retry.count) == ((), 0)
    assert world.faults.count("breakers.write") == 0
    assert [event.reason for event in world.events.published] == ["ApiUnavailable"]


async def test_each_read_comes_later_than_the_one_before_and_a_minute_later_at_most(
    world: World,
) -> None:
    operator = world.start()
    await fail_twice(operator)
    delays = []
    for _ in range(9):
        delays.append(await operator.look() or 0.0)
        assert world.status().message == MESSAGE
        world.clock.advance(delays[-1])

    assert delays == sorted(delays)
    assert delays[0] <= 2
    assert 30 <= delays[-1] <= 60
    assert world.faults.count("requests.write_status") == 9, "one for each time that is told"
    assert len(world.events.published) == 1

    world.faults.clear()
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    world.faults.always("workflows.find", fakes.Fault(DOWN))
    world.clock.advance(7200)
    await fail_twice(operator)  # it is over, so the next one may be short as well


async def test_who_is_woken_before_the_time_neither_reads_nor_writes(world: World) -> None:
    operator = world.start()
    await fail_twice(operator)
    delay = await operator.look() or 0.0
    made = list(world.faults.made)
    world.clock.advance(delay / 4)
    for _ in range(5):
        assert await operator.look() == pytest.approx(delay * 3 / 4)
    assert world.faults.made == made


async def test_a_wait_that_the_api_server_asked_for_is_kept(world: World) -> None:
    operator = world.start()
    asked = errors.TransientError("later", status=429, retry_after=90)
    world.faults.always("workflows.find", fakes.Fault(asked))
    await fail_twice(operator)
    assert await operator.look() == 90


async def test_a_request_that_waited_past_its_deadline_says_what_keeps_it(world: World) -> None:
    world.faults.clear()
    operator = world.start()
    await operator.look()
    assert world.outcome()[0] is Outcome.WAITING
    world.faults.always("workflows.find", fakes.Fault(DOWN))
    world.clock.advance(7200)
    await fail_twice(operator)

    await operator.look()

    assert world.outcome() == BACKING_OFF
    assert world.status().message == MESSAGE
    world.faults.clear()
    await operator.settle()
    assert world.outcome() == (Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED)


async def test_what_cannot_be_told_either_is_told_as_soon_as_it_can(world: World) -> None:
    operator = world.start()
    await fail_twice(operator)
    world.faults.always("requests.write_status", fakes.Fault(DOWN))
    for _ in range(4):
        with pytest.raises(errors.TransientError):
            await operator.look()
    world.faults.always("requests.write_status", None)
    await operator.look()
    assert world.outcome() == BACKING_OFF


async def test_attempts_that_failed_before_are_kept_and_none_is_added() -> None:
    world = at_its_gate()
    operator = world.start()
    world.faults.on("backend.resume", fakes.Fault(DOWN))
    world.clock.advance(await operator.look() or 0.0)
    before = world.status()
    assert before.retry is not None
    assert before.retry.count == 1
    world.faults.always("workflows.find", fakes.Fault(DOWN))
    await fail_twice(operator)

    await operator.look()

    status = world.status()
    assert world.outcome() == BACKING_OFF
    assert status.message == f"{UNKNOWN}: cannot read workflows: the server is busy"
    assert status.attempts == before.attempts
    assert status.retry is not None
    assert status.retry.count == 1
    assert (status.workflow, status.policy) == (before.workflow, before.policy)
    world.faults.clear()
    await operator.settle()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert [attempt.number for attempt in world.status().attempts] == [1, 2]


@pytest.mark.parametrize("applied", [False, True])
async def test_while_the_fate_of_the_last_attempt_is_unknown_nobody_says_it_failed(
    applied: bool,
) -> None:
    world = World().under(builders.three_stages(retry={"maxAttempts": 1}))
    world.add(builders.at_review(), builders.a_request())
    world.faults.always("backend.resume", fakes.Fault(LOST, applied=applied))
    world.faults.always("workflows.find", fakes.Fault(DOWN))
    operator = world.start(watching=False)
    for _ in range(3):
        with pytest.raises(errors.TransientError):
            await operator.look()
    for _ in range(5):
        world.clock.advance(await operator.look() or 0.0)
        assert world.outcome() == BACKING_OFF
        assert world.status().message == (
            "it is not known if the last attempt was carried out:"
            " cannot read workflows: the server is busy"
        )
    assert world.faults.count("backend.resume") == 1

    world.faults.clear()
    await operator.settle()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.writes() == 1


async def test_a_gate_that_the_watch_shows_meanwhile_is_opened_without_that_read(
    world: World,
) -> None:
    operator = world.start()
    await fail_twice(operator)
    await operator.look()
    assert world.outcome() == BACKING_OFF

    body = builders.at_review().build()
    world.api.create(WORKFLOWS, body)
    operator.intake.workflow(body)
    assert await operator.look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.count("workflows.find") == 3
