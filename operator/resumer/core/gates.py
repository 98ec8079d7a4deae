"""Which gates of one workflow a request means, and what they hand to the next step.

The rules are DESIGN's "The gate" and "Never more than asked": a request opens the gate it names,
else the gate of its stage, else the only one that is open; never a ``duration`` delay that it does
not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resumer.api.outcomes import Reason
from resumer.core import selectors
from resumer.core.policies import Policy, Stage
from resumer.core.suspended import SUCCEEDED, Gate, Output
from resumer.core.workflows import WorkflowView

_IDENTIFYING = ("displayName", "name", "id", "inputs.parameters.")
"""Fields that tell one gate from another of the same template."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request and its stage say about the gate."""

    selector: selectors.NodeFieldSelector | None
    """The request's own nodeFieldSelector."""
    stage: Stage
    policy: Policy

    def matches(self, gate: Gate) -> bool:
        """True if this gate, in whatever phase, is one that the request means."""
        if not self._in_stage(gate):
            return False
        if self.selector is not None:
            return self.selector.matches(gate.field)
        if gate.delay:
            return False
        return self.stage.node_selector is None or self.stage.node_selector.matches(gate.field)

    @property
    def named(self) -> bool:
        """True if the gate is named at all; else it is simply the one that is open."""
        return self.selector is not None or self.stage.node_selector is not None

    def means_alone(self, gate: Gate) -> bool:
        """True if a gate that matches is no other stage's: if it is open no more, we come after."""
        parameter = self.policy.stage_parameter
        if parameter and self.stage.name and gate.input(parameter) == self.stage.name:
            return True
        if self.selector is not None:
            return any(
                not term.negated and term.field.startswith(_IDENTIFYING)
                for term in self.selector.terms
            )
        return self.policy.owns_gate(self.stage)

    def _in_stage(self, gate: Gate) -> bool:
        if not (self.policy.stage_parameter and self.stage.name):
            return True
        stage = gate.input(self.policy.stage_parameter)
        return stage is None or stage == self.stage.name


def open_gates(workflow: WorkflowView, wanted: Wanted) -> tuple[Gate, ...]:
    """The gates that wait and that the request means, in the order of their names."""
    found = (
        gate
        for gate in workflow.gates
        if gate.is_open and workflow.leads_on(gate) and wanted.matches(gate)
    )
    return tuple(sorted(found, key=lambda gate: (gate.name, gate.id)))


def opened_gate(workflow: WorkflowView, wanted: Wanted) -> Gate | None:
    """The gate that the request means and that somebody opened before, if that is beyond doubt."""
    found = [
        gate
        for gate in workflow.gates
        if gate.phase == SUCCEEDED and wanted.matches(gate) and wanted.means_alone(gate)
    ]
    return max(found, key=lambda gate: gate.started_at, default=None)


@dataclass(frozen=True, slots=True)
class Fill:
    """One supplied output and the value it gets."""

    index: int
    name: str
    value: str
    global_name: str = ""
    """Under this name the value is also exported to the whole workflow."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why the parameters of a request do not fit the gates."""

    reason: Reason
    message: str


def fill(
    gates: Sequence[Gate], parameters: Mapping[str, str], *, complete: bool = True
) -> tuple[tuple[Fill, ...], ...] | Misfit:
    """Computes the supplied outputs of each gate: the request's value, else the default.

    Argo's own ``resume`` with a selector leaves outputs without a value, and the workflow is then
    stuck for good (updateSuspendedNode, workflow/util/util.go); here that is refused before
    anything is written.

    Args:
        gates: The gates that the request means.
        parameters: The values of the request.
        complete: Whether every output needs a value; not so those of a gate that is failed.
    """
    declared = {output.name for gate in gates for output in gate.outputs}
    for name in parameters:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            return Misfit(
                Reason.UNKNOWN_PARAMETER,
                f"resumeParameters names {name!r}, which is no supplied output of the gate "
                f"(it has: {known})",
            )
    filled = []
    for gate in gates:
        fills = []
        for output in gate.outputs:
            value = _value(gate, output, parameters)
            if isinstance(value, Misfit):
                if value.reason is Reason.MISSING_PARAMETER and not complete:
                    continue
                return value
            if value is not None:
                fills.append(Fill(output.index, output.name, value, output.global_name))
        filled.append(tuple(fills))
    return tuple(filled)


def _value(gate: Gate, output: Output, parameters: Mapping[str, str]) -> str | Misfit | None:
    """The value to write into one output; None if it needs none."""
    name = output.name
    value = parameters.get(name, output.default)
    if not output.supplied:
        if name in parameters and output.value != parameters[name]:
            return Misfit(
                Reason.PARAMETER_ALREADY_SET,
                f"output {name!r} of gate {gate.display_name!r} has a value already; "
                "resumeParameters may not change it",
            )
        return None
    if value is None:
        return Misfit(
            Reason.MISSING_PARAMETER,
            f"output {name!r} of gate {gate.display_name!r} has no default; "
            "give it a value in resumeParameters",
        )
    if output.allowed and value not in output.allowed:
        return Misfit(
            Reason.VALUE_NOT_ALLOWED,
            f"output {name!r} of gate {gate.display_name!r} must be one of "
            f"{', '.join(output.allowed)}",
        )
    return value
