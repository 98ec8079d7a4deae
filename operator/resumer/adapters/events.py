"""Kubernetes Events about the objects we decide on: for a person's `kubectl describe`, best effort.

They are core/v1 Events with first and last time and a count, the form in which Argo's controller
writes its own: `kubectl describe` shows the newer events.k8s.io form as well, but Argo's user
interface sorts by a time which that form leaves empty. `publish` only queues; one task writes, at a
limited rate. What repeats becomes a higher count of the same Event, what is too much is dropped.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import aiolimiter

from resumer import errors, ports
from resumer.adapters import faults, kube
from resumer.api import constants

_log = logging.getLogger(__name__)

QUEUE_LIMIT: Final = 512
"""Events waiting to be written; more are dropped."""

BURST: Final = 20
"""Events written without a pause."""

BURST_SECONDS: Final = 4.0
"""The time over which a burst is earned again: in the long run, 5 Events a second."""

REPEAT_SECONDS: Final = 600.0
"""A repeat within this time of the last one counts up the Event, as in client-go."""

FLUSH_SECONDS: Final = 1.0
"""How long `close` waits for what is queued."""

MESSAGE_LIMIT: Final = 1024
"""Characters of a message, the limit of the API for a note."""

_REASON_LIMIT: Final = 128
_KNOWN_LIMIT: Final = 4096
_NAME_LIMIT: Final = 253
_CALL_ERRORS: Final = (errors.ApiError, errors.InvalidError)


@dataclasses.dataclass(slots=True)
class _Happening:
    """One Event and its repeats. The task that writes and `publish` share it."""

    name: str
    regarding: Mapping[str, Any]
    warning: bool
    reason: str
    message: str
    first: datetime
    last: datetime
    seen: float
    count: int = 1
    queued: bool = False
    stored: bool = False


class KubeEvents:
    """Implements `resumer.ports.Events`; `start` it inside the event loop and `close` it there."""

    def __init__(
        self,
        client: kube.KubeClient,
        clock: ports.Clock,
        *,
        on_dropped: Callable[[], None],
        instance: str = "",
    ) -> None:
        """Writes nothing yet.

        Args:
            client: Makes the calls.
            clock: Tells when something happened.
            on_dropped: Called for each Event that is not written, to count it.
            instance: The name of this process, as a pod's, to tell replicas apart.
        """
        self._client = client
        self._clock = clock
        self._on_dropped = on_dropped
        self._instance = instance
        self._queue: asyncio.Queue[_Happening] = asyncio.Queue(QUEUE_LIMIT)
        self._known: collections.OrderedDict[tuple[str, str, str], _Happening] = (
            collections.OrderedDict()
        )
        self._limiter = aiolimiter.AsyncLimiter(BURST, BURST_SECONDS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task that writes."""
        self._task = asyncio.create_task(self._write_all(), name="events")

    async def close(self) -> None:
        """Writes what is queued for at most a second, and ends; what is left is dropped."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._queue.join()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def publish(self, regarding: ports.Body, *, warning: bool, reason: str, message: str) -> None:
        """Queues an Event about an object; under a flood it is dropped and counted.

        Args:
            regarding: The object, or its kind, apiVersion and metadata.
            warning: Whether somebody may have to act.
            reason: A word in CamelCase; it is cut at 128 characters.
            message: A sentence; it becomes one line and is cut at 1024 characters.
        """
        message = faults.clean(message, MESSAGE_LIMIT)
        reason = faults.clean(reason, _REASON_LIMIT)
        now = self._clock.monotonic()
        reference = _reference(regarding)
        key = (str(reference["uid"]), reason, message)
        known = self._known.get(key)
        if known is None or now - known.seen > REPEAT_SECONDS:
            moment = self._clock.now()
            known = self._known[key] = _Happening(
                name=_name(str(reference["name"])),
                regarding=reference,
                warning=warning,
                reason=reason,
                message=message,
                first=moment,
                last=moment,
                seen=now,
            )
        else:
            known.count += 1
            known.last = self._clock.now()
            known.seen = now
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN_LIMIT:
            self._known.popitem(last=False)
        if known.queued:
            return
        try:
            self._queue.put_nowait(known)
        except asyncio.QueueFull:
            self._on_dropped()
        else:
            known.queued = True

    async def _write_all(self) -> None:
        while True:
            happening = await self._queue.get()
            try:
                await self._limiter.acquire()
                # From here on a repeat has to be queued again: its count may come too late.
                happening.queued = False
                await self._write(happening)
            except _CALL_ERRORS as error:
                self._on_dropped()
                _log.debug("Event %s was not written: %s", happening.name, error)
            finally:
                self._queue.task_done()

    async def _write(self, happening: _Happening) -> None:
        namespace = str(happening.regarding["namespace"])
        if happening.stored:
            patch = {"count": happening.count, "lastTimestamp": _time(happening.last)}
            try:
                await self._client.patch(
                    kube.path("v1", "events", namespace, happening.name),
                    patch,
                    kube.PatchType.MERGE,
                    accept=kube.Accept.METADATA,
                )
            except errors.NotFoundError:
                # Events live for an hour.
                happening.stored = False
            else:
                return
        await self._client.create(
            kube.path("v1", "events", namespace),
            self._body(happening),
            accept=kube.Accept.METADATA,
        )
        happening.stored = True

    def _body(self, happening: _Happening) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": happening.name, "namespace": happening.regarding["namespace"]},
            "involvedObject": happening.regarding,
            "type": "Warning" if happening.warning else "Normal",
            "reason": happening.reason,
            "message": happening.message,
            "count": happening.count,
            "firstTimestamp": _time(happening.first),
            "lastTimestamp": _time(happening.last),
            "source": {"component": constants.FIELD_MANAGER},
            "reportingComponent": constants.FIELD_MANAGER,
            "reportingInstance": self._instance,
        }


def _reference(body: ports.Body) -> Mapping[str, Any]:
    metadata = body["metadata"]
    return {
        "apiVersion": body.get("apiVersion", ""),
        "kind": body.get("kind", ""),
        "namespace": metadata.get("namespace", ""),
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "resourceVersion": metadata.get("resourceVersion", ""),
    }


def _name(regarding: str) -> str:
    """The object's name, shortened where needed, and something no other Event has."""
    unique = uuid.uuid4().hex[:16]
    return f"{regarding[: _NAME_LIMIT - len(unique) - 1].rstrip('-.')}.{unique}"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
