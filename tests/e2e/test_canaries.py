"""The page on upgrading: a part of the workflows follows a changed policy, a Sensor is a shadow."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from resumer.api.outcomes import Reason
from tests.e2e.support import commands, manifests, pages, process
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

PAGE = "docs/upgrading.md"
FIRST, SECOND = "first", "second"
"""The two gates of a workflow, which are open at the same time."""

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(240)]


def shown(heading: str) -> list[Json]:
    """The objects below a heading of the page."""
    return [
        yaml.safe_load(block.text)
        for block in pages.blocks(PAGE)
        if block.chapter == heading and block.language == "yaml"
    ]


@pytest.fixture
def policies(home: Home) -> tuple[Json, Json]:
    """The policy of the page, applied, and its canary, which is not yet."""
    policy, canary = shown("Canary of a policy")
    for name in (policy["metadata"]["name"], canary["metadata"]["name"]):
        home.cluster.delete(homes.POLICY, name, home.namespace, missing_ok=True)
    apply(home, policy)
    return policy, canary


def apply(home: Home, policy: Json) -> None:
    """Applies a policy, and waits until the operator has taken it in."""
    home.cluster.apply(policy, home.namespace)
    name = policy["metadata"]["name"]
    written = home.cluster.get(homes.POLICY, name, home.namespace)
    home.taken_in(name, written["metadata"]["generation"])


def workflow(name: str, *, track: str = "") -> Json:
    """One that the page's policy is for, with two gates open at a time."""
    gates = [manifests.step(one, "gate") for one in (FIRST, SECOND)]
    chosen = {"workflow-type": "release", **({"track": track} if track else {})}
    main = manifests.steps(gates)
    return manifests.workflow(
        name, main, manifests.gate(), task=name, stage="review", labels=chosen
    )


def ask(home: Home, name: str, request: str = "", **spec: Any) -> None:
    """Asks to resume a workflow, as the Sensor of the page does."""
    home.ask(manifests.resume(request or name, name, task=name, event_type="reviewed", **spec))


def policy_of(home: Home, name: str) -> str:
    """The policy by which a request has opened its gate."""
    return str(home.resumed(name)["policy"]["name"])


def left_open(home: Home, name: str) -> Sequence[str]:
    """The gates of a workflow that are still open."""
    return list(homes.open_gates(home.workflow(name)))


def test_one_of_several_workflows_follows_the_canary_until_all_do(
    home: Home, policies: tuple[Json, Json]
) -> None:
    policy, canary = policies
    apply(home, canary)
    for name, track in (("one", ""), ("two", "canary"), ("three", "")):
        home.submit(workflow(name, track=track), gates=2)
        ask(home, name)
    assert [policy_of(home, name) for name in ("one", "two", "three")] == [
        "review",
        "review-canary",
        "review",
    ]
    assert [left_open(home, name) for name in ("one", "two", "three")] == [
        [SECOND],
        [FIRST],
        [SECOND],
    ]

    # Two requests wait while it is promoted, in the order of the page.
    for name in ("plain", "chosen"):
        ask(home, name, deadlineSeconds=3600)
        home.came_to(name, Reason.WORKFLOW_NOT_FOUND)
    apply(home, {**policy, "spec": {**policy["spec"], "stages": canary["spec"]["stages"]}})
    home.cluster.delete(homes.POLICY, canary["metadata"]["name"], home.namespace)
    for name, track in (("plain", ""), ("chosen", "canary")):
        home.cluster.create(workflow(name, track=track), home.namespace)
        assert policy_of(home, name) == "review"
        assert left_open(home, name) == [FIRST]


def test_a_canary_that_is_deleted_gives_its_workflows_back(
    home: Home, policies: tuple[Json, Json]
) -> None:
    _, canary = policies
    # It asks for a gate that no workflow has: its requests wait in vain.
    broken = {**canary["spec"]["stages"][0], "nodeFieldSelector": "displayName=third"}
    apply(home, {**canary, "spec": {**canary["spec"], "stages": [broken]}})
    home.submit(workflow("stuck", track="canary"), gates=2)
    home.submit(workflow("fine"), gates=2)
    for name in ("stuck", "fine"):
        ask(home, name, deadlineSeconds=3600)
    assert policy_of(home, "fine") == "review"
    assert home.came_to("stuck", Reason.GATE_NOT_OPEN)["policy"]["name"] == "review-canary"
    home.cluster.delete(homes.POLICY, "review-canary", home.namespace)
    assert policy_of(home, "stuck") == "review"
    assert left_open(home, "stuck") == [SECOND]


def test_a_sensor_that_is_a_shadow_tells_what_it_would_do_and_does_nothing(
    home: Home, policies: tuple[Json, Json], operator: process.Operator, tmp_path: pathlib.Path
) -> None:
    home.submit(workflow("seen"), gates=2)
    # The new Sensor's requests choose the gate by themselves.
    selector = f"displayName={SECOND}"
    ask(home, "seen", "seen-new", nodeFieldSelector=selector, dryRun=True)
    told = home.came_to("seen-new", Reason.WOULD_RESUME)
    assert [one["displayName"] for one in told["workflow"]["nodes"]] == [SECOND]
    assert set(left_open(home, "seen")) == {FIRST, SECOND}
    ask(home, "seen", "seen-old")
    assert policy_of(home, "seen-old") == "review"
    assert left_open(home, "seen") == [SECOND]
    assert operator.alive
    # And so they are compared, as the page tells.
    shell = commands.shell(home, tmp_path)
    for one in commands.of(commands.Trier.CANARIES):
        table = shell.type(one.text.replace("team-a", home.namespace)).splitlines()
        rows = {tuple(line.split()) for line in table}
        assert ("NAME", "TASK", "OUTCOME", "REASON") in rows
        assert ("seen-new", "seen", "DryRun", str(Reason.WOULD_RESUME)) in rows
        assert ("seen-old", "seen", "Resumed", str(Reason.GATE_OPENED)) in rows
