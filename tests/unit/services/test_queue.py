"""`KeyedQueue`: each key once, never twice at a time, later ones in their time (virtual here)."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable

import hypothesis
import pytest
from hypothesis import stateful, strategies

from resumer import errors
from resumer.core.keys import Key
from resumer.services import queue as queues
from resumer.services.queue import KeyedQueue
from tests import builders, fakes
from tests.unit.services import virtual

A, B, C, D = (Key("team", name) for name in "abcd")
Handler = Callable[[Key], Awaitable[float | None]]


def make(handler: Handler, *, workers: int = 2) -> tuple[KeyedQueue, fakes.FakeTelemetry]:
    telemetry = fakes.FakeTelemetry()
    clock = fakes.FakeClock(builders.NOW)
    return KeyedQueue(handler, workers=workers, clock=clock, telemetry=telemetry), telemetry


@dataclasses.dataclass
class Log:
    """A handler that notes when each key came, and does what is planned for it."""

    results: dict[Key, list[float | Exception | None]] = dataclasses.field(default_factory=dict)
    took: float = 0.0
    seen: list[tuple[float, Key]] = dataclasses.field(default_factory=list)

    async def __call__(self, key: Key) -> float | None:
        self.seen.append((asyncio.get_running_loop().time(), key))
        if self.took:
            await asyncio.sleep(self.took)
        planned = self.results.get(key)
        result = planned.pop(0) if planned else None
        if isinstance(result, Exception):
            raise result
        return result

    def times(self, key: Key) -> list[float]:
        return [moment for moment, other in self.seen if other == key]


def test_keys_collect_until_the_start_and_each_then_comes_once() -> None:
    async def main() -> None:
        log = Log()
        queue, _ = make(log)
        for key in (A, B, A, A):
            queue.add(key)
        await asyncio.sleep(10)
        assert log.seen == []
        queue.start()
        await asyncio.sleep(1)
        assert log.seen == [(10, A), (10, B)]

    virtual.run(main())


def test_keys_added_behind_come_when_no_other_is_there_or_is_added_meanwhile() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, telemetry = make(log, workers=1)
        for key in (A, B, C):
            queue.add_behind(key)
        queue.add_behind(A)
        queue.start()
        await asyncio.sleep(0.5)
        assert telemetry.depth == (2, 0, 1)
        queue.add(D)
        queue.add_behind(D)
        queue.add(C)
        await asyncio.sleep(9)
        assert log.seen == [(0, A), (1, D), (2, C), (3, B)]

    virtual.run(main())


def test_what_is_behind_comes_now_and_then_even_if_there_always_is_another() -> None:
    async def scene() -> None:
        seen: list[Key] = []
        came = asyncio.Event()

        async def handle(key: Key) -> None:
            seen.append(key)
            queue.add(Key("busy", str(len(seen))))
            if key == A:
                came.set()

        queue = queues.KeyedQueue(
            handle, workers=1, clock=fakes.FakeClock(builders.NOW), telemetry=fakes.FakeTelemetry()
        )
        queue.start()
        queue.add(Key("busy", "0"))
        queue.add_behind(A)
        await asyncio.wait_for(came.wait(), 10)
        await queue.drain(1)
        assert len(seen) > 5, "what is not behind goes first"

    virtual.run(scene())


def test_a_key_added_behind_while_it_runs_comes_again_and_one_forgotten_does_not() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, _ = make(log, workers=2)
        queue.start()
        queue.add_behind(A)
        queue.add(B)
        await asyncio.sleep(0.5)
        queue.add_behind(A)
        queue.add_behind(C)
        queue.forget(C)
        await asyncio.sleep(5)
        assert log.seen == [(0, A), (0, B), (1, A)]

    virtual.run(main())


MANY = 10_000


def crowded(queue: KeyedQueue, put: Callable[[Key], None], others: int) -> list[Key]:
    """Very many keys of one namespace, and then one each of some others."""
    for number in range(MANY):
        put(Key("crowd", str(number)))
    late = [Key(f"team-{number}", "late") for number in range(others)]
    for key in late:
        put(key)
    queue.start()
    return late


@pytest.mark.parametrize(("workers", "others"), [(1, 1), (1, 5), (4, 1), (4, 5)])
@pytest.mark.parametrize("put", ["add", "add_behind"])
def test_ten_thousand_keys_of_a_namespace_go_before_another_one_s_key_once_for_each_worker(
    put: str, workers: int, others: int
) -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, _ = make(log, workers=workers)
        late = crowded(queue, getattr(queue, put), others)
        await asyncio.sleep(0.5 + math.ceil((1 + others) / workers))
        order = [key for _, key in log.seen]
        assert [key for key in order if key in late] == late
        # The crowd's turn comes first and, where a worker is left, after each round of all.
        assert order.index(late[-1]) == others
        await queue.drain(0.0)

    virtual.run(main())


def test_a_key_that_comes_while_ten_thousand_of_another_namespace_wait_is_next_but_one() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, telemetry = make(log, workers=1)
        crowded(queue, queue.add, 0)
        await asyncio.sleep(100.5)
        queue.add_after(B, 10)
        queue.add(A)
        assert telemetry.depth == (MANY - 100, 1, 1)
        await asyncio.sleep(20)
        assert log.times(A) == [102]
        assert log.times(B) == [112]
        await queue.drain(0.0)

    virtual.run(main())


def test_all_of_ten_thousand_keys_come_once_and_in_their_order() -> None:
    async def main() -> None:
        log = Log()
        queue, _ = make(log, workers=16)
        late = crowded(queue, queue.add, 3)
        await asyncio.sleep(1)
        order = [key for _, key in log.seen]
        assert len(order) == len(set(order)) == MANY + len(late)
        names = [int(key.name) for key in order if key.namespace == "crowd"]
        assert names == sorted(names)

    virtual.run(main())


def test_no_more_keys_run_at_once_than_there_are_workers() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, telemetry = make(log, workers=2)
        queue.start()
        for key in (A, B, C, D):
            queue.add(key)
        await asyncio.sleep(0.5)
        assert telemetry.depth == (2, 0, 2)
        await asyncio.sleep(5)
        assert log.seen == [(0, A), (0, B), (1, C), (1, D)]
        assert telemetry.depth == (0, 0, 0)

    virtual.run(main())


def test_a_key_added_while_it_runs_comes_again_once() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, _ = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(0.5)
        queue.add(A)
        queue.add(A)
        await asyncio.sleep(5)
        assert log.times(A) == [0, 1]

    virtual.run(main())


def test_what_a_pass_asks_for_gives_way_to_what_came_while_it_ran() -> None:
    async def main() -> None:
        log = Log(results={A: [100.0, None]}, took=1.0)
        queue, telemetry = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(0.5)
        queue.add(A)
        await asyncio.sleep(200)
        assert log.times(A) == [0, 1]
        assert telemetry.depth == (0, 0, 0)

    virtual.run(main())


@pytest.mark.parametrize(
    ("delays", "expected"), [((5, 3), 3), ((3, 5), 3), ((5, 5), 5), ((0,), 0), ((-1,), 0)]
)
def test_the_sooner_of_two_delays_wins(delays: tuple[float, ...], expected: float) -> None:
    async def main() -> None:
        log = Log()
        queue, _ = make(log)
        queue.start()
        for delay in delays:
            queue.add_after(A, delay)
        await asyncio.sleep(20)
        assert log.times(A) == [expected]

    virtual.run(main())


def test_a_key_that_is_planned_anew_comes_then_and_once_sooner_or_later() -> None:
    async def main() -> None:
        log = Log()
        queue, _ = make(log)
        queue.start()
        for key, before, after in ((A, 5, 7), (B, 9, 6), (C, 3, -1)):
            queue.add_after(key, before)
            queue.plan(key, after)
        await asyncio.sleep(20)
        assert log.seen == [(0, C), (6, B), (7, A)]

    virtual.run(main())


def test_a_key_that_is_added_does_not_come_at_its_later_time_again() -> None:
    async def main() -> None:
        log = Log()
        queue, _ = make(log)
        queue.start()
        queue.add_after(A, 5)
        queue.add(A)
        await asyncio.sleep(20)
        assert log.times(A) == [0]

    virtual.run(main())


def test_a_key_that_is_ready_already_needs_no_later_time() -> None:
    async def main() -> None:
        log = Log()
        queue, telemetry = make(log)
        queue.add(A)
        queue.add_after(A, 5)
        assert telemetry.depth == (1, 0, 0)
        queue.start()
        await asyncio.sleep(20)
        assert log.times(A) == [0]

    virtual.run(main())


def test_a_pass_says_when_its_key_comes_again() -> None:
    async def main() -> None:
        log = Log(results={A: [2.5, 0.5, None]})
        queue, _ = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(20)
        assert log.times(A) == [0, 2.5, 3]

    virtual.run(main())


def test_a_forgotten_key_does_not_come_at_its_later_time_nor_again_after_its_pass() -> None:
    async def main() -> None:
        log = Log(took=1.0)
        queue, _ = make(log)
        queue.start()
        queue.add_after(A, 5)
        queue.forget(A)
        queue.add(B)
        await asyncio.sleep(0.5)
        queue.add(B)
        queue.forget(B)
        await asyncio.sleep(20)
        assert log.seen == [(0, B)]

    virtual.run(main())


def test_a_key_that_raises_comes_again_after_growing_waits_and_the_others_go_on() -> None:
    async def main() -> None:
        bad: list[float | Exception | None] = [errors.PermanentError("bad")] * 12
        log = Log(results={A: bad, B: [10.0] * 8})
        queue, telemetry = make(log, workers=1)
        queue.start()
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(200)
        waits = [
            later - sooner for sooner, later in zip(log.times(A), log.times(A)[1:], strict=False)
        ]
        # Chance is 0.5: three quarters of 0.25 s, doubled each time up to 30 s.
        grown = [0.75 * min(queues.MAX_DELAY, queues.BASE_DELAY * 2**step) for step in range(12)]
        assert waits == pytest.approx(grown[: len(waits)])
        assert len(waits) >= 10
        assert log.times(B) == pytest.approx([number * 10 for number in range(9)])
        assert {error for _, error in telemetry.passes} == {"PermanentError", ""}

    virtual.run(main())


def test_a_success_ends_the_growth() -> None:
    async def main() -> None:
        problem = errors.TransientError("no answer")
        log = Log(results={A: [problem, problem, 5.0, problem, None]})
        queue, _ = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(60)
        assert log.times(A) == pytest.approx([0, 0.1875, 0.5625, 5.5625, 5.75])

    virtual.run(main())


def test_a_server_that_asks_for_patience_gets_it() -> None:
    async def main() -> None:
        log = Log(results={A: [errors.TransientError("slow down", status=429, retry_after=12.0)]})
        queue, _ = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(60)
        assert log.times(A) == [0, 12]

    virtual.run(main())


def test_draining_lets_what_runs_end_and_starts_nothing_else() -> None:
    async def main() -> None:
        log = Log(results={A: [1.0], B: [ValueError("bad")]}, took=1.0)
        queue, _ = make(log, workers=2)
        queue.start()
        for key in (A, B, C):
            queue.add(key)
        queue.add_after(D, 0.5)
        await asyncio.sleep(0.2)
        assert await queue.drain(5.0)
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        queue.add(D)
        await asyncio.sleep(60)
        assert log.seen == [(0, A), (0, B)]

    virtual.run(main())


def test_draining_cuts_off_what_does_not_end_in_time() -> None:
    async def main() -> None:
        log = Log(took=100.0)
        queue, _ = make(log)
        queue.start()
        queue.add(A)
        await asyncio.sleep(1)
        assert not await queue.drain(5.0)
        assert asyncio.get_running_loop().time() == pytest.approx(6.0)
        await asyncio.sleep(200)
        assert log.times(A) == [0]

    virtual.run(main())


def test_draining_an_idle_queue_takes_no_time() -> None:
    async def main() -> None:
        queue, _ = make(Log())
        queue.add(A)
        assert await queue.drain(5.0)
        assert asyncio.get_running_loop().time() == 0

    virtual.run(main())


E, F = (Key("others", name) for name in "ef")
KEYS = strategies.sampled_from([A, B, C, D, E, F])
DELAYS = strategies.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])
WORKERS = 2
TICK = time.get_clock_info("monotonic").resolution


class QueueMachine(stateful.RuleBasedStateMachine):
    """The queue against a model of it: who is ready, who runs, who comes when."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = virtual.VirtualTimeLoop()
        self.open: dict[Key, asyncio.Future[float | None]] = {}
        self.queue, _ = make(self.handle, workers=WORKERS)
        self.ready: list[Key] = []
        self.place: dict[str, int] = {}
        self.running: list[Key] = []
        self.again: set[Key] = set()
        self.due: dict[Key, float] = {}
        self.failures: dict[Key, int] = {}
        self.now = 0.0
        self.loop.call_soon(self.queue.start)
        self.turn()

    async def handle(self, key: Key) -> float | None:
        assert key not in self.open, "a key runs twice at the same time"
        self.open[key] = self.loop.create_future()
        try:
            return await self.open[key]
        finally:
            del self.open[key]

    def turn(self, seconds: float = 0.0) -> None:
        """Lets the loop come to rest, and so much time pass."""

        async def wait() -> None:
            if seconds:
                await asyncio.sleep(seconds)
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    def model_add(self, key: Key) -> None:
        self.due.pop(key, None)
        if key in self.running:
            self.again.add(key)
        elif key not in self.ready:
            if not any(one.namespace == key.namespace for one in self.ready):
                self.rank(key)
            self.ready.append(key)
        self.model_dispatch()

    def rank(self, key: Key) -> None:
        """Its namespace gets the last place of all."""
        self.place[key.namespace] = max(self.place.values(), default=0) + 1

    def model_add_after(self, key: Key, seconds: float) -> None:
        if key not in self.ready:
            self.due[key] = min(self.due.get(key, self.now + seconds), self.now + seconds)

    def model_dispatch(self) -> None:
        while self.ready and len(self.running) < WORKERS:
            # The first one of a namespace, of those the one that was not served for longest.
            first = {key.namespace: key for key in reversed(self.ready)}
            key = min(first.values(), key=lambda one: self.place[one.namespace])
            self.ready.remove(key)
            self.running.append(key)
            self.rank(key)

    def model_end(self, key: Key, delay: float | None) -> None:
        self.running.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.model_add(key)
        elif delay is not None:
            self.model_add_after(key, delay)
        self.model_dispatch()

    @stateful.rule(key=KEYS)
    def add(self, key: Key) -> None:
        self.loop.call_soon(self.queue.add, key)
        self.turn()
        self.model_add(key)

    @stateful.rule(key=KEYS, seconds=DELAYS.filter(bool))
    def add_after(self, key: Key, seconds: float) -> None:
        self.make_room(seconds)
        self.loop.call_soon(self.queue.add_after, key, seconds)
        self.turn()
        self.model_add_after(key, seconds)

    @stateful.rule(key=KEYS)
    def forget(self, key: Key) -> None:
        self.queue.forget(key)
        self.due.pop(key, None)
        self.again.discard(key)
        self.failures.pop(key, None)

    @stateful.precondition(lambda self: self.running)
    @stateful.rule(data=strategies.data(), delay=strategies.none() | DELAYS.filter(bool))
    def succeed(self, data: strategies.DataObject, delay: float | None) -> None:
        key = data.draw(strategies.sampled_from(self.running))
        self.make_room(delay or 0.0)
        self.open[key].set_result(delay)
        self.turn()
        self.failures.pop(key, None)
        self.model_end(key, delay)

    @stateful.precondition(lambda self: self.running)
    @stateful.rule(data=strategies.data())
    def fail(self, data: strategies.DataObject) -> None:
        key = data.draw(strategies.sampled_from(self.running))
        count = self.failures.get(key, 0)
        delay = 0.75 * min(queues.MAX_DELAY, queues.BASE_DELAY * 2**count)
        self.make_room(delay)
        self.open[key].set_exception(errors.TransientError("no answer"))
        self.turn()
        self.failures[key] = count + 1
        self.model_end(key, delay)

    @stateful.rule()
    def let_the_next_one_come(self) -> None:
        """Just beyond the next moment at which something is due."""
        self.pass_time(min(self.due.values(), default=self.now) + 1e-6 - self.now)

    def make_room(self, delay: float) -> None:
        """Lets time pass until this delay ends at no moment at which another one ends.

        The order of two keys that come at the same moment is open.
        """
        while any(abs(self.now + delay - due) < 1e-4 for due in self.due.values()):
            self.pass_time(3e-4)

    def pass_time(self, seconds: float) -> None:
        self.turn(seconds)
        self.now = self.loop.time()
        for key, due in sorted(self.due.items(), key=lambda item: item[1]):
            # As asyncio has it, which calls what is due within the next tick of its clock.
            if due < self.now + TICK:
                self.model_add(key)

    @stateful.invariant()
    def it_is_as_the_model_says(self) -> None:
        assert sorted(self.open) == sorted(self.running)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.queue.drain(0.0))
        self.loop.close()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = hypothesis.settings(max_examples=60, stateful_step_count=30)
