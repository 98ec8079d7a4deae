"""Runs `resumer` with a time of day that a test sets: ``python -m tests.e2e.support.shifted``.

All of the process's Python sees the machine's time of day so many seconds off; the monotonic clock
goes on as it is, as with a clock that somebody sets. The environment variable names the file that
holds the number, which is read at each look: eight bytes, so that it changes at once or not at all.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import struct
import time

from resumer import __main__ as resumer

VARIABLE = "SHIFTED_CLOCK"
_FORM = "d"


class Shift:
    """How far the time of day of the processes is off that were started with `environment`."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file
        self.set(0.0)

    @property
    def environment(self) -> dict[str, str]:
        """For the process."""
        return {VARIABLE: str(self._file)}

    def set(self, seconds: float) -> None:
        """Sets the clock."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack(_FORM, seconds))


def _shift() -> None:
    with pathlib.Path(os.environ[VARIABLE]).open("rb") as file:
        kept = mmap.mmap(file.fileno(), struct.calcsize(_FORM), prot=mmap.PROT_READ)
    of_day = time.time

    def told() -> float:
        (seconds,) = struct.unpack(_FORM, kept[:])
        return of_day() + float(seconds)

    time.time = told
    time.time_ns = lambda: int(told() * 1e9)


if __name__ == "__main__":
    _shift()
    resumer.main()
