"""A saved delivery of GitHub, in whatever form somebody kept it.

    {"action": "opened", ...}                       the payload itself
    {"headers": {...}, "body" or "payload": ...}    with its headers, as Argo Events hands it on
    {"request": {"headers": ..., "payload": ...}}   as GitHub's interface tells of a delivery
    {"context": ..., "data": ...}                   an event of Argo Events, around any of these
    {"githubEvent": {...}}                          what a Sensor made of it, as its log shows it

Out of each comes the payload with the names of its two headers in it, as Argo Events makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from resumer.core import events
from resumer.errors import InvalidError

_WRAPPINGS: Final = (
    ("context", "data"),
    ("request", "request"),
    ("headers", "body"),
    ("header", "body"),
    ("headers", "payload"),
    ("githubEvent", "githubEvent"),
)
"""What stands beside the content, and where the content is; no payload of GitHub has these."""

_MAX_DEPTH: Final = 4
"""How many wrappings there can be around a payload."""


def read(document: object, *, name: str = "", delivery: str = "") -> dict[str, object]:
    """The payload in a saved delivery, with the names of its headers in it.

    Args:
        document: What was saved, parsed.
        name: GitHub's name of the event, where the document does not hold it, or a wrong one.
        delivery: Its id, likewise.

    Raises:
        InvalidError: There is no payload in it; says what there is.
    """
    found = name or None
    sent = delivery or None
    for _ in range(_MAX_DEPTH):
        here = _mapping(document)
        found = found or events.stated_name(here)
        sent = sent or events.delivery_id(here)
        inside = next((key for mark, key in _WRAPPINGS if mark in here and key in here), None)
        if inside is None:
            found = found or events.name(here)
            stated = {"X-GitHub-Event": found, "X-GitHub-Delivery": sent}
            own = {key: value for key, value in here.items() if key not in stated}
            return {**{key: value for key, value in stated.items() if value}, **own}
        document = here[inside]
    raise InvalidError("", f"more than {_MAX_DEPTH} wrappings are around the payload")


def _mapping(document: object) -> Mapping[str, object]:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except (ValueError, RecursionError):
            raise InvalidError("", "the payload is a text that is not JSON") from None
    if not isinstance(document, Mapping):
        what = {list: "a list", type(None): "null"}.get(type(document), "a single value")
        raise InvalidError("", f"a payload of GitHub is a JSON object, this is {what}")
    return document
