"""`Intake`: who is looked at after which change, and when, also right after a start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from resumer.api.breaker import BreakerState
from resumer.core import breaker
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.services import intake as intakes
from resumer.services.circuits import BreakerStore
from resumer.services.intake import Intake
from resumer.services.queue import KeyedQueue
from resumer.services.requeststore import RequestStore
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.world import key

OPEN = Breaker(state=BreakerState.OPEN, open_until=builders.NOW + timedelta(seconds=30))
OVER = Breaker(state=BreakerState.OPEN, open_until=builders.NOW - timedelta(seconds=30))


class Scene:
    """An intake with a queue that only notes who comes when."""

    def __init__(self) -> None:
        self.clock = fakes.FakeClock(builders.NOW)
        self.seen: list[tuple[float, str]] = []
        self.stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
        self.queue = KeyedQueue(
            self.note, workers=1000, clock=self.clock, telemetry=fakes.FakeTelemetry()
        )
        self.gone: list[Key] = []
        self.doubtful = False
        """Whether it is not known what became of those that are gone."""
        self.intake = Intake(self.stores, self.queue, self.clock, self.forget)

    def forget(self, key: Key) -> bool:
        self.gone.append(key)
        return self.doubtful

    async def note(self, found: Key) -> None:
        self.seen.append((asyncio.get_running_loop().time(), found.name))

    async def after(self, seconds: float = 1.0) -> list[str]:
        """Who came since the last time, in order of their names."""
        await asyncio.sleep(seconds)
        names = sorted(name for _, name in self.seen)
        self.seen.clear()
        return names


def scene(test: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test with a started intake, in virtual time."""

    def wrapped() -> None:
        async def main() -> None:
            world = Scene()
            world.intake.start()
            await test(world)

        virtual.run(main())

    wrapped.__doc__ = test.__doc__
    return wrapped


def waiting(name: str, outcome: str = "Waiting") -> builders.RequestBuilder:
    return builders.a_request(name).with_status(outcome=outcome, phase="Waiting")


@scene
async def test_a_new_or_changed_request_is_looked_at_and_an_older_event_is_not(
    world: Scene,
) -> None:
    world.intake.request(builders.a_request("wake").build())
    assert await world.after() == ["wake"]
    world.intake.request(builders.a_request("wake").build())
    assert await world.after() == []


@scene
async def test_a_request_that_is_gone_is_not_looked_at_any_more(world: Scene) -> None:
    world.intake.request(builders.a_request("wake").build())
    await world.after()
    world.intake.request_gone(key("wake"))
    world.intake.workflow(builders.a_workflow().build())
    assert await world.after() == []


@scene
async def test_a_request_that_is_gone_is_looked_at_once_more_if_its_end_is_in_doubt(
    world: Scene,
) -> None:
    world.intake.request(builders.a_request("wake").build())
    world.intake.start()
    await world.after()
    world.doubtful = True
    world.intake.request_gone(key("wake"))
    assert await world.after() == ["wake"]


@scene
async def test_a_request_that_is_being_deleted_is_gone_however_long_a_finalizer_keeps_it(
    world: Scene,
) -> None:
    body = builders.a_request("wake").build()
    world.intake.request(body)
    await world.after()
    world.queue.add_after(key("wake"), 1)
    for version in ("300", "301"):
        body["metadata"].update(deletionTimestamp=builders.at(0), resourceVersion=version)
        world.intake.request(body)
        world.intake.workflow(builders.a_workflow(f"play-{version}").build())
    assert await world.after(5) == []
    assert world.gone == [key("wake")] * 2


@scene
async def test_a_workflow_wakes_the_requests_of_its_task_and_those_that_name_it(
    world: Scene,
) -> None:
    for body in (
        builders.a_request("by-task"),
        builders.a_request("by-name").of_task("8").named("play"),
        builders.a_request("stranger").of_task("9"),
    ):
        world.intake.request(body.build())
    await world.after()
    world.intake.workflow(builders.a_workflow("play").build())
    assert await world.after() == ["by-name", "by-task"]


