"""The gates of a Workflow: its nodes of type Suspend, cut out of the node status and frozen.

What a gate is says argo-workflows (``IsActiveSuspendNode``, workflow_types.go). An open gate whose
identity a write could not test is refused: it cannot be resumed safely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resumer.core import templates, untrusted
from resumer.errors import MalformedWorkflowError

RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
"""Phases of a node."""


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


def gates(body: Mapping[str, Any], raw_nodes: Mapping[str, Any]) -> Iterator[Gate]:
    """The gates of a Workflow, open or not.

    Args:
        body: The object as the API server gave it.
        raw_nodes: Its nodes, unpacked.

    Raises:
        MalformedWorkflowError: An open gate has no identity that a write could test.
    """
    for node_id, node in raw_nodes.items():
        if not isinstance(node, dict) or node.get("type") != "Suspend":
            continue
        reference = untrusted.mapping(node.get("templateRef"))
        inputs = tuple(_inputs(node))
        gate = Gate(
            id=node_id,
            name=untrusted.text(node.get("name")),
            display_name=untrusted.text(node.get("displayName")),
            template_name=untrusted.text(reference.get("template"))
            or untrusted.text(node.get("templateName")),
            ref_name=untrusted.text(reference.get("name")),
            phase=untrusted.text(node.get("phase")),
            started_at=untrusted.text(node.get("startedAt")),
            message=untrusted.text(node.get("message")),
            delay=bool(templates.duration(body, raw_nodes, node, dict(inputs))),
            inputs=inputs,
            outputs=tuple(_outputs(node)),
        )
        if gate.is_open:
            _require_identity(gate)
        yield gate


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
    for parameter in untrusted.mappings(untrusted.mapping(node.get("inputs")).get("parameters")):
        value = parameter.get("value", parameter.get("default"))
        if value is not None:
            yield untrusted.text(parameter.get("name")), untrusted.any_string(value)


def _outputs(node: Mapping[str, Any]) -> Iterator[Output]:
    enums = {
        untrusted.text(parameter.get("name")): tuple(
            untrusted.any_string(item) for item in untrusted.items(parameter.get("enum"))
        )
        for parameter in untrusted.mappings(untrusted.mapping(node.get("inputs")).get("parameters"))
    }
    for index, parameter in enumerate(
        untrusted.items(untrusted.mapping(node.get("outputs")).get("parameters"))
    ):
        if not isinstance(parameter, dict):
            continue
        source = untrusted.mapping(parameter.get("valueFrom"))
        name = untrusted.text(parameter.get("name"))
        value, default = parameter.get("value"), source.get("default")
        yield Output(
            index=index,
            name=name,
            supplied="supplied" in source,
            value=None if value is None else untrusted.any_string(value),
            default=None if default is None else untrusted.any_string(default),
            global_name=untrusted.text(parameter.get("globalName")),
            allowed=enums.get(name, ()),
        )
