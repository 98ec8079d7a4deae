"""What has to be true of a `machine.Day`: of each gate at any moment, of each request at rest."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

from tests.e2e.support import home as homes
from tests.e2e.support.manifests import Json

BY_A_PERSON = "opened by a person"
"""The message of a gate that a person opened."""

_SIGNED = re.compile(r"Resumed by: workflowresume/\S+ \(uid ([0-9a-f-]+)\)")
_OF_RIGHT = {"Resumed", "AlreadyResumed", "Late", "Ambiguous"}
"""What may become of a request that is right."""


class Kind(enum.StrEnum):
    """What is right or wrong about a request."""

    GOOD = "good"
    OTHER_TASK = "of another task"
    FAILING_RULE = "with a rule that does not hold"


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request that was created."""

    name: str
    task: str
    stage: str
    kind: Kind
    workflow: str = ""
    """The name of the Workflow, where it says one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """Everything as the API server tells it at one moment: the requests first."""

    requests: Mapping[str, Json]
    """Statuses by uid, of those that are still there."""
    workflows: Mapping[str, Json]
    """By task."""


def check_gates(asked: Mapping[str, Asked], seen: Sight) -> None:
    """Each gate that is not closed was opened once, by whom it may be.

    Arguments:
        asked: all requests that ever were, by uid
        seen: the Workflows
    """
    for task, body in seen.workflows.items():
        used: dict[str, str] = {}
        for node in _gates(body):
            if node.get("phase") == "Succeeded" and (by := _opener(asked, task, node)):
                gate = node["displayName"]
                assert by not in used, f"{by} opened {gate} and {used[by]} of {task}"
                used[by] = gate


def _opener(asked: Mapping[str, Asked], task: str, node: Json) -> str:
    """The uid of the request that opened a gate; "" if a person did."""
    message, gate = node.get("message", ""), f"{node['displayName']} of {task}"
    signatures = _signatures(node)
    if not signatures:
        assert message == BY_A_PERSON, f"{gate}: {message!r}"
        return ""
    assert len(signatures) == 1, f"{gate} was opened twice: {message!r}"
    request = asked.get(signatures[0])
    assert request is not None, f"{gate}: {message!r} is nobody's"
    wanted = Asked(request.name, task, _stage_of(node), Kind.GOOD)
    assert request == wanted, f"{gate} was opened by {request}"
    return signatures[0]


def check_outcomes(asked: Mapping[str, Asked], seen: Sight) -> None:
    """What is said of each request at rest is true."""
    for uid, status in seen.requests.items():
        _check_outcome(asked[uid], uid, status, seen.workflows.get(asked[uid].task))


def _check_outcome(asked: Asked, uid: str, status: Json, body: Json | None) -> None:
    outcome = status["outcome"]
    said = f"{asked}: {outcome} ({status.get('reason')}: {status.get('message')})"
    match asked.kind:
        case Kind.GOOD:
            assert outcome in _OF_RIGHT | {"Waiting"}, said
        case Kind.OTHER_TASK:
            assert outcome in ("Rejected", "Waiting"), said
        case Kind.FAILING_RULE:
            assert outcome in _OF_RIGHT - {"Resumed"} | {"Rejected", "Waiting"}, said
    if body is None:
        return
    opened = any(uid in _signatures(node) for node in _gates(body))
    assert outcome == "Resumed" or not opened, f"{said}, but it opened a gate"
    if outcome == "Resumed" and status["workflow"]["uid"] == body["metadata"]["uid"]:
        assert opened, f"{said}, but no gate says so"


def restless(asked: Mapping[str, Asked], seen: Sight) -> Sequence[str]:
    """Why not everything has come to rest: nothing, if it has."""
    found = (
        _restless(asked[uid], status, seen.workflows.get(asked[uid].task))
        for uid, status in seen.requests.items()
    )
    return [text for text in found if text]


def _restless(asked: Asked, status: Json, body: Json | None) -> str:
    outcome = status.get("outcome")
    said = f"{asked} is {outcome} ({status.get('reason')}: {status.get('message')})"
    if outcome != "Waiting":
        return "" if outcome in (*_OF_RIGHT, "Rejected") else said
    if body is None:
        return ""
    if "phase" not in body.get("status", {}):
        return f"{asked.task} has not begun"
    if asked.workflow not in ("", body["metadata"]["name"]):
        return ""
    if asked.kind is Kind.OTHER_TASK or finished(body) or body["spec"].get("shutdown"):
        return said
    theirs = [node for node in _gates(body) if _stage_of(node) == asked.stage]
    waits = any(node["phase"] == "Running" or _signatures(node) for node in theirs)
    return said if waits else ""


def opened_by_us(body: Json) -> int:
    """How many gates of a Workflow requests have opened."""
    return sum(bool(_signatures(node)) for node in _gates(body))


def finished(body: Json) -> bool:
    """Whether Argo has done with a Workflow."""
    return bool(body["metadata"]["labels"].get("workflows.argoproj.io/completed") == "true")


def _gates(body: Json) -> Sequence[Json]:
    return [node for node in homes.nodes(body) if node.get("type") == "Suspend"]


def _signatures(node: Json) -> list[str]:
    return _SIGNED.findall(node.get("message", ""))


def _stage_of(node: Json) -> str:
    (stage,) = node["inputs"]["parameters"]
    return str(stage["value"]).rpartition("-")[2]
