"""Workflows as anybody may write them: malformed, offloaded, forged, or with a gate begun anew.

Argo's minimal CRDs let everything pass, and some of it crashes Argo's own controller; so there is
none here, and the tests write what it would have written.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests, written
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json
from tests.e2e.support.process import Operator

pytestmark = pytest.mark.usefixtures("operator")

MARKER = f"stage.resumer.argoproj.io/{manifests.PR_CREATED}"
MAX_RESIDENT_MIB = 300


@pytest.fixture(scope="module")
def home(built_components: None) -> Iterator[Home]:
    """A namespace of a cluster without Argo's controller, where a Workflow may have any shape."""
    with homes.without_argo() as made:
        yield made


def packed(content: bytes) -> str:
    """Something as Argo compresses its nodes."""
    return base64.b64encode(gzip.compress(content, 1)).decode()


def set_at(body: Json, way: str, value: object) -> None:
    """Sets a field; `GATE` in the way is the node of the gate."""
    if way == "status compressedNodes":
        del body["status"]["nodes"]
    here: Any = body
    *parts, last = way.replace("GATE", f"status nodes {body['metadata']['name']}-1").split()
    for part in parts:
        here = here[int(part) if part.isdigit() else part]
    if value is ...:
        del here[last]
    else:
        here[last] = value


# What makes a safe resume impossible, and what the message says about it.
BROKEN: dict[str, tuple[str, object, str]] = {
    "nodes-list": ("status nodes", [1, 2], "status.nodes"),
    "nodes-string": ("status nodes", "none", "status.nodes"),
    "nodes-number": ("status nodes", 5, "status.nodes"),
    "not-base64": ("status compressedNodes", "!!!", "status.compressedNodes"),
    "not-packed": ("status compressedNodes", "AAAA", "status.compressedNodes"),
    "not-json": ("status compressedNodes", packed(b"{'a"), "status.compressedNodes"),
    "not-an-object": ("status compressedNodes", packed(b"[1]"), "status.compressedNodes"),
    "cut-off": ("status compressedNodes", packed(b"{" * 9999)[:40], "status.compressedNodes"),
    "deep": ("status compressedNodes", packed(b'{"a":' * 50_000), "status.compressedNodes"),
    "no-start": ("GATE startedAt", ..., "startedAt"),
    "start-number": ("GATE startedAt", 5, "startedAt"),
    "start-object": ("GATE startedAt", {"a": "b"}, "startedAt"),
    "outputs-string": ("status outputs", "none", "status.outputs"),
    "output-name": ("GATE outputs parameters 0 name", 5, "output without name"),
    "both-forms": (
        "status",
        {"phase": "Running", "nodes": {"a": {}}, "compressedNodes": packed(b"{}")},
        "both nodes and compressedNodes",
    ),
}

