"""What the API server was asked for, from its audit log: the count of reads and writes."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any, Self

_STREAMS = ("watch",)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Call:
    """One request that was answered."""

    verb: str
    resource: str
    """With its subresource, as `workflowresumes/status`."""
    name: str
    code: int

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        """From a line of the log."""
        target = entry["objectRef"]
        below = f"/{target['subresource']}" if target.get("subresource") else ""
        return cls(
            entry["verb"],
            f"{target['resource']}{below}",
            target.get("name", ""),
            entry["responseStatus"]["code"],
        )


def calls(log: pathlib.Path, namespace: str) -> Sequence[Call]:
    """All that the operator asked for in a namespace so far, in order; watches left out."""
    text = log.read_bytes()
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    # Most lines are of others: parsing them all would take seconds.
    entries = (json.loads(line) for line in lines if namespace.encode() in line)
    return [
        Call.of(entry)
        for entry in entries
        if entry.get("objectRef", {}).get("namespace") == namespace
        and entry["userAgent"].startswith("resumer/")
        and entry["verb"] not in _STREAMS
    ]
