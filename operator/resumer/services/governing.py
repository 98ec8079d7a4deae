"""Policies coming into force: resolved, kept while the next version is invalid, and told so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from resumer import errors, ports
from resumer.api import conditions
from resumer.api.policy import PolicyStatus, WorkflowResumePolicy
from resumer.core import policies
from resumer.core.keys import Key
from resumer.services.intake import Intake
from resumer.services.stores import PolicyStore

_log = structlog.get_logger(__name__)


class Governor:
    """Puts policies in force, live; the only writer of their status."""

    def __init__(
        self, store: PolicyStore, intake: Intake, writer: ports.Policies, clock: ports.Clock
    ) -> None:
        self._store = store
        self._intake = intake
        self._writer = writer
        self._clock = clock

    async def policy(self, key: Key, body: Mapping[str, Any]) -> None:
        """A policy was created, changed, or listed."""
        problem = ""
        try:
            parsed = WorkflowResumePolicy.from_json(body)
            created = str(body.get("metadata", {}).get("creationTimestamp") or "")
            resolved = policies.resolve(key.name, created, parsed.spec)
        except errors.InvalidError as error:
            problem = f"{error}; " + (
                "the last valid version stays in force"
                if self._store.get(key)
                else "the policy is not in force"
            )
        else:
            if self._store.put(key, resolved):
                self._intake.policies_changed(key.namespace)
        await self._record(key, body, problem)

    def gone(self, key: Key) -> None:
        """A policy was deleted."""
        self._store.remove(key)
        self._intake.policies_changed(key.namespace)

    async def _record(self, key: Key, body: Mapping[str, Any], problem: str) -> None:
        metadata = body.get("metadata", {})
        before = PolicyStatus.from_json(body.get("status") or {})
        after = PolicyStatus(
            observed_generation=metadata.get("generation", 0),
            conditions=conditions.of_policy(
                before.conditions,
                problem=problem,
                generation=metadata.get("generation", 0),
                now=self._clock.now(),
            ),
        )
        if after == before:
            return
        if problem:
            _log.warning(
                "policy not valid", namespace=key.namespace, policy=key.name, problem=problem
            )
        try:
            await self._writer.write_status(key, metadata.get("uid", ""), after.to_json())
        except errors.ApiError as error:
            # The policy is in force all the same; its status is told again with the next change
            # or relist.
            _log.warning(
                "policy status not written",
                namespace=key.namespace,
                policy=key.name,
                error=str(error),
            )
