"""Times that were noted by an earlier look, or by another replica.

What was noted must not hold anybody back for longer than it was meant to: where the clock was put
back since, the time of the note lies in the future, and the wait that begins with it would be
longer by as much.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_AHEAD: Final = timedelta(seconds=30)
"""Further apart than this are no two clocks that go by the same API server."""


def is_ahead(noted: datetime | None, now: datetime) -> bool:
    """True if a time that has passed when it was noted lies in the future now."""
    return noted is not None and noted > now + _AHEAD
