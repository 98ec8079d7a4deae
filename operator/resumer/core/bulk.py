"""How much memory JSON takes once it is read, from above, and how much of it an event may take.

A megabyte of ``{},{},{}`` takes twenty-four times as much once it is read, so the length of the
text says little. What counts is how many values there are.
"""

from __future__ import annotations

from typing import Final

from resumer.api.resume import WorkflowResume
from resumer.errors import InvalidError

LARGEST_EVENT: Final = 8 * 2**20
"""How much memory an event may take: forty thousand values; a payload of 256 KiB has a fifth."""

_PER_VALUE: Final = 200
"""Bytes for each value: a dict of one entry takes as much, all others less."""


def estimate(body: object, most: int) -> int:
    """About how many bytes JSON takes in memory, however deep it is nested.

    Args:
        body: What was read.
        most: Bytes from which on it does not matter how many; the count stops there, so that this
            takes some milliseconds at most.
    """
    found, waiting = 0, [body]
    while waiting and found <= most:
        here = waiting.pop()
        found += _PER_VALUE
        if isinstance(here, str):
            found += len(here)
        elif isinstance(here, dict | list):
            if found + len(here) * _PER_VALUE > most:
                return most + 1
            if isinstance(here, dict):
                found += sum(map(len, here))
                waiting.extend(here.values())
            else:
                waiting.extend(here)
    return found


def refuse_too_large(request: WorkflowResume) -> None:
    """Lets a request pass whose event may be kept.

    Raises:
        InvalidError: Once read, the event takes too much memory.
    """
    if estimate(request.spec.correlation_data.github_event, LARGEST_EVENT) > LARGEST_EVENT:
        field = "spec.correlationData.githubEvent"
        raise InvalidError(
            field,
            f"{field}: has too many values (texts, numbers, lists, objects): they would take more"
            f" than {LARGEST_EVENT // 2**20} MiB of memory, about 40000 values are allowed",
        )
