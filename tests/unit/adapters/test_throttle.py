"""`Throttle`, in virtual time: the order of the line, the pause of all, and no place lost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from resumer import errors
from resumer.adapters import throttle as throttles
from resumer.adapters.throttle import Rank, Throttle
from resumer.core.pacing import Limits
from tests import fakes
from tests.unit.services import virtual

WRITE, READ, EVENT = Rank.WRITE, Rank.READ, Rank.EVENT


class LoopClock(fakes.FakeClock):
    """The time of the loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


@dataclasses.dataclass(slots=True)
class Server:
    """Answers one call after the other, each after some seconds.

    Attributes:
        seconds: for each answer
        refusing: so many calls are turned away first, for `asks` seconds each
        share: turns away what comes while so many calls are under way
        calls: the names of all calls and when they came
    """

    seconds: float = 0.0
    refusing: int = 0
    asks: float | None = 1.0
    share: int = 1000
    calls: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    under_way: int = 0

    def call(self, name: str) -> Callable[[], Awaitable[str]]:
        async def made() -> str:
            self.calls.append((name, asyncio.get_running_loop().time()))
            if self.refusing or self.under_way >= self.share:
                self.refusing = max(0, self.refusing - 1)
                raise errors.TransientError("too many", status=429, retry_after=self.asks)
            self.under_way += 1
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.under_way -= 1
            return name

        return made

    @property
    def names(self) -> Sequence[str]:
        return [name for name, _ in self.calls]

    @property
    def times(self) -> Sequence[float]:
        return [round(moment, 3) for _, moment in self.calls]


class Told:
    """What the throttle measured."""

    def __init__(self) -> None:
        self.held: list[tuple[str, float]] = []
        self.turned_away = 0

    def on_held(self, rank: str, seconds: float) -> None:
        self.held.append((rank, round(seconds, 3)))

    def on_turned_away(self) -> None:
        self.turned_away += 1


def made(told: Told, *, rate: float = 0.0, burst: int = 1, window: int = 1000) -> Throttle:
    clock = LoopClock(datetime(2026, 11, 21, tzinfo=UTC), chance=0.0)
    return Throttle(
        Limits(rate, burst, window),
        clock,
        on_held=told.on_held,
        on_turned_away=told.on_turned_away,
    )


def test_calls_within_the_limits_go_at_once_and_are_not_measured() -> None:
    async def scene() -> None:
        told, server = Told(), Server()
        throttle = made(told, rate=10, burst=5)
        names = await asyncio.gather(
            *(throttle.run(READ, server.call(str(number))) for number in range(5))
        )
        assert list(names) == ["0", "1", "2", "3", "4"]
        assert server.times == [0.0] * 5
        assert not told.held

    virtual.run(scene())


def test_a_call_that_hangs_leaves_its_place_to_another_one_after_some_seconds() -> None:
    async def scene() -> None:
        server, quick = Server(seconds=60.0), Server(seconds=1.0)
        throttle = made(Told(), window=1)
        hanging = asyncio.create_task(throttle.run(READ, server.call("hangs")))
        await asyncio.sleep(0)
        for name in ("first", "second"):
            await throttle.run(WRITE, quick.call(name))
        assert quick.times == [throttles.LONG, throttles.LONG + 1]
        await hanging
        began = asyncio.get_running_loop().time()
        both = [throttle.run(WRITE, quick.call(name)) for name in ("third", "fourth")]
        await asyncio.gather(*both)
        assert quick.times[2:] == [began, began + 1], "it has come back once, and left once"

    virtual.run(scene())


def test_writes_that_never_end_do_not_keep_a_read_for_ever() -> None:
    async def scene() -> None:
        server = Server(seconds=0.1)
        throttle = made(Told(), window=1)

        async def write_on() -> None:
            while True:
                await throttle.run(WRITE, server.call("write"))

        writers = [asyncio.create_task(write_on()) for _ in range(3)]
        await asyncio.sleep(0)
        await throttle.run(READ, server.call("read"))
        assert 3 < len(server.calls) < 10, "some writes that came later went before it"
        for task in writers:
            task.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    virtual.run(scene())


def test_beyond_the_burst_writes_go_first_then_reads_then_events_each_in_their_order() -> None:
    async def scene() -> None:
        told, server = Told(), Server()
        throttle = made(told, rate=10, burst=1)
        ranks = [EVENT, READ, WRITE, EVENT, READ, WRITE, WRITE]
        await asyncio.gather(
            *(
                throttle.run(rank, server.call(f"{rank.name}-{number}"))
                for number, rank in enumerate(ranks)
            )
        )
        assert server.names == [
            "EVENT-0",
            "WRITE-2",
            "WRITE-5",
            "WRITE-6",
            "READ-1",
            "READ-4",
            "EVENT-3",
        ]
        assert server.times == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
        assert min(told.held) == ("event", 0.6)
        assert len(told.held) == 6

    virtual.run(scene())


def test_no_more_calls_are_under_way_than_the_window_lets() -> None:
    async def scene() -> None:
        server = Server(seconds=1)
        throttle = made(Told(), window=2)
        await asyncio.gather(*(throttle.run(WRITE, server.call("x")) for _ in range(5)))
        assert server.times == [0.0, 0.0, 1.0, 1.0, 2.0]

    virtual.run(scene())


