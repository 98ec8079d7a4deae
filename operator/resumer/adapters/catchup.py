"""Reads in the background the objects of which a list has shown the metadata only.

The watch goes on meanwhile: what it brings is newer than what is read here, and what the next list
leaves to be read takes the place of what this one left. Who reads is told by `take` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import structlog

from resumer import errors, ports
from resumer.adapters import kube
from resumer.api import constants
from resumer.core import backoff
from resumer.core.keys import Key

_FEW = 10
"""Up to one of so many objects are read alone: a page costs the API server as much for each."""

_log = structlog.get_logger(__name__)


class CatchUp:
    """The objects of one collection that are still to be read."""

    def __init__(
        self,
        client: kube.KubeClient,
        plural: str,
        namespace: str,
        params: Mapping[str, str],
        clock: ports.Clock,
        take: Callable[[ports.Body], None],
    ) -> None:
        """Has nothing to read yet.

        Args:
            client: Makes the calls.
            plural: Of the kind, one of Argo's group.
            namespace: Whose objects, or "" for all.
            params: Selectors, as the API server spells them.
            clock: Spreads the pauses.
            take: Gets each object that was read.
        """
        self._client = client
        self._plural = plural
        self._at = kube.path(constants.API_VERSION, plural, namespace)
        self._params = params
        self._clock = clock
        self._take = take
        self._wanted: set[Key] = set()
        self._among = 0
        self._to_read = asyncio.Event()

    @property
    def unread(self) -> int:
        """How many objects are still to be read."""
        return len(self._wanted)

    def want(self, keys: Iterable[Key], *, among: int = 0) -> None:
        """Reads these objects as soon as possible, and no longer what was wanted before.

        Args:
            keys: Of the objects.
            among: How many the collection has.
        """
        self._wanted, self._among = set(keys), among
        if self._wanted:
            self._to_read.set()

    def overtaken(self, key: Key) -> None:
        """The watch has brought something newer of this object than what would be read."""
        self._wanted.discard(key)

    async def run(self) -> None:
        """Reads whenever there is something to read, until cancelled."""
        pauses = backoff.growing(self._clock.random)
        while True:
            await self._to_read.wait()
            self._to_read.clear()
            began = self._clock.monotonic()
            try:
                count = await self._read(self._wanted)
            except errors.ApiError as error:
                _log.info("read interrupted", path=self._at, error=str(error), status=error.status)
                self._to_read.set()
                await asyncio.sleep(next(pauses))
            else:
                pauses = backoff.growing(self._clock.random)
                took = round(self._clock.monotonic() - began, 3)
                _log.info("read what was listed", path=self._at, objects=count, seconds=took)

    async def _read(self, wanted: set[Key]) -> int:
        """Reads these objects as they are now, each alone where they are few; how many there were.

        One that is not found was deleted, or matches no more, which the watch will tell. It ends
        when another list has taken the place of the one that left them.

        Raises:
            ApiError: Some could not be read; they stay wanted.
        """
        few = len(wanted) * _FEW <= self._among
        count = await (self._read_each(wanted) if few else self._read_all(wanted))
        wanted.clear()
        return count

    async def _read_each(self, wanted: set[Key]) -> int:
        count, failed = 0, None
        for key in tuple(wanted):
            if key not in wanted or wanted is not self._wanted:
                continue
            at = kube.path(constants.API_VERSION, self._plural, key.namespace, key.name)
            try:
                count += self._take_read(await self._client.get(at), wanted)
            except errors.NotFoundError:
                wanted.discard(key)
            except errors.ApiError as error:
                failed = error  # the others can be read all the same
        if failed is not None:
            raise failed
        return count

    async def _read_all(self, wanted: set[Key]) -> int:
        count = 0
        listed = self._client.pages_of_list(
            self._at, params=self._params, limit=kube.PAGE_OF_WORKFLOWS
        )
        async with contextlib.aclosing(ahead(listed)) as pages:
            async for page in pages:
                for body in page.get("items") or ():
                    count += self._take_read(body, wanted)
                    await asyncio.sleep(0)
                if wanted is not self._wanted:
                    break
        return count

    def _take_read(self, body: ports.Body, wanted: set[Key]) -> bool:
        """Takes in what was read, unless something newer is known of it, or was listed since."""
        key = Key.of(body)
        if key not in wanted or wanted is not self._wanted:
            return False
        wanted.discard(key)
        self._take(body)
        return True


async def ahead(
    pages: AsyncGenerator[dict[str, Any], None],
) -> AsyncGenerator[dict[str, Any], None]:
    """Fetches each next page while the one before is taken apart.

    Both take about as long, a few milliseconds for a Workflow of 50 nodes, but on two machines.
    """
    following = asyncio.create_task(_next(pages))
    try:
        while (page := await following) is not None:
            following = asyncio.create_task(_next(pages))
            yield page
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await pages.aclose()


async def _next(pages: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    return await anext(pages, None)
