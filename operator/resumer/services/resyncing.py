"""Policies and breakers compared with the API server, for what their watch does not tell.

kopf lists again after a gap of its watch, and tells what there is, but not what is gone: a policy
deleted meanwhile would stay in force, and a breaker would go on holding its stage. It also does not
tell when its first list is complete. So both kinds are listed here: before the queue starts, after
each new stream of their watch, and from time to time. That is two short lists.

What the watch says while a list is under way wins, as the list may be older.

A policy's status that could not be written is tried again here as well: nothing else would bring it
back before the policy changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

import structlog

from resumer import errors, ports
from resumer.core import backoff
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.services.circuits import BreakerStore
from resumer.services.governing import Governor
from resumer.services.intake import Intake

INTERVAL: Final = 600.0
"""Seconds between two comparisons that nothing asked for, spread by a fifth."""
PAUSE: Final = 1.0
"""Seconds from being asked to the lists, so that many streams that come back cost one of them."""
MAX_PAUSE: Final = 30.0
"""Seconds at most between two tries while the API server does not answer, or takes no status."""

_log = structlog.get_logger(__name__)


class Resync:
    """Takes in policies and breakers from the watch, and keeps them as the API server has them."""

    def __init__(
        self,
        governor: Governor,
        intake: Intake,
        breakers: BreakerStore,
        reader: ports.Reader,
        clock: ports.Clock,
        *,
        namespaces: tuple[str, ...] = (),
    ) -> None:
        """Does nothing yet, see `run`.

        Args:
            governor: Takes the policies.
            intake: Takes the breakers.
            breakers: What it knows of them.
            reader: Lists both.
            clock: Spreads the comparisons.
            namespaces: Those that are watched; none for all.
        """
        self._governor = governor
        self._intake = intake
        self._breakers = breakers
        self._reader = reader
        self._clock = clock
        self._namespaces = namespaces or ("",)
        self._asked = asyncio.Event()
        self._touched: set[Hashable] | None = None
        """What the watch told of while a list is under way; None: none is."""
        self._one_at_a_time = asyncio.Lock()

    def ask(self) -> None:
        """Has both kinds compared soon: a watch stands anew."""
        self._asked.set()

    async def policy(self, key: Key, body: Mapping[str, Any]) -> None:
        """The watch shows a policy."""
        self._touch(key)
        await self._governor.policy(key, body)

    def policy_gone(self, key: Key) -> None:
        """The watch tells that a policy was deleted."""
        self._touch(key)
        self._governor.gone(key)

    def breaker(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """The watch shows a breaker."""
        self._touch((namespace, stage))
        self._intake.breaker(namespace, stage, breaker, version)

    def breaker_gone(self, namespace: str, stage: str, version: str) -> None:
        """The watch tells that a breaker was deleted; the version is that of its end."""
        self._touch((namespace, stage))
        self._intake.breaker_gone(namespace, stage, version)

    async def run(self) -> None:
        """Compares when asked, and from time to time, and tells what is untold, until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._compare_again_and_again())
            both.create_task(self._tell_what_failed())

    async def _tell_what_failed(self) -> None:
        pauses = self._pauses()
        while True:
            await self._governor.failed.wait()
            await asyncio.sleep(next(pauses))
            await self._governor.tell_untold()
            if not self._governor.failed.is_set():
                pauses = self._pauses()

    async def _compare_again_and_again(self) -> None:
        while True:
            wait = INTERVAL * (0.8 + 0.4 * self._clock.random())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), wait)
                await asyncio.sleep(next(self._pauses()))
                if not self._asked.is_set():
                    continue  # the start compares by itself, and meanwhile did
            await self.complete()
            # What was refused for good before is taken once the right to it is given.
            await self._governor.tell_untold()

    async def complete(self) -> None:
        """Compares both kinds now; tries for as long as it takes."""
        pauses = self._pauses()
        while True:
            try:
                async with self._one_at_a_time:
                    self._asked.clear()
                    await self._compare()
            except errors.ApiError as error:
                _log.warning("policies and breakers not listed", error=str(error))
                await asyncio.sleep(next(pauses))
            else:
                return

    def _pauses(self) -> Iterator[float]:
        return backoff.growing(self._clock.random, PAUSE, MAX_PAUSE)

    async def _compare(self) -> None:
        self._touched = touched = set[Hashable]()
        try:
            await self._compare_policies(touched)
            await self._compare_breakers(touched)
        finally:
            self._touched = None

    async def _compare_policies(self, touched: set[Hashable]) -> None:
        before, found = self._governor.known(), dict[Key, ports.Body]()
        for namespace in self._namespaces:
            for body in await self._reader.policies(namespace):
                found[Key.of(body)] = body
        for key, body in found.items():
            if key not in touched:
                self._take(key, body)
        for key in before - found.keys() - touched:
            _log.info("policy was deleted unseen", namespace=key.namespace, policy=key.name)
            self._governor.gone(key)

    def _take(self, key: Key, body: ports.Body) -> None:
        """Puts a policy in force; its status is left to the watch, which lists it as well."""
        try:
            self._governor.take(key, body)
        except Exception:  # noqa: BLE001 - the others must go on
            _log.exception("policy not taken in", namespace=key.namespace, policy=key.name)

    async def _compare_breakers(self, touched: set[Hashable]) -> None:
        before, found = self._breakers.stored(), dict[tuple[str, str], tuple[Breaker, str]]()
        for namespace in self._namespaces:
            for home, stage, breaker, version in await self._reader.breakers(namespace):
                found[home, stage] = breaker, version
        for (home, stage), now in found.items():
            if (home, stage) not in touched and now != before.get((home, stage)):
                self._intake.breaker(home, stage, *now)
        for home, stage in before.keys() - found.keys() - touched:
            # Unless it was written meanwhile, by us.
            if self._breakers.stored().get((home, stage)) == before[home, stage]:
                _log.info("breaker was deleted unseen", namespace=home, stage=stage)
                self._intake.breaker_gone(home, stage, before[home, stage][1])

    def _touch(self, what: Hashable) -> None:
        if self._touched is not None:
            self._touched.add(what)
