"""A webhook of GitHub cut down to what correlation needs: what a request carries as its event.

A payload can have 25 MB; the API server takes objects of 1.5 MB, and each of them is held in the
memory of everybody who watches. So only the fields stay that the operator or a rule may ask for,
and each is bounded: a short text to `MAX_TEXT` characters, a title or a body to `MAX_PROSE`, a list
to `MAX_ITEMS` items, the depth by the table. A field of a wrong type is left out.

``deploy/argo-events/github/event.jq`` is the same in the language of a Sensor. A test runs both on
every recorded payload: change them together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

MAX_TEXT: Final = 255
"""Characters of a name, a branch, an address or a time."""
MAX_PROSE: Final = 4096
"""Characters of a title, a body or a message."""
MAX_ITEMS: Final = 100
"""Labels, or pull requests of a check."""

_Cut = Callable[[object], Any]
"""Returns None for what is to be left out."""

# What jq takes for no blank: also those of other scripts.
_LAST_WORD: Final = re.compile(r"[^\t\n\f\r ]*\Z")


def cut(payload: Mapping[str, object]) -> dict[str, Any]:
    """The part of a webhook's payload that a request carries.

    Args:
        payload: What GitHub sent, with ``X-GitHub-Event`` and ``X-GitHub-Delivery`` beside it.
    """
    return _cut_event(payload)


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) else None


def _prose(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    # Cut at a blank, because half of `task-123` would be another task.
    return value if len(value) <= MAX_PROSE else _LAST_WORD.sub("", value[:MAX_PROSE], count=1)


def _scalar(value: object) -> bool | int | float | None:
    return value if isinstance(value, bool | int | float) else None


def _object(**fields: _Cut) -> Callable[[object], dict[str, Any]]:
    def cut_object(value: object) -> dict[str, Any]:
        inner = value if isinstance(value, Mapping) else {}
        found = {name: cut_field(inner.get(name)) for name, cut_field in fields.items()}
        return {name: part for name, part in found.items() if part is not None and part != {}}

    return cut_object


def _list(cut_item: _Cut) -> _Cut:
    def cut_list(value: object) -> list[Any] | None:
        if not isinstance(value, list):
            return None
        return [cut_item(item) for item in value[:MAX_ITEMS]]

    return cut_list


_USER: Final = _object(login=_text, type=_text)
_REPOSITORY: Final = _object(full_name=_text)
_LABEL: Final = _object(name=_text)
_COMMIT: Final = _object(message=_prose)
_BRANCH: Final = _object(ref=_text, sha=_text, repo=_REPOSITORY)
_SUBJECT: Final = _object(
    number=_scalar,
    state=_text,
    title=_prose,
    body=_prose,
    html_url=_text,
    draft=_scalar,
    merged=_scalar,
    state_reason=_text,
    author_association=_text,
    created_at=_text,
    updated_at=_text,
    closed_at=_text,
    merged_at=_text,
    user=_USER,
    merged_by=_USER,
    labels=_list(_LABEL),
    head=_BRANCH,
    base=_BRANCH,
    # Of an issue: it is a pull request, and a comment on it one on a pull request.
    pull_request=_object(html_url=_text),
)
_REMARK: Final = _object(
    id=_scalar,
    state=_text,
    body=_prose,
    html_url=_text,
    author_association=_text,
    submitted_at=_text,
    created_at=_text,
    user=_USER,
)
_CHECK: Final = _object(
    id=_scalar,
    name=_text,
    status=_text,
    conclusion=_text,
    head_branch=_text,
    head_sha=_text,
    html_url=_text,
    event=_text,
    display_title=_prose,
    head_commit=_COMMIT,
    app=_object(slug=_text),
    check_suite=_object(head_branch=_text),
    pull_requests=_list(_object(number=_scalar, head=_BRANCH, base=_BRANCH)),
)
_cut_event: Final = _object(
    **{"X-GitHub-Event": _text, "X-GitHub-Delivery": _text},
    action=_text,
    number=_scalar,
    ref=_text,
    after=_text,
    head_commit=_COMMIT,
    label=_LABEL,
    pull_request=_SUBJECT,
    issue=_SUBJECT,
    review=_REMARK,
    comment=_REMARK,
    check_suite=_CHECK,
    check_run=_CHECK,
    workflow_run=_CHECK,
    repository=_REPOSITORY,
    sender=_USER,
)
