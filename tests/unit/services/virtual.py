"""An event loop whose time passes only where everybody waits: minutes of delays in no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._now = 0.0
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        poll = selector.select

        def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None:
                raise RuntimeError("everybody waits, and nobody for the time: this never ends")
            self._now += max(0.0, timeout)
            return poll(0)

        selector.select = select  # type: ignore[method-assign]

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
