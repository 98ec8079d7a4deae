"""Very many requests at once, at a well API server, at one that has had enough, and after downtime.

Argo's controller would use most of the cores here and has no part in it: there is none, and the
Workflows stand at their gates as it would have left them. The operator is a user that priority and
fairness applies to, and sees the API server through the proxy.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from resumer.api.outcomes import Reason
from resumer.services import intake
from tests.controlplane import client, launcher
from tests.e2e.support import faults, manifests, process, rig, rights, waiting, written
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json
from tests.e2e.support.rig import Rig

MANY = 100
AT_ONCE = 60
"""Requests that an operator works on at the same time: fewer than it has workers."""
FEW = 10
"""Of them, may be on their way when something happens."""
PACE = intake.RELEASE_INTERVAL * 0.9
"""Seconds; the clocks of the operator's loop and of the test are not the same."""
DOWNTIME = 300
FLOOD = 30
USER = "storm"
LONG = 100.0
"""Seconds for what takes ten: the cores are shared."""

FLOW = "flowcontrol.apiserver.k8s.io/v1"
PRIORITY_LEVEL = f"{FLOW}/PriorityLevelConfiguration"
FLOW_SCHEMA = f"{FLOW}/FlowSchema"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def plane(built_components: None) -> Iterator[launcher.ControlPlane]:
    with launcher.start(crds="minimal", argo=False, audit=True) as started:
        yield started


@pytest.fixture(scope="module")
def home(plane: launcher.ControlPlane) -> Iterator[Home]:
    with (
        contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster,
        homes.new(cluster) as made,
        rights.none_refused(plane.audit_log, USER),
    ):
        yield made


@pytest.fixture(scope="module")
def plant(
    plane: launcher.ControlPlane, home: Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """The operator as a user that is not exempt from priority and fairness, as masters are."""
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}
    rights.allow(home.cluster, user, home.namespace, None)
    with rig.running(
        home,
        tmp_path_factory.mktemp("storms"),
        # A sweep would be turned away with the rest, and take the turn of one that is looked at.
        options=["--request-timeout", "50", "--cleanup-interval", "0"],
        upstream=plane.kubeconfig_for(USER),
    ) as started:
        yield started


def numbered(stage: str, count: int) -> Sequence[str]:
    return [f"{stage}-{number:03}" for number in range(count)]


def stand(plant: Rig, stage: str, names: Sequence[str], home: Home | None = None) -> None:
    """Workflows of a stage, each at its gate; where the operator works, or in another home."""
    where = home or plant.home

    def create(name: str) -> None:
        body = written.standing(name)
        body["metadata"]["labels"] |= {"policy": stage, "current-stage": stage}
        where.cluster.create(body, where.namespace)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(create, names))


def request(plant: Rig, stage: str, name: str) -> Json:
    return plant.request(name, stage, parameters={"answer": "42"})


