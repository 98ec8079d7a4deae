"""The outside world in memory: the ports of `resumer.ports`, a clock, and faults at will.

`FakeApi` is the small part of an API server that Resumer depends on: objects with uids and
resourceVersions, JSON-Patch with tests that hold or nothing is written, preconditions of a delete,
watches. The fakes of the ports are thin on it. `tests/contract/test_workflows.py` runs the same
promises against them and against the real adapters on a real API server.

Every call of a port goes through `Faults`: it is counted, and can be made to fail before it is
carried out, after it (a lost answer), or to end the process (`Killed`). A call always lets other
tasks run, as one over the network does.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from resumer import errors, ports
from resumer.api import constants
from resumer.api.outcomes import Phase
from resumer.core import breaker as breakers
from resumer.core import patches
from resumer.core.keys import Key
from resumer.core.observation import ResumeOrder
from resumer.core.workflows import NodeStorage

Json = dict[str, Any]
Watcher = Callable[[str, Json], None]
"""Is told the type of an event (ADDED, MODIFIED, DELETED) and the object."""

PAGE = 3
"""Workflows in a page; few, so that whoever reads them has to go on."""

_T = TypeVar("_T")


class FakeClock:
    """A clock that a test moves, and chance that is always the same."""

    def __init__(self, now: datetime, *, chance: float = 0.5) -> None:
        self._start = now
        self._passed = 0.0
        self.chance = chance

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def random(self) -> float:
        return self.chance

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self._passed += seconds


class Killed(BaseException):
    """The process ended here: no `except Exception` catches it, as nothing catches a SIGKILL."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call."""

    error: BaseException | None = None
    """Raised; None: the call is made as usual."""
    applied: bool = False
    """Raised only after the call was carried out: its answer is lost."""
    before: Callable[[], None] | None = None
    """What somebody else does just before the call is carried out."""
    hangs: bool = False
    """The call never ends; if `applied`, it was carried out all the same."""


@dataclass(slots=True)
class Faults:
    """The plan of what goes wrong, and the list of the calls that were made."""

    made: list[str] = field(default_factory=list)
    """The names of all calls, in order: ``workflows.find``, ``backend.resume``, ..."""
    _numbered: dict[int, Fault] = field(default_factory=dict)
    _named: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Fault] = field(default_factory=dict)

    def at(self, number: int, fault: Fault) -> None:
        """Plans a fault for the call of this number, counted from 1 over all ports."""
        self._numbered[number] = fault

    def on(self, name: str, *planned: Fault) -> None:
        """Plans faults for the next calls of this name, one each."""
        self._named[name].extend(planned)

    def always(self, name: str, fault: Fault | None) -> None:
        """Plans the same fault for all calls of this name; None: no longer."""
        if fault is None:
            self._always.pop(name, None)
        else:
            self._always[name] = fault

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        for planned in (self._numbered, self._named, self._always):
            planned.clear()

    def count(self, name: str) -> int:
        """How often this call was made."""
        return self.made.count(name)

    async def call(self, name: str, act: Callable[[], _T]) -> _T:
        """Makes a call, as planned."""
        self.made.append(name)
        fault = self._numbered.pop(len(self.made), None)
        if fault is None and self._named[name]:
            fault = self._named[name].popleft()
        fault = fault or self._always.get(name, Fault())
        await asyncio.sleep(0)
        if fault.before is not None:
            fault.before()
        if fault.hangs and not fault.applied:
            await asyncio.Event().wait()
        if fault.error is not None and not fault.applied:
            raise fault.error
        result = act()
        if fault.hangs:
            await asyncio.Event().wait()
        if fault.error is not None:
            raise fault.error
        return result


