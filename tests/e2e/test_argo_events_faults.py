"""What breaks on the way from GitHub to the gate, and what becomes of the event.

Each test has an operator, a bus, an EventSource and a Sensor of its own: they find each other again
in their own time after such a fault, and no other test has to wait for that.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Outcome, Reason
from tests.controlplane import client
from tests.e2e.support import argoevents, deliveries, faults, process, proxy, waiting
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import BUS, EVENT_SOURCE, SENSOR, ArgoEvents
from tests.e2e.support.home import Home
from tests.e2e.support.plays import PLAY, STAGES, assert_waits, deliver, play, resumed

CREATION = "/workflowresumes$"

# With all that is started for each test, on a busy machine.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def home(cluster: client.Cluster) -> Iterator[Home]:
    """A namespace for one test."""
    with homes.new(cluster) as made:
        yield made


@pytest.fixture
def events(home: Home, built_events: None, tmp_path: pathlib.Path) -> Iterator[ArgoEvents]:
    """Argo Events and the operator at work, and the policy of the plays."""
    home.ask(m.policy("play", *STAGES, matches=PLAY))
    with (
        process.running(home.account(), tmp_path / "operator.log", [home.namespace]),
        argoevents.running(home, {"repositories": f"^{deliveries.REPOSITORY}$"}) as started,
    ):
        yield started


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_comes_while_the_sensor_is_gone_waits_for_it_on_the_bus(
    events: ArgoEvents, home: Home, task: str, how: signal.Signals
) -> None:
    home.submit(play(task, "created"))
    events.end(SENSOR, how)
    delivery = deliveries.opened(task)
    deliver(events, delivery)
    events.start(SENSOR)
    resumed(events, delivery)
    home.ended(f"play-{task}")


def test_what_the_bus_has_taken_outlives_it(events: ArgoEvents, home: Home, task: str) -> None:
    home.submit(play(task, "created"))
    events.end(SENSOR)
    delivery = deliveries.opened(task)
    deliver(events, delivery)
    events.end(BUS)
    events.start(BUS)
    events.start(SENSOR)
    resumed(events, delivery)
    home.ended(f"play-{task}")


def test_github_is_told_when_the_bus_is_gone_and_can_deliver_again(
    events: ArgoEvents, home: Home, task: str
) -> None:
    """EventSource and Sensor live on and find the bus again by themselves."""
    home.submit(play(task, "created"))
    events.end(BUS)
    delivery = deliveries.opened(task)
    assert delivery.post(events.url, argoevents.SECRET) == (500, "failed to record event")
    events.start(BUS)
    waiting.eventually(
        lambda: delivery.post(events.url, argoevents.SECRET)[0] == 200,
        lambda: events.tail(EVENT_SOURCE),
        argoevents.START_TIMEOUT,
    )
    resumed(events, delivery)
    home.ended(f"play-{task}")


def test_a_refused_creation_is_tried_again(events: ArgoEvents, home: Home, task: str) -> None:
    home.submit(play(task, "created"))
    binding = take_away_the_right(events, home)
    delivery = deliveries.opened(task)
    failures = events.log(SENSOR).count("is forbidden")
    deliver(events, delivery)
    waiting.eventually(
        lambda: events.log(SENSOR).count("is forbidden") > failures, lambda: events.tail(SENSOR)
    )
    home.cluster.create(binding)
    resumed(events, delivery)
    home.ended(f"play-{task}")


def test_what_cannot_be_created_ends_in_the_log_with_all_that_is_needed_to_do_it_later(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task)
    binding = take_away_the_right(events, home)
    with events.impatient():
        deliver(events, delivery)
        events.drained()
        home.cluster.create(binding)
    assert events.requests(delivery.id) == []
    letters = [
        json.loads(line["msg"])
        for line in map(json.loads, events.log(SENSOR).splitlines())
        if line.get("triggerName") == "dead-letter" and delivery.id in line["msg"]
    ]
    assert len(letters) == 1, events.tail(SENSOR)
    letter = letters[0]
    request = m.resume(
        f"by-hand-{task}",
        task=letter["taskId"],
        event=letter["githubEvent"],
        parameters={"pr-number": letter["number"], "pr-url": letter["url"]},
    )
    home.ask(request)
    home.resumed(f"by-hand-{task}")


def test_a_sensor_killed_between_the_creation_and_its_answer_resumes_once(
    events: ArgoEvents, home: Home, task: str, tmp_path: pathlib.Path
) -> None:
    """The bus was told nothing, so the event comes again: the second request finds it was done."""
    home.submit(play(task, "created", "completed"))
    with proxy.running(events.kubeconfig(), tmp_path) as between:
        events.lead_sensor(between.kubeconfig)
        delivery = deliveries.opened(task)
        answers = faults.Hold(after=True)
        between.on("POST", CREATION, answers)
        deliver(events, delivery)
        answers.wait()
        (first,) = (one["metadata"]["name"] for one in events.requests(delivery.id))
        events.end(SENSOR)
        answers.drop()
        home.resumed(first)
        events.start(SENSOR)
        # The bus gives it 30 seconds to say that it is through with an event.
        waiting.eventually(
            lambda: len(events.requests(delivery.id)) == 2,
            lambda: events.tail(SENSOR),
            argoevents.START_TIMEOUT,
        )
        events.drained()
        assert [one.upstream for one in between.log("POST", CREATION)] == [201, 201]
    names = {one["metadata"]["name"] for one in events.requests(delivery.id)}
    (second,) = names - {first}
    home.came_to(second, Reason.STAGE_ALREADY_RESUMED)
    assert_waits(home, task, "completed")
    status = home.cluster.get(homes.RESUME, first, home.namespace)["status"]
    assert status["outcome"] == Outcome.RESUMED


def take_away_the_right(events: ArgoEvents, home: Home) -> m.Json:
    """Deletes the Sensor's RoleBinding; what to create in order to give it back."""
    kind = "rbac.authorization.k8s.io/v1/RoleBinding"
    binding = home.cluster.get(kind, "resumer-sensor", home.namespace)
    home.cluster.delete(kind, "resumer-sensor", home.namespace)
    with contextlib.closing(client.Cluster(events.kubeconfig())) as sensor:
        # The API server hears of it by a watch of its own.
        waiting.eventually(
            lambda: is_refused(sensor, home.namespace), lambda: "the Sensor may still create"
        )
    kept = {key: binding["metadata"][key] for key in ("name", "namespace")}
    return {**binding, "metadata": kept}


def is_refused(sensor: client.Cluster, namespace: str) -> bool:
    """Whether the Sensor's account may not create requests."""
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowresumes"
    try:
        sensor.request("POST", path, query={"dryRun": "All"}, body=m.resume("probe", task="1"))
    except client.ApiError as error:
        return error.status == 403
    return False
