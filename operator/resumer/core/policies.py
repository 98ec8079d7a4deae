"""Policies as the decision uses them: every field resolved, every selector parsed, frozen.

A stage takes each setting from itself, else from the policy's ``defaults``, else from the built-in
values, which are those of seed 000 (four suspension points, three attempts, 2 s doubled up to 30 s,
five failures for 30 s).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from resumer.api import policy as api
from resumer.core import backoff, breaker, extraction, selectors
from resumer.errors import InvalidError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stage:
    """One suspension point with all its settings."""

    name: str
    """Empty for the settings of requests without a stage."""
    node_selector: selectors.NodeFieldSelector | None
    """The stage's own gate, or None where the policy does not say."""
    retry: backoff.RetryStrategy
    breaker: breaker.BreakerSettings
    ambiguity: api.Ambiguity
    fail_on: tuple[str, ...]
    """The event types that fail the stage's gate instead of opening it."""
    deadline_seconds: int
    repeatable: bool
    allow_templates: bool
    set_labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Policy:
    """How the workflows of one kind are resumed."""

    name: str
    """Empty for the built-in policy."""
    created: str
    """RFC3339."""
    selector: selectors.LabelSelector | None
    """None matches nothing, the empty one everything, as everywhere in Kubernetes."""
    task_label: str
    stage_label: str
    stage_parameter: str
    stages: tuple[Stage, ...]
    """In the order a workflow passes them."""
    fallback: Stage
    """The settings of a stage that the policy does not list, and of requests without a stage."""
    stage_by_event: Mapping[str, str]
    extraction: extraction.Extraction
    """How the task and the type of an event are found."""
    problem: str = ""
    """Why it cannot be used; requests for workflows that it governs wait until it can be."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if the policy is for workflows with these labels."""
        return self.selector is not None and self.selector.matches(labels)

    @property
    def precedence(self) -> tuple[int, str, str]:
        """Sorts the policy that wins first: more requirements, then older, then by name."""
        asked = self.selector.requirements if self.selector else ()
        return -len(set(asked)), self.created, self.name

    def stage(self, name: str) -> Stage:
        """The settings of a stage, listed or not."""
        listed = next((stage for stage in self.stages if stage.name == name), None)
        return listed or dataclasses.replace(self.fallback, name=name)

    def stages_failing_on(self, event_type: str) -> tuple[str, ...]:
        """The listed stages whose gates events of this type fail, in their order."""
        return tuple(stage.name for stage in self.stages if event_type in stage.fail_on)

    def position(self, name: str) -> int | None:
        """The place of a stage in the order, or None for one that the policy does not list."""
        return next((index for index, stage in enumerate(self.stages) if stage.name == name), None)

    def owns_gate(self, stage: Stage) -> bool:
        """True if the stage's gate selector means this stage alone."""
        if stage.node_selector is None:
            return False
        same = [other for other in self.stages if other.node_selector == stage.node_selector]
        return [other.name for other in same] == [stage.name]


def resolve(name: str, created: str, spec: api.WorkflowResumePolicySpec) -> Policy:
    """Makes a policy ready for use.

    Raises:
        InvalidError: A selector or a pattern cannot be parsed, or ``setLabels`` has the task label.
    """
    _keep_task_label(spec)
    stages = tuple(_stage(item.name, item, spec.defaults) for item in spec.stages)
    return Policy(
        name=name,
        created=created,
        selector=_workflow_selector(spec),
        task_label=spec.task_label,
        stage_label=spec.stage_label,
        stage_parameter=spec.stage_parameter,
        stages=stages,
        fallback=_stage("", api.StageSettings(), spec.defaults),
        stage_by_event={kind: item.name for item in spec.stages for kind in item.event_types},
        extraction=_extraction(spec.events),
    )