class FakeApi:
    """Objects by plural and key, as an API server keeps them."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._objects: dict[tuple[str, Key], Json] = {}
        self._versions = itertools.count(1000)
        self._uids = itertools.count(1)
        self._watchers: defaultdict[str, list[Watcher]] = defaultdict(list)
        self.writes: Counter[tuple[str, Key]] = Counter()
        """How often each object was changed; what changes nothing is not counted."""

    def watch(self, plural: str, watcher: Watcher) -> None:
        """Has a watcher told of every change from now on."""
        self._watchers[plural].append(watcher)

    def unwatch_all(self) -> None:
        """Ends all watches, as the end of their process does."""
        self._watchers.clear()

    def create(self, plural: str, body: Mapping[str, Any]) -> Json:
        """Creates an object; a uid, a creationTimestamp and a status that it brings are kept."""
        stored = copy.deepcopy(dict(body))
        key = _key(stored)
        if (plural, key) in self._objects:
            raise errors.PreconditionError(f"{key} exists", status=409, reason="AlreadyExists")
        metadata = stored["metadata"]
        metadata.setdefault("uid", f"uid-{next(self._uids)}")
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", _stamp(self._clock.now()))
        return self._store(plural, key, stored, "ADDED")

    def get(self, plural: str, key: Key) -> Json:
        """A copy of an object.

        Raises:
            NotFoundError: There is none.
        """
        try:
            return copy.deepcopy(self._objects[plural, key])
        except KeyError:
            raise errors.NotFoundError(
                f'{plural} "{key}" not found', status=404, reason="NotFound"
            ) from None

    def find(
        self, plural: str, keep: Callable[[Json], bool] = lambda _: True, namespace: str = ""
    ) -> list[Json]:
        """Copies of the objects of a namespace, or of all, that a selector keeps, by name."""
        return [
            copy.deepcopy(body)
            for (kind, key), body in sorted(self._objects.items())
            if kind == plural and (not namespace or key.namespace == namespace) and keep(body)
        ]

    def change(self, plural: str, key: Key, edit: Callable[[Json], None]) -> Json:
        """Edits an object in place, as somebody else may do at any time."""
        body = self.get(plural, key)
        edit(body)
        return self._store(plural, key, body, "MODIFIED")

    def patch(self, plural: str, key: Key, operations: Sequence[Mapping[str, Any]]) -> Json:
        """Applies a JSON-Patch, all of it or nothing.

        Raises:
            NotFoundError: There is no such object.
            PreconditionError: A test does not hold, or a path is not there.
        """
        body = patched(self.get(plural, key), operations)
        return self._store(plural, key, body, "MODIFIED")

    def delete(self, plural: str, key: Key, *, uid: str = "", version: str = "") -> None:
        """Deletes an object.

        Raises:
            NotFoundError: There is none, or another of its name has taken its place.
            PreconditionError: It was changed since that version.
        """
        metadata = self.get(plural, key)["metadata"]
        if uid and uid != metadata["uid"]:
            raise errors.NotFoundError(f"{key} is another", status=409, reason="OtherUid")
        if version and version != metadata["resourceVersion"]:
            raise errors.PreconditionError(f"{key} was changed", status=409, reason="Conflict")
        body = self._objects.pop((plural, key))
        self._tell(plural, "DELETED", self._versioned(body))

    def _store(self, plural: str, key: Key, body: Json, kind: str) -> Json:
        if self._objects.get((plural, key)) != body:
            self._objects[plural, key] = self._versioned(body)
            self.writes[plural, key] += 1
            self._tell(plural, kind, self._objects[plural, key])
        return copy.deepcopy(self._objects[plural, key])

    def _versioned(self, body: Json) -> Json:
        metadata = {**body["metadata"], "resourceVersion": str(next(self._versions))}
        return {**body, "metadata": metadata}

    def _tell(self, plural: str, kind: str, body: Json) -> None:
        for watcher in self._watchers[plural]:
            watcher(kind, copy.deepcopy(body))


@dataclass(frozen=True, slots=True)
class FakeWorkflows:
    """Implements `ports.Workflows`."""

    api: FakeApi
    faults: Faults = field(default_factory=Faults)
    instance_id: str = ""

    async def read(self, key: Key) -> ports.Body | None:
        return await self.faults.call("workflows.read", lambda: self._read(key))

    async def find(
        self, namespace: str, label: str, value: str, *, live: bool = False
    ) -> AsyncGenerator[Sequence[ports.Body], None]:
        def matches(body: Json) -> bool:
            labels = _labels(body)
            left_out = live and labels.get(constants.LABEL_COMPLETED) == "true"
            return self._ours(body) and labels.get(label) == value and not left_out

        found = await self.faults.call(
            "workflows.find",
            lambda: self.api.find(constants.WORKFLOW_PLURAL, matches, namespace),
        )
        for page in range(0, len(found), PAGE):
            yield found[page : page + PAGE]

    async def terminate(self, key: Key, uid: str) -> None:
        await self.faults.call("workflows.terminate", lambda: self._terminate(key, uid))

    def _read(self, key: Key) -> ports.Body | None:
        try:
            body = self.api.get(constants.WORKFLOW_PLURAL, key)
        except errors.NotFoundError:
            return None
        return body if self._ours(body) else None

    def _ours(self, body: Json) -> bool:
        return _labels(body).get(constants.LABEL_INSTANCE_ID, "") == self.instance_id

    def _terminate(self, key: Key, uid: str) -> None:
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/spec/shutdown", "value": "Terminate"},
        ]
        try:
            self.api.patch(constants.WORKFLOW_PLURAL, key, operations)
        except (errors.NotFoundError, errors.PreconditionError):
            return


@dataclass(frozen=True, slots=True)
class FakeBackend:
    """Implements `ports.ResumeBackend`, with the patches of `resumer.core.patches`."""

    api: FakeApi
    faults: Faults = field(default_factory=Faults)

    async def resume(self, order: ResumeOrder) -> None:
        await self.faults.call("backend.resume", lambda: self._resume(order))

    def _resume(self, order: ResumeOrder) -> None:
        if order.storage is NodeStorage.COMPRESSED:
            body = self.api.get(constants.WORKFLOW_PLURAL, order.key)
            try:
                operations = patches.for_compressed_nodes(order, body)
            except errors.MalformedWorkflowError as error:
                raise errors.PreconditionError(str(error), reason="Malformed") from error
        else:
            operations = patches.for_plain_nodes(order)
        self.api.patch(constants.WORKFLOW_PLURAL, order.key, operations)


@dataclass(frozen=True, slots=True)
class FakeRequests:
    """Implements `ports.Requests`."""

    api: FakeApi
    faults: Faults = field(default_factory=Faults)
    namespaces: tuple[str, ...] = ()

    async def write_status(
        self, key: Key, uid: str, before: str | None, status: Mapping[str, Any]
    ) -> ports.Body:
        return await self.faults.call(
            "requests.write_status", lambda: self._write_status(key, uid, before, status)
        )

    async def delete(self, key: Key, uid: str, resource_version: str) -> None:
        await self.faults.call("requests.delete", lambda: self._delete(key, uid, resource_version))

    async def finished(self) -> AsyncIterator[ports.Body]:
        def ended(body: Json) -> bool:
            phase = body.get("status", {}).get("phase")
            return phase in (Phase.SUCCEEDED, Phase.FAILED)

        for namespace in self.namespaces or ("",):
            found = await self.faults.call(
                "requests.finished",
                functools.partial(self.api.find, constants.RESUME_PLURAL, ended, namespace),
            )
            for body in found:
                yield body

    def _write_status(
        self, key: Key, uid: str, before: str | None, status: Mapping[str, Any]
    ) -> ports.Body:
        has_none = before is None and "status" not in self.api.get(constants.RESUME_PLURAL, key)
        at = "/status" if has_none else "/status/outcome"
        guard = {"op": "test", "path": at, "value": before}
        return _replace_status(self.api, constants.RESUME_PLURAL, key, uid, status, guard)

    def _delete(self, key: Key, uid: str, resource_version: str) -> None:
        try:
            self.api.delete(constants.RESUME_PLURAL, key, uid=uid, version=resource_version)
        except errors.NotFoundError:
            return


@dataclass(frozen=True, slots=True)
class FakePolicies:
    """Implements `ports.Policies`."""

    api: FakeApi
    faults: Faults = field(default_factory=Faults)

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> ports.Body:
        return await self.faults.call(
            "policies.write_status",
            lambda: _replace_status(self.api, constants.POLICY_PLURAL, key, uid, status),
        )


@dataclass(frozen=True, slots=True)
class FakeReader:
    """Implements `ports.Reader`."""

    api: FakeApi
    stored_breakers: FakeBreakers
    faults: Faults = field(default_factory=Faults)

    async def request(self, key: Key) -> ports.Body | None:
        return await self.faults.call("reader.request", lambda: self._request(key))

    async def policies(self, namespace: str) -> Sequence[ports.Body]:
        return await self.faults.call(
            "reader.policies",
            lambda: self.api.find(constants.POLICY_PLURAL, namespace=namespace),
        )

    async def breakers(self, namespace: str) -> Sequence[tuple[str, str, breakers.Breaker, str]]:
        return await self.faults.call(
            "reader.breakers",
            lambda: [
                (home, stage, *stored)
                for (home, stage), stored in self.stored_breakers.items()
                if namespace in ("", home)
            ],
        )

    def _request(self, key: Key) -> ports.Body | None:
        try:
            return self.api.get(constants.RESUME_PLURAL, key)
        except errors.NotFoundError:
            return None


class FakeBreakers:
    """Implements `ports.Breakers`: versions as the API server makes them, values kept as given."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._stored: dict[tuple[str, str], tuple[breakers.Breaker, str]] = {}
        self._versions = itertools.count(1)

    def get(self, namespace: str, stage: str) -> tuple[breakers.Breaker, str]:
        """What is stored, not counted as a call."""
        return self._stored.get((namespace, stage), (breakers.Breaker(), ""))

    def items(self) -> Iterable[tuple[tuple[str, str], tuple[breakers.Breaker, str]]]:
        """All that is stored, by namespace and stage."""
        return list(self._stored.items())

    def put(self, namespace: str, stage: str, breaker: breakers.Breaker) -> str:
        """Stores a breaker as somebody else would, and returns its version."""
        version = str(next(self._versions))
        self._stored[namespace, stage] = (breaker, version)
        return version

    def delete(self, namespace: str, stage: str) -> None:
        """Takes a breaker away, which resets it."""
        del self._stored[namespace, stage]

    async def read(self, namespace: str, stage: str) -> tuple[breakers.Breaker, str]:
        return await self.faults.call("breakers.read", lambda: self.get(namespace, stage))

    async def write(
        self, namespace: str, stage: str, breaker: breakers.Breaker, version: str
    ) -> str:
        return await self.faults.call(
            "breakers.write", lambda: self._write(namespace, stage, breaker, version)
        )

    def _write(self, namespace: str, stage: str, breaker: breakers.Breaker, version: str) -> str:
        stored, newest = self.get(namespace, stage)
        if version != newest:
            raise errors.PreconditionError(
                f"the breaker of {stage!r} was changed", status=409, reason="Conflict"
            )
        return version if version and stored == breaker else self.put(namespace, stage, breaker)


