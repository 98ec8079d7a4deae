"""Policies, live: a change holds for who waits, an invalid one leaves what was valid in force.

One operator behind the proxy works for all of these tests; each has a policy of its own, for
Workflows that no other policy matches. Some of the tests restart the operator.
"""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.e2e.support import faults, manifests, rig, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json
from tests.e2e.support.rig import Rig

SAMPLE = pathlib.Path(__file__).parents[2] / "deploy" / "samples" / "stage-strategies"
BROKEN = "no such field"
"""A selector of gates that the schema lets in and the operator cannot read."""
FOR_LONG = 3600


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy."""
    with rig.running(home, tmp_path_factory.mktemp("policies")) as started:
        yield started


def in_force(plant: Rig, name: str, generation: int = 1, valid: str = "True") -> Json:
    """The status of a policy, as soon as the operator has taken in this generation of it."""
    status = plant.home.taken_in(name, generation)
    found = {one["type"]: one for one in status["conditions"]}
    assert found["Valid"]["status"] == valid, found["Valid"]
    return status


def change(plant: Rig, policy: str, /, **stage: Any) -> int:
    """Changes settings of the only stage of a policy; returns the generation that this makes."""
    body = plant.home.cluster.get(homes.POLICY, policy, plant.home.namespace)
    body["spec"]["stages"][0].update(stage)
    patch = {"spec": {"stages": body["spec"]["stages"]}}
    done = plant.home.cluster.patch(homes.POLICY, policy, plant.home.namespace, patch)
    generation: int = done["metadata"]["generation"]
    return generation


# --- what a policy says is done ------------------------------------------------------------------


def test_labels_and_settings_of_a_policy_are_used(plant: Rig) -> None:
    """Other names for the labels, and labels that are set by a stage and by the defaults."""
    home, ours = plant.home, {"own": "labels"}
    stages: list[Json] = [
        {"name": "coded", "eventTypes": ["pushed"], "setLabels": {"phase": "tested"}},
        {"name": "tested", "eventTypes": ["passed"]},
    ]
    home.ask(
        manifests.policy(
            "labels",
            *stages,
            matches=ours,
            taskLabel="ticket",
            stageLabel="phase",
            defaults={"setLabels": {"phase": "done", "done-by": "policy"}},
        )
    )
    assert in_force(plant, "labels")["stages"] == 2
    workflow = plant.workflow("labels", "none")
    workflow["metadata"]["labels"] = {**ours, "ticket": "T-7", "phase": "coded"}
    home.submit(workflow)
    for name, event, phase in (("pushed", "pushed", "tested"), ("passed", "passed", "done")):
        request = manifests.resume(name, task="T-7", event_type=event, labelSelector="ticket=T-7")
        home.ask(request)
        status = plant.came_to(name, Reason.GATE_OPENED)
        assert status["policy"] == {"name": "labels", "alsoMatching": []}
        assert home.workflow("labels")["metadata"]["labels"]["phase"] == phase
    home.ended("labels")
    assert home.workflow("labels")["metadata"]["labels"]["done-by"] == "policy"


WAITS: Mapping[str, tuple[Json, float, float]] = {
    "exponential": ({"strategy": "Exponential", "baseSeconds": 1000, "jitter": "None"}, 30, 30),
    "uncapped": (
        {"strategy": "Exponential", "baseSeconds": 1000, "capSeconds": 3600, "jitter": "None"},
        1000,
        1000,
    ),
    "linear": (
        {"strategy": "Linear", "baseSeconds": 20, "incrementSeconds": 9, "jitter": "Full"},
        0,
        20,
    ),
    "fixed": ({"strategy": "Fixed", "baseSeconds": 1000, "jitter": "Proportional"}, 900, 1100),
    "custom": ({"strategy": "Custom", "delaysSeconds": [500, 1], "jitter": "Equal"}, 250, 500),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_failed_attempt_is_followed_by_the_wait_of_its_policy(plant: Rig, name: str) -> None:
    retry, least, most = WAITS[name]
    plant.home.ask(
        manifests.policy(
            name, {"name": name, "eventTypes": [name], "retry": retry}, matches={"policy": name}
        )
    )
    in_force(plant, name)
    plant.home.submit(plant.workflow(name, name))
    with plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503)):
        plant.home.ask(plant.request(name, name))
        # A short wait may be over by the time of a look.
        status = plant.history.wait_reason(name, Reason.API_UNAVAILABLE)
    ended = datetime.datetime.fromisoformat(status["attempts"][-1]["endTime"])
    due = datetime.datetime.fromisoformat(status["retry"]["nextAttemptTime"])
    # Reading after the failed write, which the wait begins before, takes its time.
    read = (ended - datetime.datetime.fromisoformat(status["attempts"][-1]["startTime"])).seconds
    assert least - 1 - read <= (due - ended).total_seconds() <= most


def test_the_sample_of_five_stages_works_as_it_stands(plant: Rig) -> None:
    home = plant.home
    strict = ("-n", home.namespace, "--validate=strict", "--warnings-as-errors")
    for file in ("policy.yaml", "workflow.yaml"):
        home.cluster.kubectl("apply", *strict, "-f", str(SAMPLE / file))
    assert in_force(plant, "task-delivery")["stages"] == 5
    (request,) = home.cluster.kubectl(
        "create", *strict, "-f", str(SAMPLE / "resume.yaml"), "-o", "name"
    ).split()
    plant.came_to(request.rpartition("/")[2], Reason.GATE_OPENED)
    for event in ("analysis-completed", "tests-completed", "coverage-completed", "pr-approved"):
        home.ask(manifests.resume(f"sample-{event}", event_type=event))
        status = plant.came_to(f"sample-{event}", Reason.GATE_OPENED)
        assert status["policy"]["name"] == "task-delivery"
    home.ended("task-5-delivery")


# --- live ----------------------------------------------------------------------------------------


def test_a_request_that_waits_follows_a_changed_gate_stage_and_deadline(plant: Rig) -> None:
    home = plant.home
    plant.policy("moves", nodeFieldSelector="displayName=elsewhere")
    home.submit(plant.workflow("moves", "moves"))
    home.ask(plant.request("moves", "moves"))
    plant.came_to("moves", Reason.GATE_NOT_OPEN)
    change(plant, "moves", name="later")
    plant.came_to("moves", Reason.STAGE_NOT_REACHED)
    change(plant, "moves", name="moves", nodeFieldSelector="displayName=first")
    plant.resumed_once("moves")

    home.ask(plant.request("expires", "moves"))
    status = plant.came_to("expires", Reason.WORKFLOW_NOT_FOUND)
    assert "deadlineTime" in status
    change(plant, "moves", deadlineSeconds=0)
    plant.came_to("expires", Reason.DEADLINE_EXCEEDED)


def test_a_request_that_backs_off_follows_a_shorter_wait_and_fewer_attempts(plant: Rig) -> None:
    plant.policy("hurries", retry={"maxAttempts": 3, "baseSeconds": FOR_LONG})
    names = ["hurries-a", "hurries-b"]
    for name in names:
        plant.home.submit(plant.workflow(name, "hurries"))
    with plant.proxy.on("PATCH", "/workflows/hurries-[ab]$", faults.answer(503), times=None):
        for name in names:
            plant.home.ask(plant.request(name, "hurries"))
            plant.came_to(name, Reason.API_UNAVAILABLE)
    # Now that the API server is well again, nobody waits for an hour.
    retry = {"strategy": "Fixed", "baseSeconds": 0.2, "jitter": "None", "maxAttempts": 3}
    change(plant, "hurries", retry=retry)
    for name in names:
        assert plant.resumed_once(name)["retry"]["count"] == 1

    plant.home.submit(plant.workflow("gives-up", "hurries"))
    change(plant, "hurries", retry={**retry, "baseSeconds": FOR_LONG})
    in_force(plant, "hurries", 3)
    with plant.proxy.on("PATCH", "/workflows/gives-up$", faults.answer(503)):
        plant.home.ask(plant.request("gives-up", "hurries"))
        plant.came_to("gives-up", Reason.API_UNAVAILABLE)
    change(plant, "hurries", retry={"maxAttempts": 1})
    plant.came_to("gives-up", Reason.RETRIES_EXHAUSTED)
    plant.untouched("gives-up")


# --- invalid -------------------------------------------------------------------------------------


def test_the_last_valid_version_stays_in_force_over_a_restart_of_the_operator(plant: Rig) -> None:
    home = plant.home
    plant.policy("kept", deadlineSeconds=FOR_LONG, nodeFieldSelector="displayName=first")
    spec = home.cluster.get(homes.POLICY, "kept", home.namespace)["spec"]
    status = in_force(plant, "kept")
    assert (status["lastValidGeneration"], status["lastValidSpec"]) == (1, spec)

    generation = change(plant, "kept", nodeFieldSelector=BROKEN, deadlineSeconds=1)
    said = in_force(plant, "kept", generation, valid="False")
    assert (said["lastValidGeneration"], said["lastValidSpec"]) == (1, spec)
    for name in ("before", "after"):
        if name == "after":
            plant.kill()
            plant.start()
        # The gate is chosen by the last valid version; under the built-in policy it would be
        # ambiguous, under the newest one nobody could say.
        workflow = plant.workflow(name, "kept")
        workflow["spec"]["templates"][0]["steps"] = [
            [manifests.step("first", "first"), manifests.step("second", "second")]
        ]
        home.submit(workflow, gates=2)
        home.ask(manifests.resume(name, task=name, event_type="kept"))
        status = plant.came_to(name, Reason.GATE_OPENED)
        assert [node["displayName"] for node in status["workflow"]["nodes"]] == ["first"]
    home.ask(plant.request("still-waits", "kept"))
    plant.came_to("still-waits", Reason.WORKFLOW_NOT_FOUND)
    told = home.cluster.kubectl("get", "wrespol", "kept", "-n", home.namespace, "-o", "wide")
    assert "spec.stages[kept].nodeFieldSelector" in told
    assert "generation 1, the last valid one, stays in force" in told

    repaired = change(plant, "kept", nodeFieldSelector="displayName=second", deadlineSeconds=0)
    assert in_force(plant, "kept", repaired)["lastValidGeneration"] == repaired
    plant.came_to("still-waits", Reason.DEADLINE_EXCEEDED)


def test_requests_wait_for_a_policy_that_was_never_valid_and_go_on_when_it_is(plant: Rig) -> None:
    home, ours = plant.home, {"policy": "never"}
    stage = {"name": "never", "eventTypes": ["never"], "nodeFieldSelector": BROKEN}
    home.ask(manifests.policy("never", stage, matches=ours))
    assert "lastValidGeneration" not in in_force(plant, "never", valid="False")
    home.submit(plant.workflow("never", "never"))
    home.ask(manifests.resume("by-label", task="never", event_type="never"))
    home.ask(plant.request("by-name", "never"))
    for name in ("by-label", "by-name"):
        status = plant.came_to(name, Reason.POLICY_INVALID)
        assert status["policy"]["name"] == "never"
        assert "spec.stages[never].nodeFieldSelector" in status["message"]
    home.cluster.delete(homes.RESUME, "by-name", home.namespace)
    change(plant, "never", nodeFieldSelector="displayName=first")
    plant.came_to("by-label", Reason.GATE_OPENED)
    plant.opened_once("never", "by-label")


# --- several policies ----------------------------------------------------------------------------


def test_of_several_policies_that_match_the_one_with_the_most_requirements_wins(
    plant: Rig,
) -> None:
    home, ours = plant.home, {"policy": "several", "team": "a"}
    stage = {"name": "several", "eventTypes": ["several"], "deadlineSeconds": FOR_LONG}
    for name, matches in (("broad", {"policy": "several"}), ("narrow", ours), ("twin", ours)):
        chosen = {**stage, "setLabels": {"ruled-by": name}}
        home.ask(manifests.policy(name, chosen, matches=matches))
        in_force(plant, name)
    ordered = sorted(
        ("narrow", "twin"),
        key=lambda name: (
            home.cluster.get(homes.POLICY, name, home.namespace)["metadata"]["creationTimestamp"],
            name,
        ),
    )
    for name, rulers in (
        ("several-1", [*ordered, "broad"]),
        ("several-2", [ordered[1], "broad"]),
        ("several-3", ["broad"]),
    ):
        workflow = plant.workflow(name, "several")
        workflow["metadata"]["labels"] |= {**ours, "task-id": name}
        home.submit(workflow)
        home.ask(manifests.resume(name, task=name, event_type="several"))
        status = plant.came_to(name, Reason.GATE_OPENED)
        assert status["policy"] == {"name": rulers[0], "alsoMatching": rulers[1:]}
        assert home.workflow(name)["metadata"]["labels"]["ruled-by"] == rulers[0]
        wide = home.cluster.kubectl("get", "wres", name, "-n", home.namespace, "-o", "wide")
        assert rulers[0] in wide
        if name != "several-3":
            home.cluster.delete(homes.POLICY, rulers[0], home.namespace)
            # It is gone for the operator once a request that names it finds none.
            probe = f"probe-{name}"
            home.ask(manifests.resume(probe, task="none", policyName=rulers[0]))
            plant.came_to(probe, Reason.POLICY_NOT_FOUND)


# --- gaps of the watch ---------------------------------------------------------------------------


def test_a_policy_and_a_breaker_deleted_while_nothing_is_heard_are_gone_afterwards(
    plant: Rig,
) -> None:
    home = plant.home
    plant.policy(
        "gap",
        retry={"maxAttempts": 1},
        circuitBreaker={"failureThreshold": 1, "openSeconds": FOR_LONG},
    )
    plant.policy("gone")
    for name in ("gap-fails", "gap-held"):
        home.submit(plant.workflow(name, "gap"))
    with plant.proxy.on("PATCH", "/workflows/gap-fails$", faults.answer(503)):
        home.ask(plant.request("gap-fails", "gap"))
        plant.came_to("gap-fails", Reason.RETRIES_EXHAUSTED)
    plant.breaker_in("gap", "Open")
    home.ask(plant.request("gap-held", "gap"))
    plant.came_to("gap-held", Reason.BREAKER_OPEN)

    both = "/workflowresume(policies|breakers)$"
    with plant.proxy.frozen(both):
        home.cluster.delete(homes.POLICY, "gone", home.namespace)
        home.cluster.delete(rig.BREAKER, "gap", home.namespace)
        for one in ("/workflowresumepolicies$", "/workflowresumebreakers$"):
            plant.proxy.expire(one)
        plant.proxy.cut(both)

        plant.resumed_once("gap-held")
        plant.operator.wait_logged("policy was deleted unseen", waiting.TIMEOUT, policy="gone")
    home.ask(plant.request("gone", "gone"))
    plant.came_to("gone", Reason.POLICY_NOT_FOUND)


# --- what is refused -----------------------------------------------------------------------------

MANY = [{"name": f"s{number}", "eventTypes": [f"e{number}"]} for number in range(65)]
TYPES = [f"e{number}" for number in range(600)]
CROWDED = [
    {"name": f"s{number}", "eventTypes": TYPES[number * 30 : number * 30 + 30]}
    for number in range(20)
]


def stage(**settings: Any) -> Json:
    return {"stages": [{"name": "a", **settings}]}


REFUSED: Mapping[str, tuple[Json, str, str]] = {
    "custom without delays": (
        stage(retry={"strategy": "Custom"}),
        "spec.stages[0].retry.delaysSeconds",
        "delaysSeconds is required for strategy Custom",
    ),
    "delays without custom": (
        {"defaults": {"retry": {"delaysSeconds": [1]}}},
        "spec.defaults.retry.delaysSeconds",
        "may not stand with another",
    ),
    "an unknown strategy": (
        stage(retry={"strategy": "Random"}),
        "spec.stages[0].retry.strategy",
        'supported values: "Exponential", "Linear", "Fixed", "Custom"',
    ),
    "an unknown jitter": (
        stage(retry={"jitter": "Some"}),
        "spec.stages[0].retry.jitter",
        'supported values: "None", "Proportional", "Full", "Equal"',
    ),
    "no attempt at all": (
        stage(retry={"maxAttempts": 0}),
        "spec.stages[0].retry.maxAttempts",
        "greater than or equal to 1",
    ),
    "a wait without end": (
        stage(retry={"capSeconds": 3601}),
        "spec.stages[0].retry.capSeconds",
        "less than or equal to 3600",
    ),
    "a breaker that never opens": (
        stage(circuitBreaker={"failureThreshold": 0}),
        "spec.stages[0].circuitBreaker.failureThreshold",
        "greater than or equal to 1",
    ),
    "an unknown ambiguity": (
        stage(ambiguity="Oldest"),
        "spec.stages[0].ambiguity",
        'supported values: "Fail", "Newest", "NewestCancelOthers"',
    ),
    "a negative deadline": (
        stage(deadlineSeconds=-1),
        "spec.stages[0].deadlineSeconds",
        "greater than or equal to 0",
    ),
    "a template": (
        stage(nodeFieldSelector="displayName={{gate}}"),
        "spec.stages[0].nodeFieldSelector",
        "a template was not rendered",
    ),
    "a label of Argo's": (
        stage(setLabels={"workflows.argoproj.io/phase": "Succeeded"}),
        "spec.stages[0].setLabels",
        "labels of argoproj.io belong to Argo",
    ),
    "a label without a name": (
        {"defaults": {"setLabels": {"no label!": "a"}}},
        "spec.defaults.setLabels",
        "a key must be a label name",
    ),
    "a label value with a blank": (
        stage(setLabels={"a": "b c"}),
        "spec.stages[0].setLabels.a",
        "should match",
    ),
    "two stages of one name": (
        {"stages": [{"name": "a"}, {"name": "a"}]},
        "spec.stages[1]",
        "Duplicate value",
    ),
    "an event type twice": (
        stage(eventTypes=["e", "e"]),
        "spec.stages[0].eventTypes[1]",
        "Duplicate value",
    ),
    "an event type of two stages": (
        {"stages": [{"name": name, "eventTypes": ["e"]} for name in "ab"]},
        "spec.stages",
        "an event type may belong to one stage only",
    ),
    "too many event types": (
        {"stages": CROWDED},
        "spec.stages",
        "all stages together may have at most 512 event types",
    ),
    "too many stages": ({"stages": MANY}, "spec.stages", "must have at most 64 items"),
    "a stage without a name": ({"stages": [{}]}, "spec.stages[0].name", "Required value"),
    "In without values": (
        {"workflowSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        "spec.workflowSelector.matchExpressions[0].values",
        "In and NotIn need values",
    ),
    "an unknown operator": (
        {"workflowSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
        "spec.workflowSelector.matchExpressions[0].operator",
        "supported values",
    ),
    "a selector without a key": (
        {"workflowSelector": {"matchLabels": {"no label!": "a"}}},
        "spec.workflowSelector.matchLabels",
        "a key must be a label name",
    ),
    "a task label that is none": ({"taskLabel": "no label!"}, "spec.taskLabel", "should match"),
    "a stage label with a long domain": (
        {"stageLabel": f"{'a' * 254}/b"},
        "spec.stageLabel",
        "at most 253 characters",
    ),
    "a stage parameter that is none": (
        {"stageParameter": "a.b"},
        "spec.stageParameter",
        "should match",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_that_can_be_seen_to_be_wrong_is_refused_by_its_field(
    home: Home, case: str
) -> None:
    spec, field, said = REFUSED[case]
    manifest = {
        "apiVersion": manifests.API_VERSION,
        "kind": "WorkflowResumePolicy",
        "metadata": {"name": "refused"},
        "spec": spec,
    }
    with pytest.raises(client.ApiError) as caught:
        home.cluster.create(manifest, home.namespace)
    assert caught.value.status == 422, str(caught.value)
    found = {one.get("field"): one["message"] for one in caught.value.body["details"]["causes"]}
    assert field in found
    assert said in found[field]