def ask_at_once(plant: Rig, stage: str, names: Sequence[str]) -> None:
    """Creates the requests from several threads at the same time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: plant.home.ask(request(plant, stage, name)), names))


def come_to(plant: Rig, names: Sequence[str], reason: Reason) -> dict[str, Json]:
    """The statuses of the requests, as soon as all of them say this reason."""

    def reasons() -> collections.Counter[str]:
        last = [plant.history.of(name)[-1:] for name in names]
        return collections.Counter(str(one[0].get("reason")) if one else "none" for one in last)

    waiting.eventually(lambda: reasons() == {str(reason): len(names)}, lambda: str(reasons()), LONG)
    return {name: plant.history.of(name)[-1] for name in names}


def each_opened_once(plant: Rig, names: Sequence[str]) -> dict[str, Json]:
    """The statuses of the requests, each of which has opened the gate of its Workflow, once."""
    found = come_to(plant, names, Reason.GATE_OPENED)
    workflows = plant.home.cluster.list_all(homes.WORKFLOW, plant.home.namespace)
    bodies = {one["metadata"]["name"]: one for one in workflows}
    for name in names:
        uid = found[name]["correlationID"]
        gate = homes.node(bodies[name], "wait")
        assert gate["phase"] == "Succeeded"
        assert gate["message"] == f"Resumed by: workflowresume/{name} (uid {uid})"
        done = [one for one in plant.writes(name) if one.took_effect]
        assert len(done) == 1, f"{name}: {len(done)} writes took effect, not 1"
    return found


def test_a_hundred_requests_at_once_open_a_hundred_gates_each_its_own(plant: Rig) -> None:
    plant.policy("crowd")
    names = numbered("crowd", MANY)
    stand(plant, "crowd", names)
    ask_at_once(plant, "crowd", names)
    for status in each_opened_once(plant, names).values():
        assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]


@contextlib.contextmanager
def small_share(home: Home, user: str) -> Iterator[None]:
    """Has the API server turn away a user's calls while about three of them are under way."""
    name = f"small-share-{user}"
    level = {
        "apiVersion": FLOW,
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 1,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    }
    every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    schema = {
        "apiVersion": FLOW,
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            "priorityLevelConfiguration": {"name": name},
            "matchingPrecedence": 100,
            "rules": [
                {
                    "subjects": [{"kind": "User", "user": {"name": user}}],
                    "resourceRules": [{**every, "clusterScope": True, "namespaces": ["*"]}],
                }
            ],
        },
    }
    home.cluster.create(level)
    home.cluster.create(schema)
    try:
        home.cluster.wait_for(
            FLOW_SCHEMA,
            name,
            None,
            lambda body: any(
                one["type"] == "Dangling" and one["status"] == "False"
                for one in body.get("status", {}).get("conditions", ())
            ),
            homes.TIMEOUT,
            describe="in force",
        )
        yield
    finally:
        home.cluster.delete(FLOW_SCHEMA, name)
        home.cluster.delete(PRIORITY_LEVEL, name)


def test_turned_away_by_priority_and_fairness_it_slows_down_and_loses_nothing(plant: Rig) -> None:
    plant.policy(
        "enough",
        retry={"maxAttempts": 1},
        circuitBreaker={"failureThreshold": 1, "openSeconds": 3600},
    )
    names = numbered("enough", MANY)
    stand(plant, "enough", names)
    hold = faults.Hold()
    with small_share(plant.home, USER):
        # They are let go together, so that the API server has more under way than it takes.
        with plant.proxy.on("PATCH", r"/workflows/enough-", hold, times=None):
            ask_at_once(plant, "enough", names)
            hold.wait(32)
        hold.release()
        statuses = each_opened_once(plant, names)
    for status in statuses.values():
        assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]
        assert "retry" not in status
    assert plant.breaker("enough") is None
    calls = [one for method in ("GET", "PATCH", "POST") for one in plant.proxy.log(method, "")]
    refused = [one for one in calls if one.upstream == 429]
    assert refused
    # If each call came back by itself after a second, it would be more than a thousand.
    assert len(refused) < 3 * MANY
    assert plant.operator.metric("resumer_api_turned_away_total") == len(refused)
    assert plant.operator.metric("resumer_api_wait_seconds_count", rank="write") > 0
    plant.operator.wait_logged("the API server turns calls away: calling more slowly")


def fails(plant: Rig, stage: str) -> None:
    """A request of the stage fails for good, which opens the breaker of one that bears none."""
    name = f"fails-{stage}"
    stand(plant, stage, [name])
    with plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503)):
        plant.home.ask(request(plant, stage, name))
        plant.came_to(name, Reason.RETRIES_EXHAUSTED)


