"""`Governor`: policies in force, live, and a status that says so once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from resumer import errors
from resumer.api import constants
from resumer.core import policies
from resumer.services.governing import Governor
from tests import builders, fakes
from tests.unit.services.world import Operator, World, key

POLICIES = constants.POLICY_PLURAL
PLAY = key("play")


@pytest.fixture
def world() -> World:
    return World()


def governor(world: World, operator: Operator, may_write: Callable[[], bool]) -> Governor:
    """One beside the operator's own, that may not write at all times."""
    writer = fakes.FakePolicies(world.api, world.faults)
    return Governor(
        operator.stores.policies, operator.intake, writer, world.clock, may_write=may_write
    )


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


def make_invalid(body: builders.Json) -> None:
    """Somebody edits the policy, and it can no longer be used."""
    body["spec"] = invalid().build()["spec"]
    body["metadata"]["generation"] += 1


def make_valid(body: builders.Json) -> None:
    """Somebody repairs the policy."""
    body["spec"] = builders.three_stages().build()["spec"]
    body["metadata"]["generation"] += 1


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
    assert said["message"].endswith("; generation 1, the last valid one, stays in force")
    status = body["status"]
    assert (status["observedGeneration"], status["lastValidGeneration"]) == (2, 1)
    assert status["lastValidSpec"] == builders.three_stages().build()["spec"]


async def test_the_last_valid_one_stays_in_force_over_a_restart(world: World) -> None:
    body = await show(
        world.start(), world.api.create(POLICIES, builders.three_stages(repeatable=True).build())
    )
    world.api.change(POLICIES, PLAY, make_invalid)

    operator = world.start()
    body = await show(operator, world.api.get(POLICIES, PLAY))

    assert operator.stores.policies.get(PLAY) == builders.three_stages(repeatable=True).resolved()
    assert "generation 1, the last valid one, stays in force" in condition(body)["message"]
    assert (body["status"]["lastValidGeneration"], body["status"]["stages"]) == (1, 3)


async def test_what_was_kept_and_is_itself_invalid_by_now_is_not_in_force(world: World) -> None:
    """As after an update of the operator that is stricter."""
    body = invalid().build()
    body["status"] = {"lastValidGeneration": 1, "lastValidSpec": body["spec"]}
    operator = world.start()
    body = await show(operator, world.api.create(POLICIES, body))
    policy = operator.stores.policies.get(PLAY)
    assert policy is not None
    assert policy.problem
    assert "lastValidSpec" not in body["status"]


async def test_the_last_valid_one_is_told_again_if_its_status_could_not_be_written(
    world: World,
) -> None:
    operator = world.start()
    lost = fakes.Fault(errors.TransientError("no answer", status=503))
    world.faults.on("policies.write_status", lost)
    await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    world.api.change(POLICIES, PLAY, make_invalid)
    body = await show(operator, world.api.get(POLICIES, PLAY))
    assert body["status"]["lastValidGeneration"] == 1
    assert body["status"]["lastValidSpec"] == builders.three_stages().build()["spec"]


async def test_a_policy_created_anew_under_its_name_has_no_earlier_version(world: World) -> None:
    operator = world.start()
    await show(operator, world.api.create(POLICIES, builders.three_stages().build()))
    world.api.delete(POLICIES, PLAY)
    recreated = invalid().build()
    recreated["metadata"]["uid"] = "another"
    await show(operator, world.api.create(POLICIES, recreated))
    policy = operator.stores.policies.get(PLAY)
    assert policy is not None
    assert policy.problem


async def test_an_older_version_than_the_known_one_is_passed_over(world: World) -> None:
    operator = world.start()
    old = world.api.create(POLICIES, builders.three_stages().build())
    new = world.api.change(
        POLICIES,
        PLAY,
        lambda body: body.update(spec=builders.three_stages(repeatable=True).build()["spec"]),
    )
    await show(operator, new)
    writes = world.faults.count("policies.write_status")
    await show(operator, old)
    policy = operator.stores.policies.get(PLAY)
    assert policy is not None
    assert policy.stage("review").repeatable
    assert world.faults.count("policies.write_status") == writes


async def test_a_spec_too_large_to_be_kept_twice_is_in_force_and_not_kept(world: World) -> None:
    operator = world.start()
    builder = builders.a_policy()
    for number in range(64):
        labels = {f"{'d' * 240}/{index}": "v" * 63 for index in range(16)}
        builder.stage(f"stage-{number}", setLabels=labels)
    body = await show(operator, world.api.create(POLICIES, builder.build()))
    assert condition(body)["status"] == "True"
    assert (body["status"]["stages"], body["status"]["lastValidGeneration"]) == (64, 1)
    assert "lastValidSpec" not in body["status"]


async def test_a_policy_that_was_never_valid_lets_requests_wait_and_says_so(world: World) -> None:
    operator = world.start()
    body = await show(operator, world.api.create(POLICIES, invalid().build()))
    policy = operator.stores.policies.get(PLAY)
    assert policy is not None
    assert "spec.stages[review].nodeFieldSelector" in policy.problem
    assert condition(body)["message"].endswith("so requests for its workflows wait")
    assert "lastValidGeneration" not in body["status"]
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


