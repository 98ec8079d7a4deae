"""What would be decided about a request now, and why; nothing is written.

It looks at the same things as a reconcile, all read afresh, and asks the same chain. What it cannot
know is what only a running operator has in memory: attempts that are not recorded yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resumer import errors, ports
from resumer.api.resume import WorkflowResume
from resumer.core import bulk, decision
from resumer.core.decision import Step
from resumer.core.keys import Key
from resumer.core.observation import Decision
from resumer.services import governing, requeststore
from resumer.services.circuits import BreakerStore
from resumer.services.gathering import Gatherer
from resumer.services.requeststore import RequestStore
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision, and the way to it."""

    request: WorkflowResume
    decision: Decision
    steps: tuple[Step, ...]
    invalid_policies: tuple[str, ...]
    """Policies whose newest version is not in force: what is wrong, and what is used instead."""


@dataclass(frozen=True, slots=True)
class Known:
    """The policies and the breakers of a namespace, as they are now."""

    stores: Stores
    invalid_policies: tuple[str, ...]


class Explainer:
    """Explains requests, stored or only written down."""

    def __init__(
        self, reader: ports.Reader, workflows: ports.WorkflowReader, clock: ports.Clock
    ) -> None:
        self._reader = reader
        self._workflows = workflows
        self._clock = clock

    async def stored(self, key: Key) -> Explanation:
        """Explains a request in the cluster.

        Raises:
            NotFoundError: There is none of this name, or it is being deleted.
            InvalidError: It is not what its schema says, or its event is too large.
            ApiError: A read failed.
        """
        body = await self._reader.request(key)
        if body is None:
            raise errors.NotFoundError(f"there is no WorkflowResume {key}", status=404)
        if requeststore.is_withdrawn(body):
            raise errors.NotFoundError(
                f"WorkflowResume {key} is being deleted (metadata.deletionTimestamp): it opens"
                " nothing any more",
                status=404,
            )
        return await self._explain(body, None)

    async def written(
        self, manifest: Mapping[str, Any], namespace: str, known: Known | None = None
    ) -> Explanation:
        """Explains a request as if it were created now.

        Args:
            manifest: The manifest.
            namespace: Where it would be created, if it does not say.
            known: Of that namespace, where it was read already.

        Raises:
            InvalidError: It is not what its schema says, or its event is too large.
            ApiError: A read failed.
        """
        given = manifest.get("metadata")
        metadata = {
            "namespace": namespace,
            **(given if isinstance(given, Mapping) else {}),
            "creationTimestamp": self._clock.now().isoformat(),
        }
        return await self._explain({**manifest, "metadata": metadata, "status": {}}, known)

    async def known(self, namespace: str) -> Known:
        """Reads the policies and the breakers of a namespace.

        Raises:
            ApiError: A read failed.
        """
        stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
        problems = []
        for policy in await self._reader.policies(namespace):
            name, found = policy["metadata"]["name"], governing.in_force(policy)
            if found.policy is not None:
                stores.policies.put(Key(namespace, name), found.policy)
            if found.problem:
                problems.append(f"{name}: {found.problem}")
        for home, stage, breaker, version in await self._reader.breakers(namespace):
            stores.breakers.put(home, stage, breaker, version)
        return Known(stores, tuple(problems))

    async def _explain(self, body: Mapping[str, Any], known: Known | None) -> Explanation:
        request = WorkflowResume.from_json(body)
        bulk.refuse_too_large(request)
        namespace = request.metadata.namespace
        known = known or await self.known(namespace)
        seen = await Gatherer(known.stores, self._workflows).observe(namespace, request, fresh=True)
        decided, steps = decision.explain(seen, self._clock.now())
        return Explanation(request, decided, steps, known.invalid_policies)
