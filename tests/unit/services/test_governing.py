"""`Governor`: policies in force, live, and a status that says so once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resumer import errors
from resumer.api import constants
from resumer.core import policies
from tests import builders, fakes
from tests.unit.services.world import Operator, World, key

POLICIES = constants.POLICY_PLURAL
PLAY = key("play")


@pytest.fixture
def world() -> World:
    return World()


async def show(operator: Operator, body: builders.Json) -> builders.Json:
    """The watch shows a policy; returns it as it then is."""
    await operator.governor.policy(PLAY, body)
    return operator.world.api.get(POLICIES, PLAY)


def condition(body: builders.Json) -> dict[str, Any]:
    (found,) = (one for one in body["status"]["conditions"] if one["type"] == "Valid")
    assert isinstance(found, dict)
    return found


async def passes(world: World) -> int:
    """How often a request was looked at, once all is quiet."""
    for _ in range(20):
        await asyncio.sleep(0)
    return len(world.telemetry.passes)


def invalid() -> builders.PolicyBuilder:
    return builders.three_stages(nodeFieldSelector="no such field")


async def test_a_valid_policy_is_in_force_and_says_so_once(world: World) -> None:
    operator = world.start()
    body = world.api.create(POLICIES, builders.three_stages().build())

    body = await show(operator, body)

    assert operator.stores.policies.get(PLAY) == builders.three_stages().resolved()
    assert condition(body)["status"] == "True"
    assert body["status"]["observedGeneration"] == 1
    await show(operator, body)
    assert world.faults.count("policies.write_status") == 1


async def test_a_change_of_a_policy_is_in_force_at_once_and_wakes_its_namespace(
    world: World,
) -> None:
    operator = world.start()
    operator.intake.start()
    body = await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    world.add(builders.a_request("wake"))
    before = await passes(world)

    body["spec"] = builders.three_stages(repeatable=True).build()["spec"]
    body["metadata"]["generation"] = 2
    await operator.governor.policy(PLAY, body)

    policy = operator.stores.policies.get(PLAY)
    assert policy is not None
    assert policy.stage("review").repeatable
    assert await passes(world) == before + 1
    written = world.api.get(POLICIES, PLAY)["status"]
    assert written["observedGeneration"] == 2


async def test_a_policy_shown_again_wakes_nobody(world: World) -> None:
    operator = world.start()
    operator.intake.start()
    body = await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    world.add(builders.a_request("wake"))
    before = await passes(world)
    await show(operator, body)
    assert await passes(world) == before


async def test_an_invalid_policy_leaves_the_last_valid_one_in_force_and_says_so(
    world: World,
) -> None:
    operator = world.start()
    body = await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    body["spec"] = invalid().build()["spec"]
    body["metadata"]["generation"] = 2

    body = await show(operator, body)

    assert operator.stores.policies.get(PLAY) == builders.three_stages().resolved()
    said = condition(body)
    assert (said["status"], said["reason"]) == ("False", "PolicyInvalid")
    assert "spec.stages[review].nodeFieldSelector" in said["message"]
    assert said["message"].endswith("; the last valid version stays in force")


async def test_a_policy_that_was_never_valid_is_not_in_force_and_says_so(world: World) -> None:
    operator = world.start()
    body = await show(operator, world.api.create(POLICIES, invalid().build()))
    assert operator.stores.policies.get(PLAY) is None
    assert condition(body)["message"].endswith("; the policy is not in force")
    await show(operator, body)
    assert world.faults.count("policies.write_status") == 1


async def test_a_policy_that_the_models_refuse_is_invalid_too(world: World) -> None:
    operator = world.start()
    body = builders.three_stages(failureThreshold=1).with_spec(taskLabel="no label!").build()
    said = condition(await show(operator, world.api.create(POLICIES, body)))
    assert said["status"] == "False"
    assert "spec.taskLabel" in said["message"]


async def test_a_repaired_policy_is_in_force_again(world: World) -> None:
    operator = world.start()
    body = await show(operator, world.api.create(POLICIES, invalid().build()))
    body["spec"] = builders.three_stages().build()["spec"]
    body["metadata"]["generation"] = 2
    body = await show(operator, body)
    assert operator.stores.policies.get(PLAY) is not None
    assert condition(body)["status"] == "True"


async def test_a_policy_that_is_gone_is_in_force_no_more(world: World) -> None:
    operator = world.start()
    await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    operator.governor.gone(PLAY)
    assert operator.stores.policies.of(builders.NAMESPACE) == ()
    assert policies.choose((), None, {}) is policies.BUILT_IN


@pytest.mark.parametrize(
    "error",
    [
        errors.TransientError("no answer", status=503),
        errors.PermanentError("not allowed", status=403),
        errors.NotFoundError("gone", status=404),
    ],
)
async def test_a_status_that_cannot_be_written_keeps_no_policy_from_its_force(
    world: World, error: errors.ApiError
) -> None:
    operator = world.start()
    world.faults.on("policies.write_status", fakes.Fault(error))
    body = world.api.create(POLICIES, builders.three_stages().build())
    body = await show(operator, body)
    assert operator.stores.policies.get(PLAY) is not None
    assert "status" not in body
    body = await show(operator, body)
    assert condition(body)["status"] == "True"


async def test_the_task_label_of_a_policy_finds_workflows_from_then_on(world: World) -> None:
    operator = world.start()
    world.add(builders.a_bare_workflow("play").with_labels({"ticket": "7"}))
    assert operator.stores.workflows.matching(builders.NAMESPACE, name=None, task="7") == ()
    body = builders.three_stages().with_spec(taskLabel="ticket").build()
    await show(operator, world.api.create(POLICIES, body))
    (found,) = operator.stores.workflows.matching(builders.NAMESPACE, name=None, task="7")
    assert found.key == key("play")
