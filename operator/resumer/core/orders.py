"""The order for one resume: what must hold on the Workflow and what is changed, as values.

Argo's own resume is the model (``updateSuspendedNode`` and ``LabelActor``): phase Succeeded,
finishedAt, a message that names who did it, supplied outputs, the action label; the label of the
actor where the event names one, and none left over from an earlier actor. The marker is ours
(DESIGN, "Never more than asked").

An event that fails gates makes the same order with the phase Failed, as ``argo stop`` with a node
field selector does (StopWorkflow, workflow/util/util.go). The stage's ``setLabels`` are not written
then: they say where a workflow stands that went on.
"""

from __future__ import annotations

import dataclasses
import re

from resumer.api import base, constants
from resumer.api.resume import WorkflowResume
from resumer.core import correlation
from resumer.core.case import Case
from resumer.core.markers import Marker
from resumer.core.observation import GateOrder, ResumeOrder
from resumer.core.suspended import FAILED, SUCCEEDED, Gate
from resumer.core.workflows import WorkflowView

_BY = "Resumed by: workflowresume/"
_FAILED_BY = "Failed by: workflowresume/"
_MESSAGE_LIMIT = 512


def build(case: Case) -> ResumeOrder:
    """Puts together the order that opens, or fails, the gates of a case that passed every check."""
    request, stage, workflow = case.seen.request, case.stage, case.workflow
    metadata, spec = request.metadata, request.spec
    gates = tuple(zip(case.gates, case.fills, strict=True))
    first = gates[0][0] if gates else None
    labels = {
        **({} if case.fails else stage.set_labels),
        **spec.set_labels,
        constants.LABEL_ACTION: constants.ACTION_STOP if case.fails else constants.ACTION_RESUME,
    }
    actor = _label_value(case.sender or "")
    if actor:
        labels[constants.LABEL_ACTOR] = actor
    of_actors = (constants.LABEL_ACTOR, constants.LABEL_ACTOR_EMAIL, constants.LABEL_ACTOR_USERNAME)
    finished_at = base.rfc3339(case.now.replace(microsecond=0))
    return ResumeOrder(
        key=workflow.key,
        uid=workflow.uid,
        storage=workflow.storage,
        gates=tuple(
            GateOrder(
                gate.id,
                gate.started_at,
                gate.display_name,
                _message(gate.message, request, fails=case.fails),
                fills,
            )
            for gate, fills in gates
        ),
        phase=FAILED if case.fails else SUCCEEDED,
        lift_suspend=case.lift_suspend,
        shutdown=workflow.shutdown,
        labels=labels,
        stale_labels=tuple(
            key for key in of_actors if key in workflow.labels and key not in labels
        ),
        marker_key=correlation.marker_key(stage.name, spec.correlation_data.event_type),
        marker=Marker(
            workflow_uid=workflow.uid,
            node_id=first.id if first else constants.WHOLE_WORKFLOW,
            started_at=first.started_at if first else "",
            name=metadata.name,
            uid=metadata.uid,
            time=finished_at,
            failed=case.fails,
        ),
        finished_at=finished_at,
        has_annotations=workflow.has_annotations,
        has_labels=workflow.has_labels,
        has_outputs=workflow.has_outputs,
        exported=workflow.exported,
    )


def applied(workflow: WorkflowView, order: ResumeOrder) -> WorkflowView:
    """The workflow as it is right after the write, until the watch shows it."""
    opened = {gate.id: gate.message for gate in order.gates}
    return dataclasses.replace(
        workflow,
        labels={
            **{
                key: value
                for key, value in workflow.labels.items()
                if key not in order.stale_labels
            },
            **order.labels,
        },
        suspended=workflow.suspended and not order.lift_suspend,
        gates=tuple(
            dataclasses.replace(gate, phase=order.phase, message=opened[gate.id])
            if gate.id in opened
            else gate
            for gate in workflow.gates
        ),
        markers={**workflow.markers, order.marker_key: order.marker},
        has_annotations=True,
        has_labels=True,
    )


def is_signed_by(gate: Gate, uid: str) -> bool:
    """True if the message of a gate says that the request with this uid opened or failed it."""
    signed = _BY in gate.message or _FAILED_BY in gate.message
    return bool(uid) and signed and f"(uid {uid})" in gate.message


def opener(gate: Gate) -> str:
    """Who opened a gate, from its message, in words for a person."""
    text = gate.message.rpartition("Resumed by: ")[2].strip()
    if text:
        return base.truncate(text, 200)
    return "its duration" if gate.delay else "somebody else"


def _message(before: str, request: WorkflowResume, *, fails: bool) -> str:
    signature = f"{request.metadata.name} (uid {request.metadata.uid})"
    if fails:
        event_type = request.spec.correlation_data.event_type
        signature = f"{_FAILED_BY}{signature} for event {event_type}"
    else:
        signature = f"{_BY}{signature}"
    if not before:
        return signature
    return f"{base.truncate(before, _MESSAGE_LIMIT)}; {signature}"


def _label_value(text: str) -> str:
    """A name as a label value, the way Argo's server writes it (``dnsFriendly``, creator.go)."""
    value = re.sub(r"[^-_.a-zA-Z0-9]", "-", text)[-63:]
    return value.strip("-_.")
