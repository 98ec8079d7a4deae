"""The process between a control plane and its components, so that nothing outlives the owner.

Run as a program of its own with nothing but the standard library:

    supervisor.py WORKDIR

It starts and signals the components as it is told on standard input, a JSON object on each line,
and answers each with one on standard output:

    {"start": NAME, "argv": […], "env": {…}, "log": FILE}   → {"pid": PID}
    {"signal": NAME, "number": N}                           → {}
    {"status": null}                                        → {NAME: EXIT CODE or null, …}

When the input ends, because its owner closed it or died in whatever way, it kills the components,
removes the working directory and ends. It leads a session of its own, so the Ctrl-C that a person
types reaches the owner alone. Should it be killed itself, the kernel kills the components (Linux).
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

# A process which the owner forked holds the pipe open too, so the end of input is not enough.
_CHECK_OWNER = 0.5

_PR_SET_PDEATHSIG = 1


class _Supervisor:
    def __init__(self) -> None:
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"start": str(name), "argv": list(argv), "env": dict(env), "log": str(log)}:
                return self._start(name, argv, env, log)
            case {"signal": str(name), "number": int(number)}:
                component = self._components.get(name)
                if component is not None and component.poll() is None:
                    component.send_signal(number)
                return {}
            case {"status": None}:
                return {name: one.poll() for name, one in self._components.items()}
            case _:
                return {"error": f"not understood: {request}"}

    def kill_all(self) -> None:
        for component in self._components.values():
            if component.poll() is None:
                component.kill()
        for component in self._components.values():
            component.wait()

    def _start(self, name: str, argv: list[str], env: dict[str, str], log: str) -> dict[str, Any]:
        with pathlib.Path(log).open("ab") as output:
            try:
                component = subprocess.Popen(
                    argv,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    preexec_fn=self._die_with_supervisor,  # noqa: PLW1509 -- there are no threads
                )
            except OSError as error:
                return {"error": f"{argv[0]}: {error.strerror}"}
        self._components[name] = component
        return {"pid": component.pid}

    def _die_with_supervisor(self) -> None:
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(owner: int) -> Iterator[bytes]:
    """What the owner writes, until it closes the pipe or is gone."""
    pending = b""
    while os.getppid() == owner:
        readable, _, _ = select.select([sys.stdin], [], [], _CHECK_OWNER)
        if not readable:
            continue
        chunk = os.read(sys.stdin.fileno(), 65536)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        yield from lines


def main() -> None:
    workdir = sys.argv[1]
    owner = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    supervisor = _Supervisor()
    try:
        for line in _lines(owner):
            answer = supervisor.answer(json.loads(line))
            os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
    except BrokenPipeError:
        # The owner died between its request and the answer.
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        supervisor.kill_all()
        shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
