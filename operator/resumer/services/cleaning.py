"""Deletes finished WorkflowResumes when their time to live is over.

A sweep lists the finished ones page by page and keeps nothing of them: between sweeps they cost
neither memory nor calls. The object is deleted with its uid and resourceVersion, so that only what
was looked at goes.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from resumer import errors, ports
from resumer.api.conditions import find
from resumer.api.outcomes import ConditionType
from resumer.api.resume import FinishedResume
from resumer.core.keys import Key

_log = structlog.get_logger(__name__)


class Cleaner:
    """Sweeps now and then."""

    def __init__(self, requests: ports.Requests, clock: ports.Clock, *, interval: float) -> None:
        """Makes a cleaner.

        Args:
            requests: Lists and deletes.
            clock: The time.
            interval: Seconds between two sweeps; 0: never.
        """
        self._requests = requests
        self._clock = clock
        self._interval = interval

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while self._interval:
            try:
                await self.sweep()
            except errors.ApiError as error:
                _log.warning("sweep not finished", error=str(error))
            # Spread, so that replicas and shards do not sweep at the same moment.
            await asyncio.sleep(self._interval * (0.9 + 0.2 * self._clock.random()))

    async def sweep(self) -> int:
        """Deletes what is due and returns how many that was."""
        deleted = 0
        async for body in self._requests.finished():
            try:
                request = FinishedResume.from_json(body)
            except errors.InvalidError:
                continue  # its status is not ours: who wrote it has to see to it
            if is_due(request, self._clock.now()):
                metadata = request.metadata
                key = Key(metadata.namespace, metadata.name)
                try:
                    await self._requests.delete(key, metadata.uid, metadata.resource_version)
                except errors.PreconditionError:
                    continue
                except errors.PermanentError as error:
                    _log.warning("finished request not deleted", key=str(key), error=str(error))
                    continue
                deleted += 1
        if deleted:
            _log.info("finished requests deleted", count=deleted)
        return deleted


def is_due(request: FinishedResume, now: datetime) -> bool:
    """True if the time to live of a finished request is over; it runs from its decision."""
    outcome = request.status.outcome
    if outcome is None or not outcome.terminal or request.metadata.deletion_timestamp is not None:
        return False
    kind = ConditionType.READY if outcome.phase == "Succeeded" else ConditionType.STALLED
    condition = find(request.status.conditions, kind)
    finished = condition.last_transition_time if condition else request.metadata.creation_timestamp
    if finished is None:
        return False
    return finished + timedelta(seconds=request.spec.ttl_seconds_after_finished) <= now
