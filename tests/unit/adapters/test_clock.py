"""The clock goes by the API server, whatever the machine's own one says."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from resumer.adapters.clock import SystemClock
from resumer.adapters.timekeeping import Timekeeper

TRUE = datetime(2026, 1, 1, 12, 0, 0, 250_000, UTC).timestamp()
HOUR = 3600.0


class Machine:
    """The clocks of a machine, as the standard library tells them."""

    def __init__(self, wall: float) -> None:
        self.wall, self.uptime = wall, 1000.0

    def __enter__(self) -> Machine:
        self._patched = pytest.MonkeyPatch()
        self._patched.setattr(time, "time", lambda: self.wall)
        self._patched.setattr(time, "monotonic", lambda: self.uptime)
        return self

    def __exit__(self, *_: object) -> None:
        self._patched.undo()

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(TRUE) as made:
        yield made


def told(moment: float) -> datetime:
    """What a `Date` header says of a moment."""
    return datetime.fromtimestamp(int(moment), UTC)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_clock_that_is_set_while_it_runs_changes_nothing(machine: Machine, jump: float) -> None:
    clock = SystemClock()
    machine.passes(5)
    machine.wall += jump
    assert clock.now().timestamp() == pytest.approx(TRUE + 5)


@given(
    wrong=st.floats(-1e6, 1e6),
    answers=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1), st.floats(0, 1)), min_size=1),
)
def test_after_any_answers_it_is_as_near_to_the_api_server_as_the_answers_tell(
    wrong: float, answers: list[tuple[float, float, float]]
) -> None:
    with Machine(TRUE + wrong) as machine:
        true, clock = TRUE, SystemClock()
        for pause, way, back in answers:
            machine.passes(pause)
            sent = clock.monotonic()
            machine.passes(way)
            date = told(true + pause + way)
            machine.passes(back)
            clock.learn(date, sent, clock.monotonic())
            true += pause + way + back
            assert clock.now().timestamp() - true <= 1.0 + way + 1e-3
            assert true - clock.now().timestamp() <= 1.0 + back + 1e-3


@given(answers=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), min_size=1))
def test_a_clock_that_is_right_is_left_alone(answers: list[tuple[float, float]]) -> None:
    with Machine(TRUE) as machine:
        clock = SystemClock()
        for pause, way in answers:
            machine.passes(pause)
            sent = clock.monotonic()
            machine.passes(way)
            assert clock.learn(told(machine.wall), sent, clock.monotonic()) == 0


async def answered(clock: SystemClock, status: int, headers: dict[str, str]) -> None:
    """An answer goes by the middleware."""

    async def handler(_: object) -> Any:
        return SimpleNamespace(status=status, headers=headers)

    await Timekeeper(clock)(cast(aiohttp.ClientRequest, None), handler)


@pytest.mark.parametrize("status", [200, 409, 429])
async def test_an_answer_puts_a_wrong_clock_right_and_a_person_is_told(
    machine: Machine, status: int
) -> None:
    machine.wall += HOUR
    clock = SystemClock()
    with capture_logs() as logs:
        for _ in range(2):
            await answered(clock, status, {"Date": email.utils.format_datetime(told(TRUE))})
    assert abs(clock.now().timestamp() - TRUE) <= 1
    (line,) = logs
    assert line["seconds"] == pytest.approx(-HOUR, abs=1)


@pytest.mark.parametrize(
    ("status", "date"),
    [
        (200, ""),
        (200, "yesterday"),
        (200, "Thu, 01 Jan 2026 12:00:00 -0000"),
        (200, "Thu, 01 Jan 99999 12:00:00 GMT"),
        (502, "Thu, 01 Jan 2026 12:00:00 GMT"),
    ],
)
async def test_an_answer_that_tells_no_time_of_the_api_server_teaches_nothing(
    machine: Machine, status: int, date: str
) -> None:
    machine.wall += HOUR
    clock = SystemClock()
    await answered(clock, status, {"Date": date})
    assert clock.now().timestamp() == pytest.approx(TRUE + HOUR)
