"""From a request to the one workflow it means.

How the candidates of a request stand, for a request that means stage S (stages in order R, S, T):

    A  label R, or no stage yet         Ahead     the event is early: wait for this one
    B  label S, no marker for S         There     the one we look for
    C  marker for S                     Resumed   an earlier request was here; this one comes twice
    D  label T                          Passed    the event is late
    E  finished, or being terminated    Passed    (with a marker for S: Resumed)

One There is the match, two are ambiguous; without one, an Ahead is waited for; only then do Resumed
and Passed decide. A marker whose gate was started anew (``argo retry`` reuses node ids) or whose
stage is repeatable does not count, and a workflow is never past a repeatable stage: it may come
again. Without a stage, every live workflow without a marker for the event type is There, if its
stage fits the selector.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from resumer.api import constants
from resumer.api.outcomes import Reason
from resumer.api.resume import WorkflowResumeSpec
from resumer.core import policies, selectors
from resumer.core.markers import Marker
from resumer.core.policies import Policy, Stage
from resumer.core.requirements import Requirement
from resumer.core.workflows import WorkflowView


class Standing(enum.Enum):
    """Where a workflow stands, seen from the stage that a request means."""

    AHEAD = "Ahead"
    THERE = "There"
    RESUMED = "Resumed"
    PASSED = "Passed"


_PREFERRED = (Standing.THERE, Standing.AHEAD, Standing.RESUMED, Standing.PASSED)
"""Of several stages that a request can mean, the first of which this is true."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A workflow that carries the request's task and matches its name and selector."""

    workflow: WorkflowView
    policy: Policy
    stage: Stage
    standing: Standing
    marker: Marker | None
    """The marker that makes it Resumed."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The request names a workflow other than it describes, or contradicts itself."""

    reason: Reason
    message: str


def target_stages(
    spec: WorkflowResumeSpec, policy: Policy, selector: selectors.LabelSelector
) -> tuple[str, ...]:
    """The stages a request can mean: its own, its event type's, or that of its selector; else none.

    Only an event that fails gates can mean several stages, in the order of the policy: whichever
    the workflow is in. None is the empty name.
    """
    event_type = spec.correlation_data.event_type
    own = spec.target_stage or policy.stage_by_event.get(event_type)
    if own:
        return (own,)
    implied = selector.implied().get(policy.stage_label, "")
    failing = policy.stages_failing_on(event_type)
    return (implied,) if implied in failing or not failing else failing


def marker_key(stage: str, event_type: str) -> str:
    """The annotation that tells that a stage, or without one an event type, was resumed."""
    return (
        f"{constants.STAGE_MARKER_PREFIX}{stage}"
        if stage
        else f"{constants.EVENT_MARKER_PREFIX}{event_type}"
    )


def stages_of(workflow: WorkflowView, policy: Policy) -> tuple[str, ...]:
    """The stages a workflow is in: those its open gates name, where they do, else its label."""
    if policy.stage_parameter:
        named = (gate.input(policy.stage_parameter) for gate in workflow.gates if gate.is_open)
        found = tuple(stage for stage in named if stage)
        if found:
            return found
    label = workflow.labels.get(policy.stage_label)
    return (label,) if label else ()


def candidates(
    spec: WorkflowResumeSpec,
    selector: selectors.LabelSelector,
    workflows: Iterable[WorkflowView],
    known: Sequence[Policy],
) -> Iterator[Candidate | Mismatch]:
    """Finds the workflows that a request can mean; a named one is compared, others are filtered."""
    for workflow in workflows:
        policy = policies.choose(known, spec.policy_name, workflow.labels)
        if policy is None or (spec.workflow_name and workflow.key.name != spec.workflow_name):
            continue
        others, of_stage = selector.without(policy.stage_label)
        stages = target_stages(spec, policy, selector)
        fitting = [
            stage
            for stage in stages
            if not stage or all(item.matches({policy.stage_label: stage}) for item in of_stage)
        ]
        mismatch = _mismatch(spec, workflow, policy, others)
        if mismatch is not None:
            if spec.workflow_name:
                yield mismatch
        elif not fitting:
            yield Mismatch(
                Reason.SELECTOR_MISMATCH,
                f"labelSelector asks for {selector}, but the request is for stage "
                f"{' or '.join(map(repr, stages))}",
            )
        else:
            found = (
                _candidate(spec, workflow, policy, policy.stage(stage), of_stage)
                for stage in fitting
            )
            yield min(found, key=lambda candidate: _PREFERRED.index(candidate.standing))


def _mismatch(
    spec: WorkflowResumeSpec,
    workflow: WorkflowView,
    policy: Policy,
    selector: selectors.LabelSelector,
) -> Mismatch | None:
    task = workflow.labels.get(policy.task_label)
    if task is None:
        return Mismatch(
            Reason.TASK_LABEL_MISSING,
            f"workflow {workflow.key.name!r} has no label {policy.task_label!r}, "
            "so nothing ties it to a task",
        )
    if task != spec.correlation_data.task_id:
        return Mismatch(
            Reason.TASK_MISMATCH,
            f"workflow {workflow.key.name!r} has {policy.task_label}={task}, "
            f"the request has taskId {spec.correlation_data.task_id!r}",
        )
    if not selector.matches(workflow.labels):
        return Mismatch(
            Reason.SELECTOR_MISMATCH,
            f"workflow {workflow.key.name!r} does not match labelSelector {selector}",
        )
    return None


def _candidate(
    spec: WorkflowResumeSpec,
    workflow: WorkflowView,
    policy: Policy,
    stage: Stage,
    of_stage: Sequence[Requirement],
) -> Candidate:
    marker = workflow.markers.get(marker_key(stage.name, spec.correlation_data.event_type))
    if marker is not None and not _counts(marker, workflow, stage):
        marker = None
    if marker is not None:
        standing = Standing.RESUMED
    elif workflow.finished or workflow.terminated:
        standing = Standing.PASSED
    else:
        standing = _standing(workflow, policy, stage, of_stage)
    return Candidate(workflow, policy, stage, standing, marker)


def _counts(marker: Marker, workflow: WorkflowView, stage: Stage) -> bool:
    if stage.repeatable and not workflow.finished:
        return False
    gate = workflow.gate(marker.node_id)
    return gate is None or not gate.is_open or gate.started_at == marker.started_at


def _standing(
    workflow: WorkflowView, policy: Policy, stage: Stage, of_stage: Sequence[Requirement]
) -> Standing:
    current = stages_of(workflow, policy)
    if not stage.name:
        # No one stage is meant, but the selector may still leave only some.
        labels = [{policy.stage_label: item} for item in current] or [{}]
        fits = any(all(item.matches(label) for item in of_stage) for label in labels)
        return Standing.THERE if fits else Standing.AHEAD
    if stage.name in current:
        return Standing.THERE
    if stage.repeatable:
        return Standing.AHEAD
    wanted = policy.position(stage.name)
    places = [policy.position(item) for item in current]
    known = [place for place in places if place is not None]
    if wanted is not None and known and min(known) > wanted:
        return Standing.PASSED
    return Standing.AHEAD
