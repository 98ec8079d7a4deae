"""WorkflowResume: one request to resume, and what came of it.

The bounds are those of ``crds/workflowresumes.argoproj.io.yaml``. What the schema cannot say (the
grammar of selectors, paths and patterns) is for `resumer.core`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, Self

import pydantic

from resumer.api import base, constants, outcomes
from resumer.api.conditions import Condition

MAX_ATTEMPTS_KEPT: Final = 10
"""How many of the last attempts status keeps."""

MAX_NODES: Final = 64
"""How many resumed nodes status names."""

MAX_OTHER_POLICIES: Final = 16
"""How many policies that matched as well status names."""

MAX_CHECKS: Final = 64
"""How many checks status keeps."""

MAX_CHECK_TEXT: Final = 256
"""Characters of an expected or actual value in a check."""

MAX_ATTEMPT_MESSAGE: Final = 512
"""Characters of the message of one attempt."""

DEFAULT_TTL_SECONDS: Final = 86400
"""How long a finished request is kept: a day."""

MAX_PATTERN: Final = 256
"""Characters of a regular expression in a rule."""


class RuleOperator(enum.StrEnum):
    """How a rule compares."""

    EQUALS = "equals"
    """The actual value is the given one."""
    NOT_EQUALS = "notEquals"
    """It is not, or there is none."""
    IN = "in"
    """It is one of `values`."""
    NOT_IN = "notIn"
    """It is none of `values`, or there is none."""
    EXISTS = "exists"
    """There is one."""
    ABSENT = "absent"
    """There is none."""
    CONTAINS = "contains"
    """It has the given text somewhere in it."""
    STARTS_WITH = "startsWith"
    """It begins with the given text."""
    REGEX = "regex"
    """The given RE2 pattern is found somewhere in it."""
    GT = "gt"
    """It is a number greater than the given one."""
    LT = "lt"
    """It is a number less than the given one."""


Template = base.NoTemplate
Selector = Annotated[base.Text, pydantic.StringConstraints(min_length=1, max_length=1024), Template]
SetLabels = Annotated[
    dict[base.LabelKey, base.LabelValueOrEmpty],
    pydantic.Field(max_length=16),
    pydantic.BeforeValidator(base.drop_nulls),
]


class ValidationRule(base.ApiModel):
    """One comparison of something in the event or the workflow with what is expected."""

    field: Annotated[base.Text, pydantic.StringConstraints(min_length=1, max_length=256), Template]
    operator: RuleOperator
    value: Annotated[base.IntOrText, pydantic.Field(max_length=1024), Template] | None = None
    values: (
        Annotated[
            tuple[Annotated[base.Text, pydantic.Field(max_length=256), Template], ...],
            pydantic.Field(min_length=1, max_length=64),
        ]
        | None
    ) = None

    @pydantic.model_validator(mode="after")
    def _operands(self) -> Self:
        needs_values = self.operator in (RuleOperator.IN, RuleOperator.NOT_IN)
        needs_value = not needs_values and self.operator not in (
            RuleOperator.EXISTS,
            RuleOperator.ABSENT,
        )
        if (self.values is not None) != needs_values:
            raise ValueError("`in` and `notIn` need values, the other operators may not have them")
        if (self.value is not None) != needs_value:
            raise ValueError(
                "`in`, `notIn`, `exists` and `absent` may not have a value, "
                "the other operators need one"
            )
        if (
            self.operator is RuleOperator.REGEX
            and self.value is not None
            and len(self.value) > MAX_PATTERN
        ):
            raise ValueError(f"value: a regex may have at most {MAX_PATTERN} characters")
        return self


class ResumeParameter(base.ApiModel):
    """A value for a supplied output of the gate."""

    name: base.ParameterName
    value: Annotated[base.IntOrText, pydantic.Field(max_length=8192)]


class CorrelationData(base.ApiModel):
    """What ties the request to its event."""

    task_id: Annotated[
        base.IntOrText, pydantic.StringConstraints(max_length=63, pattern=base.LABEL_VALUE)
    ]
    event_type: base.LabelValue
    github_event: Annotated[dict[str, Any], pydantic.Field(max_length=256)] = pydantic.Field(
        default_factory=dict
    )


TimeToLive = Annotated[base.Integer, pydantic.Field(ge=0, le=2592000)]
"""Seconds."""


class WorkflowResumeSpec(base.ApiModel):
    """What is asked for. It never changes once created."""

    workflow_name: base.ObjectName | None = None
    label_selector: Selector | None = None
    node_field_selector: Selector | None = None
    target_stage: base.LabelValue | None = None
    correlation_data: CorrelationData
    validation_rules: Annotated[tuple[ValidationRule, ...], pydantic.Field(max_length=32)] = ()
    resume_parameters: Annotated[tuple[ResumeParameter, ...], pydantic.Field(max_length=32)] = ()
    policy_name: base.ObjectName | None = None
    set_labels: SetLabels = pydantic.Field(default_factory=dict)
    deadline_seconds: Annotated[base.Integer, pydantic.Field(ge=0, le=604800)] | None = None
    ttl_seconds_after_finished: TimeToLive = DEFAULT_TTL_SECONDS
    all_gates: base.Flag = False
    dry_run: base.Flag = False

    @pydantic.field_validator("resume_parameters")
    @classmethod
    def _distinct(cls, parameters: tuple[ResumeParameter, ...]) -> tuple[ResumeParameter, ...]:
        names = [parameter.name for parameter in parameters]
        if len(set(names)) < len(names):
            raise ValueError("a name may stand only once")
        return parameters

    @pydantic.field_validator("set_labels")
    @classmethod
    def _not_argos(cls, labels: dict[str, str]) -> dict[str, str]:
        return refuse_argo_labels(labels)

    @pydantic.model_validator(mode="after")
    def _findable(self) -> Self:
        if self.workflow_name is None and self.label_selector is None:
            raise ValueError("workflowName or labelSelector is required")
        return self


def refuse_argo_labels(labels: dict[str, str]) -> dict[str, str]:
    """Let labels pass that do not belong to Argo.

    Raises:
        ValueError: A key lies in Argo's domain; changing it would confuse Argo's controller.
    """
    domain = constants.ARGO_LABEL_DOMAIN
    for key in labels:
        prefix, slash, _ = key.partition("/")
        if slash and (prefix == domain or prefix.endswith(f".{domain}")):
            raise ValueError(f"`{key}` belongs to Argo and may not be set")
    return labels


class PolicyUse(base.ApiModel):
    """The policy that was used, and which ones matched as well."""

    name: base.Text = ""
    also_matching: tuple[base.Text, ...] = ()


class ResumedNode(base.ApiModel):
    """A suspended node that was resumed, or would be."""

    id: base.Text
    display_name: base.Text = ""
    template_name: base.Text = ""
    started_at: base.Moment | None = None


class WorkflowStatus(base.ApiModel):
    """The workflow that the request means."""

    name: base.Text = ""
    uid: base.Text = ""
    stage: base.Text | None = None
    nodes: tuple[ResumedNode, ...] = ()


class Check(base.ApiModel):
    """One comparison that was made; the values are cut to `MAX_CHECK_TEXT` characters."""

    field: base.Text
    operator: base.Text
    expected: base.Text = ""
    actual: base.Text | None = None
    passed: base.Flag


class Attempt(base.ApiModel):
    """One try to write the resume."""

    number: base.Integer
    start_time: base.Moment
    end_time: base.Moment | None = None
    outcome: outcomes.Outcome
    reason: base.Text
    message: base.Text = ""


class RetryStatus(base.ApiModel):
    """How much of the retry budget is used, and when the next attempt is due."""

    count: base.Integer = 0
    next_attempt_time: base.Moment | None = None


class ResumeStatus(base.ApiModel):
    """What came of the request. Only the operator writes it."""

    observed_generation: base.Integer = 0
    phase: outcomes.Phase = outcomes.Phase.PENDING
    conditions: tuple[Condition, ...] = ()
    outcome: outcomes.Outcome | None = None
    reason: base.Text | None = None
    message: base.Text | None = None
    policy: PolicyUse | None = None
    """None: the built-in one."""
    workflow: WorkflowStatus | None = None
    checks: tuple[Check, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    retry: RetryStatus | None = None
    correlation_id: base.Text | None = pydantic.Field(default=None, alias="correlationID")
    resumed_time: base.Moment | None = None
    resumed_by: base.Text | None = None
    deadline_time: base.Moment | None = None


class WorkflowResume(base.ApiModel):
    """The whole object."""

    api_version: Literal["argoproj.io/v1alpha1"] = "argoproj.io/v1alpha1"
    kind: Literal["WorkflowResume"] = "WorkflowResume"
    metadata: base.ObjectMeta
    spec: WorkflowResumeSpec
    status: ResumeStatus = pydantic.Field(default_factory=ResumeStatus)


def _else_default(value: Any, read: pydantic.ValidatorFunctionWrapHandler) -> int:
    try:
        seconds: int = read(value)
    except pydantic.ValidationError:
        return DEFAULT_TTL_SECONDS
    return seconds


class Keeping(base.ApiModel):
    """Of a spec, how long its object is kept; what cannot be read means the default."""

    ttl_seconds_after_finished: Annotated[TimeToLive, pydantic.WrapValidator(_else_default)] = (
        DEFAULT_TTL_SECONDS
    )


class FinishedResume(base.ApiModel):
    """What says when a finished request goes, also one whose spec is not what the schema demands.

    Such a one has ended, too: as `InvalidObject`.
    """

    metadata: base.ObjectMeta
    spec: Keeping = pydantic.Field(default_factory=Keeping)
    status: ResumeStatus = pydantic.Field(default_factory=ResumeStatus)
