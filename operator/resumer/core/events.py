"""What a ``githubEvent`` says: its type, its task, its sender, and how rules look into it.

The event is free-form JSON in one of three shapes: the short form of the requirements (``action``,
``labels``, ``labelName``, ``reviewState``, ``pullRequestNumber``, ``sender``), the whole webhook
payload, or the payload under ``body`` with the request's ``headers`` beside it, as Argo Events
hands it on. All are understood alike. Nothing is trusted: a wrong type reads as absence.

A rule written for the long form finds the short form and the other way round, see `find`. One alias
has a condition: a short event's ``sender`` stands for ``review.user.login`` only if the action is
``submitted``, because only who submits a review is its author. What the short form leaves out of
the fields that it has names for is unknown rather than missing, see `is_unstated`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from resumer.core.paths import Path

READY_LABEL: Final = "ready-for-qa"
"""The label whose setting is an event type of its own (seed 000, section 3)."""

_TASK_LABEL: Final = re.compile(r"task-([0-9]{1,63})")
_TASK_BRANCH: Final = re.compile(r"task-([0-9]{1,63})(-.*)?", re.DOTALL)
_DELIVERY_ID: Final = re.compile(r"[!-~]{1,128}")
_DELIVERY_KEYS: Final = ("x-github-delivery", "deliveryid")
_OTHER_SUBJECTS: Final = ("issue", "milestone", "discussion")

_SAME: Final = (
    ("label.name", "labelName"),
    ("review.state", "reviewState"),
    ("review.user.login", "reviewer"),
    ("pull_request.number", "pullRequestNumber"),
    ("pull_request.labels[].name", "labels[].name", "labels[]"),
    ("pull_request.head.ref", "branch", "headRef"),
    ("sender.login", "sender"),
)
"""Paths that say the same, the long form first."""

_ALIASES: Final[Mapping[str, tuple[Path, ...]]] = {
    name: (Path.parse(name), *(Path.parse(other) for other in group if other != name))
    for group in _SAME
    for name in group
}
_SENDER: Final = _ALIASES["sender.login"]
_LABEL_NAMES: Final = tuple(map(Path.parse, ("labels[]", "labels[].name")))
_MORE_LABEL_NAMES: Final = tuple(
    map(Path.parse, ("pull_request.labels[].name", "issue.labels[].name"))
)
_BRANCHES: Final = tuple(map(Path.parse, ("pull_request.head.ref", "branch", "headRef", "ref")))

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What the built-in checks need to know of an event; None where it does not say."""

    event_type: str | None = None
    """From the action: ``pr-created``, ``pr-labeled-ready``, ``pr-labeled``, ``pr-approved`` or
    ``pr-reviewed``."""
    task_id_label: str | None = None
    """From a label ``task-N``; None also where labels name several tasks."""
    task_id_branch: str | None = None
    """From a branch ``task-N`` or ``task-N-...``."""
    conflicting_task_ids: tuple[str, ...] = ()
    """The tasks that labels name, where they name several; else empty."""
    action: str | None = None
    sender: str | None = None
    has_task_source: bool = False
    """Whether it carries labels or a branch at all, so that its task can be expected there."""

    @property
    def task_ids(self) -> tuple[str, ...]:
        """All different task ids that the event names; more than one is a contradiction."""
        named = (self.task_id_label, *self.conflicting_task_ids, self.task_id_branch)
        return tuple(dict.fromkeys(item for item in named if item is not None))


def normalise(event: Mapping[str, object]) -> EventFacts:
    """Reads the facts out of an event of any shape.

    Raises:
        InvalidError: It holds more labels than a lookup may reach, see `paths.MAX_VISITED`.
    """
    payload = _payload(event)
    in_labels = tuple(dict.fromkeys(_label_task_ids(payload)))
    branches = (_TASK_BRANCH.fullmatch(branch) for branch in _branches(payload))
    return EventFacts(
        event_type=_event_type(event),
        task_id_label=in_labels[0] if len(in_labels) == 1 else None,
        task_id_branch=next((found[1] for found in branches if found), None),
        conflicting_task_ids=in_labels if len(in_labels) > 1 else (),
        action=_text(payload.get("action")),
        sender=next(_texts(_first(payload, _SENDER)), None),
        has_task_source=any(_label_names(payload)) or any(_branches(payload)),
    )


