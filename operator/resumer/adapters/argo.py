"""Argo's Workflows through the Kubernetes API: reads, the write that resumes, and ending one.

`KubeResumeBackend` is the one place where a Workflow is resumed. It sends one JSON-Patch and asks
for the metadata only in return: the answer is then 1 KiB where the Workflow may have hundreds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from resumer import errors, ports
from resumer.adapters import kube
from resumer.api import constants
from resumer.core import patches
from resumer.core.keys import Key
from resumer.core.observation import ResumeOrder
from resumer.core.workflows import NodeStorage


def instance_selector(instance_id: str) -> str:
    """The label selector for the workflows of one Argo controller; no id: of the one without."""
    label = constants.LABEL_INSTANCE_ID
    return f"{label}={instance_id}" if instance_id else f"!{label}"


def live_selector(instance_id: str) -> str:
    """The label selector for the Workflows of one Argo controller that have not finished."""
    return f"{constants.LABEL_COMPLETED}!=true,{instance_selector(instance_id)}"


class KubeWorkflows:
    """Implements `ports.Workflows`."""

    def __init__(self, client: kube.KubeClient, instance_id: str) -> None:
        """Sees only the Workflows of one Argo controller.

        Args:
            client: The client.
            instance_id: Argo's ``controller-instanceid``, or "".
        """
        self._client = client
        self._instance_id = instance_id

    async def read(self, key: Key) -> ports.Body | None:
        """The Workflow as it is now, or None where there is none that is ours."""
        try:
            body = await self._client.get(_path(key.namespace, key.name))
        except errors.NotFoundError:
            return None
        labels = body.get("metadata", {}).get("labels") or {}
        return body if labels.get(constants.LABEL_INSTANCE_ID, "") == self._instance_id else None

    async def find(
        self, namespace: str, label: str, value: str, *, live: bool = False
    ) -> AsyncGenerator[Sequence[ports.Body], None]:
        """The Workflows of a namespace with this label, live and, unless told, finished."""
        select = live_selector if live else instance_selector
        selector = f"{label}={value},{select(self._instance_id)}"
        pages = self._client.pages(
            _path(namespace), params={"labelSelector": selector}, limit=kube.PAGE_OF_WORKFLOWS
        )
        async for page in pages:
            yield page

    async def terminate(self, key: Key, uid: str) -> None:
        """Sets ``spec.shutdown: Terminate`` on this very Workflow; one that is gone is no error."""
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/spec/shutdown", "value": "Terminate"},
        ]
        try:
            await self._client.patch(
                _path(key.namespace, key.name),
                operations,
                kube.PatchType.JSON,
                accept=kube.Accept.METADATA,
            )
        except (errors.NotFoundError, errors.PreconditionError):
            return


class KubeResumeBackend:
    """Implements `ports.ResumeBackend` by a JSON-Patch on the Workflow."""

    def __init__(self, client: kube.KubeClient) -> None:
        self._client = client

    async def resume(self, order: ResumeOrder) -> None:
        """Opens exactly the gates of the order, atomically, or nothing."""
        at = _path(order.key.namespace, order.key.name)
        if order.storage is NodeStorage.COMPRESSED:
            try:
                operations = patches.for_compressed_nodes(order, await self._client.get(at))
            except errors.MalformedWorkflowError as error:
                # It was well when it was decided on: look again, and say what is wrong now.
                raise errors.PreconditionError(str(error), reason="Malformed") from error
        else:
            operations = patches.for_plain_nodes(order)
        await self._client.patch(at, operations, kube.PatchType.JSON, accept=kube.Accept.METADATA)


def _path(namespace: str, name: str = "") -> kube.Path:
    return kube.path(constants.API_VERSION, constants.WORKFLOW_PLURAL, namespace, name)
