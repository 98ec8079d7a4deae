"""The keyed, delayed queue between the watches and the reconciles.

As with client-go's workqueue: a key stands in it once, however often it is added; it is never
worked on twice at the same time; added while it is worked on, it comes again. On top of that a key
can come at a later time, and the sooner of two times wins; or behind all others, so that what is
new does not queue up after what there is much of; and the namespaces take turns (see `turns`). One
pass that raises is isolated: the key comes again after a growing wait, the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from resumer import errors, ports
from resumer.core import backoff
from resumer.core.keys import Key
from resumer.services.turns import Turns

BASE_DELAY = 0.25
"""Seconds before a key that raised comes again, for the first time."""
MAX_DELAY = 30.0
"""Seconds at most."""
_WAITS = backoff.doubling(BASE_DELAY, MAX_DELAY)
"""The waits of a key that raises again and again; half of each is chance."""

_EACH = 16
"""Of so many keys one is from behind, whatever else there is."""

_log = structlog.get_logger(__name__)


class KeyedQueue:
    """Runs a handler over keys, each key at most once at a time."""

    def __init__(
        self,
        handler: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int,
        clock: ports.Clock,
        telemetry: ports.Telemetry,
    ) -> None:
        """Makes a queue that is still held back, see `start`.

        Args:
            handler: One pass over a key; returns in how many seconds the key has to come again,
                None for never.
            workers: How many keys are worked on at the same time.
            clock: Measures the passes, and spreads the waits.
            telemetry: Is told the depth and each pass.
        """
        self._handler = handler
        self._workers = workers
        self._clock = clock
        self._telemetry = telemetry
        self._ready = Turns()
        self._behind = Turns()
        """Keys whose turn comes when `_ready` is empty."""
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        """Keys that were added while they ran."""
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._turns = 0
        self._started = False
        self._closed = False

    def start(self) -> None:
        """Lets the keys run; until then they collect."""
        self._started = True
        self._dispatch()

    def add(self, key: Key) -> None:
        """Looks at a key as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._behind.discard(key)
        if key in self._running:
            self._again.add(key)
        elif key not in self._ready:
            self._ready.add(key)
            self._dispatch()

    def add_behind(self, key: Key) -> None:
        """Looks at a key when there is no other to look at, or as soon as it is added again.

        While there always is another, one of `_EACH` is from behind.
        """
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._ready:
            self._behind.add(key)
            self._dispatch()

    def add_after(self, key: Key, seconds: float) -> None:
        """Looks at a key in so many seconds, or earlier if it is added earlier."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is None or timer.when() > loop.time() + seconds:
            self.plan(key, seconds)

    def plan(self, key: Key, seconds: float) -> None:
        """Looks at a key in so many seconds, whether that is sooner or later than planned before.

        One whose turn has come already keeps it.
        """
        if key in self._ready:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_at(loop.time() + max(0.0, seconds), self.add, key)

    def forget(self, key: Key) -> None:
        """Drops what is planned for a key that is gone."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._failures.pop(key, None)
        self._again.discard(key)
        self._behind.discard(key)

    async def drain(self, seconds: float) -> bool:
        """Starts no more keys, waits for the running ones and cancels what is not done in time.

        Returns:
            True if everything that ran came to its end.
        """
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        running = list(self._running.values())
        if not running:
            return True
        _, pending = await asyncio.wait(running, timeout=seconds)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return not pending

    def _dispatch(self) -> None:
        while (
            self._started
            and not self._closed
            and (self._ready or self._behind)
            and len(self._running) < self._workers
        ):
            key = self._next()
            self._running[key] = asyncio.get_running_loop().create_task(
                self._run(key), name=f"reconcile {key}"
            )
        ready = len(self._ready) + len(self._behind)
        self._telemetry.queue_changed(ready, len(self._timers), len(self._running))

    def _next(self) -> Key:
        self._turns += 1
        if self._behind and (not self._ready or self._turns % _EACH == 0):
            return self._behind.take()
        return self._ready.take()

    async def _run(self, key: Key) -> None:
        began = self._clock.monotonic()
        delay: float | None = None
        error = ""
        try:
            delay = await self._handler(key)
            self._failures.pop(key, None)
        except Exception as problem:  # noqa: BLE001  one bad key must not stop the others
            error = type(problem).__name__
            delay = self._after_failure(key, problem)
        finally:
            self._running.pop(key, None)
            self._telemetry.reconciled(self._clock.monotonic() - began, error)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif delay is not None and not self._closed:
                self.add_after(key, delay)
            self._dispatch()

    def _after_failure(self, key: Key, problem: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        delay = backoff.delay(_WAITS, count, None, self._clock.random())
        if isinstance(problem, errors.ApiError):
            delay = max(delay, problem.retry_after or 0.0)
        _log.warning(
            "reconcile failed",
            key=str(key),
            error=str(problem),
            failures=count,
            again_in=round(delay, 2),
            exc_info=not isinstance(problem, errors.ApiError),
        )
        return delay
