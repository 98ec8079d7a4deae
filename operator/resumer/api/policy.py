"""WorkflowResumePolicy: the stages a kind of workflow passes, and how each is resumed.

Every setting may be left out: None means "not set", and falls through from the stage to the
policy's defaults to the built-in ones; that resolution is a decision and lies in `resumer.core`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from resumer.api import base, constants, resume
from resumer.api.conditions import Condition

MAX_EVENT_TYPES: Final = 512
"""How many event types all stages of a policy may have together."""

MAX_KEPT_SPEC: Final = 256 * 1024
"""How large a spec may be, as JSON, to be kept in status a second time; etcd takes 1.5 MB."""


class RetryStrategy(enum.StrEnum):
    """How the waits between attempts grow."""

    EXPONENTIAL = "Exponential"
    """baseSeconds x factor^n, at most capSeconds."""
    LINEAR = "Linear"
    """baseSeconds + n x incrementSeconds, at most capSeconds."""
    FIXED = "Fixed"
    """baseSeconds each time."""
    CUSTOM = "Custom"
    """delaysSeconds one after the other; the last one repeats."""


class Jitter(enum.StrEnum):
    """How a wait is spread, so that many requests do not come back at once."""

    NONE = "None"
    """Not at all."""
    PROPORTIONAL = "Proportional"
    """Up to 10 % more or less."""
    FULL = "Full"
    """Anything between nothing and the wait."""
    EQUAL = "Equal"
    """Anything between half of the wait and the wait."""


class Ambiguity(enum.StrEnum):
    """What happens when several live workflows match."""

    FAIL = "Fail"
    """Nothing is resumed; the candidates are named."""
    NEWEST = "Newest"
    """The workflow created last is meant."""
    NEWEST_CANCEL_OTHERS = "NewestCancelOthers"
    """The same, and the older ones are terminated."""


class TaskIdPlace(enum.StrEnum):
    """Where in an event the id of its task is looked for."""

    LABELS = "Labels"
    """The labels of the pull request or the issue, each by itself."""
    BRANCH = "Branch"
    """The branch of the pull request, the push, the check suite or the workflow run."""
    TITLE = "Title"
    """The title of the pull request or the issue."""
    BODY = "Body"
    """The text of the pull request or the issue, or the message of the pushed commit."""


class SelectorOperator(enum.StrEnum):
    """The operators of a `metav1.LabelSelectorRequirement`."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


Seconds = Annotated[base.Number, pydantic.Field(ge=0, le=3600)]


class LabelSelectorRequirement(base.ApiModel):
    """One expression of a label selector."""

    key: base.LabelKey
    operator: SelectorOperator
    values: Annotated[tuple[base.LabelValueOrEmpty, ...], pydantic.Field(max_length=64)] = ()

    @pydantic.model_validator(mode="after")
    def _operands(self) -> Self:
        needs = self.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)
        if bool(self.values) != needs:
            raise ValueError(
                "`In` and `NotIn` need values, `Exists` and `DoesNotExist` may not have them"
            )
        return self


class LabelSelector(base.ApiModel):
    """A `metav1.LabelSelector`: everything in it must hold; an empty one matches every workflow."""

    match_labels: Annotated[
        dict[base.LabelKey, base.LabelValueOrEmpty],
        pydantic.Field(max_length=32),
        pydantic.BeforeValidator(base.drop_nulls),
    ] = pydantic.Field(default_factory=dict)
    match_expressions: Annotated[
        tuple[LabelSelectorRequirement, ...], pydantic.Field(max_length=32)
    ] = ()


class RetrySettings(base.ApiModel):
    """How often a transient failure is tried again, and after which waits."""

    strategy: RetryStrategy | None = None
    max_attempts: Annotated[base.Integer, pydantic.Field(ge=1, le=20)] | None = None
    base_seconds: Seconds | None = None
    factor: Annotated[base.Number, pydantic.Field(ge=1, le=10)] | None = None
    cap_seconds: Seconds | None = None
    increment_seconds: Seconds | None = None
    delays_seconds: (
        Annotated[tuple[Seconds, ...], pydantic.Field(min_length=1, max_length=20)] | None
    ) = None
    jitter: Jitter | None = None

    @pydantic.model_validator(mode="after")
    def _delays(self) -> Self:
        if (self.delays_seconds is not None) != (self.strategy is RetryStrategy.CUSTOM):
            raise ValueError(
                "delaysSeconds is required for strategy Custom, and may not stand with another"
            )
        return self


class CircuitBreakerSettings(base.ApiModel):
    """When a stage is left alone, and for how long."""

    failure_threshold: Annotated[base.Integer, pydantic.Field(ge=1, le=1000)] | None = None
    open_seconds: Annotated[base.Number, pydantic.Field(ge=1, le=3600)] | None = None
    half_open_calls: Annotated[base.Integer, pydantic.Field(ge=1, le=100)] | None = None


def _distinct(types: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(types)) < len(types):
        raise ValueError("an event type may stand only once")
    return types


