"""A day of a cluster: what may happen to requests, Workflows and the operator, and the truth.

`Day` is the model of one example: it does things to the real API server, and knows of each gate who
may have opened it. `Day.check` holds at any moment; `Day.end` heals everything, waits until the
operator has come to rest, and then says for each gate and each request whether it is right.

A task has at most one Workflow at a time. Each gate says in its input `stage` which stage it is, so
that it is known for each request which gate it means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import re
import time
from collections.abc import Mapping, Sequence

from tests.controlplane import client
from tests.e2e.support import faults, manifests
from tests.e2e.support import home as homes
from tests.e2e.support.manifests import Json
from tests.e2e.support.rig import Rig

STAGES = ("first", "second", "third")
_SIGNED = re.compile(r"Resumed by: workflowresume/\S+ \(uid ([0-9a-f-]+)\)")
_BY_A_PERSON = "opened by a person"
_END = 90.0
"""Seconds in which everything has to come to rest after everything was healed."""
_POLL = 0.2
_MOST_FAULTS = 15
"""In one example: fewer than the attempts of a request."""
_RETRY = {"maxAttempts": 20, "strategy": "Fixed", "baseSeconds": 0.3, "jitter": "None"}
_STAGE_PARAMETER = {"stageParameter": "stage"}
_OUTCOMES_OF_RIGHT = {"Resumed", "AlreadyResumed", "Late", "Ambiguous"}


class Shape(enum.StrEnum):
    """How the gates of a Workflow lie."""

    CHAIN = "chain"
    """One behind the other."""
    PARALLEL = "parallel"
    """All at once."""
    TWINS = "twins"
    """Two of the first stage at once: who asks for one is told that it is not clear which."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """Everything as the API server tells it at one moment: the requests first."""

    requests: Mapping[str, Json]
    """Statuses by uid, of those that are still there."""
    workflows: Mapping[str, Json]
    """By task."""


class Day:
    """One example.

    Arguments:
        rig: where it takes place; it may have seen other examples
        name: of this one, unique
    """

    def __init__(self, rig: Rig, name: str) -> None:
        self._rig = rig
        self._name = name
        self._asked: dict[str, Asked] = {}
        self._workflows: dict[str, str] = {}
        self._created = 0
        self._faults = 0
        self._rules = [rig.proxy.on("PATCH", "never", faults.delay(0))]
        self.told: list[str] = []
        """What was done, for whoever has to understand a failure."""
        rig.home.ask(
            manifests.policy(name, *self._stages(1000), matches=self._labels, **_STAGE_PARAMETER)
        )

    # What happens

    def submit(self, task: str, shape: Shape) -> None:
        """A Workflow for a task that has none."""
        if task in self._workflows:
            return
        self._created += 1
        name = f"{self._name}-{task}-{self._created}"
        body = manifests.workflow(
            name,
            *self._templates(shape),
            task=f"{self._name}-{task}",
            stage=None,
            labels=self._labels,
        )
        self._rig.home.cluster.create(body, self._rig.home.namespace)
        self._workflows[task] = name
        self._tell(f"submit {name}: {shape}")

    def ask(self, task: str, stage: str, kind: Kind, name: str = "") -> None:
        """A request, whether the Workflow is there or not."""
        self._created += 1
        name = name or f"{self._name}-request-{self._created}"
        full = f"{self._name}-{task}"
        if kind is Kind.OTHER_TASK and task not in self._workflows:
            return
        body = manifests.resume(
            name,
            self._workflows[task] if kind is Kind.OTHER_TASK else None,
            task="somebody-elses" if kind is Kind.OTHER_TASK else full,
            event_type=f"{self._name}-{stage}",
            policyName=self._name,
            rules=[manifests.rule("labels.owner", "equals", "nobody")]
            if kind is Kind.FAILING_RULE
            else (),
        )
        body["metadata"]["labels"] = self._labels
        made = self._rig.home.cluster.create(body, self._rig.home.namespace)
        self._asked[made["metadata"]["uid"]] = Asked(name, task, stage, kind)
        self._tell(f"ask {name}: {stage} of {task}, {kind}")

    def ask_again(self, index: int) -> None:
        """The same event once more, under another name."""
        if asked := self._any(index):
            self.ask(asked.task, asked.stage, asked.kind)

    def withdraw(self, index: int, *, anew: bool) -> None:
        """A request is deleted, and perhaps created again under its name."""
        if not (asked := self._any(index)):
            return
        at = (homes.RESUME, asked.name, self._rig.home.namespace)
        self._rig.home.cluster.delete(*at, missing_ok=True)
        self._tell(f"withdraw {asked.name}")
        if anew:
            self._rig.home.cluster.wait_gone(*at, homes.TIMEOUT)
            self.ask(asked.task, asked.stage, asked.kind, asked.name)

    def remove(self, task: str) -> None:
        """A Workflow is deleted."""
        name = self._workflows.pop(task, "")
        if name:
            at = (homes.WORKFLOW, name, self._rig.home.namespace)
            self._rig.home.cluster.delete(*at, missing_ok=True)
            self._rig.home.cluster.wait_gone(*at, homes.TIMEOUT)
            self._tell(f"remove {name}")

    def terminate(self, task: str) -> None:
        """A person terminates a Workflow."""
        if name := self._workflows.get(task):
            patch = {"spec": {"shutdown": "Terminate"}}
            self._rig.home.cluster.patch(homes.WORKFLOW, name, self._rig.home.namespace, patch)
            self._tell(f"terminate {name}")

    def open_by_hand(self, task: str) -> None:
        """A person opens one gate of a Workflow, if any is open."""
        name = self._workflows.get(task)
        gates = homes.open_gates(self._rig.home.workflow(name)) if name else {}
        for display, node in sorted(gates.items())[:1]:
            at = f"/status/nodes/{node['id']}"
            patch = [
                {"op": "test", "path": f"{at}/phase", "value": "Running"},
                {"op": "replace", "path": f"{at}/phase", "value": "Succeeded"},
                {"op": "add", "path": f"{at}/message", "value": _BY_A_PERSON},
            ]
            # Somebody may be quicker.
            with contextlib.suppress(client.ApiError):
                self._rig.home.cluster.patch(
                    homes.WORKFLOW,
                    str(name),
                    self._rig.home.namespace,
                    patch,
                    content_type=client.JSON_PATCH,
                )
            self._tell(f"open {display} of {name} by hand")

    def change_policy(self, *, threshold: int) -> None:
        """Other numbers, for all that wait."""
        patch = {"spec": {"stages": self._stages(threshold)}}
        self._rig.home.cluster.patch(homes.POLICY, self._name, self._rig.home.namespace, patch)
        self._tell(f"breaker opens after {threshold}")

    def break_calls(self, what: str, fault: str, times: int) -> None:
        """The next writes meet a fault."""
        if self._faults + times > _MOST_FAULTS:
            return
        self._faults += times
        path = {"workflow": "/workflows/[^/]+$", "status": "/workflowresumes/[^/]+/status$"}[what]
        rule = self._rig.proxy.on("PATCH", path, FAULTS[fault], times=times)
        self._rules.append(rule)
        self._tell(f"break {times} writes of a {what}: {fault}")

    def cut(self) -> None:
        """All watches break."""
        self._tell(f"cut {self._rig.proxy.cut()} watches")

    def silence(self) -> None:
        """The watches fall silent, or are heard again."""
        self._rig.proxy.thaw()
        self._rig.proxy.freeze("/workflow(resume)?s$")
        self._tell("watches are silent")

    def hear(self) -> None:
        """The watches are heard again."""
        self._rig.proxy.thaw()
        self._tell("watches are heard")

    def kill(self) -> None:
        """The operator is killed, and another one begins."""
        self._rig.kill()
        self._rig.start(ready=False)
        self._tell("kill")

    def pause(self, seconds: float) -> None:
        """Nothing happens."""
        time.sleep(seconds)

    # What has to be true

    def check(self) -> None:
        """What holds at any moment."""
        assert self._rig.operator.alive, self._rig.operator.tail()
        for task, body in self._see().workflows.items():
            self._check_gates(task, body)

    def end(self) -> None:
        """Heals everything and checks everything, when all has come to rest.

        Raises:
            AssertionError: something is wrong, or does not come to rest
        """
        for rule in self._rules:
            rule.remove()
        self._rig.proxy.thaw()
        self._tell("healed")
        deadline = time.monotonic() + _END
        while True:
            late = time.monotonic() > deadline
            seen = self._see()
            restless = [text for text in map(self._why_not_at_rest(seen), seen.requests) if text]
            if not restless:
                break
            assert not late, f"not at rest: {restless}"
            time.sleep(_POLL)
        for task, body in seen.workflows.items():
            self._check_gates(task, body)
            written = self._rig.writes(body["metadata"]["name"])
            effective = sum(one.took_effect for one in written)
            signed = sum(bool(_signatures(node)) for node in homes.nodes(body))
            assert effective == signed, f"{task}: {effective} writes, {signed} gates opened"
        for uid, status in seen.requests.items():
            self._check_outcome(uid, status, seen)

    def _check_gates(self, task: str, body: Json) -> None:
        """Each gate that is not closed was opened once, by whom it may be."""
        seen: dict[str, str] = {}
        for node in homes.nodes(body):
            if node.get("type") != "Suspend" or node.get("phase") != "Succeeded":
                continue
            message, gate = node.get("message", ""), node["displayName"]
            signatures = _signatures(node)
            if not signatures:
                assert message == _BY_A_PERSON, f"{gate} of {task}: {message!r}"
                continue
            assert len(signatures) == 1, f"{gate} of {task} was opened twice: {message!r}"
            asked = self._asked.get(signatures[0])
            assert asked is not None, f"{gate} of {task}: {message!r} is nobody's"
            wanted = Asked(asked.name, task, _stage_of(node), Kind.GOOD)
            assert asked == wanted, f"{gate} of {task} was opened by {asked}"
            assert asked.name not in seen, f"{asked.name} opened {gate} and {seen[asked.name]}"
            seen[asked.name] = gate

    def _why_not_at_rest(self, seen: Sight) -> _Restless:
        return _Restless(self._asked, seen)

    def _check_outcome(self, uid: str, status: Json, seen: Sight) -> None:
        """What is said of a request at rest is true."""
        asked, outcome = self._asked[uid], status["outcome"]
        body = seen.workflows.get(asked.task)
        signed = {found for node in _gates(body) for found in _signatures(node)}
        said = f"{asked}: {outcome} ({status.get('reason')}: {status.get('message')})"
        if body is not None:
            assert (outcome == "Resumed") >= (uid in signed), f"{said}, but it opened a gate"
        match asked.kind:
            case Kind.GOOD:
                assert outcome in _OUTCOMES_OF_RIGHT | {"Waiting"}, said
            case Kind.OTHER_TASK:
                assert outcome in ("Rejected", "Waiting"), said
            case Kind.FAILING_RULE:
                allowed = _OUTCOMES_OF_RIGHT - {"Resumed"} | {"Rejected", "Waiting"}
                assert outcome in allowed, said
        if (
            outcome == "Resumed"
            and body is not None
            and str(status["workflow"]["uid"]) == str(body["metadata"]["uid"])
        ):
            assert uid in signed, f"{said}, but no gate says so"

    def _see(self) -> Sight:
        selector = f"day={self._name}"
        cluster, namespace = self._rig.home.cluster, self._rig.home.namespace
        requests = cluster.list_all(homes.RESUME, namespace, selector=selector)
        workflows = {
            body["metadata"]["name"]: body
            for body in cluster.list_all(homes.WORKFLOW, namespace, selector=selector)
        }
        return Sight(
            {one["metadata"]["uid"]: one.get("status", {}) for one in requests},
            {task: workflows[name] for task, name in self._workflows.items() if name in workflows},
        )

    @property
    def _labels(self) -> dict[str, str]:
        return {"day": self._name}

    def _stages(self, threshold: int) -> Sequence[Json]:
        """The stages of the policy; they have the day's name, for a breaker belongs to a stage."""
        names = [f"{self._name}-{stage}" for stage in STAGES]
        breaker = {"failureThreshold": threshold, "openSeconds": 1}
        return [
            {"name": name, "eventTypes": [name], "retry": _RETRY, "circuitBreaker": breaker}
            for name in names
        ]

    def _templates(self, shape: Shape) -> Sequence[Json]:
        stages = (STAGES[0], STAGES[0]) if shape is Shape.TWINS else STAGES
        steps = [
            manifests.step(
                f"{stage}-{number}", "gate", arguments={"stage": f"{self._name}-{stage}"}
            )
            for number, stage in enumerate(stages)
        ]
        groups = steps if shape is Shape.CHAIN else [steps]
        return [manifests.steps(*groups), manifests.gate(inputs=["stage"])]

    def _any(self, index: int) -> Asked | None:
        asked = list(self._asked.values())
        return asked[index % len(asked)] if asked else None

    def _tell(self, text: str) -> None:
        self.told.append(text)


