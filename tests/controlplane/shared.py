"""One control plane of a flavour for all the processes of a test run, started by the first to ask.

The run has a folder. Whoever needs a control plane looks there for its description, and where there
is none starts a host, a process which owns the control plane, and waits. The host stops it when the
run's owner says so or dies in whatever way; a process that only asked may come and go.

    FLAVOUR.lock    held while somebody looks and starts, so that there is one host
    FLAVOUR.host    held by the host as long as it lives
    FLAVOUR.json    describes a control plane that is ready
    FLAVOUR.failed  tells why there is none, or none any more
    owner.lock      held by the owner; the system lets go of it when the owner dies
    stop            tells all hosts to stop
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TextIO, cast

from tests.controlplane import client, launcher, processes

_PROJECT = pathlib.Path(__file__).parents[2]
_POLL = 0.1
_STOP_TIMEOUT = 30.0
_START_TIMEOUT = 200.0


class _Host(subprocess.Popen[bytes]):
    """A process that is meant to outlive who started it."""

    def __del__(self, *_: object) -> None:
        """Not as of others, which warn where they still run, also at the end of the interpreter."""


class NoControlPlane(RuntimeError):
    """The control plane that the test run shares did not start, or is gone; tells why."""


class LocalCluster(client.Cluster):
    """A control plane on this machine, which other tests use as well.

    Attributes:
        audit_log: one JSON object for each request that was answered
    """

    def __init__(self, layout: processes.Layout) -> None:
        super().__init__(layout.kubeconfig)
        self._layout = layout
        self.audit_log = layout.audit_log

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> pathlib.Path:
        """A kubeconfig with a certificate of this user, who may do what RBAC allows and no more."""
        return self._layout.kubeconfig_for(user, groups)


class Run:
    """The owner's side: the folder of a test run, which goes when the run is over."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="resumer-test-run-"))
        self._lock = (self.folder / "owner.lock").open("w")
        # Not flock, which a process that the owner forked would go on holding.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Stop all control planes of the run, wait until they are gone, and remove the folder."""
        (self.folder / "stop").touch()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for host in self.folder.glob("*.host"):
            with host.open("r+") as file:
                while _is_held(file) and time.monotonic() < deadline:
                    time.sleep(_POLL)
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(folder: pathlib.Path, flavour: launcher.Crds) -> LocalCluster:
    """The run's control plane of a flavour, started first if nobody did.

    Arguments:
        folder: of the run
        flavour: of Argo's CRDs

    Raises:
        NoControlPlane: it could not be started, or has ended since
    """
    state, failed = folder / f"{flavour}.json", folder / f"{flavour}.failed"
    with _exclusively(folder / f"{flavour}.lock"):
        if not state.exists() and not failed.exists():
            _start_host(folder, flavour)
    if failed.exists():
        raise NoControlPlane(failed.read_text())
    described = json.loads(state.read_text())
    ports = processes.Ports(**described["ports"])
    return LocalCluster(processes.Layout(pathlib.Path(described["workdir"]), ports))


def _start_host(folder: pathlib.Path, flavour: str) -> None:
    log = folder / f"{flavour}.log"
    with log.open("wb") as output:
        host = _Host(
            [sys.executable, "-m", "tests.controlplane.shared", str(folder), flavour],
            cwd=_PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The Ctrl-C that a person types is for the owner, which then stops the host.
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_TIMEOUT
    while not any((folder / f"{flavour}.{end}").exists() for end in ("json", "failed")):
        if host.poll() is not None:
            raise NoControlPlane(
                f"the host of the {flavour} control plane ended with exit code {host.returncode}:\n"
                f"{log.read_text(errors='replace')}"
            )
        if time.monotonic() > deadline:
            raise NoControlPlane(
                f"the {flavour} control plane was not ready within {_START_TIMEOUT:g} s:\n"
                f"{log.read_text(errors='replace')}"
            )
        time.sleep(_POLL)


@contextlib.contextmanager
def _exclusively(file: pathlib.Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _host(folder: pathlib.Path, flavour: launcher.Crds) -> None:
    """Own a control plane until the run is over."""
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context((folder / "owner.lock").open("r+"))
        # Let go of last of all, for the owner waits for it.
        present = stack.enter_context((folder / f"{flavour}.host").open("w"))
        fcntl.lockf(present, fcntl.LOCK_EX)
        try:
            plane = stack.enter_context(launcher.start(crds=flavour, audit=True))
        except Exception as error:
            _write(folder / f"{flavour}.failed", str(error))
            raise
        described = {
            "workdir": str(plane.workdir),
            "ports": dataclasses.asdict(plane.layout.ports),
        }
        state = folder / f"{flavour}.json"
        _write(state, json.dumps(described))
        while not _is_stopping(folder) and _is_held(owner):
            for name, code in plane.ended().items():
                text = f"{name} ended with exit code {code}; its log ends:\n{plane.log_tail(name)}"
                _write(folder / f"{flavour}.failed", text)
                return
            time.sleep(_POLL)
    if not _is_stopping(folder):
        # The owner died and will not remove it.
        shutil.rmtree(folder, ignore_errors=True)


def _is_stopping(folder: pathlib.Path) -> bool:
    return (folder / "stop").exists()


def _is_held(lock: TextIO) -> bool:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    # Let go, so that another host sees the same.
    fcntl.lockf(lock, fcntl.LOCK_UN)
    return False


def _write(file: pathlib.Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(file)


if __name__ == "__main__":
    _host(pathlib.Path(sys.argv[1]), cast(launcher.Crds, sys.argv[2]))
