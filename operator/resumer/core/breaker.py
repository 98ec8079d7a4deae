"""The circuit breaker of one stage of one namespace, as a value and its transitions.

    Closed --(failure_threshold failures in a row)--> Open --(open_seconds)--> HalfOpen
    HalfOpen --(a probe succeeds)--> Closed       HalfOpen --(a probe fails)--> Open

The caller asks `admit` before it uses the API server and reports what came of it with exactly one
of `on_success`, `on_failure` and `on_ignored`. Every transition returns the very same object where
nothing changed, so that the happy path writes nothing; a changed one is stored by compare-and-swap,
and whoever loses asks again with what is stored.

In the half-open state an admission is a probe, a claim under the holder's name. Only who has a
claim decides: what comes late from the time before the circuit opened changes nothing. A claim ends
with its result or after `PROBE_SECONDS`, so that a holder that died does not keep the circuit half
open. Only failures of the infrastructure are reported as failures; anything else is ignored.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from resumer.api.breaker import BreakerState
from resumer.core import instants

PROBE_SECONDS: Final = 60
"""How long a probe is waited for: as long as one resume's attempts may take together."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit opens, for how long, and how it is probed."""

    failure_threshold: int = 5
    """Failures in a row that open it."""
    open_seconds: float = 30.0
    half_open_calls: int = 1
    """Probes at the same time."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A claim on one of the calls that the half-open state allows."""

    holder: str
    """Who makes the call: the uid of a WorkflowResume."""
    claimed_at: datetime

    @property
    def expires_at(self) -> datetime:
        """When the claim ends without a result."""
        return self.claimed_at + timedelta(seconds=PROBE_SECONDS)

    def holds(self, now: datetime) -> bool:
        """Whether its result is still waited for."""
        return now < self.expires_at and not instants.is_ahead(self.claimed_at, now)


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of a circuit. The default is a closed one without failures."""

    state: BreakerState = BreakerState.CLOSED
    consecutive_failures: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None
    probes: tuple[Probe, ...] = ()
    last_failure_at: datetime | None = None
    last_failure_reason: str = ""
    last_transition_at: datetime | None = None

    @property
    def changes_at(self) -> datetime | None:
        """When who is held may be let through although nobody writes, or None if never."""
        match self.state:
            case BreakerState.CLOSED:
                return None
            case BreakerState.OPEN:
                return self.open_until
            case BreakerState.HALF_OPEN:
                return min((probe.expires_at for probe in self.probes), default=None)
            case _:
                assert_never(self.state)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be made, once `breaker` is stored if it is another object than before."""

    breaker: Breaker
    probe: bool
    """It decides whether the circuit closes."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not be made."""

    until: datetime
    """When to ask again at the latest; a result of somebody else's may come before."""


def admit(
    breaker: Breaker, settings: BreakerSettings, holder: str, now: datetime
) -> Admitted | Refused:
    """Asks for one call.

    Args:
        breaker: The state as stored.
        settings: Those of the stage now, whatever they were when it opened.
        holder: Who asks; asking again renews its claim.
        now: The time.
    """
    match breaker.state:
        case BreakerState.CLOSED:
            return Admitted(breaker, probe=False)
        case BreakerState.OPEN:
            until = _open_until(breaker, settings, now)
            if now < until:
                return Refused(until)
            half_open = dataclasses.replace(
                breaker, state=BreakerState.HALF_OPEN, last_transition_at=now
            )
            return _probe(half_open, settings, holder, now)
        case BreakerState.HALF_OPEN:
            return _probe(breaker, settings, holder, now)
        case _:
            assert_never(breaker.state)


def on_success(breaker: Breaker, holder: str, now: datetime) -> Breaker:
    """The call reached the API server and did what it should: failures in a row end here."""
    match breaker.state:
        case BreakerState.CLOSED:
            if not breaker.consecutive_failures:
                return breaker
            return dataclasses.replace(breaker, consecutive_failures=0)
        case BreakerState.OPEN:
            return breaker
        case BreakerState.HALF_OPEN:
            if not _claimed(breaker, holder):
                return breaker
            return dataclasses.replace(
                breaker,
                state=BreakerState.CLOSED,
                consecutive_failures=0,
                opened_at=None,
                open_until=None,
                probes=(),
                last_transition_at=now,
            )
        case _:
            assert_never(breaker.state)


def on_failure(
    breaker: Breaker, settings: BreakerSettings, holder: str, reason: str, now: datetime
) -> Breaker:
    """The call failed for a reason that lies with the API server, not with the request."""
    match breaker.state:
        case BreakerState.CLOSED:
            failed = _failed(breaker, reason, now)
            if failed.consecutive_failures < settings.failure_threshold:
                return failed
            return _open(failed, settings, now)
        case BreakerState.OPEN:
            return breaker
        case BreakerState.HALF_OPEN:
            if not _claimed(breaker, holder):
                return breaker
            return _open(_failed(breaker, reason, now), settings, now)
        case _:
            assert_never(breaker.state)


def on_ignored(breaker: Breaker, holder: str) -> Breaker:
    """The call said nothing about the API server (it was not needed, or the request was wrong).

    A claim is given back, so that somebody else can probe.
    """
    if not _claimed(breaker, holder):
        return breaker
    return dataclasses.replace(breaker, probes=_others(breaker, holder))


def _open_until(breaker: Breaker, settings: BreakerSettings, now: datetime) -> datetime:
    """When an open circuit is probed; a shorter open time of the policy counts at once."""
    if breaker.open_until is None or instants.is_ahead(breaker.opened_at, now):
        return now
    if breaker.opened_at is None:
        return breaker.open_until
    allowed = breaker.opened_at + timedelta(seconds=settings.open_seconds)
    return min(breaker.open_until, allowed)


def _probe(
    breaker: Breaker, settings: BreakerSettings, holder: str, now: datetime
) -> Admitted | Refused:
    others = tuple(probe for probe in _others(breaker, holder) if probe.holds(now))
    if len(others) >= settings.half_open_calls:
        return Refused(min(probe.expires_at for probe in others))
    probes = (*others, Probe(holder, now))
    if probes != breaker.probes:
        breaker = dataclasses.replace(breaker, probes=probes)
    return Admitted(breaker, probe=True)


def _claimed(breaker: Breaker, holder: str) -> bool:
    return any(probe.holder == holder for probe in breaker.probes)


def _others(breaker: Breaker, holder: str) -> tuple[Probe, ...]:
    return tuple(probe for probe in breaker.probes if probe.holder != holder)


def _failed(breaker: Breaker, reason: str, now: datetime) -> Breaker:
    return dataclasses.replace(
        breaker,
        consecutive_failures=breaker.consecutive_failures + 1,
        last_failure_at=now,
        last_failure_reason=reason,
    )


def _open(breaker: Breaker, settings: BreakerSettings, now: datetime) -> Breaker:
    return dataclasses.replace(
        breaker,
        state=BreakerState.OPEN,
        opened_at=now,
        open_until=now + timedelta(seconds=settings.open_seconds),
        probes=(),
        last_transition_at=now,
    )
