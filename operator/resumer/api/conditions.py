"""Conditions: how an outcome reads to people, to ``kubectl wait`` and to kstatus.

Pure functions; the time is an argument. `Ready` is True for a request that ended well, `Stalled` is
True for one that ended otherwise, and neither while it waits, so that ``helm --wait`` and
``kubectl wait`` see Current, Failed and InProgress. `Resumed` is True only where this very request
opened the gate.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable
from typing import Annotated, Final

import pydantic

from resumer.api import base, outcomes
from resumer.api.outcomes import ConditionReason, ConditionType, Outcome, Reason

MAX_MESSAGE: Final = 1024
"""Characters of a message; the schema says the same."""


class ConditionStatus(enum.StrEnum):
    """The three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"

    @classmethod
    def of(cls, answer: bool | None) -> ConditionStatus:
        """The status for an answer; None is not known."""
        match answer:
            case None:
                return cls.UNKNOWN
            case True:
                return cls.TRUE
            case False:
                return cls.FALSE


class Condition(base.ApiModel):
    """A `metav1.Condition`."""

    type: base.Text
    status: ConditionStatus
    observed_generation: base.Integer = 0
    last_transition_time: base.Moment
    reason: base.Text
    message: Annotated[base.Text, pydantic.Field(max_length=MAX_MESSAGE)] = ""


_NOT_CORRELATED: Final = frozenset(
    {
        Reason.SEVERAL_WORKFLOWS,
        Reason.SELECTOR_MISMATCH,
        Reason.TASK_LABEL_MISSING,
        Reason.INVALID_SELECTOR,
    }
)
"""Reasons that say which workflow is meant cannot be known."""


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    """The condition of a type, or None."""
    return next((condition for condition in conditions if condition.type == kind), None)


def put(conditions: tuple[Condition, ...], new: Condition) -> tuple[Condition, ...]:
    """The conditions with one set; its ``lastTransitionTime`` moves only when its status changes.

    Args:
        conditions: What was there; the order is kept, a new type comes last.
        new: The condition as of now.
    """
    old = next((condition for condition in conditions if condition.type == new.type), None)
    if old is None:
        return (*conditions, new)
    if old.status == new.status:
        new = new.model_copy(update={"last_transition_time": old.last_transition_time})
    return tuple(new if condition.type == new.type else condition for condition in conditions)


def of_resume(  # noqa: PLR0913 each is one fact of the outcome
    existing: tuple[Condition, ...],
    *,
    outcome: Outcome,
    reason: Reason,
    message: str,
    generation: int,
    now: datetime.datetime,
    correlated: bool = False,
    validated: bool = False,
) -> tuple[Condition, ...]:
    """The five conditions of a WorkflowResume for an outcome.

    Args:
        existing: The conditions in its status.
        outcome: What the request came to.
        reason: Why.
        message: The same for a person; cut to `MAX_MESSAGE` characters.
        generation: The generation that was looked at.
        now: The time of the decision; conditions carry whole seconds, as Kubernetes' own do.
        correlated: Whether the workflow is known. If not, the reason may say that it cannot be; one
            that does not say so leaves the earlier answer.
        validated: Whether every check has passed. If not, one has failed where the outcome is
            `Rejected`; any other leaves the earlier answer.
    """
    succeeded = outcome.phase is outcomes.Phase.SUCCEEDED
    answers: tuple[tuple[ConditionType, bool | None, str, str], ...] = (
        _answer(
            existing,
            ConditionType.CORRELATED,
            True if correlated else False if reason in _NOT_CORRELATED else None,
            (ConditionReason.WORKFLOW_MATCHED, reason, message),
        ),
        _answer(
            existing,
            ConditionType.VALIDATED,
            True if validated else False if outcome is Outcome.REJECTED else None,
            (ConditionReason.CHECKS_PASSED, reason, message),
        ),
        (ConditionType.RESUMED, outcome is Outcome.RESUMED, reason, message),
        (ConditionType.STALLED, outcome.terminal and not succeeded, reason, message),
        (ConditionType.READY, succeeded, reason, message),
    )
    for kind, answer, why, text in answers:
        existing = put(existing, _condition(kind, answer, why, text, generation, now))
    return existing


def of_policy(
    existing: tuple[Condition, ...],
    *,
    problem: str,
    generation: int,
    now: datetime.datetime,
) -> tuple[Condition, ...]:
    """The `Valid` and `Ready` conditions of a WorkflowResumePolicy.

    Args:
        existing: The conditions in its status.
        problem: What is wrong with it, or the empty string.
        generation: The generation that was looked at.
        now: The time of the decision.
    """
    valid = not problem
    reason = ConditionReason.ACCEPTED if valid else ConditionReason.POLICY_INVALID
    for kind in (ConditionType.VALID, ConditionType.READY):
        existing = put(existing, _condition(kind, valid, reason, problem, generation, now))
    return put(
        existing,
        _condition(ConditionType.STALLED, not valid, reason, problem, generation, now),
    )


def _answer(
    existing: tuple[Condition, ...],
    kind: ConditionType,
    answer: bool | None,
    words: tuple[ConditionReason, Reason, str],
) -> tuple[ConditionType, bool | None, str, str]:
    """A condition that later reasons may say nothing about: then the earlier answer stays."""
    positive, negative, message = words
    match answer:
        case True:
            return kind, True, positive, ""
        case False:
            return kind, False, negative, message
        case None:
            old = find(existing, kind)
            if old is None or old.status is ConditionStatus.UNKNOWN:
                return kind, None, ConditionReason.NOT_DECIDED, ""
            return kind, old.status is ConditionStatus.TRUE, old.reason, old.message


def _condition(
    kind: ConditionType,
    answer: bool | None,
    reason: str,
    message: str,
    generation: int,
    now: datetime.datetime,
) -> Condition:
    return Condition(
        type=str(kind),
        status=ConditionStatus.of(answer),
        observed_generation=generation,
        last_transition_time=now.replace(microsecond=0),
        reason=str(reason),
        message=base.truncate(message, MAX_MESSAGE),
    )
