"""What is known about one request, put together for a decision: from the stores, or read afresh.

A fresh look costs one call: the named workflow, or those with the task's label, live and finished
(one call more for each further task label that the policies of the namespace use).
"""

from __future__ import annotations

from collections.abc import Sequence

from resumer import ports
from resumer.api.resume import WorkflowResume
from resumer.core import policies, workflows
from resumer.core.keys import Key
from resumer.core.observation import Observation
from resumer.services.stores import Stores


class Gatherer:
    """Makes observations."""

    def __init__(self, stores: Stores, reader: ports.Workflows) -> None:
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
        bodies = await self._read(namespace, request, known)
        views = tuple(workflows.view(body, unpack=True) for body in bodies)
        by_uid = {view.uid: body for view, body in zip(views, bodies, strict=True)}
        return Observation(request, known, views, fresh=True, bodies=by_uid, breakers=breakers)

    async def _read(
        self, namespace: str, request: WorkflowResume, known: Sequence[policies.Policy]
    ) -> Sequence[ports.Body]:
        """The workflows that the request can mean, as they are now."""
        if request.spec.workflow_name:
            body = await self._reader.read(Key(namespace, request.spec.workflow_name))
            return [body] if body is not None else []
        labels = {policy.task_label for policy in (*known, policies.BUILT_IN)}
        if request.spec.policy_name:
            labels = {
                policy.task_label for policy in known if policy.name == request.spec.policy_name
            }
        task = request.spec.correlation_data.task_id
        found = {}
        for label in sorted(labels):
            for body in await self._reader.find(namespace, label, task):
                found[body["metadata"]["name"]] = body
        return list(found.values())
