"""The handlers: what kopf tells reaches the service it concerns, and nothing is returned."""

from __future__ import annotations

from typing import Any, cast

import kopf
import pytest

from resumer.adapters import breakers
from resumer.api import constants
from resumer.api.breaker import BreakerState
from resumer.core.breaker import Breaker
from resumer.handlers import watching
from resumer.services.leading import Elector
from tests import builders
from tests.unit.handlers import support
from tests.unit.services.world import Operator, World, key

TEAM = builders.NAMESPACE
STAGE = "Review_1"


class Scene:
    """An operator, and kopf's side of its handlers."""

    def __init__(self, elector: Elector | None = None) -> None:
        self.world = World()
        self.operator: Operator = self.world.start(watching=False)
        self.registry = kopf.OperatorRegistry()
        watching.register(self.registry, support.services(self.operator, elector=elector))

    async def tell(self, plural: str, kind: str | None, body: builders.Json) -> None:
        """An event; the type is None for what a list shows."""
        (handler,) = (
            one
            for one in self.registry._watching.get_all_handlers()
            if one.selector is not None and one.selector.any_name == plural
        )
        call: Any = handler.fn
        assert await call(event={"type": kind, "object": body}, memo=None, param=None) is None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def a_breaker() -> builders.Json:
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.BREAKER_KIND,
        "metadata": {
            "name": breakers.object_name(STAGE),
            "namespace": TEAM,
            "uid": "uid-of-breaker",
            "resourceVersion": "400",
        },
        "spec": {"stage": STAGE},
        "status": {"state": "Open", "consecutiveFailures": 5, "openUntilTime": builders.at(30)},
    }


def test_every_kind_is_watched_and_kopf_has_those_that_it_says(scene: Scene) -> None:
    handled = {
        one.selector.any_name
        for one in scene.registry._watching.get_all_handlers()
        if one.selector is not None
    }
    assert handled == set(watching.BY_KOPF)
    others = {constants.WORKFLOW_PLURAL, constants.RESUME_PLURAL}
    assert set(watching.WATCHED) == {*watching.BY_KOPF, *others}
    assert len(watching.WATCHED) == 4


async def test_a_policy_comes_into_force_and_goes(scene: Scene) -> None:
    body = scene.world.api.create(constants.POLICY_PLURAL, builders.three_stages().build())
    await scene.tell(constants.POLICY_PLURAL, "ADDED", body)
    assert scene.operator.stores.policies.get(key("play")) is not None
    assert "status" in scene.world.api.get(constants.POLICY_PLURAL, key("play"))
    await scene.tell(constants.POLICY_PLURAL, "DELETED", body)
    assert scene.operator.stores.policies.get(key("play")) is None


async def test_a_breaker_is_known_by_its_stage_whatever_its_name_until_it_is_deleted(
    scene: Scene,
) -> None:
    body = a_breaker()
    assert body["metadata"]["name"] != STAGE
    await scene.tell(constants.BREAKER_PLURAL, "ADDED", body)
    found = scene.operator.stores.breakers.get(TEAM, STAGE)
    assert found is not None
    assert (found[0].state, found[1]) == (BreakerState.OPEN, "400")
    await scene.tell(constants.BREAKER_PLURAL, "DELETED", body)
    assert scene.operator.stores.breakers.get(TEAM, STAGE) is None


async def test_a_breaker_that_nobody_can_read_counts_as_closed_and_says_so(scene: Scene) -> None:
    await scene.tell(constants.BREAKER_PLURAL, "ADDED", a_breaker())
    body = a_breaker()
    body["metadata"]["resourceVersion"] = "401"
    body["status"]["state"] = "Ajar"
    await scene.tell(constants.BREAKER_PLURAL, "MODIFIED", body)
    assert scene.operator.stores.breakers.get(TEAM, STAGE) == (Breaker(), "401")
    (event,) = scene.world.events.published
    assert (event.kind, event.reason, event.warning) == (
        "WorkflowResumeBreaker",
        watching.UNUSABLE_EVENT,
        True,
    )
    assert "status.state" in event.message


async def test_of_a_breaker_that_nobody_can_read_only_the_leader_tells() -> None:
    class StandsBy:
        def leads(self) -> bool:
            return False

    scene = Scene(cast(Elector, StandsBy()))
    body = a_breaker()
    body["status"]["state"] = "Ajar"
    await scene.tell(constants.BREAKER_PLURAL, "ADDED", body)
    assert scene.operator.stores.breakers.get(TEAM, STAGE) == (Breaker(), "400")
    assert scene.world.events.published == []


async def test_a_breaker_that_nobody_can_read_is_reset_when_it_is_deleted(scene: Scene) -> None:
    await scene.tell(constants.BREAKER_PLURAL, "ADDED", a_breaker())
    body = a_breaker()
    body["metadata"]["resourceVersion"] = "402"
    body["status"] = {"state": "Ajar", "probes": "none"}
    await scene.tell(constants.BREAKER_PLURAL, "DELETED", body)
    assert scene.operator.stores.breakers.get(TEAM, STAGE) is None


@pytest.mark.parametrize("kind", ["ADDED", "DELETED"])
async def test_a_breaker_under_the_name_of_another_stage_changes_nothing_and_says_so(
    scene: Scene, kind: str
) -> None:
    await scene.tell(constants.BREAKER_PLURAL, "ADDED", a_breaker())
    known = scene.operator.stores.breakers.get(TEAM, STAGE)
    body = a_breaker()
    body["metadata"] = {**body["metadata"], "name": "mine", "resourceVersion": "500"}
    body["status"]["state"] = "Closed"
    await scene.tell(constants.BREAKER_PLURAL, kind, body)
    assert scene.operator.stores.breakers.get(TEAM, STAGE) == known
    (event,) = scene.world.events.published
    assert breakers.object_name(STAGE) in event.message
