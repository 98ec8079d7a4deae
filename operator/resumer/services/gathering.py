"""What is known about one request, put together for a decision: from the stores, or read afresh.

A fresh look costs one call: the named workflow, or those with the task's label, live and finished,
in pages (one call more for each further task label that the policies of the namespace use). Each
page is cut down to views before the next one is asked for. A task of which very many workflows are
kept is not read to its end: of the finished ones only some are looked at, of the live ones all.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog

from resumer import ports
from resumer.api.resume import WorkflowResume
from resumer.core import policies, rules, workflows
from resumer.core.keys import Key
from resumer.core.observation import Observation
from resumer.core.workflows import WorkflowView
from resumer.services.stores import Stores

MOST = 2000
"""Workflows of one task, live and finished, that one look reads; beyond that only the live ones."""

_log = structlog.get_logger(__name__)


class Gatherer:
    """Makes observations."""

    def __init__(self, stores: Stores, reader: ports.WorkflowReader) -> None:
        self._stores = stores
        self._reader = reader

    async def observe(self, namespace: str, request: WorkflowResume, *, fresh: bool) -> Observation:
        """Everything that a decision about a request may see.

        Args:
            namespace: Of the request.
            request: The request.
            fresh: Read the workflows from the API server instead of trusting the watch.

        Raises:
            ApiError: A read failed.
        """
        known = self._stores.policies.of(namespace)
        breakers = self._stores.breakers.of(namespace)
        if not fresh:
            found = self._stores.workflows.matching(
                namespace,
                name=request.spec.workflow_name,
                task=request.spec.correlation_data.task_id,
            )
            return Observation(request, known, found, breakers=breakers)
        views: dict[str, WorkflowView] = {}
        bodies: dict[str, ports.Body] = {}
        needed = any(
            rules.scope(rule) is rules.Scope.WORKFLOW for rule in request.spec.validation_rules
        )
        async for body in self._read(namespace, request, known):
            view = workflows.view(body, unpack=True)
            views[view.uid] = view
            if needed and not view.finished:  # the rules are for workflows that can be resumed
                bodies[view.uid] = body
        return Observation(
            request, known, tuple(views.values()), fresh=True, bodies=bodies, breakers=breakers
        )

    async def _read(
        self, namespace: str, request: WorkflowResume, known: Sequence[policies.Policy]
    ) -> AsyncIterator[ports.Body]:
        """The workflows that the request can mean, as they are now; some may come twice."""
        if request.spec.workflow_name:
            body = await self._reader.read(Key(namespace, request.spec.workflow_name))
            if body is not None:
                yield body
            return
        labels = {policy.task_label for policy in (*known, policies.BUILT_IN)}
        if request.spec.policy_name:
            labels = {
                policy.task_label for policy in known if policy.name == request.spec.policy_name
            }
        task = request.spec.correlation_data.task_id
        for label in sorted(labels):
            async for body in self._of_task(namespace, label, task):
                yield body

    async def _of_task(self, namespace: str, label: str, task: str) -> AsyncIterator[ports.Body]:
        """The workflows with this label."""
        count = 0
        async with contextlib.aclosing(self._reader.find(namespace, label, task)) as pages:
            async for page in pages:
                if count + len(page) > MOST:
                    break
                count += len(page)
                for body in page:
                    yield body
            else:
                return
        _log.warning(
            "too many finished workflows of one task; not all are looked at",
            namespace=namespace,
            label=label,
            task=task,
            looked_at=count,
        )
        async with contextlib.aclosing(
            self._reader.find(namespace, label, task, live=True)
        ) as pages:
            async for page in pages:
                for body in page:
                    yield body
