"""Anything in any order: hypothesis makes up days, and no request is lost, no gate opened wrongly.

The days take place on the real API server and Argo's controller, and the operator is killed for
real: what chance decides besides, hypothesis does not know. So a failing day is not made smaller;
what happened in it is told in full. More and longer days, other ones each time:

    DAYS=200 STEPS=60 .venv/bin/pytest tests/e2e/test_machine.py
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from resumer.api.policy import Ambiguity
from tests.e2e.support import faults, machine, rig
from tests.e2e.support.home import Home
from tests.e2e.support.machine import Shape
from tests.e2e.support.rig import Rig
from tests.e2e.support.truth import Kind

DAYS = int(os.environ.get("DAYS", "8"))
STEPS = int(os.environ.get("STEPS", "20"))

TASKS = ("a", "b", "c")
OF_TASKS = st.sampled_from(TASKS)
OF_STAGES = st.sampled_from(machine.STAGES)
CALLS = st.sampled_from(("workflow", "status"))
FAULTS = st.sampled_from(sorted(faults.KINDS))
TIMES = st.integers(1, 3)
MOMENTS = st.sampled_from((0.0, 0.05, 0.3, 1.0))
INDICES = st.integers(0, 20)
TERMS = st.builds(
    machine.Terms,
    threshold=st.sampled_from((1, 2, 1000)),
    probes=st.integers(1, 3),
    reaches=st.booleans(),
    strategy=st.sampled_from(sorted(machine.RETRIES)),
    ambiguity=st.sampled_from(Ambiguity),
    deadline=st.sampled_from((900, 86_400)),
)

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig.running(home, tmp_path_factory.mktemp("machine")) as started:
        yield started


class Days(stateful.RuleBasedStateMachine):
    """The rules; `machine.Day` does what they say."""

    def __init__(self, plant: Rig) -> None:
        super().__init__()
        self.day = machine.Day(plant, f"day-{next(_numbers)}")

    @stateful.initialize(one=st.sampled_from(Shape), other=st.sampled_from(Shape))
    def begins(self, one: Shape, other: Shape) -> None:
        """Which rules a day has is chance as well, but each has Workflows and a request."""
        self._do(self.day.submit, TASKS[0], one)
        self._do(self.day.submit, TASKS[1], other)
        self._do(self.day.ask, TASKS[0], machine.STAGES[0], Kind.GOOD)

    @stateful.rule(task=OF_TASKS, shape=st.sampled_from(Shape))
    def submit(self, task: str, shape: Shape) -> None:
        self._do(self.day.submit, task, shape)

    @stateful.rule(task=OF_TASKS, stage=OF_STAGES)
    def ask(self, task: str, stage: str) -> None:
        self._do(self.day.ask, task, stage, Kind.GOOD)

    @stateful.rule(task=OF_TASKS, stage=OF_STAGES, what=CALLS, fault=FAULTS, times=TIMES)
    def ask_in_trouble(self, task: str, stage: str, what: str, fault: str, times: int) -> None:
        self._do(self.day.break_calls, what, fault, times)
        self._do(self.day.ask, task, stage, Kind.GOOD)

    @stateful.rule(task=OF_TASKS, stage=OF_STAGES, seconds=MOMENTS)
    def ask_and_kill(self, task: str, stage: str, seconds: float) -> None:
        self._do(self.day.ask, task, stage, Kind.GOOD)
        self._do(self.day.pause, seconds)
        self._do(self.day.kill)

    @stateful.rule(task=OF_TASKS, stage=OF_STAGES, kind=st.sampled_from(Kind))
    def ask_perhaps_wrongly(self, task: str, stage: str, kind: Kind) -> None:
        self._do(self.day.ask, task, stage, kind)

    @stateful.rule(index=INDICES)
    def ask_again(self, index: int) -> None:
        self._do(self.day.ask_again, index)

    @stateful.rule(index=INDICES, anew=st.booleans())
    def withdraw(self, index: int, anew: bool) -> None:
        self._do(self.day.withdraw, index, anew=anew)

    @stateful.rule(task=OF_TASKS)
    def remove(self, task: str) -> None:
        self._do(self.day.remove, task)

    @stateful.rule(task=OF_TASKS)
    def terminate(self, task: str) -> None:
        self._do(self.day.terminate, task)

    @stateful.rule(task=OF_TASKS)
    def open_by_hand(self, task: str) -> None:
        self._do(self.day.open_by_hand, task)

    @stateful.rule(terms=TERMS)
    def change_policy(self, terms: machine.Terms) -> None:
        self._do(self.day.change_policy, terms)

    @stateful.rule()
    def delete_policy(self) -> None:
        self._do(self.day.change_policy, None)

    @stateful.rule(stage=OF_STAGES)
    def reset_breaker(self, stage: str) -> None:
        self._do(self.day.reset_breaker, stage)

    @stateful.rule(what=CALLS, fault=FAULTS, times=TIMES)
    def break_calls(self, what: str, fault: str, times: int) -> None:
        self._do(self.day.break_calls, what, fault, times)

    @stateful.rule()
    def cut(self) -> None:
        self._do(self.day.cut)

    @stateful.rule(silent=st.booleans())
    def silence(self, silent: bool) -> None:
        self._do(self.day.silence if silent else self.day.hear)

    @stateful.rule(seconds=MOMENTS)
    def pause(self, seconds: float) -> None:
        self._do(self.day.pause, seconds)

    @stateful.invariant()
    def nothing_is_wrong(self) -> None:
        self._do(self.day.check)

    def teardown(self) -> None:
        self._do(self.day.end)

    def _do(self, work: Any, *args: Any, **more: Any) -> None:
        try:
            work(*args, **more)
        except Exception as error:
            error.add_note("\n".join(["the day:", *self.day.told]))
            raise


@pytest.mark.timeout(120 + 120 * DAYS)
def test_whatever_happens_in_whatever_order_each_gate_is_opened_once_by_the_right_request(
    plant: Rig,
) -> None:
    stateful.run_state_machine_as_test(
        cast(type[stateful.RuleBasedStateMachine], lambda: Days(plant)),
        settings=hypothesis.settings(
            max_examples=DAYS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # The same days in each run of the suite, others when more are asked for.
            derandomize="DAYS" not in os.environ,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=True,
        ),
    )
