"""Thousands of Workflows at a gate and as many WorkflowResumes that wait: written into the store.

Creating them by the API server would take it minutes. One pair is made as it should be, by the API
server and by an operator that decides to wait; its stored texts are then copied under other names.
The API server notices the copies by its own watch of the store, as if another one had written them.

A request of the mass is early: its workflow waits at the gate of one stage, it is for the next one.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from tests.bench import api, objects

WORKFLOWS, REQUESTS = "workflows", "workflowresumes"
DEADLINE_SECONDS = 604_800
"""A week, the longest that the schema lets a request wait."""

_NEXT_EVENT = "pr-labeled-ready"
_NEXT_LABEL = "ready-for-qa"
_BATCH_BYTES = 700_000
"""Of values in one transaction: the store takes 1.5 MiB."""
_BATCH_OBJECTS = 64
_WRITERS = 2
_POLL = 0.5
_Put = dict[str, dict[str, str]]


class NotTaken(RuntimeError):
    """The store or the API server did not take the objects; the message says what was said."""


def early_request(names: objects.Names) -> objects.Json:
    """A WorkflowResume for the stage after the one that the workflow waits in."""
    body = copy.deepcopy(objects.request(names))
    spec = body["spec"]
    spec["deadlineSeconds"] = DEADLINE_SECONDS
    spec["labelSelector"] = "workflow-type=play-orchestration"
    spec["correlationData"] |= {
        "eventType": _NEXT_EVENT,
        "githubEvent": {"action": "labeled", "labelName": _NEXT_LABEL},
    }
    spec["validationRules"] = spec["validationRules"][:1]
    body["metadata"]["name"] = waiting_name(names)
    return body


def waiting_name(names: objects.Names) -> str:
    """The name of the request of the mass for a workflow."""
    return names.request.replace("request", "waiting")


class Mass:
    """Copies a pair.

    Arguments:
        server: the API server
        etcd: URL of its store, which lets everybody in
        namespace: of the pair and the copies
    """

    def __init__(self, server: api.Api, etcd: str, namespace: str) -> None:
        self._server = server
        self._etcd = etcd
        self._namespace = namespace
        self._model = objects.Names(0)

    async def copy(self, start: int, stop: int) -> int:
        """Write the pairs of these numbers.

        Arguments:
            start: the first one, at least 1: number 0 is the model
            stop: the one after the last

        Returns:
            bytes of all Workflows written

        Raises:
            NotTaken: the store refused one
        """
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            models = [
                await self._stored(session, WORKFLOWS, self._model.workflow),
                await self._stored(session, REQUESTS, waiting_name(self._model)),
            ]
            batches = self._batches(models, start, stop)

            async def write() -> None:
                for batch in batches:
                    await self._call(session, "txn", {"success": batch})

            async with asyncio.TaskGroup() as tasks:
                for _ in range(_WRITERS):
                    tasks.create_task(write())
        return len(models[0]) * (stop - start)

    async def await_taken(self, count: int, seconds: float) -> None:
        """Wait until the API server knows so many of each, at least.

        Raises:
            NotTaken: it took longer
        """
        last: int | str = 0
        try:
            async with asyncio.timeout(seconds):
                for plural in (WORKFLOWS, REQUESTS):
                    last = await self._known(plural)
                    while isinstance(last, str) or last < count:
                        await asyncio.sleep(_POLL)
                        last = await self._known(plural)
        except TimeoutError as error:
            raise NotTaken(
                f"after {seconds:g} s the API server knows {last} of {count} objects"
            ) from error

    async def _known(self, plural: str) -> int | str:
        try:
            found = await self._server.read(api.collection(plural, self._namespace), limit="1")
        except api.CallFailed as error:  # while it is behind its store, it says so
            return str(error)
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))

    def _batches(self, models: Sequence[str], start: int, stop: int) -> Iterator[list[_Put]]:
        batch: list[_Put] = []
        size = 0
        uids = [json.loads(model)["metadata"]["uid"] for model in models]
        for number in range(start, stop):
            names = objects.Names(number)
            # The status of a request names the uid of its workflow, too.
            fresh = {uid: str(uuid.uuid4()) for uid in uids}
            for plural, name, model in (
                (WORKFLOWS, names.workflow, models[0]),
                (REQUESTS, waiting_name(names), models[1]),
            ):
                value = self._copied(model, fresh, names)
                batch.append({"requestPut": {"key": self._key(plural, name), "value": value}})
                size += len(model)
            if size > _BATCH_BYTES or len(batch) >= _BATCH_OBJECTS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _copied(self, text: str, uids: Mapping[str, str], names: objects.Names) -> str:
        model = self._model
        for before, after in (
            (model.workflow, names.workflow),
            (waiting_name(model), waiting_name(names)),
            (model.task, names.task),
            *uids.items(),
        ):
            text = text.replace(before, after)
        return _base64(text)

    async def _stored(self, session: aiohttp.ClientSession, plural: str, name: str) -> str:
        answer = await self._call(session, "range", {"key": self._key(plural, name)})
        if not answer.get("kvs"):
            raise NotTaken(f"there is no {plural} {name!r} in the store")
        return base64.b64decode(answer["kvs"][0]["value"]).decode()

    async def _call(
        self, session: aiohttp.ClientSession, what: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        async with session.post(f"{self._etcd}/v3/kv/{what}", json=body) as response:
            text = await response.text()
        if response.status != 200:
            raise NotTaken(f"the store answers {response.status}: {text[:500]}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _key(self, plural: str, name: str) -> str:
        return _base64(f"/registry/argoproj.io/{plural}/{self._namespace}/{name}")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