@scene
async def test_a_workflow_wakes_nobody_when_nothing_changed_that_matters(world: Scene) -> None:
    world.intake.request(builders.a_request("wake").build())
    body = builders.a_workflow("play").build()
    world.intake.workflow(body)
    await world.after()
    body["metadata"]["resourceVersion"] = "101"
    world.intake.workflow(body)
    assert await world.after() == []


@scene
async def test_a_workflow_that_finishes_or_goes_wakes_those_who_waited_for_it(
    world: Scene,
) -> None:
    world.intake.request(builders.a_request("wake").build())
    world.intake.workflow(builders.a_workflow("play").build())
    await world.after()
    world.intake.workflow(builders.a_workflow("play").finished().build())
    assert await world.after() == ["wake"]
    assert len(world.stores.workflows) == 0

    world.intake.workflow(builders.a_workflow("play").build())
    await world.after()
    world.intake.workflow_gone(key("play"))
    assert await world.after() == ["wake"]
    world.intake.workflow_gone(key("play"))
    assert await world.after() == []


@scene
async def test_a_policy_wakes_all_requests_of_its_namespace_and_brings_its_task_label(
    world: Scene,
) -> None:
    elsewhere = builders.a_request("elsewhere").build()
    elsewhere["metadata"]["namespace"] = "other"
    world.intake.request(elsewhere)
    world.intake.request(builders.a_request("wake").build())
    await world.after()
    policy = builders.a_policy().with_spec(taskLabel="ticket").resolved()
    world.stores.policies.put(key("play"), policy)
    world.intake.policies_changed(builders.NAMESPACE)
    assert await world.after() == ["wake"]
    world.intake.workflow(builders.a_bare_workflow("x").with_labels({"ticket": "7"}).build())
    assert await world.after() == ["wake"]


def held(name: str, stage: str | None = "review") -> builders.RequestBuilder:
    return waiting(name, "CircuitOpen").with_status(workflow={"name": "play", "stage": stage})


@scene
async def test_a_breaker_lets_those_it_holds_go_one_by_one_the_oldest_first(world: Scene) -> None:
    for name, created in (("b", -10), ("a", -20), ("c", -5)):
        world.intake.request(held(name).created(created).build())
    world.intake.request(waiting("other").build())
    world.intake.request(held("of-another-stage", "draft").build())
    await world.after()
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    began = asyncio.get_running_loop().time()
    world.intake.breaker(builders.NAMESPACE, "review", Breaker(), "2")
    await asyncio.sleep(1)
    assert [name for _, name in world.seen] == ["a", "b", "c"]
    assert [moment - began for moment, _ in world.seen] == pytest.approx([0, 0.02, 0.04])


@scene
async def test_a_breaker_without_a_stage_lets_those_without_a_stage_go(world: Scene) -> None:
    for body in (held("none", None), waiting("nothing-known", "CircuitOpen"), held("review")):
        world.intake.request(body.build())
    await world.after()
    world.intake.breaker(builders.NAMESPACE, "", OPEN, "1")
    world.intake.breaker(builders.NAMESPACE, "", Breaker(), "2")
    assert await world.after() == ["none", "nothing-known"]


@scene
async def test_a_claimed_probe_lets_nobody_go_and_one_that_is_given_back_does(
    world: Scene,
) -> None:
    world.intake.request(held("held").build())
    await world.after()
    probing = Breaker(state=BreakerState.HALF_OPEN, probes=(breaker.Probe("uid", builders.NOW),))
    world.intake.breaker(builders.NAMESPACE, "review", probing, "1")
    assert await world.after() == []
    free = Breaker(state=BreakerState.HALF_OPEN)
    world.intake.breaker(builders.NAMESPACE, "review", free, "2")
    assert await world.after() == ["held"]


