"""`Cleaner`: what is finished for long enough goes, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resumer import errors
from resumer.api import constants, resume
from resumer.core.keys import Key
from resumer.services import cleaning
from resumer.services.cleaning import Cleaner
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.world import key

REQUESTS = constants.RESUME_PLURAL
DOWN = errors.TransientError("no answer", status=503)


class Scene:
    def __init__(self) -> None:
        self.clock = fakes.FakeClock(builders.NOW)
        self.api = fakes.FakeApi(self.clock)
        self.faults = fakes.Faults()
        self.requests = fakes.FakeRequests(self.api, self.faults)

    def add(self, body: builders.RequestBuilder) -> None:
        self.api.create(REQUESTS, body.build())

    def cleaner(self, interval: float = 60.0) -> Cleaner:
        return Cleaner(self.requests, self.clock, interval=interval)

    def names(self) -> list[str]:
        return [body["metadata"]["name"] for body in self.api.find(REQUESTS)]


def condition(kind: str, seconds: float) -> builders.Json:
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": builders.at(seconds),
        "reason": "GateOpened",
    }


def finished(
    name: str = "wake", outcome: str = "Resumed", ended: float = -100, ttl: int = 100
) -> builders.RequestBuilder:
    """A request that ended so many seconds after now and is kept for so many."""
    failed = outcome == "Rejected"
    kind, other = ("Stalled", "Ready") if failed else ("Ready", "Stalled")
    return (
        builders.a_request(name)
        .with_spec(ttlSecondsAfterFinished=ttl)
        .with_status(
            outcome=outcome,
            phase="Failed" if failed else "Succeeded",
            conditions=[condition(other, ended - 500), condition(kind, ended)],
        )
    )


def read(body: builders.RequestBuilder) -> resume.FinishedResume:
    return resume.FinishedResume.from_json(body.build())


@pytest.mark.parametrize("outcome", ["Resumed", "Rejected"])
@pytest.mark.parametrize(
    ("ended", "ttl", "due"),
    [
        (-100, 100, True),
        (-99, 100, False),
        (-101, 100, True),
        (0, 0, True),
        (1, 0, False),
        (-86400, 86400, True),
        (-86399, 86400, False),
    ],
)
def test_a_request_is_due_when_its_time_to_live_since_its_end_is_over(
    outcome: str, ended: float, ttl: int, due: bool
) -> None:
    request = read(finished(outcome=outcome, ended=ended, ttl=ttl))
    assert cleaning.is_due(request, builders.NOW) is due


@pytest.mark.parametrize(("created", "due"), [(-100, True), (-99, False)])
def test_without_conditions_the_time_to_live_runs_from_the_creation(
    created: float, due: bool
) -> None:
    request = read(finished().created(created).with_status(conditions=[]))
    assert cleaning.is_due(request, builders.NOW) is due


def test_without_any_time_a_request_stays() -> None:
    body = finished().with_status(conditions=[]).build()
    del body["metadata"]["creationTimestamp"]
    request = resume.FinishedResume.from_json(body)
    assert not cleaning.is_due(request, builders.NOW)


@pytest.mark.parametrize("change", [{"outcome": "Waiting"}, {"outcome": None}])
def test_what_is_not_decided_is_never_due(change: dict[str, Any]) -> None:
    assert not cleaning.is_due(read(finished().with_status(**change)), builders.NOW)


def test_what_is_being_deleted_already_is_not_deleted_again() -> None:
    body = finished().build()
    body["metadata"]["deletionTimestamp"] = builders.at(-1)
    request = resume.FinishedResume.from_json(body)
    assert not cleaning.is_due(request, builders.NOW)


async def test_a_sweep_deletes_what_is_due_and_only_that() -> None:
    scene = Scene()
    scene.add(finished("due"))
    scene.add(finished("failed-and-due", "Rejected"))
    scene.add(finished("not-yet", ended=-99))
    scene.add(builders.a_request("waiting").with_status(outcome="Waiting", phase="Waiting"))
    scene.add(builders.a_request("new"))

    assert await scene.cleaner().sweep() == 2

    assert scene.names() == ["new", "not-yet", "waiting"]


async def test_what_changed_after_it_was_listed_is_left_for_the_next_sweep() -> None:
    scene = Scene()
    for name in ("changed", "due"):
        scene.add(finished(name))

    def change() -> None:
        scene.api.change(
            REQUESTS, key("changed"), lambda body: body["metadata"].update(labels={"keep": "me"})
        )

    scene.faults.on("requests.delete", fakes.Fault(before=change))
    assert await scene.cleaner().sweep() == 1
    assert scene.names() == ["changed"]


async def test_what_was_recreated_after_it_was_listed_is_not_deleted() -> None:
    scene = Scene()
    scene.add(finished("wake"))

    def recreate() -> None:
        scene.api.delete(REQUESTS, key("wake"))
        body = builders.a_request("wake").build()
        body["metadata"]["uid"] = "another"
        scene.api.create(REQUESTS, body)

    scene.faults.on("requests.delete", fakes.Fault(before=recreate))
    await scene.cleaner().sweep()
    assert scene.api.get(REQUESTS, key("wake"))["metadata"]["uid"] == "another"


DAY = 86400


@pytest.mark.parametrize(
    ("ttl", "ended", "left"),
    [
        (100, -100, []),
        (100, -99, ["invalid"]),
        ("soon", -DAY, []),
        ("soon", 1 - DAY, ["invalid"]),
        (-1, 1 - DAY, ["invalid"]),
    ],
)
async def test_what_ended_as_invalid_goes_after_its_time_to_live_or_the_default(
    ttl: Any, ended: float, left: list[str]
) -> None:
    scene = Scene()
    invalid = finished("invalid", "Rejected", ended).with_spec(
        correlationData={"taskId": "7"}, ttlSecondsAfterFinished=ttl
    )
    scene.add(invalid)
    assert await scene.cleaner().sweep() == 1 - len(left)
    assert scene.names() == left


async def test_what_has_a_status_that_cannot_be_read_is_left_alone() -> None:
    scene = Scene()
    scene.add(finished("bogus").with_status(outcome="Odd", phase="Failed"))
    scene.add(finished("due"))
    assert await scene.cleaner().sweep() == 1
    assert scene.names() == ["bogus"]


async def test_only_the_watched_namespaces_are_swept() -> None:
    scene = Scene()
    scene.add(finished("here"))
    elsewhere = finished("there").build()
    elsewhere["metadata"]["namespace"] = "other"
    scene.api.create(REQUESTS, elsewhere)
    requests = fakes.FakeRequests(scene.api, scene.faults, namespaces=("other",))
    assert await Cleaner(requests, scene.clock, interval=60).sweep() == 1
    assert scene.names() == ["here"]
    assert scene.api.find(REQUESTS, namespace="other") == []


def test_sweeps_come_again_and_again_spread_by_a_tenth_and_outlive_an_outage() -> None:
    async def main() -> None:
        scene = Scene()
        scene.clock.chance = 0.0
        scene.faults.on("requests.finished", fakes.Fault(DOWN))
        scene.add(finished("due"))
        sweeping = asyncio.create_task(scene.cleaner(interval=100).run())
        await asyncio.sleep(89)
        assert scene.names() == ["due"]
        await asyncio.sleep(2)
        assert scene.names() == []
        scene.clock.chance = 0.999
        await asyncio.sleep(90)
        assert scene.faults.count("requests.finished") == 3
        await asyncio.sleep(105)
        assert scene.faults.count("requests.finished") == 3
        await asyncio.sleep(6)
        assert scene.faults.count("requests.finished") == 4
        sweeping.cancel()

    virtual.run(main())


async def test_an_interval_of_zero_means_never() -> None:
    scene = Scene()
    scene.add(finished("due"))
    await scene.cleaner(interval=0).run()
    assert scene.faults.made == []


async def test_the_key_that_is_deleted_has_its_namespace() -> None:
    scene = Scene()
    body = finished("wake").build()
    body["metadata"]["namespace"] = "other"
    scene.api.create(REQUESTS, body)
    scene.add(finished("wake", ended=0))
    await scene.cleaner().sweep()
    with pytest.raises(errors.NotFoundError):
        scene.api.get(REQUESTS, Key("other", "wake"))
    assert scene.names() == ["wake"]
