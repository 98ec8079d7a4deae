"""The owner's side of `supervisor`: starts it, and tells it what to start and to signal."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_PROGRAM = pathlib.Path(__file__).with_name("supervisor.py")
_STOP_TIMEOUT = 15.0


class SupervisorGone(RuntimeError):
    """The supervisor ended though nobody told it to; the components went with it."""


class Supervisor:
    """A running supervisor, and through it the components.

    Arguments:
        workdir: folder which goes when this process or the supervisor does
    """

    def __init__(self, workdir: pathlib.Path) -> None:
        self._workdir = workdir
        # One request and its answer at a time, whichever thread asks.
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            # -I and -S: no environment and no site, for the start takes a third of the time.
            [sys.executable, "-I", "-S", str(_PROGRAM), str(workdir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )

    @property
    def workdir(self) -> pathlib.Path:
        """Its folder."""
        return self._workdir

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], log: pathlib.Path
    ) -> int:
        """Start a component.

        Arguments:
            name: of the component
            argv: its command
            env: added to this process's environment
            log: file that its output is appended to

        Returns:
            its process id

        Raises:
            OSError: the command cannot be run
        """
        answer = self._ask(
            {"start": name, "argv": [*argv], "env": {**os.environ, **env}, "log": str(log)}
        )
        if "error" in answer:
            raise OSError(answer["error"])
        return int(answer["pid"])

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a component a signal; nothing happens if it is not running."""
        self._ask({"signal": name, "number": int(number)})

    def status(self) -> Mapping[str, int | None]:
        """The exit code of each component that was ever started; None while it runs."""
        return self._ask({"status": None})

    def stop(self) -> None:
        """Stop everything and remove the working directory."""
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(timeout=_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
        # Only where the supervisor was killed is there anything left.
        shutil.rmtree(self._workdir, ignore_errors=True)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except (BrokenPipeError, ValueError):
                line = b""
            if not line:
                raise SupervisorGone(
                    f"the supervisor of the local control plane is gone "
                    f"(exit code {self._process.poll()}), and its components with it"
                )
            answer: dict[str, Any] = json.loads(line)
            return answer
