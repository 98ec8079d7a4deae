"""One pass over one WorkflowResume: gather, decide, act, record. The only writer of its status.

    gather   what the watches know, or after a `Look` what the API server says now   -> Observation
    decide   core.decision.decide                                          -> Resume | End | Look
    act      one conflict-checked write to the Workflow, guarded by the breaker       -> an End
    record   one patch of the status, if anything changed; Event, metrics, log line

What keeps it exactly once: the write tests that the gate is still the one that was decided on, and
carries our uid. A write whose fate is unknown, and a write that was refused by a test, are both
followed by a fresh look, which finds our own trace, somebody else's, or an open gate. Killed
anywhere, the next pass finds the same.

An attempt is a write to the Workflow: only that uses up the retry budget and moves the breaker. A
read or a status write that fails raises, and the queue brings the key back; where reads go on
failing, the status says so.

A pass has to end in a minute of work: one that takes longer is cut off where it is, as if the
process had been killed there, and its request backs off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog

from resumer import errors, ports
from resumer.api.base import ObjectMeta
from resumer.api.outcomes import Reason
from resumer.api.resume import Attempt, WorkflowResume
from resumer.core import backoff, decision, events, status
from resumer.core.keys import Key
from resumer.core.observation import NOTHING, End, Facts, Look, Observation, Resume
from resumer.services.attempting import Attempter, refusal
from resumer.services.confirming import Confirmer
from resumer.services.gathering import Gatherer
from resumer.services.guarding import Guard
from resumer.services.reads import Reads
from resumer.services.recording import CONFLICT_DELAY, Recorder
from resumer.services.reporting import Reporter
from resumer.services.requeststore import Unreadable
from resumer.services.stores import Stores
from resumer.services.superseding import Superseder
from resumer.services.telling import Teller
from resumer.services.writers import Turn, Writers

_ROUNDS = 6
"""Looks in one pass: a workflow's state can change between look and write, but not for ever."""
_BUSY = backoff.doubling(0.5, 8.0)
"""The waits after which a request comes back to a Workflow that many wait for, half chance."""
_MAX_DEFECTS = 5
"""Passes that may meet a defect of ours before the request is given up."""

_log = structlog.get_logger(__name__)


