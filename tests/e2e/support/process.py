"""The operator as its users run it: a process with a kubeconfig, a log and an HTTP port."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.e2e.support import waiting

START_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0
"""Seconds from SIGTERM to the end: Kubernetes' own grace is 30."""

_POLL = 0.05
_TAIL = 60


# The Kubernetes client imports kubernetes_validate where it is, as here for the tests of manifests,
# and with it a JSON Schema library that takes two seconds of a core to get ready.
_AS_IN_THE_IMAGE = """
import runpy, sys
sys.modules["kubernetes_validate"] = None
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def command(*arguments: str, module: str = "resumer") -> list[str]:
    """The command line that runs `resumer` as in its image, without the tools of the project.

    Args:
        *arguments: For `resumer`.
        module: That is run, where it is not the operator's own.
    """
    return [sys.executable, "-c", _AS_IN_THE_IMAGE, module, *arguments]


class Operator:
    """A running `resumer run`; `running` makes one.

    Attributes:
        log_file: What it wrote on standard error, one JSON object a line.
    """

    def __init__(self, popen: subprocess.Popen[bytes], log_file: pathlib.Path) -> None:
        self._popen = popen
        self.log_file = log_file
        self._port: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def log(self) -> list[dict[str, Any]]:
        """The complete log lines so far; a line that is not JSON fails the test that looks."""
        text = self.log_file.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log_file.read_text(errors="replace").splitlines()[-_TAIL:]
        return "\n".join([f"{self.log_file}, the end:", *lines])

    def wait_logged(
        self, event: str, timeout: float = waiting.TIMEOUT, **fields: object
    ) -> dict[str, Any]:
        """The first log line of this event with these fields, as soon as it is there.

        Raises:
            AssertionError: It did not come in time, or the process ended.
        """
        wanted = {"event": event, **fields}.items()
        deadline = time.monotonic() + timeout
        while True:
            late, alive = time.monotonic() > deadline, self.alive
            found = next((line for line in self.log() if wanted <= _plain(line)), None)
            if found is not None:
                return found
            if late or not alive:
                what = "not in time" if alive else f"it ended with {self._popen.returncode}"
                raise AssertionError(f"no log line {dict(wanted)}: {what}; {self.tail()}")
            time.sleep(_POLL)

    def get(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        """The status and the body of an answer of its HTTP server."""
        if self._port is None:
            self._port = int(self.wait_logged("serving metrics and health")["port"])
        try:
            asked = urllib.request.Request(
                f"http://127.0.0.1:{self._port}{path}", headers={"Accept": accept}
            )
            with urllib.request.urlopen(asked, timeout=10) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(name)]
        found = [line for line in lines if line[len(name) :][:1] in ("{", " ")]
        return sum(
            float(line.rpartition(" ")[2]) for line in found if all(w in line for w in wanted)
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, as the kubelet does it, and the exit code.

        Raises:
            AssertionError: It still ran after `STOP_TIMEOUT`; it was killed.
        """
        if self.alive:
            self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"still running {STOP_TIMEOUT:g} s after SIGTERM; {self.tail()}"
            ) from None

    def ended(self, timeout: float = waiting.TIMEOUT) -> int:
        """The exit code of an operator that ends by itself.

        Raises:
            AssertionError: It did not in time.
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s; {self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._popen.kill()
        self._popen.wait()


def start(
    kubeconfig: pathlib.Path,
    log_file: pathlib.Path,
    namespaces: Sequence[str],
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    module: str = "resumer",
) -> Operator:
    """Start an operator, not waiting for anything.

    Args:
        kubeconfig: How it reaches the API server, and as whom.
        log_file: Takes its log.
        namespaces: That it works in; none means all.
        options: Further command-line options.
        env: Further environment variables.
        module: That is run, where it is not the operator's own.
    """
    argv = command("run", "--metrics-port", "0", "--log-format", "json", module=module)
    for namespace in namespaces:
        argv += ["--namespace", namespace]
    with log_file.open("wb") as output:
        popen = subprocess.Popen(
            [*argv, *options],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Operator(popen, log_file)


@contextlib.contextmanager
def running(
    kubeconfig: pathlib.Path,
    log_file: pathlib.Path,
    namespaces: Sequence[str],
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Operator]:
    """An operator that is ready; at the end it has to leave in order.

    The arguments are those of `start`.

    Raises:
        AssertionError: It did not become ready, had ended by itself, or did not end well.
    """
    operator = start(kubeconfig, log_file, namespaces, options=options, env=env)
    try:
        operator.wait_logged("ready", START_TIMEOUT)
        yield operator
        assert operator.alive, f"the operator ended by itself; {operator.tail()}"
        assert operator.stop() == 0, f"the exit code after SIGTERM is not 0; {operator.tail()}"
    finally:
        operator.kill()


def _plain(line: Mapping[str, Any]) -> Any:
    """The items of a log line that can be compared as a set."""
    return {
        name: value for name, value in line.items() if not isinstance(value, list | dict)
    }.items()
