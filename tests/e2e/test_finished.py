"""Finished objects cost nothing: no memory, no calls, and nothing at the next start.

That they are deleted when their time is over is proved in `test_operator`; that memory stays flat
over thousands of them, in the bench (`--leak`).
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.e2e.support import audit, manifests, process, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.audit import Call
from tests.e2e.support.home import Home
from tests.e2e.support.process import Operator

COUNT = 4
KINDS = ("workflows", "unread", "requests", "finished")
IDLE = 2.0
"""Seconds without a call that count as rest: what a change sets off comes within milliseconds."""

# A sweep lists what has finished, page by page, each minute: for it to be deleted at all.
NO_SWEEP = ("--cleanup-interval", "0")


def known(operator: Operator) -> dict[str, float]:
    """What the operator keeps in memory."""
    return {kind: operator.metric("resumer_known_objects", kind=kind) for kind in KINDS}


def rests(log: pathlib.Path, home: Home) -> Sequence[Call]:
    """All calls of the operators so far, as soon as there was none for a while."""
    deadline = time.monotonic() + homes.TIMEOUT
    calls = audit.calls(log, home.namespace)
    while True:
        time.sleep(IDLE)
        before, calls = calls, audit.calls(log, home.namespace)
        if calls == before:
            return calls
        assert time.monotonic() < deadline, f"still calling: {calls[len(before) :]}"


@pytest.mark.timeout(240)
def test_what_has_finished_is_not_kept_not_looked_at_and_not_read_at_the_next_start(
    cluster: client.Cluster, audit_log: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    names = [f"done-{number}" for number in range(COUNT)]
    with homes.new(cluster) as home:
        for number, name in enumerate(names):
            home.submit(manifests.workflow(name, task=str(number)))
        with process.running(
            home.account(), tmp_path / "first.log", [home.namespace], options=NO_SWEEP
        ) as operator:
            all_read = {**dict.fromkeys(KINDS, 0.0), "workflows": COUNT}
            waiting.eventually(lambda: known(operator) == all_read, lambda: f"{known(operator)}")
            home.ask(*(manifests.resume(name, task=str(n)) for n, name in enumerate(names)))
            home.ask(manifests.resume("refused", task="0", deadlineSeconds=0))
            for name in names:
                home.resumed(name)
                home.ended(name)
            home.cluster.wait_for(
                homes.RESUME,
                "refused",
                home.namespace,
                lambda body: body.get("status", {}).get("phase") in ("Succeeded", "Failed"),
                homes.TIMEOUT,
                describe="finished",
            )
            nothing = dict.fromkeys(KINDS, 0.0)
            waiting.eventually(lambda: known(operator) == nothing, lambda: f"{known(operator)}")
            rested = rests(audit_log, home)
            note = {"metadata": {"annotations": {"example.com/note": "seen again"}}}
            for name in names:
                home.cluster.patch(homes.RESUME, name, home.namespace, note)
                home.cluster.patch(homes.WORKFLOW, name, home.namespace, note)
            assert rests(audit_log, home) == rested
            assert known(operator) == nothing
        with process.running(
            home.account(), tmp_path / "second.log", [home.namespace], options=NO_SWEEP
        ) as again:
            ready = again.wait_logged("ready")
            assert (ready["workflows"], ready["requests"]) == (0, 0)
            after = rests(audit_log, home)[len(rested) :]
            assert {call.verb for call in after} <= {"list", "get"}
            assert not [call for call in after if call.name in names]
            # It still works, on what has not finished.
            home.ask(manifests.resume("new", task="7", deadlineSeconds=0))
            home.came_to("new", Reason.DEADLINE_EXCEEDED)
