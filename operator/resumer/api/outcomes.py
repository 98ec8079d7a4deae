"""What a request can come to, and why: outcomes, phases, condition types and reasons.

Every reason has one meaning and belongs to one outcome; both can be read at run time, so that the
user's pages, the metrics and the command line say the same words.
"""

from __future__ import annotations

import enum
from typing import Self, assert_never


class Phase(enum.StrEnum):
    """The coarse state of a request, for columns and field selectors; the outcome tells it."""

    PENDING = "Pending"
    """Not looked at yet."""
    WAITING = "Waiting"
    """Looked at, not decided: it will be looked at again."""
    SUCCEEDED = "Succeeded"
    """Decided, and nothing is wrong."""
    FAILED = "Failed"
    """Decided, and somebody should read the reason."""


class Outcome(enum.StrEnum):
    """What a request came to."""

    RESUMED = "Resumed"
    """This request opened the gate."""
    GATE_FAILED = "GateFailed"
    """This request failed the gate, because its event means so by the policy (`failOn`)."""
    ALREADY_RESUMED = "AlreadyResumed"
    """The gate was opened before, or this stage of this workflow was."""
    LATE = "Late"
    """The workflow has finished or has passed the stage."""
    WAITING = "Waiting"
    """The policy, the workflow, its stage or its gate is not there yet; a change wakes it."""
    EXPIRED = "Expired"
    """It waited past its deadline."""
    AMBIGUOUS = "Ambiguous"
    """More than one workflow or gate matches, and nothing says which is meant."""
    REJECTED = "Rejected"
    """The request contradicts itself, the event or the workflow; trying again cannot help."""
    BACKING_OFF = "BackingOff"
    """The API server could not be used for the moment; the next attempt has a time."""
    CIRCUIT_OPEN = "CircuitOpen"
    """The circuit breaker of the stage is open; no attempt is used up."""
    FAILED = "Failed"
    """The attempts are used up, or the API refused for good."""
    DRY_RUN = "DryRun"
    """A dry run that would have resumed."""

    @property
    def phase(self) -> Phase:
        """The coarse state that goes with this outcome."""
        match self:
            case Outcome.RESUMED | Outcome.GATE_FAILED | Outcome.DRY_RUN:
                return Phase.SUCCEEDED
            case Outcome.ALREADY_RESUMED | Outcome.LATE:
                return Phase.SUCCEEDED
            case Outcome.WAITING | Outcome.BACKING_OFF | Outcome.CIRCUIT_OPEN:
                return Phase.WAITING
            case Outcome.EXPIRED | Outcome.AMBIGUOUS | Outcome.REJECTED | Outcome.FAILED:
                return Phase.FAILED
            case _:
                assert_never(self)

    @property
    def terminal(self) -> bool:
        """Whether a request with this outcome is never looked at again."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)

    @property
    def written(self) -> bool:
        """Whether the request has changed its workflow, as it asked."""
        return self in (Outcome.RESUMED, Outcome.GATE_FAILED)


class ConditionType(enum.StrEnum):
    """The conditions of a WorkflowResume, and the one of a WorkflowResumePolicy (`VALID`)."""

    CORRELATED = "Correlated"
    """The one workflow that the request means is known."""
    VALIDATED = "Validated"
    """Event, workflow and rules agree."""
    RESUMED = "Resumed"
    """This request opened the gate; for ``kubectl wait --for=condition=Resumed``."""
    STALLED = "Stalled"
    """The request has ended without what it asked for (kstatus: Failed)."""
    READY = "Ready"
    """The request has ended well (kstatus: Current)."""
    VALID = "Valid"
    """The policy can be used as it stands."""


class ConditionReason(enum.StrEnum):
    """Reasons of single conditions that are not the reason of the whole outcome."""

    NOT_DECIDED = "NotDecided"
    """This question has not been answered yet."""
    WORKFLOW_MATCHED = "WorkflowMatched"
    """Exactly one workflow is meant."""
    CHECKS_PASSED = "ChecksPassed"
    """The built-in checks and every rule passed."""
    ACCEPTED = "Accepted"
    """The policy was understood and is in force."""
    POLICY_INVALID = "PolicyInvalid"
    """The policy cannot be used; the last valid generation, if any, stays in force."""


class Reason(enum.StrEnum):
    """Why a request has its outcome.

    Attributes:
        outcome: The only outcome this reason explains.
        meaning: What it says, in one sentence for a person.
    """

    outcome: Outcome
    meaning: str

    def __new__(cls, value: str, outcome: Outcome, meaning: str) -> Self:
        """A member is its value; what else it knows hangs on it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.outcome = outcome
        member.meaning = meaning
        return member

    GATE_OPENED = (
        "GateOpened",
        Outcome.RESUMED,
        "The suspended node, or with allGates every matching one, was resumed by this request.",
    )
    WORKFLOW_UNSUSPENDED = (
        "WorkflowUnsuspended",
        Outcome.RESUMED,
        "The workflow as a whole was suspended (spec.suspend) and was resumed by this request.",
    )

    FAILED_BY_EVENT = (
        "FailedByEvent",
        Outcome.GATE_FAILED,
        "The suspended node was failed by this request: the stage's failOn has its event type.",
    )

    WOULD_RESUME = (
        "WouldResume",
        Outcome.DRY_RUN,
        "Everything matched and nothing was written, because the request is a dry run.",
    )
    WOULD_FAIL = (
        "WouldFail",
        Outcome.DRY_RUN,
        "The gate would have been failed, and nothing was written: the request is a dry run.",
    )

    GATE_ALREADY_OPENED = (
        "GateAlreadyOpened",
        Outcome.ALREADY_RESUMED,
        "The gate this request was about to open had been opened by somebody else.",
    )
    STAGE_ALREADY_RESUMED = (
        "StageAlreadyResumed",
        Outcome.ALREADY_RESUMED,
        "An earlier request resumed this stage of this workflow, and the stage is not repeatable.",
    )

    WORKFLOW_FINISHED = (
        "WorkflowFinished",
        Outcome.LATE,
        "Only workflows match the request that have finished or are being terminated.",
    )
    GATE_ALREADY_FAILED = (
        "GateAlreadyFailed",
        Outcome.LATE,
        "An earlier request failed the gate of this stage, and the stage is not repeatable.",
    )
    STAGE_PASSED = (
        "StagePassed",
        Outcome.LATE,
        "The workflow is in a later stage than the one the request means.",
    )

    POLICY_NOT_FOUND = (
        "PolicyNotFound",
        Outcome.WAITING,
        "There is no policy of the name that policyName says in the namespace yet.",
    )
    POLICY_INVALID = (
        "PolicyInvalid",
        Outcome.WAITING,
        "The policy that governs the workflow cannot be used, and no valid version of it is known.",
    )
    WORKFLOW_NOT_FOUND = (
        "WorkflowNotFound",
        Outcome.WAITING,
        "No workflow of the namespace matches the request yet.",
    )
    STAGE_NOT_REACHED = (
        "StageNotReached",
        Outcome.WAITING,
        "The workflow is in an earlier stage, or in none, and will be looked at when it changes.",
    )
    GATE_NOT_OPEN = (
        "GateNotOpen",
        Outcome.WAITING,
        "The workflow is in the right stage, but no matching gate is suspended yet.",
    )

    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        Outcome.EXPIRED,
        "What the request waited for did not appear within its deadline; the message says what.",
    )

    SEVERAL_WORKFLOWS = (
        "SeveralWorkflows",
        Outcome.AMBIGUOUS,
        "More than one live workflow matches and the policy does not choose between them.",
    )
    SEVERAL_GATES = (
        "SeveralGates",
        Outcome.AMBIGUOUS,
        "More than one open gate matches and the request does not say allGates.",
    )

    INVALID_OBJECT = (
        "InvalidObject",
        Outcome.REJECTED,
        "The request does not have the shape its schema demands.",
    )
    INVALID_SELECTOR = (
        "InvalidSelector",
        Outcome.REJECTED,
        "labelSelector or nodeFieldSelector cannot be understood.",
    )
    INVALID_RULE = (
        "InvalidRule",
        Outcome.REJECTED,
        "A validation rule cannot be evaluated: its path, pattern or value is malformed.",
    )
    TASK_MISMATCH = (
        "TaskMismatch",
        Outcome.REJECTED,
        "The task of the event or of the workflow is not correlationData.taskId.",
    )
    TASK_LABEL_MISSING = (
        "TaskLabelMissing",
        Outcome.REJECTED,
        "The workflow has no task label, so nothing proves that it is the one meant.",
    )
    EVENT_TYPE_MISMATCH = (
        "EventTypeMismatch",
        Outcome.REJECTED,
        "The event says it is of another type than correlationData.eventType or the stage expects.",
    )
    SELECTOR_MISMATCH = (
        "SelectorMismatch",
        Outcome.REJECTED,
        "labelSelector contradicts the workflow named by workflowName, or the request's stage.",
    )
    RULE_FAILED = (
        "RuleFailed",
        Outcome.REJECTED,
        "At least one validation rule did not hold; status.checks has the comparison.",
    )
    NO_GATE_TO_FAIL = (
        "NoGateToFail",
        Outcome.REJECTED,
        "The event fails gates, and the workflow is suspended as a whole (spec.suspend) instead.",
    )
    LABEL_NOT_ALLOWED = (
        "LabelNotAllowed",
        Outcome.REJECTED,
        "setLabels holds the policy's task label, by which the workflow is found.",
    )
    TEMPLATE_IN_PARAMETER = (
        "TemplateInParameter",
        Outcome.REJECTED,
        "A resume parameter holds `{{`, which Argo would evaluate, and the stage forbids it.",
    )
    UNKNOWN_PARAMETER = (
        "UnknownParameter",
        Outcome.REJECTED,
        "A resume parameter is not a supplied output of the gate.",
    )
    MISSING_PARAMETER = (
        "MissingParameter",
        Outcome.REJECTED,
        "A supplied output of the gate has neither a value from the request nor a default.",
    )
    PARAMETER_ALREADY_SET = (
        "ParameterAlreadySet",
        Outcome.REJECTED,
        "A supplied output of the gate has a value already, set by somebody else.",
    )
    VALUE_NOT_ALLOWED = (
        "ValueNotAllowed",
        Outcome.REJECTED,
        "A resume parameter is not one of the values the workflow allows for it.",
    )

    API_UNAVAILABLE = (
        "ApiUnavailable",
        Outcome.BACKING_OFF,
        "The API server did not answer, or answered with a server error.",
    )
    RATE_LIMITED = (
        "RateLimited",
        Outcome.BACKING_OFF,
        "The API server asked to be left alone for a while (429, or Retry-After).",
    )

    BREAKER_OPEN = (
        "BreakerOpen",
        Outcome.CIRCUIT_OPEN,
        "Too many attempts in this stage failed in a row; the next try is after the open time.",
    )

    RETRIES_EXHAUSTED = (
        "RetriesExhausted",
        Outcome.FAILED,
        "Every attempt that the retry strategy allows met a transient failure.",
    )
    FORBIDDEN = (
        "Forbidden",
        Outcome.FAILED,
        "The operator is not allowed to read or write the workflow (401, 403).",
    )
    NODE_STATUS_OFFLOADED = (
        "NodeStatusOffloaded",
        Outcome.FAILED,
        "The workflow's node status lies in Argo's database, which only the Argo Server can reach.",
    )
    MALFORMED_WORKFLOW = (
        "MalformedWorkflow",
        Outcome.FAILED,
        "The workflow does not have the shape that Argo gives it and cannot be resumed safely.",
    )
    API_REFUSED = (
        "ApiRefused",
        Outcome.FAILED,
        "The API server refused the write for good: the kind is missing, the object too large.",
    )
    INTERNAL_ERROR = (
        "InternalError",
        Outcome.FAILED,
        "A defect in the operator; its log has the details under the correlation id.",
    )
