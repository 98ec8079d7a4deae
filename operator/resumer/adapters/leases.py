"""The record of who leads, as a Lease of coordination.k8s.io; and where and as whom to write it.

`resumer.core.leadership` says what is written when. The official client has a leader election of
its own (`kubernetes.aio.leaderelection`), which is not used: it measures on the clock on the wall,
so that a clock that is set makes two leaders or none; a connection that breaks ends it, and a call
that hangs holds it up beyond its deadline; and it never releases the lease.
"""

from __future__ import annotations

import os
import pathlib
import socket
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from resumer import errors
from resumer.adapters import kube
from resumer.core.leadership import Record

_API_VERSION: Final = "coordination.k8s.io/v1"
_PLURAL: Final = "leases"
_OWN_NAMESPACE: Final = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_POD_NAME: Final = "POD_NAME"


class KubeLeases:
    """Implements `resumer.ports.Leases` on one Lease."""

    def __init__(self, client: kube.KubeClient, namespace: str, name: str) -> None:
        """Reads nothing yet.

        Args:
            client: Makes the calls; it should time out well before a leader has to renew.
            namespace: Of the Lease.
            name: Of the Lease.
        """
        self._client = client
        self._namespace = namespace
        self._name = name
        self._body: Mapping[str, Any] = {}
        """As it was last read or written: what is not ours stays as it is."""

    async def read(self) -> Record | None:
        """The record as it is now, or None where there is none.

        Raises:
            TransientError: No answer, or one that may be better later.
            PermanentError: Refused.
        """
        try:
            self._body = await self._client.get(self._path(self._name))
        except errors.NotFoundError:
            self._body = {}
            return None
        return _parse(self._body)

    async def write(self, record: Record) -> Record:
        """Stores the record if its version is still the given one; "" creates it.

        Returns:
            The record as it is stored, with its new version.

        Raises:
            PreconditionError: Somebody else wrote, created or deleted it: read again.
            NotFoundError: The namespace is gone.
            TransientError: It may have been stored, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        if not record.version:
            fresh = {
                "apiVersion": _API_VERSION,
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": _spec(record),
            }
            self._body = await self._client.create(self._path(), fresh)
            return _parse(self._body)
        metadata = {**(self._body.get("metadata") or {}), "resourceVersion": record.version}
        changed = {
            **self._body,
            "metadata": metadata,
            "spec": {**(self._body.get("spec") or {}), **_spec(record)},
        }
        # The API server creates a Lease that is not there, unless a uid says which one is meant.
        self._body = await self._client.replace(self._path(self._name), changed)
        return _parse(self._body)

    def _path(self, name: str = "") -> kube.Path:
        return kube.path(_API_VERSION, _PLURAL, self._namespace, name)


def identity() -> str:
    """A name for this process that no other one has, and that tells a person which pod it is in."""
    return f"{os.environ.get(_POD_NAME) or socket.gethostname()}_{uuid.uuid4()}"


def own_namespace(file: pathlib.Path = _OWN_NAMESPACE) -> str:
    """The namespace of the pod that this process runs in.

    Args:
        file: Where the kubelet writes it.

    Raises:
        SettingsError: There is none, as this is no pod with a service account.
    """
    try:
        return file.read_text().strip()
    except OSError as error:
        raise errors.SettingsError(
            "leader_elect_namespace",
            f"has to be given outside of a pod: {file} cannot be read ({error.strerror})",
        ) from error


def _spec(record: Record) -> dict[str, Any]:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": _stamp(record.acquired),
        "renewTime": _stamp(record.renewed),
        "leaseTransitions": record.transitions,
    }


def _parse(body: Mapping[str, Any]) -> Record:
    spec = body.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        seconds=spec.get("leaseDurationSeconds") or 0,
        acquired=_moment(spec.get("acquireTime")),
        renewed=_moment(spec.get("renewTime")),
        transitions=spec.get("leaseTransitions") or 0,
        version=body["metadata"]["resourceVersion"],
    )


def _stamp(moment: datetime | None) -> str | None:
    """A MicroTime, always with six digits: other readers of Leases insist on them."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _moment(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None
