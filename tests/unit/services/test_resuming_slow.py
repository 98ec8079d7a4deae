"""A pass that takes too long is cut off: its request backs off, and what it had done is found.

In virtual time; a call that hangs stands for several that are slow.
"""

from __future__ import annotations

import pytest

from resumer.api.outcomes import Outcome, Reason
from tests import builders, fakes
from tests.unit.services import virtual
from tests.unit.services.world import LONGEST, Operator, World

BACKING_OFF = (Outcome.BACKING_OFF, Reason.API_UNAVAILABLE)
OPENED = (Outcome.RESUMED, Reason.GATE_OPENED)
HANGS = fakes.Fault(hangs=True)
HANGS_AFTER = fakes.Fault(hangs=True, applied=True)


def at_its_gate(**stage: object) -> World:
    world = World().under(builders.three_stages(**stage))
    return world.add(builders.at_review(), builders.a_request("wake"))


def look(operator: Operator) -> float | None:
    """One pass; if it ends, it does so in time."""
    delay: float | None = virtual.run(operator.look())
    return delay


@pytest.mark.parametrize("fault", [HANGS, HANGS_AFTER], ids=["not carried out", "carried out"])
def test_cut_off_in_its_write_an_attempt_is_told_and_the_gate_opens_once(
    fault: fakes.Fault,
) -> None:
    world = at_its_gate()
    world.faults.on("backend.resume", fault)
    operator = world.start()
    assert look(operator) == 2.0
    assert world.outcome() == BACKING_OFF
    status = world.status()
    assert status.retry is not None
    assert status.retry.count == 1
    (attempt,) = status.attempts
    assert attempt.message == (
        f"attempt 1 of 3 failed: no end after {LONGEST:g} s, as the API server answers slowly"
    )
    assert world.telemetry.attempts == [("review", "Transient")]

    world.clock.advance(2)
    assert look(operator) is None
    assert world.outcome() == OPENED
    assert world.opened() == ["wait"]
    assert world.writes() == 1


def test_cut_off_in_its_last_attempt_a_request_has_not_failed_before_another_look() -> None:
    for fault, end in (
        (HANGS, (Outcome.FAILED, Reason.RETRIES_EXHAUSTED)),
        (HANGS_AFTER, OPENED),
    ):
        world = at_its_gate(retry={"maxAttempts": 1})
        world.faults.on("backend.resume", fault)
        operator = world.start()
        delay = look(operator)
        assert delay is not None
        assert world.outcome() == BACKING_OFF
        world.clock.advance(delay)
        assert look(operator) is None
        assert world.outcome() == end
        assert world.faults.count("backend.resume") == 1


def test_cut_off_while_it_reads_a_request_backs_off_and_no_attempt_is_used_up() -> None:
    world = World().add(builders.a_request("wake"))
    world.faults.on("workflows.find", HANGS)
    operator = world.start()
    assert look(operator) == LONGEST * 0.75
    assert world.outcome() == BACKING_OFF
    assert world.status().message == (
        f"no attempt was made: no end after {LONGEST:g} s, as the API server answers slowly"
    )
    assert world.status().attempts == ()
    assert world.status().retry is not None
    assert world.faults.count("breakers.write") == 0

    world.clock.advance(LONGEST)
    look(operator)
    assert world.outcome() == (Outcome.WAITING, Reason.WORKFLOW_NOT_FOUND)


@pytest.mark.parametrize("fault", [HANGS, HANGS_AFTER], ids=["not carried out", "carried out"])
def test_cut_off_while_it_records_an_attempt_is_told_by_the_next_pass(fault: fakes.Fault) -> None:
    world = at_its_gate()
    world.faults.on("requests.write_status", fault)
    operator = world.start()
    delay = look(operator)
    if fault is HANGS:
        assert delay is not None
        assert world.outcome() == (None, None)
        assert look(operator) is None
    assert world.outcome() == OPENED
    assert [attempt.number for attempt in world.status().attempts] == [1]
    assert world.faults.count("backend.resume") == 1


def test_a_timeout_that_nobody_planned_is_a_defect_like_any_other() -> None:
    world = at_its_gate()
    world.faults.on("backend.resume", fakes.Fault(TimeoutError("a defect")))
    with pytest.raises(TimeoutError, match="a defect"):
        look(world.start())
