"""Writes to WorkflowResume objects: their status, and their deletion when their time is over."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any

from resumer import errors, ports
from resumer.adapters import kube, statuses
from resumer.api import constants, outcomes
from resumer.core.keys import Key

_FINISHED = (outcomes.Phase.SUCCEEDED, outcomes.Phase.FAILED)


class KubeRequests:
    """Implements `resumer.ports.Requests` on the Kubernetes API."""

    def __init__(
        self, client: kube.KubeClient, namespaces: tuple[str, ...], labels: str = ""
    ) -> None:
        """Writes nothing yet.

        Args:
            client: Makes the calls.
            namespaces: Where `finished` looks; none means everywhere.
            labels: A label selector for what `finished` finds; "" for all.
        """
        self._client = client
        self._namespaces = namespaces or ("",)
        self._labels = {"labelSelector": labels} if labels else {}

    async def write_status(
        self, key: Key, uid: str, before: str | None, status: Mapping[str, Any]
    ) -> ports.Body:
        """Replaces the whole status of exactly this WorkflowResume and returns the new object.

        Args:
            key: The object.
            uid: Its uid.
            before: The outcome that its status must still have; None: it must have none yet.
            status: The status as it shall be.

        Raises:
            NotFoundError: The object is gone.
            PreconditionError: It was recreated, or somebody else decided on it meanwhile.
            TransientError: It may have been written, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        replace = functools.partial(
            statuses.replace, self._client, constants.RESUME_PLURAL, key, uid, status
        )
        try:
            return await replace(guard=[statuses.still(before)])
        except errors.PreconditionError:
            if before is not None:
                raise
        # Definitions older than this give a new request no status to hold an outcome.
        return await replace(guard=[statuses.NO_STATUS])

    async def delete(self, key: Key, uid: str, resource_version: str) -> None:
        """Deletes exactly this version of this WorkflowResume; gone already is success.

        Raises:
            PreconditionError: It was changed since that version.
            TransientError: It may have been deleted.
            PermanentError: Refused, now and later.
        """
        at = _path(key.namespace, key.name)
        try:
            await self._client.delete(at, uid=uid, resource_version=resource_version)
        except errors.NotFoundError:
            return

    async def finished(self) -> AsyncIterator[ports.Body]:
        """All WorkflowResumes with a terminal outcome, page by page, in the watched namespaces.

        Raises:
            PreconditionError: One list took longer than the API server keeps its moment (about
                five minutes); start again.
            TransientError: No answer, or one that may be better later.
            PermanentError: Refused.
        """
        for namespace in self._namespaces:
            for phase in _FINISHED:
                selector = {**self._labels, "fieldSelector": f"status.phase={phase}"}
                async for page in self._client.pages(_path(namespace), params=selector):
                    for body in page:
                        yield body


def _path(namespace: str, name: str = "", *, subresource: str = "") -> kube.Path:
    return kube.path(constants.API_VERSION, constants.RESUME_PLURAL, namespace, name, subresource)
