"""`Gatherer`: what a fresh look reads, keeps, and does not read."""

from __future__ import annotations

import pytest
from structlog import testing

from resumer.core.observation import Observation
from resumer.core.policies import BUILT_IN
from resumer.services import gathering
from resumer.services.circuits import BreakerStore
from resumer.services.requeststore import RequestStore
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from tests import builders, fakes
from tests.unit.services.world import World


async def look(world: World, request: builders.RequestBuilder) -> Observation:
    """A fresh look at what the world has."""
    stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
    reader = fakes.FakeWorkflows(world.api, world.faults)
    gatherer = gathering.Gatherer(stores, reader)
    return await gatherer.observe(builders.NAMESPACE, request.model(), fresh=True)


def names(seen: Observation) -> list[str]:
    return sorted(view.key.name for view in seen.workflows)


def finished(count: int) -> list[builders.WorkflowBuilder]:
    return [builders.a_workflow(f"done-{number:03}").finished() for number in range(count)]


async def test_all_pages_are_read_in_one_look() -> None:
    world = World().add(*finished(7), builders.a_workflow("live"))

    seen = await look(world, builders.a_request())

    assert len(names(seen)) == 8
    assert seen.fresh
    assert world.faults.count("workflows.find") == 1


async def test_a_whole_workflow_is_kept_only_where_a_rule_asks_for_it() -> None:
    world = World().add(*finished(2), builders.a_workflow("live"))
    of_labels = builders.a_request().rule("current-stage", "exists")
    of_workflow = builders.a_request().rule("workflow.spec.priority", "exists")

    assert (await look(world, of_labels)).bodies == {}
    kept = (await look(world, of_workflow)).bodies.values()
    assert [body["metadata"]["name"] for body in kept] == ["live"]


async def test_of_too_many_workflows_all_live_ones_are_seen_and_a_warning_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The names of the live ones come last here, and would not be reached."""
    monkeypatch.setattr(gathering, "MOST", 10)
    live = [builders.a_workflow(f"live-{number}") for number in range(4)]
    world = World().add(*finished(30), *live)

    with testing.capture_logs() as logs:
        seen = await look(world, builders.a_request())

    found = names(seen)
    assert [name for name in found if name.startswith("live")] == [f"live-{n}" for n in range(4)]
    assert len(found) == 9 + 4
    (line,) = logs
    assert line["log_level"] == "warning"
    assert (line["task"], line["label"], line["looked_at"]) == ("7", BUILT_IN.task_label, 9)


async def test_exactly_as_many_as_are_allowed_are_read_in_one_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "MOST", 9)
    world = World().add(*finished(9))

    with testing.capture_logs() as logs:
        assert len(names(await look(world, builders.a_request()))) == 9

    assert logs == []
