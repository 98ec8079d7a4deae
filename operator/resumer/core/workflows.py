"""What Resumer needs to know of a Workflow, cut out of the untrusted JSON once and frozen.

A Workflow of 50 nodes is some 30 KiB of JSON and six times that in memory; the view keeps its
labels, its Suspend nodes (`suspended`) and our markers (`markers`), a few hundred bytes. Nothing
here trusts the object: under Argo's minimal CRDs every field can hold any JSON, so a wrong type
reads as absence (`untrusted`), and what makes a safe resume impossible is named in ``problem``.

What a finished workflow is says argo-workflows: the ``completed`` label, set in the same write as
the final phase.
"""

from __future__ import annotations

import dataclasses
import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resumer.api import constants
from resumer.core import markers, packing, suspended, untrusted
from resumer.core.keys import Key
from resumer.core.markers import Marker
from resumer.core.suspended import Gate
from resumer.errors import MalformedWorkflowError

FINISHED_PHASES = frozenset({"Succeeded", "Failed", "Error"})

STOP, TERMINATE = "Stop", "Terminate"
"""What ``spec.shutdown`` can say: end all but the exit handlers, or all."""

_EXIT_HANDLER = ".onExit"
"""In the names of the nodes of exit handlers (``GenerateOnExitNodeName``); no other name has it."""


class NodeStorage(enum.StrEnum):
    """Where a Workflow keeps its node status."""

    PLAIN = "Plain"
    """In ``status.nodes``."""
    COMPRESSED = "Compressed"
    """In ``status.compressedNodes``; the view has gates only if they were unpacked."""
    OFFLOADED = "Offloaded"
    """In the SQL database of Argo's controller: out of reach of the Kubernetes API."""


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """A Workflow as correlation and decision see it."""

    key: Key
    uid: str
    resource_version: str
    created: str
    """RFC3339 to the second, so that text order is time order."""
    labels: Mapping[str, str]
    phase: str
    finished: bool
    suspended: bool
    """``spec.suspend`` is true."""
    shutdown: str | None
    """``spec.shutdown``: `STOP`, `TERMINATE`; None where it is not there."""
    storage: NodeStorage
    unpacked: bool
    """True if the gates are known: with plain node status always, with compressed if unpacked."""
    gates: tuple[Gate, ...]
    markers: Mapping[str, Marker]
    """By annotation key; only those made for this very Workflow."""
    has_annotations: bool
    has_labels: bool
    has_outputs: bool
    """There is a ``status.outputs``."""
    exported: tuple[str, ...] | None
    """The names in ``status.outputs.parameters`` in their order; None: there is no such list."""
    packed: int = 0
    """A checksum of compressed node status: it tells that gates changed which are not unpacked."""
    problem: str = ""
    """Why the Workflow cannot be resumed safely, or empty."""
    read: bool = True
    """False: only its metadata is known, see `outline`."""

    @property
    def terminated(self) -> bool:
        """True if Argo is to end it at once: no gate of it leads anywhere any more."""
        return self.shutdown == TERMINATE

    def leads_on(self, gate: Gate) -> bool:
        """True unless the workflow is being shut down and Argo will fail this gate.

        Exit handlers run to their end when a workflow is stopped (``ShouldExecute``,
        workflow_types.go).
        """
        if self.shutdown == STOP:
            return _EXIT_HANDLER in gate.name
        return not self.terminated

    def gate(self, node_id: str) -> Gate | None:
        """The gate with this node id."""
        return next((gate for gate in self.gates if gate.id == node_id), None)


