"""What the watches have shown, in the smallest form, and who has to be woken by which change.

Stores are plain memory: filled by the handlers, read by the reconciles, rebuilt from nothing at a
start. They can be stale, and an object deleted during a gap of the watch may stay; the decision
therefore never ends a request for good on them alone.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from resumer.api import base
from resumer.api.resume import WorkflowResume
from resumer.core import workflows
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.core.policies import BUILT_IN, Policy
from resumer.core.workflows import Gate, WorkflowView
from resumer.errors import InvalidError


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A WorkflowResume that the API server let in and the models do not understand."""

    metadata: base.ObjectMeta
    problem: str
    outcome: str | None
    """The outcome in its status, whatever it is."""


_REMEMBERED = 4096
"""How many finished requests are remembered until the watch says that they left it."""
_STAMP_PRECISION = timedelta(seconds=1)
"""Kubernetes and Argo cut their timestamps down to whole seconds."""


class RequestStore:
    """The WorkflowResumes that are not finished."""

    def __init__(self) -> None:
        self._finished: OrderedDict[Key, str] = OrderedDict()
        """The uids of requests whose end we recorded: the watch may still show what was before."""
        self._requests: dict[Key, WorkflowResume | Unreadable] = {}
        self._seen: dict[Key, tuple[str, datetime]] = {}
        """By uid, when each request was first seen."""
        self._by_task: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._by_workflow: defaultdict[Key, set[Key]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[tuple[Key, WorkflowResume | Unreadable]]:
        return iter(list(self._requests.items()))

    def get(self, key: Key) -> WorkflowResume | Unreadable | None:
        """The request as last seen, or None."""
        return self._requests.get(key)

    def created(self, request: WorkflowResume) -> datetime | None:
        """When a request was created, as finely as it is known: for measuring only."""
        metadata = request.metadata
        uid, seen = self._seen.get(Key(metadata.namespace, metadata.name), ("", None))
        return _sharpened(metadata.creation_timestamp, seen if uid == metadata.uid else None)

    def put(self, body: Mapping[str, Any], now: datetime) -> Key | None:
        """Takes in what the watch or a write of ours returned.

        Args:
            body: The object.
            now: The time, in case that it is seen for the first time.

        Returns:
            The key to look at; None if this is older than what is known, or finished, and nothing
            is to be done.
        """
        metadata = base.ObjectMeta.from_json(body.get("metadata") or {})
        key = Key(metadata.namespace, metadata.name)
        if self._finished.get(key) == metadata.uid:
            return None
        known = self._requests.get(key)
        if (
            known is not None
            and known.metadata.uid == metadata.uid
            and not newer(metadata.resource_version, known.metadata.resource_version)
        ):
            return None
        uid, seen = self._seen.get(key, ("", now))
        self._drop(key)
        try:
            request: WorkflowResume | Unreadable = WorkflowResume.from_json(body)
        except InvalidError as error:
            outcome = (body.get("status") or {}).get("outcome")
            request = Unreadable(metadata, str(error), outcome)
        if isinstance(request, WorkflowResume):
            outcome = request.status.outcome
            if outcome is not None and outcome.terminal:
                return None
            self._by_task[key.namespace, request.spec.correlation_data.task_id].add(key)
            if request.spec.workflow_name:
                self._by_workflow[Key(key.namespace, request.spec.workflow_name)].add(key)
        self._requests[key] = request
        self._seen[key] = (metadata.uid, seen if uid == metadata.uid else now)
        return key

    def finish(self, key: Key) -> None:
        """Forgets a request whose end was recorded, and does not take it in again."""
        request = self._requests.get(key)
        if request is not None:
            self._finished[key] = request.metadata.uid
            if len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)
        self._drop(key)

    def remove(self, key: Key) -> None:
        """Forgets a request that has left the watch."""
        self._finished.pop(key, None)
        self._drop(key)

    def _drop(self, key: Key) -> None:
        request = self._requests.pop(key, None)
        self._seen.pop(key, None)
        if isinstance(request, WorkflowResume):
            _discard(self._by_task, (key.namespace, request.spec.correlation_data.task_id), key)
            if request.spec.workflow_name:
                _discard(self._by_workflow, Key(key.namespace, request.spec.workflow_name), key)

    def waiting_for(self, workflow: WorkflowView, task_labels: Iterable[str]) -> set[Key]:
        """The requests that a change of this workflow may concern."""
        namespace = workflow.key.namespace
        found = set(self._by_workflow.get(workflow.key, ()))
        for label in task_labels:
            task = workflow.labels.get(label)
            if task is not None:
                found |= self._by_task.get((namespace, task), set())
        return found

    def in_namespace(self, namespace: str) -> list[Key]:
        """All requests of a namespace, the oldest first."""
        found = [item for item in self._requests.items() if item[0].namespace == namespace]
        return [
            key
            for key, _ in sorted(found, key=lambda item: str(item[1].metadata.creation_timestamp))
        ]


