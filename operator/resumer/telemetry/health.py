"""Whether the operator still listens for what happens, and whether it has heard everything once.

An operator whose watch has died looks well and does nothing. So the web server
(`resumer.telemetry.server`) asks for checks, made here from what is known of the watches: a watch
for which nothing comes and nothing is tried any more means not healthy, first list not yet complete
means not ready. Health says nothing about how the API server answers, nor whether it does:
restarting would not mend that.
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


def alive(idle: Mapping[str, float], limit: float) -> list[Check]:
    """One check for each watched resource: whether its watches do something.

    Args:
        idle: For each resource, the seconds since its idlest watch last brought a byte, or a try of
            it ended.
        limit: The seconds that are allowed.
    """
    return [
        Check(
            name=f"watch of {resource}",
            ok=seconds <= limit,
            message=f"last heard of or tried {seconds:.0f} s ago, {limit:g} s are allowed",
        )
        for resource, seconds in idle.items()
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
