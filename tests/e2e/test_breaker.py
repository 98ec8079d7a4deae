"""The circuit breaker of a stage: it spares a sick API server, and nobody loses anything by it.

A breaker belongs to a stage of a namespace, so each test has a policy with a stage of its own. How
many calls went out is what the proxy saw.
"""

from __future__ import annotations

import datetime
import functools
import json
import pathlib
import re
from collections.abc import Iterator, Sequence

import pytest
import yaml

from resumer.api.outcomes import Reason
from tests.e2e.support import commands, faults, manifests, pages, rig, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json
from tests.e2e.support.rig import Rig

FOR_LONG = 3600
AGE = re.compile(r"\b([0-9]+m)?[0-9]+s\b")


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy; no call times out while a test looks at it."""
    options = ["--request-timeout", "50"]
    with rig.running(home, tmp_path_factory.mktemp("breaker"), options=options) as started:
        yield started


def writes(stage: str) -> str:
    """The path of the writes to the Workflows of a stage, which all begin with its name."""
    return rf"/workflows/{stage}-[^/]*$"


def ask(plant: Rig, stage: str, names: Sequence[str]) -> None:
    plant.home.ask(*(plant.request(name, stage) for name in names))


def wait_for_a_look_at_all(plant: Rig, names: Sequence[str]) -> None:
    """Has the operator look at these requests, and returns when it has done so."""

    def looks() -> float:
        return plant.operator.metric("resumer_reconcile_seconds_count")

    before = looks()
    for name in names:
        plant.home.cluster.patch(
            homes.RESUME, name, plant.home.namespace, {"metadata": {"labels": {"look": "now"}}}
        )
    waiting.eventually(lambda: looks() >= before + len(names), lambda: f"{looks()} looks")


def opened(plant: Rig, stage: str, **breaker: object) -> str:
    """A policy whose breaker one failure has opened; returns the request that failed for good."""
    plant.policy(stage, retry={"maxAttempts": 1}, circuitBreaker={"failureThreshold": 1, **breaker})
    name = f"{stage}-fails"
    plant.home.submit(plant.workflow(name, stage))
    with plant.proxy.on("PATCH", writes(stage), faults.answer(503), times=1):
        ask(plant, stage, [name])
        plant.came_to(name, Reason.RETRIES_EXHAUSTED)
    plant.breaker_in(stage, "Open")
    return name


@pytest.mark.timeout(300)
def test_a_breaker_opens_holds_outlives_the_operator_probes_and_closes(plant: Rig) -> None:
    plant.policy(
        "sick",
        # Time enough for five first attempts, and for all that follows while it is open.
        retry={"maxAttempts": 3, "baseSeconds": 8},
        circuitBreaker={"failureThreshold": 5, "openSeconds": 30, "halfOpenCalls": 2},
    )
    plant.policy("well", retry={"maxAttempts": 1}, circuitBreaker={"failureThreshold": 1})
    names = plant.at_gates("sick", 20)
    plant.at_gates("well", 1)
    failing, waiting = names[:5], names[5:]

    # Five failures in a row open it. From now on each write to the stage is stopped, and seen.
    probes = faults.Hold()
    plant.proxy.on("PATCH", writes("sick"), probes, times=None)
    sick = plant.proxy.on("PATCH", writes("sick"), faults.answer(503), times=5)
    ask(plant, "sick", failing)
    first = plant.breaker_in("sick", "Open")
    assert first["consecutiveFailures"] == 5
    assert first["lastFailureReason"]
    assert sick.hits == 5

    # The others are held without a call, and another stage goes on.
    ask(plant, "sick", waiting)
    for name in waiting:
        held = plant.history.wait_reason(name, "BreakerOpen")
        assert "attempts" not in held
    read = {one.query for one in plant.proxy.log("GET", "/workflows") if "task-id" in one.query}
    # Those that had failed may look what became of it.
    assert read
    assert not [query for query in read for name in waiting if f"{name}," in query]
    ask(plant, "well", ["well-0"])
    plant.came_to("well-0", Reason.GATE_OPENED)
    columns, row = (
        line.split()
        for line in plant.home.cluster.kubectl(
            "get", "wresbrk", "sick", "-n", plant.home.namespace, "-o", "wide"
        ).splitlines()
    )
    assert columns == ["NAME", "STAGE", "STATE", "FAILURES", "OPENED", "OPEN-UNTIL", "AGE"]
    # As a date, kubectl would show one to come as invalid.
    assert [*row[:4], row[5]] == ["sick", "sick", "Open", "5", first["openUntilTime"]]

    # A new operator knows it, and its first calls are so many probes as are allowed.
    plant.kill()
    plant.start()
    probes.wait(2, 90)
    probing = {path.rpartition("/")[2] for path in probes.paths}
    wait_for_a_look_at_all(plant, [name for name in waiting if name not in probing])
    assert len(probes.paths) == 2
    half_open = plant.breaker_in("sick", "HalfOpen")
    assert len(half_open["probes"]) == 2
    until = datetime.datetime.fromisoformat(first["openUntilTime"])
    assert datetime.datetime.now(datetime.UTC) >= until
    early = [one for one in plant.proxy.log("PATCH", writes("sick")) if one.told is None]
    assert not early

    # A probe that fails opens it again, and the other one changes nothing then.
    probes.drop()
    again = plant.breaker_in("sick", "Open")
    assert again["openUntilTime"] > first["openUntilTime"]
    probed = {path.rpartition("/")[2] for path in probes.paths}
    for name in probed:
        plant.history.wait(name, lambda status: status.get("retry"))

    # A probe that succeeds closes it, and lets everybody go.
    probes.wait(3, 90)
    plant.proxy.on("PATCH", writes("sick"), faults.delay(0), times=None)
    probes.release()
    plant.breaker_in("sick", "Closed")
    for name in names:
        status = plant.resumed_once(name)
        attempts = 1 + (name in failing) + (name in probed)
        assert len(status["attempts"]) == attempts, (name, status["attempts"])
        assert status.get("retry", {}).get("count", 0) == attempts - 1
    assert plant.breaker("well") is None


def test_the_page_about_breakers_shows_what_is_there(plant: Rig, tmp_path: pathlib.Path) -> None:
    """All its commands, in their order; where it shows what they print, they print that."""
    stage, shown = "waiting-pr-approved", 0
    breaker = {"failureThreshold": 5, "openSeconds": FOR_LONG}
    plant.policy(stage, retry={"maxAttempts": 1}, circuitBreaker=breaker)
    names = plant.at_gates(stage, 5)
    sick = plant.proxy.on("PATCH", writes(stage), faults.answer(503), times=5)
    ask(plant, stage, names)
    for name in names:
        plant.came_to(name, Reason.RETRIES_EXHAUSTED)
    assert sick.hits == 5
    held = plant.workflow("release", stage)
    held["metadata"]["labels"]["task-id"] = "7"
    plant.home.submit(held)
    request = plant.request("release", stage, task="7")
    plant.home.ask({**request, "metadata": {"name": "release-approved"}})
    plant.came_to("release-approved", Reason.BREAKER_OPEN)

    shell = commands.shell(plant.home, tmp_path)
    blocks = pages.blocks("docs/workflowresumebreaker.md")
    following = dict(zip(blocks, [*blocks[1:], None], strict=True))
    named = {"workflow NAME": "workflow release", "wres NAME": "wres release-approved"}
    for one in commands.of(commands.Trier.BREAKER):
        told = shell.type(
            functools.reduce(lambda text, of: text.replace(*of), named.items(), one.text)
        )
        after = following[one.block]
        if after is None:
            continue
        if after.language == "text":
            # The module's other breakers are listed as well.
            assert set(plain(after.text)) <= set(plain(told)), f"{after}: {told}"
            shown += 1
        elif after.language == "yaml":
            wanted, found = yaml.safe_load(after.text), yaml.safe_load(told)
            found["metadata"] = {"name": found["metadata"]["name"]}
            assert masked(found) == masked(wanted), f"{after}: {told}"
            shown += 1
    assert shown == 3
    plant.opened_once("release", "release-approved")


def plain(table: str) -> list[str]:
    """The rows of a table, without times and the widths of its columns."""
    return [re.sub(r" +", " ", AGE.sub("AGE", line)) for line in table.splitlines()]


def masked(body: Json) -> Json:
    """An object without the times in it."""
    text = re.sub(r'"[^"]*T[^"]*:[^"]*Z"', '"then"', json.dumps(body))
    return dict(json.loads(text))


def test_a_request_that_fails_for_its_own_reasons_does_not_move_the_breaker(plant: Rig) -> None:
    plant.policy("invalid", circuitBreaker={"failureThreshold": 1, "openSeconds": FOR_LONG})
    names = plant.at_gates("invalid", 1)
    for number in range(10):
        rules = [manifests.rule("current-stage", "equals", "another")]
        request = plant.request(f"refused-{number}", "invalid", task=names[0], rules=rules)
        plant.home.ask(request)
    for number in range(10):
        plant.came_to(f"refused-{number}", Reason.RULE_FAILED)
    ask(plant, "invalid", names)
    plant.resumed_once(names[0])
    assert plant.breaker("invalid") is None


def test_deleting_a_breaker_resets_it_and_lets_go_who_it_held(plant: Rig) -> None:
    opened(plant, "reset", openSeconds=FOR_LONG)
    (name,) = plant.at_gates("reset", 1)
    ask(plant, "reset", [name])
    plant.came_to(name, Reason.BREAKER_OPEN)
    plant.home.cluster.delete(rig.BREAKER, "reset", plant.home.namespace)
    status = plant.resumed_once(name)
    assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]
    assert plant.breaker("reset") is None


def test_deleting_a_breaker_while_no_operator_runs_resets_it_as_well(plant: Rig) -> None:
    opened(plant, "forgotten", openSeconds=FOR_LONG)
    (name,) = plant.at_gates("forgotten", 1)
    ask(plant, "forgotten", [name])
    plant.came_to(name, Reason.BREAKER_OPEN)
    plant.kill()
    plant.home.cluster.delete(rig.BREAKER, "forgotten", plant.home.namespace)
    plant.start()
    plant.resumed_once(name)


def test_a_breaker_that_somebody_edited_badly_counts_as_closed_and_says_so(plant: Rig) -> None:
    opened(plant, "edited", openSeconds=FOR_LONG)
    (name,) = plant.at_gates("edited", 1)
    ask(plant, "edited", [name])
    plant.came_to(name, Reason.BREAKER_OPEN)
    in_force = {"workflow_namespace": plant.home.namespace, "stage": "edited", "state": "Open"}
    assert plant.operator.metric("resumer_breaker_state", **in_force) == 1
    # The API server knows a year 0, and nobody else does.
    year_0 = {"status": {"openUntilTime": "0000-01-01T00:00:00Z"}}
    plant.home.cluster.patch(
        rig.BREAKER, "edited", plant.home.namespace, year_0, subresource="status"
    )
    plant.resumed_once(name)
    plant.operator.wait_logged("breaker not usable", breaker="edited")
    assert plant.operator.metric("resumer_breaker_state", **in_force) == 0


def test_what_is_in_force_is_measured_after_a_restart_and_after_a_reset(plant: Rig) -> None:
    opened(plant, "measured", openSeconds=FOR_LONG)

    def shown() -> dict[str, float]:
        labels = {"workflow_namespace": plant.home.namespace, "stage": "measured"}
        name = "resumer_breaker_state"
        states = ("Closed", "Open", "HalfOpen")
        return {one: plant.operator.metric(name, state=one, **labels) for one in states}

    assert shown() == {"Closed": 0, "Open": 1, "HalfOpen": 0}
    plant.kill()
    plant.start()
    assert shown() == {"Closed": 0, "Open": 1, "HalfOpen": 0}
    plant.home.cluster.delete(rig.BREAKER, "measured", plant.home.namespace)
    series = f'workflow_namespace="{plant.home.namespace}",stage="measured"'
    waiting.eventually(
        lambda: series not in plant.operator.get("/metrics")[1],
        lambda: f"still measured: {shown()}",
    )


def test_a_probe_whose_answer_was_lost_closes_the_breaker_if_it_was_carried_out(
    plant: Rig,
) -> None:
    opened(plant, "lost", openSeconds=2)
    names = plant.at_gates("lost", 3)
    plant.proxy.on("PATCH", writes("lost"), faults.drop_after)
    ask(plant, "lost", names)
    for name in names:
        plant.resumed_once(name)
    assert plant.breaker_in("lost", "Closed")["consecutiveFailures"] == 0


def test_a_probe_that_the_operator_did_not_survive_keeps_nobody_waiting(plant: Rig) -> None:
    opened(plant, "orphan", openSeconds=2)
    names = plant.at_gates("orphan", 3)
    probe = faults.Hold(after=True)
    plant.proxy.on("PATCH", writes("orphan"), probe)
    ask(plant, "orphan", names)
    probe.wait()
    assert len(plant.breaker_in("orphan", "HalfOpen")["probes"]) == 1
    plant.kill()
    probe.drop()
    plant.start()
    for name in names:
        plant.resumed_once(name)
    plant.breaker_in("orphan", "Closed")


def test_a_breaker_that_cannot_be_written_opens_all_the_same(plant: Rig) -> None:
    plant.policy(
        "unstored",
        retry={"maxAttempts": 1},
        circuitBreaker={"failureThreshold": 2, "openSeconds": FOR_LONG},
    )
    names = plant.at_gates("unstored", 3)
    broken = plant.proxy.on("PATCH", "/workflowresumebreakers/unstored/status", faults.drop_before)
    with plant.proxy.on("PATCH", writes("unstored"), faults.answer(503), times=None) as sick:
        for name in names[:2]:
            ask(plant, "unstored", [name])
            plant.came_to(name, Reason.RETRIES_EXHAUSTED)
        ask(plant, "unstored", names[2:])
        plant.came_to(names[2], Reason.BREAKER_OPEN)
        assert sick.hits == 2
    assert broken.hits == 1
