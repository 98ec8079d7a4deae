"""A namespace and what a user does in it: submit a workflow, ask for a resume, look what came."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import json
import pathlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resumer.api import outcomes
from tests.controlplane import client, launcher, shared
from tests.e2e.support import rights, waiting
from tests.e2e.support.manifests import Json

WORKFLOW = "argoproj.io/v1alpha1/Workflow"
RESUME = "argoproj.io/v1alpha1/WorkflowResume"
POLICY = "argoproj.io/v1alpha1/WorkflowResumePolicy"

TIMEOUT = waiting.TIMEOUT
"""Seconds for anything that should take one: the cores are shared."""

_TERMINAL = {str(outcome) for outcome in outcomes.Outcome if outcome.terminal}


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """A namespace of a cluster; an operator is at work in it."""

    cluster: client.Cluster
    namespace: str

    def account(self, *others: str) -> pathlib.Path:
        """A kubeconfig of an operator that may work here, and in others, and nothing else."""
        return rights.account(self.cluster, self.namespace, others)

    def submit(self, workflow: Mapping[str, Any], *, gates: int = 1) -> Json:
        """Creates a Workflow and waits until so many of its gates are open; returns it then."""
        self.cluster.create(workflow, self.namespace)
        return self.at_gate(workflow["metadata"]["name"], count=gates)

    def at_gate(self, name: str, *gates: str, count: int = 1) -> Json:
        """The Workflow, as soon as the gates of these display names are open, or any so many."""
        wanted = set(gates)
        return self.cluster.wait_for(
            WORKFLOW,
            name,
            self.namespace,
            lambda body: (
                wanted <= set(open_gates(body)) if gates else len(open_gates(body)) >= count
            ),
            TIMEOUT,
            describe=f"with open gates {', '.join(gates) or count}",
        )

    def ended(self, name: str, phase: str = "Succeeded") -> Json:
        """The Workflow, as soon as it has ended; it has to have ended like this."""
        body = self.cluster.wait_for(
            WORKFLOW,
            name,
            self.namespace,
            lambda body: (
                body["metadata"]["labels"].get("workflows.argoproj.io/completed") == "true"
            ),
            TIMEOUT,
            describe="finished",
        )
        assert body["status"]["phase"] == phase, body["status"].get("message")
        return body

    def past(self, name: str, step: str) -> Json:
        """The Workflow, as soon as the step of this display name has succeeded."""
        return self.cluster.wait_for(
            WORKFLOW,
            name,
            self.namespace,
            lambda body: any(
                node["displayName"] == step and node["phase"] == "Succeeded" for node in nodes(body)
            ),
            TIMEOUT,
            describe=f"past {step}",
        )

    def workflow(self, name: str) -> Json:
        """The Workflow as it is now."""
        return self.cluster.get(WORKFLOW, name, self.namespace)

    def ask(self, *requests: Mapping[str, Any]) -> None:
        """Creates WorkflowResumes, or whatever else a user writes."""
        for request in requests:
            self.cluster.create(request, self.namespace)

    def govern(self, policy: Mapping[str, Any]) -> Json:
        """Creates a WorkflowResumePolicy; returns its status, as soon as the operator knows it.

        A request that comes before, which is by another watch, would not be under it.
        """
        self.ask(policy)
        return self.taken_in(policy["metadata"]["name"])

    def taken_in(self, policy: str, generation: int = 1) -> Json:
        """The status of a policy, as soon as the operator has taken in this generation of it."""
        body = self.cluster.wait_for(
            POLICY,
            policy,
            self.namespace,
            lambda body: body.get("status", {}).get("observedGeneration", 0) >= generation,
            TIMEOUT,
            describe=f"taken in, generation {generation}",
        )
        status: Json = body["status"]
        return status

    def came_to(self, name: str, reason: outcomes.Reason) -> Json:
        """The status of a WorkflowResume, as soon as it says this reason.

        A request that has ended for another reason fails the test at once. Whatever the reason,
        what its outcome promises has to hold: the phase, the conditions, one correlation id.
        """
        body = self.cluster.wait_for(
            RESUME,
            name,
            self.namespace,
            lambda body: (
                (status := body.get("status", {})).get("reason") == reason
                or status.get("outcome") in _TERMINAL
            ),
            TIMEOUT,
            describe=f"with the reason {reason}",
        )
        status: Json = body["status"]
        found = {key: status.get(key) for key in ("reason", "outcome", "phase")}
        wanted = {"reason": reason, "outcome": reason.outcome, "phase": reason.outcome.phase}
        assert found == wanted, status
        assert status["observedGeneration"] == body["metadata"]["generation"]
        assert status["correlationID"] == body["metadata"]["uid"]
        conditions = {one["type"]: one["status"] for one in status["conditions"]}
        assert conditions["Resumed"] == _flag(reason.outcome is outcomes.Outcome.RESUMED), status
        assert conditions["Stalled"] == _flag(reason.outcome.phase is outcomes.Phase.FAILED), status
        assert conditions["Ready"] == _flag(reason.outcome.phase is outcomes.Phase.SUCCEEDED), (
            status
        )
        return status

    def decided(self, name: str) -> Json:
        """The status of a WorkflowResume, as soon as it has ended, however that is."""
        body = self.cluster.wait_for(
            RESUME,
            name,
            self.namespace,
            lambda body: body.get("status", {}).get("outcome") in _TERMINAL,
            TIMEOUT,
            describe="decided",
        )
        status: Json = body["status"]
        return status

    def resumed(self, name: str) -> Json:
        """The status of a WorkflowResume, as soon as it says that it opened a gate."""
        return self.came_to(name, outcomes.Reason.GATE_OPENED)

    def told(self, name: str, *reasons: str) -> None:
        """Returns as soon as Events with all these reasons are there about objects of a name.

        They are written after what they tell of.
        """

        def seen() -> set[str]:
            found = self.cluster.list_all("v1/Event", self.namespace)
            return {one["reason"] for one in found if one["involvedObject"]["name"] == name}

        waiting.eventually(
            lambda: seen().issuperset(reasons), lambda: f"Events about {name}: {seen()}", TIMEOUT
        )


@contextlib.contextmanager
def new(cluster: client.Cluster, own_log: pathlib.Path | None = None) -> Iterator[Home]:
    """A new namespace of a cluster, deleted afterwards in the background.

    Its operator must not have been refused anything.

    Arguments:
        cluster: as an administrator
        own_log: the audit log of a cluster that no other tests use: there it holds for all accounts
            of the namespace
    """
    name = f"e2e-{secrets.token_hex(4)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        log = cluster.audit_log if isinstance(cluster, shared.LocalCluster) else own_log
        user = rights.user_of(name, "" if own_log else rights.NAME)
        with rights.none_refused(log, user):
            yield Home(cluster, name)
    finally:
        cluster.delete("Namespace", name, missing_ok=True)


@contextlib.contextmanager
def without_argo() -> Iterator[Home]:
    """A namespace of a cluster without Argo's controller, where a Workflow may have any shape."""
    with (
        launcher.start(crds="minimal", argo=False, audit=True) as plane,
        contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster,
        new(cluster, plane.audit_log) as made,
    ):
        yield made


