"""What comes in from the watches: into the stores, and on to whoever it concerns.

Handlers call these methods with what kopf gives them, one for each kind; nothing here waits. A
change of a workflow wakes the requests of its task, a change of a policy those of its namespace.

A breaker that lets attempts through again, by its time or by a change, lets go whom it held: the
oldest first, one after the other. A change of its workflow still brings a single one forward.

Until `start` the stores are filled and nothing is looked at: the first lists come in, or this
process stands by for another one that leads.

Catching up after a start: thousands of requests may wait for workflows that do not exist, and each
of them costs a LIST to be sure of that. New requests go first, then those whose workflow is known,
once all workflows that were listed are read, and whenever nothing new is to be done. The others are
spread over some seconds with full jitter, so that neither the API server nor what happens meanwhile
suffers. Those that a breaker held keep their order and their distances, also after a start.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from resumer import ports
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome
from resumer.core import workflows
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.services import requeststore
from resumer.services.queue import KeyedQueue
from resumer.services.requeststore import Outline
from resumer.services.stores import Stores

RELEASE_INTERVAL = 0.02
"""Seconds between two requests that a breaker lets go."""
_RELEASE_MARGIN = 0.05
"""Seconds after its time at which a breaker lets go: clocks do not run alike to the millisecond."""
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
        on_gone: Callable[[Key], bool] | None = None,
    ) -> None:
        """Takes nothing in yet.

        Args:
            stores: Where it goes.
            queue: Who is woken.
            clock: The time, and chance.
            on_gone: Is told of each request that is gone; True: it is to be looked at once more.
        """
        self._stores = stores
        self._on_gone = on_gone
        self._queue = queue
        self._clock = clock
        self._started = False
        self._held: dict[Key, None] = {}
        """Requests whose workflow was listed and is not read, or was not while others were not."""
        self._releases: dict[tuple[str, str], asyncio.TimerHandle] = {}
        """When breakers let go by their time, by namespace and stage."""
        stores.breakers.listen(self._breaker_changed)

    def start(self) -> None:
        """The first lists are in, and it is our turn: looks at all there is, spreads the reads.

        Until then nothing is queued: a process may stand by for weeks.
        """
        self._started = True
        reading = []
        held = defaultdict[tuple[str, str], list[tuple[Key, Outline]]](list)
        for key in self._stores.requests:
            request = self._stores.requests.outline(key)
            if request is None or request.outcome is None:
                self._queue.add(key)
            elif request.outcome is Outcome.CIRCUIT_OPEN:
                held[key.namespace, request.stage].append((key, request))
            elif (known := self._workflows_of(key, request)) is None:
                reading.append(key)
            elif all(workflow.read for workflow in known):
                self._queue.add_behind(key)
            else:
                self._hold(key)
        for key in reading:
            self._queue.add_after(key, catch_up_delay(len(reading), self._clock.random()))
        total = sum(map(len, held.values()))
        for items in held.values():
            items.sort(key=lambda item: item[1].age)
            # Each stage at its own pace; many of them do not begin in the same moment.
            begin = catch_up_delay(total - len(items), self._clock.random())
            self._let_go((key for key, _ in items), begin)
        self._queue.start()

    def request(self, body: Mapping[str, Any]) -> None:
        """A WorkflowResume was created, changed, or listed."""
        if requeststore.is_withdrawn(body):
            self.request_gone(Key.of(body))
            return
        key = self._stores.requests.put(body, self._clock.now())
        if key is None:
            return
        self._look(key)

    def request_gone(self, key: Key) -> None:
        """A WorkflowResume was deleted, is being deleted, or has finished and left the watch."""
        self._stores.requests.remove(key)
        self._queue.forget(key)
        if self._on_gone is not None and self._on_gone(key):
            self._look(key)

    def workflow_listed(self, metadata: Mapping[str, Any]) -> bool:
        """A list shows the metadata of a live Workflow; returns whether to read the whole of it."""
        outline = workflows.outline(metadata)
        if outline.finished:
            self.workflow_gone(outline.key)
            return False
        return self._stores.workflows.expect(outline)

    def workflow(self, body: Mapping[str, Any]) -> None:
        """A live Workflow was created, changed, or read after it was listed."""
        view = workflows.view(body)
        if view.finished:
            self.workflow_gone(view.key)
            return
        known = self._stores.workflows.get(view.key)
        if self._stores.workflows.put(view, self._clock.now()):
            self._wake(view, at_once=known is None or known.read)
            if known is not None and known.labels != view.labels:
                self._wake(known, at_once=known.read)
        self._release_held()

    def workflow_gone(self, key: Key) -> None:
        """A Workflow was deleted, or has finished and left the watch."""
        view = self._stores.workflows.remove(key)
        if view is not None:
            self._wake(view)
        self._release_held()

    def policies_changed(self, namespace: str) -> None:
        """A policy of the namespace came into force, changed or went."""
        for policy in self._stores.policies.of(namespace):
            self._stores.workflows.use_task_label(policy.task_label)
        concerned = self._stores.requests.in_namespace(namespace)
        for key in concerned:
            if len(concerned) <= _CATCH_UP_RATE:
                self._look(key)
            elif self._started:
                self._queue.add_after(key, catch_up_delay(len(concerned), self._clock.random()))

    def breaker(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """A breaker was written, by us or by somebody else."""
        self._stores.breakers.learn(namespace, stage, breaker, version)

    def breaker_gone(self, namespace: str, stage: str, version: str) -> None:
        """A breaker was deleted, which resets it; the version is that of its end."""
        self._stores.breakers.remove(namespace, stage, version)

    def _look(self, key: Key) -> None:
        """Has a request looked at as soon as possible, unless `start` is still to choose when."""
        if self._started:
            self._queue.add(key)

    def _workflows_of(
        self, key: Key, request: Outline
    ) -> tuple[workflows.WorkflowView, ...] | None:
        """Those that a request may mean that was looked at before this start, if they tell enough.

        None: it will ask the API server again, as no workflow is known that it waits for, or as it
        had failed or was held back.
        """
        if request.outcome is not Outcome.WAITING or request.task is None:
            return None
        known = self._stores.workflows.matching(
            key.namespace, name=request.workflow, task=request.task
        )
        return known or None

    def _wake(self, view: workflows.WorkflowView, *, at_once: bool = True) -> None:
        for key in self._stores.requests.waiting_for(view, self._stores.workflows.task_labels):
            if at_once:
                self._held.pop(key, None)
                self._look(key)
            elif self._started:
                self._hold(key)

    def _hold(self, key: Key) -> None:
        """Has a request looked at by `_release_held`, once all listed workflows are read.

        At the latest in two minutes: it may be that one of them can never be read. Who is held by
        a breaker has its turn elsewhere.
        """
        if not self._is_held_by_breaker(key):
            self._held[key] = None
        self._queue.add_after(key, _CATCH_UP_LONGEST * (1 + self._clock.random()))

    def _release_held(self) -> None:
        """Lets those who wait for workflows that were listed come, once all of these are read.

        Not before: what they write would stand in the way of reading, and of what is new.
        """
        if self._held and not self._stores.workflows.unread:
            held, self._held = self._held, {}
            for key in held:
                if key in self._stores.requests:
                    self._queue.add_behind(key)

    def _breaker_changed(
        self, namespace: str, stage: str, before: Breaker | None, after: Breaker | None
    ) -> None:
        """Plans when those whom a breaker holds look at it again."""
        timer = self._releases.pop((namespace, stage), None)
        if timer is not None:
            timer.cancel()
        if _lets_go(before or Breaker(), after or Breaker()):
            self._release(namespace, stage)
        due = after.changes_at if after else None
        if due is not None:
            seconds = max(0.0, (due - self._clock.now()).total_seconds()) + _RELEASE_MARGIN
            self._releases[namespace, stage] = asyncio.get_running_loop().call_later(
                seconds, self._release, namespace, stage
            )

    def _release(self, namespace: str, stage: str) -> None:
        """Lets the requests that a breaker holds look at it again, one after the other."""
        if self._started:
            self._let_go(
                key
                for key in self._stores.requests.in_namespace(namespace)
                if self._is_held_by_breaker(key, stage)
            )

    def _let_go(self, keys: Iterable[Key], begin: float = 0.0) -> None:
        """Has requests that a breaker held looked at, one after the other in this order.

        Whatever was planned for them: a probe that takes its time has sent some of them back.

        Args:
            keys: The requests.
            begin: In how many seconds the first one.
        """
        for turn, key in enumerate(keys):
            self._queue.plan(key, begin + turn * RELEASE_INTERVAL)

    def _is_held_by_breaker(self, key: Key, stage: str | None = None) -> bool:
        """Whether the last look found the breaker open: that of this stage, or any."""
        request = self._stores.requests.outline(key)
        return (
            request is not None
            and request.outcome is Outcome.CIRCUIT_OPEN
            and stage in (None, request.stage)
        )


def _lets_go(before: Breaker, after: Breaker) -> bool:
    """Whether a change lets somebody through who was held: it closed, or a probe's place is free.

    A stage that is well changes at each failure that is counted, and holds nobody.
    """
    if after.state is BreakerState.HALF_OPEN:
        return len(after.probes) < len(before.probes)
    return after.state is BreakerState.CLOSED and before.state is not BreakerState.CLOSED


def catch_up_delay(count: int, unit_random: float) -> float:
    """After how many seconds one of so many requests that need a read is looked at (full jitter).

    Args:
        count: How many they are.
        unit_random: A drawn number in [0, 1).
    """
    return unit_random * min(_CATCH_UP_LONGEST, count / _CATCH_UP_RATE)
