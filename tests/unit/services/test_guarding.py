"""`Guard`: compare-and-swap that is won or lost, and a state that outlives failing writes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from resumer import errors
from resumer.api.breaker import BreakerState
from resumer.core.breaker import Breaker, Probe, Refused
from resumer.core.policies import Stage
from resumer.services.circuits import BreakerStore
from resumer.services.guarding import Guard
from tests import builders, fakes

NOW = builders.NOW
LATER = NOW + timedelta(seconds=31)
TEAM = builders.NAMESPACE
DOWN = errors.TransientError("no answer", status=503)


class Scene:
    """A guard, what is stored in the cluster, and what the guard knows of it."""

    def __init__(self) -> None:
        self.stored = fakes.FakeBreakers()
        self.telemetry = fakes.FakeTelemetry()
        self.store = BreakerStore()
        self.guard = Guard(self.store, self.stored, self.telemetry)

    @property
    def calls(self) -> list[str]:
        return self.stored.faults.made

    @property
    def breaker(self) -> Breaker:
        """As it is stored."""
        return self.stored.get(TEAM, "review")[0]

    def know(self, breaker: Breaker) -> None:
        """Stores a breaker that the guard knows of."""
        self.store.put(TEAM, "review", breaker, self.stored.put(TEAM, "review", breaker))

    async def fail(self, holder: str = "uid-1", times: int = 1) -> None:
        for _ in range(times):
            await self.guard.failed(TEAM, stage(), holder, "HTTP 503", NOW)

    async def admit(self, holder: str = "uid-1", when: int = 31) -> Refused | None:
        moment = NOW + timedelta(seconds=when)
        return await self.guard.admit(TEAM, stage(), holder, moment)


def stage(**settings: object) -> Stage:
    return builders.three_stages(circuitBreaker=settings or None).resolved().stage("review")


OPENED = Breaker(
    state=BreakerState.OPEN, consecutive_failures=5, open_until=NOW + timedelta(seconds=30)
)
PROBED = Breaker(
    state=BreakerState.HALF_OPEN, consecutive_failures=5, probes=(Probe("uid-1", LATER),)
)


async def test_nothing_is_written_or_read_while_a_stage_is_well() -> None:
    scene = Scene()
    assert await scene.admit() is None
    await scene.guard.succeeded(TEAM, stage(), "uid-1", NOW)
    await scene.guard.ignored(TEAM, stage(), "uid-1")
    assert scene.calls == []
    assert scene.store.of(TEAM) == {}


async def test_failures_are_stored_one_by_one_until_they_open_the_breaker() -> None:
    scene = Scene()
    await scene.fail(times=5)
    assert scene.calls == ["breakers.write"] * 5
    assert scene.breaker.state is BreakerState.OPEN
    assert scene.breaker.consecutive_failures == 5
    assert scene.breaker.last_failure_reason == "HTTP 503"
    assert scene.telemetry.breaker_changes == [(TEAM, "review", "Closed", "Open")]


async def test_an_open_breaker_refuses_without_a_call_and_says_until_when() -> None:
    scene = Scene()
    scene.know(OPENED)
    assert await scene.admit(when=29) == Refused(NOW + timedelta(seconds=30))
    assert scene.calls == []


async def test_a_probe_is_claimed_and_its_success_closes_the_breaker() -> None:
    scene = Scene()
    scene.know(OPENED)
    assert await scene.admit() is None
    assert [probe.holder for probe in scene.breaker.probes] == ["uid-1"]
    await scene.guard.succeeded(TEAM, stage(), "uid-1", LATER)
    assert scene.breaker.state is BreakerState.CLOSED
    assert [change[2:] for change in scene.telemetry.breaker_changes] == [
        ("Open", "HalfOpen"),
        ("HalfOpen", "Closed"),
    ]


async def test_a_probe_that_fails_opens_the_breaker_again() -> None:
    scene = Scene()
    scene.know(PROBED)
    await scene.guard.failed(TEAM, stage(), "uid-1", "HTTP 503", LATER)
    assert scene.breaker.state is BreakerState.OPEN
    assert scene.breaker.open_until == LATER + timedelta(seconds=30)


async def test_a_probe_that_said_nothing_gives_its_claim_back() -> None:
    scene = Scene()
    scene.know(PROBED)
    await scene.guard.ignored(TEAM, stage(), "uid-1")
    assert (scene.breaker.state, scene.breaker.probes) == (BreakerState.HALF_OPEN, ())


async def test_a_success_ends_the_count_of_failures() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=4))
    await scene.guard.succeeded(TEAM, stage(), "uid-1", NOW)
    await scene.fail()
    assert scene.breaker.state is BreakerState.CLOSED
    assert scene.breaker.consecutive_failures == 1


async def test_who_knows_an_old_version_reads_and_adds_to_what_is_stored() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=1))
    scene.stored.put(TEAM, "review", Breaker(consecutive_failures=3))
    await scene.fail()
    assert scene.calls == ["breakers.write", "breakers.read", "breakers.write"]
    assert scene.breaker.consecutive_failures == 4


async def test_who_knows_nothing_of_a_stored_breaker_does_not_overwrite_it() -> None:
    scene = Scene()
    scene.stored.put(TEAM, "review", OPENED)
    await scene.fail()
    assert scene.breaker == OPENED
    assert scene.store.of(TEAM) == {"review": OPENED}


async def test_a_breaker_that_somebody_reset_starts_from_nothing() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=4))
    scene.stored.delete(TEAM, "review")
    await scene.fail()
    assert scene.breaker.state is BreakerState.CLOSED
    assert scene.breaker.consecutive_failures == 1


async def test_of_many_operators_who_want_the_one_probe_one_gets_it() -> None:
    scene = Scene()
    scene.know(OPENED)
    guards = [Guard(BreakerStore(), scene.stored, scene.telemetry) for _ in range(8)]
    for guard in guards:
        guard._store.put(TEAM, "review", *scene.stored.get(TEAM, "review"))
    answers = await asyncio.gather(
        *(guard.admit(TEAM, stage(), f"uid-{number}", LATER) for number, guard in enumerate(guards))
    )
    assert answers.count(None) == 1
    assert len(scene.breaker.probes) == 1


async def test_of_many_requests_who_want_the_one_probe_one_gets_it() -> None:
    scene = Scene()
    scene.know(OPENED)
    answers = await asyncio.gather(*(scene.admit(f"uid-{number}") for number in range(8)))
    assert answers.count(None) == 1
    assert len(scene.breaker.probes) == 1


async def test_failures_at_the_same_time_are_all_counted() -> None:
    scene = Scene()
    await asyncio.gather(*(scene.fail(f"uid-{number}") for number in range(4)))
    assert scene.breaker.consecutive_failures == 4


async def test_a_storm_of_failures_is_counted_to_the_last_and_costs_few_writes() -> None:
    scene = Scene()
    settings = stage(failureThreshold=1000)
    failures = (
        scene.guard.failed(TEAM, settings, f"uid-{number}", "HTTP 503", NOW)
        for number in range(500)
    )
    await asyncio.gather(*failures)
    assert scene.breaker.consecutive_failures == 500
    assert scene.calls == ["breakers.write"]


async def test_what_comes_while_a_write_is_under_way_is_judged_by_what_it_will_bring() -> None:
    """The breaker opens with this failure: who asks meanwhile need not wait for its write."""
    scene = Scene()
    scene.know(Breaker(consecutive_failures=4))
    writing = asyncio.create_task(scene.fail())
    await asyncio.sleep(0)
    assert scene.breaker.consecutive_failures == 4
    assert await scene.admit(when=29) == Refused(NOW + timedelta(seconds=30))
    await writing
    assert scene.breaker.state is BreakerState.OPEN
    assert scene.calls == ["breakers.write"]


async def test_who_is_gone_before_the_answer_does_not_keep_the_others_from_theirs() -> None:
    scene = Scene()
    first = asyncio.create_task(scene.fail("uid-1"))
    second = asyncio.create_task(scene.fail("uid-2"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert scene.breaker.consecutive_failures == 2
    conflict = errors.PreconditionError("changed", status=409)
    scene.stored.faults.always("breakers.write", fakes.Fault(conflict))
    third = asyncio.create_task(scene.fail("uid-3"))
    await asyncio.sleep(0)
    third.cancel()
    await scene.fail("uid-4")
    assert scene.breaker.consecutive_failures == 2


class HangingBreakers(fakes.FakeBreakers):
    """Never answers the first write."""

    hangs = True

    async def write(self, namespace: str, stage: str, breaker: Breaker, version: str) -> str:
        if self.hangs:
            self.hangs = False
            await asyncio.get_running_loop().create_future()
        return await super().write(namespace, stage, breaker, version)


async def test_a_writer_that_is_cut_off_leaves_nobody_waiting_and_the_breaker_free() -> None:
    scene = Scene()
    scene.stored = HangingBreakers()
    scene.guard = Guard(scene.store, scene.stored, scene.telemetry)
    before = asyncio.all_tasks()
    first = asyncio.create_task(scene.fail("uid-1"))
    await asyncio.sleep(0)
    (writer,) = asyncio.all_tasks() - before - {first}
    second = asyncio.create_task(scene.fail("uid-2"))
    await asyncio.sleep(0)
    writer.cancel()
    ended = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(one) for one in ended] == [asyncio.CancelledError] * 2
    await scene.fail("uid-3")
    assert scene.breaker.consecutive_failures == 1


async def test_a_failure_and_the_success_that_ends_it_may_be_one_write() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=1))
    await asyncio.gather(
        scene.fail("uid-1"),
        scene.fail("uid-2"),
        scene.guard.succeeded(TEAM, stage(), "uid-3", NOW),
    )
    assert scene.breaker.consecutive_failures == 0
    assert scene.calls == ["breakers.write"]


async def test_changes_that_cancel_each_other_out_are_not_written() -> None:
    """A claim that was given back before it could be written."""
    scene = Scene()
    scene.know(Breaker(state=BreakerState.HALF_OPEN, consecutive_failures=5))
    scene.stored.faults.on("breakers.write", fakes.Fault(DOWN))
    others = asyncio.gather(
        scene.guard.ignored(TEAM, stage(), "uid-2"), scene.admit("uid-1"), return_exceptions=True
    )
    await asyncio.sleep(0)
    back = asyncio.create_task(scene.guard.ignored(TEAM, stage(), "uid-1"))
    await others
    await back
    assert (scene.breaker.state, scene.breaker.probes) == (BreakerState.HALF_OPEN, ())


async def test_a_write_that_is_answered_after_the_watch_showed_more_changes_nothing() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=1))
    newer = Breaker(consecutive_failures=7)
    scene.stored.faults.on(
        "breakers.write",
        fakes.Fault(before=lambda: scene.store.learn(TEAM, "review", newer, "99")),
    )
    await scene.fail()
    assert scene.store.get(TEAM, "review") == (newer, "99")


async def test_what_is_in_force_is_measured_whoever_brought_it_there() -> None:
    scene = Scene()
    scene.know(OPENED)
    assert scene.telemetry.breaker_states == {(TEAM, "review"): "Open"}
    deleted = scene.stored.put(TEAM, "review", Breaker())
    scene.stored.delete(TEAM, "review")
    scene.store.remove(TEAM, "review", deleted)
    assert scene.telemetry.breaker_states == {}
    await scene.fail()
    assert scene.telemetry.breaker_states == {(TEAM, "review"): "Closed"}
    assert scene.telemetry.breaker_changes == []


async def test_a_breaker_that_never_stands_still_admits_nobody_and_learns_nothing() -> None:
    """Whoever asks has to come again; whoever made an attempt must be able to go on and tell it."""
    scene = Scene()
    scene.know(OPENED)
    conflict = errors.PreconditionError("changed", status=409)
    scene.stored.faults.always("breakers.write", fakes.Fault(conflict))
    with pytest.raises(errors.TransientError, match="stage 'review'"):
        await scene.admit()
    assert scene.calls.count("breakers.write") == 8
    scene.know(Breaker(consecutive_failures=1))
    await scene.fail()
    assert scene.breaker.consecutive_failures == 1


async def test_a_breaker_that_cannot_be_read_again_keeps_nobody_from_telling_an_attempt() -> None:
    scene = Scene()
    scene.know(Breaker(consecutive_failures=1))
    scene.stored.put(TEAM, "review", Breaker(consecutive_failures=3))
    scene.stored.faults.on("breakers.read", fakes.Fault(DOWN))
    await scene.fail()
    await scene.fail()
    assert scene.breaker.consecutive_failures == 4


async def test_a_state_that_cannot_be_stored_holds_in_memory_and_is_stored_with_the_next() -> None:
    scene = Scene()
    scene.stored.faults.always("breakers.write", fakes.Fault(DOWN))
    await scene.fail(times=5)
    assert scene.stored.get(TEAM, "review") == (Breaker(), "")
    assert await scene.admit(when=29) == Refused(NOW + timedelta(seconds=30))

    scene.stored.faults.always("breakers.write", None)
    assert await scene.admit() is None
    assert scene.breaker.state is BreakerState.HALF_OPEN
    assert scene.breaker.consecutive_failures == 5


async def test_where_something_else_is_in_its_place_the_breaker_holds_in_memory() -> None:
    """An object of the stage's name that says it is another stage's is never written."""
    scene = Scene()
    in_the_way = errors.PreconditionError("it exists", status=409, reason="AlreadyExists")
    foreign = errors.PermanentError("it is another stage's", reason="OtherStage")
    scene.stored.faults.always("breakers.write", fakes.Fault(in_the_way))
    scene.stored.faults.always("breakers.read", fakes.Fault(foreign))

    await scene.fail(times=5)

    assert await scene.admit(when=29) == Refused(NOW + timedelta(seconds=30))
    assert scene.telemetry.breaker_changes == [(TEAM, "review", "Closed", "Open")]
    assert await scene.admit(when=31) is None  # the probe of this process
    assert isinstance(await scene.admit("uid-2", when=31), Refused)

    scene.stored.faults.clear()  # somebody deleted it
    await scene.guard.failed(TEAM, stage(), "uid-1", "HTTP 503", LATER)
    assert scene.breaker.state is BreakerState.OPEN


async def test_a_write_whose_answer_was_lost_is_found_by_the_next_change() -> None:
    scene = Scene()
    scene.stored.faults.on("breakers.write", fakes.Fault(DOWN, applied=True))
    await scene.fail(times=2)
    assert scene.calls == ["breakers.write", "breakers.write", "breakers.read", "breakers.write"]
    assert scene.breaker.consecutive_failures == 2


async def test_the_stages_and_namespaces_do_not_mix() -> None:
    scene = Scene()
    scene.know(OPENED)
    draft = builders.three_stages().resolved().stage("draft")
    assert await scene.guard.admit(TEAM, draft, "uid-1", NOW) is None
    assert await scene.guard.admit("other", stage(), "uid-1", NOW) is None
    assert scene.calls == []


async def test_the_settings_are_those_of_the_stage() -> None:
    scene = Scene()
    strict = stage(failureThreshold=1, openSeconds=5)
    await scene.guard.failed(TEAM, strict, "uid-1", "HTTP 503", NOW)
    assert scene.breaker.open_until == NOW + timedelta(seconds=5)
