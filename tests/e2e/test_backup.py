"""What the page about operating says of a backup: what a restored request does, and what it lacks.

A restored object is a new one: it has another uid, and no status, since the API server drops what
is created together with the object.
"""

from __future__ import annotations

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.home import Home
from tests.e2e.support.rig import BREAKER

pytestmark = pytest.mark.usefixtures("operator")


def two_gates(name: str) -> m.Json:
    """A Workflow with two gates, one after the other."""
    steps = m.steps(m.step("first", "gate"), m.step("second", "gate"))
    return m.workflow(name, steps, m.gate("gate"), task=name)


def taken(home: Home, kind: str, name: str) -> m.Json:
    """An object as a backup has it: without what only the cluster knows."""
    body = home.cluster.get(kind, name, home.namespace)
    kept = ("name", "labels", "annotations")
    found = {key: value for key, value in body["metadata"].items() if key in kept}
    return {**body, "metadata": found}


def lost(home: Home, kind: str, name: str) -> None:
    """Deletes an object, and waits until it is gone."""
    home.cluster.delete(kind, name, home.namespace)
    home.cluster.wait_gone(kind, name, home.namespace, homes.TIMEOUT)


def resumed(home: Home, name: str) -> tuple[m.Json, m.Json]:
    """A backup of a Workflow at its second gate, and of the request that has opened the first."""
    home.submit(two_gates(name))
    home.ask(m.resume(name, task=name, event_type="approved"))
    home.resumed(name)
    home.at_gate(name, "second")
    return taken(home, homes.WORKFLOW, name), taken(home, homes.RESUME, name)


def test_a_request_that_is_restored_alone_finds_that_it_was_carried_out(home: Home) -> None:
    _, request = resumed(home, "alone")
    lost(home, homes.RESUME, "alone")
    home.ask(request)
    home.came_to("alone", Reason.STAGE_ALREADY_RESUMED)
    assert list(homes.open_gates(home.workflow("alone"))) == ["second"]


def test_a_request_that_is_restored_with_its_workflow_is_carried_out_on_that_anew(
    home: Home,
) -> None:
    """The marker is of the lost Workflow: that is why requests do not belong into a backup."""
    workflow, request = resumed(home, "both")
    lost(home, homes.RESUME, "both")
    lost(home, homes.WORKFLOW, "both")
    home.ask(workflow)
    home.at_gate("both", "second")
    home.ask(request)
    assert "second" in home.resumed("both")["message"]


def test_a_policy_that_is_restored_is_judged_anew_and_has_no_last_valid_version(
    home: Home,
) -> None:
    home.ask(m.policy("kept", {"name": "s", "eventTypes": ["e"]}, matches={"kept": "yes"}))

    def valid(wanted: str) -> m.Json:
        body = home.cluster.wait_for(
            homes.POLICY,
            "kept",
            home.namespace,
            lambda body: any(
                one["type"] == "Valid" and one["status"] == wanted
                for one in body.get("status", {}).get("conditions", ())
            ),
            homes.TIMEOUT,
            describe=f"Valid={wanted}",
        )
        status: m.Json = body["status"]
        return status

    valid("True")
    stage = {"name": "s", "eventTypes": ["e"], "nodeFieldSelector": "gate=1"}
    home.cluster.patch(homes.POLICY, "kept", home.namespace, {"spec": {"stages": [stage]}})
    assert "lastValidSpec" in valid("False")
    policy = taken(home, homes.POLICY, "kept")
    lost(home, homes.POLICY, "kept")
    home.ask(policy)
    assert "lastValidSpec" not in valid("False")


def test_a_breaker_that_is_restored_is_closed(home: Home) -> None:
    breaker = {
        "apiVersion": m.API_VERSION,
        "kind": "WorkflowResumeBreaker",
        "metadata": {"name": "restored"},
        "spec": {"stage": "restored"},
        "status": {"state": "Open", "openUntilTime": "2126-01-01T00:00:00Z"},
    }
    home.ask(breaker)
    assert "status" not in home.cluster.get(BREAKER, "restored", home.namespace)
