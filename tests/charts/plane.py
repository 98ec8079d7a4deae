"""A control plane to install into: who its users are, and what its pods come to.

Deployments and ReplicaSets are worked on by Kubernetes' own controllers. There is no kubelet: a
`Kubelet` plays it, and says of each pod that it is ready.
"""

from __future__ import annotations

import contextlib
import pathlib
import secrets
import threading
from collections.abc import Sequence

import urllib3

from tests.charts import people
from tests.charts.charts import Json
from tests.controlplane import client, components, launcher

_CONTROLLERS = (
    "deployment-controller",
    "disruption-controller",
    # Else the pods of a Deployment that is deleted stay.
    "garbage-collector-controller",
    "replicaset-controller",
)
_POLL = 0.2


class Plane:
    """A running control plane with an audit log and Argo, but without the kinds of Resumer.

    Attributes:
        cluster: an administrator's view
        audit_log: one JSON object for each request that was answered
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        more = {components.CONTROLLER_MANAGER.name: [f"--controllers={','.join(_CONTROLLERS)}"]}
        self._plane = self._stack.enter_context(
            launcher.start(crds="minimal", audit=True, crd_folders=(), extra_args=more)
        )
        assert self._plane.audit_log is not None
        self.audit_log = self._plane.audit_log
        self.kubeconfig = self._plane.kubeconfig
        self.cluster = self._stack.enter_context(
            contextlib.closing(client.Cluster(self.kubeconfig))
        )

    def close(self) -> None:
        """Stops it."""
        self._stack.close()

    def namespace(self, prefix: str = "install") -> str:
        """A new namespace."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def apply(self, objects: Sequence[Json], namespace: str) -> None:
        """Applies objects; definitions of kinds are awaited before the rest."""
        kinds = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
        if kinds:
            self.cluster.establish(kinds)
        for one in objects:
            if one["kind"] != "CustomResourceDefinition":
                self.cluster.apply(one, namespace)

    def account(self, namespace: str, name: str) -> pathlib.Path:
        """A kubeconfig with the token that a pod of this ServiceAccount would have."""
        return people.account_kubeconfig(self.cluster, namespace, name, self._folder)


class Kubelet:
    """Says of every pod that it runs and is ready, as long as its block lasts."""

    def __init__(self, cluster: client.Cluster) -> None:
        self._cluster = cluster
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_POLL):
            # A pod that has gone, an answer that was late: the next round sees what is there then.
            with contextlib.suppress(client.ApiError, urllib3.exceptions.HTTPError, OSError):
                self._round()

    def _round(self) -> None:
        for pod in self._cluster.list_all("v1/Pod"):
            if pod["status"].get("phase") == "Pending":
                # It may have been deleted meanwhile; the others are ready all the same.
                with contextlib.suppress(client.ApiError):
                    say_ready(self._cluster, pod)


def say_ready(cluster: client.Cluster, pod: Json) -> None:
    """Writes what a kubelet writes of a pod that is ready.

    Raises:
        client.ApiError: as it is, the pod may be gone
    """
    metadata = pod["metadata"]
    now = metadata["creationTimestamp"]
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ]
    status = {"phase": "Running", "startTime": now, "conditions": conditions}
    cluster.patch(
        "v1/Pod",
        metadata["name"],
        metadata["namespace"],
        {"status": status},
        subresource="status",
    )
