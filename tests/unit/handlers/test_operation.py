"""The start of a process: it waits for its kinds, then for its first lists, then it works."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from resumer import errors
from resumer.adapters.watches import WatchActivity
from resumer.api import constants
from resumer.core.leadership import Record, Timing
from resumer.handlers import operation, watching
from resumer.services.leading import Elector
from tests import builders, fakes
from tests.unit.handlers import support
from tests.unit.services import virtual
from tests.unit.services.test_leading import FakeLeases, LoopClock
from tests.unit.services.world import World


class Discovery:
    """A client that serves what a test says; an error is raised."""

    def __init__(self, *answers: list[str] | errors.ApiError) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, errors.ApiError):
            raise answer
        return {"resources": [{"name": plural} for plural in answer]}


ALL = list(watching.WATCHED)


def test_the_kinds_are_waited_for_through_outages_and_late_installations() -> None:
    async def main() -> None:
        client = Discovery(
            errors.TransientError("no answer"),
            errors.PermanentError("no such group", status=404),
            [constants.WORKFLOW_PLURAL],
            ALL,
        )
        services = support.services(World().start(), client=client)
        activity = support.FakeActivity()
        assert await operation._kinds_are_served(
            services, cast(WatchActivity, activity), asyncio.Event()
        )
        assert client.calls == 4
        assert asyncio.get_running_loop().time() == 3.0

    virtual.run(main())


def test_told_to_stop_while_the_kinds_are_missing_it_stops() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        services = support.services(World().start(), client=Discovery([]))
        asyncio.get_running_loop().call_later(10.5, stop.set)
        activity = cast(WatchActivity, support.FakeActivity())
        assert not await operation._kinds_are_served(services, activity, stop)
        assert asyncio.get_running_loop().time() == 10.5

    virtual.run(main())


def test_while_the_kinds_are_missing_for_an_hour_it_is_alive_and_hears_nothing() -> None:
    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        activity = WatchActivity(watching.WATCHED, namespaces=(), now=loop.time())
        services = support.services(World().start(), client=Discovery([]))
        loop.call_later(3600, stop.set)
        waiting = asyncio.create_task(operation._kinds_are_served(services, activity, stop))
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=20)
            assert max(activity.idle(loop.time()).values()) == 0.0
        assert set(activity.ages(loop.time()).values()) == {3600.0}

    virtual.run(main())


def test_standing_by_it_is_ready_and_works_only_once_it_leads() -> None:
    async def main() -> None:
        world = World()
        operator = world.start(watching=False)
        workflows, activity = support.FakeListWatch(), support.FakeActivity()
        shared = FakeLeases()
        held = shared.put(Record("other", 10))
        elector = Elector(
            shared.of(fakes.Faults()), LoopClock(), "me", Timing(10, 7, 2), lambda _: None
        )
        ready = asyncio.Event()
        services = support.services(operator, watches=(workflows,), elector=elector)
        electing = asyncio.create_task(operation._elect(services, ready))
        starting = asyncio.create_task(
            operation._start_queue(services, cast(WatchActivity, activity), asyncio.Event(), ready)
        )
        operator.intake.request(builders.a_request("wake").build())
        await asyncio.sleep(20)
        assert elector.describe() == "standing by as me; nobody leads"

        # Only who knows all that exists takes part.
        workflows.listed.set()
        activity.absent.clear()
        await asyncio.sleep(5)
        assert ready.is_set()
        assert shared.record == held
        assert world.telemetry.passes == []

        await asyncio.wait_for(starting, 10.0)
        await asyncio.sleep(1)
        assert len(world.telemetry.passes) == 1
        electing.cancel()

    virtual.run(main())


def test_the_queue_starts_when_all_first_lists_are_in_and_not_before() -> None:
    async def main() -> None:
        world = World()
        operator = world.start(watching=False)
        workflows, activity = support.FakeListWatch(), support.FakeActivity()
        ready = asyncio.Event()
        services = support.services(operator, watches=(workflows,))
        starting = asyncio.create_task(
            operation._start_queue(services, cast(WatchActivity, activity), asyncio.Event(), ready)
        )
        await asyncio.sleep(5)
        workflows.listed.set()
        await asyncio.sleep(5)
        for number in range(20):
            operator.intake.request(builders.a_request(f"wake-{number}").build())
        assert not ready.is_set()
        assert world.telemetry.passes == []
        activity.absent.clear()

        await asyncio.wait_for(starting, 1.0)
        await asyncio.sleep(1)

        assert ready.is_set()
        assert len(world.telemetry.passes) == 20

    virtual.run(main())


def test_a_part_that_is_cancelled_at_the_end_is_no_failure_and_one_that_raises_is() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def breaks() -> None:
        raise errors.TransientError("no answer")

    async def main() -> None:
        stop = asyncio.Event()
        watch, cut, broken = (asyncio.create_task(one()) for one in (forever, forever, breaks))
        told = asyncio.create_task(stop.wait())
        cut.cancel()
        assert await operation._first_failure(told, {watch}, {cut, broken}) == [broken]
        stop.set()
        assert await operation._first_failure(told, {watch}, {cut}) == []
        watch.cancel()

    virtual.run(main())
