"""`Reconciler`: each branch of a pass, from what is so to what is then so."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from resumer import errors
from resumer.api import constants
from resumer.api.outcomes import Outcome, Reason
from resumer.core import decision
from resumer.core.observation import NOTHING, Decision, Look, Observation, ResumeOrder
from resumer.services import writers
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, WORKFLOWS, World, key, unsent

UNAVAILABLE = errors.TransientError("no answer", status=503, reason="ServiceUnavailable")
FORBIDDEN = errors.PermanentError("not allowed", status=403, reason="Forbidden")


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


async def test_who_finds_a_crowd_again_and_again_comes_later_each_time_until_a_pass_goes_through(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clock.chance = 0.0
    world.faults.on("backend.resume", unsent())
    operator = world.start()
    with monkeypatch.context() as crowded:
        crowded.setattr(writers, "_CROWD", 0)
        assert [await operator.look() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    wait = await operator.look()
    assert world.outcome() == (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
    assert wait is not None
    world.clock.advance(wait)
    monkeypatch.setattr(writers, "_CROWD", 0)
    assert await operator.look() == 0.25


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


async def test_a_refused_read_ends_the_request_and_says_so() -> None:
    world = World().add(builders.a_request("wake"))
    world.faults.on("workflows.find", fakes.Fault(FORBIDDEN))
    assert await world.start().look() is None
    assert world.outcome() == (Outcome.FAILED, Reason.FORBIDDEN)
    assert world.status().message == "cannot read workflows: not allowed"


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
