"""The WorkflowResumes that are not finished, small enough for ten thousand of them to wait.

Plain memory, rebuilt from nothing at a start, see `stores`. A parsed WorkflowResume takes some 16
KiB and one with a whole webhook payload ten times that, so only those are kept parsed that were
looked at lately. Of the others there are an `Outline`, by which they are found, and the object as
compressed JSON: about 1 KiB. Reading one again takes a tenth of a millisecond; a resume that ends
soon after its request came never needs it.

What takes more memory than any webhook's payload is refused and not kept at all: a megabyte of JSON
may take thirty once parsed.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resumer.api import base
from resumer.api.outcomes import Outcome
from resumer.api.resume import WorkflowResume
from resumer.core import bulk
from resumer.core.keys import Key
from resumer.core.workflows import WorkflowView
from resumer.errors import InvalidError
from resumer.services import stamps

_REMEMBERED = 4096
"""How many finished requests are remembered until the watch says that they left it."""
_RECENT = 128
"""How many requests are kept parsed: some for each worker."""
_RECENT_BYTES = 32 * 2**20
"""How much memory they may take together, but for the last one."""
_FASTEST = 1
"""zlib's level: the others save a few percent of a KiB for three times the time."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A WorkflowResume that the API server let in and the models do not understand."""

    metadata: base.ObjectMeta
    problem: str
    outcome: str | None
    """The outcome in its status, whatever it is; None: it has none."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is at hand of each request without reading it again."""

    uid: str
    version: str
    created: datetime | None
    seen: datetime
    """When it was first seen."""
    task: str | None
    """None: it is unreadable."""
    workflow: str | None
    """The name it asks for."""
    outcome: Outcome | None
    """None: it was not looked at yet, or is unreadable."""
    stage: str
    """The stage that the last look found it to mean; empty: none."""

    @property
    def age(self) -> tuple[str, datetime]:
        """By which older ones come first: the API server tells no parts of a second."""
        return str(self.created), self.seen


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A request as it is worked with."""

    request: WorkflowResume
    body: Mapping[str, Any]
    """The object that it was read from, without its managed fields."""
    size: int
    """How many bytes both take, about; they share the event."""


class RequestStore:
    """The WorkflowResumes that are not finished."""

    def __init__(self) -> None:
        self._finished: OrderedDict[Key, str] = OrderedDict()
        """The uids of requests whose end we recorded: the watch may still show what was before."""
        self._outlines: dict[Key, Outline] = {}
        self._recent: OrderedDict[Key, _Parsed] = OrderedDict()
        """Those put or read last, the latest at the end."""
        self._kept: dict[Key, bytes | WorkflowResume | Unreadable] = {}
        """All that are not in `_recent`, and may be older, see `_keep`."""
        self._by_task: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._by_workflow: defaultdict[Key, set[Key]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._outlines)

    def __contains__(self, key: Key) -> bool:
        return key in self._outlines

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._outlines))

    @property
    def remembered(self) -> int:
        """How many finished requests are remembered, see `finish`."""
        return len(self._finished)

    def outlines(self) -> Iterable[tuple[Key, Outline]]:
        """What is at hand of each request; not to be held while requests come and go."""
        return self._outlines.items()

    def outline(self, key: Key) -> Outline | None:
        """What is at hand of a request, or None."""
        return self._outlines.get(key)

    def get(self, key: Key) -> WorkflowResume | Unreadable | None:
        """The request as last seen, or None."""
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key].request
        kept = self._kept.get(key)
        if isinstance(kept, bytes):
            body = json.loads(zlib.decompress(kept))
            request = WorkflowResume.from_json(body)
            self._use(key, request, body)
            return request
        return kept

    def created(self, request: WorkflowResume) -> datetime | None:
        """When a request was created, as finely as it is known: for measuring only."""
        metadata = request.metadata
        known = self._outlines.get(Key(metadata.namespace, metadata.name))
        seen = known.seen if known is not None and known.uid == metadata.uid else None
        return stamps.sharpened(metadata.creation_timestamp, seen)

    def put(self, body: Mapping[str, Any], now: datetime) -> Key | None:
        """Takes in what the watch or a write of ours returned.

        Args:
            body: The object.
            now: The time, in case that it is seen for the first time.

        Returns:
            The key to look at; None if this is older than what is known, finished or withdrawn, and
            nothing is to be done.
        """
        metadata = base.ObjectMeta.from_json(body.get("metadata") or {})
        key = Key(metadata.namespace, metadata.name)
        if self._finished.get(key) == metadata.uid:
            return None
        known = self._outlines.get(key)
        again = known is not None and known.uid == metadata.uid
        if is_withdrawn(body):
            if again:
                self._drop(key)
            return None
        if known is not None and again:
            if not base.newer(metadata.resource_version, known.version):
                return None
            now = known.seen
        self._drop(key)
        try:
            request = WorkflowResume.from_json(body)
            bulk.refuse_too_large(request)
        except InvalidError as error:
            told = (body.get("status") or {}).get("outcome") or None
            self._outlines[key] = _outline(metadata, None, now)
            self._kept[key] = Unreadable(metadata, str(error), told)
            return key
        outcome = request.status.outcome
        if outcome is not None and outcome.terminal:
            return None
        outline = self._outlines[key] = _outline(metadata, request, now)
        self._use(key, request, body)
        self._by_task[key.namespace, request.spec.correlation_data.task_id].add(key)
        if outline.workflow:
            self._by_workflow[Key(key.namespace, outline.workflow)].add(key)
        return key

    def finish(self, key: Key) -> None:
        """Forgets a request whose end was recorded, and does not take it in again."""
        known = self._outlines.get(key)
        if known is not None:
            self._finished[key] = known.uid
            if len(self._finished) > _REMEMBERED:
                self._finished.popitem(last=False)
        self._drop(key)

    def remove(self, key: Key) -> None:
        """Forgets a request that has left the watch."""
        self._finished.pop(key, None)
        self._drop(key)

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
        found = [item for item in self._outlines.items() if item[0].namespace == namespace]
        return [key for key, _ in sorted(found, key=lambda item: item[1].age)]

    def _use(self, key: Key, request: WorkflowResume, body: Mapping[str, Any]) -> None:
        """Keeps a request parsed, instead of the one that was used longest ago."""
        metadata = {
            name: item for name, item in body["metadata"].items() if name != "managedFields"
        }
        bare = {**body, "metadata": metadata}
        self._recent[key] = _Parsed(request, bare, bulk.estimate(bare, 2 * bulk.LARGEST_EVENT))
        total = sum(parsed.size for parsed in self._recent.values())
        while len(self._recent) > _RECENT or (total > _RECENT_BYTES and len(self._recent) > 1):
            oldest, parsed = self._recent.popitem(last=False)
            total -= parsed.size
            self._keep(oldest, parsed)

    def _keep(self, key: Key, parsed: _Parsed) -> None:
        """Keeps a request small, unless that was done before."""
        if key not in self._kept:
            self._kept[key] = _packed(parsed)

    def _drop(self, key: Key) -> None:
        self._recent.pop(key, None)
        self._kept.pop(key, None)
        known = self._outlines.pop(key, None)
        if known is not None and known.task is not None:
            stamps.discard(self._by_task, (key.namespace, known.task), key)
            if known.workflow:
                stamps.discard(self._by_workflow, Key(key.namespace, known.workflow), key)


def _outline(metadata: base.ObjectMeta, request: WorkflowResume | None, seen: datetime) -> Outline:
    workflow = request.status.workflow if request else None
    return Outline(
        uid=metadata.uid,
        version=metadata.resource_version,
        created=metadata.creation_timestamp,
        seen=seen,
        task=request.spec.correlation_data.task_id if request else None,
        workflow=request.spec.workflow_name if request else None,
        outcome=request.status.outcome if request else None,
        stage=(workflow.stage if workflow else None) or "",
    )


def is_withdrawn(body: Mapping[str, Any]) -> bool:
    """Whether a WorkflowResume is being deleted, which is never taken back.

    It may stay for long: until a finalizer of somebody's is removed, or what it owns is gone.
    """
    return bool((body.get("metadata") or {}).get("deletionTimestamp"))


def _packed(parsed: _Parsed) -> bytes | WorkflowResume:
    try:
        text = json.dumps(parsed.body, separators=(",", ":"))
    except RecursionError:
        return parsed.request  # deeper than can be written here: then it stays as it is
    return zlib.compress(text.encode(), _FASTEST)