def test_a_half_open_breaker_tries_one_of_a_hundred_and_then_lets_all_go(
    plant: Rig,
) -> None:
    stage = "held"
    breaker = {"failureThreshold": 1, "openSeconds": 3, "halfOpenCalls": 1}
    plant.policy(stage, retry={"maxAttempts": 1}, circuitBreaker=breaker)
    names = numbered(stage, MANY)
    stand(plant, stage, names)
    fails(plant, stage)
    probe, following = faults.Hold(), faults.Hold()
    with plant.proxy.on("PATCH", rf"/workflows/{stage}-", following, times=None):
        with plant.proxy.on("PATCH", rf"/workflows/{stage}-", probe, times=None):
            probing, *others = names
            plant.home.ask(request(plant, stage, probing))
            probe.wait()
            ask_at_once(plant, stage, others)
            come_to(plant, others, Reason.BREAKER_OPEN)
            assert len(probe.paths) == 1
            assert len(plant.breaker_in(stage, "HalfOpen")["probes"]) == 1
            busy_with(plant.operator, 1)
        let_go = datetime.datetime.now(datetime.UTC)
        probe.release()
        following.wait(AT_ONCE)
        following.open()
    for status in each_opened_once(plant, names).values():
        assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]
        assert "retry" not in status
    assert plant.breaker_in(stage, "Closed")["consecutiveFailures"] == 0
    # Not all in the same instant, as fast as the operator is; who was being looked at goes first.
    began = sorted(plant.writes(name)[0].began for name in others)
    passed = [(one - let_go).total_seconds() for one in began[FEW:AT_ONCE]]
    early = [(turn, since) for turn, since in enumerate(passed) if since < turn * PACE]
    assert not early, f"more than one each {PACE:g} s: {early}"


@contextlib.contextmanager
def working_with(plant: Rig, *options: str) -> Iterator[None]:
    """The operator has these options as well."""
    before = plant.options
    try:
        plant.stop()
        plant.options = [*before, *options]
        plant.start()
        yield
    finally:
        plant.options = before
        plant.stop()
        plant.start()


def wait_past(moment: float) -> None:
    """Returns once the clock shows this time."""
    waiting.eventually(lambda: time.time() >= moment, lambda: f"{time.time()}, not {moment}")


def ask_in_turn(plant: Rig, stage: str, names: Sequence[str], share: int) -> list[str]:
    """Creates requests in this order, not more than so many in a second; returns their times."""
    created: list[str] = []
    for number, name in enumerate(names):
        if number and number % share == 0:
            wait_past(datetime.datetime.fromisoformat(created[-1]).timestamp() + 1)
        made = plant.home.cluster.create(request(plant, stage, name), plant.home.namespace)
        created.append(made["metadata"]["creationTimestamp"])
    return created


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_who_a_breaker_held_is_resumed_in_the_order_of_creation_also_by_the_next_operator(
    plant: Rig, killed: bool
) -> None:
    """The open time ends while the operator is at work, or while there is none."""
    stage = "turns-killed" if killed else "turns"
    breaker = {"failureThreshold": 1, "openSeconds": 3600}
    plant.policy(stage, retry={"maxAttempts": 1}, circuitBreaker=breaker)
    # The younger a request, the earlier its name, which is the order of a list.
    names = numbered(stage, 10)[::-1]
    stand(plant, stage, names)
    fails(plant, stage)
    over = {"status": {"openUntilTime": "2026-01-01T00:00:00Z"}}
    with working_with(plant, "--workers", "1"):
        created = ask_in_turn(plant, stage, names, 4)
        come_to(plant, names, Reason.BREAKER_OPEN)
        busy_with(plant.operator, 0)
        if killed:
            plant.kill()
        plant.home.cluster.patch(
            rig.BREAKER, stage, plant.home.namespace, over, subresource="status"
        )
        if killed:
            plant.start()
        each_opened_once(plant, names)
    order = sorted(names, key=lambda name: plant.writes(name)[0].began)
    if killed:  # the next operator knows the second of each
        times = [created[names.index(name)] for name in order]
        assert times == sorted(created), order
        assert len(set(times)) > 2
    else:
        assert order == names
    assert plant.breaker_in(stage, "Closed")["consecutiveFailures"] == 0


def test_calls_are_not_made_faster_than_the_rate_that_was_set(plant: Rig) -> None:
    stage, rate = "paced", 20
    plant.policy(stage)
    names = numbered(stage, 20)
    stand(plant, stage, names)
    with working_with(plant, "--api-rate", str(rate), "--api-burst", "1"):
        asked = datetime.datetime.now(datetime.UTC)
        ask_at_once(plant, stage, names)
        each_opened_once(plant, names)
        assert plant.operator.metric("resumer_api_wait_seconds_count", rank="write") > 0
    writes = plant.proxy.log("PATCH", rf"/(workflows|workflowresumes)/{stage}-")
    assert len(writes) >= 2 * len(names)
    began = sorted((one.began - asked).total_seconds() for one in writes)
    early = [(turn, since) for turn, since in enumerate(began) if since < 0.9 * turn / rate]
    assert not early, f"more than {rate} each second: {early}"


