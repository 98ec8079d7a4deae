"""What comes in from the watches: into the stores, and on to whoever it concerns.

Handlers call these methods with what kopf gives them, one for each kind; nothing here waits. A
change of a workflow wakes the requests of its task, a change of a policy or a breaker those of its
namespace.

Catching up after a start: thousands of requests may wait for workflows that do not exist, and each
of them costs a LIST to be sure of that. New requests go first, then those whose workflow is known,
whenever nothing new is to be done; the others are spread over some seconds with full jitter, so
that neither the API server nor what happens meanwhile suffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resumer import ports
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome
from resumer.core import workflows
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.services.queue import KeyedQueue
from resumer.services.requeststore import Outline
from resumer.services.stores import Stores

_RELEASE_INTERVAL = 0.02
"""Seconds between two requests that a closed breaker lets go: not all at once, the oldest first."""
_CATCH_UP_RATE = 100.0
"""Requests that need a read, each second, while catching up after a start."""
_CATCH_UP_LONGEST = 60.0
"""Seconds at most, however many they are."""


class Intake:
    """Takes in objects."""

    def __init__(
        self,
        stores: Stores,
        queue: KeyedQueue,
        clock: ports.Clock,
        on_gone: Callable[[Key], None] | None = None,
    ) -> None:
        """Takes nothing in yet.

        Args:
            stores: Where it goes.
            queue: Who is woken.
            clock: The time, and chance.
            on_gone: Is told of each request that is gone.
        """
        self._stores = stores
        self._on_gone = on_gone
        self._queue = queue
        self._clock = clock
        self._listed: set[Key] | None = set()
        """Requests of the first lists that were looked at before this start; None: it is over."""

    def start(self) -> None:
        """The first lists are in: lets the queue run, and spreads what would cost reads."""
        listed, self._listed = self._listed or set(), None
        reading = []
        for key in listed:
            request = self._stores.requests.outline(key)
            if request is not None and self._needs_read(key, request):
                reading.append(key)
            elif request is not None:
                self._queue.add_behind(key)
        for key in reading:
            self._queue.add_after(key, catch_up_delay(len(reading), self._clock.random()))
        self._queue.start()

    def request(self, body: Mapping[str, Any]) -> None:
        """A WorkflowResume was created, changed, or listed."""
        key = self._stores.requests.put(body, self._clock.now())
        if key is None:
            return
        request = self._stores.requests.outline(key)
        looked_at = request is not None and request.outcome is not None
        if self._listed is not None and looked_at:
            self._listed.add(key)
        else:
            self._queue.add(key)

    def request_gone(self, key: Key) -> None:
        """A WorkflowResume was deleted, or has finished and left the watch."""
        self._stores.requests.remove(key)
        self._queue.forget(key)
        if self._on_gone is not None:
            self._on_gone(key)

    def workflow(self, body: Mapping[str, Any]) -> None:
        """A live Workflow was created, changed, or listed."""
        view = workflows.view(body)
        if view.finished:
            self.workflow_gone(view.key)
        elif self._stores.workflows.put(view, self._clock.now()):
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
        concerned = self._stores.requests.in_namespace(namespace)
        for key in concerned:
            if len(concerned) <= _CATCH_UP_RATE:
                self._look(key)
            elif self._listed is None:
                self._queue.add_after(key, catch_up_delay(len(concerned), self._clock.random()))

    def breaker(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """A breaker was written, by us or by somebody else.

        Whom it holds looks at it anew, except where only probes were claimed: that changes nothing
        for the others.
        """
        self._stores.breakers.learn(namespace, stage, breaker, version)
        if breaker.state is not BreakerState.HALF_OPEN or not breaker.probes:
            self._release(namespace, stage)

    def breaker_gone(self, namespace: str, stage: str) -> None:
        """A breaker was deleted, which resets it."""
        self._stores.breakers.remove(namespace, stage)
        self._release(namespace, stage)

    def _look(self, key: Key) -> None:
        """Has a request looked at as soon as possible, unless `start` is still to choose when."""
        if self._listed is None or key not in self._listed:
            self._queue.add(key)

    def _needs_read(self, key: Key, request: Outline) -> bool:
        """Whether a request that was looked at before this start will ask the API server again.

        Not if it waits and a workflow that it may mean is there: the stores then tell enough. What
        had failed or was held back will.
        """
        if request.outcome is not Outcome.WAITING or request.task is None:
            return True
        return not self._stores.workflows.matching(
            key.namespace, name=request.workflow, task=request.task
        )

    def _wake(self, view: workflows.WorkflowView) -> None:
        for key in self._stores.requests.waiting_for(view, self._stores.workflows.task_labels):
            self._look(key)

    def _release(self, namespace: str, stage: str) -> None:
        """Lets the requests that a breaker holds look at it again, one after the other."""
        turn = 0
        for key in self._stores.requests.in_namespace(namespace):
            request = self._stores.requests.outline(key)
            if (
                request is not None
                and request.outcome is Outcome.CIRCUIT_OPEN
                and request.stage == stage
                and self._listed is None
            ):
                self._queue.add_after(key, turn * _RELEASE_INTERVAL)
                turn += 1


def catch_up_delay(count: int, unit_random: float) -> float:
    """After how many seconds one of so many requests that need a read is looked at (full jitter).

    Args:
        count: How many they are.
        unit_random: A drawn number in [0, 1).
    """
    return unit_random * min(_CATCH_UP_LONGEST, count / _CATCH_UP_RATE)