@scene
async def test_of_two_claimed_probes_the_one_given_back_lets_those_it_held_go(
    world: Scene,
) -> None:
    world.intake.request(held("held").build())
    await world.after()
    probes = tuple(breaker.Probe(uid, builders.NOW) for uid in ("uid-1", "uid-2"))
    two = Breaker(state=BreakerState.HALF_OPEN, probes=probes)
    one = Breaker(state=BreakerState.HALF_OPEN, probes=probes[1:])
    world.intake.breaker(builders.NAMESPACE, "review", two, "1")
    assert await world.after() == []
    world.intake.breaker(builders.NAMESPACE, "review", one, "2")
    assert await world.after() == ["held"]


@scene
async def test_an_open_breaker_lets_those_it_holds_go_when_its_time_has_come_the_oldest_first(
    world: Scene,
) -> None:
    for name, created in (("b", -10), ("a", -20), ("c", -5)):
        world.intake.request(held(name).created(created).build())
    await world.after()
    began = asyncio.get_running_loop().time()
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    await asyncio.sleep(40)
    assert [name for _, name in world.seen] == ["a", "b", "c"]
    due = [moment - began for moment, _ in world.seen]
    assert due == pytest.approx([30.05, 30.07, 30.09])


@scene
async def test_those_held_again_while_a_probe_took_its_time_keep_their_order(world: Scene) -> None:
    names = [f"w{number:02}" for number in range(20)]
    for number, name in enumerate(names):
        world.intake.request(held(name).created(number - 100).build())
    await world.after()
    loop = asyncio.get_running_loop()
    world.intake.breaker(builders.NAMESPACE, "review", OVER, "1")
    await asyncio.sleep(0.155)
    assert [name for _, name in world.seen] == names[:6], "the first one probes, the others do not"
    probes = (breaker.Probe("uid", builders.NOW),)
    probing = Breaker(state=BreakerState.HALF_OPEN, probes=probes)
    world.intake.breaker(builders.NAMESPACE, "review", probing, "2")
    world.seen.clear()
    closed = loop.time()
    world.intake.breaker(builders.NAMESPACE, "review", Breaker(), "3")
    await asyncio.sleep(1)
    assert [name for _, name in world.seen] == names
    due = [moment - closed for moment, _ in world.seen]
    assert due == pytest.approx([number * 0.02 for number in range(20)])


@scene
async def test_very_many_that_a_breaker_held_come_in_their_turns_whatever_they_had_planned(
    world: Scene,
) -> None:
    names = [f"w{number:04}" for number in range(1000)]
    for number, name in enumerate(names):
        world.intake.request(held(name).created(number - 5000).build())
    await world.after()
    for name in names:
        world.queue.add_after(key(name), 7)  # for what the intake could not know
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    world.intake.breaker_gone(builders.NAMESPACE, "review", "2")
    await asyncio.sleep(30)
    assert [name for _, name in world.seen] == names
    assert world.seen[-1][0] - world.seen[0][0] == pytest.approx(999 * 0.02)


@scene
async def test_of_the_same_second_those_that_were_seen_first_come_first(world: Scene) -> None:
    for name in "cabd":
        world.clock.advance(0.1)
        world.intake.request(builders.a_request(name).created(-5).build())
    await world.after()
    for name in "abcd":  # the operator writes their statuses in another order
        body = held(name).created(-5).build()
        body["metadata"]["resourceVersion"] = "201"
        world.intake.request(body)
    await world.after()
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    world.intake.breaker(builders.NAMESPACE, "review", Breaker(), "2")
    await asyncio.sleep(1)
    assert "".join(name for _, name in world.seen) == "cabd"


@scene
async def test_a_breaker_whose_probe_never_ends_lets_those_it_holds_go_when_the_claim_ends(
    world: Scene,
) -> None:
    world.intake.request(held("held").build())
    await world.after()
    probing = Breaker(state=BreakerState.HALF_OPEN, probes=(breaker.Probe("uid", builders.NOW),))
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    world.intake.breaker(builders.NAMESPACE, "review", probing, "2")
    assert await world.after(breaker.PROBE_SECONDS) == []
    assert await world.after(1) == ["held"]


