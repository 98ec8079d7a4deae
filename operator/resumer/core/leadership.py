"""Who leads, as a value and its transitions: one record that everybody sees, one clock for each.

    observe --> decide --> Acquire or Renew --(the write was done)--> wrote
                       --> Wait, for somebody else's turn to run out
                       --> Lost, for good

The rules are those of client-go's leader election. No candidate compares a time in the record with
its own clock: it waits for as long as the holder counts on, from when it last *saw* the record
change. The holder counts from before it *sent* its last write, and for less long. So at most one
leads, whatever the clocks on the walls say, as long as no monotonic clock is faster than another
by more than the lease is longer than the time to renew (10 to 7 seconds by default). A process that
was stopped finds its time over when it goes on, before it does anything else.

Two things differ from client-go. The time to renew is counted from the last renewal and not from
the first try that failed. And a record that disappears counts as a change: its holder writes it
again, and only a candidate that never saw one takes the lead at once.

This is what keeps two from working side by side; that nothing is opened twice rests on the write to
the Workflow alone.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a turn lasts; each time is shorter than the one before."""

    lease: float
    """Seconds for which others leave the record alone after they last saw it change."""
    renew: float
    """Seconds after its last renewal at which a leader has stopped."""
    retry: float
    """Seconds between two renewals. Others look twice as often, so that they soon see a release."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is stored for all to see."""

    holder: str = ""
    """Who leads; nobody after a release."""
    seconds: int = 0
    """For how long the holder counts on it; 0 where the record does not say."""
    acquired: datetime | None = None
    """When the holder began, on its own clock: for people."""
    renewed: datetime | None = None
    """When the holder wrote last, on its own clock: for people."""
    transitions: int = 0
    """How often the holder has changed."""
    version: str = ""
    """Changes with each write; "" for one that is not stored yet."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one candidate knows. Times are seconds of its own monotonic clock."""

    identity: str
    """Its name, which no other process ever has."""
    timing: Timing
    record: Record | None = None
    """As it was last seen; None where there is none."""
    changed: float | None = None
    """When the record was first seen as it is; None while there never was one."""
    confirmed: float | None = None
    """When its last write that made it the leader was sent; None while it does not lead."""


@dataclass(frozen=True, slots=True)
class Acquire:
    """Try to take the lead, by storing `written`."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Confirm the lead, by storing `written`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else's turn."""

    seconds: float
    """After which to look again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The lead is lost: nothing may be done any more."""

    why: str


Verdict = Acquire | Renew | Wait | Lost


def leads(standing: Standing, now: float) -> bool:
    """Whether this candidate may work at this moment."""
    return standing.confirmed is not None and now < standing.confirmed + standing.timing.renew


def remaining(standing: Standing, now: float) -> float:
    """For how many seconds it leads without another renewal; 0 if it does not."""
    if standing.confirmed is None:
        return 0.0
    return max(0.0, standing.confirmed + standing.timing.renew - now)


def observe(standing: Standing, record: Record | None, now: float) -> Standing:
    """Takes in the record as it was read.

    Args:
        standing: What was known.
        record: What was read, or None where there is none.
        now: When the answer was there, in seconds.
    """
    if record == standing.record:
        return standing
    return dataclasses.replace(standing, record=record, changed=now)


def decide(standing: Standing, now: float) -> Verdict:
    """What to do next, on a record that was just observed or written.

    Args:
        standing: What is known.
        now: In seconds.
    """
    record, mine = standing.record, standing.identity
    if standing.confirmed is not None:
        if not leads(standing, now):
            return Lost(f"not renewed for {now - standing.confirmed:.1f} s")
        if record is not None and record.holder not in ("", mine):
            return Lost(f"{record.holder!r} has taken it")
        return Renew()
    if standing.changed is None:
        return Acquire()
    if record is not None and record.holder in ("", mine):
        return Acquire()
    length = record.seconds if record and record.seconds else standing.timing.lease
    left = standing.changed + length - now
    if left > 0:
        return Wait(min(left, standing.timing.retry / 2))
    return Acquire()


def written(standing: Standing, now: datetime) -> Record:
    """The record to store, to acquire or to renew: over the version that is known, or a new one.

    Args:
        standing: What is known.
        now: The time of day, for people.
    """
    before = standing.record or Record()
    same = before.holder == standing.identity
    if same and now == before.renewed:
        # A write that changes nothing is none: nobody would see it, and take over.
        now += timedelta(microseconds=1)
    return Record(
        holder=standing.identity,
        seconds=math.ceil(standing.timing.lease),
        acquired=before.acquired if same else now,
        renewed=now,
        transitions=before.transitions + int(not same and standing.record is not None),
        version=before.version,
    )


def wrote(standing: Standing, record: Record, sent: float, now: float) -> Standing:
    """The write was carried out: this candidate leads.

    Args:
        standing: What was known.
        record: As it is stored now.
        sent: When the write was sent, in seconds.
        now: When the answer was there, in seconds.
    """
    return dataclasses.replace(standing, record=record, changed=now, confirmed=sent)


def released(standing: Standing, now: datetime) -> Record:
    """The record to store when a leader ends in order: whoever sees it may take over at once.

    Args:
        standing: What is known.
        now: The time of day, for people.
    """
    before = standing.record or Record()
    return dataclasses.replace(before, holder="", seconds=1, acquired=now, renewed=now)


def resigned(standing: Standing) -> Standing:
    """The same candidate, which leads no more."""
    return dataclasses.replace(standing, confirmed=None)
