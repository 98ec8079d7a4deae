"""What the watches have shown, in the smallest form, and who has to be woken by which change.

Stores are plain memory: filled by the handlers, read by the reconciles, rebuilt from nothing at a
start. They can be stale, and an object deleted during a gap of the watch may stay; the decision
therefore never ends a request for good on them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.core.policies import Policy
from resumer.services import stamps
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


class BreakerStore:
    """The circuit breakers that are stored in the cluster, with the version to compare with."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str], tuple[Breaker, str]] = {}

    def get(self, namespace: str, stage: str) -> tuple[Breaker, str] | None:
        """The breaker of a stage, or None while it never failed."""
        return self._breakers.get((namespace, stage))

    def put(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Takes in a breaker."""
        self._breakers[namespace, stage] = (breaker, version)

    def learn(self, namespace: str, stage: str, breaker: Breaker, version: str) -> None:
        """Takes in what the watch shows, unless it is older than what is known.

        An object that was just created has no status yet: it tells the version to go on from, and
        nothing about a failure that could not be written into it.
        """
        known = self.get(namespace, stage)
        if known is None:
            self.put(namespace, stage, breaker, version)
        elif not known[1] and breaker == Breaker():
            self.put(namespace, stage, known[0], version)
        elif stamps.newer(version, known[1]):
            self.put(namespace, stage, breaker, version)

    def remove(self, namespace: str, stage: str) -> None:
        """Resets a breaker whose object was deleted."""
        self._breakers.pop((namespace, stage), None)

    def stored(self) -> dict[tuple[str, str], tuple[Breaker, str]]:
        """By namespace and stage, those that the API server has as well."""
        return {at: item for at, item in self._breakers.items() if item[1]}

    def of(self, namespace: str) -> Mapping[str, Breaker]:
        """The breakers of a namespace by stage."""
        return {
            stage: item[0] for (home, stage), item in self._breakers.items() if home == namespace
        }


@dataclass(frozen=True, slots=True)
class Stores:
    """What is known from the watches."""

    requests: RequestStore
    workflows: WorkflowIndex
    policies: PolicyStore
    breakers: BreakerStore
