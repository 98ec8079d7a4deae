"""kopf as the watch of this operator, with everything else that it can do switched off.

The choices and their reasons, measured on kopf 1.45: storages that store nothing, because the
default ones copy and compare each object at each event (1.5 ms for a Workflow of 50 nodes against
0.1 ms); no scanning for namespaces and kinds, which would need cluster-wide rights and downloads
Argo's CRDs; no peering, because a resume is safe with two operators at work; server-side selectors,
so that finished objects cost nothing; errors of the watch tried again for as long as it takes,
starting at a tenth of a second; lists in chunks, and workers (7 KB each) that end soon after their
object has become quiet, because thousands of objects can be listed at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import kopf

from resumer.adapters.connection import Connection
from resumer.api.policy import Jitter
from resumer.core import backoff
from resumer.factory import LIST_TIMEOUT, Services
from resumer.handlers import watching
from resumer.settings import Settings


class _NoProgress(kopf.ProgressStorage):
    """Stores nothing: only change handlers have progress, and there are none."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


class _NoDiffBase(kopf.DiffBaseStorage):
    """Stores nothing and builds nothing: only change handlers look at differences."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _Pauses:
    """Endless, so that the watch outlives any outage; iterated anew for each call."""

    def __iter__(self) -> Iterator[float]:
        waits = backoff.doubling(backoff.FIRST_PAUSE, backoff.LONGEST_PAUSE, Jitter.NONE)
        return (backoff.delay(waits, number, None, 0.0) for number in itertools.count(1))


_IDENTITY: Any = "resumer"
"""Who this is among kopf's peers, of which there are none. Without it kopf looks for the name of
the user, and a user in a pod may have none.
"""


def kopf_settings() -> kopf.OperatorSettings:
    """The settings of kopf for this operator."""
    chosen = kopf.OperatorSettings()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.persistence.consistency_timeout = 0
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.watching.chunk_size = 500
    chosen.queueing.idle_timeout = 0.5
    chosen.peering.standalone = True
    chosen.networking.error_backoffs = _Pauses()
    # Of lists. kopf's own five minutes of a try that hangs are more than health allows.
    chosen.networking.request_timeout = LIST_TIMEOUT
    return chosen


async def watch(
    settings: Settings, connection: Connection, services: Services, stop: asyncio.Event
) -> None:
    """Runs kopf until the event is set; raises if a watch cannot go on."""
    registry = kopf.OperatorRegistry()
    watching.register(registry, services)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        streams = len(watching.BY_KOPF) * max(1, len(settings.namespaces))
        session = await connection.watch_session(streams=streams)
        return kopf.AiohttpSession(aiohttp_session=session, server=connection.server)

    await kopf.operator(
        registry=registry,
        settings=kopf_settings(),
        standalone=True,
        identity=_IDENTITY,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        stop_flag=stop,
    )
