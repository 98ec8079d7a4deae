"""Taking part in the election of a leader: campaign, renew, lose, resign.

`resumer.core.leadership` decides; here are the calls, their bounds in time, and what a person is
told. Whether this process may write is asked for each write, at that moment: a process that was
stopped and goes on finds its time over before its own timers have run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import assert_never

import structlog

from resumer import errors, ports
from resumer.core import leadership
from resumer.core.leadership import Acquire, Lost, Renew, Standing, Timing, Wait

_RESIGN_SECONDS = 3.0
"""For how long the release is tried when the process ends."""

_log = structlog.get_logger(__name__)


class Elector:
    """One candidate. At first it stands by; once it has led and lost, it is of no use any more."""

    def __init__(
        self,
        leases: ports.Leases,
        clock: ports.Clock,
        identity: str,
        timing: Timing,
        on_change: Callable[[bool], None],
    ) -> None:
        """Does nothing yet, see `run`.

        Args:
            leases: The record of who leads.
            clock: The time, and chance.
            identity: A name that no other process ever has.
            timing: How long a turn lasts.
            on_change: Told True when this process begins to lead, False when it ends.
        """
        self._leases = leases
        self._clock = clock
        self._standing = Standing(identity, timing)
        self._on_change = on_change
        self._turn = asyncio.Lock()
        """Held for one step, so that resigning does not cut off a renewal."""
        self._resigned = False
        self._problem: errors.ApiError | None = None
        self._told = ""
        self.leading = asyncio.Event()
        """Set once this process leads; it stays set."""

    def leads(self) -> bool:
        """Whether this process may work at this moment."""
        return not self._resigned and leadership.leads(self._standing, self._clock.monotonic())

    @property
    def usable(self) -> bool:
        """False while the API server does not let this process take part."""
        return not isinstance(self._problem, errors.PermanentError | errors.NotFoundError)

    def describe(self) -> str:
        """Who leads, for a person."""
        identity, record = self._standing.identity, self._standing.record
        if self.leads():
            return f"this process leads, as {identity}"
        if self._problem is not None:
            return f"standing by as {identity}; the lease cannot be used: {self._problem}"
        return f"standing by as {identity}; {(record and record.holder) or 'nobody'} leads"

    async def run(self) -> None:
        """Takes part until it has led and lost, or has resigned.

        Raises:
            LeadershipLostError: Another one may lead from now on.
        """
        known, failures = False, 0
        while not self._resigned:
            pause = 0.0
            async with self._turn:
                try:
                    pause = await self._step(known=known)
                except errors.ApiError as error:
                    # A conflict says to look again at once, but not over and over.
                    if failures or not isinstance(error, errors.PreconditionError):
                        pause = self._standing.timing.retry / 2
                    known, failures = False, failures + 1
                    self._note(error)
                except TimeoutError:
                    known = False
                else:
                    known, failures = self.leads(), 0
                    self._note(None)
            await asyncio.sleep(self._bounded(pause * (0.9 + 0.2 * self._clock.random())))

    async def resign(self) -> None:
        """Gives the lead back, so that another one can take it at once; for the end of the process.

        Nothing may be under way any more that has to be done by one alone.
        """
        self._resigned = True
        try:
            async with asyncio.timeout(_RESIGN_SECONDS), self._turn:
                if leadership.leads(self._standing, self._clock.monotonic()):
                    self._on_change(False)
                    await self._release()
                    _log.info("leadership released", identity=self._standing.identity)
        except (errors.ApiError, TimeoutError) as error:
            _log.warning("leadership not released: it ends by itself", error=str(error))

    async def _step(self, *, known: bool) -> float:
        """Looks, decides, and writes if it has to.

        Args:
            known: The record is known from our own last write.

        Returns:
            Seconds until the next step.
        """
        verdict = leadership.decide(self._standing, self._clock.monotonic())
        if not known and not isinstance(verdict, Lost):
            async with self._limit():
                record = await self._leases.read()
            now = self._clock.monotonic()
            self._standing = leadership.observe(self._standing, record, now)
            verdict = leadership.decide(self._standing, now)
        match verdict:
            case Wait(seconds):
                self._tell()
                return seconds
            case Acquire() | Renew():
                await self._write()
                return self._standing.timing.retry
            case Lost(why):
                self._standing = leadership.resigned(self._standing)
                self._on_change(False)
                raise errors.LeadershipLostError(why)
            case _:
                assert_never(verdict)

    async def _write(self) -> None:
        record = leadership.written(self._standing, self._clock.now())
        sent = self._clock.monotonic()
        async with self._limit():
            stored = await self._leases.write(record)
        self._standing = leadership.wrote(self._standing, stored, sent, self._clock.monotonic())
        if not self.leading.is_set() and self.leads():
            self._on_change(True)
            self.leading.set()
            _log.info("leading", identity=self._standing.identity, transitions=stored.transitions)

    async def _release(self) -> None:
        try:
            await self._leases.write(leadership.released(self._standing, self._clock.now()))
        except errors.PreconditionError:
            # The last renewal may have been done although its answer was lost.
            now, record = self._clock.monotonic(), await self._leases.read()
            self._standing = leadership.observe(self._standing, record, now)
            if record is not None and record.holder == self._standing.identity:
                await self._leases.write(leadership.released(self._standing, self._clock.now()))

    def _limit(self) -> contextlib.AbstractAsyncContextManager[object]:
        """Ends a call when the lead ends, which is not to be noticed only after the call."""
        left = leadership.remaining(self._standing, self._clock.monotonic())
        return asyncio.timeout(left) if self.leading.is_set() else contextlib.nullcontext()

    def _bounded(self, pause: float) -> float:
        """A pause, no longer than the lead."""
        if not self.leading.is_set():
            return pause
        return min(pause, leadership.remaining(self._standing, self._clock.monotonic()))

    def _tell(self) -> None:
        """Logs who leads, when that has changed."""
        holder = self._standing.record.holder if self._standing.record else ""
        if holder != self._told:
            self._told = holder
            _log.info("standing by", leader=holder, identity=self._standing.identity)

    def _note(self, problem: errors.ApiError | None) -> None:
        """Logs what keeps this process from taking part, when that has changed."""
        if isinstance(problem, errors.PreconditionError):
            return
        before, self._problem = self._problem, problem
        if problem is not None and str(before) != str(problem):
            _log.warning("lease not usable", error=str(problem), leads=self.leads())