@dataclass(frozen=True, slots=True)
class Version:
    """One generation of a policy's spec, as it stands in the manifest."""

    generation: int
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InForce:
    """What of a policy is in force."""

    policy: Policy | None
    """None: not even which workflows it is for can be read."""
    version: Version | None
    """The generation that is used: the newest or, while that is invalid, the last valid one."""
    problem: str = ""
    """What is wrong with the newest generation, and what is used instead."""


def in_force(
    name: str, created: str, newest: Version, last_valid: Version | None = None
) -> InForce:
    """What of a policy is in force, whatever is wrong with its newest generation.

    Args:
        name: Of the policy.
        created: When, in RFC3339.
        newest: The spec as it is now.
        last_valid: The last one that was known to be valid.

    Returns:
        The newest generation; else the last valid one; else a policy that says by its ``problem``
        that it cannot be used, so that no other one takes its workflows unasked.
    """
    try:
        return InForce(_read(name, created, newest.spec), newest)
    except InvalidError as error:
        problem = str(error)
    if last_valid is not None:
        try:
            policy = _read(name, created, last_valid.spec)
        except InvalidError:
            pass  # what an earlier release took, this one may refuse
        else:
            stays = f"; generation {last_valid.generation}, the last valid one, stays in force"
            return InForce(policy, last_valid, problem + stays)
    try:
        policy = _read_leniently(name, created, newest.spec)
    except InvalidError:
        return InForce(None, None, f"{problem}; the policy is not in force")
    return InForce(
        dataclasses.replace(policy, problem=problem),
        None,
        f"{problem}; no earlier version is known, so requests for its workflows wait",
    )


def _read(name: str, created: str, spec: Mapping[str, Any]) -> Policy:
    return resolve(name, created, _parsed(spec))


def _read_leniently(name: str, created: str, spec: Mapping[str, Any]) -> Policy:
    """The policy without its labels to set, the selectors of its gates and its rules on events.

    Else only which workflows it is for.
    """
    try:
        parsed = _parsed(spec)
    except InvalidError:
        kept = ("workflowSelector", "taskLabel", "stageLabel")
        parsed = _parsed({key: spec[key] for key in kept if key in spec})
    bare = {"node_field_selector": None, "set_labels": None}
    stages = tuple(stage.model_copy(update=bare) for stage in parsed.stages)
    defaults = parsed.defaults.model_copy(update=bare)
    readable = {"stages": stages, "defaults": defaults, "events": api.EventSettings()}
    return resolve(name, created, parsed.model_copy(update=readable))


def _parsed(spec: Mapping[str, Any]) -> api.WorkflowResumePolicySpec:
    """The model; read as part of an object, so that an error names the field from its top."""
    return api.WorkflowResumePolicy.from_json({"metadata": {}, "spec": spec}).spec


def described(policy: Policy) -> str:
    """Which policy it is, in a message."""
    return f"policy {policy.name!r}" if policy.name else "the built-in policy"


def choose(
    policies: Iterable[Policy], requested: str | None, labels: Mapping[str, str]
) -> Policy | None:
    """The policy in force for a workflow.

    Args:
        policies: All valid policies of the namespace.
        requested: The ``policyName`` of the request, or None.
        labels: The labels of the workflow.

    Returns:
        The requested policy, or None if there is no such one; else the first by `Policy.precedence`
        of those whose workflowSelector matches; else the built-in one.
    """
    if requested:
        return next((policy for policy in policies if policy.name == requested), None)
    return min(_matching(policies, labels), key=lambda policy: policy.precedence, default=BUILT_IN)


def also_matching(
    policies: Iterable[Policy], chosen: Policy, labels: Mapping[str, str]
) -> tuple[str, ...]:
    """The names of the other policies whose workflowSelector matches, the next in line first."""
    others = [policy for policy in _matching(policies, labels) if policy.name != chosen.name]
    return tuple(policy.name for policy in sorted(others, key=lambda policy: policy.precedence))


