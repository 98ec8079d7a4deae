"""Objects out of files where otherwise the cluster is read: to decide as if they were there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from resumer import ports
from resumer.core.breaker import Breaker
from resumer.core.keys import Key


class SavedPolicies:
    """Implements `ports.Reader`: these policies, no requests, and every breaker closed."""

    def __init__(self, policies: Sequence[ports.Body]) -> None:
        self._policies = policies

    async def request(self, key: Key) -> ports.Body | None:
        """None: only policies were saved."""
        del key
        return None

    async def policies(self, namespace: str) -> Sequence[ports.Body]:
        """All of them, wherever they come from."""
        del namespace
        return self._policies

    async def breakers(self, namespace: str) -> Sequence[tuple[str, str, Breaker, str]]:
        """Those that are not closed: none."""
        del namespace
        return ()


class SavedWorkflows:
    """Implements `ports.WorkflowReader`: these Workflows, whichever Argo controller is theirs."""

    def __init__(self, workflows: Sequence[ports.Body]) -> None:
        self._workflows = workflows

    async def read(self, key: Key) -> ports.Body | None:
        """The one of this name."""
        named = (one for one in self._workflows if one["metadata"].get("name") == key.name)
        return next(named, None)

    async def find(
        self, namespace: str, label: str, value: str, *, live: bool = False
    ) -> AsyncGenerator[Sequence[ports.Body], None]:
        """Those with this label; there are never so many that only the live ones are asked for."""
        del namespace, live
        yield [
            one
            for one in self._workflows
            if (one["metadata"].get("labels") or {}).get(label) == value
        ]
