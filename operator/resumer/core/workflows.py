"""What Resumer needs to know of a Workflow, cut out of the untrusted JSON once and frozen.

A Workflow of 50 nodes is some 30 KiB of JSON and six times that in memory; the view keeps its
labels, its Suspend nodes and our markers, a few hundred bytes. Nothing here trusts the object:
under Argo's minimal CRDs every field can hold any JSON, so a wrong type reads as absence, and what
makes a safe resume impossible is named in ``problem``.

Rules are those of argo-workflows: what a gate is (``IsActiveSuspendNode``, workflow_types.go),
where templates are stored (``resolveTemplateReference``), what a finished workflow is (the
``completed`` label, set in the same write as the final phase).
"""

from __future__ import annotations

import enum
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resumer.api import constants
from resumer.core import packing
from resumer.core.keys import Key
from resumer.errors import MalformedWorkflowError

FINISHED_PHASES = frozenset({"Succeeded", "Failed", "Error"})
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"

STOP, TERMINATE = "Stop", "Terminate"
"""What ``spec.shutdown`` can say: end all but the exit handlers, or all."""

_EXIT_HANDLER = ".onExit"
"""In the names of the nodes of exit handlers (``GenerateOnExitNodeName``); no other name has it."""
_MAX_INLINE = 8
"""How deep inline templates within inline templates are followed."""
_INPUT_REFERENCE = re.compile(r"\{\{\s*inputs\.parameters\.([A-Za-z0-9_-]+)\s*\}\}")


class NodeStorage(enum.StrEnum):
    """Where a Workflow keeps its node status."""

    PLAIN = "Plain"
    """In ``status.nodes``."""
    COMPRESSED = "Compressed"
    """In ``status.compressedNodes``; the view has gates only if they were unpacked."""
    OFFLOADED = "Offloaded"
    """In the SQL database of Argo's controller: out of reach of the Kubernetes API."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output parameter of a gate."""

    index: int
    """Its place in the node's ``outputs.parameters``."""
    name: str
    supplied: bool
    """True while it still waits for a value (``valueFrom.supplied``)."""
    value: str | None
    default: str | None
    global_name: str
    """Under this name the value is known to the whole workflow; empty: it is not."""
    allowed: tuple[str, ...]
    """The ``enum`` of the input of the same name; empty: anything."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A node of type Suspend, in whatever phase."""

    id: str
    name: str
    display_name: str
    template_name: str
    """The template, or the template of the ``templateRef``."""
    ref_name: str
    phase: str
    started_at: str
    """As the API gave it: with the id the node's identity, because ``argo retry`` reuses ids."""
    message: str
    delay: bool
    """True if the template has a ``duration``: Argo itself ends it."""
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[Output, ...]

    @property
    def is_open(self) -> bool:
        """True while the gate waits to be resumed."""
        return self.phase == RUNNING

    def field(self, name: str) -> str:
        """The value of a field that Argo's ``nodeFieldSelector`` knows; empty if absent."""
        match name:
            case "displayName":
                return self.display_name
            case "templateName" | "templateRef.template":
                return self.template_name if name == "templateName" or self.ref_name else ""
            case "templateRef.name":
                return self.ref_name
            case "name":
                return self.name
            case "id":
                return self.id
            case "phase":
                return self.phase
            case _:
                return (
                    self.input(name.removeprefix("inputs.parameters.").removesuffix(".value")) or ""
                )

    def input(self, name: str) -> str | None:
        """The value of an input parameter, or None."""
        return next((value for key, value in self.inputs if key == name), None)


