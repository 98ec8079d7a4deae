"""WorkflowResumePolicy objects: telling whether they are valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resumer import ports
from resumer.adapters import kube, statuses
from resumer.api import constants
from resumer.core.keys import Key


class KubePolicies:
    """Implements `ports.Policies` on the Kubernetes API."""

    def __init__(self, client: kube.KubeClient) -> None:
        self._client = client

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> ports.Body:
        """Replaces the whole status of exactly this policy and returns the new object."""
        return await statuses.replace(self._client, constants.POLICY_PLURAL, key, uid, status)
