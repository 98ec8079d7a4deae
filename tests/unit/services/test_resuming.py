"""`Reconciler`: each branch of a pass, from what is so to what is then so."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from resumer import errors
from resumer.api import constants
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome, Reason
from resumer.api.resume import RetryStatus
from resumer.core import breaker, decision
from resumer.core.breaker import Breaker
from resumer.core.observation import NOTHING, Decision, Look, Observation, ResumeOrder
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, WORKFLOWS, World, key

UNAVAILABLE = errors.TransientError("no answer", status=503, reason="ServiceUnavailable")
FORBIDDEN = errors.PermanentError("not allowed", status=403, reason="Forbidden")
REFUSED = errors.PermanentError("too large", status=413, reason="RequestEntityTooLarge")
CONFLICT = errors.PreconditionError("changed", status=409, reason="Conflict")


@pytest.fixture
def world() -> World:
    """The workflow of most tests at its gate, and a request for it."""
    return (
        World().under(builders.three_stages()).add(builders.at_review(), builders.a_request("wake"))
    )


def unsent() -> fakes.Fault:
    return fakes.Fault(errors.TransientError("refused", reason="Refused", sent=False))


async def test_a_request_at_its_gate_costs_two_writes_and_no_read(world: World) -> None:
    assert await world.start().look() is None

    assert world.faults.made == ["backend.resume", "requests.write_status"]
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.opened() == ["wait"]
    assert "uid-of-wake" in world.node()["message"]
    assert world.status().resumed_by == "workflowresume/wake"
    assert [attempt.number for attempt in world.status().attempts] == [1]
    assert world.status().retry is None


async def test_what_is_told_of_a_resume_is_one_event_on_each_object_and_the_metrics(
    world: World,
) -> None:
    await world.start().look()

    told = [(event.kind, event.reason, event.warning) for event in world.events.published]
    assert told == [
        (constants.RESUME_KIND, "GateOpened", False),
        (constants.WORKFLOW_KIND, "ResumedByRequest", False),
    ]
    assert world.telemetry.decisions == [("review", "Resumed", "GateOpened")]
    assert world.telemetry.attempts == [("review", "Done")]
    assert world.telemetry.latencies == [("review", 60.0, 120.0)]


async def test_a_finished_request_is_not_looked_at_again(world: World) -> None:
    operator = world.start(watching=False)
    await operator.look()
    stale = builders.a_request("wake").build()
    operator.intake.request(stale)

    assert await operator.look() is None
    assert world.faults.count("backend.resume") == 1


async def test_nothing_is_done_for_a_request_that_is_gone(world: World) -> None:
    operator = world.start()
    world.api.delete(REQUESTS, key())

    assert await operator.look() is None
    assert world.faults.made == []


async def test_a_request_deleted_while_it_is_decided_ends_there(world: World) -> None:
    operator = world.start(watching=False)
    gone = fakes.Fault(before=lambda: world.api.delete(REQUESTS, key()))
    world.faults.on("requests.write_status", gone)

    assert await operator.look() is None
    assert await operator.look() is None
    assert world.faults.made == ["backend.resume", "requests.write_status"]
    assert world.events.published == []


async def test_a_request_without_a_workflow_waits_until_its_deadline_after_one_look() -> None:
    world = World().add(builders.a_request("wake").with_spec(deadlineSeconds=100))
    operator = world.start()

    assert await operator.look() == 40.0
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert world.status().deadline_time == builders.NOW + timedelta(seconds=40)
    assert world.faults.made == ["workflows.find", "requests.write_status"]

    world.clock.advance(40)
    assert await operator.look() is None
    assert world.outcome() == (Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED)


async def test_an_early_request_waits_without_a_read_and_is_resumed_when_its_gate_opens() -> None:
    world = World().under(builders.three_stages())
    world.add(builders.a_workflow().in_stage("draft"), builders.a_request("wake"))
    operator = world.start()
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.STAGE_NOT_REACHED)

    world.api.change(WORKFLOWS, key("play"), lambda body: body.update(builders.at_review().build()))
    assert await operator.look() is None

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.status().deadline_time is None
    assert world.faults.made == ["requests.write_status", "backend.resume", "requests.write_status"]


async def test_a_request_that_still_waits_for_the_same_writes_nothing() -> None:
    world = World().add(builders.a_request("wake"))
    operator = world.start()
    await operator.look()
    world.clock.advance(5)
    await operator.look()

    assert world.faults.count("requests.write_status") == 1


async def test_a_reason_to_wait_that_holds_less_than_a_second_is_not_written() -> None:
    world = World().under(builders.three_stages()).add(builders.a_request("wake"))
    operator = world.start()
    await operator.look()
    writes = world.faults.count("requests.write_status")

    world.add(builders.a_workflow().in_stage("draft"))
    assert await operator.look() == 1.0
    world.clock.advance(0.3)
    assert await operator.look() == pytest.approx(0.7)
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert world.faults.count("requests.write_status") == writes

    world.clock.advance(0.7)
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.STAGE_NOT_REACHED)
    assert world.faults.count("requests.write_status") == writes + 1


async def test_a_flicker_through_several_reasons_costs_no_write_at_all() -> None:
    world = World().under(builders.three_stages()).add(builders.a_request("wake"))
    operator = world.start()
    await operator.look()
    writes = world.faults.count("requests.write_status")

    world.add(builders.a_workflow().in_stage("draft"))
    await operator.look()
    world.clock.advance(0.6)
    world.api.change(
        WORKFLOWS,
        key("play"),
        lambda body: body.update(builders.a_workflow().in_stage("review").build()),
    )
    assert await operator.look() == 1.0
    world.clock.advance(0.6)
    world.api.change(WORKFLOWS, key("play"), lambda body: body.update(builders.at_review().build()))
    assert await operator.look() is None

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.count("requests.write_status") == writes + 1


@pytest.mark.parametrize("workflow", ["finished", "compressed"])
async def test_what_the_watch_does_not_show_is_read(workflow: str) -> None:
    world = World().under(builders.three_stages()).add(builders.a_request("wake"))
    built = builders.at_review()
    world.add(built.finished() if workflow == "finished" else built.compressed())

    await world.start().look()

    assert world.faults.made[0] == "workflows.find"
    expected = {
        "finished": (Outcome.LATE, Reason.WORKFLOW_FINISHED),
        "compressed": (Outcome.RESUMED, Reason.GATE_OPENED),
    }
    assert world.outcome() == expected[workflow]


async def test_nothing_is_ended_for_good_on_a_stale_watch(world: World) -> None:
    """The index shows two workflows; one of them is gone since, which the watch has missed."""
    world.add(builders.at_review("older").created(-900))
    operator = world.start(watching=False)
    world.api.delete(WORKFLOWS, key("older"))

    assert await operator.look() is None

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.faults.made == ["workflows.find", "backend.resume", "requests.write_status"]


async def test_a_named_workflow_is_read_by_its_name() -> None:
    world = World().add(builders.a_request("wake").named("play"))
    await world.start().look()
    assert world.faults.made == ["workflows.read", "requests.write_status"]


async def test_each_label_that_policies_tie_tasks_to_is_looked_for_once() -> None:
    world = World().under(builders.a_policy("one").with_spec(taskLabel="ticket"))
    world.under(builders.a_policy("two").with_spec(taskLabel="ticket"))
    world.add(builders.a_request("wake"))
    await world.start().look()
    assert world.faults.made == ["workflows.find", "workflows.find", "requests.write_status"]


async def test_only_the_label_of_the_policy_that_a_request_names_is_looked_for() -> None:
    world = World().under(builders.a_policy("one").with_spec(taskLabel="ticket"))
    world.under(builders.a_policy("two").with_spec(taskLabel="issue"))
    world.add(builders.a_request("wake").with_spec(policyName="one"))
    await world.start().look()
    assert world.faults.made == ["workflows.find", "requests.write_status"]


async def test_a_suspended_workflow_as_a_whole_is_resumed() -> None:
    world = World().add(
        builders.a_workflow().suspended(), builders.a_request("wake").for_stage(None)
    )
    await world.start().look()
    assert world.outcome() == (Outcome.RESUMED, Reason.WORKFLOW_UNSUSPENDED)
    assert "suspend" not in world.api.get(WORKFLOWS, key("play"))["spec"]


async def test_a_dry_run_says_what_it_would_do_and_touches_nothing() -> None:
    world = World().under(builders.three_stages())
    world.add(builders.at_review(), builders.a_request("wake").with_spec(dryRun=True))
    await world.start().look()
    assert world.outcome() == (Outcome.DRY_RUN, Reason.WOULD_RESUME)
    assert (world.opened(), world.writes()) == ([], 0)


async def test_a_second_request_sees_the_first_ones_resume_before_any_watch_does(
    world: World,
) -> None:
    world.add(builders.a_request("again"))
    operator = world.start(watching=False)
    await operator.look("wake")
    world.faults.made.clear()
    await operator.look("again")

    assert "backend.resume" not in world.faults.made
    assert world.outcome("again") == (Outcome.ALREADY_RESUMED, Reason.STAGE_ALREADY_RESUMED)
    assert world.status("again").resumed_by == "workflowresume/wake"
    assert world.writes() == 1


async def test_of_two_requests_at_the_same_time_one_resumes_and_the_other_says_by_whom(
    world: World,
) -> None:
    world.add(builders.a_request("again"))
    operator = world.start()
    await asyncio.gather(operator.settle("wake"), operator.settle("again"))

    assert sorted(str(world.outcome(name)[0]) for name in ("wake", "again")) == [
        "AlreadyResumed",
        "Resumed",
    ]
    assert world.writes() == 1


async def test_of_many_requests_at_the_same_time_only_the_first_writes_to_the_workflow(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = fakes.FakeBackend.resume

    async def slow(self: fakes.FakeBackend, order: ResumeOrder) -> None:
        for _ in range(100):  # rounds of the event loop, each of which lets one pass begin
            await asyncio.sleep(0)
        await resume(self, order)

    monkeypatch.setattr(fakes.FakeBackend, "resume", slow)
    names = ["wake", *(f"other-{number}" for number in range(40))]
    world.add(*(builders.a_request(name) for name in names[1:]))
    operator = world.start()
    delays = await asyncio.gather(*(operator.look(name) for name in names))
    late = [name for name, delay in zip(names, delays, strict=True) if delay is not None]
    assert late, "a few wait for their turn, the others come later"
    assert {delay for delay in delays if delay is not None} == {0.375}, "half of it is chance"
    while late:
        await operator.look(late.pop())

    assert world.faults.count("backend.resume") == world.writes() == 1
    outcomes = [world.outcome(name)[0] for name in names]
    assert outcomes == [Outcome.RESUMED, *[Outcome.ALREADY_RESUMED] * 40]


async def test_gates_of_one_workflow_that_are_asked_for_together_are_opened_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gates = [f"wait-{number}" for number in range(6)]
    workflow = builders.a_workflow().in_stage("review")
    for name in gates:
        workflow.gate(name)
    world = World().under(builders.three_stages(repeatable=True)).add(workflow)
    world.add(*(builders.a_request(name).at_gate(f"displayName={name}") for name in gates))
    running = most = 0
    operator = world.start()
    resume = fakes.FakeBackend.resume

    async def counted(self: fakes.FakeBackend, order: ResumeOrder) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await resume(self, order)
        running -= 1

    monkeypatch.setattr(fakes.FakeBackend, "resume", counted)
    await asyncio.gather(*(operator.look(name) for name in gates))
    assert (most, world.faults.count("backend.resume")) == (1, 6)
    assert world.opened() == gates


async def test_two_operators_with_one_request_write_once_and_say_once(world: World) -> None:
    one, other = world.start(watching=False), world.start(watching=False)
    await asyncio.gather(one.look(), other.look())
    # The loser sees the winner's status only with its watch.
    for operator in (one, other):
        operator.list_all()
        operator.request_event("MODIFIED", world.api.get(REQUESTS, key()))
        await operator.settle()

    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.writes() == 1
    assert world.telemetry.decisions == [("review", "Resumed", "GateOpened")]


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


async def test_a_refused_read_ends_the_request_and_says_so() -> None:
    world = World().add(builders.a_request("wake"))
    world.faults.on("workflows.find", fakes.Fault(FORBIDDEN))
    assert await world.start().look() is None
    assert world.outcome() == (Outcome.FAILED, Reason.FORBIDDEN)
    assert world.status().message == "cannot read workflows: not allowed"


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


async def test_a_read_that_fails_raises_and_uses_up_no_attempt() -> None:
    world = World().add(builders.a_request("wake"))
    world.faults.on("workflows.find", fakes.Fault(UNAVAILABLE))
    operator = world.start()
    with pytest.raises(errors.TransientError, match="no answer"):
        await operator.look()
    assert world.outcome() == (None, None)
    await operator.look()
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)
    assert world.status().retry is None


@pytest.mark.parametrize("applied", [False, True])
async def test_a_status_that_could_not_be_written_is_written_by_the_next_pass(
    world: World, applied: bool
) -> None:
    world.faults.on("requests.write_status", fakes.Fault(UNAVAILABLE, applied=applied))
    operator = world.start(watching=False)
    with pytest.raises(errors.TransientError):
        await operator.look()
    if applied:
        # What is written is no news of ours any more; the watch says that it is over.
        assert await operator.look() == 0.2
        operator.request_event("MODIFIED", world.api.get(REQUESTS, key()))
    await operator.settle()
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


async def test_a_fresh_look_that_is_not_enough_is_made_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_enough(seen: Observation, _: Any) -> Decision:
        return Decision(Look("more"), NOTHING)

    operator = world.start()
    with monkeypatch.context() as patch:
        patch.setattr(decision, "decide", never_enough)
        with pytest.raises(errors.TransientError, match="a fresh look was not enough: more"):
            await operator.look()
    assert world.faults.made == ["workflows.find"]
    await operator.look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)


async def test_many_passes_at_once_let_the_event_loop_go_round_between_two_decisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"wake-{number}" for number in range(20)]
    world = World().add(*(builders.a_request(name) for name in names))
    operator = world.start()
    rounds, decided_in = 0, []
    decide = decision.decide

    def counting(seen: Observation, now: Any) -> Decision:
        if not seen.fresh:
            decided_in.append(rounds)
        return decide(seen, now)

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(decision, "decide", counting)
    ticking = asyncio.create_task(others())
    await asyncio.gather(*map(operator.look, names))
    ticking.cancel()
    assert len(decided_in) == len(set(decided_in)) == len(names)


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


async def test_superseded_workflows_are_terminated_once_the_newest_is_resumed() -> None:
    world = World().under(builders.three_stages(ambiguity="NewestCancelOthers"))
    world.add(builders.at_review("newest").created(-10), builders.a_request("wake"))
    world.add(builders.at_review("old").created(-20), builders.at_review("older").created(-30))

    await world.start().look()

    assert world.faults.made == [
        "workflows.find",
        "backend.resume",
        "workflows.terminate",
        "workflows.terminate",
        "requests.write_status",
    ]
    assert str(world.status().message).endswith("; terminated the older 'old', 'older'")
    for name, shutdown in (("newest", None), ("old", "Terminate"), ("older", "Terminate")):
        assert world.api.get(WORKFLOWS, key(name))["spec"].get("shutdown") == shutdown
        assert world.opened(name) == (["wait"] if shutdown is None else [])


def two_of_a_task() -> World:
    world = World().under(builders.three_stages(ambiguity="NewestCancelOthers"))
    world.add(builders.at_review("newest").created(-10), builders.at_review("old").created(-20))
    return world.add(builders.a_request("wake"))


@pytest.mark.parametrize(
    "refused",
    [
        errors.PreconditionError("changed", status=409),
        errors.PermanentError("forbidden", status=403),
        errors.TransientError("unavailable", status=503),
    ],
)
async def test_a_resume_that_is_not_carried_out_has_cost_no_other_workflow(
    refused: errors.ApiError,
) -> None:
    world = two_of_a_task()
    world.faults.always("backend.resume", fakes.Fault(refused))
    await world.start().look()
    assert world.faults.count("workflows.terminate") == 0
    assert world.opened("newest") == []


async def test_a_superseded_workflow_that_could_not_be_terminated_is_by_the_next_pass() -> None:
    world = two_of_a_task()
    world.faults.on("workflows.terminate", unsent())
    operator = world.start()
    with pytest.raises(errors.TransientError):
        await operator.look()
    assert world.outcome() == (None, None)
    await operator.look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.api.get(WORKFLOWS, key("old"))["spec"]["shutdown"] == "Terminate"
    assert world.faults.count("backend.resume") == 1


async def test_a_superseded_workflow_that_may_not_be_terminated_is_named() -> None:
    world = two_of_a_task()
    refused = fakes.Fault(errors.PermanentError("forbidden", status=403))
    world.faults.on("workflows.terminate", refused)
    await world.start().look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert str(world.status().message).endswith("; not allowed to terminate the older 'old'")
    assert "shutdown" not in world.api.get(WORKFLOWS, key("old"))["spec"]


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


async def test_a_defect_is_isolated_and_after_five_passes_ends_the_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    operator = world.start()
    with monkeypatch.context() as patch:
        patch.setattr(decision, "decide", broken)
        for _ in range(4):
            with pytest.raises(ZeroDivisionError):
                await operator.look()
            assert world.outcome() == (None, None)
        assert await operator.look() is None

    assert world.outcome() == (Outcome.FAILED, Reason.INTERNAL_ERROR)
    assert world.status().message == "a defect in the operator: ZeroDivisionError"


async def test_a_pass_that_succeeds_forgets_the_defects_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    waiting = World().add(builders.a_request("wake"))
    operator = waiting.start()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(decision, "decide", broken)
            for _ in range(4):
                with pytest.raises(ZeroDivisionError):
                    await operator.look()
        await operator.look()
    assert waiting.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)


@pytest.mark.parametrize("status", [None, {"outcome": "Bogus", "phase": "Waiting"}])
async def test_an_object_that_is_not_what_its_schema_says_is_refused_once(
    status: dict[str, str] | None,
) -> None:
    world = World()
    body = builders.a_request("wake").with_spec(correlationData={"taskId": "7"}).build()
    world.api.create(REQUESTS, body if status is None else {**body, "status": status})
    operator = world.start(watching=False)

    assert await operator.look() is None
    assert await operator.look() is None

    assert world.outcome() == (Outcome.REJECTED, Reason.INVALID_OBJECT)
    assert "spec.correlationData.eventType" in str(world.status().message)
    assert world.faults.made == ["requests.write_status"]
    assert world.telemetry.decisions == [("other", "Rejected", "InvalidObject")]


async def test_an_unreadable_object_that_is_gone_meanwhile_is_forgotten() -> None:
    world = World()
    body = builders.a_request("wake").with_spec(correlationData={"taskId": "7"}).build()
    world.api.create(REQUESTS, body)
    operator = world.start(watching=False)
    world.api.delete(REQUESTS, key())
    assert await operator.look() is None
    assert operator.stores.requests.get(key()) is None


async def test_a_request_created_this_second_is_measured_from_when_it_was_first_seen() -> None:
    """Timestamps have whole seconds; the watch is quicker than that."""
    world = World().under(builders.three_stages())
    operator = world.start()
    world.clock.advance(10.25)
    created = builders.a_request("wake").created(10)
    world.add(created)
    world.clock.advance(0.25)
    world.add(builders.at_review(started=10))
    world.clock.advance(0.03)
    await operator.look()
    ((_, since_created, since_open),) = world.telemetry.latencies
    assert (since_created, since_open) == pytest.approx((0.28, 0.03))


async def test_what_the_watch_forgets_with_the_status_write_is_measured_all_the_same() -> None:
    """The watch says that the request has left it before our own answer comes."""
    world = World().under(builders.three_stages())
    operator = world.start()
    world.clock.advance(10.25)
    world.add(builders.a_request("wake").created(10), builders.at_review(started=10))
    world.clock.advance(0.03)

    def forget() -> None:
        operator.intake.request_gone(key())
        operator.intake.workflow_gone(key("play"))

    world.faults.on("requests.write_status", fakes.Fault(before=forget))
    await operator.look()
    ((_, since_created, since_open),) = world.telemetry.latencies
    assert (since_created, since_open) == pytest.approx((0.03, 0.03))
