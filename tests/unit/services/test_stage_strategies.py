"""The sample of five stages, to the second: the very file, on a clock that only the test moves.

The backend fails each write, so that every attempt is made, and after which time; or nothing ever
opens the gate, and the request waits for its deadline.
"""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resumer import errors
from resumer.api import constants
from resumer.api.outcomes import Outcome, Reason
from resumer.api.policy import WorkflowResumePolicy
from resumer.core import policies
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.world import World, key

SAMPLE: Final = pathlib.Path(__file__).parents[3] / "deploy" / "samples" / "stage-strategies"
POLICY: Final[builders.Json] = yaml.safe_load((SAMPLE / "policy.yaml").read_text())
WORKFLOW: Final[builders.Json] = yaml.safe_load((SAMPLE / "workflow.yaml").read_text())
RESUME: Final[builders.Json] = yaml.safe_load((SAMPLE / "resume.yaml").read_text())

ATTEMPTS = {
    "repository-operations": [0, 30, 90],
    "code-analysis": [0, 60],
    "test-execution": [0, 30],
    "coverage-analysis": [0, 30],
    "pull-request-operations": [0, 30, 90],
}
"""Seconds after the first attempt at which each one is made."""

SERIES = {
    "repository-operations": [0, 30, 90, 210, 450, 750],
    "code-analysis": [0, 60, 120, 180, 240, 300],
    "test-execution": [0, 30, 90, 180, 300, 450],
    "coverage-analysis": [0, 30, 90, 210, 450, 750],
    "pull-request-operations": [0, 30, 90, 210, 450, 750],
}
"""The same, were six attempts allowed; the longest wait of those that grow is 300 s."""

DEADLINES = {
    "repository-operations": 600,
    "code-analysis": 900,
    "test-execution": 1800,
    "coverage-analysis": 900,
    "pull-request-operations": 900,
}

FAILING = fakes.Fault(errors.TransientError("no answer", status=503, reason="ServiceUnavailable"))


def stage_of(policy: builders.Json, name: str) -> builders.Json:
    (found,) = (one for one in policy["spec"]["stages"] if one["name"] == name)
    assert isinstance(found, dict)
    return found


def world(policy: builders.Json, name: str, *, at_gate: bool = True, chance: float = 0.5) -> World:
    """The sample's workflow in a stage, and a request of the event that ends it, both of now."""
    made = World(clock=fakes.FakeClock(builders.NOW, chance=chance))
    spec = WorkflowResumePolicy.from_json(policy).spec
    made.policies.append(policies.resolve(policy["metadata"]["name"], builders.at(-3600), spec))
    stage = stage_of(policy, name)
    labels = {**WORKFLOW["metadata"]["labels"], "current-stage": name}
    workflow = builders.a_bare_workflow().with_labels(labels)
    if at_gate:
        workflow.gate(stage["nodeFieldSelector"].removeprefix("displayName="), started=0)
    request = builders.a_request().created(0)
    body = request.build()
    body["spec"] = copy.deepcopy(RESUME["spec"])
    body["spec"]["correlationData"]["eventType"] = stage["eventTypes"][0]
    made.add(workflow)
    made.api.create(constants.RESUME_PLURAL, body)
    return made


async def run_to_its_end(made: World) -> None:
    """Passes over the request, each at the very moment that the one before asked for."""
    operator = made.start()
    for _ in range(50):
        delay = await operator.look()
        if delay is None:
            return
        made.clock.advance(delay)
    raise AssertionError(f"not at its end: {made.outcome()}")


def attempts(made: World) -> Sequence[float]:
    """When each attempt was made, in seconds after the request was created."""
    return [
        (attempt.start_time - builders.NOW).total_seconds() for attempt in made.status().attempts
    ]


def changed(name: str, **retry: Any) -> builders.Json:
    """The sample with other values in the retry of a stage."""
    policy = copy.deepcopy(POLICY)
    stage_of(policy, name)["retry"].update(retry)
    return policy


def test_the_tables_are_about_the_stages_of_the_sample() -> None:
    names = [stage["name"] for stage in POLICY["spec"]["stages"]]
    assert names == list(ATTEMPTS) == list(SERIES) == list(DEADLINES)


