"""Whether the operator still hears what happens, and whether it has heard everything once.

An operator whose watch has died looks well and does nothing. So the web server
(`resumer.telemetry.server`) asks for checks, made here from what is known of the watches: silent
for too long means not healthy, first list not yet complete means not ready. Health says nothing
about how the API server answers our requests: restarting would not mend those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to one question about the operator's health."""

    name: str
    """What was looked at."""

    ok: bool
    """Whether it is as it should be."""

    message: str
    """What was found, for a person."""


Probe = Callable[[], Sequence[Check]]
"""Asked at each request for a health page; quick, and it does not fail."""


def fresh(ages: Mapping[str, float], limit: float) -> list[Check]:
    """One check for each watched resource: whether it was heard of recently enough.

    Args:
        ages: For each resource, the seconds since its most silent watch was last heard of.
        limit: The seconds of silence that are allowed.
    """
    return [
        Check(
            name=f"watch of {resource}",
            ok=age <= limit,
            message=f"last heard of {age:.0f} s ago, {limit:g} s are allowed",
        )
        for resource, age in ages.items()
    ]


def leadership(usable: bool, message: str) -> Check:
    """The check that tells who leads: to stand by is well, unless this process could never lead.

    Args:
        usable: Whether it may take part in the election.
        message: Who leads.
    """
    return Check(name="leadership", ok=usable, message=message)


def complete(lists: Mapping[str, bool]) -> list[Check]:
    """One check for each watched resource: whether all that existed at the start is known.

    Args:
        lists: For each resource, whether its first list is complete. Empty before the watches
            start, which is not ready either.
    """
    if not lists:
        return [Check(name="watches", ok=False, message="not started yet")]
    return [
        Check(
            name=f"first list of {resource}",
            ok=done,
            message="complete" if done else "awaited",
        )
        for resource, done in lists.items()
    ]
