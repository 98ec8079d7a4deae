"""The shape of a ``githubEvent``: which event it is, who sent it, and how a path looks into it.

The event is free-form JSON in one of three shapes: the short form of the requirements (``action``,
``labels``, ``labelName``, ``reviewState``, ``pullRequestNumber``, ``sender``), the whole webhook
payload, or the payload under ``body`` with the request's ``headers`` beside it, as Argo Events
hands it on. All are understood alike. Nothing is trusted: a wrong type reads as absence.

A rule written for the long form finds the short form and the other way round, see `find`. One alias
has a condition: a short event's ``sender`` stands for ``review.user.login`` only if the action is
``submitted``, because only who submits a review is its author. What the short form leaves out of
the fields that it has names for is unknown rather than missing, see `is_unstated`.

What the event means for a workflow, its task and its type, is for `extraction`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from resumer.core.paths import Path

_DELIVERY_ID: Final = re.compile(r"[!-~]{1,128}")
_DELIVERY_KEYS: Final = ("x-github-delivery", "deliveryid")
_EVENT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_EVENT_KEYS: Final = ("x-github-event",)

_SAME: Final = (
    (("label.name",), ("labelName",)),
    (("review.state",), ("reviewState",)),
    (("review.user.login",), ("reviewer",)),
    (
        (
            "pull_request.number",
            "check_suite.pull_requests[].number",
            "check_run.pull_requests[].number",
            "workflow_run.pull_requests[].number",
        ),
        ("pullRequestNumber",),
    ),
    (("pull_request.labels[].name", "issue.labels[].name"), ("labels[].name", "labels[]")),
    (
        (
            "pull_request.head.ref",
            "check_suite.head_branch",
            "check_run.check_suite.head_branch",
            "workflow_run.head_branch",
        ),
        ("branch", "headRef"),
    ),
    (("sender.login",), ("sender",)),
    (("pull_request.merged",), ("merged",)),
    (
        ("check_suite.conclusion", "check_run.conclusion", "workflow_run.conclusion"),
        ("conclusion",),
    ),
    (
        (
            "pull_request.title",
            "issue.title",
            "workflow_run.display_title",
        ),
        ("title",),
    ),
)
"""Paths that say the same: in the payloads, and in the short form."""


def _others(name: str, long: tuple[str, ...], short: tuple[str, ...]) -> tuple[str, ...]:
    """Where else to look: a payload's own field is in no other payload, a short one in any."""
    others = (*short, *long) if name in short else short
    return tuple(other for other in others if other != name)


_ALIASES: Final[Mapping[str, tuple[Path, ...]]] = {
    name: tuple(map(Path.parse, (name, *_others(name, long, short))))
    for long, short in _SAME
    for name in (*long, *short)
}
_SENDER: Final = _ALIASES["sender.login"]
_UNSTATED: Final = frozenset(
    {
        *("label.name", "labelName", "review.state", "reviewState", "review.user.login"),
        *("reviewer", "pull_request.number", "pullRequestNumber", "sender.login", "sender"),
        *("pull_request.labels[].name", "labels[].name", "labels[]"),
        *("pull_request.head.ref", "branch", "headRef"),
    }
)
"""The fields that the requirements' own manifests leave out while they have rules on them."""

_PUSHED: Final = Path.parse("ref")
_BRANCH: Final = "refs/heads/"
_COMMENTED: Final = Path.parse("issue.number")

_NAMED_BY_PARTS: Final = (
    ("pull_request_review", ("review", "pull_request")),
    ("pull_request_review_comment", ("comment", "pull_request")),
    ("pull_request", ("pull_request",)),
    ("issue_comment", ("comment", "issue")),
    ("issues", ("issue",)),
    ("check_run", ("check_run",)),
    ("check_suite", ("check_suite",)),
    ("workflow_run", ("workflow_run",)),
    ("push", ("ref", "before", "after")),
)
"""GitHub's events, by the parts that their payloads have and the ones below have not."""

_NAMED_BY_ACTION: Final = {
    "opened": "pull_request",
    "labeled": "pull_request",
    "closed": "pull_request",
    "submitted": "pull_request_review",
}
"""What an event without a subject means, such as one in the short form."""

_NO_SUBJECTS: Final = frozenset(
    {
        *("sender", "repository", "organization", "installation", "enterprise", "headers"),
        *("label", "review", "changes"),
    }
)
"""Objects in a payload that do not say what was opened, labeled or closed."""

Scalar = str | int | float | bool


