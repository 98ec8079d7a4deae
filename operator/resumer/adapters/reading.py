"""Reading our own kinds once: for a command without a watch, and for what a watch does not tell."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from resumer import errors, ports
from resumer.adapters import breakers, kube
from resumer.api import constants
from resumer.core.breaker import Breaker
from resumer.core.keys import Key


class KubeReader:
    """Implements `ports.Reader` on the Kubernetes API."""

    def __init__(self, client: kube.KubeClient) -> None:
        self._client = client

    async def request(self, key: Key) -> ports.Body | None:
        """The WorkflowResume as it is now, or None where there is none."""
        at = kube.path(constants.API_VERSION, constants.RESUME_PLURAL, key.namespace, key.name)
        try:
            return await self._client.get(at)
        except errors.NotFoundError:
            return None

    async def policies(self, namespace: str) -> Sequence[ports.Body]:
        """The policies of a namespace, or with ``""`` of all."""
        return await self._all(constants.POLICY_PLURAL, namespace)

    async def breakers(self, namespace: str) -> Sequence[tuple[str, str, Breaker, str]]:
        """The stored breakers of a namespace, or with ``""`` of all.

        Returns:
            Namespace, stage, breaker, version; one that is nobody's is left out.
        """
        found = []
        for body in await self._all(constants.BREAKER_PLURAL, namespace):
            with contextlib.suppress(errors.InvalidError):
                stored = breakers.parse(body)
                home = body["metadata"]["namespace"]
                found.append((home, stored.stage, stored.breaker, stored.version))
        return found

    async def _all(self, plural: str, namespace: str) -> Sequence[ports.Body]:
        pages = self._client.pages(kube.path(constants.API_VERSION, plural, namespace))
        return [body async for page in pages for body in page]
