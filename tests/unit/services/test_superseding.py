"""`Superseder`: the older workflows of a task end when the newest was resumed."""

from __future__ import annotations

import pytest

from resumer import errors
from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services.world import WORKFLOWS, World, key, unsent


async def test_superseded_workflows_are_terminated_once_the_newest_is_resumed() -> None:
    world = World().under(builders.three_stages(ambiguity="NewestCancelOthers"))
    world.add(builders.at_review("newest").created(-10), builders.a_request("wake"))
    world.add(builders.at_review("old").created(-20), builders.at_review("older").created(-30))

    await world.start().look()

    assert world.faults.made == [
        "workflows.find",
        "backend.resume",
        "workflows.terminate",
        "workflows.terminate",
        "requests.write_status",
    ]
    assert str(world.status().message).endswith("; terminated the older 'old', 'older'")
    for name, shutdown in (("newest", None), ("old", "Terminate"), ("older", "Terminate")):
        assert world.api.get(WORKFLOWS, key(name))["spec"].get("shutdown") == shutdown
        assert world.opened(name) == (["wait"] if shutdown is None else [])


def two_of_a_task() -> World:
    world = World().under(builders.three_stages(ambiguity="NewestCancelOthers"))
    world.add(builders.at_review("newest").created(-10), builders.at_review("old").created(-20))
    return world.add(builders.a_request("wake"))


@pytest.mark.parametrize(
    "refused",
    [
        errors.PreconditionError("changed", status=409),
        errors.PermanentError("forbidden", status=403),
        errors.TransientError("unavailable", status=503),
    ],
)
async def test_a_resume_that_is_not_carried_out_has_cost_no_other_workflow(
    refused: errors.ApiError,
) -> None:
    world = two_of_a_task()
    world.faults.always("backend.resume", fakes.Fault(refused))
    await world.start().look()
    assert world.faults.count("workflows.terminate") == 0
    assert world.opened("newest") == []


async def test_a_superseded_workflow_that_could_not_be_terminated_is_by_the_next_pass() -> None:
    world = two_of_a_task()
    world.faults.on("workflows.terminate", unsent())
    operator = world.start()
    with pytest.raises(errors.TransientError):
        await operator.look()
    assert world.outcome() == (None, None)
    await operator.look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert world.api.get(WORKFLOWS, key("old"))["spec"]["shutdown"] == "Terminate"
    assert world.faults.count("backend.resume") == 1


async def test_a_superseded_workflow_that_may_not_be_terminated_is_named() -> None:
    world = two_of_a_task()
    refused = fakes.Fault(errors.PermanentError("forbidden", status=403))
    world.faults.on("workflows.terminate", refused)
    await world.start().look()
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert str(world.status().message).endswith("; not allowed to terminate the older 'old'")
    assert "shutdown" not in world.api.get(WORKFLOWS, key("old"))["spec"]
