"""A day of a cluster: what may happen to requests, Workflows and the operator.

`Day` is the model of one example: it does things to the real API server, and knows of each gate who
may have opened it. `Day.check` holds at any moment; `Day.end` heals everything, waits until the
operator has come to rest, and then says for each gate and each request whether it is right (`truth`
has the rules).

A task has at most one Workflow at a time. Each gate says in its input `stage` which stage it is, so
that it is known for each request which gate it means.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import time
from collections.abc import Mapping, Sequence

from tests.controlplane import client
from tests.e2e.support import faults, manifests, truth
from tests.e2e.support import home as homes
from tests.e2e.support import rig as rigs
from tests.e2e.support.manifests import Json
from tests.e2e.support.proxy import Rule
from tests.e2e.support.rig import Rig
from tests.e2e.support.truth import Asked, Kind, Sight

STAGES = ("first", "second", "third")
_END = 180.0
"""Seconds in which everything has to come to rest after everything was healed."""
_POLL = 0.2
_NEVER = 1000
"""Failures after which a breaker opens that shall not."""
_MOST_FAULTS = 15
"""In one example: fewer than the attempts of a request."""
_MANY_ATTEMPTS = {"maxAttempts": 20, "jitter": "None"}
RETRIES: Mapping[str, Json] = {
    "Fixed": {"baseSeconds": 0.3},
    "Linear": {"baseSeconds": 0.1, "incrementSeconds": 0.05, "capSeconds": 1},
    "Exponential": {"baseSeconds": 0.1, "factor": 2, "capSeconds": 1},
    "Custom": {"delaysSeconds": [0, 0.5, 0.1]},
}
"""What the retry strategies are given, by their names."""
_STAGE_PARAMETER = {"stageParameter": "stage"}


class Shape(enum.StrEnum):
    """How the gates of a Workflow lie."""

    CHAIN = "chain"
    """One behind the other."""
    PARALLEL = "parallel"
    """All at once."""
    TWINS = "twins"
    """Two of the first stage at once: who asks for one is told that it is not clear which."""


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What the policy says of each of its stages; by default such that every request is met."""

    threshold: int = _NEVER
    """Failures after which a breaker opens."""
    probes: int = 1
    """That a half-open one lets through at the same time."""
    reaches: bool = True
    """Whether the selector of the stages' gates matches any."""
    strategy: str = "Fixed"
    """Of `RETRIES`."""
    ambiguity: str = "Fail"
    """Decides nothing, as a task has one Workflow."""
    deadline: int = 900
    """Seconds, more than a day takes."""

    def stage(self, name: str) -> Json:
        """A stage of this name, with one event type of the same name."""
        return {
            "name": name,
            "eventTypes": [name],
            "nodeFieldSelector": "templateName=gate" if self.reaches else "templateName=no-gate",
            "retry": {**_MANY_ATTEMPTS, "strategy": self.strategy, **RETRIES[self.strategy]},
            "circuitBreaker": {
                "failureThreshold": self.threshold,
                "openSeconds": 1,
                "halfOpenCalls": self.probes,
            },
            "ambiguity": self.ambiguity,
            "deadlineSeconds": self.deadline,
        }


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
        self._shapes: dict[str, Shape] = {}
        self._terms: Terms | None = Terms()
        self._created = 0
        self._faults = 0
        self._rules: list[Rule] = []
        self.told: list[str] = []
        """What was done, for whoever has to understand a failure."""
        rig.home.ask(self._policy(Terms()))

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
        self._shapes[task] = shape
        self._tell(f"submit {name}: {shape}")

    def ask(self, task: str, stage: str, kind: Kind, name: str = "") -> None:
        """A request, whether the Workflow is there or not."""
        self._created += 1
        name = name or f"{self._name}-request-{self._created}"
        full = f"{self._name}-{task}"
        if kind is Kind.OTHER_TASK and task not in self._workflows:
            return
        named = self._workflows[task] if kind is Kind.OTHER_TASK else ""
        body = manifests.resume(
            name,
            named or None,
            task="somebody-elses" if kind is Kind.OTHER_TASK else full,
            event_type=self._of_day(stage),
            policyName=self._name,
            rules=[manifests.rule("labels.owner", "equals", "nobody")]
            if kind is Kind.FAILING_RULE
            else (),
        )
        body["metadata"]["labels"] = self._labels
        made = self._rig.home.cluster.create(body, self._rig.home.namespace)
        self._asked[made["metadata"]["uid"]] = Asked(name, task, stage, kind, named)
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
                {"op": "add", "path": f"{at}/message", "value": truth.BY_A_PERSON},
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

    def change_policy(self, terms: Terms | None) -> None:
        """Other terms, for all that wait; None: there is no policy any more."""
        if terms == self._terms:
            return
        at = (homes.POLICY, self._name, self._rig.home.namespace)
        if terms is None:
            self._rig.home.cluster.delete(*at)
            self._rig.home.cluster.wait_gone(*at, homes.TIMEOUT)
        elif self._terms is None:
            self._rig.home.ask(self._policy(terms))
        else:
            self._rig.home.cluster.patch(*at, {"spec": {"stages": self._stages(terms)}})
        self._terms = terms
        self._tell(f"the policy says {terms}" if terms else "no policy")

    def reset_breaker(self, stage: str) -> None:
        """A person deletes a breaker."""
        at = (rigs.BREAKER, self._of_day(stage), self._rig.home.namespace)
        self._rig.home.cluster.delete(*at, missing_ok=True)
        self._tell(f"reset the breaker of {stage}")

    def break_calls(self, what: str, fault: str, times: int) -> None:
        """The next writes meet a fault."""
        if self._faults + times > _MOST_FAULTS:
            return
        self._faults += times
        path = {"workflow": "/workflows/[^/]+$", "status": "/workflowresumes/[^/]+/status$"}[what]
        rule = self._rig.proxy.on("PATCH", path, faults.KINDS[fault], times=times)
        self._rules.append(rule)
        self._tell(f"break {times} writes of a {what}: {fault}")

    def cut(self) -> None:
        """All watches break."""
        self._tell(f"cut {self._rig.proxy.cut()} watches")

    def silence(self) -> None:
        """The watches fall silent, or are heard again."""
        self._rig.proxy.thaw()
        self._rig.proxy.freeze(r"/workflow\w*$")
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
        truth.check_gates(self._asked, self._see())

    def end(self) -> None:
        """Heals everything and checks everything, when all has come to rest.

        Raises:
            AssertionError: something is wrong, or does not come to rest
        """
        for rule in self._rules:
            rule.remove()
        self._rig.proxy.thaw()
        self.change_policy(Terms())
        self._tell("healed")
        # Whatever was, who asks now gets it.
        for task in self._workflows:
            for stage in STAGES:
                self.ask(task, stage, Kind.GOOD)
        deadline = time.monotonic() + _END
        while True:
            late = time.monotonic() > deadline
            seen = self._see()
            restless = [
                *truth.restless(self._asked, seen),
                *(f"{task} has not finished" for task in self._unfinished(seen)),
            ]
            if not restless:
                break
            assert not late, f"not at rest: {restless}"
            time.sleep(_POLL)
        truth.check_gates(self._asked, seen)
        truth.check_outcomes(self._asked, seen)
        for task, body in seen.workflows.items():
            written = self._rig.writes(body["metadata"]["name"])
            effective, signed = sum(one.took_effect for one in written), truth.opened_by_us(body)
            assert effective == signed, f"{task}: {effective} writes, {signed} gates opened"

    def _unfinished(self, seen: Sight) -> Sequence[str]:
        """The tasks whose Workflow goes on, though every gate of it was asked for."""
        return [
            task
            for task, body in seen.workflows.items()
            if self._shapes[task] is not Shape.TWINS and not truth.finished(body)
        ]

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

    def _of_day(self, stage: str) -> str:
        """A breaker belongs to a stage of a namespace, so a day has stages of its own."""
        return f"{self._name}-{stage}"

    def _policy(self, terms: Terms) -> Json:
        return manifests.policy(
            self._name, *self._stages(terms), matches=self._labels, **_STAGE_PARAMETER
        )

    def _stages(self, terms: Terms) -> Sequence[Json]:
        return [terms.stage(self._of_day(stage)) for stage in STAGES]

    def _templates(self, shape: Shape) -> Sequence[Json]:
        stages = (STAGES[0], STAGES[0]) if shape is Shape.TWINS else STAGES
        steps = [
            manifests.step(f"{stage}-{number}", "gate", arguments={"stage": self._of_day(stage)})
            for number, stage in enumerate(stages)
        ]
        groups = steps if shape is Shape.CHAIN else [steps]
        return [manifests.steps(*groups), manifests.gate(inputs=["stage"])]

    def _any(self, index: int) -> Asked | None:
        asked = list(self._asked.values())
        return asked[index % len(asked)] if asked else None

    def _tell(self, text: str) -> None:
        self.told.append(text)
