"""Many resumes while everything around the operator breaks, counted: what is lost, what doubled.

The operator sees the API server through the proxy of the tests, which breaks a part of its writes
and, again and again, all of its watches; the operator itself is killed (SIGKILL) over and over,
most times with calls under way. Argo's controller runs, and each Workflow has a second gate behind
the first, which nobody asks for. Some gates are asked for twice.

Counts do not depend on the machine; how long it took does, and is not told. What happens to a write
is drawn with a seed, but which write comes first is up to the operator: two runs differ.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import pathlib
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import urllib3

from tests.controlplane import client, launcher
from tests.e2e.support import faults, manifests, rig
from tests.e2e.support import home as homes
from tests.e2e.support.manifests import Json
from tests.e2e.support.proxy import Exchange
from tests.e2e.support.rig import Rig

_STAGE = "soak"
_RETRY = {"maxAttempts": 20, "strategy": "Fixed", "baseSeconds": 0.5, "jitter": "Full"}
_BREAKER = {"failureThreshold": 5, "openSeconds": 2}
_OPTIONS = ("--request-timeout", "30")
"""Of the operator. On a busy machine a slow answer is no fault of those that are counted."""
_WORKFLOW_WRITE = r"/workflows/[^/]+$"
_STATUS_WRITE = r"/workflowresumes/[^/]+/status$"
_SIGNED = re.compile(r"Resumed by: workflowresume/(\S+) \(uid")
_PATIENCE = 900.0
"""Seconds in which everything has to have ended after the last kill."""
_READS = 10
"""How often it is tried to read, half a minute each."""
_POLL = 2.0
_TERMINAL = ("Resumed", "AlreadyResumed")
"""What may become of a request here: everything else that ends one is an untruth."""
_KNOWN = {*_TERMINAL, "Waiting", "BackingOff", "CircuitOpen"}

_Read = TypeVar("_Read")


class SoakFailed(RuntimeError):
    """The soak could not be carried out; what it would have found is not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Arguments:
        resumes: gates that are asked for
        kills: of the operator
        twice: of so many gates one is asked for twice
        faulty: part of the writes that meet a fault
        seed: for all chance
    """

    resumes: int = 500
    kills: int = 30
    twice: int = 10
    faulty: float = 0.3
    seed: int = 20261121


FULL = Plan()
QUICK = Plan(resumes=20, kills=2, twice=5)


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """What was found.

    Arguments:
        gates: that were asked for
        requests: for them
        outcomes: how many requests ended with which
        lost: requests that did not end, or gates that were asked for and not opened
        doubled: gates that were opened twice, by one request or by two
        wrong: gates that nobody asked for and that were opened, or by another one's request
        contradicted: requests whose status said something else after it had told of an end
        kills: of the operator
        injected: faults by kind
        breaker: how often it opened
        workflow_writes: PATCHes to Workflows that took effect, for each gate
        status_writes: PATCHes to statuses that took effect, for each request
        calls: PATCHes of both kinds, also those that failed, for each request
    """

    gates: int
    requests: int
    outcomes: Mapping[str, int]
    lost: int
    doubled: int
    wrong: int
    contradicted: int
    kills: int
    injected: Mapping[str, int]
    breaker: int
    workflow_writes: float
    status_writes: float
    calls: float

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.wrong or self.contradicted)


class _Lottery:
    """Draws for each call whether it meets a fault, and which."""

    def __init__(self, chance: random.Random, share: float) -> None:
        self._chance = chance
        self._share = share
        self.drawn: collections.Counter[str] = collections.Counter()

    async def __call__(self, call: faults.Call) -> faults.Reply | None:
        if self._chance.random() >= self._share:
            return await call.forward()
        kind = self._chance.choice(sorted(faults.KINDS))
        self.drawn[kind] += 1
        return await faults.KINDS[kind](call)


def run(
    plane: launcher.ControlPlane, plan: Plan, folder: pathlib.Path, *, say: Callable[[str], None]
) -> Count:
    """Carries it out.

    Arguments:
        plane: a control plane with Argo's controller
        plan: what to do
        folder: for logs and the like
        say: told how far it is

    Raises:
        SoakFailed: the operator did not start, or a Workflow did not come to its gate
    """
    with (
        contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster,
        homes.new(cluster) as home,
    ):
        try:
            # The rig prints all logs in the end; those that matter are in the error.
            with (
                contextlib.redirect_stdout(io.StringIO()),
                rig.running(home, folder, options=_OPTIONS) as plant,
            ):
                return _Soak(plant, plan, say).go()
        except AssertionError as error:
            raise SoakFailed(str(error)) from error


class _Soak:
    def __init__(self, plant: Rig, plan: Plan, say: Callable[[str], None]) -> None:
        self._plant = plant
        self._plan = plan
        self._say = say
        self._chance = random.Random(plan.seed)
        self._lottery = _Lottery(random.Random(plan.seed + 1), plan.faulty)
        self._cuts = 0
        self._requests: dict[str, str] = {}
        """The Workflow that each means."""

    def go(self) -> Count:
        plant, plan = self._plant, self._plan
        plant.policy(_STAGE, retry=_RETRY, circuitBreaker=_BREAKER)
        names = plant.at_gates(_STAGE, plan.resumes)
        self._say(f"{len(names)} workflows wait")
        # The rule made last is asked first; each call draws once.
        rules = [
            plant.proxy.on("PATCH", path, self._lottery, times=None)
            for path in (_WORKFLOW_WRITE, _STATUS_WRITE)
        ]
        for number in range(plan.kills):
            first, last = (len(names) * part // plan.kills for part in (number, number + 1))
            self._ask(names[first:last])
            self._die(number)
        left = self._rest(time.monotonic() + _PATIENCE)
        for rule in rules:
            rule.remove()
        return self._count(names, left)

    def _ask(self, names: Sequence[str]) -> None:
        for name in names:
            wanted = [name]
            if int(name.rpartition("-")[2]) % self._plan.twice == 0:
                wanted.append(f"{name}-again")
            for request in wanted:
                self._requests[request] = name
                body = self._plant.request(request, _STAGE, task=name)
                self._plant.home.cluster.create(body, self._plant.home.namespace)

    def _die(self, number: int) -> None:
        """Kills the operator at work, or, each third time, on its way there."""
        plant = self._plant
        plant.operator.wait_logged("starting" if number % 3 == 2 else "ready", 120)
        if number % 2:
            self._cuts += plant.proxy.cut()
        time.sleep(self._chance.uniform(0.02, 0.8))
        plant.kill()
        plant.start(ready=False)
        self._say(f"kill {number + 1} of {self._plan.kills}")

    def _rest(self, deadline: float) -> Sequence[str]:
        """Waits until every request has ended well; returns those that have not in time."""
        path = f"/apis/{manifests.API_VERSION}/namespaces/{self._plant.home.namespace}"
        while True:
            late = time.monotonic() > deadline
            found = _patiently(
                lambda: self._plant.home.cluster.request(
                    "GET",
                    f"{path}/workflowresumes",
                    query={"fieldSelector": "status.phase!=Succeeded"},
                )
            )
            left = [one["metadata"]["name"] for one in found["items"]]
            if not left or late:
                return left
            time.sleep(_POLL)

    def _all(self, kind: str) -> Sequence[Json]:
        home = self._plant.home
        return _patiently(lambda: home.cluster.list_all(kind, home.namespace))

    def _statuses(self) -> Mapping[str, Json]:
        found = self._all(homes.RESUME)
        return {one["metadata"]["name"]: one.get("status", {}) for one in found}

    def _count(self, names: Sequence[str], left: Sequence[str]) -> Count:
        plant, plan = self._plant, self._plan
        found = self._all(homes.WORKFLOW)
        lost, doubled, wrong = len(left), 0, 0
        for body in found:
            name = body["metadata"]["name"]
            gate = homes.node(body, manifests.TWO_GATES[0])
            openers = _SIGNED.findall(gate.get("message", ""))
            written = [one for one in plant.writes(name) if one.took_effect]
            lost += gate["phase"] != "Succeeded"
            doubled += len(openers) > 1 or len(written) > 1
            others = [
                node
                for node in homes.nodes(body)
                if node["type"] == "Suspend" and node["id"] != gate["id"]
            ]
            wrong += any(self._requests.get(one) != name for one in openers)
            wrong += any(node["phase"] != "Running" for node in others)
        statuses = self._statuses()
        written = [one for one in plant.proxy.log("PATCH") if one.took_effect]
        calls = plant.proxy.log("PATCH", f"{_WORKFLOW_WRITE}|{_STATUS_WRITE}")
        logs = [
            line
            for file in plant.folder.glob("operator-*.log")
            for line in file.read_text().splitlines()
        ]
        outcomes = collections.Counter(str(one.get("outcome")) for one in statuses.values())
        return Count(
            gates=len(names),
            requests=len(self._requests),
            outcomes=dict(sorted(outcomes.items())),
            lost=lost + len(self._requests) - len(statuses),
            doubled=doubled,
            wrong=wrong,
            contradicted=sum(self._contradicts(name) for name in self._requests),
            kills=plan.kills,
            injected={**dict(sorted(self._lottery.drawn.items())), "watch broken": self._cuts},
            breaker=sum(
                '"event": "breaker changed"' in line and '"after": "Open"' in line for line in logs
            ),
            workflow_writes=_to(_WORKFLOW_WRITE, written) / len(names),
            status_writes=_to(_STATUS_WRITE, written) / len(self._requests),
            calls=len(calls) / len(self._requests),
        )

    def _contradicts(self, name: str) -> bool:
        """Whether a request ever said what is untrue, or something else after its end."""
        told = [str(status.get("outcome")) for status in self._plant.history.of(name)]
        ended = [outcome for outcome in told if outcome in _TERMINAL]
        return not _KNOWN.issuperset(told) or len(set(ended)) > 1 or told[-1:] != ended[-1:]


def _patiently(read: Callable[[], _Read]) -> _Read:
    """Reads. On a busy machine the API server is slow to answer, and that is no finding."""
    for _ in range(_READS - 1):
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return read()
    return read()


def _to(path: str, calls: Sequence[Exchange]) -> int:
    return sum(bool(re.search(path, one.path)) for one in calls)


def table(count: Count) -> str:
    """The figures, for a person."""
    rows = [
        ("gates asked for", count.gates),
        ("requests", count.requests),
        *((f"  {outcome}", number) for outcome, number in sorted(count.outcomes.items())),
        ("lost", count.lost),
        ("opened twice", count.doubled),
        ("opened wrongly", count.wrong),
        ("contradicted later", count.contradicted),
        ("operator killed", count.kills),
        ("breaker opened", count.breaker),
        ("faults injected", sum(count.injected.values())),
        *((f"  {kind}", number) for kind, number in count.injected.items()),
        ("writes of the Workflow per gate", f"{count.workflow_writes:.2f}"),
        ("writes of the status per request", f"{count.status_writes:.2f}"),
        ("calls for both per request", f"{count.calls:.2f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>6}" for name, value in rows)
