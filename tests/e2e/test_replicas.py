"""Two operators at work in one namespace, as in a rolling update: each gate is opened once."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Outcome
from tests.controlplane import client
from tests.e2e.support import process, rig, waiting
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

GATES = 40
STAGE = "contended"
PATIENT = ("--request-timeout", "30")
"""On a busy machine a slow answer is no failure."""


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One operator behind the proxy."""
    with rig.running(home, tmp_path_factory.mktemp("replicas"), options=PATIENT) as started:
        yield started


@pytest.fixture(scope="module")
def second(plant: Rig) -> Iterator[process.Operator]:
    """Another one at work in the same namespace, through the same proxy."""
    log = plant.folder / "operator-second.log"
    kubeconfig, spaces = plant.proxy.kubeconfig, [plant.home.namespace]
    with process.running(kubeconfig, log, spaces, options=PATIENT) as started:
        yield started


@pytest.mark.timeout(240)
def test_two_operators_and_two_requests_for_each_gate_open_it_once_and_agree(
    plant: Rig, second: process.Operator
) -> None:
    plant.policy(STAGE)
    names = [f"gate-{number}" for number in range(GATES)]
    for name in names:
        plant.home.cluster.create(plant.workflow(name, STAGE), plant.home.namespace)
    for name in names:
        plant.home.at_gate(name, "first")

    def ask(suffix: str) -> None:
        mine = client.Cluster(plant.home.cluster.kubeconfig)
        for name in names:
            request = plant.request(f"{name}-{suffix}", STAGE, task=name)
            mine.create(request, plant.home.namespace)
        mine.close()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, ("a", "b")))
    for name in names:
        outcomes = {}
        for request in (f"{name}-a", f"{name}-b"):
            outcomes[plant.home.decided(request)["outcome"]] = request
        assert set(outcomes) == {"Resumed", "AlreadyResumed"}, (name, outcomes)
        plant.opened_once(name, outcomes["Resumed"])
        other = plant.history.wait_reason(outcomes["AlreadyResumed"], "StageAlreadyResumed")
        assert other["resumedBy"] == f"workflowresume/{outcomes['Resumed']}"
    # Both have taken part, else this test tells nothing.
    assert plant.operator.metric("resumer_attempts_total") > 0
    waiting.eventually(
        lambda: second.metric("resumer_attempts_total") > 0, lambda: "the second never tried"
    )
    for name in names:
        for request in (f"{name}-a", f"{name}-b"):
            plant.history.wait(request, lambda status: Outcome(status["outcome"]).terminal)
            told = [Outcome(str(status["outcome"])) for status in plant.history.of(request)]
            assert sum(outcome.terminal for outcome in told) == 1, (request, told)
            assert told[-1].terminal
