"""One operator's services on an API server in memory, so that a test says: this is so, then what.

A `World` outlives its operators, as a cluster does: `start` begins a new life of the operator, with
empty stores that take in what exists. Its queue is never started: a test makes the passes itself,
one by one or with `Operator.settle`, and time passes only as the passes ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resumer import errors, ports
from resumer.api import constants
from resumer.api.outcomes import Outcome
from resumer.api.resume import ResumeStatus
from resumer.core import workflows
from resumer.core.keys import Key
from resumer.core.policies import Policy
from resumer.ports import Outside
from resumer.services.circuits import BreakerStore
from resumer.services.confirming import Confirmer
from resumer.services.governing import Governor
from resumer.services.guarding import Guard
from resumer.services.intake import Intake
from resumer.services.queue import KeyedQueue
from resumer.services.reporting import Reporter
from resumer.services.requeststore import RequestStore
from resumer.services.resuming import Reconciler
from resumer.services.resyncing import Resync
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from resumer.telemetry import tracing
from tests import builders, fakes

WORKFLOWS, REQUESTS = constants.WORKFLOW_PLURAL, constants.RESUME_PLURAL
LONGEST = 60.0
"""Seconds in which a pass has to end."""
PASSES = 60
"""More passes than any request may need."""


def key(name: str = "wake") -> Key:
    """The key of an object in the namespace of the builders."""
    return Key(builders.NAMESPACE, name)


@dataclass(slots=True)
class World:
    """What is outside of the operator, and what it told."""

    clock: fakes.FakeClock = field(default_factory=lambda: fakes.FakeClock(builders.NOW))
    faults: fakes.Faults = field(default_factory=fakes.Faults)
    events: fakes.FakeEvents = field(default_factory=fakes.FakeEvents)
    telemetry: fakes.FakeTelemetry = field(default_factory=fakes.FakeTelemetry)
    tracing: ports.Tracing = field(default_factory=tracing.Untraced)
    api: fakes.FakeApi = field(init=False)
    breakers: fakes.FakeBreakers = field(init=False)
    policies: list[Policy] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = fakes.FakeApi(self.clock)
        self.breakers = fakes.FakeBreakers(self.faults)

    def add(self, *bodies: builders.WorkflowBuilder | builders.RequestBuilder) -> World:
        """Creates objects."""
        for body in bodies:
            workflow = isinstance(body, builders.WorkflowBuilder)
            self.api.create(WORKFLOWS if workflow else REQUESTS, body.build())
        return self

    def under(self, policy: builders.PolicyBuilder) -> World:
        """Puts a policy in force for all operators to come."""
        self.policies.append(policy.resolved())
        return self

    def start(self, *, watching: bool = True) -> Operator:
        """Begins a life of the operator, which ends the one before.

        Args:
            watching: False: after the first lists it sees no more changes, as with a slow watch.
        """
        self.api.unwatch_all()
        return Operator(self, watching=watching)

    def status(self, name: str = "wake") -> ResumeStatus:
        """The status of a request."""
        return ResumeStatus.from_json(self.api.get(REQUESTS, key(name)).get("status") or {})

    def outcome(self, name: str = "wake") -> tuple[Outcome | None, str | None]:
        """The outcome and the reason of a request."""
        status = self.status(name)
        return status.outcome, status.reason

    def node(self, gate: str = "wait", workflow: str = "play") -> dict[str, Any]:
        """A node of a workflow, by its display name."""
        found: dict[str, Any] = next(
            node for node in self._nodes(workflow) if node["displayName"] == gate
        )
        return found

    def opened(self, workflow: str = "play") -> list[str]:
        """The gates of a workflow that are open no more."""
        return [
            node["displayName"]
            for node in self._nodes(workflow)
            if node["type"] == "Suspend" and node["phase"] != "Running"
        ]

    def writes(self, workflow: str = "play") -> int:
        """How often a workflow was changed since it was created."""
        return self.api.writes[WORKFLOWS, key(workflow)] - 1

    def _nodes(self, workflow: str) -> list[dict[str, Any]]:
        return list(workflows.nodes(self.api.get(WORKFLOWS, key(workflow))).values())


class Operator:
    """The services of one process, wired as the factory does it."""

    def __init__(self, world: World, *, watching: bool) -> None:
        self.world = world
        clock, faults, telemetry = world.clock, world.faults, world.telemetry
        self.stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
        self.guard = Guard(self.stores.breakers, world.breakers, telemetry)
        self.hears = True
        """Whether the watch of requests is known to have told all."""
        reader = fakes.FakeReader(world.api, world.breakers, faults)
        self.reconciler = Reconciler(
            self.stores,
            Outside(
                workflows=fakes.FakeWorkflows(world.api, faults),
                backend=fakes.FakeBackend(world.api, faults),
                requests=fakes.FakeRequests(world.api, faults),
                reader=reader,
                clock=clock,
                telemetry=telemetry,
                tracing=world.tracing,
            ),
            self.guard,
            Reporter(world.events, telemetry),
            Confirmer(self.stores.requests, reader, lambda _: self.hears),
            longest=LONGEST,
        )
        self.queue = KeyedQueue(
            self.reconciler.reconcile, workers=4, clock=clock, telemetry=telemetry
        )
        self.intake = Intake(self.stores, self.queue, clock, self.reconciler.forget)
        self.governor = Governor(
            self.stores.policies, self.intake, fakes.FakePolicies(world.api, faults), clock
        )
        self.resync = Resync(
            self.governor,
            self.intake,
            self.stores.breakers,
            reader,
            clock,
        )
        self.list_all()
        if watching:
            world.api.watch(WORKFLOWS, self.workflow_event)
            world.api.watch(REQUESTS, self.request_event)

    def list_all(self) -> None:
        """What the watches show first: what is not finished."""
        for policy in self.world.policies:
            self.stores.policies.put(key(policy.name), policy)
            self.intake.policies_changed(builders.NAMESPACE)
        for (namespace, stage), (breaker, version) in self.world.breakers.items():
            self.intake.breaker(namespace, stage, breaker, version)
        for body in self.world.api.find(WORKFLOWS):
            self.workflow_event("ADDED", body)
        for body in self.world.api.find(REQUESTS):
            self.request_event("ADDED", body)

    def workflow_event(self, kind: str, body: dict[str, Any]) -> None:
        """A change of a Workflow; a finished one leaves the watch."""
        labels = body["metadata"].get("labels") or {}
        if kind == "DELETED" or labels.get(constants.LABEL_COMPLETED) == "true":
            self.intake.workflow_gone(key(body["metadata"]["name"]))
        else:
            self.intake.workflow(body)

    def request_event(self, kind: str, body: dict[str, Any]) -> None:
        """A change of a WorkflowResume; a finished one leaves the watch."""
        if kind == "DELETED" or body.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self.intake.request_gone(key(body["metadata"]["name"]))
        else:
            self.intake.request(body)

    async def look(self, name: str = "wake") -> float | None:
        """One pass over a request."""
        return await self.reconciler.reconcile(key(name))

    async def settle(self, *names: str) -> None:
        """Passes over requests, one after the other, until nothing but a change can bring news.

        Time passes as they ask for it; a pass that raises is made again after a second, as the
        queue does it.

        Raises:
            AssertionError: They do not come to rest.
        """
        waiting = list(names or ("wake",))
        for _ in range(PASSES):
            delays = []
            for name in list(waiting):
                try:
                    delay = await self.look(name)
                except (errors.ApiError, ArithmeticError):
                    delay = 1.0
                if delay is None:
                    waiting.remove(name)
                else:
                    delays.append(delay)
            if not waiting:
                return
            self.world.clock.advance(min(delays) + 0.001)
        states = {name: self.world.outcome(name) for name in waiting}
        raise AssertionError(f"not at rest after {PASSES} passes: {states}")


def at_its_gate() -> World:
    """One workflow at its gate, and a request for it."""
    return World().under(builders.three_stages()).add(builders.at_review(), builders.a_request())


def unsent() -> fakes.Fault:
    """A call that provably never left."""
    return fakes.Fault(errors.TransientError("refused", reason="Refused", sent=False))
