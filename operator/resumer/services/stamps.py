"""Small things that the stores share: when something began, and sets by key."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import datetime, timedelta
from typing import TypeVar

_PRECISION = timedelta(seconds=1)
"""Kubernetes and Argo cut their timestamps down to whole seconds."""

_Place = TypeVar("_Place")
_Item = TypeVar("_Item")


def sharpened(stamp: datetime | None, seen: datetime | None) -> datetime | None:
    """A timestamp made finer by when what it tells was first seen, if that is the same second.

    Latencies of some ten milliseconds cannot be told from stamps of whole seconds. What was first
    seen later, by a watch that came late or started late, says nothing; and an earlier time comes
    from another clock.
    """
    if stamp is not None and seen is not None and stamp <= seen < stamp + _PRECISION:
        return seen
    return stamp


def discard(index: MutableMapping[_Place, set[_Item]], at: _Place, item: _Item) -> None:
    """Takes an item out of the set at a place, and the place away with the last one."""
    items = index.get(at)
    if items is not None:
        items.discard(item)
        if not items:
            del index[at]