@dataclass(frozen=True, slots=True)
class Published:
    """A Kubernetes Event."""

    kind: str
    name: str
    warning: bool
    reason: str
    message: str


@dataclass(slots=True)
class FakeEvents:
    """Implements `ports.Events` by a list."""

    published: list[Published] = field(default_factory=list)

    def publish(self, regarding: ports.Body, *, warning: bool, reason: str, message: str) -> None:
        self.published.append(
            Published(regarding["kind"], regarding["metadata"]["name"], warning, reason, message)
        )


@dataclass(slots=True)
class FakeTelemetry:
    """Implements `ports.Telemetry` by lists."""

    decisions: list[tuple[str, str, str]] = field(default_factory=list)
    """Stage, outcome, reason."""
    attempts: list[tuple[str, str]] = field(default_factory=list)
    """Stage, result."""
    latencies: list[tuple[str, float, float]] = field(default_factory=list)
    """Stage, seconds since the request was created, seconds since the gate opened."""
    breaker_changes: list[tuple[str, str, str, str]] = field(default_factory=list)
    breaker_states: dict[tuple[str, str], str] = field(default_factory=dict)
    """By namespace and stage, what is in force."""
    depth: tuple[int, int, int] = (0, 0, 0)
    """Ready, delayed, running."""
    passes: list[tuple[float, str]] = field(default_factory=list)

    def decided(self, stage: str, outcome: str, reason: str) -> None:
        self.decisions.append((stage, outcome, reason))

    def attempted(self, stage: str, result: str) -> None:
        self.attempts.append((stage, result))

    def resumed(self, stage: str, since_created: float, since_open: float) -> None:
        self.latencies.append((stage, since_created, since_open))

    def breaker_changed(self, namespace: str, stage: str, before: str, after: str) -> None:
        self.breaker_changes.append((namespace, stage, before, after))

    def breaker_in_force(self, namespace: str, stage: str, state: str | None) -> None:
        if state is None:
            self.breaker_states.pop((namespace, stage), None)
        else:
            self.breaker_states[namespace, stage] = state

    def queue_changed(self, ready: int, delayed: int, running: int) -> None:
        self.depth = (ready, delayed, running)

    def reconciled(self, seconds: float, error: str) -> None:
        self.passes.append((seconds, error))