@scene
async def test_failures_that_are_counted_wake_nobody(world: Scene) -> None:
    world.intake.request(held("held").build())
    await world.after()
    for count in range(1, 4):
        failing = Breaker(consecutive_failures=count)
        world.intake.breaker(builders.NAMESPACE, "review", failing, str(count))
    assert await world.after(100) == []


@scene
async def test_a_deleted_breaker_is_reset_and_lets_those_it_held_go(world: Scene) -> None:
    world.intake.request(held("held").build())
    world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
    await world.after()
    world.intake.breaker_gone(builders.NAMESPACE, "review", "2")
    assert await world.after() == ["held"]
    assert world.stores.breakers.get(builders.NAMESPACE, "review") is None


@pytest.mark.parametrize(
    ("count", "chance", "expected"),
    [(1, 0.5, 0.005), (100, 0.0, 0.0), (100, 0.5, 0.5), (5000, 0.5, 25.0), (90_000, 0.5, 30.0)],
)
def test_catching_up_takes_a_second_for_each_hundred_and_a_minute_at_most(
    count: int, chance: float, expected: float
) -> None:
    assert intakes.catch_up_delay(count, chance) == pytest.approx(expected)


def test_after_a_start_new_requests_go_first_and_those_that_cost_reads_are_spread() -> None:
    async def main() -> None:
        world = Scene()
        chances = iter(number / 1000 for number in range(1000))
        world.clock.random = lambda: next(chances)  # type: ignore[method-assign]
        for number in range(1000):
            world.intake.request(waiting(f"w{number}").of_task(str(number)).build())
        world.intake.request(builders.a_request("new").of_task("new").build())
        assert await world.after() == []

        world.intake.start()
        assert [name for _, name in world.seen] == []
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        assert world.seen[0] == (began, "new")
        assert len(world.seen) == 1001
        for second in range(10):
            here = [m for m, _ in world.seen if second <= m - began - 1e-6 < second + 1]
            assert 98 <= len(here) <= 101
        assert max(moment for moment, _ in world.seen) - began < 10

    virtual.run(main())


@pytest.mark.parametrize("workflow_first", [True, False])
def test_after_a_start_who_waits_for_a_workflow_that_is_there_goes_at_once(
    workflow_first: bool,
) -> None:
    async def main() -> None:
        world = Scene()
        arrivals: list[Callable[[], None]] = [
            lambda: world.intake.workflow(builders.at_review("play").build()),
            lambda: world.intake.request(waiting("by-task").build()),
            lambda: world.intake.request(waiting("by-name").of_task("8").named("play").build()),
            lambda: world.intake.request(waiting("nobody").of_task("9").build()),
        ]
        for arrive in arrivals if workflow_first else reversed(arrivals):
            arrive()
        world.intake.start()
        assert await world.after(0.001) == ["by-name", "by-task"]
        assert await world.after(1) == ["nobody"]

    virtual.run(main())


def test_after_a_start_who_waits_for_a_workflow_comes_once_all_that_was_listed_is_read() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("wake").build())
        world.intake.request(waiting("late").build())
        assert world.intake.workflow_listed(builders.at_review("play").metadata())
        assert world.intake.workflow_listed(builders.at_review("other").metadata())
        world.intake.start()
        assert await world.after(50) == []
        world.intake.request_gone(key("late"))
        world.intake.workflow(builders.at_review("play").build())
        assert await world.after() == [], "what it writes would stand in the way of reading"
        world.intake.workflow(builders.at_review("other").build())
        assert await world.after() == ["wake"]
        assert await world.after(200) == [], "and nothing is planned for it any more"
        assert not world.intake.workflow_listed(builders.at_review("play").metadata())
        assert await world.after() == []

    virtual.run(main())


@pytest.mark.parametrize("gone", [False, True])
def test_after_a_start_nobody_is_forgotten_whose_workflow_changes_before_it_is_read(
    gone: bool,
) -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("wake").build())
        world.intake.workflow_listed(builders.at_review("play").metadata())
        world.intake.start()
        if gone:
            world.intake.workflow_gone(key("play"))
        else:
            world.intake.workflow(builders.a_workflow("play").labelled(task="9").build())
        assert await world.after() == ["wake"]

    virtual.run(main())