class Counting:
    """Passes calls on after a while, and counts how many are under way at the same time.

    Attributes:
        let: set as soon as any may pass
        most: how many were under way at the same time
    """

    def __init__(self) -> None:
        self.let = threading.Event()
        self.most = 0
        self._under_way = 0

    async def __call__(self, call: faults.Call) -> faults.Reply:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await asyncio.to_thread(self.let.wait)
            await asyncio.sleep(0.01)
            return await call.forward()
        finally:
            self._under_way -= 1


def busy_with(operator: process.Operator, count: int) -> None:
    """Returns as soon as an operator looks at so many requests, and no other one is due."""

    def due() -> list[float]:
        return [operator.metric("resumer_queue_depth", state=one) for one in ("ready", "running")]

    waiting.eventually(lambda: due() == [0, count], lambda: f"ready and running: {due()}")


def knows(operator: process.Operator, requests: int) -> None:
    """Returns as soon as an operator has so many unfinished requests in mind."""

    def known() -> float:
        return operator.metric("resumer_known_objects", kind="requests")

    waiting.eventually(lambda: known() >= requests, lambda: f"{known():g} known")


def test_what_is_new_passes_what_piled_up_while_the_operator_was_down(plant: Rig) -> None:
    stage, few = "piled", 4
    plant.policy(stage)
    names = numbered(stage, DOWNTIME)
    ask_at_once(plant, stage, names)
    come_to(plant, names, Reason.WORKFLOW_NOT_FOUND)
    plant.kill()
    stand(plant, stage, names)
    stand(plant, stage, new := [f"{stage}-new-{number}" for number in range(5)])
    before = plant.options
    counting = Counting()
    plant.options = [*before, "--workers", "16", "--api-connections", str(few)]
    try:
        with (
            plant.proxy.on("PATCH", rf"/workflows/{stage}-", counting, times=None),
            plant.proxy.on("PATCH", rf"/workflowresumes/{stage}-", counting, times=None),
        ):
            operator = plant.start()
            for name in new:
                plant.home.ask(request(plant, stage, name))
            # How quickly they were asked for is not what is looked at.
            knows(operator, DOWNTIME + len(new))
            counting.let.set()
            each_opened_once(plant, [*names, *new])
    finally:
        counting.let.set()
        plant.options = before
        try:
            plant.stop()
        finally:
            plant.start()
    assert 1 < counting.most <= few
    writes = plant.proxy.log("PATCH", rf"/workflows/{stage}-")
    order = [one.path.rpartition("/")[2] for one in sorted(writes, key=lambda one: one.began)]
    assert len(order) == len(names) + len(new)
    ranks = [order.index(name) for name in new]
    # Nothing that was there first is dropped, and what is new waits for little of it.
    assert max(ranks) < DOWNTIME / 2, ranks


def test_a_namespace_with_many_requests_does_not_hold_up_another_one(plant: Rig) -> None:
    """One worker, and its first write is held until all requests of both namespaces are known."""
    stage, late = "flood", "flood-late"
    names = numbered(stage, FLOOD)
    plant.policy(stage)
    stand(plant, stage, names)
    before, hold = plant.options, faults.Hold()
    try:
        plant.stop()
        with homes.new(plant.home.cluster) as other:
            there = {"name": stage, "eventTypes": [stage]}
            other.ask(manifests.policy(stage, there, matches={"policy": stage}))
            stand(plant, stage, [late], other)
            plant.options = [*before, "--workers", "1", "--namespace", other.namespace]
            operator = plant.start()
            with plant.proxy.on("PATCH", rf"/workflows/{stage}-", hold):
                ask_at_once(plant, stage, names)
                hold.wait()
                other.ask(request(plant, stage, late))
                knows(operator, FLOOD + 1)
            hold.release()
            other.resumed(late)
            each_opened_once(plant, names)
    finally:
        hold.release()
        plant.stop()
        plant.options = before
        plant.start()
    order = [one.path.rpartition("/")[2] for one in plant.writes(rf"{stage}-[^/]+")]
    assert order.index(late) < 5, "it came after many of the other namespace"
