"""`Explainer`: what it does not explain; what it does, `tests/e2e/test_explain.py` shows."""

from __future__ import annotations

from typing import Any

import pytest

from resumer import errors
from resumer.core.observation import Resume
from resumer.services.explaining import Explainer
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, World, at_its_gate, key


def explainer(world: World) -> Explainer:
    reader = fakes.FakeReader(world.api, world.breakers, world.faults)
    return Explainer(reader, fakes.FakeWorkflows(world.api, world.faults), world.clock)


async def test_a_request_that_is_being_deleted_is_told_to_open_nothing() -> None:
    world = at_its_gate().add(builders.a_request("stays").for_stage(builders.STAGE))

    def deleted(body: dict[str, Any]) -> None:
        body["metadata"]["deletionTimestamp"] = builders.at(0)

    world.api.change(REQUESTS, key(), deleted)
    with pytest.raises(errors.NotFoundError, match="team/wake is being deleted"):
        await explainer(world).stored(key())
    assert isinstance((await explainer(world).stored(key("stays"))).decision.what, Resume)
