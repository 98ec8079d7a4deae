"""The writes to Workflows under both flavours of Argo's CRDs: with full schemas and with none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import step

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture(scope="module", params=["cluster", "minimal_cluster"])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    """A namespace of a cluster of the flavour."""
    with homes.new(request.getfixturevalue(request.param)) as made:
        yield made


def test_a_gate_opens_with_its_values_and_the_rest_of_the_workflow_stays_as_it_was(
    home: Home,
) -> None:
    given = {"number": "1", "text": 'a "b"\nc'}
    seen = {name: f"{{{{tasks.one.outputs.parameters.{name}}}}}" for name in (*given, "left")}
    before = home.submit(
        manifests.workflow(
            "values",
            manifests.dag(
                step("one", "one"),
                step("two", "gate"),
                step("after", "witness", depends="one", arguments=seen),
            ),
            manifests.gate("one", "number", "text", defaults={"left": "default"}),
            manifests.gate(),
            manifests.witness(*seen),
            task="121",
        ),
        gates=2,
    )
    chosen = "templateName=one"
    home.ask(manifests.resume("values", task="121", nodeFieldSelector=chosen, parameters=given))
    home.resumed("values")
    after = home.past("values", "after")
    assert homes.inputs(after, "after") == {**given, "left": "default"}
    assert homes.node(after, "two") == homes.node(before, "two")
    assert after["spec"] == before["spec"]
    assert after["status"]["startedAt"] == before["status"]["startedAt"]


def test_a_workflow_suspended_as_a_whole_goes_on(home: Home) -> None:
    home.cluster.create(
        manifests.workflow(
            "whole",
            manifests.steps(step("work", "witness")),
            manifests.witness(),
            task="122",
            suspend=True,
        ),
        home.namespace,
    )
    home.ask(manifests.resume("whole", task="122"))
    home.came_to("whole", Reason.WORKFLOW_UNSUSPENDED)
    home.ended("whole")


def test_several_gates_open_in_one_write(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "several",
            manifests.steps(step("many", "gate", withItems=[1, 2, 3])),
            manifests.gate(),
            task="123",
        ),
        gates=3,
    )
    home.ask(manifests.resume("several", task="123", allGates=True))
    assert len(home.resumed("several")["workflow"]["nodes"]) == 3
    home.ended("several")


def test_duplicates_open_nothing_more(home: Home) -> None:
    home.submit(manifests.two_gates("twice", "124"))
    names = [f"twice-{number}" for number in range(10)]
    home.ask(*(manifests.resume(name, task="124") for name in names))
    home.at_gate("twice", "second")
    outcomes = [home.decided(name)["outcome"] for name in names]
    assert sorted(outcomes) == ["AlreadyResumed"] * 9 + ["Resumed"]
    assert list(homes.open_gates(home.workflow("twice"))) == ["second"]


def test_a_workflow_without_any_annotation_takes_the_marker(home: Home) -> None:
    """Argo sets one, and without it does not go on: only the write is looked at here."""
    home.submit(manifests.workflow("bare", task="125"))
    home.cluster.patch(homes.WORKFLOW, "bare", home.namespace, {"metadata": {"annotations": None}})
    home.ask(manifests.resume("bare", task="125"))
    home.resumed("bare")
    annotations = home.workflow("bare")["metadata"]["annotations"]
    assert list(annotations) == [f"stage.resumer.argoproj.io/{manifests.PR_CREATED}"]
