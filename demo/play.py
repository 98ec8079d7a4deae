"""The play itself: what people and GitHub do, one scene after the other, and what must come of it.

Each scene acts, waits for the state that proves it, and tells it. A state that does not come within
the deadline ends the demo with an `AssertionError` that shows the last one seen.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import yaml

from demo import account, operation, templates
from tests.controlplane import client

NAMESPACE = "play"
WORKFLOW = "play-workflow"

_TIMEOUT = 60.0
_GATES = ("wait-for-pr-created", "wait-for-ready-for-qa", "wait-for-pr-approved")
_FINAL = ("Succeeded", "Failed")


class Play:
    """One task of one agent team, from its workflow's first step to its last.

    Arguments:
        cluster: where it happens; the operator works in `NAMESPACE` of it
        operator: not started yet
        teller: of what happens
    """

    def __init__(
        self, cluster: client.Cluster, operator: operation.Operator, teller: account.Account
    ) -> None:
        self._cluster = cluster
        self._operator = operator
        self._tell = teller
        self._told: set[tuple[str, str]] = set()

    def perform(self) -> None:
        """All scenes.

        Raises:
            AssertionError: something did not come out as it must
            client.ApiError: the API server refused something
            operation.OperatorFailed: the operator ended, or did not start
        """
        self._set_the_stage()
        self._label_comes_too_early()
        self._pull_request_is_opened()
        self._event_is_delivered_twice()
        self._label_was_waiting()
        self._somebody_else_approves()
        self._operator_fails()
        self._workflow_ends()

    def _set_the_stage(self) -> None:
        self._tell.scene("The operator starts, and a workflow with three gates")
        self._cluster.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )
        self._operator.start()
        self._tell.typed(self._operator.command, "ready")
        self._apply(templates.manifest("policy"), "policy.yaml")
        self._apply(templates.manifest(WORKFLOW), f"{WORKFLOW}.yaml")
        self._tell.note("Rex begins to implement task 5; the first gate is not open yet.")

    def _label_comes_too_early(self) -> None:
        self._tell.scene("An event comes too early")
        self._tell.event("GitHub, out of order: pull request 123 was labeled ready-for-qa")
        self._request("resume-after-ready-for-qa")
        self._answer("resume-after-ready-for-qa", "Waiting", "StageNotReached")
        self._tell.note("`argo resume` would have reported success here, and lost the event.")

    def _pull_request_is_opened(self) -> None:
        self._tell.scene("Rex has opened a pull request")
        self._await_gate(_GATES[0])
        self._tell.event("GitHub: pull request 123 was opened")
        self._request("resume-after-pr-created")
        self._compare(self._answer("resume-after-pr-created", "Resumed", "GateOpened"))
        self._await_opened(_GATES[0], "resume-after-pr-created")
        self._await_values("cleo-quality")

    def _event_is_delivered_twice(self) -> None:
        self._tell.scene("GitHub delivers the same event again")
        self._request("resume-after-pr-created", rename="resume-after-pr-created-again")
        self._answer("resume-after-pr-created-again", "AlreadyResumed", "StageAlreadyResumed")

    def _label_was_waiting(self) -> None:
        self._tell.scene("Cleo is done: the early event opens its gate")
        self._answer("resume-after-ready-for-qa", "Resumed", "GateOpened")
        self._tell.note("It waited in the cluster, and nobody had to send it again.")
        self._await_opened(_GATES[1], "resume-after-ready-for-qa")
        self._await_values("tess-testing")

    def _somebody_else_approves(self) -> None:
        self._tell.scene("Somebody approves who may not")
        self._await_gate(_GATES[2])
        self._tell.event("GitHub: mallory approved pull request 123")
        name = "resume-after-pr-approved-by-mallory"
        self._request("resume-after-pr-approved", sender="mallory", rename=name)
        self._compare(self._answer(name, "Rejected", "RuleFailed"))
        if self._node(self._workflow(), _GATES[2])["phase"] != "Running":
            raise AssertionError(f"gate {_GATES[2]} is not suspended any more")
        self._tell.workflow(f"gate {_GATES[2]} is still shut")

    def _operator_fails(self) -> None:
        self._tell.scene("The operator is killed while Tess approves")
        self._operator.kill()
        self._tell.typed("kill -9 <the operator>", "killed")
        self._tell.event("GitHub: 5DLabs-Tess[bot] approved pull request 123")
        self._request("resume-after-pr-approved", sender="5DLabs-Tess[bot]")
        request = self._cluster.get("WorkflowResume", "resume-after-pr-approved", NAMESPACE)
        if "outcome" in request.get("status", {}):
            raise AssertionError(f"somebody answered a request: {request['status']}")
        self._tell.note("Nobody answers: the request is stored in the cluster and has no status.")
        self._operator.start()
        self._tell.typed(self._operator.command, "ready")
        self._compare(self._answer("resume-after-pr-approved", "Resumed", "GateOpened"))
        self._await_opened(_GATES[2], "resume-after-pr-approved")
        self._await_values("merge")

    def _workflow_ends(self) -> None:
        self._tell.scene("The workflow has ended")
        found = self._cluster.wait_for(
            "Workflow",
            WORKFLOW,
            NAMESPACE,
            lambda workflow: workflow.get("status", {}).get("phase") in (*_FINAL, "Error"),
            _TIMEOUT,
            describe="finished",
        )
        phase = found["status"]["phase"]
        self._tell.state(f"workflow {WORKFLOW}", phase)
        if phase != "Succeeded":
            raise AssertionError(
                f"workflow {WORKFLOW} is {phase}: {found['status'].get('message')}"
            )
        for gate in _GATES:
            self._tell.state(f"gate {gate}", str(self._node(found, gate)["message"]))
        for request in self._cluster.list_all("WorkflowResume", NAMESPACE):
            status = request["status"]
            name = request["metadata"]["name"]
            self._tell.state(f"request {name}", f"{status['outcome']} ({status['reason']})")

    def _apply(self, manifest: str, file: str) -> None:
        answer = self._cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=manifest)
        self._tell.typed(f"kubectl -n {NAMESPACE} apply -f {file}", answer)

    def _request(self, template: str, *, sender: str = "", rename: str = "") -> None:
        """Creates a WorkflowResume, as a Sensor would.

        Arguments:
            template: its manifest
            sender: who caused the event; without it the event does not say
            rename: another name for it
        """
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        values = {
            "extracted-task-id": "5",
            "pr-number": "123",
            "pr-url": "https://github.com/5dlabs/play/pull/123",
            "review-id": "88001",
            "event-timestamp": now.isoformat().replace("+00:00", "Z"),
        }
        document = templates.filled(template, values)
        document["metadata"]["name"] = rename or template
        if sender:
            document["spec"]["correlationData"]["githubEvent"]["sender"] = sender
        self._apply(yaml.safe_dump(document), f"{rename or template}.yaml")

    def _answer(self, name: str, outcome: str, reason: str) -> dict[str, Any]:
        """Waits for the operator's answer to a request, tells it and returns the status."""

        def answered(request: Mapping[str, Any]) -> bool:
            status = request.get("status", {})
            return status.get("outcome") == outcome or status.get("phase") in _FINAL

        request = self._cluster.wait_for(
            "WorkflowResume", name, NAMESPACE, answered, _TIMEOUT, describe=outcome
        )
        status: dict[str, Any] = request["status"]
        # What it said on the way there, as the log tells.
        for line in self._operator.lines():
            if line.get("event") == "decided" and line.get("workflowresume") == name:
                self._tell_answer(name, line)
        self._tell_answer(name, status)
        if (status["outcome"], status["reason"]) != (outcome, reason):
            raise AssertionError(
                f"WorkflowResume {name} came to {status['outcome']} ({status['reason']}), "
                f"and not to {outcome} ({reason}): {status['message']}"
            )
        return status

    def _tell_answer(self, name: str, answer: Mapping[str, Any]) -> None:
        if (name, answer["reason"]) not in self._told:
            self._told.add((name, answer["reason"]))
            self._tell.operator(answer["outcome"], answer["reason"], answer["message"])

    def _compare(self, status: Mapping[str, Any]) -> None:
        for check in status["checks"]:
            self._tell.compared(check)

    def _workflow(self) -> dict[str, Any]:
        return self._cluster.get("Workflow", WORKFLOW, NAMESPACE)

    def _await_node(self, step: str, phases: tuple[str, ...], describe: str) -> dict[str, Any]:
        found = self._cluster.wait_for(
            "Workflow",
            WORKFLOW,
            NAMESPACE,
            lambda workflow: self._node(workflow, step).get("phase") in phases,
            _TIMEOUT,
            describe=f"at the point where {describe}",
        )
        return self._node(found, step)

    def _await_gate(self, gate: str) -> None:
        self._await_node(gate, ("Running",), f"gate {gate} waits")
        self._tell.workflow(f"suspended at gate {gate}")

    def _await_opened(self, gate: str, by: str) -> None:
        node = self._await_node(gate, ("Succeeded",), f"gate {gate} is open")
        if f"workflowresume/{by} " not in f"{node.get('message', '')} ":
            raise AssertionError(f"gate {gate} was opened by {node.get('message')!r}, not by {by}")
        labels = self._workflow()["metadata"]["labels"]
        self._tell.workflow(f"gate {gate} opened, current-stage is {labels['current-stage']}")

    def _await_values(self, step: str) -> None:
        node = self._await_node(step, ("Running", "Succeeded"), f"step {step} has begun")
        arrived = ", ".join(f"{one['name']}={one['value']}" for one in node["inputs"]["parameters"])
        self._tell.workflow(f"step {step} has begun with {arrived}")

    def _node(self, workflow: Mapping[str, Any], step: str) -> dict[str, Any]:
        """The node of a step, empty before it is there."""
        nodes = workflow.get("status", {}).get("nodes") or {}
        return next((node for node in nodes.values() if node["displayName"] == step), {})