def test_after_a_start_who_waits_comes_in_two_minutes_even_if_nothing_can_be_read() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("wake").build())
        world.intake.workflow_listed(builders.at_review("play").metadata())
        world.intake.start()
        assert await world.after(121) == ["wake"]

    virtual.run(main())


def test_after_a_gap_nobody_waits_for_ever_for_a_workflow_that_cannot_be_read() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.workflow(builders.at_review("play").build())
        world.intake.request(waiting("wake").build())
        world.intake.start()
        await world.after()
        for name in ("play", "unreadable"):
            metadata = builders.a_workflow(name).metadata()
            metadata["metadata"]["resourceVersion"] = "200"
            assert world.intake.workflow_listed(metadata)
        world.intake.workflow(builders.at_review("play").build())
        assert await world.after(121) == ["wake"]

    virtual.run(main())


@scene
async def test_a_workflow_that_loses_its_task_wakes_those_who_waited_for_it(world: Scene) -> None:
    world.intake.workflow(builders.at_review("play").build())
    world.intake.request(waiting("wake").build())
    await world.after()
    world.intake.workflow(builders.at_review("play").labelled(task="9").build())
    assert await world.after() == ["wake"]


def test_before_the_start_a_workflow_that_is_read_wakes_nobody() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("wake").build())
        world.intake.workflow_listed(builders.at_review("play").metadata())
        world.intake.workflow(builders.at_review("play").build())
        assert await world.after() == []
        world.intake.start()
        assert await world.after() == ["wake"]

    virtual.run(main())


@scene
async def test_a_listed_workflow_that_has_finished_is_forgotten_and_not_read(world: Scene) -> None:
    world.intake.workflow(builders.at_review("play").build())
    world.intake.request(waiting("wake").build())
    await world.after()
    assert not world.intake.workflow_listed(builders.a_workflow("play").finished().metadata())
    assert len(world.stores.workflows) == 0
    assert await world.after() == ["wake"]


def test_after_a_start_what_failed_is_spread_whatever_is_listed_with_it() -> None:
    async def main() -> None:
        world = Scene()
        for number in range(200):
            world.intake.request(waiting(f"w{number}", "BackingOff").build())
        world.intake.workflow(builders.at_review("play").build())
        world.stores.policies.put(key("play"), builders.three_stages().resolved())
        world.intake.policies_changed(builders.NAMESPACE)
        world.intake.breaker(builders.NAMESPACE, "review", OPEN, "1")
        world.intake.start()
        assert await world.after(0.5) == []
        assert len(await world.after(1.6)) == 200

    virtual.run(main())


@pytest.mark.parametrize(
    "stored", [None, Breaker(), OVER, OPEN], ids=["none", "closed", "over", "open"]
)
def test_after_a_start_those_whom_a_breaker_held_come_one_by_one_the_oldest_first(
    stored: Breaker | None,
) -> None:
    """Also when it let nobody go meanwhile: it was reset, or its time passed before the start."""

    async def main() -> None:
        world = Scene()
        for name, created in (("b", -10), ("a", -20), ("d", -5), ("c", -8)):
            world.intake.request(held(name).created(created).build())
        if stored is not None:
            world.intake.breaker(builders.NAMESPACE, "review", stored, "1")
        await asyncio.sleep(1)
        assert world.seen == []
        began = asyncio.get_running_loop().time()
        world.intake.start()
        await asyncio.sleep(1)
        assert [name for _, name in world.seen] == ["a", "b", "c", "d"]
        due = [moment - began for moment, _ in world.seen]
        assert due == pytest.approx([0, 0.02, 0.04, 0.06])

    virtual.run(main())


