"""Workflows written by hand as Argo's controller would have left them, where none is at work."""

from __future__ import annotations

from typing import Any

from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

STARTED = "2025-01-02T03:04:05Z"


def standing(name: str) -> Json:
    """A Workflow as Argo would have left it at its one gate."""
    body = manifests.workflow(
        name,
        manifests.steps(manifests.step("wait", "gate")),
        manifests.gate("gate", "answer"),
        task=name,
    )
    body["metadata"]["annotations"] = {"example.com/note": "theirs"}
    body["status"] = {
        "phase": "Running",
        "startedAt": STARTED,
        "nodes": {
            name: {
                "id": name,
                "name": name,
                "displayName": name,
                "type": "Steps",
                "phase": "Running",
                "startedAt": STARTED,
                "templateName": "main",
                "templateScope": f"local/{name}",
                "children": [f"{name}-1"],
            },
            f"{name}-1": {
                "id": f"{name}-1",
                "name": f"{name}[0].wait",
                "displayName": "wait",
                "type": "Suspend",
                "phase": "Running",
                "startedAt": STARTED,
                "boundaryID": name,
                "templateName": "gate",
                "templateScope": f"local/{name}",
                "outputs": {"parameters": [{"name": "answer", "valueFrom": {"supplied": {}}}]},
            },
        },
    }
    return body


def asks(name: str, suffix: str = "", **spec: Any) -> Json:
    """A request that would open the gate of the standing workflow."""
    return manifests.resume(f"{name}{suffix}", name, task=name, parameters={"answer": "42"}, **spec)


def still_works(home: Home, name: str) -> None:
    """The operator resumes the next workflow."""
    home.cluster.create(standing(name), home.namespace)
    home.ask(asks(name))
    home.resumed(name)
    opened = homes.node(home.workflow(name), "wait")
    assert opened["phase"] == "Succeeded"
    assert homes.outputs(home.workflow(name), "wait") == {"answer": "42"}
