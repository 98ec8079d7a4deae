"""What the watches have shown, in the smallest form, and who has to be woken by which change.

Stores are plain memory: filled by the handlers, read by the reconciles, rebuilt from nothing at a
start. They can be stale, and an object deleted during a gap of the watch may stay; the decision
therefore never ends a request for good on them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resumer.core.keys import Key
from resumer.core.policies import Policy
from resumer.services.circuits import BreakerStore
from resumer.services.requeststore import RequestStore
from resumer.services.workflowindex import WorkflowIndex


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


@dataclass(frozen=True, slots=True)
class Stores:
    """What is known from the watches."""

    requests: RequestStore
    workflows: WorkflowIndex
    policies: PolicyStore
    breakers: BreakerStore

    def sizes(self) -> Mapping[str, int]:
        """How many objects are kept, by kind: what grows with what is there."""
        return {
            "workflows": len(self.workflows),
            "unread": self.workflows.unread,
            "requests": len(self.requests),
            "finished": self.requests.remembered,
        }