class _Restless:
    """Says of a request why it has not come to rest, or ""."""

    def __init__(self, asked: Mapping[str, Asked], seen: Sight) -> None:
        self._asked = asked
        self._seen = seen

    def __call__(self, uid: str) -> str:
        asked, status = self._asked[uid], self._seen.requests[uid]
        outcome = status.get("outcome")
        if outcome in ("Resumed", "AlreadyResumed", "Late", "Ambiguous", "Rejected"):
            return ""
        said = f"{asked} is {outcome} ({status.get('reason')}: {status.get('message')})"
        body = self._seen.workflows.get(asked.task)
        if outcome != "Waiting":
            return said
        if body is None:
            return ""
        if "phase" not in body.get("status", {}):
            return f"{asked.task} has not begun"
        if asked.kind is Kind.OTHER_TASK:
            return said
        if body["metadata"]["labels"].get("workflows.argoproj.io/completed") == "true":
            return said
        if body["spec"].get("shutdown"):
            return said
        for node in _gates(body):
            if _stage_of(node) == asked.stage and (node["phase"] == "Running" or _signatures(node)):
                return said
        return ""


def _gates(body: Json | None) -> Sequence[Json]:
    return [node for node in homes.nodes(body or {}) if node.get("type") == "Suspend"]


def _signatures(node: Json) -> list[str]:
    return _SIGNED.findall(node.get("message", ""))


def _stage_of(node: Json) -> str:
    (stage,) = node["inputs"]["parameters"]
    return str(stage["value"]).rpartition("-")[2]


FAULTS: Mapping[str, faults.Fault] = {
    "500": faults.answer(500),
    "503": faults.answer(503),
    "conflict": faults.answer(409),
    "invalid": faults.answer(422),
    "too many": faults.answer(429, retry_after=1),
    "dropped before": faults.drop_before,
    "dropped after": faults.drop_after,
    "reset before": faults.reset_before,
    "reset after": faults.reset_after,
    "garbage after": faults.garble_after,
    "504 after": faults.answer_after(504),
    "slow": faults.delay(0.4),
}