async def test_a_status_that_could_not_be_written_is_told_when_the_api_server_is_back(
    world: World,
) -> None:
    operator = world.start()
    down = fakes.Fault(errors.TransientError("no answer", status=503))
    world.faults.on("policies.write_status", down, down)
    body = await show(operator, world.api.create(POLICIES, invalid().build()))
    assert operator.governor.failed.is_set()
    await operator.governor.tell_untold()
    assert operator.governor.failed.is_set()
    assert "status" not in body

    await operator.governor.tell_untold()

    assert not operator.governor.failed.is_set()
    assert condition(world.api.get(POLICIES, PLAY))["status"] == "False"
    await operator.governor.tell_untold()
    assert world.faults.count("policies.write_status") == 3


@pytest.mark.parametrize("end", ["changed", "deleted"])
async def test_a_status_that_is_out_of_date_is_not_told_late(world: World, end: str) -> None:
    operator = world.start()
    down = fakes.Fault(errors.TransientError("no answer", status=503))
    world.faults.on("policies.write_status", down)
    await show(operator, world.api.create(POLICIES, invalid().build()))
    if end == "changed":
        repaired = world.api.change(POLICIES, PLAY, make_valid)
        operator.governor.take(PLAY, repaired)  # a list shows it before the watch does
    else:
        operator.governor.gone(PLAY)
    await operator.governor.tell_untold()
    assert world.faults.count("policies.write_status") == 1
    assert not operator.governor.failed.is_set()


async def test_a_status_that_is_refused_is_not_tried_at_once_but_with_the_next_comparison(
    world: World,
) -> None:
    operator = world.start()
    refused = fakes.Fault(errors.PermanentError("forbidden", status=403))
    world.faults.on("policies.write_status", refused)
    await show(operator, world.api.create(POLICIES, invalid().build()))
    assert not operator.governor.failed.is_set()
    await operator.governor.tell_untold()
    assert condition(world.api.get(POLICIES, PLAY))["status"] == "False"


async def test_the_newer_of_two_statuses_is_the_last_that_is_written(world: World) -> None:
    """The watch shows a change while the status of the policy before is on its way."""
    operator = world.start()
    down = fakes.Fault(errors.TransientError("no answer", status=503))
    world.faults.on("policies.write_status", down)
    await show(operator, world.api.create(POLICIES, invalid().build()))
    repaired = world.api.change(POLICIES, PLAY, make_valid)

    await asyncio.gather(operator.governor.tell_untold(), operator.governor.policy(PLAY, repaired))

    assert condition(world.api.get(POLICIES, PLAY))["status"] == "True"


async def test_a_status_that_nobody_can_read_keeps_no_other_from_being_told(world: World) -> None:
    operator = world.start()
    leading = False
    standby = governor(world, operator, lambda: leading)
    for name in ("broken", "play"):
        body = builders.three_stages().build()
        body["metadata"]["name"] = name
        body = world.api.create(POLICIES, body)
        if name == "broken":
            body["status"] = {"conditions": "none"}
        await standby.policy(key(name), body)
    leading = True
    await standby.tell_untold()
    assert condition(world.api.get(POLICIES, PLAY))["status"] == "True"


async def test_the_task_label_of_a_policy_finds_workflows_from_then_on(world: World) -> None:
    operator = world.start()
    world.add(builders.a_bare_workflow("play").with_labels({"ticket": "7"}))
    assert operator.stores.workflows.matching(builders.NAMESPACE, name=None, task="7") == ()
    body = builders.three_stages().with_spec(taskLabel="ticket").build()
    await show(operator, world.api.create(POLICIES, body))
    (found,) = operator.stores.workflows.matching(builders.NAMESPACE, name=None, task="7")
    assert found.key == key("play")


async def test_a_policy_whose_selector_cannot_be_read_is_not_in_force(world: World) -> None:
    operator = world.start()
    policy = builders.a_policy().with_spec(workflowSelector={"matchLabels": {"no label!": "a"}})
    body = await show(operator, world.api.create(POLICIES, policy.build()))
    assert operator.stores.policies.get(PLAY) is None
    assert condition(body)["message"].endswith("; the policy is not in force")
    assert body["status"]["stages"] == 0
    assert operator.governor.known() == {PLAY}
    operator.governor.gone(PLAY)
    assert operator.governor.known() == frozenset()


async def test_standing_by_a_policy_is_in_force_and_its_status_is_left_to_who_leads(
    world: World,
) -> None:
    operator = world.start()
    leading = False
    standby = governor(world, operator, lambda: leading)
    told = world.api.create(POLICIES, builders.three_stages().build())
    await standby.policy(PLAY, told)
    assert operator.stores.policies.get(PLAY) == builders.three_stages().resolved()
    assert world.faults.count("policies.write_status") == 0

    # Who leads has told one, nobody another, and a third is gone.
    told = await show(operator, told)
    await standby.policy(PLAY, told)
    for name in ("untold", "gone"):
        body = builders.three_stages().build()
        body["metadata"]["name"] = name
        await standby.policy(key(name), world.api.create(POLICIES, body))
    standby.gone(key("gone"))
    assert world.faults.count("policies.write_status") == 1

    leading = True
    await standby.tell_untold()
    assert world.faults.count("policies.write_status") == 2
    assert condition(world.api.get(POLICIES, key("untold")))["status"] == "True"
    await standby.tell_untold()
    assert world.faults.count("policies.write_status") == 2


async def test_who_loses_the_lead_while_taking_over_stops_at_once(world: World) -> None:
    """Else it would go round and round without ever letting the release of its Lease through."""
    operator = world.start()
    standby = governor(world, operator, lambda: False)
    await standby.policy(PLAY, world.api.create(POLICIES, builders.three_stages().build()))
    await asyncio.wait_for(standby.tell_untold(), timeout=5)
    assert world.faults.count("policies.write_status") == 0