class StageSettings(base.ApiModel):
    """What can be set per stage and, for stages that leave it out, in ``defaults``."""

    node_field_selector: (
        Annotated[base.Text, pydantic.StringConstraints(max_length=1024), base.NoTemplate] | None
    ) = None
    retry: RetrySettings | None = None
    circuit_breaker: CircuitBreakerSettings | None = None
    ambiguity: Ambiguity | None = None
    fail_on: Annotated[tuple[base.LabelValue, ...], pydantic.Field(max_length=16)] | None = None
    deadline_seconds: Annotated[base.Integer, pydantic.Field(ge=0, le=604800)] | None = None
    repeatable: base.Flag | None = None
    allow_templates: base.Flag | None = None
    set_labels: resume.SetLabels | None = None

    @pydantic.field_validator("set_labels")
    @classmethod
    def _not_argos(cls, labels: dict[str, str] | None) -> dict[str, str] | None:
        return labels if labels is None else resume.refuse_argo_labels(labels)

    @pydantic.field_validator("fail_on")
    @classmethod
    def _once(cls, types: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return types if types is None else _distinct(types)


class Stage(StageSettings):
    """One stage: a point where workflows wait for an event."""

    name: base.LabelValue
    event_types: Annotated[tuple[base.LabelValue, ...], pydantic.Field(max_length=32)] = ()

    @pydantic.field_validator("event_types")
    @classmethod
    def _one_each(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(types)


GithubWord = Annotated[
    base.Text,
    pydantic.StringConstraints(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$"),
]


class TaskIdSource(base.ApiModel):
    """One place of an event to look for the id of its task."""

    place: TaskIdPlace = pydantic.Field(alias="from")
    pattern: Annotated[base.Text, pydantic.StringConstraints(min_length=1, max_length=256)]


class EventTypeRule(base.ApiModel):
    """Which of GitHub's events are of a type; what is left out does not matter."""

    name: base.LabelValue
    event: GithubWord
    action: Annotated[base.Text, pydantic.Field(min_length=1, max_length=100)] | None = None
    label: Annotated[base.Text, pydantic.Field(min_length=1, max_length=100)] | None = None
    review_state: GithubWord | None = None
    merged: base.Flag | None = None
    conclusion: GithubWord | None = None


class EventSettings(base.ApiModel):
    """How the task and the type of an event are found."""

    task_id_sources: (
        Annotated[tuple[TaskIdSource, ...], pydantic.Field(min_length=1, max_length=8)] | None
    ) = None
    types: (
        Annotated[tuple[EventTypeRule, ...], pydantic.Field(min_length=1, max_length=64)] | None
    ) = None


class WorkflowResumePolicySpec(base.ApiModel):
    """The stages in the order a workflow passes them, and how they are recognised."""

    workflow_selector: LabelSelector | None = None
    task_label: base.LabelKey = constants.DEFAULT_TASK_LABEL
    stage_label: base.LabelKey = constants.DEFAULT_STAGE_LABEL
    stage_parameter: Annotated[
        base.Text, pydantic.StringConstraints(max_length=128, pattern=r"^[a-zA-Z0-9_-]*$")
    ] = ""
    stages: Annotated[tuple[Stage, ...], pydantic.Field(max_length=64)] = ()
    defaults: StageSettings = pydantic.Field(default_factory=StageSettings)
    events: EventSettings = pydantic.Field(default_factory=EventSettings)

    @pydantic.field_validator("stages")
    @classmethod
    def _distinct(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ValueError("a stage may stand only once")
        types = [kind for stage in stages for kind in stage.event_types]
        if len(types) > MAX_EVENT_TYPES:
            raise ValueError(f"all stages may have at most {MAX_EVENT_TYPES} event types")
        if len(set(types)) < len(types):
            raise ValueError("an event type may belong to one stage only")
        if sum(len(stage.fail_on or ()) for stage in stages) > MAX_EVENT_TYPES:
            raise ValueError(f"all stages may have at most {MAX_EVENT_TYPES} event types in failOn")
        return stages

    @pydantic.model_validator(mode="after")
    def _open_or_fail(self) -> Self:
        opening = {kind for stage in self.stages for kind in stage.event_types}
        for where, settings in (
            *((f"stages[{stage.name}]", stage) for stage in self.stages),
            ("defaults", self.defaults),
        ):
            both = opening.intersection(settings.fail_on or ())
            if both:
                raise ValueError(
                    f"{where}.failOn: {min(both)!r} stands in the eventTypes of a stage, too"
                )
        return self


class PolicyStatus(base.ApiModel):
    """Whether the policy can be used. Only the operator writes it."""

    observed_generation: base.Integer = 0
    stages: base.Integer = 0
    """How many stages are in force."""
    last_valid_generation: base.Integer | None = None
    last_valid_spec: dict[str, Any] = pydantic.Field(default_factory=dict)
    """As it stood in the manifest: what an operator that starts anew has in force while the policy
    is invalid."""
    conditions: tuple[Condition, ...] = ()


class WorkflowResumePolicy(base.ApiModel):
    """The whole object."""

    api_version: Literal["argoproj.io/v1alpha1"] = "argoproj.io/v1alpha1"
    kind: Literal["WorkflowResumePolicy"] = "WorkflowResumePolicy"
    metadata: base.ObjectMeta
    spec: WorkflowResumePolicySpec
    status: PolicyStatus = pydantic.Field(default_factory=PolicyStatus)
