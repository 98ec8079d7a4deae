"""The operator as a process: started, killed and stopped as a cluster would do it.

The control plane's supervisor runs it, so that it never outlives the demo, however that ends.
"""

from __future__ import annotations

import json
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Self

from tests.controlplane import supervised

_NAME = "operator"
_READY_TIMEOUT = 30.0
_STOP_TIMEOUT = 15.0
_POLL = 0.05
_LOG_LINES = 25


class OperatorFailed(RuntimeError):
    """The operator did not start, or did not end as it should."""


class Operator:
    """`resumer run` for one namespace; leaving it as a context manager ends it.

    Arguments:
        kubeconfig: how it reaches the API server
        namespace: that it works in
    """

    def __init__(self, kubeconfig: pathlib.Path, namespace: str) -> None:
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="resumer-demo-"))
        self._log = self._folder / "operator.log"
        self._supervisor = supervised.Supervisor(self._folder)
        self._environment = {"KUBECONFIG": str(kubeconfig)}
        self._options = ("--namespace", namespace, "--metrics-port", "0")
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop()

    @property
    def command(self) -> str:
        """What a person would type."""
        return " ".join(("resumer", "run", *self._options))

    @property
    def log(self) -> pathlib.Path:
        """The file it writes its log to; it goes when the operator does."""
        return self._log

    def start(self) -> None:
        """Start it, and return when it watches.

        Raises:
            OperatorFailed: it ended, or does not watch in time
        """
        self._read = self._log.stat().st_size if self._log.exists() else 0
        argv = [sys.executable, "-m", "resumer", "run", *self._options]
        self._supervisor.start(_NAME, argv, self._environment, self._log)
        deadline = time.monotonic() + _READY_TIMEOUT
        while not any(line.get("event") == "ready" for line in self.lines()):
            if (code := self._exit_code()) is not None:
                raise OperatorFailed(f"the operator ended with exit code {code}")
            if time.monotonic() > deadline:
                raise OperatorFailed(f"the operator was not ready within {_READY_TIMEOUT:g} s")
            time.sleep(_POLL)

    def kill(self) -> None:
        """End it at once, wherever it is, as a node that fails would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order.

        Raises:
            OperatorFailed: its exit code is not 0, or it does not end in time
        """
        code = self._end(signal.SIGTERM)
        if code != 0:
            raise OperatorFailed(f"the operator ended with exit code {code} instead of 0")

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log lines since the last start; what is no JSON object is left out."""
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log.read().splitlines():
                try:
                    parsed = json.loads(line)
                except ValueError:
                    continue
                if isinstance(parsed, dict):
                    yield parsed

    def log_tail(self) -> str:
        """The last lines it wrote."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-_LOG_LINES:])

    def _exit_code(self) -> int | None:
        return self._supervisor.status().get(_NAME)

    def _end(self, how: signal.Signals) -> int:
        self._supervisor.signal(_NAME, how)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while (code := self._exit_code()) is None:
            if time.monotonic() > deadline:
                raise OperatorFailed(f"the operator did not end within {_STOP_TIMEOUT:g} s")
            time.sleep(_POLL)
        return code
