"""Recording what a pass came to: one write of the status, if a person would want to know.

The only writer of a WorkflowResume's status. A status that tells of an attempt and cannot be
written is kept and goes before all else; if this process ends first, the next one finds the trace
that the attempt left on the Workflow. `telling` tells of what was written.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime

import structlog

from resumer import errors, ports
from resumer.api.outcomes import Outcome, Reason
from resumer.api.policy import Jitter
from resumer.api.resume import Attempt, ResumeStatus, WorkflowResume
from resumer.core import backoff, status
from resumer.core.keys import Key
from resumer.core.observation import NOTHING, End, Facts
from resumer.services.reporting import Origin, Reporter
from resumer.services.requeststore import Unreadable
from resumer.services.stores import Stores
from resumer.services.telling import Ended, Teller

CONFLICT_DELAY = 0.2
"""Seconds until the next pass after somebody else wrote."""
_CONFLICTS = backoff.doubling(CONFLICT_DELAY, 30.0, Jitter.NONE)
"""The waits where that goes on: the watch brings what was written sooner."""
_FLICKER = 1.0
"""Seconds for which a new reason for waiting has to hold before it is told."""
_HELD_MARGIN = 5.0
"""Seconds after which requests held by a breaker come back if nobody let them go, and over which.

The intake lets them go in their order; this is for what it could not know.
"""

_log = structlog.get_logger(__name__)


class Recorder:
    """Writes statuses, and tells about them."""

    def __init__(
        self, stores: Stores, outside: ports.Outside, reporter: Reporter, teller: Teller
    ) -> None:
        self._stores = stores
        self._out = outside
        self._reporter = reporter
        self._teller = teller
        self._untold: dict[Key, Ended] = {}
        """What attempts came to whose status could not be written."""
        self._seen_waiting: dict[Key, tuple[Reason, float]] = {}
        """Reasons for waiting that are not told yet, and since when, see `_flickers`."""
        self._conflicts: Counter[Key] = Counter()
        """Writes in a row that met somebody else's."""

    def forget(self, key: Key) -> None:
        """Drops what is kept of a request that is gone."""
        self._untold.pop(key, None)
        self._seen_waiting.pop(key, None)
        self._conflicts.pop(key, None)

    def has_untold(self, key: Key, request: WorkflowResume) -> bool:
        """Whether an attempt of this request still waits to be told."""
        untold = self._untold.get(key)
        if untold is not None and not _same_state(untold.request, request):
            del self._untold[key]
            return False
        return untold is not None

    async def tell_untold(self, key: Key) -> float | None:
        """Tries again to write what could not be written; see `record`."""
        untold = self._untold.pop(key)
        self._out.tracing.found(untold.facts, untold.end)
        return await self._tell(key, untold, attempted=True)

    async def record(
        self,
        key: Key,
        request: WorkflowResume,
        facts: Facts,
        end: End,
        attempt: Attempt | None = None,
    ) -> float | None:
        """Writes the status, unless nothing in it changes.

        Args:
            key: The request.
            request: As it was looked at.
            facts: What was found out.
            end: What it came to.
            attempt: The attempt that led here, if there was one.

        Returns:
            In how many seconds to look again at the latest, or None.

        Raises:
            ApiError: The status could not be written.
        """
        now = self._out.clock.now()
        self._out.tracing.found(facts, end)
        untold = self._flickers(key, request, end)
        if untold:
            return untold
        composed = status.compose(
            request.metadata, request.status, end, now, facts=facts, attempt=attempt
        )
        if composed == request.status:
            return self._next_look(key, end, now)
        ended = Ended(request, facts, end, composed)
        return await self._tell(key, ended, attempted=attempt is not None)

    async def refuse(self, key: Key, request: Unreadable) -> float | None:
        """Records that an object is not what its schema says, as an older or edited CRD allows.

        Returns:
            In how many seconds to look again at the latest, or None.
        """
        end = End(Reason.INVALID_OBJECT, request.problem)
        self._out.tracing.found(NOTHING, end)
        composed = status.compose(
            request.metadata, status.EMPTY, end, self._out.clock.now(), facts=NOTHING
        )
        try:
            await self._out.requests.write_status(
                key, request.metadata.uid, request.outcome, composed.to_json()
            )
        except errors.NotFoundError:
            _log.debug("invalid object is gone", namespace=key.namespace, workflowresume=key.name)
        except errors.PreconditionError:
            return self._after_conflict(key)
        else:
            self._out.tracing.ended()
            self._reporter.refused(end.reason)
        self._stores.requests.finish(key)
        return None

    async def _tell(self, key: Key, ended: Ended, *, attempted: bool) -> float | None:
        """Writes the status; one that tells of an attempt is kept until it could be written."""
        request, end, now = ended.request, ended.end, self._out.clock.now()
        # Before the write: with it the watch may forget both.
        origin = self._origin(request, ended.facts)
        try:
            body = await self._write(key, request, ended.status)
        except errors.NotFoundError:
            self._teller.drop(key)
            self._stores.requests.finish(key)
            return None
        except errors.PreconditionError:
            # It may be our own write before, whose answer was lost.
            own = await self._teller.settle(key)
            if own is None or not own.reason.outcome.terminal:
                return self._after_conflict(key)
            self._stores.requests.finish(key)
            return None
        except (errors.ApiError, asyncio.CancelledError) as error:
            if attempted:
                self._untold[key] = ended
            if not isinstance(error, errors.ApiError) or _may_be_done(error):
                self._teller.unanswered(key, ended, now, origin)
            raise
        self._conflicts.pop(key, None)
        self._teller.written(key, ended, now, origin)
        if not end.reason.outcome.terminal and key in self._stores.requests:
            # Withdrawn meanwhile, it would be put back for good.
            self._stores.requests.put(body, now)
        return self._next_look(key, end, now)

    def _next_look(self, key: Key, end: End, now: datetime) -> float | None:
        if end.reason.outcome.terminal:
            self._stores.requests.finish(key)
            return None
        if end.until is None:
            return None
        spread = (
            _HELD_MARGIN * (1 + self._out.clock.random())
            if end.reason is Reason.BREAKER_OPEN
            else 0.0
        )
        return max(0.0, (end.until - now).total_seconds()) + spread

    def _origin(self, request: WorkflowResume, facts: Facts) -> Origin:
        workflow, index = facts.workflow, self._stores.workflows
        found = [index.opened(workflow, gate) for gate in facts.gates] if workflow else []
        return Origin(
            created=self._stores.requests.created(request),
            opened=max((moment for moment in found if moment), default=None),
        )

    async def _write(self, key: Key, request: WorkflowResume, after: ResumeStatus) -> ports.Body:
        told = str(request.status.outcome) if request.status.outcome else None
        return await self._out.requests.write_status(
            key, request.metadata.uid, told, after.to_json()
        )

    def _after_conflict(self, key: Key) -> float:
        """Somebody else wrote the status meanwhile: in how many seconds to look again."""
        self._conflicts[key] += 1
        delay = backoff.delay(_CONFLICTS, self._conflicts[key], None, 0.0)
        _log.info("decided by somebody else meanwhile", again_in=delay)
        return delay

    def _flickers(self, key: Key, request: WorkflowResume, end: End) -> float:
        """For how many more seconds a new reason for waiting is not told; 0 if it is to be told.

        On its way to the gate a workflow passes several such reasons within milliseconds. Telling
        them would cost a write each, and delay the one that counts.
        """
        waits = request.status.outcome is end.reason.outcome is Outcome.WAITING
        if not waits or request.status.reason == end.reason:
            self._seen_waiting.pop(key, None)
            return 0.0
        now = self._out.clock.monotonic()
        reason, since = self._seen_waiting.get(key, (None, now))
        if reason is not end.reason:
            since = now
        left = since + _FLICKER - now
        if left > 0:
            self._seen_waiting[key] = (end.reason, since)
            return left
        del self._seen_waiting[key]
        return 0.0


def _may_be_done(error: errors.ApiError) -> bool:
    """Whether a write may have been carried out that ended in this."""
    return isinstance(error, errors.TransientError) and error.sent


def _same_state(one: WorkflowResume, other: WorkflowResume) -> bool:
    return one.metadata.uid == other.metadata.uid and one.status == other.status
