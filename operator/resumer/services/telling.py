"""What is told of a status that was written: log line, metrics, Events, the end of its trace.

A write whose answer was lost may have been carried out. It is told as soon as that is known, and
once: when the watch shows the status, when the next write meets it, or, as the watch does not show
what finishes a request but only that it is finished, by one read.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from resumer import errors, ports
from resumer.api import base
from resumer.api.resume import ResumeStatus, WorkflowResume
from resumer.core.keys import Key
from resumer.core.observation import End, Facts
from resumer.services.reporting import Origin, Reporter

MAX_UNANSWERED: Final = 128
"""Writes that are remembered: each holds a whole request, and in an outage all get no answer. Those
that were given up are not told; the statuses say the same."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a pass came to."""

    request: WorkflowResume
    """As it was before."""
    facts: Facts
    end: End
    status: ResumeStatus
    """As it shall be."""


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A write of a status whose answer was lost."""

    ended: Ended
    at: datetime
    """When it was made."""
    origin: Origin


class Teller:
    """Tells once of each status that was written."""

    def __init__(self, reader: ports.Reader, reporter: Reporter, tracing: ports.Tracing) -> None:
        """Has told nothing yet.

        Args:
            reader: Reads a request that has left the watch.
            reporter: Tells.
            tracing: Ends the trace.
        """
        self._reader = reader
        self._reporter = reporter
        self._tracing = tracing
        self._unanswered: OrderedDict[Key, _Unanswered] = OrderedDict()

    def written(self, key: Key, ended: Ended, at: datetime, origin: Origin) -> None:
        """A status was written.

        Args:
            key: Of the request.
            ended: What it says.
            at: When.
            origin: From when on the time of a resume is measured.
        """
        self._unanswered.pop(key, None)
        self._reporter.decided(ended.request, ended.facts, ended.end, at, origin)
        if ended.end.reason.outcome.terminal:
            self._tracing.ended()

    def unanswered(self, key: Key, ended: Ended, at: datetime, origin: Origin) -> None:
        """A status may have been written; arguments as for `written`."""
        self._unanswered[key] = _Unanswered(ended, at, origin)
        if len(self._unanswered) > MAX_UNANSWERED:
            self._unanswered.popitem(last=False)

    def drop(self, key: Key) -> None:
        """The request was deleted: nobody will know."""
        self._unanswered.pop(key, None)

    def in_doubt(self, key: Key) -> base.ObjectMeta | None:
        """Of which request a status may have been written and is not told; None: of none."""
        found = self._unanswered.get(key)
        return found.ended.request.metadata if found else None

    def shown(self, key: Key, request: WorkflowResume) -> None:
        """The watch shows a request: tells of a status in doubt if it is that one."""
        found = self._unanswered.get(key)
        if found is None:
            return
        if not _is(request, found.ended):
            before = found.ended.request
            if request.metadata.uid != before.metadata.uid or request.status != before.status:
                del self._unanswered[key]  # somebody else was first
        else:
            self.written(key, found.ended, found.at, found.origin)

    async def settle(self, key: Key) -> End | None:
        """Finds out whether a status in doubt was written, and tells of it.

        Returns:
            What it says; None if it was not written, or none is in doubt.

        Raises:
            ApiError: The request could not be read, and may be later.
        """
        found = self._unanswered.get(key)
        if found is None:
            return None
        try:
            body = await self._reader.request(key)
            request = WorkflowResume.from_json(body) if body is not None else None
        except (errors.PermanentError, errors.InvalidError):
            request = None
        if request is None or not _is(request, found.ended):
            self.drop(key)
            return None
        self._tracing.found(found.ended.facts, found.ended.end)
        self.written(key, found.ended, found.at, found.origin)
        return found.ended.end


def _is(request: WorkflowResume, ended: Ended) -> bool:
    """Whether this is the request as it was to become, and not as it was."""
    before, now, wanted = ended.request, request.status, ended.status
    return (
        request.metadata.uid == before.metadata.uid
        and now != before.status
        and (now.outcome, now.reason) == (wanted.outcome, wanted.reason)
    )
