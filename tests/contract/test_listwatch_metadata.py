"""`ListWatch` where the list shows the metadata only, and the rest is read while the watch runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from resumer import ports
from resumer.adapters import kube, listwatch
from tests.contract import faulty_server
from tests.contract.test_listwatch import (
    AT,
    Listener,
    listed,
    listening,
    streamed,
    until,
    workflow,
)

GONE = faulty_server.status(410, "Expired", "too old resource version")


class Collection:
    """A server that tells lists by metadata, reads and watches apart, whatever their order."""

    def __init__(self) -> None:
        self.lists: list[faulty_server.Answer] = []
        self.reads: list[faulty_server.Answer] = []
        self.watches: list[faulty_server.Answer] = []
        self.read: list[str] = []
        """The paths that were read."""
        self.watched = 0
        self.may_read = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            planned = self.watches
            self.watched += 1
        elif request.headers["Accept"] == kube.Accept.METADATA_LIST:
            planned = self.lists
        else:
            planned = self.reads
            self.read.append(request.path)
            await self.may_read.wait()
        assert planned, f"nobody expected {request.path_qs}"
        answer = planned.pop(0) if len(planned) > 1 else planned[0]
        return await answer(request)


class Reader(Listener):
    """A listener that says of each listed object whether its version is one it has not read."""

    def told(self) -> listwatch.Listener:
        return listwatch.Listener(self.take, self.drop, self.note)

    def note(self, metadata: ports.Body) -> bool:
        name = metadata["metadata"]["name"]
        if name == self.poison:
            raise ValueError("nobody can read this")
        version: str = metadata["metadata"]["resourceVersion"]
        return self.known.get(name) != version


@pytest.fixture
def collection() -> Collection:
    return Collection()


@pytest.fixture
async def client(
    collection: Collection, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[kube.KubeClient]:
    config = tmp_path_factory.mktemp("server") / "kubeconfig"
    async with faulty_server.serve() as server:
        server.plan(collection.answer)
        config.write_text(server.kubeconfig())
        async with faulty_server.connected(str(config)) as link:
            yield link.watcher(timeout=5.0, streams=2)


def breaking_off(gap: asyncio.Event) -> faulty_server.Answer:
    """A watch that says after a while that its version is too old."""

    async def give(request: web.Request) -> web.StreamResponse:
        await gap.wait()
        return await GONE(request)

    return give


def versions(*names: str, version: int = 1) -> Mapping[str, str]:
    return dict.fromkeys(names, str(version))


async def test_the_list_is_complete_before_the_rest_is_read_and_the_watch_runs_meanwhile(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    collection.lists = [listed(9, workflow("a", 1), workflow("b", 2))]
    collection.reads = [listed(9, workflow("a", 1), workflow("b", 2))]
    collection.watches = [streamed(("ADDED", workflow("c", 10)), stays=True)]
    async with listening(client, reader) as followed:
        await until(followed.listed.is_set, lambda: collection.read)
        await reader.until({"c": "10"})
        collection.may_read.set()
        await reader.until({"a": "1", "b": "2", "c": "10"})
    assert collection.read == [AT]


async def test_what_the_watch_tells_meanwhile_is_newer_than_what_is_read(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    collection.lists = [listed(9, workflow("a", 1), workflow("b", 2), workflow("c", 3))]
    collection.reads = [listed(9, workflow("a", 1), workflow("b", 2), workflow("c", 3))]
    collection.watches = [
        streamed(("MODIFIED", workflow("a", 10)), ("MODIFIED", workflow("b", 11)), stays=True),
    ]
    async with listening(client, reader):
        await reader.until({"a": "10", "b": "11"})
        collection.may_read.set()
        await reader.until({"a": "10", "b": "11", "c": "3"})
    assert reader.calls == 3


async def test_what_was_deleted_meanwhile_does_not_come_back(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    reader.known["a"] = "0"
    collection.lists = [listed(9, workflow("a", 1), workflow("b", 2))]
    collection.reads = [listed(9, workflow("a", 1), workflow("b", 2))]
    collection.watches = [streamed(("DELETED", workflow("a", 10)), stays=True)]
    async with listening(client, reader):
        await reader.until({})
        collection.may_read.set()
        await reader.until({"b": "2"})


async def test_after_a_gap_only_what_has_changed_is_read(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    collection.may_read.set()
    names = [f"w{number:02}" for number in range(20)]
    before = [workflow(name, 1) for name in names]
    changed = workflow("w07", 40)
    after = [changed if one["metadata"]["name"] == "w07" else one for one in before[:-1]]
    read = faulty_server.answer(200, changed)
    gap = asyncio.Event()
    collection.lists = [listed(9, *before), listed(50, *after)]
    collection.reads = [listed(9, *before), read]
    collection.watches = [breaking_off(gap), streamed(stays=True)]
    async with listening(client, reader):
        await reader.until(dict(versions(*names)))
        gap.set()
        await reader.until({**versions(*names[:-1]), "w07": "40"})
    assert collection.read == [AT, AT.replace("/workflows", "/namespaces/team/workflows/w07")]


async def test_what_was_read_before_a_new_list_does_not_stand_for_what_that_has_shown(
    client: kube.KubeClient, collection: Collection
) -> None:
    """The page was made before the gap, and arrives after the list that followed it."""
    reader = Reader()
    gap = asyncio.Event()
    collection.lists = [listed(9, workflow("a", 1)), listed(50, workflow("a", 40))]
    collection.reads = [listed(9, workflow("a", 1)), listed(60, workflow("a", 40))]
    collection.watches = [breaking_off(gap), streamed(stays=True)]
    async with listening(client, reader) as followed:
        await until(lambda: len(collection.read) == 1, lambda: collection.read)
        gap.set()
        await until(lambda: collection.watched == 2, lambda: collection.watched)
        assert followed.unread == 1
        collection.may_read.set()
        await reader.until({"a": "40"})
    assert reader.calls == 1


async def test_one_that_cannot_be_read_does_not_keep_the_others_from_being_read(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    collection.may_read.set()
    names = [f"w{number:02}" for number in range(30)]
    reader.known.update(dict.fromkeys(names[2:], "1"))

    async def one(request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        unfit = faulty_server.status(503, "ServiceUnavailable", "not this one")
        return await (unfit if name == "w00" else faulty_server.answer(200, workflow(name, 1)))(
            request
        )

    collection.lists = [listed(9, *(workflow(name, 1) for name in names))]
    collection.reads = [one]
    collection.watches = [streamed(stays=True)]
    async with listening(client, reader) as followed:
        await until(lambda: len(collection.read) >= 4, lambda: collection.read)
        assert reader.known == dict.fromkeys(names[1:], "1")
        assert followed.unread == 1


async def test_one_that_is_gone_when_it_is_read_is_left_to_the_watch(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    collection.may_read.set()
    known = {f"w{number:02}": "1" for number in range(20)}
    reader.known.update(known)
    reader.known.pop("w03")
    collection.lists = [listed(9, *(workflow(name, 1) for name in known))]
    collection.reads = [faulty_server.status(404, "NotFound", "it is gone", name="w03")]
    collection.watches = [streamed(stays=True)]
    async with listening(client, reader) as followed:
        await until(lambda: len(collection.read) == 1, lambda: collection.read)
        await until(lambda: not followed.unread, lambda: followed.unread)
    assert "w03" not in reader.known


@pytest.mark.parametrize(
    "fault",
    [faulty_server.cut, faulty_server.status(503, "ServiceUnavailable", "not now"), GONE],
    ids=["cut", "unavailable", "expired"],
)
async def test_a_read_that_breaks_off_is_made_again_for_what_is_left(
    client: kube.KubeClient, collection: Collection, fault: faulty_server.Answer
) -> None:
    reader = Reader()
    collection.may_read.set()
    collection.lists = [listed(9, workflow("a", 1), workflow("b", 2))]
    collection.reads = [
        listed(9, workflow("a", 1), token="more"),
        fault,
        listed(9, workflow("a", 1), workflow("b", 2)),
    ]
    collection.watches = [streamed(stays=True)]
    async with listening(client, reader):
        await reader.until({"a": "1", "b": "2"})
    assert reader.calls == 2, "what was read already was not told again"


async def test_metadata_that_nobody_can_read_does_not_end_the_list(
    client: kube.KubeClient, collection: Collection
) -> None:
    reader = Reader()
    reader.poison = "bad"
    collection.may_read.set()
    both: list[dict[str, Any]] = [workflow("bad", 1), workflow("good", 2)]
    collection.lists = [listed(9, *both)]
    collection.reads = [listed(9, *both)]
    collection.watches = [streamed(stays=True)]
    async with listening(client, reader):
        await reader.until({"good": "2"})
