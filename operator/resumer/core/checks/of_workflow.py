"""Which workflow a request means, whether that was resumed before, and whether it can be read.

`correlation` has the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resumer.api import base
from resumer.api.outcomes import Reason
from resumer.api.policy import Ambiguity
from resumer.core import (
    correlation,
    orders,
    policies,
    suspended,
    wording,
)
from resumer.core.case import Case, Stop
from resumer.core.checks import of_attempt, of_request
from resumer.core.correlation import Candidate, Mismatch, Standing
from resumer.core.workflows import NodeStorage, WorkflowView


def recorded(case: Case) -> Case | Stop:
    """This request has not opened a gate already.

    In a life of the operator that ended before it could say so.
    """
    uid = case.seen.request.metadata.uid
    for workflow in case.seen.workflows:
        key, marker = next(
            ((key, item) for key, item in workflow.markers.items() if item.uid == uid), ("", None)
        )
        opened = tuple(gate for gate in workflow.gates if orders.is_signed_by(gate, uid))
        if marker is not None or opened:
            policy = (
                policies.choose(case.seen.policies, case.spec.policy_name, workflow.labels)
                or case.policy
            )
            stages = correlation.target_stages(case.spec, policy, case.label_selector)
            event_type = case.spec.correlation_data.event_type
            own = (name for name in stages if correlation.marker_key(name, event_type) == key)
            stage = policy.stage(next(own, stages[0]))
            mine = Candidate(workflow, policy, stage, Standing.RESUMED, marker)
            found = case.chosen(mine)
            failed = (marker is not None and marker.failed) or any(
                gate.phase == suspended.FAILED for gate in opened
            )
            if stage.ambiguity is Ambiguity.NEWEST_CANCEL_OTHERS and not failed:
                if not case.seen.fresh:
                    return found.look("older workflows of the task may be left to terminate")
                found = found.but(superseded=_older_than(mine, case))
            whole = marker is not None and marker.is_whole_workflow
            return Stop(
                found.but(gates=opened, validated=True),
                of_attempt.done(workflow.key.name, opened, whole=whole, failed=failed),
            )
    return case


def correlated(case: Case) -> Case | Stop:
    """Exactly one live workflow is meant, and it is in the stage.

    `correlation` has the picture.
    """
    case = case.but(from_watch=True)
    found = list(
        correlation.candidates(
            case.spec, case.label_selector, case.seen.workflows, case.seen.policies
        )
    )
    groups = _by_standing(item for item in found if isinstance(item, Candidate))
    mismatch = next((item for item in found if isinstance(item, Mismatch)), None)
    if mismatch is not None and not any(groups.values()):
        return case.end(mismatch.reason, mismatch.message)
    unusable = next((item for item in groups[Standing.THERE] if item.policy.problem), None)
    if unusable is not None:
        return of_request.ungoverned(case.chosen(unusable))
    if groups[Standing.THERE]:
        return _one_of(case, groups[Standing.THERE], groups[Standing.RESUMED])
    if groups[Standing.AHEAD]:
        return _early(case, groups[Standing.AHEAD])
    if not case.seen.fresh:
        return case.look(
            "no live workflow of this task is left to wait for; a finished one may match"
        )
    if groups[Standing.RESUMED]:
        return _resumed_before(case.chosen(groups[Standing.RESUMED][0]))
    if groups[Standing.PASSED]:
        return _late(case.chosen(groups[Standing.PASSED][0]))
    return case.end(Reason.WORKFLOW_NOT_FOUND, f"there is no workflow {_description(case)}")


def within_reach(case: Case) -> Case | Stop:
    """The node status of the workflow can be read."""
    workflow = case.workflow
    if workflow.storage is NodeStorage.OFFLOADED:
        return case.end(
            Reason.NODE_STATUS_OFFLOADED,
            f"the node status of workflow {workflow.key.name!r} is offloaded to the database "
            "of Argo's controller; resume it through the Argo Server",
        )
    if workflow.problem:
        return case.end(
            Reason.MALFORMED_WORKFLOW, f"workflow {workflow.key.name!r}: {workflow.problem}"
        )
    if not workflow.unpacked:
        return case.look("the node status is compressed")
    return case


def _older_than(mine: Candidate, case: Case) -> tuple[WorkflowView, ...]:
    """The workflows that a request has superseded by resuming a newer one."""
    found = correlation.candidates(
        case.spec, case.label_selector, case.seen.workflows, case.seen.policies
    )
    groups = _by_standing(item for item in found if isinstance(item, Candidate))
    return tuple(item.workflow for item in groups[Standing.THERE] if _age(item) < _age(mine))


def _age(candidate: Candidate) -> tuple[str, str]:
    """Sorts candidates by their creation, the names of two in the same second deciding."""
    return candidate.workflow.created, candidate.workflow.key.name


def _by_standing(found: Iterable[Candidate]) -> dict[Standing, list[Candidate]]:
    """The candidates by how they stand, the newest first."""
    newest_first = sorted(
        found, key=lambda item: (item.workflow.created, item.workflow.key.name), reverse=True
    )
    return {
        standing: [item for item in newest_first if item.standing is standing]
        for standing in Standing
    }


def _one_of(case: Case, there: Sequence[Candidate], resumed: Sequence[Candidate]) -> Case | Stop:
    """The one that is there; of several, or where the newest is meant, what the policy says."""
    newest = case.chosen(there[0])
    fails = newest.stage.ambiguity is Ambiguity.FAIL
    if len(there) == 1 and fails:
        return newest
    if not case.seen.fresh:
        return case.look("another workflow of the task may be newer, or have gone on")
    if resumed and not fails and _age(resumed[0]) > _age(there[0]):
        # The newest one was meant, and resumed: an older one must not take its event.
        return _resumed_before(case.chosen(resumed[0]))
    if len(there) == 1:
        return newest
    match newest.stage.ambiguity:
        case Ambiguity.NEWEST:
            return newest
        case Ambiguity.NEWEST_CANCEL_OTHERS:
            if newest.fails:
                return newest  # it supersedes nothing: only a resume does
            return newest.but(superseded=tuple(item.workflow for item in there[1:]))
        case _:
            return case.but(policy=newest.policy, stage=newest.stage).end(
                Reason.SEVERAL_WORKFLOWS,
                f"{len(there)} live workflows match {_description(case)}: "
                f"{wording.names(item.workflow.key.name for item in there)}",
            )


def _early(case: Case, ahead: Sequence[Candidate]) -> Stop:
    for candidate in ahead:
        # The stage on an open gate is out of sight where the nodes are.
        if candidate.policy.stage_parameter:
            reached = within_reach(case.chosen(candidate))
            if isinstance(reached, Stop):
                return reached
    case = case.chosen(ahead[0])
    current = wording.names(correlation.stages_of(case.workflow, case.policy))
    place = (
        f"in stage {current}" if current else f"without a stage (label {case.policy.stage_label!r})"
    )
    wanted = f"stage {case.stage.name!r}" if case.stage.name else f"{case.label_selector}"
    return case.end(
        Reason.STAGE_NOT_REACHED,
        f"workflow {case.workflow.key.name!r} is {place}; the request is for {wanted}",
    )


def _resumed_before(case: Case) -> Stop:
    marker = case.candidate.marker if case.candidate else None
    by = f"workflowresume/{marker.name}" if marker else "another request"
    what = (
        f"stage {case.stage.name!r}"
        if case.stage.name
        else f"event {case.spec.correlation_data.event_type!r}"
    )
    if marker is not None and marker.failed:
        return case.end(
            Reason.GATE_ALREADY_FAILED,
            f"the gate of {what} of workflow {case.workflow.key.name!r} was failed by {by}",
        )
    return case.but(resumed_by=by).end(
        Reason.STAGE_ALREADY_RESUMED,
        f"{what} of workflow {case.workflow.key.name!r} was resumed by {by}",
    )


def _late(case: Case) -> Stop:
    workflow = case.workflow
    if workflow.terminated and not workflow.finished:
        return case.end(
            Reason.WORKFLOW_FINISHED,
            f"workflow {workflow.key.name!r} is being terminated (spec.shutdown)",
        )
    if workflow.finished:
        return case.end(
            Reason.WORKFLOW_FINISHED,
            f"workflow {workflow.key.name!r} has finished ({workflow.phase or 'completed'})",
        )
    current = wording.names(correlation.stages_of(workflow, case.policy))
    return case.end(
        Reason.STAGE_PASSED,
        f"workflow {workflow.key.name!r} is in stage {current} already, "
        f"past stage {case.stage.name!r}",
    )


def _description(case: Case) -> str:
    """What the request looks for, in words."""
    named = f"named {case.spec.workflow_name!r} " if case.spec.workflow_name else ""
    others, _ = case.label_selector.without(case.policy.stage_label)
    label, task = case.policy.task_label, case.spec.correlation_data.task_id
    labels = [base.truncate(str(others), 200)] if others.requirements else []
    if others.implied().get(label) != task:
        labels.append(f"{label}={task}")
    return f"{named}with labels {','.join(labels)}"
