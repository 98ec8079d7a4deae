"""The request that a Sensor would make of an event, worked out without the Sensor.

The Sensor that comes with Resumer (``deploy/argo-events/github``) has a trigger for each suspension
point, takes the task from the labels, the branch, or the title or text, cuts the payload, and hands
some values to the next step. Here the type of the event and its task come from the rules of a
policy; where those find no task, from where the Sensor looks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from resumer.api import constants
from resumer.api.policy import TaskIdPlace
from resumer.core import events, extraction, github, policies
from resumer.core.extraction import EventFacts, TaskSource
from resumer.core.paths import Path
from resumer.core.policies import Policy
from resumer.errors import InvalidError

_WORD: Final = r"(?:^|[^0-9A-Za-z_-])task-([0-9]{1,63})(?:[^0-9A-Za-z_-]|$)"
_SENSOR_SOURCES: Final = (
    *extraction.DEFAULT.sources,
    TaskSource(TaskIdPlace.TITLE, _WORD, "title"),
    TaskSource(TaskIdPlace.BODY, _WORD, "body"),
)
"""Where the Sensor looks for a task: the ``$tasks`` of its event.jq."""

_TIME: Final = ("review.submitted_at", "pull_request.updated_at")
SENSOR_VALUES: Final[Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "pr-created": (
        ("pr-number", ("pull_request.number",)),
        ("pr-url", ("pull_request.html_url",)),
    ),
    "pr-labeled-ready": (("cleo-completion-time", _TIME),),
    "pr-approved": (("tess-approval-time", _TIME), ("review-id", ("review.id",))),
}
"""The values that the Sensor hands on, by the type of the event: a name, and where it is."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person says of the request; the rest is found out."""

    event_type: str = ""
    task_id: str = ""
    label_selector: str = ""
    values: tuple[tuple[str, str], ...] | None = None
    """Names of resume parameters, and the paths in the event that they are at; None: those that
    the Sensor hands on."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """No request becomes of the event."""

    why: str


def propose(event: Mapping[str, object], policy: Policy, wish: Wish) -> dict[str, Any] | Dropped:
    """The manifest of the request that becomes of an event under a policy.

    Args:
        event: The whole payload with the names of its headers, see `deliveries.read`.
        policy: Whose rules name the type and the task.
        wish: What is said already.

    Raises:
        InvalidError: The event holds more labels or text than a lookup may reach, or a path of the
            wish cannot be understood.
    """
    cut = github.cut(event)
    facts = extraction.read(cut, policy.extraction)
    event_type = wish.event_type or facts.event_type
    rules = policies.described(policy)
    if not event_type:
        return Dropped(f"{_what(facts)} is of no type that {rules} knows")
    used = event_type in policy.stage_by_event or policy.stages_failing_on(event_type)
    if not used and not wish.event_type:
        return Dropped(
            f"{_what(facts)} is {event_type!r}, which neither opens nor fails a gate by {rules}"
        )
    task = wish.task_id or _task(cut, facts, policy)
    if not task:
        return Dropped(f"{_what(facts)} names no task: {_looked_at(policy)}")
    values = [
        {"name": name, "value": _value(cut, paths)} for name, paths in _values(event_type, wish)
    ]
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.RESUME_KIND,
        "metadata": {"name": _name(cut)},
        "spec": {
            "labelSelector": wish.label_selector or _selector(policy, task),
            "correlationData": {"taskId": task, "eventType": event_type, "githubEvent": cut},
            **({"resumeParameters": values} if values else {}),
        },
    }


def _what(facts: EventFacts) -> str:
    action = f", action {facts.action!r}" if facts.action else ""
    return f"the event ({facts.name or 'of an unknown kind'}{action})"


def _task(cut: Mapping[str, object], facts: EventFacts, policy: Policy) -> str:
    if facts.task_ids:
        return facts.task_ids[0]
    by_sensor = dataclasses.replace(policy.extraction, sources=_SENSOR_SOURCES)
    return next(iter(extraction.read(cut, by_sensor).task_ids), "")


def _looked_at(policy: Policy) -> str:
    if policy.extraction.sources == extraction.DEFAULT.sources:
        return "no `task-<number>` is in its labels, branch, title or text"
    return "neither the policy's taskIdSources find one, nor is a `task-<number>` in it"


def _values(event_type: str, wish: Wish) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if wish.values is None:
        return SENSOR_VALUES.get(event_type, ())
    return tuple((name, (path,)) for name, path in wish.values)


def _value(cut: Mapping[str, object], paths: tuple[str, ...]) -> str:
    """The first value at the first path that leads to one; else the empty text."""
    for path in paths:
        try:
            found = events.find(cut, Path.parse(path))
        except InvalidError as error:
            raise InvalidError(path, f"the path {path!r}: {error}") from None
        for value in found:
            if isinstance(value, str):
                return value
            if isinstance(value, bool | int | float):
                return json.dumps(value)
    return ""


def _selector(policy: Policy, task: str) -> str:
    """Those of the policy and of the task, so that the selector is never empty."""
    own = f"{policy.task_label}={task}"
    return f"{policy.selector},{own}" if policy.selector and policy.selector.requirements else own


def _name(cut: Mapping[str, object]) -> str:
    """A name that is the same when the same delivery is replayed."""
    sent = re.sub(r"[^a-z0-9]+", "-", (events.delivery_id(cut) or "").lower()).strip("-")[:40]
    if not sent:
        sent = hashlib.sha256(json.dumps(cut, sort_keys=True).encode()).hexdigest()[:12]
    return f"resume-{sent.rstrip('-')}-replay"
