"""From passes to figures, a table and JSON.

A rate is the median of the passes; a comparison is made within each round, whose passes lie side by
side in time, and then the median of those is taken: what slows the machine for a while then weighs
on both sides. Latencies of all passes are taken together.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from tests.bench import driver

FLOOR = "floor"
OPERATOR = "operator"
ARGO = "argo"

# From here on the rates of two passes side by side differ by more than what is looked for.
_DISTURBED = 0.1

_READS = ("GET", "LIST")
_WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


@dataclasses.dataclass(frozen=True, slots=True)
class Aim:
    """What the operator should reach.

    Arguments:
        nodes: of the workflows
        rate: at least this part of the floor's resumes per second
        latency: at most so many seconds above the floor's median when idle; None for no aim
    """

    nodes: int
    rate: float
    latency: float | None


AIMS = (Aim(2, 0.95, 0.003), Aim(50, 0.9, None))


@dataclasses.dataclass(frozen=True, slots=True)
class Percentiles:
    """Of latencies, in seconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        """By nearest rank, so that each is one that was measured."""
        ordered = sorted(values)
        return cls(*(ordered[math.ceil(len(ordered) * part) - 1] for part in (0.5, 0.95, 0.99)))


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """The two passes of one contender that lie side by side with those of the others."""

    busy: driver.Pass
    idle: driver.Pass


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """Of one contender with workflows of one size.

    Arguments:
        rate: resumes per second under load, up to the last status; median of the passes
        opening_rate: the same up to the last gate
        busy: latencies under load
        idle: latencies of one resume at a time
        rate_to_floor: part of the floor's rate; None where no floor was measured
        rates_to_floor: the same for each round
        latency_to_floor: seconds between its and the floor's medians when idle
        writes: of workflows and requests, for each resume
        reads: for each resume
        events: written for each resume when idle
        calls: for each resume when idle, by kind
        cost_to_floor: processor time of all that takes part, under load: the floor's as part of
            its own, which is what `rate_to_floor` tends to where the processor is the limit
        processor: seconds of its process for each resume under load
        server_processor: seconds of the API server and its store for each resume under load
        others: part of the machine's processor time that other programs took meanwhile
        memory: bytes of resident memory at the end
    """

    rate: float
    opening_rate: float
    busy: Percentiles
    idle: Percentiles
    rate_to_floor: float | None
    rates_to_floor: Sequence[float]
    latency_to_floor: float | None
    cost_to_floor: float | None
    writes: float
    reads: float
    events: float
    calls: Mapping[str, float]
    processor: float
    server_processor: float
    others: float
    memory: int | None


def figures(rounds: Sequence[Round], floor: Sequence[Round] | None) -> Figures:
    """What the rounds of one contender come to.

    Arguments:
        rounds: its own
        floor: the floor's, in the same order
    """
    pairs = [] if floor is None else list(zip(rounds, floor, strict=True))
    ratios = [own.busy.rate / other.busy.rate for own, other in pairs]
    costs = [
        other.busy.all_processor / own.busy.all_processor
        for own, other in pairs
        if own.busy.all_processor
    ]
    gaps = [
        statistics.median(own.idle.latencies) - statistics.median(other.idle.latencies)
        for own, other in pairs
    ]
    passes = [one for each in rounds for one in (each.busy, each.idle)]
    resumes = sum(len(one.latencies) for one in passes)
    busy_resumes = sum(len(each.busy.latencies) for each in rounds)
    calls = _per_resume(passes, resumes)
    idle = _per_resume([each.idle for each in rounds], resumes - busy_resumes)
    return Figures(
        rate=statistics.median(each.busy.rate for each in rounds),
        opening_rate=statistics.median(
            len(each.busy.latencies) / each.busy.opening for each in rounds
        ),
        busy=Percentiles.of(value for each in rounds for value in each.busy.latencies),
        idle=Percentiles.of(value for each in rounds for value in each.idle.latencies),
        rate_to_floor=statistics.median(ratios) if ratios else None,
        rates_to_floor=ratios,
        latency_to_floor=statistics.median(gaps) if gaps else None,
        cost_to_floor=statistics.median(costs) if costs else None,
        writes=writes(calls),
        reads=reads(calls),
        events=sum(count for kind, count in idle.items() if kind.endswith(" events")),
        calls=calls,
        processor=sum(each.busy.processor for each in rounds) / busy_resumes,
        server_processor=sum(each.busy.server_processor for each in rounds) / busy_resumes,
        others=statistics.mean(each.busy.others for each in rounds),
        memory=rounds[-1].busy.memory,
    )