def view(body: Mapping[str, Any], *, unpack: bool = False) -> WorkflowView:
    """Cuts a view out of a Workflow.

    Args:
        body: The object as the API server gave it.
        unpack: Also decode compressed node status, which costs some milliseconds for each MiB.
    """
    metadata, status = (
        untrusted.mapping(body.get("metadata")),
        untrusted.mapping(body.get("status")),
    )
    uid = untrusted.text(metadata.get("uid"))
    labels, annotations = (
        untrusted.strings(metadata.get("labels")),
        untrusted.mapping(metadata.get("annotations")),
    )
    phase = untrusted.text(status.get("phase"))
    storage = _storage(status)
    outputs = status.get("outputs")
    shutdown = untrusted.mapping(body.get("spec")).get("shutdown")
    gates: tuple[Gate, ...] = ()
    problem = ""
    unpacked = storage is NodeStorage.PLAIN or (unpack and storage is NodeStorage.COMPRESSED)
    try:
        _require_outputs(outputs)
        if shutdown is not None and not isinstance(shutdown, str):
            raise MalformedWorkflowError(f"spec.shutdown is {untrusted.kind(shutdown)}, not text")
        if unpacked:
            gates = tuple(suspended.gates(body, nodes(body)))
    except MalformedWorkflowError as error:
        problem = str(error)
    return WorkflowView(
        key=Key(untrusted.text(metadata.get("namespace")), untrusted.text(metadata.get("name"))),
        uid=uid,
        resource_version=untrusted.text(metadata.get("resourceVersion")),
        created=untrusted.text(metadata.get("creationTimestamp")),
        labels=labels,
        phase=phase,
        finished=labels.get(constants.LABEL_COMPLETED) == "true" or phase in FINISHED_PHASES,
        suspended=untrusted.mapping(body.get("spec")).get("suspend") is True,
        shutdown=shutdown if isinstance(shutdown, str) else None,
        storage=storage,
        packed=zlib.crc32(untrusted.text(status.get("compressedNodes")).encode(errors="replace")),
        unpacked=unpacked,
        gates=gates,
        markers=dict(markers.found(annotations, uid)),
        has_annotations=bool(annotations),
        has_labels=bool(labels),
        has_outputs=outputs is not None,
        exported=_names(untrusted.mapping(outputs).get("parameters")),
        problem=problem,
    )


def outline(metadata: Mapping[str, Any]) -> WorkflowView:
    """A view of a Workflow of which only the metadata is known: it says what it may be asked for.

    Args:
        metadata: A ``PartialObjectMetadata``.
    """
    return dataclasses.replace(view(metadata), read=False)


def nodes(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node map of a Workflow, unpacked if it is compressed.

    Raises:
        MalformedWorkflowError: The node status is not what Argo writes.
    """
    status = untrusted.mapping(body.get("status"))
    raw, compressed = status.get("nodes"), status.get("compressedNodes")
    if compressed:
        if not isinstance(compressed, str):
            raise MalformedWorkflowError(
                f"status.compressedNodes is {untrusted.kind(compressed)}, not text"
            )
        if raw:  # Argo unpacks only where there are no nodes, and would not see what we write
            raise MalformedWorkflowError("status has both nodes and compressedNodes")
        raw = packing.decode(compressed)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MalformedWorkflowError(f"status.nodes is {untrusted.kind(raw)}, not an object")
    return raw


def moment(text: str) -> datetime | None:
    """A time as Argo writes it, in UTC, or None for anything else."""
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _storage(status: Mapping[str, Any]) -> NodeStorage:
    if status.get("offloadNodeStatusVersion"):
        return NodeStorage.OFFLOADED
    return NodeStorage.COMPRESSED if status.get("compressedNodes") else NodeStorage.PLAIN


def _require_outputs(outputs: Any) -> None:
    """Lets outputs of the Workflow pass that values can be exported to."""
    parameters = untrusted.mapping(outputs).get("parameters")
    for name, value, kind in (("", outputs, dict), (".parameters", parameters, list)):
        if value is not None and not isinstance(value, kind):
            raise MalformedWorkflowError(f"status.outputs{name} is {untrusted.kind(value)}")


def _names(parameters: Any) -> tuple[str, ...] | None:
    if not isinstance(parameters, list):
        return None
    return tuple(
        untrusted.text(untrusted.mapping(parameter).get("name")) for parameter in parameters
    )