# What may stand there without being in the way: the gate is open and can be resumed.
HARMLESS: dict[str, tuple[str, object]] = {
    "phase-number": ("status phase", 7),
    "phase-object": ("status phase", {"a": []}),
    "another-node-string": ("status nodes other", "a node"),
    "another-node-null": ("status nodes other", None),
    "another-node-phase": ("status nodes other", {"type": "Suspend", "phase": 9}),
    "another-node-type": ("status nodes other", {"type": ["Suspend"], "phase": "Running"}),
    "odd-node-id": ("status nodes ~1/a~bé", {"type": "Pod"}),
    "suspend-object": ("spec suspend", {}),
    "suspend-string": ("spec suspend", "true"),
    "templates-string": ("spec templates", "none"),
    "templates-strings": ("spec templates", ["none", None, 5]),
    "stored-list": ("status storedTemplates", []),
    "display-number": ("GATE displayName", 5),
    "boundary-list": ("GATE boundaryID", ["a"]),
    "inputs-list": ("GATE inputs", ["a"]),
    "inputs-parameters": ("GATE inputs", {"parameters": {"a": "b"}}),
    "input-enum": (
        "GATE inputs",
        {"parameters": [{"name": "answer", "enum": "42"}, None, {"enum": [{}]}]},
    ),
    "reference-string": ("GATE templateRef", "library"),
    "message-object": ("GATE message", {"Resumed": "by"}),
    "template-name": ("GATE templateName", ["gate"]),
    "marker-text": (f"metadata annotations {MARKER}", "not ours"),
    "marker-list": (f"metadata annotations {MARKER}", "[]"),
    "marker-deep": (f"metadata annotations {MARKER}", "[" * 100_000),
    "marker-foreign": (
        f"metadata annotations {MARKER}",
        json.dumps({"workflow": "another", "node": "wait", "by": "x", "uid": "y"}),
    ),
    "conditions": ("status conditions", {"a": 5}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_workflow_that_cannot_be_resumed_safely_fails_the_request_and_no_other(
    home: Home, operator: Operator, case: str
) -> None:
    way, value, words = BROKEN[case]
    name = f"broken-{case}"
    body = written.standing(name)
    set_at(body, way, value)
    created = home.cluster.create(body, home.namespace)
    home.ask(written.asks(name))
    written.still_works(home, f"{name}-good")
    status = home.came_to(name, Reason.MALFORMED_WORKFLOW)
    assert words in status["message"]
    assert home.workflow(name) == created
    assert operator.alive


@pytest.mark.parametrize("case", HARMLESS)
def test_oddities_beside_the_gate_are_not_in_the_way(home: Home, case: str) -> None:
    way, value = HARMLESS[case]
    name = f"harmless-{case}"
    body = written.standing(name)
    set_at(body, way, value)
    created = home.cluster.create(body, home.namespace)
    home.ask(written.asks(name))
    home.resumed(name)
    after = home.workflow(name)
    gate = after["status"]["nodes"][f"{name}-1"]
    assert gate["phase"] == "Succeeded"
    # Nothing else has changed.
    expected = copy.deepcopy(created)
    expected["status"]["nodes"][f"{name}-1"] = gate
    for part in ("spec", "status"):
        assert after[part] == expected[part]


def test_a_small_text_that_unfolds_into_all_memory_is_left_folded(
    home: Home, operator: Operator
) -> None:
    bomb = packed(b" " * (200 << 20))
    for number in range(8):
        body = written.standing(f"bomb-{number}")
        body["status"] |= {"nodes": None, "compressedNodes": bomb}
        home.cluster.create(body, home.namespace)
    home.ask(*(written.asks(f"bomb-{number}") for number in range(8)))
    for number in range(8):
        home.came_to(f"bomb-{number}", Reason.MALFORMED_WORKFLOW)
    lines = pathlib.Path(f"/proc/{operator.pid}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    assert int(peak.split()[1]) // 1024 < MAX_RESIDENT_MIB


def test_offloaded_node_status_is_named_as_such(home: Home) -> None:
    body = written.standing("offloaded")
    body["status"] |= {"nodes": None, "offloadNodeStatusVersion": "fnv:3216985125"}
    created = home.cluster.create(body, home.namespace)
    home.ask(written.asks("offloaded"))
    status = home.came_to("offloaded", Reason.NODE_STATUS_OFFLOADED)
    assert "Argo Server" in status["message"]
    assert home.workflow("offloaded") == created


def begun_anew(home: Home, name: str) -> None:
    """The gate is suspended again, as `argo retry` leaves it: same id, another start."""
    again = {
        "phase": "Running",
        "startedAt": "2025-01-02T04:05:06Z",
        "finishedAt": None,
        "message": None,
        "outputs": {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]},
    }
    patch = {"status": {"nodes": {f"{name}-1": again}}}
    home.cluster.patch(homes.WORKFLOW, name, home.namespace, patch)


def test_a_gate_that_was_begun_anew_can_be_resumed_again(home: Home) -> None:
    home.cluster.create(written.standing("retried"), home.namespace)
    home.ask(written.asks("retried", "-1"))
    home.resumed("retried-1")
    home.ask(written.asks("retried", "-2"))
    home.came_to("retried-2", Reason.STAGE_ALREADY_RESUMED)
    begun_anew(home, "retried")
    home.ask(written.asks("retried", "-3"))
    home.resumed("retried-3")


def test_a_workflow_created_anew_between_request_and_gate_is_the_one_resumed(home: Home) -> None:
    early = written.standing("replaced")
    early["status"]["nodes"]["replaced-1"]["phase"] = "Pending"
    home.cluster.create(early, home.namespace)
    home.ask(written.asks("replaced"))
    home.came_to("replaced", Reason.GATE_NOT_OPEN)
    home.cluster.delete(homes.WORKFLOW, "replaced", home.namespace)
    home.cluster.wait_gone(homes.WORKFLOW, "replaced", home.namespace, homes.TIMEOUT)
    uid = home.cluster.create(written.standing("replaced"), home.namespace)["metadata"]["uid"]
    assert home.resumed("replaced")["workflow"]["uid"] == uid


def finished(body: Json) -> None:
    body["status"]["phase"] = "Failed"
    body["metadata"]["labels"]["workflows.argoproj.io/completed"] = "true"


def stopped(body: Json) -> None:
    body["status"]["nodes"][f"{body['metadata']['name']}-1"] |= {"phase": "Failed"}


@pytest.mark.parametrize("change", [finished, stopped])
def test_a_gate_that_closed_for_another_reason_is_never_written_to(
    home: Home, change: Callable[[Json], None]
) -> None:
    name = f"closed-{change.__name__}"
    body = written.standing(name)
    change(body)
    created = home.cluster.create(body, home.namespace)
    home.ask(written.asks(name, deadlineSeconds=0))
    reason = Reason.WORKFLOW_FINISHED if change is finished else Reason.DEADLINE_EXCEEDED
    home.came_to(name, reason)
    assert home.workflow(name) == created
