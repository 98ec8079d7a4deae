"""The machine's clock is an hour off, or is set while the operator works: nothing follows from it.

The operator's process sees another time of day than all others, see `support.shifted`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import faults, manifests, rig, shifted, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

HOUR = 3600
NEAR = datetime.timedelta(seconds=60)
"""As near as a busy machine comes to a time, and far from an hour."""
SHIFTED = "tests.e2e.support.shifted"

hours = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "behind"])


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> shifted.Shift:
    return shifted.Shift(tmp_path_factory.mktemp("shift") / "seconds")


@pytest.fixture(scope="module")
def plant(
    home: Home, shift: shifted.Shift, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """The operator, whose time of day is `shift` off."""
    folder = tmp_path_factory.mktemp("clock")
    with rig.running(home, folder, env=shift.environment, module=SHIFTED) as started:
        yield started


@pytest.fixture(autouse=True)
def right_again(shift: shifted.Shift) -> Iterator[None]:
    """Each test begins and ends with the right time."""
    yield
    shift.set(0)


def is_now(text: str) -> bool:
    noted = datetime.datetime.fromisoformat(text)
    return abs(datetime.datetime.now(datetime.UTC) - noted) < NEAR


def looks_again(plant: Rig, name: str) -> None:
    """Returns once the operator has looked at a request that waits."""

    def looks() -> float:
        return plant.operator.metric("resumer_reconcile_seconds_count")

    before = looks()
    plant.home.cluster.patch(
        homes.RESUME, name, plant.home.namespace, {"metadata": {"labels": {"look": "now"}}}
    )
    waiting.eventually(lambda: looks() > before, lambda: f"{looks()} looks")


@hours
def test_a_request_that_waits_neither_expires_nor_is_forgotten_when_the_clock_is_set(
    plant: Rig, shift: shifted.Shift, jump: int
) -> None:
    name = f"waits-{abs(jump)}-{jump > 0}".lower()
    plant.policy(name)
    plant.home.ask(plant.request(name, name))
    plant.history.wait_reason(name, "WorkflowNotFound")
    shift.set(jump)
    looks_again(plant, name)
    plant.home.submit(plant.workflow(name, name))
    status = plant.resumed_once(name)
    assert is_now(status["resumedTime"])
    assert plant.history.reasons(name)[-1] == "GateOpened"
    assert "DeadlineExceeded" not in plant.history.reasons(name)


@hours
def test_a_request_expires_when_it_is_due_though_the_clock_was_set(
    plant: Rig, shift: shifted.Shift, jump: int
) -> None:
    name = f"expires-{jump > 0}".lower()
    plant.policy(name)
    plant.home.ask(plant.request(name, name, deadlineSeconds=8))
    plant.history.wait_reason(name, "WorkflowNotFound")
    shift.set(jump)
    plant.came_to(name, Reason.DEADLINE_EXCEEDED)


@hours
def test_attempts_go_on_and_the_breaker_closes_though_the_clock_was_set(
    plant: Rig, shift: shifted.Shift, jump: int
) -> None:
    name = f"tries-{jump > 0}".lower()
    plant.policy(
        name,
        retry={"maxAttempts": 5, "baseSeconds": 2},
        circuitBreaker={"failureThreshold": 2, "openSeconds": 5},
    )
    plant.home.submit(plant.workflow(name, name))
    plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503), times=2)
    plant.home.ask(plant.request(name, name))
    plant.history.wait_reason(name, "ApiUnavailable")
    shift.set(jump)
    plant.breaker_in(name, "Open")
    shift.set(0)
    status = plant.resumed_once(name)
    assert [one["number"] for one in status["attempts"]] == [1, 2, 3]
    assert all(is_now(one["endTime"]) for one in status["attempts"])
    plant.breaker_in(name, "Closed")


@hours
def test_an_operator_that_starts_with_a_wrong_clock_goes_by_the_api_servers(
    plant: Rig, shift: shifted.Shift, jump: int
) -> None:
    name = f"starts-{jump > 0}".lower()
    plant.policy(name, retry={"maxAttempts": 3})
    plant.home.ask(plant.request(name, name), plant.request(f"{name}-never", name))
    plant.history.wait_reason(name, "WorkflowNotFound")
    plant.kill()
    shift.set(jump)
    plant.start()
    told = plant.operator.wait_logged("the machine's clock is wrong: going by the API server's")
    assert told["seconds"] == pytest.approx(-jump, abs=NEAR.seconds)
    plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503))
    plant.home.submit(plant.workflow(name, name))
    status = plant.resumed_once(name)
    assert all(is_now(one["endTime"]) for one in status["attempts"])
    looks_again(plant, f"{name}-never")
    assert plant.history.reasons(f"{name}-never")[-1] == "WorkflowNotFound"


def test_what_was_noted_before_the_clock_was_put_back_by_an_hour_holds_nobody(plant: Rig) -> None:
    """The API server's own clock, too: the records of a request and a breaker lie in the future."""
    name = "future"
    plant.policy(name, circuitBreaker={"failureThreshold": 1, "openSeconds": 30})
    plant.home.submit(plant.workflow(name, name))
    plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503), times=None)
    plant.home.ask(plant.request(name, name))
    plant.breaker_in(name, "Open")
    status = plant.came_to(name, Reason.BREAKER_OPEN)
    plant.kill()
    put_forward(plant, homes.RESUME, name, status)
    put_forward(plant, rig.BREAKER, name, plant.breaker_in(name, "Open"))
    plant.proxy.on("PATCH", rf"/workflows/{name}$", faults.delay(0), times=None)
    plant.start()
    plant.resumed_once(name)
    plant.breaker_in(name, "Closed")


def put_forward(plant: Rig, kind: str, name: str, status: manifests.Json) -> None:
    """Moves all times in a status into the future."""
    patch = {"status": later(status)}
    plant.home.cluster.patch(kind, name, plant.home.namespace, patch, subresource="status")


def later(value: Any, key: str = "") -> Any:
    """The same an hour later."""
    match value:
        case dict():
            return {name: later(item, name) for name, item in value.items()}
        case list():
            return [later(item) for item in value]
        case str() if key.endswith("Time"):
            moved = datetime.datetime.fromisoformat(value) + datetime.timedelta(seconds=HOUR)
            return moved.isoformat().replace("+00:00", "Z")
        case _:
            return value
