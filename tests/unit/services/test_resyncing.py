"""`Resync`: what the watch does not tell is found by comparing, and the watch wins over a list."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest

from resumer import errors
from resumer.api import constants
from resumer.api.breaker import BreakerState
from resumer.core.breaker import Breaker
from resumer.services import resyncing
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.world import Operator, World, key

POLICIES = constants.POLICY_PLURAL
TEAM = builders.NAMESPACE
PLAY = key("play")
OPEN = Breaker(
    BreakerState.OPEN, consecutive_failures=5, open_until=builders.NOW + timedelta(seconds=60)
)


@pytest.fixture
def world() -> World:
    return World()


def in_force(operator: Operator) -> set[str]:
    return {policy.name for policy in operator.stores.policies.of(TEAM)}


async def test_what_exists_is_known_after_the_first_comparison_without_a_write(
    world: World,
) -> None:
    world.api.create(POLICIES, builders.three_stages().build())
    operator = world.start()
    world.breakers.put(TEAM, "review", OPEN)
    await operator.resync.complete()
    assert in_force(operator) == {"play"}
    assert operator.stores.breakers.of(TEAM) == {"review": OPEN}
    assert world.faults.made == ["reader.policies", "reader.breakers"]


async def test_what_was_deleted_unseen_is_in_force_no_more(world: World) -> None:
    body = world.api.create(POLICIES, builders.three_stages().build())
    operator = world.start()
    await operator.resync.policy(PLAY, body)
    operator.resync.breaker(TEAM, "review", OPEN, world.breakers.put(TEAM, "review", OPEN))
    world.api.delete(POLICIES, PLAY)
    world.breakers.delete(TEAM, "review")

    await operator.resync.complete()

    assert in_force(operator) == set()
    assert operator.stores.breakers.of(TEAM) == {}


async def test_a_breaker_that_could_not_be_stored_is_not_taken_for_deleted(world: World) -> None:
    operator = world.start()
    operator.stores.breakers.put(TEAM, "review", OPEN, "")
    await operator.resync.complete()
    assert operator.stores.breakers.of(TEAM) == {"review": OPEN}


async def test_a_breaker_written_by_us_while_the_list_is_under_way_stays(world: World) -> None:
    operator = world.start()
    version = world.breakers.put(TEAM, "review", OPEN)
    operator.resync.breaker(TEAM, "review", OPEN, version)
    world.breakers.delete(TEAM, "review")

    def write() -> None:
        operator.stores.breakers.put(TEAM, "review", OPEN, "99")

    world.faults.on("reader.breakers", fakes.Fault(before=write))
    await operator.resync.complete()
    assert operator.stores.breakers.get(TEAM, "review") == (OPEN, "99")


async def test_a_breaker_that_did_not_change_wakes_nobody(world: World) -> None:
    operator = world.start()
    operator.intake.start()
    world.add(
        builders.a_request("held").with_status(outcome="CircuitOpen", workflow={"stage": "review"})
    )
    operator.resync.breaker(TEAM, "review", OPEN, world.breakers.put(TEAM, "review", OPEN))
    for _ in range(20):
        await asyncio.sleep(0)
    before = len(world.telemetry.passes)
    await operator.resync.complete()
    await asyncio.sleep(0.05)
    assert len(world.telemetry.passes) == before


async def test_what_the_watch_tells_while_the_lists_are_under_way_wins(world: World) -> None:
    gone = world.api.create(POLICIES, builders.three_stages().build())
    operator = world.start()
    version = world.breakers.put(TEAM, "review", OPEN)
    other = builders.a_policy("other").build()

    def after_the_list() -> None:
        # Deleted and created after the moment that the lists show, and told by the watch already.
        operator.resync.policy_gone(PLAY)
        operator.resync.breaker_gone(TEAM, "review", version)
        operator.governor.take(key("other"), other)
        operator.resync._touch(key("other"))

    await operator.resync.policy(PLAY, gone)
    operator.resync.breaker(TEAM, "review", OPEN, version)
    world.faults.on("reader.policies", fakes.Fault(before=after_the_list))

    await operator.resync.complete()

    assert in_force(operator) == {"other"}
    assert operator.stores.breakers.of(TEAM) == {}


async def test_a_policy_that_nobody_can_take_in_does_not_stop_the_others(world: World) -> None:
    world.api.create(POLICIES, builders.a_policy("broken").build())
    world.api.change(POLICIES, key("broken"), lambda body: body["metadata"].update(uid=7))
    world.api.create(POLICIES, builders.three_stages().build())
    operator = world.start()
    await operator.resync.complete()
    assert in_force(operator) == {"play"}


def test_it_lists_until_the_api_server_answers() -> None:
    async def main() -> None:
        world = World()
        operator = world.start()
        world.api.create(POLICIES, builders.three_stages().build())
        lost = fakes.Fault(errors.TransientError("no answer", status=503))
        world.faults.on("reader.policies", *[lost] * 8)
        await operator.resync.complete()
        assert in_force(operator) == {"play"}
        assert asyncio.get_running_loop().time() <= 0.75 * 8 * resyncing.MAX_PAUSE

    virtual.run(main())


def test_it_compares_when_a_watch_stands_anew_and_from_time_to_time() -> None:
    async def main() -> None:
        world = World()
        operator = world.start()
        running = asyncio.create_task(operator.resync.run())
        await asyncio.sleep(1)
        for _ in range(5):
            operator.resync.ask()
        await asyncio.sleep(2)
        assert world.faults.count("reader.policies") == 1
        await asyncio.sleep(1.2 * resyncing.INTERVAL)
        assert world.faults.count("reader.policies") == 2
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    virtual.run(main())


def test_a_comparison_that_was_made_meanwhile_is_not_made_again() -> None:
    async def main() -> None:
        world = World()
        operator = world.start()
        running = asyncio.create_task(operator.resync.run())
        await asyncio.sleep(1)
        operator.resync.ask()
        await asyncio.sleep(0)
        await operator.resync.complete()
        await asyncio.sleep(10)
        assert world.faults.count("reader.policies") == 1
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    virtual.run(main())


def test_a_policys_status_is_written_as_soon_as_the_api_server_takes_it() -> None:
    async def main() -> None:
        world = World()
        operator = world.start()
        running = asyncio.create_task(operator.resync.run())
        lost = fakes.Fault(errors.TransientError("no answer", status=503))
        world.faults.always("policies.write_status", lost)
        body = world.api.create(POLICIES, builders.three_stages().build())
        await operator.resync.policy(PLAY, body)
        await asyncio.sleep(300)
        tried = world.faults.count("policies.write_status")
        assert 10 <= tried <= 25, "again and again, less and less often"
        assert "status" not in world.api.get(POLICIES, PLAY)

        world.faults.clear()
        await asyncio.sleep(resyncing.MAX_PAUSE)

        assert world.api.get(POLICIES, PLAY)["status"]["conditions"][0]["status"] == "True"
        await asyncio.sleep(resyncing.INTERVAL)
        assert world.faults.count("policies.write_status") == tried + 1
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    virtual.run(main())