def patched(body: Json, operations: Iterable[Mapping[str, Any]]) -> Json:
    """An object after a JSON-Patch (RFC 6902), as the API server applies it.

    Its library lets a `test` for null pass where there is nothing. Of changes to lists, only adding
    at the end is there.

    Raises:
        PreconditionError: A test does not hold, or a path is not there.
    """
    result = copy.deepcopy(body)
    for operation in operations:
        *parents, last = (
            token.replace("~1", "/").replace("~0", "~")
            for token in operation["path"].split("/")[1:]
        )
        target: Any = result
        for token in parents:
            target = _child(target, token, operation)
        _apply(target, last, operation)
    return result


def _apply(target: Any, last: str, operation: Mapping[str, Any]) -> None:
    if isinstance(target, list) and (operation["op"], last) == ("add", "-"):
        target.append(copy.deepcopy(operation["value"]))
        return
    if not isinstance(target, dict):
        raise _inapplicable(operation)
    match operation["op"]:
        case "test":
            if target.get(last) != operation["value"]:
                raise _inapplicable(operation)
        case "add":
            target[last] = copy.deepcopy(operation["value"])
        case "replace" if last in target:
            target[last] = copy.deepcopy(operation["value"])
        case "remove" if last in target:
            del target[last]
        case _:
            raise _inapplicable(operation)


def _child(target: Any, token: str, operation: Mapping[str, Any]) -> Any:
    try:
        return target[int(token)] if isinstance(target, list) else target[token]
    except (KeyError, IndexError, TypeError, ValueError):
        raise _inapplicable(operation) from None


def _inapplicable(operation: Mapping[str, Any]) -> errors.PreconditionError:
    return errors.PreconditionError(
        f"the JSON-Patch does not apply: {dict(operation)}", status=422, reason="PatchTestFailed"
    )


def _replace_status(
    api: FakeApi,
    plural: str,
    key: Key,
    uid: str,
    status: Mapping[str, Any],
    *guard: Mapping[str, Any],
) -> Json:
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        *guard,
        {"op": "add", "path": "/status", "value": status},
    ]
    return api.patch(plural, key, operations)


def _key(body: Json) -> Key:
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def _labels(body: Json) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


def _stamp(moment: datetime) -> str:
    whole = moment.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return f"{whole.isoformat()}Z"