def test_a_call_that_is_turned_away_is_made_again_and_everybody_waits_with_it() -> None:
    async def scene() -> None:
        told, server = Told(), Server(refusing=1, asks=3)
        throttle = made(told)
        first = asyncio.create_task(throttle.run(WRITE, server.call("first")))
        await asyncio.sleep(1)
        assert await throttle.run(READ, server.call("second")) == "second"
        assert await first == "first"
        assert server.names == ["first", "first", "second"]
        assert server.times == [0.0, 3.0, 3.0]
        assert told.turned_away == 1

    virtual.run(scene())


def test_a_429_that_says_nothing_asks_for_a_second() -> None:
    async def scene() -> None:
        server = Server(refusing=1, asks=None)
        await made(Told()).run(READ, server.call("x"))
        assert server.times == [0.0, throttles.USUAL_PAUSE]

    virtual.run(scene())


@pytest.mark.parametrize("share", [1, 2, 5])
def test_a_storm_above_a_small_share_slows_down_to_it_and_everything_is_done(share: int) -> None:
    """A server with a place for few calls, and 200 calls at once by 64 workers."""

    async def scene() -> None:
        told, server = Told(), Server(seconds=0.01, share=share)
        throttle = made(told, window=64)
        done = await asyncio.gather(
            *(throttle.run(WRITE, server.call(str(number))) for number in range(200)),
            return_exceptions=True,
        )
        assert [one for one in done if isinstance(one, BaseException)] == []
        # 64 came at once before the first answer; later waves are as small as the share.
        assert told.turned_away <= 64 + 4 * 10
        assert asyncio.get_running_loop().time() < 15

    virtual.run(scene())


def test_who_would_wait_too_long_is_told_at_once() -> None:
    async def scene() -> None:
        server = Server(refusing=1, asks=throttles.PATIENCE + 1)
        throttle = made(Told())
        with pytest.raises(errors.TransientError) as refused:
            await throttle.run(WRITE, server.call("x"))
        assert (refused.value.status, refused.value.retry_after) == (429, throttles.PATIENCE + 1)
        assert asyncio.get_running_loop().time() == 0

    virtual.run(scene())


def test_an_api_server_that_asks_for_an_hour_does_not_stop_everybody_for_so_long() -> None:
    async def scene() -> None:
        server = Server(refusing=1, asks=3600)
        throttle = made(Told())
        with pytest.raises(errors.TransientError):
            await throttle.run(WRITE, server.call("x"))
        with pytest.raises(errors.TransientError) as held:
            await throttle.run(READ, server.call("y"))
        assert (held.value.status, held.value.reason, held.value.sent) == (429, "HeldBack", False)
        waited = asyncio.get_running_loop().time()
        assert waited == pytest.approx(throttles.PATIENCE)
        assert held.value.retry_after == pytest.approx(throttles.LONGEST_PAUSE - waited)
        await asyncio.sleep(throttles.LONGEST_PAUSE - waited)
        assert await throttle.run(READ, server.call("y")) == "y"

    virtual.run(scene())


def test_who_has_waited_too_long_for_the_rate_is_told_and_takes_no_turn() -> None:
    async def scene() -> None:
        server = Server()
        throttle = made(Told(), rate=0.1, burst=1)
        done = await asyncio.gather(
            *(throttle.run(READ, server.call(str(number))) for number in range(4)),
            return_exceptions=True,
        )
        failed = [one for one in done if isinstance(one, errors.TransientError)]
        assert [(one.status, one.retry_after) for one in failed] == [(429, None)] * len(failed)
        assert len(server.calls) + len(failed) == 4
        assert failed
        await asyncio.sleep(20)
        assert await throttle.run(READ, server.call("later")) == "later"

    virtual.run(scene())


def test_who_is_cancelled_leaves_no_place_taken() -> None:
    async def scene() -> None:
        server = Server(seconds=1)
        throttle = made(Told(), window=1)
        tasks = [
            asyncio.create_task(throttle.run(WRITE, server.call(str(number))))
            for number in range(4)
        ]
        await asyncio.sleep(0.5)
        tasks[1].cancel()  # in the line
        tasks[0].cancel()  # under way
        await asyncio.sleep(0)
        tasks[2].cancel()  # called up in the very same moment
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[2]
        assert await tasks[3] == "3"
        assert await throttle.run(WRITE, server.call("4")) == "4"
        assert server.names[-2:] == ["3", "4"]

    virtual.run(scene())


def test_other_errors_pass_through_and_leave_no_place_taken() -> None:
    async def scene() -> None:
        throttle = made(Told(), window=1)

        async def broken() -> None:
            raise errors.TransientError("broken", status=503)

        async def defect() -> None:
            raise ValueError("defect")

        for call, kind in ((broken, errors.TransientError), (defect, ValueError)):
            with pytest.raises(kind):
                await throttle.run(WRITE, call)
        assert await throttle.run(WRITE, Server().call("x")) == "x"

    virtual.run(scene())
