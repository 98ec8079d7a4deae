"""`make demo`, as a person starts it: it ends well, says so, and leaves nothing behind."""

from __future__ import annotations

import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_TIMEOUT = 240.0
_GONE_TIMEOUT = 120.0
_MARK = "RESUMER_DEMO_TEST"

_END = {
    "workflow play-workflow": "Succeeded",
    "request resume-after-pr-created": "Resumed (GateOpened)",
    "request resume-after-pr-created-again": "AlreadyResumed (StageAlreadyResumed)",
    "request resume-after-ready-for-qa": "Resumed (GateOpened)",
    "request resume-after-pr-approved-by-mallory": "Rejected (RuleFailed)",
    "request resume-after-pr-approved": "Resumed (GateOpened)",
    "control plane and operator": "stopped",
}
_OPENED_BY = {
    "gate wait-for-pr-created": "resume-after-pr-created",
    "gate wait-for-ready-for-qa": "resume-after-ready-for-qa",
    "gate wait-for-pr-approved": "resume-after-pr-approved",
}

pytestmark = pytest.mark.timeout(_TIMEOUT + 60)


def test_the_demo_ends_well_and_leaves_no_process(built_components: None) -> None:
    mark = secrets.token_hex(8)
    ended = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=_ROOT,
        env={**os.environ, _MARK: mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    states = dict(re.findall(r"^ *state (.+?): (.+?) *$", ended.stdout, re.MULTILINE))
    assert states.keys() == _END.keys() | _OPENED_BY.keys()
    assert {subject: states[subject] for subject in _END} == _END
    for gate, request in _OPENED_BY.items():
        assert f"workflowresume/{request} (uid " in states[gate]
    _wait_for(lambda: not _processes(mark), lambda: f"still running: {_processes(mark)}")


def test_the_demo_shows_the_early_event_waiting_and_the_values_arriving(
    built_components: None, tmp_path: pathlib.Path
) -> None:
    """Kept up, it can be looked at until Ctrl-C, which stops all of it with exit code 0."""
    mark = secrets.token_hex(8)
    output = tmp_path / "output"
    with output.open("wb") as written:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo", "--keep"],
            cwd=_ROOT,
            env={**os.environ, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(
            lambda: "Ctrl-C stops everything" in output.read_text() or demo.poll() is not None,
            output.read_text,
            _TIMEOUT,
        )
        text = output.read_text()
        early = text.index("Waiting (StageNotReached)")
        assert early < text.index("opened 'wait-for-pr-created'")
        assert early < text.index("opened 'wait-for-ready-for-qa'")
        assert re.search(r"cleo-quality has begun with pr-number=123, pr-url=https://\S+/123", text)
        assert re.search(r"tess-testing has begun with cleo-completion-time=\d{4}-", text)
        assert re.search(r"merge has begun with tess-approval-time=\S+, review-id=88001", text)
        found = re.search(r"export KUBECONFIG=(\S+)", text)
        assert found is not None
        assert pathlib.Path(found[1]).exists()
        assert _processes(mark)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=_GONE_TIMEOUT) == 0, output.read_text()
        _wait_for(lambda: not _processes(mark), lambda: f"still running: {_processes(mark)}")
        assert not pathlib.Path(found[1]).exists()
    finally:
        demo.kill()
        demo.wait()


def _processes(mark: str) -> list[str]:
    """The command lines of a demo and all it started, by the mark in their environment."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return found


def _wait_for(
    satisfied: Callable[[], bool], last: Callable[[], str], timeout: float = _GONE_TIMEOUT
) -> None:
    deadline = time.monotonic() + timeout
    while not satisfied():
        assert time.monotonic() < deadline, f"not within {timeout:g} s; the last state: {last()}"
        time.sleep(0.1)
