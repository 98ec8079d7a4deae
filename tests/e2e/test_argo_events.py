"""From GitHub's webhook to the next step of a workflow, through the real Argo Events.

The EventSource, the bus and the Sensor are those of `deploy/argo-events`; the deliveries are
GitHub's documented examples, signed as GitHub signs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from resumer.api.outcomes import Reason
from resumer.core import deliveries as saved
from resumer.core import policies, proposals
from resumer.core.proposals import Dropped, Wish
from tests.controlplane import client
from tests.e2e.support import argoevents, deliveries, waiting
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import EVENT_SOURCE, SENSOR, ArgoEvents
from tests.e2e.support.deliveries import Delivery
from tests.e2e.support.home import Home
from tests.e2e.support.plays import (
    PLAY,
    STAGES,
    assert_waits,
    deliver,
    play,
    resumed,
)

pytestmark = [pytest.mark.usefixtures("built_events", "operator")]


@pytest.fixture(scope="module")
def events(home: Home, built_events: None) -> Iterator[ArgoEvents]:
    """Argo Events at work with the shipped manifests, and the policy of the plays."""
    home.ask(m.policy("play", *STAGES, matches=PLAY))
    with argoevents.running(home, {"repositories": f"^{deliveries.REPOSITORY}$"}) as started:
        yield started


def test_each_event_opens_its_gate_until_the_workflow_has_succeeded(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task))
    expected = {
        "created": (deliveries.opened(task), "pr-created"),
        "labeled": (deliveries.labeled(task), "pr-labeled-ready"),
        "approved": (deliveries.reviewed(task), "pr-approved"),
        "completed": (deliveries.closed(task), "task-completed"),
    }
    for gate, (delivery, event_type) in expected.items():
        home.at_gate(f"play-{task}", gate)
        deliver(events, delivery)
        spec = resumed(events, delivery)["spec"]
        assert spec["labelSelector"] == "workflow-type=play-orchestration"
        correlation = spec["correlationData"]
        assert (correlation["taskId"], correlation["eventType"]) == (task, event_type)
        sent = correlation["githubEvent"]
        assert sent["X-GitHub-Event"] == delivery.event
        assert sent["X-GitHub-Delivery"] == delivery.id
        assert_is_part_of(sent, delivery.payload)
        assert len(json.dumps(sent)) < 4096 < len(json.dumps(delivery.payload))
        # What stands in it besides are the defaults of the API server.
        assert spec == {**spec, **replayed(delivery, spec["labelSelector"])}
    workflow = home.ended(f"play-{task}")
    assert homes.inputs(workflow, "after-created") == {
        "pr-number": "2",
        "pr-url": "https://github.com/Codertocat/Hello-World/pull/2",
    }
    assert homes.inputs(workflow, "after-labeled") == {
        "cleo-completion-time": expected["labeled"][0].payload["pull_request"]["updated_at"]
    }
    review = expected["approved"][0].payload["review"]
    assert homes.inputs(workflow, "after-approved") == {
        "tess-approval-time": review["submitted_at"],
        "review-id": str(review["id"]),
    }


def replayed(delivery: Delivery, selector: str) -> m.Json:
    """What `resumer replay` makes of the same delivery."""
    event = saved.read(delivery.payload, name=delivery.event, delivery=delivery.id)
    found = proposals.propose(event, policies.BUILT_IN, Wish(label_selector=selector))
    assert not isinstance(found, Dropped)
    spec: m.Json = found["spec"]
    return spec


def assert_is_part_of(sent: m.Json, payload: m.Json) -> None:
    """What was sent has the shape of the payload and none of its own."""
    for key, value in sent.items():
        if key.startswith("X-GitHub-"):
            continue
        if isinstance(value, dict):
            assert_is_part_of(value, payload[key])
        elif isinstance(value, list):
            for one, original in zip(value, payload[key], strict=True):
                assert_is_part_of(one, original)
        else:
            assert value == payload[key], key


def test_the_sensor_may_create_requests_and_nothing_else(events: ArgoEvents, home: Home) -> None:
    sensor = client.Cluster(events.kubeconfig())
    review = sensor.request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        body={
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": home.namespace},
        },
    )
    sensor.close()
    rules = [
        rule
        for rule in review["status"]["resourceRules"]
        # What anybody may: ask about himself.
        if not {"authorization.k8s.io", "authentication.k8s.io"} & set(rule["apiGroups"])
    ]
    assert rules == [
        {"verbs": ["create"], "apiGroups": ["argoproj.io"], "resources": ["workflowresumes"]}
    ]


def test_a_delivery_that_comes_three_times_resumes_once(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created", "completed"))
    delivery = deliveries.opened(task)
    for _ in range(3):
        deliver(events, delivery)
    events.drained()
    names = [one["metadata"]["name"] for one in events.requests(delivery.id)]
    assert len(names) == 3

    def outcomes() -> list[str]:
        found = (home.cluster.get(homes.RESUME, name, home.namespace) for name in names)
        return sorted(one.get("status", {}).get("outcome", "") for one in found)

    wanted = ["AlreadyResumed", "AlreadyResumed", "Resumed"]
    waiting.eventually(lambda: outcomes() == wanted, lambda: str(outcomes()))
    home.at_gate(f"play-{task}", "completed")
    assert_waits(home, task, "completed")


def test_an_event_before_the_workflow_is_there_resumes_it_later(
    events: ArgoEvents, home: Home, task: str
) -> None:
    delivery = deliveries.opened(task)
    deliver(events, delivery)
    name = events.request(delivery.id)["metadata"]["name"]
    home.came_to(name, Reason.WORKFLOW_NOT_FOUND)
    home.ask(play(task, "created"))
    home.resumed(name)
    home.ended(f"play-{task}")


@pytest.mark.parametrize("secret", [None, "", "guessed"])
def test_whoever_cannot_sign_is_refused(
    events: ArgoEvents, home: Home, task: str, secret: str | None
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task)
    before = events.messages()
    status, body = delivery.post(events.url, secret)
    assert (status, "signature" in body) == (400, True), body
    assert events.messages() == before
    assert_waits(home, task)


def test_a_signature_of_another_payload_is_refused(events: ArgoEvents, task: str) -> None:
    signed = deliveries.opened(task)
    other = deliveries.opened(f"{task}1")
    before = events.messages()
    status, _ = other.post(
        events.url, None, headers={"X-Hub-Signature-256": signed.signature(argoevents.SECRET)}
    )
    assert status == 400
    assert events.messages() == before


def test_a_payload_of_25_megabytes_is_refused(events: ArgoEvents, home: Home, task: str) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task, body="x" * 25_000_000)
    before = events.messages()
    status, _ = delivery.post(events.url, argoevents.SECRET)
    assert status in (400, deliveries.HUNG_UP)
    assert events.messages() == before
    assert_waits(home, task)
    # It still serves.
    deliver(events, deliveries.opened(task))
    home.ended(f"play-{task}")


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b'"\xff\xfe"', b"[" * 20_000, b'{"action":' + b"1" * 400 + b"}"],
    ids=["empty", "null", "list", "half", "no UTF-8", "deep", "long number"],
)
def test_what_is_no_webhook_makes_no_request(events: ArgoEvents, body: bytes) -> None:
    delivery = deliveries.opened("1").id
    deliveries.send(events.url, "pull_request", delivery, body, argoevents.SECRET)
    events.drained()
    assert events.requests(delivery) == []
    assert events.alive(EVENT_SOURCE)
    assert events.alive(SENSOR)


NOT_MEANT: Mapping[str, Callable[[str], Delivery]] = {
    "an issue": deliveries.issue_opened,
    "the greeting of a new webhook": lambda _: Delivery("ping", {"zen": "Keep it.", "hook_id": 1}),
    "another label": lambda task: deliveries.labeled(task, "bug"),
    "a label that holds the other": lambda task: deliveries.labeled(task, "not-ready-for-qa"),
    "changes requested": lambda task: deliveries.reviewed(task, "changes_requested"),
    "a comment": lambda task: deliveries.reviewed(task, "commented"),
    "not merged": lambda task: deliveries.closed(task, merged=False),
    "no task": lambda task: deliveries.opened(task, labels=[]),
    "no task number": lambda task: deliveries.opened(task, labels=[{"name": f"task-{task}x"}]),
}


@pytest.mark.parametrize("name", NOT_MEANT)
def test_other_events_make_no_request(events: ArgoEvents, task: str, name: str) -> None:
    delivery = NOT_MEANT[name](task)
    deliver(events, delivery)
    events.drained()
    assert events.requests(delivery.id) == []


@pytest.mark.parametrize("repository", ["Somebody/Hello-World", "Codertocat/Hello-World2", ""])
def test_another_repository_s_task_makes_no_request(
    events: ArgoEvents, home: Home, task: str, repository: str
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task)
    delivery.payload["repository"]["full_name"] = repository
    deliver(events, delivery)
    events.drained()
    assert events.requests(delivery.id) == []
    assert_waits(home, task)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [{"name": "bug"}], "head": {"ref": "task-{}-fix"}},
        {"labels": [], "head": {"ref": "task-{}"}},
        {"labels": [], "title": "task-{}: fix it"},
        {"labels": [], "body": "Does what\n\ntask-{} asks for."},
    ],
    ids=["branch", "whole branch", "title", "body"],
)
def test_the_task_is_read_from_the_branch_the_title_or_the_body(
    events: ArgoEvents, task: str, changes: dict[str, Any]
) -> None:
    filled = json.loads(json.dumps(changes).replace("task-{}", f"task-{task}"))
    delivery = deliveries.opened(task, **filled)
    deliver(events, delivery)
    assert events.request(delivery.id)["spec"]["correlationData"]["taskId"] == task


def test_an_event_that_names_two_tasks_is_rejected(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created"))
    labels = [{"name": f"task-{task}"}, {"name": f"task-{task}1"}]
    delivery = deliveries.opened(task, labels=labels)
    deliver(events, delivery)
    home.came_to(events.request(delivery.id)["metadata"]["name"], Reason.TASK_MISMATCH)
    assert_waits(home, task)


HOSTILE = {
    "quotes": "\"}, 'x': \\\"\\\\",
    "lines": "a\r\nb\tc\u2028d",
    "template": "{{workflow.name}} {{=sprig.env('HOME')}} {{ .Input }} ${x} %s $(id)",
    "unicode": "\U0001f600 \u202e evil \u0000 \ud7ff \ufffd e\u0301",
    "markup": "<script>alert('x')</script> & <!-- ",
    "path": "../../etc/passwd\x00 *.# @this|@ugly",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_arrives_as_text(events: ArgoEvents, home: Home, task: str, text: str) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task, title=text, body=text)
    delivery.payload["pull_request"]["labels"].append({"name": text})
    delivery.payload["pull_request"]["user"]["login"] = text
    deliver(events, delivery)
    pull = resumed(events, delivery)["spec"]["correlationData"]["githubEvent"]["pull_request"]
    assert (pull["title"], pull["body"], pull["user"]["login"]) == (text, text, text)
    assert pull["labels"][1]["name"] == text
    home.ended(f"play-{task}")


def test_a_template_in_a_value_for_the_next_step_is_rejected(
    events: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "created"))
    delivery = deliveries.opened(task, html_url="https://github.com/{{workflow.uid}}")
    deliver(events, delivery)
    home.came_to(events.request(delivery.id)["metadata"]["name"], Reason.TEMPLATE_IN_PARAMETER)
    assert_waits(home, task)


def test_long_texts_and_lists_are_cut(events: ArgoEvents, task: str) -> None:
    labels = [{"name": f"task-{task}"}, *({"name": f"label {number}"} for number in range(500))]
    delivery = deliveries.opened(task, title="t" * 300_000, body="word " * 50_000, labels=labels)
    delivery.payload["pull_request"]["head"]["ref"] = "b" * 1000
    deliver(events, delivery)
    event = events.request(delivery.id)["spec"]["correlationData"]["githubEvent"]
    pull = event["pull_request"]
    assert (len(pull["labels"]), len(pull["head"]["ref"])) == (100, 255)
    assert pull["title"] == ""
    assert pull["body"] == "word " * 819
    assert len(json.dumps(event)) < 20_000


@pytest.mark.parametrize("wrong", [None, 7, "text", [], [[]], {"labels": 1}])
def test_a_payload_of_another_shape_makes_no_request(events: ArgoEvents, wrong: object) -> None:
    delivery = deliveries.opened("1")
    delivery.payload["pull_request"] = wrong
    deliver(events, delivery)
    events.drained()
    assert events.requests(delivery.id) == []
    assert events.alive(SENSOR)


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [
        ("72D3162E-cc78-11e3-81ab-4c9367dc0958", "resume-72d3162e-cc78-11e3-81ab-4c9367dc0958-"),
        ("../../{{x}}", "resume--x-"),
        ("x" * 200, f"resume-{'x' * 40}-"),
        ("", "resume--"),
    ],
)
def test_the_name_of_a_request_holds_what_it_may_of_the_delivery_s_id(
    events: ArgoEvents, home: Home, task: str, sent: str, prefix: str
) -> None:
    delivery = deliveries.opened(task)
    deliveries.send(events.url, delivery.event, sent, delivery.body, argoevents.SECRET)

    def of_the_task() -> list[str]:
        return [
            one["metadata"]["name"]
            for one in home.cluster.list_all(homes.RESUME, home.namespace)
            if one["spec"]["correlationData"]["taskId"] == task
        ]

    waiting.eventually(of_the_task, lambda: events.tail(SENSOR))
    (name,) = of_the_task()
    assert name.startswith(prefix)
    assert len(name) == len(prefix) + 5
