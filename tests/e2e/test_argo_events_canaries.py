"""A changed Sensor is tried beside the old one and takes over, as the page on upgrading says.

Both are the shipped Sensor, at work on the events of one webhook, with the real Argo Events.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest

from resumer.api.outcomes import Outcome, Reason
from tests.e2e.support import argoevents, deliveries, waiting
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import EVENT_SOURCE, ArgoEvents
from tests.e2e.support.deliveries import Delivery
from tests.e2e.support.home import Home
from tests.e2e.support.plays import PLAY, STAGES, assert_waits, deliver, play

pytestmark = [pytest.mark.usefixtures("built_events", "operator"), pytest.mark.timeout(240)]

OLD, NEW = argoevents.SENSOR, f"{argoevents.SENSOR}-new"


def beside(manifests: list[m.Json]) -> None:
    """Adds the new Sensor."""
    (old,) = (one for one in manifests if one["kind"] == "Sensor")
    new = copy.deepcopy(old)
    new["metadata"]["name"] = NEW
    manifests.append(new)


@pytest.fixture(scope="module")
def events(home: Home, built_events: None) -> Iterator[ArgoEvents]:
    """Argo Events with the old Sensor at work, and the policy of the plays."""
    home.ask(m.policy("play", *STAGES, matches=PLAY))
    values = {"repositories": f"^{deliveries.REPOSITORY}$"}
    names = (EVENT_SOURCE, OLD, NEW)
    with argoevents.running(home, values, names=names, change=beside) as started:
        yield started


def requests(change: Callable[[m.Json], None]) -> Callable[[m.Json], None]:
    """The same change to the spec of what each trigger of a Sensor creates."""

    def changed(sensor: m.Json) -> None:
        for trigger in sensor["triggers"]:
            change(trigger["template"]["k8s"]["source"]["resource"]["spec"])

    return changed


def asking(more: str) -> Callable[[m.Json], None]:
    """A Sensor whose requests ask for a label more."""
    return requests(lambda spec: spec.update(labelSelector=f"{spec['labelSelector']},{more}"))


def both(events: ArgoEvents, delivery: Delivery) -> list[m.Json]:
    """What both Sensors have made of a delivery."""
    waiting.eventually(
        lambda: len(events.requests(delivery.id)) == 2,
        lambda: f"{events.requests(delivery.id)}\n{events.tail(OLD)}\n{events.tail(NEW)}",
        argoevents.START_TIMEOUT,
    )
    return events.requests(delivery.id)


def outcomes(home: Home, made: list[m.Json]) -> list[str]:
    """What requests ended as, sorted."""
    return sorted(home.decided(one["metadata"]["name"])["outcome"] for one in made)


def test_a_sensor_is_a_shadow_until_it_is_switched_to_and_no_event_is_lost_or_counts_twice(
    events: ArgoEvents, home: Home, task: str
) -> None:
    name = f"play-{task}"
    events.deploy(OLD)
    events.deploy(NEW, requests(lambda spec: spec.update(dryRun=True)))
    home.submit(play(task))
    opened = deliveries.opened(task)
    with events.held(OLD):
        deliver(events, opened)
        shadow = events.request(opened.id)
        told = home.came_to(shadow["metadata"]["name"], Reason.WOULD_RESUME)
        assert [node["displayName"] for node in told["workflow"]["nodes"]] == ["created"]
        assert_waits(home, task)
    assert outcomes(home, both(events, opened)) == [Outcome.DRY_RUN, Outcome.RESUMED]

    # The switch, with an event at each step.
    home.at_gate(name, "labeled")
    events.deploy(NEW)
    labeled = deliveries.labeled(task)
    deliver(events, labeled)
    assert outcomes(home, both(events, labeled)) == [Outcome.ALREADY_RESUMED, Outcome.RESUMED]
    home.at_gate(name, "approved")
    events.end(OLD)
    for gate, delivery in (
        ("approved", deliveries.reviewed(task)),
        ("completed", deliveries.closed(task)),
    ):
        home.at_gate(name, gate)
        deliver(events, delivery)
        home.resumed(events.request(delivery.id)["metadata"]["name"])
    home.ended(name)


def test_a_new_sensor_takes_the_workflows_with_its_label_and_the_old_one_the_others(
    events: ArgoEvents, home: Home, task: str
) -> None:
    events.deploy(OLD, asking("track!=canary"))
    events.deploy(NEW, asking("track=canary"))
    for number, labels, selector in (
        (f"{task}1", {}, "track!=canary"),
        (f"{task}2", {"track": "canary"}, "track=canary"),
    ):
        workflow = play(number, "created", "completed")
        workflow["metadata"]["labels"] |= labels
        home.submit(workflow)
        delivery = deliveries.opened(number)
        deliver(events, delivery)
        for made in both(events, delivery):
            name = made["metadata"]["name"]
            if made["spec"]["labelSelector"].endswith(f",{selector}"):
                home.resumed(name)
            else:
                home.came_to(name, Reason.WORKFLOW_NOT_FOUND)
        home.at_gate(f"play-{number}", "completed")
        assert list(homes.open_gates(home.workflow(f"play-{number}"))) == ["completed"]
