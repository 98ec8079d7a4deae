"""What comes in from the watches: into the stores, and on to whoever it concerns.

Handlers call these methods with what kopf gives them, one for each kind; nothing here waits. A
change of a workflow wakes the requests of its task, a change of a policy or a breaker those of its
namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from resumer.api.outcomes import Outcome
from resumer.api.resume import WorkflowResume
from resumer.core import workflows
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.services.queue import KeyedQueue
from resumer.services.resuming import Stores

_RELEASE_INTERVAL = 0.02
"""Seconds between two requests that a closed breaker lets go: not all at once, the oldest first."""

_log = structlog.get_logger(__name__)


class Intake:
    """Takes in objects."""

    def __init__(self, stores: Stores, queue: KeyedQueue) -> None:
        self._stores = stores
        self._queue = queue

    def request(self, body: Mapping[str, Any]) -> None:
        """A WorkflowResume was created, changed, or listed."""
        key = self._stores.requests.put(body)
        if key is not None:
            self._queue.add(key)

    def request_gone(self, key: Key) -> None:
        """A WorkflowResume was deleted, or has finished and left the watch."""
        self._stores.requests.remove(key)
        self._queue.forget(key)

    def workflow(self, body: Mapping[str, Any]) -> None:
        """A live Workflow was created, changed, or listed."""
        view = workflows.view(body)
        if view.finished:
            self.workflow_gone(view.key)
        elif self._stores.workflows.put(view):
            self._wake(view)

    def workflow_gone(self, key: Key) -> None:
        """A Workflow was deleted, or has finished and left the watch."""
        view = self._stores.workflows.remove(key)
        if view is not None:
            self._wake(view)

    def policies_changed(self, namespace: str) -> None:
        """A policy of the namespace came into force, changed or went."""
        for policy in self._stores.policies.of(namespace):
            self._stores.workflows.use_task_label(policy.task_label)
        for key in self._stores.requests.in_namespace(namespace):
            self._queue.add(key)

    def breaker(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """A breaker was written, by us or by somebody else."""
        known = self._stores.breakers.get(namespace, stage)
        if known is None or known[1] != version:
            self._stores.breakers.put(namespace, stage, breaker, version)
            self._release(namespace)

    def breaker_gone(self, namespace: str, stage: str) -> None:
        """A breaker was deleted, which resets it."""
        self._stores.breakers.remove(namespace, stage)
        self._release(namespace)

    def _wake(self, view: workflows.WorkflowView) -> None:
        for key in self._stores.requests.waiting_for(view, self._stores.workflows.task_labels):
            self._queue.add(key)

    def _release(self, namespace: str) -> None:
        """Lets the requests that a breaker holds look at it again, one after the other."""
        turn = 0
        for key in self._stores.requests.in_namespace(namespace):
            request = self._stores.requests.get(key)
            if (
                isinstance(request, WorkflowResume)
                and request.status.outcome is Outcome.CIRCUIT_OPEN
            ):
                self._queue.add_after(key, turn * _RELEASE_INTERVAL)
                turn += 1
