"""`Elector`: one candidate on a lease in memory, with calls that fail, hang or are lost."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from resumer import errors
from resumer.core.leadership import Record, Timing
from resumer.services.leading import Elector
from tests import builders, fakes
from tests.unit.services import virtual

TIMING = Timing(lease=10.0, renew=7.0, retry=2.0)
AWAY = fakes.Fault(errors.TransientError("no answer"))
LOST = fakes.Fault(errors.TransientError("no answer"), applied=True)
FORBIDDEN = fakes.Fault(errors.PermanentError("forbidden", status=403))


class LoopClock:
    """The time of the loop; its clock on the wall is wherever a test sets it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return builders.NOW + timedelta(seconds=self.monotonic()) + self.ahead

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def random(self) -> float:
        return 0.5


class FakeLeases:
    """Implements `ports.Leases` by one record that all candidates share."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.versions = 0

    def of(self, faults: fakes.Faults) -> OneSide:
        return OneSide(self, faults)

    def put(self, record: Record) -> Record:
        """Stores a record as it is."""
        self.versions += 1
        self.record = dataclasses.replace(record, version=str(self.versions))
        return self.record

    def delete(self) -> None:
        """Takes it away, as a person may."""
        self.record = None

    def write(self, record: Record) -> Record:
        if record.version != (self.record.version if self.record else ""):
            raise errors.PreconditionError("changed", status=409)
        return self.put(record)


@dataclasses.dataclass(slots=True)
class OneSide:
    """The leases as one candidate reaches them."""

    shared: FakeLeases
    faults: fakes.Faults
    hang: bool = False

    async def read(self) -> Record | None:
        await self.wait()
        return await self.faults.call("read", lambda: self.shared.record)

    async def write(self, record: Record) -> Record:
        await self.wait()
        return await self.faults.call("write", lambda: self.shared.write(record))

    async def wait(self) -> None:
        if self.hang:
            await asyncio.Event().wait()


class Candidate:
    """An elector that takes part."""

    def __init__(self, shared: FakeLeases, name: str) -> None:
        self.faults = fakes.Faults()
        self.clock = LoopClock()
        self.side = shared.of(self.faults)
        self.told: list[bool] = []
        self.elector = Elector(self.side, self.clock, name, TIMING, self.told.append)
        self.task = asyncio.create_task(self.elector.run())

    @property
    def leads(self) -> bool:
        return self.elector.leads()

    def kill(self) -> None:
        self.task.cancel()

    async def lost(self) -> str:
        """Why it has lost, as soon as it has."""
        with pytest.raises(errors.LeadershipLostError) as lost:
            await asyncio.wait_for(self.task, 100.0)
        return str(lost.value)


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(holds: Callable[[], bool], seconds: float = 100.0) -> float:
    """Waits until something holds and returns how long that took."""
    began = now()
    while not holds():
        assert now() - began < seconds, "not in time"
        await asyncio.sleep(0.01)
    return now() - began


async def two(shared: FakeLeases) -> tuple[Candidate, Candidate]:
    """One that leads, and one that stands by."""
    first = Candidate(shared, "first")
    await until(lambda: first.leads)
    second = Candidate(shared, "second")
    await asyncio.sleep(5)
    assert (first.leads, second.leads) == (True, False)
    return first, second


def test_one_leads_and_writes_once_each_two_seconds_and_the_other_stands_by_and_reads() -> None:
    async def main() -> None:
        first, second = await two(FakeLeases())
        await asyncio.sleep(100)
        assert (first.leads, second.leads) == (True, False)
        assert (first.told, second.told) == ([True], [])
        assert first.faults.count("read") == 1
        assert 50 <= first.faults.count("write") <= 55
        assert second.faults.count("write") == 0
        assert 100 <= second.faults.count("read") <= 110
        assert first.elector.describe() == "this process leads, as first"
        assert second.elector.describe() == "standing by as second; first leads"

    virtual.run(main())


def test_a_leader_that_is_killed_is_followed_within_the_lease_and_one_look() -> None:
    async def main() -> None:
        first, second = await two(FakeLeases())
        first.kill()
        assert await until(lambda: second.leads) <= 11.1
        assert second.elector.leading.is_set()

    virtual.run(main())


def test_a_leader_that_resigns_is_followed_within_one_look() -> None:
    async def main() -> None:
        shared = FakeLeases()
        first, second = await two(shared)
        await first.elector.resign()
        assert not first.leads
        assert first.told == [True, False]
        assert await until(lambda: second.leads) <= 1.1
        await asyncio.wait_for(first.task, 3.0)
        assert shared.record is not None
        assert shared.record.transitions == 1

    virtual.run(main())


def test_resigning_finds_the_lease_also_after_a_renewal_whose_answer_was_lost() -> None:
    async def main() -> None:
        shared = FakeLeases()
        first, second = await two(shared)
        writes = first.faults.count("write")
        first.faults.on("write", LOST)
        await until(lambda: first.faults.count("write") > writes)
        await first.elector.resign()
        assert await until(lambda: second.leads) <= 1.1

    virtual.run(main())


def test_who_stands_by_resigns_without_a_call_and_leaves_the_record_alone() -> None:
    async def main() -> None:
        shared = FakeLeases()
        _, second = await two(shared)
        await second.elector.resign()
        await asyncio.wait_for(second.task, 3.0)
        assert second.faults.count("write") == 0
        assert shared.record is not None
        assert shared.record.holder == "first"

    virtual.run(main())


@pytest.mark.parametrize("fault", [AWAY, FORBIDDEN], ids=["no answer", "refused"])
def test_a_leader_that_cannot_renew_has_stopped_before_another_one_begins(
    fault: fakes.Fault,
) -> None:
    async def main() -> None:
        first, second = await two(FakeLeases())
        for name in ("read", "write"):
            first.faults.always(name, fault)
        began = now()
        assert (await first.lost()).startswith("not renewed for 7.")
        assert now() - began <= 7.0
        assert first.told == [True, False]
        assert not second.leads
        assert await until(lambda: second.leads) >= 2.0

    virtual.run(main())


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_lead() -> None:
    async def main() -> None:
        first, _ = await two(FakeLeases())
        first.side.hang = True
        began = now()
        assert (await first.lost()).startswith("not renewed for 7.")
        assert now() - began <= 7.0

    virtual.run(main())


def test_failures_shorter_than_the_time_to_renew_cost_nothing() -> None:
    async def main() -> None:
        first, second = await two(FakeLeases())
        for fault in (AWAY, LOST, FORBIDDEN):
            for name in ("read", "write"):
                first.faults.always(name, fault)
            await asyncio.sleep(4)
            first.faults.clear()
            await asyncio.sleep(4)
        assert (first.leads, second.leads) == (True, False)
        assert first.told == [True]

    virtual.run(main())


def test_a_leader_that_finds_another_one_stops_at_once() -> None:
    async def main() -> None:
        shared = FakeLeases()
        first, _ = await two(shared)
        shared.put(Record("usurper", 10, None, None, 7))
        assert await first.lost() == "'usurper' has taken it"
        assert first.told == [True, False]
        assert not first.leads

    virtual.run(main())


def test_a_lease_that_was_deleted_is_written_again_by_its_holder() -> None:
    async def main() -> None:
        shared = FakeLeases()
        first, second = await two(shared)
        shared.delete()
        await asyncio.sleep(30)
        assert (first.leads, second.leads) == (True, False)
        assert shared.record is not None
        assert shared.record.holder == "first"

    virtual.run(main())


def test_clocks_on_the_wall_that_jump_by_hours_change_nothing() -> None:
    async def main() -> None:
        first, second = await two(FakeLeases())
        for hours in (1, -1, 1000, -1000, 0):
            first.clock.ahead = timedelta(hours=hours)
            second.clock.ahead = timedelta(hours=-hours)
            await asyncio.sleep(15)
            assert (first.leads, second.leads) == (True, False)
        first.kill()
        assert 7 <= await until(lambda: second.leads) <= 11.1

    virtual.run(main())


def test_one_that_may_not_use_the_lease_says_so_and_takes_part_once_it_may() -> None:
    async def main() -> None:
        alone = Candidate(FakeLeases(), "alone")
        alone.faults.always("read", FORBIDDEN)
        await asyncio.sleep(5)
        assert not alone.elector.usable
        assert alone.elector.describe() == (
            "standing by as alone; the lease cannot be used: forbidden"
        )
        alone.faults.clear()
        assert await until(lambda: alone.leads and alone.elector.usable) <= 1.1

    virtual.run(main())


def test_a_namespace_that_is_missing_is_asked_for_once_a_second_and_not_more() -> None:
    async def main() -> None:
        alone = Candidate(FakeLeases(), "alone")
        alone.faults.always("write", fakes.Fault(errors.NotFoundError("no such namespace")))
        await asyncio.sleep(10)
        assert alone.faults.count("write") <= 11
        assert not alone.elector.usable
        assert alone.elector.describe().endswith("no such namespace")

    virtual.run(main())


def test_nobody_leads_before_the_first_look() -> None:
    async def main() -> None:
        alone = Candidate(FakeLeases(), "alone")
        assert alone.elector.describe() == "standing by as alone; nobody leads"
        assert not alone.leads
        alone.kill()

    virtual.run(main())


def test_of_many_that_start_together_one_leads() -> None:
    async def main() -> None:
        shared = FakeLeases()
        crowd = [Candidate(shared, f"candidate-{number}") for number in range(20)]
        await asyncio.sleep(5)
        assert sum(one.leads for one in crowd) == 1

    virtual.run(main())
