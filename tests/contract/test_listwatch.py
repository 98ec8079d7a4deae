"""`ListWatch` on a server that misbehaves as asked, and on the real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from resumer import ports
from resumer.adapters import clock, kube, listwatch
from resumer.api import constants
from resumer.core.keys import Key
from tests.contract import faulty_server
from tests.controlplane import client as controlplane

AT = kube.path(constants.API_VERSION, constants.WORKFLOW_PLURAL)
DEADLINE = 15.0


class Listener:
    """What a listener was told, as the state that it ends up with."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.calls = 0
        self.poison = ""

    def take(self, body: ports.Body) -> None:
        self.calls += 1
        name = body["metadata"]["name"]
        if name == self.poison:
            raise ValueError("nobody can read this")
        self.known[name] = body["metadata"]["resourceVersion"]

    def drop(self, key: Key) -> None:
        self.calls += 1
        del self.known[key.name]

    def told(self) -> listwatch.Listener:
        return listwatch.Listener(self.take, self.drop)

    async def until(self, known: dict[str, str]) -> None:
        """Waits for a state, with the deadline of the module."""
        await until(lambda: self.known == known, lambda: self.known)


async def until(condition: Callable[[], bool], state: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - the state changes with what arrives
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"the last state seen is {state()}")


def workflow(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team", "resourceVersion": str(version)}}


def listed(version: int, *items: dict[str, Any], token: str = "") -> faulty_server.Answer:
    metadata = {"resourceVersion": str(version), **({"continue": token} if token else {})}
    return faulty_server.answer(200, {"metadata": metadata, "items": list(items)})


def streamed(
    *events: tuple[str, dict[str, Any]], stays: bool = False, breaks: bool = False
) -> faulty_server.Answer:
    """A watch with these events, which then ends, stays open, or breaks."""

    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, body in events:
            line = json.dumps({"type": kind, "object": body}).encode() + b"\n"
            half = len(line) // 2
            await response.write(line[:half])  # lines arrive in pieces, too
            await response.write(line[half:])
        if breaks:
            assert request.transport is not None
            request.transport.abort()
        if stays:
            await asyncio.Event().wait()
        return response

    return give


@contextlib.asynccontextmanager
async def listening(
    client: kube.KubeClient, listener: Listener, **params: str
) -> AsyncIterator[listwatch.ListWatch]:
    followed = listwatch.ListWatch(
        client,
        constants.WORKFLOW_PLURAL,
        "",
        params,
        clock.SystemClock(),
        listener.told(),
    )
    task = asyncio.create_task(followed.run())
    try:
        yield followed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def client(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> AsyncIterator[kube.KubeClient]:
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    async with faulty_server.connected(str(config)) as link:
        yield link.watcher(timeout=5.0, streams=1)


@pytest.fixture
def listener() -> Listener:
    return Listener()


def versions_watched(server: faulty_server.FaultyServer) -> Sequence[str]:
    return [item.query["resourceVersion"] for item in server.received if "watch" in item.query]


async def test_pages_are_taken_in_and_then_the_changes(
    server: faulty_server.FaultyServer, client: kube.KubeClient, listener: Listener
) -> None:
    server.plan(
        listed(9, workflow("a", 1), workflow("b", 2), token="more"),
        listed(9, workflow("c", 3)),
        streamed(
            ("MODIFIED", workflow("a", 10)),
            ("DELETED", workflow("b", 11)),
            ("ADDED", workflow("d", 12)),
            stays=True,
        ),
    )
    async with listening(client, listener) as followed:
        await listener.until({"a": "10", "c": "3", "d": "12"})
        assert followed.listed.is_set()
    assert server.received[1].query["continue"] == "more"


async def test_a_broken_watch_goes_on_from_the_last_version_without_a_new_list(
    server: faulty_server.FaultyServer, client: kube.KubeClient, listener: Listener
) -> None:
    bookmark = {"metadata": {"resourceVersion": "20"}}
    server.plan(
        listed(9, workflow("a", 1)),
        streamed(("MODIFIED", workflow("a", 10)), breaks=True),
        streamed(("BOOKMARK", bookmark)),
        faulty_server.reset,
        faulty_server.status(503, "ServiceUnavailable", "not now"),
        streamed(("MODIFIED", workflow("a", 30)), stays=True),
    )
    async with listening(client, listener):
        await listener.until({"a": "30"})
    assert versions_watched(server) == ["9", "10", "20", "20", "20"]


@pytest.mark.parametrize(
    "gone",
    [
        faulty_server.status(410, "Expired", "too old resource version"),
        streamed(("ERROR", faulty_server.status_object(410, "Expired", "too old"))),
    ],
    ids=["as an answer", "as an event"],
)
async def test_after_a_gap_the_new_list_tells_what_was_deleted_meanwhile(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    listener: Listener,
    gone: faulty_server.Answer,
) -> None:
    server.plan(
        listed(9, workflow("a", 1), workflow("b", 2)),
        gone,
        listed(50, workflow("b", 40)),
        streamed(stays=True),
    )
    async with listening(client, listener):
        await listener.until({"b": "40"})
        await until(lambda: len(server.received) == 4, lambda: server.received)
    assert versions_watched(server) == ["9", "50"]


async def test_it_is_current_after_a_list_and_after_a_gap_once_what_was_missed_has_come(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listwatch, "_LATE_SECONDS", 0.2)
    steps = [asyncio.Event() for _ in range(3)]
    bookmark = {"metadata": {"resourceVersion": "20"}}

    async def silent_then_known(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        steps[0].set()
        await steps[1].wait()
        line = json.dumps({"type": "BOOKMARK", "object": bookmark})
        await response.write(line.encode() + b"\n")
        await steps[2].wait()
        return response

    server.plan(
        listed(9, workflow("a", 1)),
        streamed(("MODIFIED", workflow("a", 10)), stays=False),
        silent_then_known,
        faulty_server.status(410, "Expired", "too old resource version"),
        listed(50, workflow("a", 40)),
        streamed(stays=True),
    )
    async with listening(client, listener) as followed:
        assert not followed.current
        await asyncio.wait_for(steps[0].wait(), DEADLINE)
        assert not followed.current, "nothing was heard on the new stream"
        steps[1].set()
        await until(lambda: followed.current, lambda: listener.known)
        steps[2].set()
        await until(lambda: not followed.current, lambda: listener.known)
        await listener.until({"a": "40"})
        await until(lambda: followed.current, lambda: listener.known)


async def test_a_first_list_that_fails_is_tried_again(
    server: faulty_server.FaultyServer, client: kube.KubeClient, listener: Listener
) -> None:
    server.plan(
        faulty_server.status(403, "Forbidden", "no"),
        faulty_server.cut,
        faulty_server.answer(200, b"no JSON"),
        listed(9, workflow("a", 1)),
        streamed(stays=True),
    )
    async with listening(client, listener):
        await listener.until({"a": "1"})


async def test_an_object_that_nobody_can_read_does_not_end_the_watch(
    server: faulty_server.FaultyServer, client: kube.KubeClient, listener: Listener
) -> None:
    listener.poison = "bad"
    server.plan(
        listed(9, workflow("bad", 1), workflow("good", 2)),
        streamed(("ADDED", workflow("bad", 10)), ("ADDED", workflow("next", 11)), stays=True),
    )
    async with listening(client, listener):
        await listener.until({"good": "2", "next": "11"})


async def test_a_line_of_any_length_arrives(
    server: faulty_server.FaultyServer, client: kube.KubeClient, listener: Listener
) -> None:
    large = {**workflow("large", 10), "status": {"compressedNodes": "x" * 3_000_000}}
    server.plan(listed(9), streamed(("ADDED", large), stays=True))
    async with listening(client, listener):
        await listener.until({"large": "10"})


async def test_a_silent_stream_is_left(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listwatch, "_SILENCE_SECONDS", 0.2)
    server.plan(
        listed(9, workflow("a", 1)),
        streamed(stays=True),
        streamed(("MODIFIED", workflow("a", 10)), stays=True),
    )
    async with listening(client, listener):
        await listener.until({"a": "10"})


async def test_on_the_real_server_only_what_matches_is_told(
    cluster: controlplane.Cluster, namespace: str, listener: Listener
) -> None:
    def create(name: str, task: str) -> None:
        labels = {"task-id": task, constants.LABEL_INSTANCE_ID: "nobody"}
        cluster.create(
            {
                "apiVersion": constants.API_VERSION,
                "kind": "Workflow",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {"entrypoint": "main", "templates": [{"name": "main", "suspend": {}}]},
            }
        )

    create("first", namespace)
    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        client = link.watcher(timeout=10.0, streams=1)
        async with listening(client, listener, labelSelector=f"task-id={namespace}"):
            await until(lambda: set(listener.known) == {"first"}, lambda: listener.known)
            await asyncio.to_thread(create, "other", "elsewhere")
            await asyncio.to_thread(create, "second", namespace)
            await until(lambda: set(listener.known) == {"first", "second"}, lambda: listener.known)
            patch = {"metadata": {"labels": {"task-id": "moved"}}}
            await asyncio.to_thread(cluster.patch, "Workflow", "first", namespace, patch)
            await until(lambda: set(listener.known) == {"second"}, lambda: listener.known)
