"""The decision: one request, everything known about it, and the time, make one `Decision`. Pure.

`CHAIN` is the specification. What can be said from the request alone comes first, so that a request
that can never succeed is refused at once; what depends on the workflow comes when its gate is open,
so that an early event waits.

Three rules stand around the chain. A workflow of which only the metadata is known, for a moment
after a start or a gap of the watch, is read first. Nothing is decided for good from the watch's
view of a workflow, which can be stale: before an end that rests on it, the workflows are read. And
a request that would wait past its deadline has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from resumer.api.outcomes import Outcome, Reason
from resumer.core import orders
from resumer.core.case import Case, Stop
from resumer.core.checks import of_attempt, of_gate, of_request, of_workflow
from resumer.core.observation import Decision, End, Look, Observation, Resume

_Check: TypeAlias = Callable[[Case], Case | Stop]

CHAIN: tuple[_Check, ...] = (
    of_request.readable,  # what cannot be read never could: it has resumed nothing
    of_workflow.recorded,  # a resume that happened is a fact, whatever is found wrong now
    of_request.under_policy,
    of_request.event_agrees,
    of_request.event_rules_pass,  # from here on, the workflow is needed
    of_workflow.correlated,
    of_request.event_fits_policy,  # which policy is in charge, the workflow has told
    of_workflow.within_reach,
    of_gate.at_gate,
    of_gate.workflow_rules_pass,  # only now: an early event must not fail on labels yet to come
    of_gate.labels_fit,
    of_gate.parameters_fit,
    of_attempt.meant,
    of_attempt.attempt_due,
    of_attempt.circuit_closed,  # last: who is stopped here lacks nothing but a working API server
)


@dataclass(frozen=True, slots=True)
class Step:
    """One check of the chain, and how it went for one request."""

    name: str
    asks: str
    """What has to hold, in a sentence."""
    passed: bool | None
    """None: the chain had ended before."""


def decide(seen: Observation, now: datetime) -> Decision:
    """Decides what to do about a request now.

    Args:
        seen: What is known.
        now: The time, for deadlines, waits and the trace that a resume leaves.
    """
    case = Case(seen, now)
    return _decision(case, _walk(case))


def explain(seen: Observation, now: datetime) -> tuple[Decision, tuple[Step, ...]]:
    """Decides as `decide` does, and tells how far the request came in the chain; for people."""
    case = Case(seen, now)
    walked = tuple(_walk(case))
    passed = {check: isinstance(result, Case) for check, result in walked}
    steps = tuple(Step(check.__name__, _asks(check), passed.get(check)) for check in CHAIN)
    return _decision(case, walked), steps


def _walk(case: Case) -> Iterator[tuple[_Check, Case | Stop]]:
    """The checks one after the other and what came of each, up to the first that stops."""
    for check in CHAIN:
        result = check(case)
        yield check, result
        if isinstance(result, Stop):
            return
        case = result


def _asks(check: _Check) -> str:
    asks = (check.__doc__ or "").split("\n\n")[0]
    return " ".join(asks.split())


def _decision(case: Case, walked: Iterable[tuple[_Check, Case | Stop]]) -> Decision:
    """What follows from the last check that was made.

    Args:
        case: As it was before the first.
        walked: What came of each; not asked for while a workflow is not read.
    """
    if not all(workflow.read for workflow in case.seen.workflows):
        return Decision(Look("a workflow was listed, and is not read yet"), case.facts)
    *_, (_, last) = walked
    if isinstance(last, Stop):
        return _stopped(last.case, last.what)
    return Decision(Resume(orders.build(last)), last.facts)


def _stopped(case: Case, what: End | Look) -> Decision:
    if isinstance(what, Look):
        return Decision(what, case.facts)
    outcome = what.reason.outcome
    if outcome is Outcome.WAITING:
        if case.now < case.deadline:
            return Decision(End(what.reason, what.message, case.deadline), case.facts)
        what = End(Reason.DEADLINE_EXCEEDED, f"waited until the deadline, but {what.message}")
        outcome = what.reason.outcome
    if (
        outcome.terminal
        and outcome is not Outcome.DRY_RUN
        and case.from_watch
        and not case.seen.fresh
    ):
        return Decision(Look(f"{what.reason} rests on the watch"), case.facts)
    return Decision(what, case.facts)
