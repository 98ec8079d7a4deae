"""The play that the tests of Argo Events drive: its policy, its gates, and GitHub's part in it."""

from __future__ import annotations

from tests.e2e.support import argoevents
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import EVENT_SOURCE, ArgoEvents
from tests.e2e.support.deliveries import Delivery
from tests.e2e.support.home import Home

PLAY = {"workflow-type": "play-orchestration"}
FINISHING = "finishing"

STAGES = (
    {"name": m.PR_CREATED, "eventTypes": ["pr-created"], "setLabels": {m.STAGE: m.READY_FOR_QA}},
    {
        "name": m.READY_FOR_QA,
        "eventTypes": ["pr-labeled-ready"],
        "setLabels": {m.STAGE: m.PR_APPROVED},
    },
    {
        "name": m.PR_APPROVED,
        "eventTypes": ["pr-approved"],
        "setLabels": {m.STAGE: "waiting-task-complete"},
    },
    {
        "name": "waiting-task-complete",
        "eventTypes": ["task-completed"],
        "setLabels": {m.STAGE: FINISHING},
    },
)

OUTPUTS = {
    "created": ("pr-number", "pr-url"),
    "labeled": ("cleo-completion-time",),
    "approved": ("tess-approval-time", "review-id"),
    "completed": (),
}
"""The gates of a play, and what is handed to the step behind each."""


def play(task: str, *gates: str) -> m.Json:
    """A workflow with some of the gates, and behind each a step that keeps what it was handed."""
    steps: list[m.Json] = []
    templates: list[m.Json] = []
    for gate in gates or OUTPUTS:
        outputs = OUTPUTS[gate]
        read = {one: f"{{{{steps.{gate}.outputs.parameters.{one}}}}}" for one in outputs}
        steps += [
            m.step(gate, f"gate-{gate}"),
            m.step(f"after-{gate}", f"witness-{gate}", arguments=read),
        ]
        templates += [
            m.gate(f"gate-{gate}", *outputs),
            m.witness(*outputs, name=f"witness-{gate}"),
        ]
    return m.workflow(f"play-{task}", m.steps(*steps), *templates, task=task, labels=PLAY)


def deliver(events: ArgoEvents, delivery: Delivery) -> None:
    """GitHub delivers it, and is told that it was taken."""
    assert delivery.post(events.url, argoevents.SECRET) == (200, "success"), events.tail(
        EVENT_SOURCE
    )


def resumed(events: ArgoEvents, delivery: Delivery) -> m.Json:
    """The WorkflowResume that became of a delivery, which has to open its gate."""
    request = events.request(delivery.id)
    events.home.resumed(request["metadata"]["name"])
    return request


def assert_waits(home: Home, task: str, gate: str = "created") -> None:
    assert list(homes.open_gates(home.workflow(f"play-{task}"))) == [gate]