def payload(event: Mapping[str, object]) -> Mapping[str, object]:
    """The webhook's payload, or the short form; without what Argo Events puts around it."""
    body = event.get("body")
    return body if isinstance(body, Mapping) else event


def name(event: Mapping[str, object]) -> str | None:
    """GitHub's name of the event, from its header, else from the parts of the payload.

    None where neither tells, so that an unknown thing that was opened is no pull request.
    """
    return stated_name(event) or _inferred(payload(event))


def stated_name(event: Mapping[str, object]) -> str | None:
    """GitHub's name of the event from its header; None where there is none."""
    return _header(event, _EVENT_KEYS, _EVENT_NAME)


def delivery_id(event: Mapping[str, object]) -> str | None:
    """GitHub's id of the delivery, the same when it is sent again; None where there is none."""
    return _header(event, _DELIVERY_KEYS, _DELIVERY_ID)


def action(event: Mapping[str, object]) -> str | None:
    """What happened to the subject of the event, in GitHub's word."""
    return next(texts([payload(event).get("action")]), None)


def sender(event: Mapping[str, object]) -> str | None:
    """The login of who caused the event."""
    return next(texts(_first(payload(event), _SENDER)), None)


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
    inner = payload(event)
    if len(path.steps) > 1 and path.steps[0] == "body":
        path = Path(path.steps[1:])
    spelled = str(path)
    aliases = _ALIASES.get(spelled)
    if aliases is None:
        return path.find(inner, field=field)
    if spelled == "review.user.login" and _is_short_review(inner):
        aliases += _SENDER
    if spelled == "pullRequestNumber" and _is_comment_on_pull_request(inner):
        aliases += (_COMMENTED,)
    found = _first(inner, aliases)
    if not found and spelled in ("branch", "headRef"):
        return tuple(pushed_branches(event))
    return found


def pushed_branches(event: Mapping[str, object]) -> Iterator[str]:
    """The branch of a push; none where a tag was pushed."""
    for ref in texts(_PUSHED.find(payload(event))):
        if ref.startswith(_BRANCH) or not ref.startswith("refs/"):
            yield ref.removeprefix(_BRANCH)


def is_short(event: Mapping[str, object]) -> bool:
    """Whether an event is in the short form: an action, and nothing nested as in a payload."""
    inner = payload(event)
    return "action" in inner and not any(isinstance(value, Mapping) for value in inner.values())


def is_unstated(event: Mapping[str, object], path: Path) -> bool:
    """Whether an event in the short form leaves out a field of the payload that it has a name for.

    The short form is a summary that the creator of the request wrote by hand: what it leaves out is
    unknown. In a whole payload, recognised by its nested objects, the same field would be missing.

    Args:
        event: The event as the user gave it.
        path: The path without the prefix ``event.``.
    """
    return is_short(event) and str(path) in _UNSTATED and not find(event, path)


def texts(values: Iterable[object]) -> Iterator[str]:
    """Those of some values that are text and not empty."""
    return (value for value in values if isinstance(value, str) and value)


def _header(
    event: Mapping[str, object], keys: tuple[str, ...], grammar: re.Pattern[str]
) -> str | None:
    """A header of the delivery, wherever it was put; names of headers have no case."""
    inner = payload(event)
    for place in (event, event.get("headers"), event.get("header"), inner, inner.get("headers")):
        for key, value in place.items() if isinstance(place, Mapping) else ():
            if str(key).lower() in keys:
                # Go's http.Header, which Argo Events passes on, is a map to lists.
                for text in texts(value if isinstance(value, list) else [value]):
                    if grammar.fullmatch(text):
                        return text
    return None


def _inferred(inner: Mapping[str, object]) -> str | None:
    for found, parts in _NAMED_BY_PARTS:
        if all(inner.get(part) is not None for part in parts):
            return found
    if any(isinstance(inner[key], Mapping) for key in inner if key not in _NO_SUBJECTS):
        return None
    return _NAMED_BY_ACTION.get(next(texts([inner.get("action")]), ""))


def _is_short_review(inner: Mapping[str, object]) -> bool:
    return inner.get("action") == "submitted" and not isinstance(inner.get("review"), Mapping)


def _is_comment_on_pull_request(inner: Mapping[str, object]) -> bool:
    issue = inner.get("issue")
    return isinstance(issue, Mapping) and isinstance(issue.get("pull_request"), Mapping)


def _first(inner: Mapping[str, object], paths: Iterable[Path]) -> tuple[Scalar, ...]:
    for path in paths:
        found = tuple(item for item in path.find(inner) if isinstance(item, Scalar))
        if found:
            return found
    return ()
