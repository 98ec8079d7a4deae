"""GitHub's own webhook payloads, changed where a test wants them to be of its task."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

Json = dict[str, Any]

_FOLDER = pathlib.Path(__file__).parent / "fixtures" / "github"

NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))
"""All payloads there are: the event and the action."""


def payload(name: str, **changes: object) -> Json:
    """A payload as GitHub sends it.

    Args:
        name: One of `NAMES`.
        **changes: Values by the path where they go, with two underscores between its keys:
            ``pull_request__head__ref="task-5"``.
    """
    found: Json = json.loads(_text(name))
    for path, value in changes.items():
        *parents, last = path.split("__")
        here = found
        for parent in parents:
            here = here[parent]
        here[last] = value
    return found


def event(name: str, delivery: str = "", **changes: object) -> Json:
    """The same with the names of the delivery's headers in it, as Argo Events copies them."""
    headers = {"X-GitHub-Event": name.partition(".")[0]}
    if delivery:
        headers["X-GitHub-Delivery"] = delivery
    return {**headers, **payload(name, **changes)}


def labels(*names: str) -> list[Json]:
    """Labels of a pull request or an issue."""
    return [{"id": number, "name": name} for number, name in enumerate(names)]


@functools.cache
def _text(name: str) -> str:
    return (_FOLDER / f"{name}.json").read_text()
