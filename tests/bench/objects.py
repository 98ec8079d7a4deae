"""The objects that are measured with: Workflows that wait at a gate, and requests to open it.

A Workflow is what Argo's controller would have made of it: its status is there when it is created,
for Workflows have no status subresource. One gate is open; the other nodes are pods that have
succeeded, each with the fields and about the size (600 bytes) that they have in a real one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

Json = dict[str, Any]

API_VERSION = "argoproj.io/v1alpha1"
STAGE = "waiting-pr-created"
EVENT_TYPE = "pr-created"

_STARTED = "2026-01-05T10:00:00Z"
_FINISHED = "2026-01-05T10:01:00Z"
# The workflow itself, its root node and its gate.
_RUNNING_BEFORE = 3
_RUNNING = b'"phase":"Running"'
_NAME = b'"name":"'


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """What belongs together, made from one number."""

    number: int

    @property
    def workflow(self) -> str:
        return f"bench-workflow-{self.number:06}"

    @property
    def request(self) -> str:
        return f"bench-request-{self.number:06}"

    @property
    def task(self) -> str:
        return f"7{self.number:07}"


def workflow(names: Names, nodes: int) -> Json:
    """A Workflow with one open gate.

    Arguments:
        names: whose Workflow
        nodes: in its status, the gate and the root of the tree among them
    """
    name = names.workflow
    done = [f"{name}-{1_000_000_000 + number}" for number in range(nodes - 2)]
    gate = f"{name}-4222222222"
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {
            "name": name,
            "labels": {
                "workflow-type": "play-orchestration",
                "task-id": names.task,
                "current-stage": STAGE,
                "workflows.argoproj.io/phase": "Running",
            },
            "annotations": {"workflows.argoproj.io/pod-name-format": "v2"},
        },
        "spec": _spec(),
        "status": {
            "phase": "Running",
            "progress": f"{len(done)}/{len(done) + 1}",
            "startedAt": _STARTED,
            "finishedAt": None,
            "conditions": [{"type": "PodRunning", "status": "False"}],
            "nodes": {
                name: _root(name, [*done, gate]),
                **{node: _pod(name, node, index) for index, node in enumerate(done)},
                gate: _gate(name, gate),
            },
        },
    }


def request(names: Names) -> Json:
    """A WorkflowResume that opens the gate, as a webhook's would: by labels, with rules."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowResume",
        "metadata": {"name": names.request},
        "spec": {
            "labelSelector": f"workflow-type=play-orchestration,current-stage={STAGE}",
            "correlationData": {
                "taskId": names.task,
                "eventType": EVENT_TYPE,
                "githubEvent": {
                    "action": "opened",
                    "pullRequestNumber": "123",
                    "labels": [f"task-{names.task}"],
                },
            },
            "validationRules": [
                {"field": "task-id", "operator": "equals", "value": names.task},
                {
                    "field": "pull_request.labels[].name",
                    "operator": "regex",
                    "value": f"^task-{names.task}$",
                },
            ],
            "resumeParameters": [{"name": "pr-number", "value": "123"}],
        },
    }


def opened(event: bytes) -> str | None:
    """The name of the Workflow whose gate an event of a watch shows as open; None for any other.

    The line is not parsed: for a Workflow of 50 nodes that would take the driver longer than a
    floor takes to make a write.

    Arguments:
        event: a line of the watch, in the compact JSON of the API server, whose keys are sorted
    """
    if not event.startswith(b'{"type":"MODIFIED"') or event.count(_RUNNING) >= _RUNNING_BEFORE:
        return None
    # Before metadata.name there may be one of a field in managedFields, none of which has this key.
    begin = event.index(_NAME) + len(_NAME)
    return event[begin : event.index(b'"', begin)].decode()


def _spec() -> Json:
    return {
        "entrypoint": "main",
        "serviceAccountName": "workflow",
        "templates": [
            {
                "name": "main",
                "steps": [
                    [{"name": "build", "template": "build", "withSequence": {"count": "48"}}],
                    [{"name": "wait-pr-created", "template": "gate"}],
                ],
            },
            {
                "name": "build",
                "inputs": {"parameters": [{"name": "part"}]},
                "container": {
                    "image": "example.org/build:1",
                    "command": ["build"],
                    "args": ["--part", "{{inputs.parameters.part}}"],
                },
            },
            {
                "name": "gate",
                "suspend": {},
                "outputs": _supplied(),
            },
        ],
    }


def _root(name: str, children: list[str]) -> Json:
    return {
        "id": name,
        "name": name,
        "displayName": name,
        "type": "Steps",
        "templateName": "main",
        "templateScope": f"local/{name}",
        "phase": "Running",
        "progress": "1/2",
        "startedAt": _STARTED,
        "finishedAt": None,
        "children": children,
    }


def _pod(name: str, node: str, index: int) -> Json:
    return {
        "id": node,
        "name": f"{name}[0].build({index}:{index})",
        "displayName": f"build({index}:{index})",
        "type": "Pod",
        "boundaryID": name,
        "templateName": "build",
        "templateScope": f"local/{name}",
        "phase": "Succeeded",
        "progress": "1/1",
        "startedAt": _STARTED,
        "finishedAt": _FINISHED,
        "hostNodeName": "worker-1.example.org",
        "resourcesDuration": {"cpu": 12, "memory": 240},
        "inputs": {"parameters": [{"name": "part", "value": str(index)}]},
        "outputs": {
            "exitCode": "0",
            "artifacts": [{"name": "main-logs", "s3": {"key": f"{name}/{node}/main.log"}}],
        },
    }


def _gate(name: str, node: str) -> Json:
    return {
        "id": node,
        "name": f"{name}[1].wait-pr-created",
        "displayName": "wait-pr-created",
        "type": "Suspend",
        "boundaryID": name,
        "templateName": "gate",
        "templateScope": f"local/{name}",
        "phase": "Running",
        "startedAt": _FINISHED,
        "finishedAt": None,
        "outputs": _supplied(),
    }


def _supplied() -> Json:
    """What the gate takes: the values that the shipped Sensor of Argo Events sends."""
    return {
        "parameters": [
            {"name": "pr-number", "valueFrom": {"supplied": {}, "default": "0"}},
            {"name": "pr-url", "valueFrom": {"supplied": {}, "default": "none"}},
        ]
    }
