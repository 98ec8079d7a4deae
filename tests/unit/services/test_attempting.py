"""`Attempter`: a write that meets something, what is then known of it, and its breaker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer import errors
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome, Reason
from resumer.api.resume import RetryStatus
from resumer.core import breaker
from resumer.core.breaker import Breaker
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, WORKFLOWS, World, key, unsent

UNAVAILABLE = errors.TransientError("no answer", status=503, reason="ServiceUnavailable")
FORBIDDEN = errors.PermanentError("not allowed", status=403, reason="Forbidden")
REFUSED = errors.PermanentError("too large", status=413, reason="RequestEntityTooLarge")
CONFLICT = errors.PreconditionError("changed", status=409, reason="Conflict")


async def test_a_workflow_that_changed_before_the_write_is_looked_at_freshly(world: World) -> None:
    """Somebody else opens the gate between our decision and our write."""
    operator = world.start(watching=False)
    node = builders.at_review().node_id("wait")

    def steal() -> None:
        change = [{"op": "replace", "path": f"/status/nodes/{node}/phase", "value": "Succeeded"}]
        world.api.patch(WORKFLOWS, key("play"), change)

    world.faults.on("backend.resume", fakes.Fault(before=steal))
    await operator.look()

    assert world.faults.made[:2] == ["backend.resume", "workflows.find"]
    assert world.outcome() == (Outcome.WAITING, Reason.GATE_NOT_OPEN)
    assert world.telemetry.attempts == [("review", "Conflict")]
    assert world.status().attempts == ()


async def test_a_workflow_recreated_under_its_name_is_decided_on_anew(world: World) -> None:
    operator = world.start(watching=False)
    other = builders.at_review().with_uid("another").gate("wait")

    def recreate() -> None:
        world.api.delete(WORKFLOWS, key("play"))
        world.api.create(WORKFLOWS, other.build())

    world.faults.on("backend.resume", fakes.Fault(before=recreate))
    await operator.look()

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    found = world.status().workflow
    assert found is not None
    assert found.uid == "another"


async def test_a_workflow_that_vanished_before_the_write_is_no_failure(world: World) -> None:
    operator = world.start(watching=False)
    gone = fakes.Fault(before=lambda: world.api.delete(WORKFLOWS, key("play")))
    world.faults.on("backend.resume", gone)
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert world.status().retry is None


async def test_a_workflow_that_never_stands_still_is_left_for_a_moment(world: World) -> None:
    world.faults.always("backend.resume", fakes.Fault(CONFLICT))
    operator = world.start()

    delay = await operator.look()

    assert delay == pytest.approx(0.3)
    assert world.faults.count("backend.resume") == 6
    assert world.faults.count("requests.write_status") == 0
    world.faults.always("backend.resume", None)
    await operator.look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)


async def test_a_lost_answer_is_found_to_be_a_resume_with_one_read(world: World) -> None:
    world.faults.on("backend.resume", fakes.Fault(UNAVAILABLE, applied=True))

    assert await world.start(watching=False).look() is None

    assert world.faults.made == ["backend.resume", "workflows.find", "requests.write_status"]
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.status().retry is None
    assert world.writes() == 1


async def test_a_lost_answer_of_a_probe_gives_its_claim_back(world: World) -> None:
    """Else a half-open breaker would hold its stage for as long as a claim may last."""
    half_open = Breaker(state=BreakerState.OPEN, consecutive_failures=5, open_until=builders.NOW)
    world.breakers.put(builders.NAMESPACE, "review", half_open)
    world.faults.on("backend.resume", fakes.Fault(UNAVAILABLE, applied=True))

    await world.start().look()

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    stored, _ = world.breakers.get(builders.NAMESPACE, "review")
    assert (stored.state, stored.probes) == (BreakerState.CLOSED, ())


async def test_a_write_that_failed_backs_off_and_is_tried_again_when_due(world: World) -> None:
    world.faults.on("backend.resume", fakes.Fault(UNAVAILABLE))
    operator = world.start()

    assert await operator.look() == 2.0

    status = world.status()
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
    assert status.retry is not None
    assert status.retry.count == 1
    assert status.retry.next_attempt_time == builders.NOW + timedelta(seconds=2)
    assert status.message is not None
    assert status.message.startswith("attempt 1 of 3 failed: no answer")

    world.clock.advance(1)
    assert await operator.look() == 1.0
    world.clock.advance(1)
    assert await operator.look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert [attempt.number for attempt in world.status().attempts] == [1, 2]
    assert world.faults.count("requests.write_status") == 2


async def test_a_write_that_provably_never_left_is_not_read_after(world: World) -> None:
    world.faults.on("backend.resume", unsent())
    await world.start().look()
    assert world.faults.made == ["backend.resume", "breakers.write", "requests.write_status"]
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)


async def test_the_budget_survives_a_restart(world: World) -> None:
    world.faults.always("backend.resume", unsent())
    await world.start().look()
    world.clock.advance(2)
    await world.start().look()
    status = world.status()
    assert status.retry is not None
    assert status.retry.count == 2
    world.clock.advance(4)
    assert await world.start().look() is None
    assert world.outcome() == (Outcome.FAILED, Reason.RETRIES_EXHAUSTED)
    assert [attempt.number for attempt in world.status().attempts] == [1, 2, 3]
    assert world.opened() == []


async def test_a_server_that_asks_for_patience_gets_it_and_neither_attempt_nor_breaker_counts_it(
    world: World,
) -> None:
    limited = errors.TransientError("slow down", status=429, retry_after=17.0)
    world.faults.on("backend.resume", *[fakes.Fault(limited)] * 4)
    for _ in range(4):
        assert await world.start().look() == 17.0
        assert world.outcome() == (Outcome.BACKING_OFF, Reason.RATE_LIMITED)
        status = world.status()
        assert status.attempts == ()
        assert status.retry == RetryStatus(
            count=0, next_attempt_time=world.clock.now() + timedelta(seconds=17)
        )
        world.clock.advance(16)
        assert await world.start().look() == pytest.approx(1.0)
        world.clock.advance(1)
    assert await world.start().look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert [attempt.number for attempt in world.status().attempts] == [1]
    assert world.status().retry is None
    assert world.faults.count("workflows.find") == 0
    assert world.faults.count("breakers.write") == 0
    assert world.telemetry.attempts == [("review", "RateLimited")] * 4 + [("review", "Done")]


async def test_a_429_that_was_carried_out_all_the_same_is_found_to_be_ours(world: World) -> None:
    """No API server does this; something in between might."""
    limited = errors.TransientError("slow down", status=429, retry_after=1.0)
    world.faults.on("backend.resume", fakes.Fault(limited, applied=True))
    await world.start().settle()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.writes() == 1


async def test_nothing_is_given_up_while_the_fate_of_the_last_write_is_unknown(
    world: World,
) -> None:
    """The third write is carried out, its answer is lost, and for a while no read succeeds."""
    world.faults.on("backend.resume", unsent(), unsent(), fakes.Fault(UNAVAILABLE, applied=True))
    operator = world.start(watching=False)
    await operator.look()
    world.clock.advance(2)
    await operator.look()
    world.clock.advance(4)
    world.faults.on("workflows.find", fakes.Fault(), fakes.Fault(UNAVAILABLE))

    with pytest.raises(errors.TransientError):
        await operator.look()
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
    world.faults.on("workflows.find", fakes.Fault(UNAVAILABLE))
    with pytest.raises(errors.TransientError):
        await operator.look()

    assert await operator.look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.count("backend.resume") == 3
    assert world.writes() == 1


async def test_a_write_whose_fate_stays_unknown_counts_for_the_breaker(world: World) -> None:
    world.faults.on("backend.resume", unsent(), unsent(), fakes.Fault(UNAVAILABLE))
    operator = world.start()
    for wait in (2, 4):
        await operator.look()
        world.clock.advance(wait)
    world.faults.on("workflows.find", fakes.Fault(), fakes.Fault(UNAVAILABLE))
    with pytest.raises(errors.TransientError):
        await operator.look()
    assert world.breakers.get(builders.NAMESPACE, "review")[0].consecutive_failures == 3


async def test_attempts_are_given_up_only_after_a_read_found_the_gate_open(world: World) -> None:
    world.faults.always("backend.resume", fakes.Fault(UNAVAILABLE))
    await world.start().settle()
    assert world.outcome() == (Outcome.FAILED, Reason.RETRIES_EXHAUSTED)
    assert world.faults.made[-4:-1] == ["backend.resume", "workflows.find", "breakers.write"]
    assert world.opened() == []


@pytest.mark.parametrize(
    ("error", "reason"), [(FORBIDDEN, Reason.FORBIDDEN), (REFUSED, Reason.API_REFUSED)]
)
async def test_a_refused_write_ends_the_request_and_leaves_the_breaker_alone(
    world: World, error: errors.PermanentError, reason: Reason
) -> None:
    world.faults.on("backend.resume", fakes.Fault(error))
    assert await world.start().look() is None
    assert world.outcome() == (Outcome.FAILED, reason)
    assert world.status().message == f"the write to workflow 'play' was refused: {error}"
    assert world.faults.count("breakers.write") == 0
    assert world.opened() == []


@pytest.mark.parametrize("applied", [False, True])
async def test_a_status_that_could_not_be_written_is_written_by_the_next_pass(
    world: World, applied: bool
) -> None:
    world.faults.on("requests.write_status", fakes.Fault(UNAVAILABLE, applied=applied))
    operator = world.start(watching=False)
    with pytest.raises(errors.TransientError):
        await operator.look()
    if applied:
        # The write that meets it finds that it was ours.
        assert await operator.look() is None
    await operator.settle()
    assert [outcome for _, outcome, _ in world.telemetry.decisions] == ["Resumed"]
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.writes() == 1


async def test_a_status_that_somebody_else_decided_meanwhile_is_not_overwritten(
    world: World,
) -> None:
    decided = {"phase": "Succeeded", "outcome": "Resumed", "reason": "GateOpened"}

    def decide() -> None:
        world.api.change(REQUESTS, key(), lambda body: body.update(status=decided))

    world.faults.on("requests.write_status", fakes.Fault(before=decide))
    assert await world.start(watching=False).look() == 0.2
    assert world.api.get(REQUESTS, key())["status"] == decided
    assert world.events.published == []


async def test_an_attempt_whose_status_could_not_be_written_is_told_first_and_not_made_again(
    world: World,
) -> None:
    world.faults.on("backend.resume", unsent())
    world.faults.on("requests.write_status", fakes.Fault(UNAVAILABLE), fakes.Fault(UNAVAILABLE))
    operator = world.start()
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            await operator.look()
    await operator.look()
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
    status = world.status()
    assert status.retry is not None
    assert status.retry.count == 1
    assert world.faults.count("backend.resume") == 1


async def test_an_attempt_that_was_not_told_is_forgotten_when_the_request_has_changed(
    world: World,
) -> None:
    world.faults.on("requests.write_status", fakes.Fault(UNAVAILABLE))
    operator = world.start()
    with pytest.raises(errors.TransientError):
        await operator.look()
    other = builders.a_request("wake").failed_attempt(due=-1).build()["status"]
    world.api.change(REQUESTS, key(), lambda body: body.update(status=other))
    await operator.look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.count("backend.resume") == 1
    assert [attempt.number for attempt in world.status().attempts] == [1]


async def test_an_attempt_is_told_even_if_the_breaker_cannot_be_changed(world: World) -> None:
    world.breakers.put(builders.NAMESPACE, "review", Breaker(consecutive_failures=1))
    operator = world.start()
    world.breakers.put(builders.NAMESPACE, "review", Breaker(consecutive_failures=2))
    world.faults.on("backend.resume", unsent())
    world.faults.on("breakers.read", fakes.Fault(UNAVAILABLE))
    await operator.look()
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
    assert world.faults.count("backend.resume") == 1


async def test_an_open_breaker_holds_a_request_and_uses_up_no_attempt(world: World) -> None:
    opened = Breaker(
        state=BreakerState.OPEN,
        consecutive_failures=5,
        open_until=builders.NOW + timedelta(seconds=30),
    )
    world.breakers.put(builders.NAMESPACE, "review", opened)
    operator = world.start()

    assert await operator.look() == 37.5
    assert world.outcome() == (Outcome.CIRCUIT_OPEN, Reason.BREAKER_OPEN)
    assert world.status().retry is None
    assert world.faults.made == ["requests.write_status"]

    world.clock.advance(30.5)
    assert await operator.look() is None
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.breakers.get(builders.NAMESPACE, "review")[0].state is BreakerState.CLOSED


async def test_who_loses_the_race_for_the_probe_is_held(world: World) -> None:
    """The store shows a breaker that lets a probe through; another operator has taken it."""
    opened = Breaker(state=BreakerState.OPEN, consecutive_failures=5, open_until=builders.NOW)
    world.breakers.put(builders.NAMESPACE, "review", opened)
    operator = world.start()
    taken = breaker.admit(opened, breaker.BreakerSettings(), "another", builders.NOW)
    assert isinstance(taken, breaker.Admitted)
    world.breakers.put(builders.NAMESPACE, "review", taken.breaker)

    await operator.look()

    assert world.outcome() == (Outcome.CIRCUIT_OPEN, Reason.BREAKER_OPEN)
    assert world.opened() == []
    assert world.faults.count("backend.resume") == 0


async def test_five_failures_in_a_row_of_several_requests_open_the_breaker() -> None:
    world = World().under(builders.three_stages(retry={"jitter": "None"}))
    names = [f"wake-{number}" for number in range(6)]
    for number, name in enumerate(names):
        workflow = builders.at_review(f"play-{number}").labelled(task=str(number))
        world.add(workflow, builders.a_request(name).of_task(str(number)))
    world.faults.always("backend.resume", unsent())
    operator = world.start()
    for name in names:
        await operator.look(name)

    assert [world.outcome(name)[0] for name in names] == [Outcome.BACKING_OFF] * 5 + [
        Outcome.CIRCUIT_OPEN
    ]
    changes = [change[1:] for change in world.telemetry.breaker_changes]
    assert changes == [("review", "Closed", "Open")]


async def test_a_workflow_that_is_stopped_between_look_and_write_is_not_written_to() -> None:
    world = World().under(builders.three_stages())
    world.add(builders.at_review(), builders.a_request("wake"))
    operator = world.start()

    def stop() -> None:
        world.api.patch(
            WORKFLOWS,
            key("play"),
            [{"op": "add", "path": "/spec/shutdown", "value": "Terminate"}],
        )

    world.faults.on("backend.resume", fakes.Fault(before=stop))
    await operator.look()
    assert world.outcome() == (Outcome.LATE, Reason.WORKFLOW_FINISHED)
    assert world.opened() == []