def test_after_a_start_each_stage_lets_go_at_its_own_pace_and_they_do_not_begin_together() -> None:
    async def main() -> None:
        world = Scene()
        chances = iter((0.25, 0.75))
        world.clock.random = lambda: next(chances)  # type: ignore[method-assign]
        for stage in ("draft", "review"):
            for number in range(100):
                request = held(f"{stage}-{number:03}", stage).created(number - 500)
                world.intake.request(request.build())
        began = asyncio.get_running_loop().time()
        world.intake.start()
        await asyncio.sleep(10)
        for stage, begin in (("draft", 0.25), ("review", 0.75)):
            found = [(at - began, name) for at, name in world.seen if name.startswith(stage)]
            assert [name for _, name in found] == [f"{stage}-{n:03}" for n in range(100)]
            paced = [begin + number * 0.02 for number in range(100)]
            assert [at for at, _ in found] == pytest.approx(paced)

    virtual.run(main())


def test_who_is_held_by_a_breaker_keeps_its_turn_when_its_listed_workflow_is_read() -> None:
    async def main() -> None:
        world = Scene()
        for name, created in (("b", -10), ("a", -20)):
            world.intake.request(held(name).created(created).build())
        metadata = builders.at_review("play").metadata()
        assert world.intake.workflow_listed(metadata)
        world.intake.start()
        world.intake.workflow(builders.at_review("play").build())
        await asyncio.sleep(200)
        assert [name for _, name in world.seen] == ["a", "b"]

    virtual.run(main())


def test_after_a_start_a_change_brings_a_spread_request_forward_and_once() -> None:
    async def main() -> None:
        world = Scene()
        for number in range(200):
            world.intake.request(waiting(f"w{number}").of_task(str(number)).build())
        world.intake.start()
        world.intake.workflow(builders.a_workflow("play").labelled(task="150").build())
        assert await world.after(0.1) == ["w150"]
        assert len(await world.after(10)) == 199

    virtual.run(main())


def test_what_goes_again_before_the_start_is_not_looked_at() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("gone").build())
        world.intake.request_gone(key("gone"))
        world.intake.start()
        assert await world.after(5) == []

    virtual.run(main())


def test_an_unreadable_request_of_the_first_list_is_looked_at_at_once() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("bogus", "Bogus").build())
        world.intake.start()
        assert await world.after(0.001) == ["bogus"]

    virtual.run(main())


def test_a_request_whose_new_version_cannot_be_read_any_more_is_looked_at_at_once() -> None:
    async def main() -> None:
        world = Scene()
        world.intake.request(waiting("wake").build())
        body = waiting("wake", "Bogus").build()
        body["metadata"]["resourceVersion"] = "201"
        world.intake.request(body)
        world.intake.start()
        assert await world.after(0.001) == ["wake"]

    virtual.run(main())


def test_before_the_start_nothing_is_kept_but_what_is_there() -> None:
    """A process may stand by for weeks while another one works."""

    async def main() -> None:
        world = Scene()
        world.intake.workflow(builders.at_review("play").build())
        world.stores.policies.put(key("play"), builders.three_stages().resolved())
        for number in range(200):
            name = f"w{number}"
            world.intake.request(builders.a_request(name).build())
            world.intake.policies_changed(builders.NAMESPACE)
            decided = waiting(name, "CircuitOpen").build()
            decided["metadata"]["resourceVersion"] = "201"
            world.intake.request(decided)
            world.intake.breaker(builders.NAMESPACE, "review", Breaker(), str(number))
            world.intake.request_gone(key(name))
        world.intake.request(waiting("left").build())
        assert await world.after(100) == []

        world.intake.start()
        assert await world.after(100) == ["left"]

    virtual.run(main())


def test_a_request_that_another_one_has_looked_at_meanwhile_is_spread_like_the_others() -> None:
    async def main() -> None:
        world = Scene()
        world.clock.chance = 0.99
        for number in range(200):
            name = f"w{number}"
            world.intake.request(builders.a_request(name).of_task(str(number)).build())
            looked_at = waiting(name).of_task(str(number)).build()
            looked_at["metadata"]["resourceVersion"] = "201"
            world.intake.request(looked_at)
        world.intake.start()
        assert await world.after(1.9) == []
        assert len(await world.after(1)) == 200

    virtual.run(main())
