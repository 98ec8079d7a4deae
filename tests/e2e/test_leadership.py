"""Replicas that elect a leader, as real processes: one works, and another one follows it.

Each replica sees the API server through a proxy of its own, whose log tells what that replica
wrote. Where a test is not about the end of a lease, leases are long: on a busy machine a replica
may be slow to renew, and that a lease is handed over much sooner than it ends shows that it was
released.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.controlplane import client
from tests.e2e.support import faults, history, manifests, process, shifted, waiting
from tests.e2e.support import home as homes
from tests.e2e.support import proxy as proxies
from tests.e2e.support.home import Home

pytestmark = pytest.mark.timeout(240)

LEASE = "coordination.k8s.io/v1/Lease"
LEASES = r"/leases/?"
WORKFLOWS = r"/workflows/"
OURS = r"/argoproj\.io/"
PATIENT = ("--request-timeout", "30")

LONG = ("60", "40", "1")
SHORT = ("12", "9", "1")
"""Seconds of the lease, to renew, between renewals."""

RELEASED = 20.0
"""Seconds, less than the lease: a stop, the next look, and time for a busy machine."""
GATES = 24


@dataclasses.dataclass(slots=True)
class Replica:
    """An operator behind a proxy that only it uses."""

    proxy: proxies.Proxy
    operator: process.Operator

    def leads(self, timeout: float = waiting.TIMEOUT) -> str:
        """Its identity, as soon as it leads."""
        return str(self.operator.wait_logged("leading", timeout)["identity"])

    def says(self) -> tuple[int, str, float]:
        """The status of `/readyz`, what that says of the leadership, and the metric."""
        status, body = self.operator.get("/readyz")
        checks = {check["name"]: check["message"] for check in json.loads(body)["checks"]}
        return status, checks["leadership"], self.operator.metric("resumer_leader")

    def writes(self, path: str = "") -> Sequence[proxies.Exchange]:
        """What it asked the API server to change, leases left out."""
        return [
            one
            for one in self.proxy.log("", path)
            if one.method != "GET" and "/leases" not in one.path
        ]

    def lists(self) -> int:
        """How often it listed a collection."""
        found = self.proxy.log("GET", r"/(workflows|workflowresumes)$")
        return len([one for one in found if "status.phase%3D" not in one.query])


@dataclasses.dataclass(slots=True)
class Crew:
    """The replicas of one namespace, which share one lease."""

    home: Home
    folder: pathlib.Path
    stack: contextlib.ExitStack
    history: history.History
    replicas: list[Replica] = dataclasses.field(default_factory=list)

    def start(
        self,
        timing: Sequence[str] = LONG,
        options: Sequence[str] = PATIENT,
        shift: shifted.Shift | None = None,
    ) -> Replica:
        """Starts one more, and waits until it has seen all that exists."""
        number = len(self.replicas) + 1
        folder = self.folder / f"replica-{number}"
        folder.mkdir()
        proxy = self.stack.enter_context(proxies.running(self.home.account(), folder))
        flags = ("--lease-seconds", "--lease-renew-seconds", "--lease-retry-seconds")
        seconds = zip(flags, timing, strict=False)
        operator = process.start(
            proxy.kubeconfig,
            folder / "operator.log",
            [self.home.namespace],
            options=[
                "--leader-elect",
                *("--leader-elect-namespace", self.home.namespace),
                *itertools.chain.from_iterable(seconds),
                *options,
            ],
            env={"POD_NAME": f"replica-{number}", **(shift.environment if shift else {})},
            module="tests.e2e.support.shifted" if shift else "resumer",
        )
        self.stack.callback(operator.kill)
        self.stack.callback(lambda: print(operator.tail()))
        operator.wait_logged("ready", process.START_TIMEOUT)
        replica = Replica(proxy, operator)
        self.replicas.append(replica)
        return replica

    def holder(self) -> str:
        """Who holds the lease, "" where nobody does."""
        try:
            body = self.home.cluster.get(LEASE, "resumer", self.home.namespace)
        except client.ApiError as error:
            if error.status != 404:
                raise
            return ""
        return str(body["spec"].get("holderIdentity", ""))

    def submit(self, *names: str) -> None:
        """Workflows, each at the first of two gates."""
        for name in names:
            self.home.cluster.create(manifests.two_gates(name, name), self.home.namespace)
        for name in names:
            self.home.at_gate(name, "first")

    def ask(self, *names: str) -> None:
        """Requests for the workflows of the same names."""
        for name in names:
            self.home.ask(manifests.resume(name, name, task=name))

    def opened_once(self, *names: str) -> None:
        """Asserts that each first gate was opened by its request, by one write of one replica."""
        for name in names:
            self.home.resumed(name)
            body = self.home.at_gate(name, "second")
            uid = self.home.cluster.get(homes.RESUME, name, self.home.namespace)["metadata"]["uid"]
            found = homes.node(body, "first")
            assert found["message"] == f"Resumed by: workflowresume/{name} (uid {uid})"
            done = [
                one
                for replica in self.replicas
                for one in replica.writes(rf"/workflows/{name}$")
                if one.took_effect
            ]
            assert len(done) == 1, f"{name}: {len(done)} writes took effect, not 1"
            self.history.wait(name, lambda status: status["outcome"] == "Resumed")
            ends = [one for one in self.history.of(name) if one["outcome"] == "Resumed"]
            assert len(ends) == 1, ends


@pytest.fixture
def crew(home: Home, tmp_path: pathlib.Path) -> Iterator[Crew]:
    """Nobody yet; whoever was started is killed in the end. Each test has a lease of its own."""
    home.cluster.delete(LEASE, "resumer", home.namespace, missing_ok=True)
    with contextlib.ExitStack() as stack:
        seen = stack.enter_context(history.watching(home.cluster, home.namespace))
        yield Crew(home, tmp_path, stack, seen)


def both_go_on(leader: Replica, follower: Replica) -> None:
    """Returns once the one has renewed and the other has looked, twice from now on."""
    renewals = len(leader.proxy.log("PUT", LEASES))
    looks = len(follower.proxy.log("GET", LEASES))
    waiting.eventually(
        lambda: (
            len(leader.proxy.log("PUT", LEASES)) >= renewals + 2
            and len(follower.proxy.log("GET", LEASES)) >= looks + 2
        ),
        lambda: f"{leader.operator.tail()}\n{follower.operator.tail()}",
    )


def test_one_of_two_works_and_hands_over_when_it_is_stopped_whatever_their_clocks_say(
    crew: Crew, tmp_path: pathlib.Path
) -> None:
    shifts = [shifted.Shift(tmp_path / f"shift-{number}") for number in range(2)]
    first = crew.start(shift=shifts[0])
    leader = first.leads()
    second = crew.start(shift=shifts[1])
    second.operator.wait_logged("standing by", leader=leader)
    assert first.says() == (200, f"this process leads, as {leader}", 1.0)
    status, message, value = second.says()
    assert (status, value) == (200, 0.0)
    assert message.endswith(f"; {leader} leads")

    # The clocks on the wall are hours apart, and jump.
    for hours in (1, -1):
        shifts[0].set(3600 * hours)
        shifts[1].set(-3600 * hours)
        both_go_on(first, second)
        assert crew.holder() == leader
    names = [f"handed-{number}" for number in range(6)]
    crew.submit(*names)
    crew.ask(*names[:3])
    crew.opened_once(*names[:3])
    assert second.writes() == []
    # Who stands by forgets what the leader has finished.
    waiting.eventually(
        lambda: second.operator.metric("resumer_known_objects", kind="requests") == 0,
        lambda: second.operator.get("/metrics")[1],
    )

    # A person deletes the lease: who leads goes on, and writes it anew.
    crew.home.cluster.delete(LEASE, "resumer", crew.home.namespace)
    waiting.eventually(lambda: crew.holder() == leader, lambda: f"held by {crew.holder()!r}")
    assert first.operator.alive

    lists = second.lists()
    began = time.monotonic()
    assert first.operator.stop() == 0
    second_leads = second.leads()
    took = time.monotonic() - began
    print(f"SIGTERM to the next leader: {took:.2f} s")
    assert took < RELEASED, "the lease was not released"
    assert crew.holder() == second_leads
    crew.ask(*names[3:])
    crew.opened_once(*names)
    assert second.lists() == lists, "the follower had to list what it should have known"
    assert second.says() == (200, f"this process leads, as {second_leads}", 1.0)
    assert second.operator.stop() == 0


def test_a_leader_that_is_killed_while_events_arrive_is_followed_and_nothing_is_done_twice(
    crew: Crew,
) -> None:
    """With the times that an operator has by default."""
    first = crew.start(())
    first.leads()
    second = crew.start(())
    names = [f"killed-{number}" for number in range(GATES)]
    crew.submit(*names)

    # The last third comes after the kill, however quick the first leader is.
    killed = threading.Event()

    def events() -> None:
        mine = client.Cluster(crew.home.cluster.kubeconfig)
        for number, name in enumerate(names):
            if number == GATES * 2 // 3:
                assert killed.wait(waiting.TIMEOUT)
            mine.create(manifests.resume(name, name, task=name), crew.home.namespace)
            time.sleep(0.2)
        mine.close()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(events)
        waiting.eventually(
            lambda: len(first.writes(r"/workflows/killed")) >= GATES // 3,
            lambda: f"{len(first.writes())} writes",
        )
        first.operator.kill()
        killed.set()
        began = time.monotonic()
        second.leads()
        took = time.monotonic() - began
        coming.result()
    print(f"SIGKILL to the next leader: {took:.2f} s")
    assert took < 25, "15 s, and time for a busy machine"
    crew.opened_once(*names)
    # Both have taken part, else this test tells nothing.
    assert first.writes(WORKFLOWS)
    assert second.writes(WORKFLOWS)
    assert second.operator.stop() == 0


def test_a_leader_that_was_frozen_or_cannot_renew_ends_without_another_write(crew: Crew) -> None:
    first = crew.start(SHORT)
    first.leads()
    second = crew.start(SHORT)
    names = [f"frozen-{number}" for number in range(8)]
    crew.submit(*names)
    crew.ask(names[0])
    crew.opened_once(names[0])
    waiting.eventually(
        lambda: first.writes(rf"/workflowresumes/{names[0]}/status$"), lambda: "not told"
    )

    first.operator.signal(signal.SIGSTOP)
    before = len(first.writes(OURS))
    crew.ask(*names[1:5])
    second.leads()
    crew.opened_once(*names[:5])
    # What it finds when it goes on are events that it knows nothing about, and gates that are open.
    second.operator.signal(signal.SIGSTOP)
    crew.ask(*names[5:])
    first.operator.signal(signal.SIGCONT)
    assert first.operator.ended() == 1, first.operator.tail()
    first.operator.wait_logged("leadership lost")
    assert [one.path for one in first.writes(OURS)[before:]] == []

    # All else still answers the other one: only the lease tells it that it may lead no longer.
    with (
        second.proxy.on("PUT", LEASES, faults.drop_before, times=None),
        second.proxy.on("GET", LEASES, faults.drop_before, times=None),
    ):
        second.operator.signal(signal.SIGCONT)
        assert second.operator.ended() == 1, second.operator.tail()
    second.operator.wait_logged("leadership lost")

    third = crew.start(SHORT)
    third.leads()
    crew.opened_once(*names)
    assert third.operator.stop() == 0
