"""Which gates of the workflow a request means, and whether they take what it brings."""

from __future__ import annotations

from datetime import datetime

from resumer.api.outcomes import Reason
from resumer.core import (
    gates,
    orders,
    policies,
    rules,
    values,
    wording,
    workflows,
)
from resumer.core.case import Case, Stop
from resumer.core.checks import of_request
from resumer.core.gates import Misfit, Wanted
from resumer.core.suspended import Gate


def at_gate(case: Case) -> Case | Stop:
    """A gate is open, it is the one meant, and it opened in time."""
    wanted = Wanted(case.node_selector, case.stage, case.policy)
    found = gates.open_gates(case.workflow, wanted)
    if not found:
        if case.workflow.suspended and not wanted.named and not case.workflow.shutdown:
            return _no_gate_to_fail(case) if case.fails else case.but(lift_suspend=True)
        return _no_gate(case, wanted)
    if len(found) > 1 and not case.spec.all_gates:
        return case.end(
            Reason.SEVERAL_GATES,
            f"{len(found)} open gates of workflow {case.workflow.key.name!r} match: "
            f"{wording.names(gate.display_name for gate in found)}; "
            "name one with nodeFieldSelector, or say allGates: true",
        )
    late = next((gate for gate in found if _opened_after(gate, case.deadline, case.now)), None)
    if late is not None:
        return case.end(
            Reason.DEADLINE_EXCEEDED,
            f"gate {late.display_name!r} of workflow {case.workflow.key.name!r} "
            "opened only after the deadline",
        )
    lifts = case.spec.all_gates and case.workflow.suspended and not case.fails
    return case.but(gates=found, lift_suspend=lifts)


def workflow_rules_pass(case: Case) -> Case | Stop:
    """The rules on the workflow hold, now that its gate is open."""
    wanted = [
        rule for rule in case.spec.validation_rules if rules.scope(rule) is not rules.Scope.EVENT
    ]
    body = case.seen.bodies.get(case.workflow.uid)
    if body is None and any(rules.scope(rule) is rules.Scope.WORKFLOW for rule in wanted):
        return case.look("a rule asks for more of the workflow than its labels")
    checks = tuple(
        rules.evaluate(
            rule,
            event={},
            labels=case.workflow.labels,
            workflow=body or {},
            effort=case.effort,
        )
        for rule in wanted
    )
    return of_request.unless_failed(case.but(checks=(*case.checks, *checks)))


def labels_fit(case: Case) -> Case | Stop:
    """The label of the task, by which the workflow is found, stays as it is."""
    label = case.policy.task_label
    if label in case.spec.set_labels:
        # After a lost answer the workflow is looked for by it, and so is the trace of a resume.
        return case.end(
            Reason.LABEL_NOT_ALLOWED,
            f"setLabels names {label!r}, the task label of {policies.described(case.policy)}, by "
            "which the workflow is found; any label but that one may be set",
        )
    return case


def parameters_fit(case: Case) -> Case | Stop:
    """The values are data, not templates (Argo evaluates them again), and the gates take them."""
    given = {parameter.name: parameter.value for parameter in case.spec.resume_parameters}
    for name, value in given.items():
        if values.is_template(value) and not case.stage.allow_templates:
            return case.end(
                Reason.TEMPLATE_IN_PARAMETER,
                f"resumeParameters {name!r} contains `{{{{` or ends in `{{`, which Argo would "
                "evaluate as a template; take it out, or let the stage's policy say "
                "allowTemplates: true",
            )
        unfit = values.unfit_character(value)
        if unfit is not None:
            return case.end(
                Reason.VALUE_NOT_ALLOWED,
                f"resumeParameters {name!r} contains {unfit!r}, a character that Argo cannot hand "
                "on: the workflow would end in an error",
            )
    # A failed gate hands on what it can: its branch of the workflow may do without.
    filled = gates.fill(case.gates, given, complete=not case.fails)
    if isinstance(filled, Misfit):
        return case.end(filled.reason, filled.message)
    return case.but(fills=filled, validated=True)


def _no_gate_to_fail(case: Case) -> Stop:
    return case.end(
        Reason.NO_GATE_TO_FAIL,
        f"workflow {case.workflow.key.name!r} is suspended as a whole (spec.suspend) and has no "
        f"open gate that event {case.spec.correlation_data.event_type!r} could fail; "
        "argo stop ends the workflow",
    )


def _no_gate(case: Case, wanted: Wanted) -> Stop:
    opened = None if case.stage.repeatable else gates.opened_gate(case.workflow, wanted)
    if opened is None:
        which = "matching gate" if wanted.named else "gate"
        name = repr(case.workflow.key.name)
        if case.workflow.shutdown:
            message = (
                f"workflow {name} is being stopped, and no {which} in its exit handler is suspended"
            )
        else:
            message = f"no {which} of workflow {name} is suspended"
        return case.end(Reason.GATE_NOT_OPEN, message)
    by = orders.opener(opened)
    return case.but(resumed_by=by).end(
        Reason.GATE_ALREADY_OPENED,
        f"gate {opened.display_name!r} of workflow {case.workflow.key.name!r} was opened by {by}",
    )


def _opened_after(gate: Gate, deadline: datetime, now: datetime) -> bool:
    # It is open now, even if the clock of Argo's controller is ahead.
    opened = workflows.moment(gate.started_at)
    return opened is not None and min(opened, now) > deadline
