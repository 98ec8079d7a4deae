"""How messages for people name several things."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from resumer.api import base

_NAMED: Final = 5
"""How many workflows, gates or tasks a message names."""


def names(items: Iterable[str]) -> str:
    """The first of some names, quoted, and how many more there are."""
    found = [repr(base.truncate(item, 64)) for item in items]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
