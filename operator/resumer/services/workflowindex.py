"""The live workflows as the watch shows them, found by name or by task.

Plain memory, rebuilt from nothing at a start, see `stores`. A view takes some 3 KiB with one gate,
however large the Workflow is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import datetime

from resumer.core import workflows
from resumer.core.keys import Key
from resumer.core.policies import BUILT_IN
from resumer.core.suspended import Gate
from resumer.core.workflows import WorkflowView
from resumer.services import stamps


class WorkflowIndex:
    """The live workflows, found by name or by task."""

    def __init__(self) -> None:
        self._workflows: dict[Key, WorkflowView] = {}
        self._by_label: defaultdict[tuple[str, str, str], set[Key]] = defaultdict(set)
        self._task_labels: set[str] = {BUILT_IN.task_label}
        self._unread: set[Key] = set()
        self._opened: dict[Key, dict[tuple[str, str], datetime]] = {}
        """By node id and ``startedAt``, when gates were first seen open."""

    def __len__(self) -> int:
        return len(self._workflows)

    @property
    def unread(self) -> int:
        """How many workflows are known by their metadata only."""
        return len(self._unread)

    def get(self, key: Key) -> WorkflowView | None:
        """The workflow of this name, if it is known."""
        return self._workflows.get(key)

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
        return stamps.sharpened(workflows.moment(gate.started_at), seen)

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
        self._replace(workflow)
        self._note_opened(workflow, now)
        return True

    def expect(self, outline: WorkflowView) -> bool:
        """Takes in the metadata of a workflow that a list shows.

        Returns:
            True if the whole of it has to be read: it is new, or it has changed unseen.
        """
        known = self._workflows.get(outline.key)
        if (
            known is not None
            and known.read
            and known.uid == outline.uid
            and known.resource_version == outline.resource_version
        ):
            return False
        self._replace(outline)
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
        self._opened.pop(key, None)
        return self._unlink(key)

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

    def _replace(self, workflow: WorkflowView) -> None:
        self._unlink(workflow.key)
        self._workflows[workflow.key] = workflow
        if not workflow.read:
            self._unread.add(workflow.key)
        for label in self._task_labels:
            self._link(workflow, label)

    def _unlink(self, key: Key) -> WorkflowView | None:
        workflow = self._workflows.pop(key, None)
        self._unread.discard(key)
        if workflow is not None:
            for label in self._task_labels:
                task = workflow.labels.get(label)
                if task is not None:
                    stamps.discard(self._by_label, (key.namespace, label, task), key)
        return workflow

    def _note_opened(self, workflow: WorkflowView, now: datetime) -> None:
        """Keeps when its gates were first seen open, where that says more than ``startedAt``.

        A gate that is open no more keeps its entry: who opened it has yet to be told how long it
        took.
        """
        seen = {}
        before = self._opened.pop(workflow.key, {})
        for gate in workflow.gates:
            at = (gate.id, gate.started_at)
            first = before.get(at, now if gate.is_open else None)
            began = workflows.moment(gate.started_at)
            if first is not None and stamps.sharpened(began, first) is first:
                seen[at] = first
        if seen:
            self._opened[workflow.key] = seen

    def _link(self, workflow: WorkflowView, label: str) -> None:
        task = workflow.labels.get(label)
        if task is not None:
            self._by_label[workflow.key.namespace, label, task].add(workflow.key)
