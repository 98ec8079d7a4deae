"""Leadership: who may take the lead when, and that two never lead at the same time."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import hypothesis
from hypothesis import strategies

from resumer.core import leadership
from resumer.core.leadership import Acquire, Lost, Record, Renew, Standing, Timing, Wait

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
TIMING = Timing(lease=10.0, renew=7.0, retry=2.0)
HELD = Record("other", 10, NOW, NOW, 3, "41")


def candidate(name: str = "me", timing: Timing = TIMING) -> Standing:
    return Standing(name, timing)


def leader(at: float = 100.0) -> Standing:
    """One that has just written, and so leads."""
    standing = candidate()
    record = dataclasses.replace(leadership.written(standing, NOW), version="50")
    return leadership.wrote(standing, record, at, at + 0.01)


def test_where_there_never_was_a_record_it_is_created_at_once() -> None:
    standing = leadership.observe(candidate(), None, 5.0)
    assert leadership.decide(standing, 5.0) == Acquire()
    assert leadership.written(standing, NOW) == Record("me", 10, NOW, NOW, 0, "")


def test_a_holder_is_left_alone_for_its_lease_from_when_its_last_sign_was_seen() -> None:
    standing = leadership.observe(candidate(), HELD, 100.0)
    assert leadership.decide(standing, 100.0) == Wait(1.0)
    again = leadership.observe(standing, HELD, 105.0)
    assert leadership.decide(again, 109.5) == Wait(0.5)
    assert leadership.decide(again, 110.0) == Acquire()

    renewed = leadership.observe(again, dataclasses.replace(HELD, version="42"), 109.0)
    assert leadership.decide(renewed, 118.5) == Wait(0.5)
    assert leadership.decide(renewed, 119.0) == Acquire()


def test_the_length_of_a_lease_is_what_its_holder_wrote() -> None:
    longer = leadership.observe(candidate(), dataclasses.replace(HELD, seconds=60), 0.0)
    assert isinstance(leadership.decide(longer, 59.9), Wait)
    assert leadership.decide(longer, 60.0) == Acquire()
    silent = leadership.observe(candidate(), dataclasses.replace(HELD, seconds=0), 0.0)
    assert isinstance(leadership.decide(silent, 9.9), Wait)
    assert leadership.decide(silent, 10.0) == Acquire()


def test_the_times_in_a_record_decide_nothing() -> None:
    for stamp in (None, NOW - timedelta(days=400), NOW + timedelta(days=400)):
        strange = dataclasses.replace(HELD, acquired=stamp, renewed=stamp)
        standing = leadership.observe(candidate(), strange, 0.0)
        assert isinstance(leadership.decide(standing, 9.9), Wait)
        assert leadership.decide(standing, 10.0) == Acquire()


def test_a_released_lease_is_taken_at_once() -> None:
    standing = leadership.observe(candidate(), HELD, 100.0)
    free = dataclasses.replace(HELD, holder="", seconds=1, version="42")
    standing = leadership.observe(standing, free, 100.5)
    assert leadership.decide(standing, 100.5) == Acquire()
    assert leadership.written(standing, NOW) == Record("me", 10, NOW, NOW, 4, "42")


def test_a_record_that_disappears_counts_as_a_sign_of_its_holder() -> None:
    standing = leadership.observe(candidate(), HELD, 0.0)
    standing = leadership.observe(standing, None, 50.0)
    standing = leadership.observe(standing, None, 55.0)
    assert isinstance(leadership.decide(standing, 59.9), Wait)
    assert leadership.decide(standing, 60.0) == Acquire()


def test_an_answer_that_was_lost_is_found_in_the_record() -> None:
    mine = dataclasses.replace(HELD, holder="me", version="42")
    standing = leadership.observe(candidate(), mine, 5.0)
    assert not leadership.leads(standing, 5.0)
    assert leadership.decide(standing, 5.0) == Acquire()
    assert leadership.written(standing, NOW + timedelta(hours=1)).acquired == NOW


def test_a_leader_leads_for_the_time_to_renew_from_before_it_wrote() -> None:
    standing = leader(at=100.0)
    assert leadership.leads(standing, 106.99)
    assert leadership.remaining(standing, 106.0) == 1.0
    assert leadership.decide(standing, 106.99) == Renew()
    assert not leadership.leads(standing, 107.0)
    assert leadership.remaining(standing, 108.0) == 0.0
    assert leadership.decide(standing, 107.0) == Lost("not renewed for 7.0 s")


def test_a_renewal_keeps_who_leads_since_when() -> None:
    later = NOW + timedelta(seconds=2)
    assert leadership.written(leader(), later) == Record("me", 10, NOW, later, 0, "50")


def test_a_renewal_always_changes_the_record_also_on_a_clock_that_stands_still() -> None:
    assert leadership.written(leader(), NOW).renewed == NOW + timedelta(microseconds=1)


def test_a_leader_that_sees_another_one_has_lost() -> None:
    standing = leadership.observe(leader(), HELD, 101.0)
    assert leadership.decide(standing, 101.0) == Lost("'other' has taken it")


def test_a_leader_whose_record_was_deleted_or_emptied_writes_it_again() -> None:
    standing = leadership.observe(leader(), None, 101.0)
    assert leadership.decide(standing, 101.0) == Renew()
    assert leadership.written(standing, NOW).version == ""
    emptied = Record(version="60")
    standing = leadership.observe(leader(), emptied, 101.0)
    assert leadership.decide(standing, 101.0) == Renew()
    assert leadership.written(standing, NOW).version == "60"


def test_who_resigns_leads_no_more_and_leaves_a_record_that_says_so() -> None:
    standing = leadership.resigned(leader())
    assert not leadership.leads(standing, 100.1)
    assert leadership.remaining(standing, 100.1) == 0.0
    later = NOW + timedelta(seconds=9)
    assert leadership.released(standing, later) == Record("", 1, later, later, 0, "50")
    assert leadership.released(candidate(), later) == Record("", 1, later, later, 0, "")


@dataclasses.dataclass(slots=True)
class Process:
    """A candidate with a clock that begins anywhere and runs at a speed of its own."""

    standing: Standing
    offset: float
    speed: float
    alive: bool = True

    def clock(self, real: float) -> float:
        return self.offset + real * self.speed

    def leads(self, real: float) -> bool:
        return self.alive and leadership.leads(self.standing, self.clock(real))


class Election:
    """Processes, a server that compares versions, and a network that delays and loses.

    Clocks differ by anything, and in speed by less than a lease is longer than the time to renew:
    20 % up and 15 % down make 1.41, and 10 to 7 is 1.43. Processes are stopped for a while, killed
    or ended in order, and others started; a person deletes the record. The clock on the wall is
    drawn anew each time it is read.

    The record is deleted once: a process that was stopped over two deletions has missed the sign of
    life in between.
    """

    TIMEOUT = 3.5

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.real = 0.0
        self.record: Record | None = None
        self.versions = 0
        self.processes: list[Process] = []
        self.creates = 0
        """Creations under way, of those that saw no record."""
        self.deleted = False
        self.peace = False
        self.reigns = 0
        self.reigning: Process | None = None
        self.agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.numbers = itertools.count()

    def run(self, seconds: float) -> None:
        end = self.real + seconds
        while self.agenda and self.agenda[0][0] <= end:
            self.real, _, act = heapq.heappop(self.agenda)
            act()
            leaders = [process for process in self.processes if process.leads(self.real)]
            assert len(leaders) <= 1, f"at {self.real}: {leaders}"
            if leaders and leaders[0] is not self.reigning:
                self.reigning = leaders[0]
                self.reigns += 1
        self.real = end

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self.agenda, (self.real + seconds, next(self.numbers), act))

    def start(self) -> None:
        """Another process; not beside others while the record is deleted.

        It would take that for a first start.
        """
        if self.record is None and self.deleted and any(one.alive for one in self.processes):
            return
        process = Process(
            candidate(f"process-{len(self.processes)}"),
            self.chance.uniform(-1e6, 1e6),
            self.chance.choice((0.85, 1.0, 1.2)),
        )
        self.processes.append(process)
        self.resume(process, self.life(process))

    def resume(self, process: Process, life: Iterator[float]) -> None:
        """Goes on with a process; what it yields are the seconds until it goes on again."""
        try:
            seconds = next(life) if process.alive else None
        except StopIteration:
            seconds = None
        if seconds is None:
            process.alive = False
            return
        frozen = not self.peace and self.chance.random() < 0.03
        self.later(
            seconds + (self.chance.uniform(0, 25) if frozen else 0.0),
            lambda: self.resume(process, life),
        )

    def life(self, process: Process) -> Iterator[float]:
        """What `services.leading` does, step by step."""
        known = False
        while True:
            verdict = leadership.decide(process.standing, process.clock(self.real))
            if not known and not isinstance(verdict, Lost):
                yield self.travel()
                record = self.record
                yield self.travel()
                now = process.clock(self.real)
                process.standing = leadership.observe(process.standing, record, now)
                verdict = leadership.decide(process.standing, now)
            match verdict:
                case Lost():
                    return
                case Wait(seconds):
                    known = False
                    yield seconds / process.speed
                case Acquire() | Renew():
                    known = yield from self.write(process)
                    pause = process.standing.timing.retry if known else self.chance.choice((0, 1))
                    yield pause / process.speed

    def write(self, process: Process) -> Generator[float, None, bool]:
        """Sends a write, and waits for its answer until the client gives up."""
        wall = NOW + timedelta(seconds=self.chance.uniform(-4000, 4000))
        record = leadership.written(process.standing, wall)
        sent, there, back = process.clock(self.real), self.travel(), self.travel()
        stored: list[Record] = []
        self.creates += not record.version
        self.later(there, lambda: stored.extend(self.store(record)))
        if there + back > self.TIMEOUT or self.chance.random() < 0.1 * (not self.peace):
            yield self.TIMEOUT
            return False
        yield there + back
        if stored:
            now = process.clock(self.real)
            process.standing = leadership.wrote(process.standing, stored[0], sent, now)
        return bool(stored)

    def store(self, record: Record) -> Sequence[Record]:
        self.creates -= not record.version
        if record.version != (self.record.version if self.record else ""):
            return ()
        self.versions += 1
        self.record = dataclasses.replace(record, version=str(self.versions))
        return (self.record,)

    def travel(self) -> float:
        if self.peace or self.chance.random() < 0.8:
            return self.chance.uniform(0.001, 0.1)
        return self.chance.uniform(0.1, 6.0)

    def trouble(self) -> None:
        """Now and then something happens to somebody."""
        if self.peace:
            return
        self.later(self.chance.uniform(1.0, 20.0), self.trouble)
        living = [process for process in self.processes if process.alive]
        match self.chance.choice(("kill", "end", "start", "start", "delete")):
            case "kill" if living:
                self.chance.choice(living).alive = False
            case "end" if living:
                process = self.chance.choice(living)
                if process.leads(self.real):
                    record = leadership.released(process.standing, NOW)
                    self.later(self.travel(), lambda: list(self.store(record)))
                process.alive = False
            case "start" if len(living) < 4:
                self.start()
            case "delete" if self.record and not self.creates and not self.deleted:
                # Who never saw it would take this for a first start.
                if all(process.standing.changed is not None for process in living):
                    self.record, self.deleted = None, True
            case _:
                pass


@hypothesis.settings(max_examples=60)
@hypothesis.given(strategies.integers(0, 2**32))
def test_two_never_lead_at_the_same_time_and_left_in_peace_one_does(seed: int) -> None:
    election = Election(random.Random(seed))
    for _ in range(3):
        election.start()
    election.trouble()
    election.run(400.0)
    hypothesis.event(f"more than one led in turn: {election.reigns > 1}")

    election.peace = True
    election.run(60.0)
    election.start()
    election.run(30.0)
    assert any(process.leads(election.real) for process in election.processes), election.record
