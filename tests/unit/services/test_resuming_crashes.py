"""`Reconciler` is killed, or meets a fault, at any of its calls, and comes to the same end.

What always holds, whatever happened: the gate was opened at most once and by one write, no other
gate was touched, a status that says Resumed is true, and one that gives up is true as well.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import hypothesis
import pytest
from hypothesis import strategies

from resumer import errors
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome, Reason
from resumer.core.breaker import Breaker
from tests import builders, fakes
from tests.unit.services.world import REQUESTS, WORKFLOWS, World, key

EXAMPLES = hypothesis.settings(max_examples=60)
LONGEST = 20
"""More calls than any of these resumes makes."""


def at_its_gate() -> World:
    """Two gates are open; the request names one of them."""
    workflow = builders.at_review().gate("other", template="other")
    request = builders.a_request("wake").at_gate("displayName=wait")
    return World().under(builders.three_stages()).add(workflow, request)


def after_a_failed_attempt() -> World:
    world = at_its_gate()
    failed = builders.a_request("wake").at_gate("displayName=wait").failed_attempt(due=-1).build()
    world.api.change(REQUESTS, key(), lambda body: body.update(status=failed["status"]))
    return world


def named() -> World:
    request = builders.a_request("wake").named("play").at_gate("displayName=wait")
    workflow = builders.at_review().gate("other", template="other")
    return World().under(builders.three_stages()).add(workflow.compressed(), request)


def behind_a_half_open_breaker() -> World:
    world = at_its_gate()
    opened = Breaker(
        state=BreakerState.OPEN, consecutive_failures=5, open_until=builders.NOW - timedelta(1)
    )
    world.breakers.put(builders.NAMESPACE, "review", opened)
    return world


def with_superseded_workflows() -> World:
    world = World().under(builders.three_stages(ambiguity="NewestCancelOthers"))
    workflow = builders.at_review().created(-1).gate("other", template="other")
    world.add(workflow, builders.at_review("old"), builders.at_review("older"))
    return world.add(builders.a_request("wake").at_gate("displayName=wait"))


def with_a_lost_answer() -> World:
    world = at_its_gate()
    lost = errors.TransientError("no answer", reason="ServerTimeout")
    world.faults.on("backend.resume", fakes.Fault(lost, applied=True))
    return world


def with_failing_writes() -> World:
    world = at_its_gate()
    broken = fakes.Fault(errors.TransientError("no answer", status=503))
    world.faults.on("backend.resume", broken, broken)
    return world


def terminated(world: World, name: str) -> bool:
    bodies = (body for body in world.api.find(WORKFLOWS) if body["metadata"]["name"] == name)
    return any(body["spec"].get("shutdown") == "Terminate" for body in bodies)


def assert_true_and_once(world: World) -> None:
    """What always holds."""
    opened = world.opened()
    assert opened in ([], ["wait"])
    if opened:
        assert "uid-of-wake" in world.node()["message"]
    assert world.writes() == len(opened)
    outcome, reason = world.outcome()
    assert (outcome is Outcome.RESUMED) <= bool(opened)
    assert (reason == Reason.RETRIES_EXHAUSTED) <= (not opened)
    for name in ("old", "older"):
        # No workflow is ended for a newer one that was not resumed.
        assert opened or not terminated(world, name)


@pytest.mark.parametrize("watching", [True, False], ids=["watching", "slow watch"])
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "scene",
    [
        at_its_gate,
        after_a_failed_attempt,
        named,
        behind_a_half_open_breaker,
        with_superseded_workflows,
        with_a_lost_answer,
        with_failing_writes,
    ],
)
async def test_killed_at_any_call_the_next_life_comes_to_the_same_end(
    scene: Callable[[], World], applied: bool, watching: bool
) -> None:
    """Before or after each call of the first life, one by one."""
    kills = 0
    for number in range(1, LONGEST):
        world = scene()
        world.faults.at(number, fakes.Fault(fakes.Killed(), applied=applied))
        try:
            await world.start(watching=watching).settle()
        except fakes.Killed:
            kills += 1
            assert_true_and_once(world)
            await world.start(watching=watching).settle()
        assert_true_and_once(world)
        assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED), f"killed at {number}"
        for body in world.api.find(WORKFLOWS):
            name = body["metadata"]["name"]
            assert world.opened(name) == (["wait"] if name == "play" else [])
            assert terminated(world, name) is (name != "play")
        if kills < number:
            break
    assert kills >= 2
    assert kills < LONGEST - 1


async def test_killed_in_every_life_it_still_comes_to_an_end() -> None:
    """Each life is killed one call later than the one before."""
    world = with_superseded_workflows()
    lives = 0
    while True:
        lives += 1
        world.faults.at(len(world.faults.made) + lives, fakes.Fault(fakes.Killed(), applied=True))
        try:
            await world.start().settle()
        except fakes.Killed:
            assert_true_and_once(world)
        else:
            break
    assert world.outcome() == (Outcome.RESUMED, Reason.GATE_OPENED)
    assert lives > 3


FAULTS = strategies.sampled_from(
    [
        fakes.Fault(),
        fakes.Fault(errors.TransientError("unavailable", status=503)),
        fakes.Fault(errors.TransientError("lost", reason="ServerTimeout"), applied=True),
        fakes.Fault(errors.TransientError("refused", sent=False)),
        fakes.Fault(errors.TransientError("limited", status=429, retry_after=3.0)),
        fakes.Fault(errors.PreconditionError("changed", status=409)),
        fakes.Fault(fakes.Killed()),
        fakes.Fault(fakes.Killed(), applied=True),
    ]
)


@EXAMPLES
@hypothesis.given(
    faults=strategies.lists(FAULTS, max_size=12),
    scene=strategies.sampled_from(
        [at_its_gate, named, behind_a_half_open_breaker, with_superseded_workflows]
    ),
    watching=strategies.booleans(),
)
async def test_whatever_goes_wrong_what_is_said_is_true_and_it_ends(
    faults: list[fakes.Fault], scene: Callable[[], World], watching: bool
) -> None:
    world = scene()
    for number, fault in enumerate(faults, start=1):
        world.faults.at(number, fault)
    for _ in range(len(faults) + 1):
        try:
            await world.start(watching=watching).settle()
        except fakes.Killed:
            assert_true_and_once(world)
        except AssertionError:
            # A pass that lost to its own earlier status is ended by the watch, or by a new life.
            assert not watching
        outcome, _ = world.outcome()
        if outcome is not None and outcome.terminal:
            break
    assert_true_and_once(world)
    assert world.outcome() in (
        (Outcome.RESUMED, Reason.GATE_OPENED),
        (Outcome.FAILED, Reason.RETRIES_EXHAUSTED),
    )


@EXAMPLES
@hypothesis.given(
    order=strategies.lists(strategies.sampled_from([0, 1]), min_size=2, max_size=10),
    faults=strategies.lists(FAULTS, max_size=6),
)
async def test_two_operators_at_once_open_a_gate_once(
    order: list[int], faults: list[fakes.Fault]
) -> None:
    """Leadership can be lost without being noticed: both act on what they saw at first."""
    world = at_its_gate()
    for number, fault in enumerate(faults, start=1):
        world.faults.at(number, fault)
    operators = [world.start(watching=False), world.start(watching=False)]
    for turn in order:
        try:
            await operators[turn].look()
        except (errors.ApiError, fakes.Killed):
            world.clock.advance(1)
        assert_true_and_once(world)
    world.faults.clear()
    await world.start().settle()
    assert_true_and_once(world)