class WorkflowIndex:
    """The live workflows, found by name or by task."""

    def __init__(self) -> None:
        self._workflows: dict[Key, WorkflowView] = {}
        self._by_label: defaultdict[tuple[str, str, str], set[Key]] = defaultdict(set)
        self._task_labels: set[str] = {BUILT_IN.task_label}
        self._opened: dict[Key, dict[tuple[str, str], datetime]] = {}
        """By node id and ``startedAt``, when gates were first seen open."""

    def __len__(self) -> int:
        return len(self._workflows)

    @property
    def task_labels(self) -> frozenset[str]:
        """The label keys that some policy ties tasks to."""
        return frozenset(self._task_labels)

    def use_task_label(self, label: str) -> None:
        """Makes workflows findable by this label too."""
        if label not in self._task_labels:
            self._task_labels.add(label)
            for workflow in self._workflows.values():
                self._link(workflow, label)

    def opened(self, workflow: WorkflowView, gate: Gate) -> datetime | None:
        """When a gate opened, as finely as it is known: for measuring only."""
        seen = self._opened.get(workflow.key, {}).get((gate.id, gate.started_at))
        return _sharpened(workflows.moment(gate.started_at), seen)

    def put(self, workflow: WorkflowView, now: datetime) -> bool:
        """Takes in a workflow as the watch shows it now.

        Returns:
            True if anything changed that a decision looks at.
        """
        known = self._workflows.get(workflow.key)
        if (
            known is not None
            and replace(known, resource_version=workflow.resource_version) == workflow
        ):
            self._workflows[workflow.key] = workflow
            return False
        before = self._opened.get(workflow.key, {})
        if known is not None:
            self.remove(known.key)
        self._workflows[workflow.key] = workflow
        for label in self._task_labels:
            self._link(workflow, label)
        self._note_opened(workflow, before, now)
        return True

    def assume(self, workflow: WorkflowView, now: datetime) -> None:
        """Takes in what our write made of a workflow, unless the watch showed something newer."""
        known = self._workflows.get(workflow.key)
        if (
            known is not None
            and known.uid == workflow.uid
            and known.resource_version == workflow.resource_version
        ):
            self.put(workflow, now)

    def remove(self, key: Key) -> WorkflowView | None:
        """Forgets a workflow that is gone or finished, and returns what was known of it."""
        workflow = self._workflows.pop(key, None)
        self._opened.pop(key, None)
        if workflow is not None:
            for label in self._task_labels:
                task = workflow.labels.get(label)
                if task is not None:
                    _discard(self._by_label, (key.namespace, label, task), key)
        return workflow

    def matching(self, namespace: str, *, name: str | None, task: str) -> tuple[WorkflowView, ...]:
        """The live workflows that a request for this task, or of this name, can mean."""
        if name:
            found = self._workflows.get(Key(namespace, name))
            return (found,) if found else ()
        keys = {
            key
            for label in self._task_labels
            for key in self._by_label.get((namespace, label, task), ())
        }
        return tuple(self._workflows[key] for key in sorted(keys))

    def _note_opened(
        self, workflow: WorkflowView, before: Mapping[tuple[str, str], datetime], now: datetime
    ) -> None:
        """Keeps when its gates were first seen open, where that says more than ``startedAt``.

        A gate that is open no more keeps its entry: who opened it has yet to be told how long it
        took.
        """
        seen = {}
        for gate in workflow.gates:
            at = (gate.id, gate.started_at)
            first = before.get(at, now if gate.is_open else None)
            if first is not None and _sharpened(workflows.moment(gate.started_at), first) is first:
                seen[at] = first
        if seen:
            self._opened[workflow.key] = seen

    def _link(self, workflow: WorkflowView, label: str) -> None:
        task = workflow.labels.get(label)
        if task is not None:
            self._by_label[workflow.key.namespace, label, task].add(workflow.key)