class Reconciler:
    """Brings WorkflowResumes to their outcome."""

    def __init__(
        self,
        stores: Stores,
        outside: ports.Outside,
        guard: Guard,
        reporter: Reporter,
        confirmer: Confirmer,
        *,
        longest: float,
    ) -> None:
        """Makes no pass yet.

        Args:
            stores: What the watches know.
            outside: Ports to all else.
            guard: The breakers.
            reporter: Tells what was decided.
            confirmer: Asks whether a request still stands.
            longest: Seconds after which a pass is cut off.
        """
        self._longest = longest
        self._requests = stores.requests
        self._clock = outside.clock
        self._tracing = outside.tracing
        self._guard = guard
        self._gatherer = Gatherer(stores, outside.workflows)
        self._attempter = Attempter(outside, stores.workflows, self._gatherer, guard, confirmer)
        self._superseder = Superseder(outside.workflows, reporter)
        self._teller = Teller(outside.reader, reporter, outside.tracing)
        self._recorder = Recorder(stores, outside, reporter, self._teller)
        self._reads = Reads(outside.clock)
        self._writers = Writers()
        self._turnstile = asyncio.Lock()
        self._defects: Counter[Key] = Counter()
        """Passes in a row that met a defect of ours."""
        self._put_off: Counter[Key] = Counter()
        """How often, of those whose Workflow has too many writers in line."""
        self._unsure: set[Key] = set()
        """Keys of which a pass began an attempt, until one comes to its end: if it was broken off,
        what it did outside is not known."""

    async def reconcile(self, key: Key) -> float | None:
        """One pass.

        Returns:
            In how many seconds to look again at the latest, or None if only a change can bring
            news.

        Raises:
            ApiError: A read or the status write failed; nothing is lost, the pass has to be made
                again.
        """
        request = self._requests.get(key)
        if request is None:
            await self._after_gone(key)
            return None
        if isinstance(request, Unreadable):
            metadata = request.metadata
            with self._tracing.reconcile(metadata, metadata.creation_timestamp, first=True):
                return await self._recorder.refuse(key, request)
        delivery = events.delivery_id(request.spec.correlation_data.github_event)
        ids = {"delivery_id": delivery} if delivery else {}
        created = self._requests.created(request)
        first = request.status.outcome is None and key not in self._unsure
        with self._traced(request.metadata, created, first=first, **ids):
            bound = asyncio.timeout(self._longest)
            try:
                async with bound:
                    ended = await self._pass(key, request)
                if not self._reads.failing(key):
                    self._unsure.discard(key)
                self._put_off.pop(key, None)
            except errors.WithdrawnError:
                ended = 0.0 if self.forget(key) else None
            except errors.BusyError as error:
                _log.debug("put off", why=str(error))
                self._put_off[key] += 1
                ended = backoff.delay(_BUSY, self._put_off[key], None, self._clock.random())
            except errors.ApiError:
                raise
            except Exception as defect:  # noqa: BLE001 - whatever it is, it must not stop the others
                if isinstance(defect, TimeoutError) and bound.expired():
                    ended = await self._after_cut(key, request)
                else:
                    ended = await self._after_defect(key, request, defect)
                    self._unsure.discard(key)
        self._defects.pop(key, None)
        return ended

    def forget(self, key: Key) -> bool:
        """Drops what is kept of a request that is gone.

        Returns:
            True if one more pass has to find out what it came to.
        """
        self._recorder.forget(key)
        self._defects.pop(key, None)
        self._unsure.discard(key)
        self._put_off.pop(key, None)
        self._reads.worked(key)
        return self._teller.in_doubt(key) is not None

    @contextlib.contextmanager
    def _traced(
        self, metadata: ObjectMeta, created: datetime | None, *, first: bool, **ids: str
    ) -> Iterator[None]:
        """A pass in its trace; the log lines in it say whose it is."""
        with (
            self._tracing.reconcile(metadata, created, first=first) as trace,
            structlog.contextvars.bound_contextvars(
                correlation_id=metadata.uid,
                namespace=metadata.namespace,
                workflowresume=metadata.name,
                **ids,
                **trace,
            ),
        ):
            yield

    async def _after_gone(self, key: Key) -> None:
        """A request is gone: it was deleted, or has finished by a write that got no answer."""
        self.forget(key)
        metadata = self._teller.in_doubt(key)
        if metadata is None:
            return
        with self._traced(metadata, metadata.creation_timestamp, first=False):
            await self._teller.settle(key)

    async def _pass(self, key: Key, request: WorkflowResume) -> float | None:
        self._teller.shown(key, request)
        if self._recorder.has_untold(key, request):
            return await self._recorder.tell_untold(key)
        # After a failed attempt its fate may be unknown: only a fresh look tells.
        fresh = status.attempts_made(request.status) > 0 or key in self._unsure
        with self._writers.turn() as turn:
            return await self._rounds(key, request, turn, fresh=fresh)

    async def _rounds(
        self, key: Key, request: WorkflowResume, turn: Turn, *, fresh: bool
    ) -> float | None:
        """Looks, decides and acts until there is something to record.

        Args:
            key: Of the request.
            request: The request.
            turn: At the Workflow that is to be written to.
            fresh: Begin with a read.
        """
        facts: Facts | None = None
        for _ in range(_ROUNDS):
            await self._breathe()
            seen = await self._observe(key, request, fresh=fresh)
            if isinstance(seen, End):
                at_hand = facts or await self._facts_at_hand(key, request)
                return await self._recorder.record(key, request, at_hand, seen)
            now = self._clock.now()
            decided = decision.decide(seen, now)
            facts = decided.facts
            if not isinstance(decided.what, Resume):
                turn.give_back()
            match decided.what:
                case Look() as look:
                    if fresh:
                        raise errors.TransientError(
                            f"a fresh look was not enough: {look.why}", reason="Look"
                        )
                    fresh = True
                case End() as end:
                    return await self._end(key, request, decided.facts, end)
                case Resume(order):
                    if not await turn.take(order.key):
                        continue
                    self._unsure.add(key)
                    ended = await self._attempter.attempt(request, decided, order)
                    if ended is not None:
                        turn.give_back()
                        return await self._end(key, request, decided.facts, *ended)
                    fresh = True
        _log.info("workflow keeps changing")
        return CONFLICT_DELAY * (1 + self._clock.random())

    async def _end(
        self,
        key: Key,
        request: WorkflowResume,
        facts: Facts,
        end: End,
        attempt: Attempt | None = None,
    ) -> float | None:
        self._reads.worked(key)  # or none was needed
        told = await self._superseder.end_older(request, facts, end)
        delay = await self._recorder.record(key, request, facts, told, attempt)
        if attempt is None and end.reason.outcome.terminal:
            # A life of the operator that ended may have left the claim of a probe.
            await self._guard.ignored(key.namespace, facts.stage, request.metadata.uid)
        return delay

    async def _breathe(self) -> None:
        """Lets through one pass for each round of the event loop.

        A decision can take some hundredths of a second, and a sixth with many heavy policies. Many
        of them at once must not keep the loop from all else, least of all from the lease.
        """
        async with self._turnstile:
            await asyncio.sleep(0)

    async def _observe(
        self, key: Key, request: WorkflowResume, *, fresh: bool
    ) -> Observation | End:
        """Looks, or says why that is not possible.

        Raises:
            ApiError: A read failed, and that is not told yet: it may be over in a moment.
        """
        now = self._clock.now()
        if fresh and (due := self._reads.due(key, request.status)) and due > now:
            return End(Reason.API_UNAVAILABLE, request.status.message or "", until=due)
        try:
            seen = await self._gatherer.observe(key.namespace, request, fresh=fresh)
        except errors.PermanentError as error:
            return End(refusal(error), f"cannot read workflows: {error}")
        except errors.ApiError as error:
            wait = self._reads.failed(key, error.retry_after)
            if wait is None:
                raise
            # Of an attempt whose fate is unknown, nobody may say that it was not made.
            unknown = "it is not known if the last attempt was carried out"
            tried = key in self._unsure or status.attempts_made(request.status) > 0
            what = unknown if tried else "no attempt was made"
            until = self._clock.now() + timedelta(seconds=wait)
            message = f"{what}: cannot read workflows: {error}"
            return End(Reason.API_UNAVAILABLE, message, until=until)
        if fresh:
            self._reads.worked(key)
        return seen

    async def _facts_at_hand(self, key: Key, request: WorkflowResume) -> Facts:
        """What the watch tells of a request, where no more can be read."""
        seen = await self._gatherer.observe(key.namespace, request, fresh=False)
        return decision.decide(seen, self._clock.now()).facts

    async def _after_cut(self, key: Key, request: WorkflowResume) -> float | None:
        """A pass took too long: what it was about to do may be done or not."""
        why = f"no end after {self._longest:g} s, as the API server answers slowly"
        _log.warning("pass cut off", seconds=self._longest)
        if self._recorder.has_untold(key, request):
            return CONFLICT_DELAY
        broken_off = await self._attempter.after_cut(request, why)
        if broken_off is not None:
            facts, end, attempt = broken_off
            return await self._recorder.record(key, request, facts, end, attempt)
        self._reads.failed(key)
        # Up to as long as it took, so that such requests leave half of the workers to others.
        wait = timedelta(seconds=self._longest * (1 + self._clock.random()) / 2)
        end = End(Reason.API_UNAVAILABLE, f"no attempt was made: {why}", self._clock.now() + wait)
        return await self._recorder.record(key, request, NOTHING, end)

    async def _after_defect(
        self, key: Key, request: WorkflowResume, defect: Exception
    ) -> float | None:
        """A pass met a defect of ours: some more tries, then an end that says so."""
        self._defects[key] += 1
        if self._defects[key] < _MAX_DEFECTS:
            raise defect
        _log.exception("giving up after a defect")
        end = End(Reason.INTERNAL_ERROR, f"a defect in the operator: {type(defect).__name__}")
        return await self._recorder.record(key, request, NOTHING, end)
