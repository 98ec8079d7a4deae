"""How many requests have not finished, by stage, outcome and age: counted when somebody looks.

Nothing happens to a request that only waits, so no event could keep such counts current. A count
goes once over what is at hand of each request and reads none again: some milliseconds for ten
thousand of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from resumer.api.outcomes import Phase
from resumer.core import policies
from resumer.services.stores import Stores

_OTHER = "other"
"""The stage of all that no policy lists, as in what is counted of decisions."""
_AGES = (
    (60, "0-1m"),
    (300, "1m-5m"),
    (900, "5m-15m"),
    (3600, "15m-1h"),
    (21600, "1h-6h"),
    (86400, "6h-1d"),
)
"""The seconds below which an age has this name; fifteen minutes are the usual deadline."""
_OLDEST = "over-1d"


def count(stores: Stores, now: datetime) -> Mapping[tuple[str, str, str], int]:
    """Counts the requests that have not finished.

    Args:
        stores: What is known.
        now: The time.

    Returns:
        How many there are, by stage, outcome and age. The stage is one that a policy of the
        namespace or the built-in one lists, or ``other``; the outcome of those that were not looked
        at yet is ``Pending``.
    """
    stages: dict[tuple[str, str], str] = {}
    found: Counter[tuple[str, str, str]] = Counter()
    for key, outline in stores.requests.outlines():
        named = (key.namespace, outline.stage)
        if named not in stages:
            stages[named] = _stage(stores, *named)
        outcome = outline.outcome or Phase.PENDING
        created = outline.created or outline.seen
        found[stages[named], str(outcome), _age((now - created).total_seconds())] += 1
    return found


def _stage(stores: Stores, namespace: str, name: str) -> str:
    known = (*stores.policies.of(namespace), policies.BUILT_IN)
    return name if any(policy.position(name) is not None for policy in known) else _OTHER


def _age(seconds: float) -> str:
    return next((name for limit, name in _AGES if seconds < limit), _OLDEST)
