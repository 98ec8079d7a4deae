"""Whether it is time for an attempt, and how the ends are worded that come of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from resumer.api.outcomes import Reason
from resumer.core import (
    backoff,
    breaker,
    instants,
    wording,
)
from resumer.core.case import Case, Stop
from resumer.core.observation import End
from resumer.core.policies import Stage
from resumer.core.suspended import Gate


def meant(case: Case) -> Case | Stop:
    """The request is no dry run."""
    if case.spec.dry_run:
        target = wording.names(gate.display_name for gate in case.gates) or "spec.suspend"
        verb = "fail" if case.fails else "resume"
        return case.end(
            Reason.WOULD_FAIL if case.fails else Reason.WOULD_RESUME,
            f"would {verb} {target} of workflow {case.workflow.key.name!r}; nothing was written",
        )
    return case


def attempt_due(case: Case) -> Case | Stop:
    """The next attempt is due, after the ones that failed."""
    status = case.seen.request.status
    if status.retry is None:
        return case
    last = status.attempts[-1] if status.attempts else None
    count, allowed = status.retry.count, case.stage.retry.max_attempts
    if count >= allowed:
        return case.end(
            Reason.RETRIES_EXHAUSTED,
            f"{count} attempts have failed, and the policy now allows {allowed}"
            + (f"; {last.message}" if last else ""),
        )
    if last is None and status.reason == Reason.API_UNAVAILABLE:
        # It waits for its next read, and what is known now has to do without.
        return case
    if last is not None and instants.is_ahead(last.end_time, case.now):
        return case
    limited = status.reason == Reason.RATE_LIMITED
    due = status.retry.next_attempt_time
    if due is not None and last is not None and last.end_time is not None and not limited:
        # The policy may have changed since: a shorter wait holds for the wait under way, too.
        longest = backoff.delay(case.stage.retry, count, None, 1.0)
        due = min(due, last.end_time + timedelta(seconds=longest))
    if due is None or due <= case.now:
        return case
    if limited:
        return case.end(Reason.RATE_LIMITED, status.message or "", until=due)
    message = last.message if last else "the next attempt is not due yet"
    return case.end(Reason.API_UNAVAILABLE, message, until=due)


def circuit_closed(case: Case) -> Case | Stop:
    """The circuit breaker of the stage lets an attempt through."""
    current = case.seen.breakers.get(case.stage.name)
    if current is None:
        return case
    verdict = breaker.admit(current, case.stage.breaker, case.seen.request.metadata.uid, case.now)
    if isinstance(verdict, breaker.Refused):
        return Stop(case, held(case.stage, verdict))
    return case


def held(stage: Stage, refused: breaker.Refused) -> End:
    """The end of a request that the circuit breaker of its stage holds back."""
    return End(
        Reason.BREAKER_OPEN,
        f"too many attempts in stage {stage.name!r} failed in a row; the request is held, "
        "and no attempt of it is used up",
        until=refused.until,
    )


def done(workflow: str, touched: Sequence[Gate], *, whole: bool, failed: bool) -> End:
    """The end of a request that has done what it asked for.

    Args:
        workflow: Its name.
        touched: The gates that were opened or failed.
        whole: It was ``spec.suspend`` that was lifted.
        failed: The gates were failed.
    """
    if whole:
        return End(Reason.WORKFLOW_UNSUSPENDED, f"lifted spec.suspend of workflow {workflow!r}")
    which = wording.names(gate.display_name for gate in touched) or "the gate"
    if failed:
        return End(Reason.FAILED_BY_EVENT, f"failed {which} of workflow {workflow!r}")
    return End(Reason.GATE_OPENED, f"opened {which} of workflow {workflow!r}")