def find(
    event: Mapping[str, object], path: Path, *, field: str = "githubEvent"
) -> tuple[object, ...]:
    """Looks a path up in an event of any shape, following the aliases.

    A path that has aliases leads to single values only: ``sender`` is the login, not the object.
    The first spelling that finds something wins, the rule's own before the others. A leading
    ``body.`` is optional, so that paths of Argo Events filters can be copied.

    Args:
        event: The event as the user gave it.
        path: The path without the prefix ``event.``.
        field: The path of what the user wrote, for the error.

    Raises:
        InvalidError: See `Path.find`.
    """
    payload = _payload(event)
    if len(path.steps) > 1 and path.steps[0] == "body":
        path = Path(path.steps[1:])
    name = str(path)
    aliases = _ALIASES.get(name)
    if aliases is None:
        return path.find(payload, field=field)
    if name == "review.user.login" and _is_short_review(payload):
        aliases += _SENDER
    return _first(payload, aliases)


def is_unstated(event: Mapping[str, object], path: Path) -> bool:
    """Whether an event in the short form leaves out a field of the payload that it has a name for.

    The short form is a summary that the creator of the request wrote by hand: what it leaves out is
    unknown. In a whole payload, recognised by its nested objects, the same field would be missing.

    Args:
        event: The event as the user gave it.
        path: The path without the prefix ``event.``.
    """
    payload = _payload(event)
    has_objects = any(isinstance(value, Mapping) for value in payload.values())
    is_short = "action" in payload and not has_objects
    return is_short and str(path) in _ALIASES and not find(event, path)


def delivery_id(event: Mapping[str, object]) -> str | None:
    """GitHub's id of the delivery, the same when it is sent again; None where there is none."""
    payload = _payload(event)
    for place in (event, event.get("headers"), payload, payload.get("headers")):
        for key, value in place.items() if isinstance(place, Mapping) else ():
            if str(key).lower() in _DELIVERY_KEYS:
                # Go's http.Header, which Argo Events passes on, is a map to lists.
                for text in _texts(value if isinstance(value, list) else [value]):
                    if _DELIVERY_ID.fullmatch(text):
                        return text
    return None


def _payload(event: Mapping[str, object]) -> Mapping[str, object]:
    body = event.get("body")
    return body if isinstance(body, Mapping) else event


def _is_short_review(payload: Mapping[str, object]) -> bool:
    return payload.get("action") == "submitted" and not isinstance(payload.get("review"), Mapping)


def _first(payload: Mapping[str, object], paths: Iterable[Path]) -> tuple[Scalar, ...]:
    for path in paths:
        found = tuple(item for item in path.find(payload) if isinstance(item, Scalar))
        if found:
            return found
    return ()


def _event_type(event: Mapping[str, object]) -> str | None:
    payload = _payload(event)
    # Other things are opened and labeled too; the short form, naming none, means a pull request.
    if payload.get("pull_request") is None and any(key in payload for key in _OTHER_SUBJECTS):
        return None
    match payload.get("action"):
        case "opened":
            return "pr-created"
        case "labeled":
            ready = READY_LABEL in _first(payload, _ALIASES["label.name"])
            return "pr-labeled-ready" if ready else "pr-labeled"
        case "submitted":
            states = _texts(_first(payload, _ALIASES["review.state"]))
            return "pr-approved" if "approved" in map(str.lower, states) else "pr-reviewed"
        case _:
            return None


def _label_names(payload: Mapping[str, object]) -> Iterator[str]:
    for path in (*_LABEL_NAMES, *_MORE_LABEL_NAMES):
        yield from _texts(path.find(payload))


def _label_task_ids(payload: Mapping[str, object]) -> Iterator[str]:
    for name in _label_names(payload):
        found = _TASK_LABEL.fullmatch(name)
        if found:
            yield found[1]


def _branches(payload: Mapping[str, object]) -> Iterator[str]:
    for path in _BRANCHES:
        for name in _texts(path.find(payload)):
            yield name.removeprefix("refs/heads/")


def _texts(values: Iterable[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