def test_each_gate_of_the_workflow_belongs_to_a_stage_that_leads_to_the_next() -> None:
    stages = POLICY["spec"]["stages"]
    steps = [step["name"] for (step,) in WORKFLOW["spec"]["templates"][0]["steps"]]
    assert [f"displayName={step}" for step in steps] == [s["nodeFieldSelector"] for s in stages]
    labels = WORKFLOW["metadata"]["labels"]
    path = [labels["current-stage"], *(s["setLabels"]["current-stage"] for s in stages[:-1])]
    assert path == [stage["name"] for stage in stages]
    assert POLICY["spec"]["workflowSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_without_jitter_every_attempt_is_made_at_its_very_second_and_then_none(
    name: str,
) -> None:
    made = world(changed(name, jitter="None"), name)
    made.faults.always("backend.resume", FAILING)
    await run_to_its_end(made)
    assert attempts(made) == ATTEMPTS[name]
    assert made.outcome() == (Outcome.FAILED, Reason.RETRIES_EXHAUSTED)
    assert (made.clock.now() - builders.NOW).total_seconds() == ATTEMPTS[name][-1]
    assert made.opened() == []


@pytest.mark.parametrize("name", SERIES)
async def test_further_attempts_would_follow_the_same_strategy(name: str) -> None:
    policy = changed(name, jitter="None", maxAttempts=6)
    policy["spec"]["defaults"]["circuitBreaker"]["failureThreshold"] = 10
    made = world(policy, name)
    made.faults.always("backend.resume", FAILING)
    await run_to_its_end(made)
    assert attempts(made) == SERIES[name]


@given(
    st.sampled_from(sorted(ATTEMPTS)),
    st.floats(0, 1, exclude_max=True, allow_subnormal=False),
)
def test_as_the_sample_stands_each_wait_is_spread_by_a_tenth_at_most(
    name: str, chance: float
) -> None:
    made = world(POLICY, name, chance=chance)
    made.faults.always("backend.resume", FAILING)
    virtual.run(run_to_its_end(made))
    found, wanted = attempts(made), ATTEMPTS[name]
    assert len(found) == len(wanted)
    for number in range(1, len(wanted)):
        wait, nominal = found[number] - found[number - 1], wanted[number] - wanted[number - 1]
        assert 0.9 * nominal - 1e-3 <= wait <= 1.1 * nominal + 1e-3
        assert wait == pytest.approx(nominal * (0.9 + 0.2 * chance), abs=1e-3)


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_the_last_attempt_that_is_allowed_can_still_succeed(name: str) -> None:
    made = world(changed(name, jitter="None"), name)
    made.faults.on("backend.resume", *[FAILING] * (len(ATTEMPTS[name]) - 1))
    await run_to_its_end(made)
    assert made.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert attempts(made) == ATTEMPTS[name]
    labels = made.api.get(constants.WORKFLOW_PLURAL, key("play"))["metadata"]["labels"]
    following = stage_of(POLICY, name).get("setLabels", {"current-stage": name})
    assert labels["current-stage"] == following["current-stage"]


@pytest.mark.parametrize("name", DEADLINES)
async def test_a_gate_that_does_not_open_is_waited_for_until_the_deadline_without_an_attempt(
    name: str,
) -> None:
    made = world(POLICY, name, at_gate=False)
    await run_to_its_end(made)
    assert made.outcome() == (Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED)
    waited = made.clock.now() - builders.NOW
    assert waited == timedelta(seconds=DEADLINES[name])
    assert attempts(made) == []


async def test_the_fifth_failure_in_a_row_closes_the_stage_for_thirty_seconds() -> None:
    name = "repository-operations"
    policy = changed(name, jitter="None", maxAttempts=6)
    made = world(policy, name)
    made.faults.always("backend.resume", FAILING)
    operator = made.start()
    for _ in range(5):
        delay = await operator.look()
        assert delay is not None
        made.clock.advance(delay)
    breaker, _ = made.breakers.get(builders.NAMESPACE, name)
    assert breaker.open_until is not None
    assert breaker.opened_at is not None
    assert breaker.open_until - breaker.opened_at == timedelta(seconds=30)