def _matching(policies: Iterable[Policy], labels: Mapping[str, str]) -> list[Policy]:
    return [policy for policy in policies if policy.matches(labels)]


def _workflow_selector(spec: api.WorkflowResumePolicySpec) -> selectors.LabelSelector | None:
    if spec.workflow_selector is None:
        return None
    mapping = spec.workflow_selector.model_dump(by_alias=True, exclude_none=True)
    return selectors.LabelSelector.from_mapping(mapping, field="spec.workflowSelector")


def _keep_task_label(spec: api.WorkflowResumePolicySpec) -> None:
    """Refuses ``setLabels`` that would hide the workflow from the look after a lost answer."""
    label = spec.task_label
    for where, settings in (
        *((f"stages[{stage.name}]", stage) for stage in spec.stages),
        ("defaults", spec.defaults),
    ):
        if label in (settings.set_labels or {}):
            field = f"spec.{where}.setLabels"
            raise InvalidError(
                field,
                f"{field}: {label!r} is the policy's taskLabel, by which the workflow is found; "
                "any label but that one may be set",
            )


def _stage(name: str, own: api.StageSettings, defaults: api.StageSettings) -> Stage:
    def pick(get: str, builtin: _T) -> _T:
        for settings in (own, defaults):
            value: _T | None = getattr(settings, get)
            if value is not None:
                return value
        return builtin

    selector = pick("node_field_selector", "")
    field = f"spec.stages[{name}].nodeFieldSelector"
    return Stage(
        name=name,
        node_selector=selectors.NodeFieldSelector.parse(selector, field=field)
        if selector
        else None,
        retry=_retry(pick("retry", api.RetrySettings())),
        breaker=_breaker(pick("circuit_breaker", api.CircuitBreakerSettings())),
        ambiguity=pick("ambiguity", api.Ambiguity.FAIL),
        fail_on=pick("fail_on", ()),
        deadline_seconds=pick("deadline_seconds", 900),
        repeatable=pick("repeatable", False),
        allow_templates=pick("allow_templates", False),
        set_labels=pick("set_labels", {}),
    )


def _extraction(spec: api.EventSettings) -> extraction.Extraction:
    sources, types = extraction.DEFAULT.sources, extraction.DEFAULT.types
    if spec.task_id_sources is not None:
        sources = tuple(
            extraction.TaskSource(
                item.place, item.pattern, f"spec.events.taskIdSources[{index}].pattern"
            )
            for index, item in enumerate(spec.task_id_sources)
        )
    if spec.types is not None:
        types = tuple(
            extraction.TypeRule(
                type=item.name,
                event=item.event,
                action=item.action or "",
                label=item.label or "",
                review_state=item.review_state or "",
                merged=item.merged,
                conclusion=item.conclusion or "",
            )
            for item in spec.types
        )
    found = extraction.Extraction(sources, types)
    extraction.check(found)
    return found


def _given(spec: api.RetrySettings | api.CircuitBreakerSettings) -> dict[str, Any]:
    return {name: value for name, value in spec if value is not None}


def _retry(spec: api.RetrySettings) -> backoff.RetryStrategy:
    return dataclasses.replace(backoff.RetryStrategy(), **_given(spec))


def _breaker(spec: api.CircuitBreakerSettings) -> breaker.BreakerSettings:
    return dataclasses.replace(breaker.BreakerSettings(), **_given(spec))


BUILT_IN = resolve(
    "",
    "",
    api.WorkflowResumePolicySpec(
        stages=(
            api.Stage(name="waiting-pr-created", event_types=("pr-created",)),
            api.Stage(name="waiting-ready-for-qa", event_types=("pr-labeled-ready",)),
            api.Stage(name="waiting-pr-approved", event_types=("pr-approved",)),
            api.Stage(name="waiting-task-complete", event_types=("task-completed",)),
        )
    ),
)
"""The policy in force where a namespace has none that matches (seed 000)."""
