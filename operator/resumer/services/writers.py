"""Whose turn it is to write to a Workflow: one request at a time for each.

All gates of a Workflow are in one object. Writes that come to the API server together are carried
out one after the other there too, but each that finds the object changed is begun anew with all its
work: twenty of them for a Workflow of many nodes took it ten seconds. And of a hundred requests for
one gate only the first has anything to write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from weakref import WeakValueDictionary

from resumer import errors
from resumer.core.keys import Key

_CROWD = 8
"""Requests that wait for one Workflow: more of them would leave too few workers to the others."""


class Writers:
    """Gives turns, used inside one event loop."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        """Of the Workflows that somebody writes to, or waits for."""
        self._waiting: Counter[Key] = Counter()

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """A turn that is still to be taken; it is given back at the end of the block."""
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.give_back()

    async def lock(self, workflow: Key) -> tuple[asyncio.Lock, bool]:
        """The lock of a Workflow, acquired, and whether somebody had it before.

        Raises:
            BusyError: Too many wait for it.
        """
        if self._waiting[workflow] >= _CROWD:
            raise errors.BusyError(f"many requests wait to write to workflow {workflow.name!r}")
        lock = self._locks.get(workflow)
        if lock is None:
            lock = self._locks[workflow] = asyncio.Lock()
        taken = lock.locked() or bool(self._waiting[workflow])
        self._waiting[workflow] += 1
        try:
            await lock.acquire()
        finally:
            self._waiting[workflow] -= 1
            if not self._waiting[workflow]:
                del self._waiting[workflow]
        return lock, taken


class Turn:
    """The turn of one pass, at one Workflow at a time."""

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._workflow: Key | None = None
        self._lock: asyncio.Lock | None = None

    async def take(self, workflow: Key) -> bool:
        """Waits for the turn at a Workflow.

        Returns:
            Whether what was decided still holds: nobody wrote while this one waited.

        Raises:
            BusyError: Too many wait for it.
        """
        if self._workflow == workflow:
            return True
        self.give_back()
        self._lock, waited = await self._writers.lock(workflow)
        self._workflow = workflow
        return not waited

    def give_back(self) -> None:
        """Lets the next one go, if this one has a turn."""
        if self._lock is not None:
            self._lock.release()
        self._lock = self._workflow = None
