"""The status of a WorkflowResume, composed from a decision; the one place where status is made."""

from __future__ import annotations

from datetime import datetime

from resumer.api import base, conditions, resume
from resumer.api.outcomes import Outcome, Reason
from resumer.api.resume import Attempt, ResumeStatus, RetryStatus
from resumer.core import workflows
from resumer.core.observation import End, Facts
from resumer.core.suspended import Gate

MAX_MESSAGE = 1024
"""Characters of the message of the whole."""

EMPTY = ResumeStatus()
"""The status of a request that was not looked at yet."""


def compose(
    metadata: base.ObjectMeta,
    before: ResumeStatus,
    end: End,
    now: datetime,
    *,
    facts: Facts,
    attempt: Attempt | None = None,
) -> ResumeStatus:
    """Makes the new status; equal to the old one if nothing changed that a person would miss.

    Args:
        metadata: Of the WorkflowResume.
        before: Its status as last seen.
        end: The reason, the message, and for a reason that is not for good the time of the next
            look.
        now: The time.
        facts: What the decision found out.
        attempt: The attempt that led here, if there was one.
    """
    outcome = end.reason.outcome
    message = base.truncate(end.message, MAX_MESSAGE)
    resumed = outcome is Outcome.RESUMED
    resumed_by = f"workflowresume/{metadata.name}" if resumed else facts.resumed_by
    return ResumeStatus(
        observed_generation=metadata.generation,
        phase=outcome.phase,
        conditions=conditions.of_resume(
            before.conditions,
            outcome=outcome,
            reason=end.reason,
            message=message,
            generation=metadata.generation,
            now=now,
            correlated=facts.workflow is not None,
            validated=facts.validated,
        ),
        outcome=outcome,
        reason=str(end.reason),
        message=message,
        # Who cannot read does not know better than before.
        policy=_policy(facts) or (before.policy if outcome is Outcome.BACKING_OFF else None),
        workflow=_workflow(facts) or before.workflow,
        checks=_checks(facts) or before.checks,
        attempts=(*before.attempts, *([attempt] if attempt else []))[-resume.MAX_ATTEMPTS_KEPT :],
        retry=_retry(before, end, attempt),
        correlation_id=metadata.uid,
        resumed_time=now if resumed else None,
        resumed_by=base.truncate(resumed_by, resume.MAX_CHECK_TEXT) or None,
        deadline_time=facts.deadline if outcome is Outcome.WAITING else None,
    )


def attempts_made(before: ResumeStatus) -> int:
    """How many attempts of a request failed so far."""
    return before.retry.count if before.retry else 0


def _retry(before: ResumeStatus, end: End, attempt: Attempt | None) -> RetryStatus | None:
    failed = attempt is not None and not attempt.outcome.written
    count = attempts_made(before) + (1 if failed else 0)
    due = end.until if end.reason.outcome is Outcome.BACKING_OFF else None
    of_read = not count and before.reason == Reason.API_UNAVAILABLE
    if due is None and not (end.reason.outcome.terminal or of_read) and before.retry is not None:
        due = before.retry.next_attempt_time
    # Who was turned away before the first attempt has none behind it, and waits all the same.
    return RetryStatus(count=count, next_attempt_time=due) if count or due else None


def _policy(facts: Facts) -> resume.PolicyUse | None:
    if not facts.policy.name:
        return None
    others = facts.also_matching[: resume.MAX_OTHER_POLICIES]
    return resume.PolicyUse(name=facts.policy.name, also_matching=others)


def _workflow(facts: Facts) -> resume.WorkflowStatus | None:
    if facts.workflow is None and not facts.stage.name:
        return None
    workflow = facts.workflow
    return resume.WorkflowStatus(
        name=workflow.key.name if workflow else "",
        uid=workflow.uid if workflow else "",
        stage=facts.stage.name or None,
        nodes=tuple(_node(gate) for gate in facts.gates[: resume.MAX_NODES]),
    )


def _node(gate: Gate) -> resume.ResumedNode:
    return resume.ResumedNode(
        id=base.truncate(gate.id, 512),
        display_name=base.truncate(gate.display_name, 256),
        template_name=base.truncate(gate.template_name, 256),
        started_at=workflows.moment(gate.started_at),
    )


def _checks(facts: Facts) -> tuple[resume.Check, ...]:
    return tuple(
        resume.Check(
            field=check.field,
            operator=check.operator,
            expected=check.expected,
            actual=check.actual,
            passed=check.passed,
        )
        for check in facts.checks[: resume.MAX_CHECKS]
    )