@dataclass(frozen=True, slots=True)
class Marker:
    """What a resume leaves on the Workflow: for a stage or event type, the gate and who."""

    workflow_uid: str
    """`argo resubmit` copies annotations to the new Workflow; those do not count."""
    node_id: str
    """The gate, or `constants.WHOLE_WORKFLOW`."""
    started_at: str
    name: str
    """The WorkflowResume that did it."""
    uid: str
    """Its uid."""
    time: str
    """When, RFC3339."""
    failed: bool = False
    """True if the gate was failed instead of resumed."""

    @property
    def is_whole_workflow(self) -> bool:
        """True if it was ``spec.suspend`` that was lifted."""
        return self.node_id == constants.WHOLE_WORKFLOW

    def encode(self) -> str:
        """The value of the annotation."""
        failed = {"failed": True} if self.failed else {}
        return json.dumps(
            {
                "workflow": self.workflow_uid,
                "node": self.node_id,
                "startedAt": self.started_at,
                "by": self.name,
                "uid": self.uid,
                "time": self.time,
                **failed,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def decode(text: str) -> Marker | None:
        """Reads an annotation; None for what is no marker of ours."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(raw, dict):
            return None
        return Marker(
            workflow_uid=_text(raw.get("workflow")),
            node_id=_text(raw.get("node")),
            started_at=_text(raw.get("startedAt")),
            name=_text(raw.get("by")),
            uid=_text(raw.get("uid")),
            time=_text(raw.get("time")),
            failed=raw.get("failed") is True,
        )


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
    metadata, status = _map(body.get("metadata")), _map(body.get("status"))
    uid = _text(metadata.get("uid"))
    labels, annotations = _strings(metadata.get("labels")), _map(metadata.get("annotations"))
    phase = _text(status.get("phase"))
    storage = _storage(status)
    outputs = status.get("outputs")
    shutdown = _map(body.get("spec")).get("shutdown")
    gates: tuple[Gate, ...] = ()
    problem = ""
    unpacked = storage is NodeStorage.PLAIN or (unpack and storage is NodeStorage.COMPRESSED)
    try:
        _require_outputs(outputs)
        if shutdown is not None and not isinstance(shutdown, str):
            raise MalformedWorkflowError(f"spec.shutdown is {_kind(shutdown)}, not text")
        if unpacked:
            gates = tuple(_gates(body, nodes(body)))
    except MalformedWorkflowError as error:
        problem = str(error)
    return WorkflowView(
        key=Key(_text(metadata.get("namespace")), _text(metadata.get("name"))),
        uid=uid,
        resource_version=_text(metadata.get("resourceVersion")),
        created=_text(metadata.get("creationTimestamp")),
        labels=labels,
        phase=phase,
        finished=labels.get(constants.LABEL_COMPLETED) == "true" or phase in FINISHED_PHASES,
        suspended=_map(body.get("spec")).get("suspend") is True,
        shutdown=shutdown if isinstance(shutdown, str) else None,
        storage=storage,
        packed=zlib.crc32(_text(status.get("compressedNodes")).encode(errors="replace")),
        unpacked=unpacked,
        gates=gates,
        markers=dict(_markers(annotations, uid)),
        has_annotations=bool(annotations),
        has_labels=bool(labels),
        has_outputs=outputs is not None,
        exported=_names(_map(outputs).get("parameters")),
        problem=problem,
    )


def nodes(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node map of a Workflow, unpacked if it is compressed.

    Raises:
        MalformedWorkflowError: The node status is not what Argo writes.
    """
    status = _map(body.get("status"))
    raw, compressed = status.get("nodes"), status.get("compressedNodes")
    if compressed:
        if not isinstance(compressed, str):
            raise MalformedWorkflowError(f"status.compressedNodes is {_kind(compressed)}, not text")
        if raw:  # Argo unpacks only where there are no nodes, and would not see what we write
            raise MalformedWorkflowError("status has both nodes and compressedNodes")
        raw = packing.decode(compressed)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise MalformedWorkflowError(f"status.nodes is {_kind(raw)}, not an object")
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


def _markers(annotations: Mapping[str, Any], uid: str) -> Iterator[tuple[str, Marker]]:
    for key, value in annotations.items():
        if key.startswith((constants.STAGE_MARKER_PREFIX, constants.EVENT_MARKER_PREFIX)):
            marker = Marker.decode(value) if isinstance(value, str) else None
            if marker is not None and marker.workflow_uid == uid:
                yield key, marker


def _gates(body: Mapping[str, Any], raw_nodes: Mapping[str, Any]) -> Iterator[Gate]:
    for node_id, node in raw_nodes.items():
        if not isinstance(node, dict) or node.get("type") != "Suspend":
            continue
        reference = _map(node.get("templateRef"))
        inputs = tuple(_inputs(node))
        gate = Gate(
            id=node_id,
            name=_text(node.get("name")),
            display_name=_text(node.get("displayName")),
            template_name=_text(reference.get("template")) or _text(node.get("templateName")),
            ref_name=_text(reference.get("name")),
            phase=_text(node.get("phase")),
            started_at=_text(node.get("startedAt")),
            message=_text(node.get("message")),
            delay=bool(_duration(body, raw_nodes, node, dict(inputs))),
            inputs=inputs,
            outputs=tuple(_outputs(node)),
        )
        if gate.is_open:
            _require_identity(gate)
        yield gate


def _require_outputs(outputs: Any) -> None:
    """Lets outputs of the Workflow pass that values can be exported to."""
    parameters = _map(outputs).get("parameters")
    for name, value, kind in (("", outputs, dict), (".parameters", parameters, list)):
        if value is not None and not isinstance(value, kind):
            raise MalformedWorkflowError(f"status.outputs{name} is {_kind(value)}")


def _require_identity(gate: Gate) -> None:
    """Lets a gate pass whose identity, and that of what it hands on, a write can test."""
    if not gate.started_at:
        raise MalformedWorkflowError(f"the open gate {gate.id!r} has no startedAt")
    names = [output.name for output in gate.outputs if output.supplied]
    if not all(names):
        raise MalformedWorkflowError(
            f"the open gate {gate.id!r} has a supplied output without name"
        )
    if len(set(names)) < len(names):
        raise MalformedWorkflowError(
            f"the open gate {gate.id!r} has two supplied outputs of a name"
        )


def _inputs(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for parameter in _maps(_map(node.get("inputs")).get("parameters")):
        value = parameter.get("value", parameter.get("default"))
        if value is not None:
            yield _text(parameter.get("name")), _any_string(value)


def _outputs(node: Mapping[str, Any]) -> Iterator[Output]:
    enums = {
        _text(parameter.get("name")): tuple(
            _any_string(item) for item in _list(parameter.get("enum"))
        )
        for parameter in _maps(_map(node.get("inputs")).get("parameters"))
    }
    for index, parameter in enumerate(_list(_map(node.get("outputs")).get("parameters"))):
        if not isinstance(parameter, dict):
            continue
        source = _map(parameter.get("valueFrom"))
        name = _text(parameter.get("name"))
        value, default = parameter.get("value"), source.get("default")
        yield Output(
            index=index,
            name=name,
            supplied="supplied" in source,
            value=None if value is None else _any_string(value),
            default=None if default is None else _any_string(default),
            global_name=_text(parameter.get("globalName")),
            allowed=enums.get(name, ()),
        )


def _duration(
    body: Mapping[str, Any],
    raw_nodes: Mapping[str, Any],
    node: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> str:
    """The ``duration`` of a Suspend node's template, inputs filled in; empty where it has none."""
    template = _template(body, raw_nodes, node)
    duration = _any_string(_map(template.get("suspend")).get("duration") or "")
    return _INPUT_REFERENCE.sub(lambda match: inputs.get(match[1], ""), duration)


def _template(
    body: Mapping[str, Any],
    raw_nodes: Mapping[str, Any],
    node: Mapping[str, Any],
    depth: int = _MAX_INLINE,
) -> Mapping[str, Any]:
    """Finds a node's template where Argo keeps it; an empty mapping where it is not to be found."""
    status = _map(body.get("status"))
    scope = _text(node.get("templateScope"))
    reference, name = _map(node.get("templateRef")), _text(node.get("templateName"))
    stored = _map(status.get("storedTemplates"))
    if reference:
        kind = "cluster" if reference.get("clusterScope") else "namespaced"
        return _map(
            stored.get(f"{kind}/{_text(reference.get('name'))}/{_text(reference.get('template'))}")
        )
    if name and scope and not scope.startswith("local/"):
        return _map(stored.get(f"{scope}/{name}"))
    if not name:
        return _inline(body, raw_nodes, node, depth)
    local = [  # with a workflowTemplateRef, what is stored is spec and template put together
        *_maps(_map(status.get("storedWorkflowTemplateSpec")).get("templates")),
        *_maps(_map(body.get("spec")).get("templates")),
    ]
    return next((item for item in local if item.get("name") == name), {})


def _inline(
    body: Mapping[str, Any], raw_nodes: Mapping[str, Any], node: Mapping[str, Any], depth: int
) -> Mapping[str, Any]:
    """An inline template: in the step or task of the boundary's template with its name."""
    step = _text(node.get("displayName")).split("(", 1)[0]
    scope = _text(node.get("templateScope"))
    if scope and not scope.startswith("local/"):
        stored = _map(_map(body.get("status")).get("storedTemplates"))
        return _map(stored.get(f"{scope}/inline/{step}"))
    boundary = _map(raw_nodes.get(_text(node.get("boundaryID"))))
    if not boundary or not depth:
        return {}
    parent = _template(body, raw_nodes, boundary, depth - 1)
    groups = [item for group in _list(parent.get("steps")) for item in _maps(group)]
    for item in [*_maps(_map(parent.get("dag")).get("tasks")), *groups]:
        if item.get("name") == step:
            return _map(item.get("inline"))
    return {}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _names(parameters: Any) -> tuple[str, ...] | None:
    if not isinstance(parameters, list):
        return None
    return tuple(_text(_map(parameter).get("name")) for parameter in parameters)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _any_string(value: Any) -> str:
    """The value of a parameter, which Argo reads from any JSON (``AnyString``)."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return ""


def _strings(value: Any) -> Mapping[str, str]:
    return {key: item for key, item in _map(value).items() if isinstance(item, str)}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")