class PolicyStore:
    """The policies in force, and those that only say why they cannot be."""

    def __init__(self) -> None:
        self._policies: dict[Key, Policy] = {}

    def get(self, key: Key) -> Policy | None:
        """The policy that is in force under this name."""
        return self._policies.get(key)

    def put(self, key: Key, policy: Policy) -> bool:
        """Puts a policy in force; True if it differs from the one before."""
        changed = self._policies.get(key) != policy
        self._policies[key] = policy
        return changed

    def remove(self, key: Key) -> bool:
        """Takes a policy out of force; True if it was in force."""
        return self._policies.pop(key, None) is not None

    def of(self, namespace: str) -> tuple[Policy, ...]:
        """The policies of a namespace."""
        return tuple(policy for key, policy in self._policies.items() if key.namespace == namespace)


class BreakerStore:
    """The circuit breakers that are stored in the cluster, with the version to compare with."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str], tuple[Breaker, str]] = {}

    def get(self, namespace: str, stage: str) -> tuple[Breaker, str] | None:
        """The breaker of a stage, or None while it never failed."""
        return self._breakers.get((namespace, stage))

    def put(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Takes in a breaker."""
        self._breakers[namespace, stage] = (breaker, version)

    def learn(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Takes in what the watch shows, unless it is older than what is known.

        An object that was just created has no status yet: it tells the version to go on from, and
        nothing about a failure that could not be written into it.
        """
        known = self.get(namespace, stage)
        if known is None:
            self.put(namespace, stage, breaker, version)
        elif not known[1] and breaker == Breaker():
            self.put(namespace, stage, known[0], version)
        elif newer(version, known[1]):
            self.put(namespace, stage, breaker, version)

    def remove(self, namespace: str, stage: str) -> None:
        """Resets a breaker whose object was deleted."""
        self._breakers.pop((namespace, stage), None)

    def stored(self) -> dict[tuple[str, str], tuple[Breaker, str]]:
        """By namespace and stage, those that the API server has as well."""
        return {at: item for at, item in self._breakers.items() if item[1]}

    def of(self, namespace: str) -> Mapping[str, Breaker]:
        """The breakers of a namespace by stage."""
        return {
            stage: item[0] for (home, stage), item in self._breakers.items() if home == namespace
        }


@dataclass(frozen=True, slots=True)
class Stores:
    """What is known from the watches."""

    requests: RequestStore
    workflows: WorkflowIndex
    policies: PolicyStore
    breakers: BreakerStore


def newer(one: str, other: str) -> bool:
    """Whether one version is newer; resourceVersions are ordered integers for Kubernetes itself."""
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other


def _sharpened(stamp: datetime | None, seen: datetime | None) -> datetime | None:
    """A timestamp made finer by when what it tells was first seen, if that is the same second.

    Latencies of some ten milliseconds cannot be told from stamps of whole seconds. What was first
    seen later, by a watch that came late or started late, says nothing; and an earlier time comes
    from another clock.
    """
    if stamp is not None and seen is not None and stamp <= seen < stamp + _STAMP_PRECISION:
        return seen
    return stamp


def _discard(index: dict[Any, set[Key]], at: Any, key: Key) -> None:
    keys = index.get(at)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[at]
