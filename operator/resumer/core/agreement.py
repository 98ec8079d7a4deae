"""Whether an event is what the request says of it: of this task, and of this type.

Seed 000, section 3. An event that says nothing of its task or its type contradicts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from resumer.api.outcomes import Reason
from resumer.api.resume import CorrelationData
from resumer.core import extraction, wording
from resumer.core.extraction import EventFacts, Extraction
from resumer.core.patterns import Effort
from resumer.errors import InvalidError


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What the request says of the event, and the event does not."""

    reason: Reason
    message: str


def judge(
    data: CorrelationData, rules: Extraction, effort: Effort | None = None
) -> EventFacts | Disagreement:
    """Compares an event with what the request says of it.

    Args:
        data: Of the request.
        rules: How the task and the type are found.
        effort: What is left for all rules that the event is compared by; None for one that stand
            alone.

    Returns:
        What the event says, if the two agree.
    """
    try:
        facts = extraction.read(data.github_event, rules, effort)
    except InvalidError as error:
        return Disagreement(Reason.INVALID_OBJECT, f"correlationData.githubEvent: {error}")
    places = tuple(dict.fromkeys(source.place.lower() for source in rules.sources))
    if len(facts.task_ids) > 1:
        return Disagreement(
            Reason.TASK_MISMATCH,
            f"the event's {' and '.join(places)} name several tasks: "
            f"{wording.names(facts.task_ids)}",
        )
    if facts.has_task_source and facts.task_ids != (data.task_id,):
        verb = "name" if len(places) > 1 or places == ("labels",) else "names"
        found = f"task {facts.task_ids[0]!r}" if facts.task_ids else f"no task ({_wanted(rules)})"
        return Disagreement(
            Reason.TASK_MISMATCH,
            f"the event's {' or '.join(places)} {verb} {found}, "
            f"correlationData.taskId is {data.task_id!r}",
        )
    action = f"action {facts.action!r}" if facts.action else "without an action"
    if facts.event_type is not None and facts.event_type != data.event_type:
        return Disagreement(
            Reason.EVENT_TYPE_MISMATCH,
            f"the event says {facts.event_type!r} ({action}), "
            f"correlationData.eventType is {data.event_type!r}",
        )
    if facts.event_type is None and extraction.contradicts(
        data.github_event, data.event_type, rules
    ):
        return Disagreement(
            Reason.EVENT_TYPE_MISMATCH,
            f"the event ({facts.name or 'of an unknown kind'}, {action}) is not "
            f"{data.event_type!r}, as correlationData.eventType says",
        )
    return facts


def _wanted(rules: Extraction) -> str:
    if rules.sources == extraction.DEFAULT.sources:
        return "none is `task-<number>`"
    return "none that the policy's taskIdSources find"
