"""Many requests at once: each gate opens once, for one of them, and all the others are told."""

from __future__ import annotations

import collections
import concurrent.futures
import time
from collections.abc import Callable, Sequence

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

pytestmark = pytest.mark.usefixtures("operator")

MANY = 100


def ask_at_once(home: Home, requests: Sequence[Json]) -> None:
    """Creates requests from several threads at the same time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(home.ask, requests))


def reasons(home: Home, task: str, count: int) -> collections.Counter[str]:
    """The reasons of all requests of a task, as soon as so many have ended."""
    deadline = time.monotonic() + 2 * homes.TIMEOUT
    while True:
        late = time.monotonic() > deadline
        statuses = [
            one.get("status", {})
            for one in home.cluster.list_all(homes.RESUME, home.namespace)
            if one["spec"]["correlationData"]["taskId"] == task
        ]
        ended = [one for one in statuses if one.get("phase") in ("Succeeded", "Failed")]
        if len(ended) == count:
            return collections.Counter(one["reason"] for one in ended)
        assert not late, collections.Counter(one.get("reason") for one in statuses)
        time.sleep(0.2)


def before(home: Home, name: str, task: str) -> None:
    """The gate is open when the requests come."""
    home.submit(manifests.two_gates(name, task))
    ask_at_once(home, [manifests.resume(f"{name}-{n}", task=task) for n in range(MANY)])


def afterwards(home: Home, name: str, task: str) -> None:
    """All requests wait when the gate opens, which wakes them in the same moment."""
    requests = [manifests.resume(f"{name}-{n}", task=task) for n in range(MANY)]
    ask_at_once(home, requests)
    for request in requests:
        home.came_to(request["metadata"]["name"], Reason.WORKFLOW_NOT_FOUND)
    home.cluster.create(manifests.two_gates(name, task), home.namespace)


@pytest.mark.parametrize("order", [before, afterwards], ids=["gate-first", "requests-first"])
def test_of_a_hundred_requests_for_one_gate_one_opens_it(
    home: Home, order: Callable[[Home, str, str], None]
) -> None:
    name = f"hundred-{order.__name__}"
    order(home, name, name)
    assert reasons(home, name, MANY) == {
        Reason.GATE_OPENED: 1,
        Reason.STAGE_ALREADY_RESUMED: MANY - 1,
    }
    assert list(homes.open_gates(home.at_gate(name, "second"))) == ["second"]


def test_the_gates_of_twenty_workflows_open_at_once_each_for_its_own_request(home: Home) -> None:
    names = [f"twenty-{number}" for number in range(20)]
    for name in names:
        home.cluster.create(manifests.two_gates(name, name), home.namespace)
    for name in names:
        home.at_gate(name, "first")
    ask_at_once(home, [manifests.resume(name, task=name) for name in names])
    for name in names:
        assert home.resumed(name)["workflow"]["name"] == name
        assert list(homes.open_gates(home.at_gate(name, "second"))) == ["second"]


@pytest.mark.timeout(300)
def test_twenty_gates_of_one_workflow_open_at_once_each_for_its_own_request(home: Home) -> None:
    """Twenty writes of one object may take a slow API server longer than a call may take."""
    ours = {"repeats": "twenty"}
    stage = {
        "name": manifests.PR_CREATED,
        "eventTypes": ["pr-created"],
        "repeatable": True,
        "retry": {"strategy": "Fixed", "baseSeconds": 1, "maxAttempts": 20},
        "circuitBreaker": {"failureThreshold": 100},
    }
    home.govern(manifests.policy("twenty", stage, matches=ours))
    numbers = range(20)
    home.submit(
        manifests.workflow(
            "wide",
            manifests.steps(
                step("many", "gate", arguments={"number": "{{item}}"}, withItems=list(numbers))
            ),
            manifests.gate("gate", "answer", inputs=["number"]),
            task="101",
            labels=ours,
        ),
        gates=20,
    )
    ask_at_once(
        home,
        [
            manifests.resume(
                f"wide-{number}",
                task="101",
                nodeFieldSelector=f"inputs.parameters.number.value={number}",
                parameters={"answer": f"of {number}"},
            )
            for number in numbers
        ],
    )
    for number in numbers:
        home.resumed(f"wide-{number}")
    body = home.ended("wide")
    for number in numbers:
        gate = f"many({number}:{number})"
        assert homes.outputs(body, gate) == {"answer": f"of {number}"}
        assert f"workflowresume/wide-{number} " in homes.node(body, gate)["message"]


def test_a_workflow_created_anew_under_its_name_is_another_workflow(home: Home) -> None:
    """Its node ids are the same, and its gate is none that was opened before."""
    for turn in ("one", "two"):
        home.submit(manifests.two_gates("again", "102"))
        home.ask(manifests.resume(f"again-{turn}", task="102"))
        home.resumed(f"again-{turn}")
        home.at_gate("again", "second")
        home.ask(manifests.resume(f"again-{turn}-more", task="102"))
        status = home.came_to(f"again-{turn}-more", Reason.STAGE_ALREADY_RESUMED)
        assert status["resumedBy"] == f"workflowresume/again-{turn}"
        home.cluster.delete(homes.WORKFLOW, "again", home.namespace)
        home.cluster.wait_gone(homes.WORKFLOW, "again", home.namespace, homes.TIMEOUT)


def test_a_copy_of_a_workflow_with_all_its_annotations_is_another_workflow(home: Home) -> None:
    """As `argo resubmit` makes it."""
    home.submit(manifests.two_gates("original", "103"))
    home.ask(manifests.resume("original", task="103"))
    home.resumed("original")
    annotations = home.workflow("original")["metadata"]["annotations"]
    home.cluster.delete(homes.WORKFLOW, "original", home.namespace)
    home.cluster.wait_gone(homes.WORKFLOW, "original", home.namespace, homes.TIMEOUT)
    copied = manifests.two_gates("copy", "103")
    copied["metadata"]["annotations"] = annotations
    home.submit(copied)
    home.ask(manifests.resume("copy", task="103"))
    assert home.resumed("copy")["workflow"]["name"] == "copy"
