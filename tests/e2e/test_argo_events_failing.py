"""From GitHub's "no" to a failed gate, through the real Argo Events.

The Sensor has the triggers of `deploy/argo-events/failing`, and the policy lists their types under
failOn.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import argoevents, deliveries
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import ArgoEvents
from tests.e2e.support.deliveries import Delivery
from tests.e2e.support.home import Home
from tests.e2e.support.plays import PLAY, STAGES, assert_waits, deliver, play, resumed

pytestmark = [pytest.mark.usefixtures("built_events", "operator")]

FAIL_ON = {
    m.PR_CREATED: ["pr-closed"],
    m.PR_APPROVED: ["pr-changes-requested", "pr-closed"],
}


@pytest.fixture(scope="module")
def events(home: Home, built_events: None) -> Iterator[ArgoEvents]:
    """Argo Events at work with the triggers that fail gates, and a policy that lets them."""
    stages = ({**stage, "failOn": FAIL_ON.get(str(stage["name"]), [])} for stage in STAGES)
    home.ask(m.policy("play", *stages, matches=PLAY))
    values = {"repositories": f"^{deliveries.REPOSITORY}$"}
    with argoevents.running(home, values, also=["failing"]) as started:
        yield started


def came_to(events: ArgoEvents, delivery: Delivery, reason: Reason) -> m.Json:
    """The status of the request that became of a delivery."""
    deliver(events, delivery)
    return events.home.came_to(events.request(delivery.id)["metadata"]["name"], reason)


def test_a_review_that_asks_for_changes_fails_the_gate_that_waits_for_approval(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task))
    for gate, delivery in (
        ("created", deliveries.opened(task)),
        ("labeled", deliveries.labeled(task)),
    ):
        home.at_gate(f"play-{task}", gate)
        deliver(events, delivery)
        resumed(events, delivery)
    home.at_gate(f"play-{task}", "approved")
    status = came_to(events, deliveries.reviewed(task, "changes_requested"), Reason.FAILED_BY_EVENT)
    assert status["outcome"] == "GateFailed"
    assert status["workflow"]["stage"] == m.PR_APPROVED
    node = homes.node(home.ended(f"play-{task}", "Failed"), "approved")
    assert node["phase"] == "Failed"
    assert node["message"].endswith("for event pr-changes-requested")


def test_a_pull_request_that_is_closed_unmerged_fails_the_gate_that_waits_for_it(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.closed(task, merged=False)
    came_to(events, delivery, Reason.FAILED_BY_EVENT)
    node = homes.node(home.ended(f"play-{task}", "Failed"), "created")
    assert (node["phase"], node["message"].endswith("for event pr-closed")) == ("Failed", True)
    # GitHub delivers it again: nobody minds.
    deliver(events, delivery)
    events.drained()
    again = [one["metadata"]["name"] for one in events.requests(delivery.id)]
    assert len(again) == 2


def test_a_pull_request_that_is_merged_fails_nothing(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.closed(task)
    came_to(events, delivery, Reason.STAGE_NOT_REACHED)
    events.drained()
    (request,) = events.requests(delivery.id)
    assert request["spec"]["correlationData"]["eventType"] == "task-completed"
    assert_waits(home, task)


def test_a_gate_that_opens_later_is_not_failed_by_what_came_before(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created", "labeled"))
    came_to(events, deliveries.reviewed(task, "changes_requested"), Reason.DEADLINE_EXCEEDED)
    assert_waits(home, task)
