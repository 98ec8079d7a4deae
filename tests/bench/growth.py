"""From the sizes that `scale` measured to a table, and to how the figures grow between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tests.bench import report

AIM_COUNT, AIM_MEMORY, AIM_READY = 10_000, 200 * 2**20, 20.0
"""At so many workflows: bytes of resident memory, and seconds until ready."""

_FLAT = 1.5
"""A latency that grows by less, from the smallest to the largest size, counts as flat."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What it takes to list the workflows and the requests, whoever does it.

    Arguments:
        seconds: until both have come
        server: seconds of processor time of API server and store meanwhile
        size: bytes that came
    """

    seconds: float
    server: float
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Of one size.

    Arguments:
        count: workflows, and requests that wait
        bare: a client that lists the same and does nothing with it
        ready: seconds from the start of the process until it is ready
        ready_processor: seconds of processor time that the operator used by then
        ready_server: the same of API server and store
        settled: seconds from the start until it has read all and looked at all that waits
        settled_processor: processor time of the operator by then
        memory: bytes of its resident memory then
        peak: the most it had
        idle: part of one processor that it takes when nothing happens
        idle_calls: at the API server meanwhile
        latency: seconds from before a request is created until its gate is seen open, all waiting
        resume_processor: seconds of processor time of the operator for each of those resumes
        calls: at the API server for each of them, by kind
    """

    count: int
    bare: Listing
    ready: float
    ready_processor: float
    ready_server: float
    settled: float
    settled_processor: float
    memory: int
    peak: int
    idle: float
    idle_calls: int
    latency: report.Percentiles
    resume_processor: float
    calls: Mapping[str, float]

    @property
    def reads(self) -> float:
        """Calls for each resume that read."""
        return report.reads(self.calls)

    @property
    def writes(self) -> float:
        """Calls for each resume that write, but for the creation of the request and Events."""
        return report.writes(self.calls)


LEGEND = """\
listed: seconds and API server's processor time for a client that only lists the same, in the pages
that the operator takes; ready: seconds from the start of the operator, its processor time and the
API server's (and etcd's) by then; settled: all workflows read, all that waits looked at again;
RSS: then, and its peak; idle: of one processor, and calls; p50, p95: from the creation of a request
to the gate seen open, one at a time while all others wait; CPU, writes, reads: for each of those.
"""

_COLUMNS = (
    "waiting",
    "MB listed",
    "listed s",
    "server CPU s",
    "ready s",
    "CPU s",
    "server CPU s",
    "settled s",
    "RSS MiB",
    "peak",
    "idle %",
    "calls",
    "p50 ms",
    "p95",
    "CPU ms",
    "writes",
    "reads",
)


def table(found: Sequence[Figures]) -> str:
    """All figures, aligned: one row for each size."""
    return report.aligned([_COLUMNS, *map(_row, found)])


def verdicts(found: Sequence[Figures]) -> list[str]:
    """How the figures grow from the smallest size to the largest, and what was aimed at."""
    said = []
    first, last = found[0], found[-1]
    if last.count > first.count:
        times = last.count / first.count
        memory = (last.memory - first.memory) / (last.count - first.count)
        said.append(
            f"{times:.1f} times as many: {last.memory / first.memory:.2f} times the memory,"
            f" {memory / 1024:.1f} KiB for each workflow and request more, aim at most {times:.1f}:"
            f" {report.met(last.memory / first.memory <= times)}"
        )
        slower = last.latency.p50 / first.latency.p50
        dearer = last.resume_processor / first.resume_processor
        said.append(
            f"{times:.1f} times as many: {slower:.2f} times the median latency, and {dearer:.2f}"
            f" times the processor time of a resume, aim below {_FLAT}:"
            f" {report.met(min(slower, dearer) < _FLAT)}"
        )
    if last.count == AIM_COUNT:
        said.append(
            f"{AIM_COUNT}: {last.memory / 2**20:.0f} MiB, aim {AIM_MEMORY / 2**20:.0f}:"
            f" {report.met(last.memory <= AIM_MEMORY)}"
        )
        said.append(
            f"{AIM_COUNT}: ready after {last.ready:.1f} s, aim {AIM_READY:.0f} s, of which the"
            f" API server needs {last.ready_server:.1f} s of processor time:"
            f" {report.met(last.ready <= AIM_READY)}"
        )
    return said


def _row(one: Figures) -> tuple[str, ...]:
    return (
        str(one.count),
        f"{one.bare.size / 1e6:.0f}",
        f"{one.bare.seconds:.1f}",
        f"{one.bare.server:.1f}",
        f"{one.ready:.1f}",
        f"{one.ready_processor:.1f}",
        f"{one.ready_server:.1f}",
        f"{one.settled:.1f}",
        f"{one.memory / 2**20:.0f}",
        f"{one.peak / 2**20:.0f}",
        f"{one.idle:.1%}",
        str(one.idle_calls),
        f"{one.latency.p50 * 1e3:.1f}",
        f"{one.latency.p95 * 1e3:.1f}",
        f"{one.resume_processor * 1e3:.1f}",
        f"{one.writes:.2f}",
        f"{one.reads:.2f}",
    )
