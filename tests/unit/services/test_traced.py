"""What a pass tells the trace of its request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from resumer import errors
from resumer.api.base import ObjectMeta
from resumer.core.observation import End, Facts
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, World


@dataclass
class Told:
    """Implements `ports.Tracing` by a list."""

    passes: list[list[str]] = field(default_factory=list)
    """For each pass, what was told."""
    created: list[datetime | None] = field(default_factory=list)

    @contextlib.contextmanager
    def reconcile(
        self, metadata: ObjectMeta, created: datetime | None, *, first: bool
    ) -> Iterator[Mapping[str, str]]:
        self.passes.append([f"{metadata.name}{' first' if first else ''}"])
        self.created.append(created)
        try:
            yield {"trace_id": "7"}
        except errors.ApiError:
            self.passes[-1].append("failed")
            raise

    def found(self, facts: Facts, end: End) -> None:
        self.passes[-1].append(f"{end.reason} {facts.stage.name}")

    def ended(self) -> None:
        self.passes[-1].append("ended")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def world(told: Told) -> World:
    """A request, and no workflow yet."""
    world = World(tracing=told).under(builders.three_stages())
    return world.add(builders.a_request("wake"))


async def test_a_request_that_waits_and_resumes_is_told_pass_by_pass(
    world: World, told: Told
) -> None:
    operator = world.start()
    await operator.look()
    await operator.look()
    world.add(builders.at_review())
    await operator.look()
    assert told.passes == [
        ["wake first", "WorkflowNotFound review"],
        ["wake", "WorkflowNotFound review"],
        ["wake", "GateOpened review", "ended"],
    ]
    assert None not in told.created


async def test_a_pass_that_could_not_record_is_made_again_and_is_not_the_first_then(
    world: World, told: Told
) -> None:
    world.add(builders.at_review())
    operator = world.start()
    world.faults.on("requests.write_status", fakes.Fault(errors.TransientError("no answer")))
    with pytest.raises(errors.TransientError):
        await operator.look()
    await operator.look()
    assert told.passes == [
        ["wake first", "GateOpened review", "failed"],
        ["wake", "GateOpened review", "ended"],
    ]


async def test_the_next_process_goes_on_where_the_last_one_was_killed(
    world: World, told: Told
) -> None:
    await world.start().look()
    world.add(builders.at_review())
    await world.start().look()
    assert told.passes[-1] == ["wake", "GateOpened review", "ended"]


async def test_an_object_that_nobody_understands_is_told_too(world: World, told: Told) -> None:
    body = builders.a_request("odd").build()
    del body["spec"]["correlationData"]
    world.api.create(REQUESTS, body)
    await world.start().look("odd")
    assert told.passes == [["odd first", "InvalidObject ", "ended"]]
