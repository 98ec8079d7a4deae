"""Tells whoever waits what is going on, how far it is and how long it has taken.

On a terminal one line is kept up to date; elsewhere (a CI log) a line is written now and then.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

_QUIET_INTERVAL = 15.0


class Progress:
    """Progress of a piece of work made of named steps.

    Arguments:
        stream: where to write
        interval: seconds between two lines about the same step, where it is no terminal
    """

    def __init__(self, stream: TextIO | None = None, *, interval: float = _QUIET_INTERVAL) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._step = ""
        self._step_began = self._began
        self._last_line = self._began

    def begin(self, step: str) -> None:
        """A step begins."""
        self._step = step
        self._step_began = self._last_line = time.monotonic()
        self._write(f"{step} …", final=not self._terminal)

    def tick(self, detail: str = "") -> None:
        """The step goes on; to be called several times a second."""
        now = time.monotonic()
        if not self._terminal and now - self._last_line < self._interval:
            return
        self._last_line = now
        detail = f", {detail}" if detail else ""
        elapsed = _seconds(now - self._step_began)
        self._write(f"{self._step} … {elapsed}{detail}", final=not self._terminal)

    def end(self, outcome: str = "done") -> None:
        """The step is over."""
        elapsed = _seconds(time.monotonic() - self._step_began)
        self._write(f"{self._step}: {outcome} after {elapsed}", final=True)

    def total(self, text: str) -> None:
        """All steps are over."""
        self._write(f"{text} in {_seconds(time.monotonic() - self._began)}", final=True)

    def _write(self, text: str, *, final: bool) -> None:
        clear, end = ("\r\x1b[K" if self._terminal else ""), ("\n" if final else "")
        self._stream.write(f"{clear}{text}{end}")
        self._stream.flush()


def _seconds(duration: float) -> str:
    minutes, seconds = divmod(round(duration), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