def open_gates(workflow: Mapping[str, Any]) -> Mapping[str, Json]:
    """The suspended nodes of a Workflow by their display names."""
    return {
        node["displayName"]: node
        for node in nodes(workflow)
        if node.get("type") == "Suspend" and node.get("phase") == "Running"
    }


def node(workflow: Mapping[str, Any], display_name: str) -> Json:
    """The one node of this display name."""
    found = [one for one in nodes(workflow) if one["displayName"] == display_name]
    assert len(found) == 1, [one["displayName"] for one in nodes(workflow)]
    return found[0]


def nodes(workflow: Mapping[str, Any]) -> Sequence[Json]:
    """The nodes of a Workflow, also of one that Argo's controller (up to 4.0) has compressed."""
    status = workflow.get("status", {})
    packed = status.get("compressedNodes")
    found = json.loads(gzip.decompress(base64.b64decode(packed))) if packed else status.get("nodes")
    return list((found or {}).values())


def inputs(workflow: Mapping[str, Any], display_name: str) -> Mapping[str, str]:
    """The input parameters of a node."""
    return _values(node(workflow, display_name).get("inputs", {}))


def outputs(workflow: Mapping[str, Any], display_name: str) -> Mapping[str, str]:
    """The output parameters of a node, those without a value left out."""
    return _values(node(workflow, display_name).get("outputs", {}))


def _values(of: Mapping[str, Any]) -> Mapping[str, str]:
    return {one["name"]: one["value"] for one in of.get("parameters", ()) if "value" in one}


def _flag(value: bool) -> str:
    return "True" if value else "False"