def _per_resume(passes: Iterable[driver.Pass], resumes: int) -> dict[str, float]:
    total: collections.Counter[str] = collections.Counter()
    for one in passes:
        total.update(one.calls)
    return {kind: count / resumes for kind, count in sorted(total.items())}


def writes(calls: Mapping[str, float]) -> float:
    """The calls that write, but for Events and for the creation that asks for the resume."""
    return _sum(calls, _WRITES)


def reads(calls: Mapping[str, float]) -> float:
    """The calls that read."""
    return _sum(calls, _READS)


def _sum(calls: Mapping[str, float], verbs: Sequence[str]) -> float:
    others = {kind: count for kind, count in calls.items() if not kind.endswith(" events")}
    others.pop("POST workflowresumes", None)
    return sum(count for kind, count in others.items() if kind.split()[0] in verbs)


_COLUMNS = (
    "nodes",
    "contender",
    "resumes/s",
    "of floor",
    "by CPU",
    "p50 ms",
    "p95",
    "p99",
    "idle p50 ms",
    "p95",
    "p99",
    "to floor",
    "writes",
    "reads",
    "events",
    "CPU ms",
    "server CPU ms",
    "RSS MiB",
)


def table(results: Mapping[int, Mapping[str, Figures]]) -> str:
    """All figures, aligned: one row for each contender and size."""
    rows = [
        _row(nodes, name, one)
        for nodes, contenders in results.items()
        for name, one in contenders.items()
    ]
    return aligned([_COLUMNS, *rows], left=1)


def aligned(rows: Sequence[Sequence[str]], *, left: int | None = None) -> str:
    """The rows as lines with columns to the right, but for the one of this index."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if index == left else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _row(nodes: int, name: str, one: Figures) -> tuple[str, ...]:
    ratio, cost, gap = one.rate_to_floor, one.cost_to_floor, one.latency_to_floor
    return (
        str(nodes),
        name,
        f"{one.rate:.0f}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if cost is None else f"{cost:.2f}",
        *(f"{value * 1e3:.1f}" for value in dataclasses.astuple(one.busy)),
        *(f"{value * 1e3:.1f}" for value in dataclasses.astuple(one.idle)),
        "" if gap is None else f"{gap * 1e3:+.1f}",
        f"{one.writes:.2f}",
        f"{one.reads:.2f}",
        f"{one.events:.2f}",
        f"{one.processor * 1e3:.2f}",
        f"{one.server_processor * 1e3:.2f}",
        "" if one.memory is None else f"{one.memory / 2**20:.0f}",
    )


def verdicts(results: Mapping[int, Mapping[str, Figures]]) -> list[str]:
    """For each aim a sentence: what was aimed at, what was found, whether it is met."""
    said = []
    for aim in AIMS:
        one = results.get(aim.nodes, {}).get(OPERATOR)
        if one is None or one.rate_to_floor is None or one.latency_to_floor is None:
            continue
        said.append(
            f"{aim.nodes} nodes: {one.rate_to_floor:.2f} of the floor's rate"
            f" ({min(one.rates_to_floor):.2f} to {max(one.rates_to_floor):.2f}),"
            f" aim {aim.rate:.2f}: {met(one.rate_to_floor >= aim.rate)}"
        )
        if aim.latency is not None:
            said.append(
                f"{aim.nodes} nodes: idle median {one.latency_to_floor * 1e3:+.1f} ms to the"
                f" floor's, aim {aim.latency * 1e3:+.1f} ms:"
                f" {met(one.latency_to_floor <= aim.latency)}"
            )
        said.append(
            f"{aim.nodes} nodes: {one.writes:.2f} writes and {one.reads:.2f} reads per resume,"
            f" aim 2 and at most 1: {met(one.writes <= 2 and one.reads <= 1)}"
        )
    return said


def disturbance(results: Mapping[int, Mapping[str, Figures]]) -> str:
    """How much the machine had to do besides, and what that means."""
    found = [one.others for of_size in results.values() for one in of_size.values()]
    share = statistics.mean(found)
    told = f"other programs took {share:.0%} of the processors while resumes were measured"
    if share < _DISTURBED:
        return told
    return f"{told}: rates and latencies mean little, take the comparison by CPU"


def met(reached: bool) -> str:
    """The last word on an aim."""
    return "reached" if reached else "MISSED"
