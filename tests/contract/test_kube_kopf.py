"""The session for kopf under a real kopf operator on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import kopf
import pytest

from resumer.adapters import clock, connection, watches
from resumer.api import constants
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

DEADLINE = 30.0
EXPECTED = (constants.RESUME_PLURAL, constants.WORKFLOW_PLURAL)


class Operator:
    """A kopf operator that only remembers what it saw."""

    def __init__(self, link: connection.Connection, namespace: str) -> None:
        self.seen: list[str] = []
        self.sessions: list[aiohttp.ClientSession] = []
        self._link = link
        self._namespace = namespace

    async def run(self, stop: asyncio.Event) -> None:
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        settings.scanning.disabled = True

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = await self._link.watch_session(streams=len(EXPECTED))
            self.sessions.append(session)
            return kopf.AiohttpSession(server=self._link.server, aiohttp_session=session)

        for plural in EXPECTED:

            @kopf.on.event(constants.GROUP, constants.VERSION, plural, registry=registry)
            async def event(name: str, **_: Any) -> None:
                self.seen.append(name)

        await kopf.operator(
            registry=registry,
            settings=settings,
            namespaces=[self._namespace],
            standalone=True,
            stop_flag=stop,
        )


@contextlib.asynccontextmanager
async def running(operator: Operator) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(operator.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)


async def until(condition: Callable[[], object], state: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - kopf tells nobody that a stream has opened
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE} s; the last state was {state()}")


def create(cluster: cluster_client.Cluster, namespace: str, name: str) -> None:
    correlation = {"taskId": "5", "eventType": "pr-created"}
    cluster.create(
        {
            "apiVersion": constants.API_VERSION,
            "kind": constants.RESUME_KIND,
            "metadata": {"name": name},
            "spec": {"workflowName": "build-1", "correlationData": correlation},
        },
        namespace,
    )


async def test_kopf_watches_over_our_session_and_its_streams_are_seen(
    cluster: cluster_client.Cluster, namespace: str
) -> None:
    moment = clock.SystemClock()
    activity = watches.WatchActivity(EXPECTED, namespaces=(namespace,), now=moment.monotonic())
    async with faulty_server.connected(str(cluster.kubeconfig), activity=activity) as link:
        operator = Operator(link, namespace)
        assert activity.missing() == {(plural, namespace) for plural in EXPECTED}
        async with running(operator):
            await until(lambda: not activity.missing(), activity.missing)
            activity.ages(moment.monotonic())

            create(cluster, namespace, "first")
            await until(lambda: "first" in operator.seen, lambda: operator.seen)
            later = moment.monotonic() + 100.0
            ages = activity.ages(later)
            assert ages[constants.RESUME_PLURAL] == 0.0, "the event is activity of its stream only"
            assert ages[constants.WORKFLOW_PLURAL] >= 100.0
        assert activity.missing() == {(plural, namespace) for plural in EXPECTED}


async def test_kopf_logs_in_again_with_a_new_session_when_the_old_one_is_closed(
    cluster: cluster_client.Cluster, namespace: str
) -> None:
    activity = watches.WatchActivity(EXPECTED, namespaces=(namespace,), now=0.0)
    async with faulty_server.connected(str(cluster.kubeconfig), activity=activity) as link:
        operator = Operator(link, namespace)
        async with running(operator):
            await until(lambda: not activity.missing(), activity.missing)
            await operator.sessions[0].close()
            # As kopf itself does: a TLS stream does not notice that its session is closed.
            for response in tuple(activity._open):
                response.close()

            await until(lambda: len(operator.sessions) == 2, lambda: operator.sessions)
            await until(lambda: not activity.missing(), activity.missing)
            create(cluster, namespace, "second")
            await until(lambda: "second" in operator.seen, lambda: operator.seen)
