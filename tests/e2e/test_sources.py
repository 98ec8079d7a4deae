"""Every way to ask for a resume that `docs/sources.md` shows works as it stands there."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from resumer.api import constants
from resumer.api.outcomes import Reason
from tests.controlplane import toolchain
from tests.e2e.support import argoevents, deliveries, pages, waiting
from tests.e2e.support import home as homes
from tests.e2e.support import manifests as m
from tests.e2e.support.argoevents import ArgoEvents
from tests.e2e.support.home import RESUME, Home
from tests.e2e.support.plays import PLAY
from tests.e2e.support.process import Operator

pytestmark = pytest.mark.usefixtures("operator")

TOKEN = "a token that nobody guesses"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_TIMEOUT = 60.0


@pytest.fixture(scope="module", autouse=True)
def policy(home: Home, operator: Operator) -> None:
    """A stage that a person, a job or another system opens."""
    stages = (
        {"name": m.PR_CREATED, "eventTypes": ["checks-passed", "approved"]},
        {"name": m.PR_APPROVED, "eventTypes": ["pr-approved"]},
    )
    home.govern(m.policy("sources", *stages, matches=PLAY))


@pytest.fixture(scope="module")
def role(home: Home) -> str:
    """A ServiceAccount with the Role of the page, as kubectl impersonates it."""
    home.ask(shown("Role"))
    name = "resume-and-wait"
    home.ask({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name}],
    }
    home.ask(binding)
    return f"system:serviceaccount:{home.namespace}:{name}"


def shown(kind: str) -> m.Json:
    """The one object of this kind on the page."""
    (found,) = (
        body
        for block in pages.blocks("docs/sources.md")
        if block.language == "yaml" and block.text.startswith("apiVersion:")
        for body in [yaml.safe_load(block.text)]
        if body["kind"] == kind
    )
    return dict(found)


def play(task: str, *outputs: str, stage: str = m.PR_CREATED) -> m.Json:
    """A workflow of the task with one gate."""
    templates = (m.steps(m.step("wait", "gate")), m.gate("gate", *outputs))
    return m.workflow(f"play-{task}", *templates, task=task, stage=stage, labels=PLAY)


def created(home: Home, answer: str) -> str:
    """The name in what `kubectl create -o name` prints."""
    kind, _, name = answer.strip().partition("/")
    assert kind == "workflowresume.argoproj.io"
    assert home.cluster.get(RESUME, name, home.namespace)
    return name


def test_a_person_resumes_with_kubectl(home: Home, role: str, task: str) -> None:
    home.submit(play(task, stage=m.PR_APPROVED))
    request = shown("WorkflowResume")
    request["spec"]["correlationData"]["taskId"] = task
    answer = home.cluster.kubectl(
        *("-n", home.namespace, "--as", role, "create", "-o", "name", "-f", "-"),
        input=yaml.safe_dump(request),
    )
    home.resumed(created(home, answer))
    home.ended(f"play-{task}")


@pytest.mark.parametrize(("build", "code"), [("42", 0), ("{{workflow.name}}", 1)])
def test_a_job_resumes_waits_and_passes_or_fails_with_the_request(
    home: Home, role: str, task: str, build: str, code: int
) -> None:
    (script,) = (one for one in pages.blocks("docs/sources.md") if one.language == "sh")
    home.submit(play(task, "build"))
    kubectl = f'kubectl() {{ command kubectl -n {home.namespace} --as {role} "$@"; }}\n'
    done = subprocess.run(
        ["sh", "-c", kubectl + script.text],
        env={
            "PATH": f"{toolchain.kubectl().parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", "/"),
            "KUBECONFIG": str(home.cluster.kubeconfig),
            "TASK": task,
            "BUILD": build,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stdout.startswith("Resumed: opened 'wait' of workflow")
        ended = home.ended(f"play-{task}")
        assert homes.outputs(ended, "wait") == {"build": "42"}
    else:
        assert done.stdout.startswith("Rejected: resumeParameters 'build' contains `{{`")


def test_the_request_of_a_workflow_resumes_with_its_own_rights(
    home: Home, role: str, task: str
) -> None:
    """What Argo's executor would do in the pod: create the manifest, and look at it until the end.

    There are no pods here, so what Argo renders into the manifest is put in by the test.
    """
    home.submit(play(task, "build"))
    body = shown("Workflow")
    assert body["spec"]["serviceAccountName"] == role.rpartition(":")[2]
    (template,) = (one for one in body["spec"]["templates"] if "resource" in one)
    resource: Mapping[str, Any] = template["resource"]
    rendered = resource["manifest"].replace("{{workflow.parameters.task}}", task)
    rendered = rendered.replace("{{workflow.name}}", "tests-x7k2p")
    assert "{{" not in rendered
    own = ("-n", home.namespace, "--as", role)
    answer = home.cluster.kubectl(*own, resource["action"], "-o", "name", "-f", "-", input=rendered)
    name = created(home, answer)
    home.resumed(name)
    assert resource["successCondition"] == "status.phase == Succeeded"
    phase = ("get", f"workflowresume/{name}", "-o", "jsonpath={.status.phase}")
    assert home.cluster.kubectl(*own, *phase) == "Succeeded"
    assert homes.outputs(home.ended(f"play-{task}"), "wait") == {"build": "tests-x7k2p"}


@pytest.fixture(scope="module")
def webhook(home: Home, built_events: None) -> Iterator[ArgoEvents]:
    """Argo Events at work with the EventSource and the Sensor for any webhook."""
    secret = {"metadata": {"name": "resume-webhook"}, "stringData": {"token": TOKEN}}
    home.ask({"apiVersion": "v1", "kind": "Secret", **secret})
    values = {"repositories": f"^{deliveries.REPOSITORY}$"}
    names = ("resume-webhook", "webhook-resume")
    with argoevents.running(home, values, also=["webhook"], names=names) as started:
        yield started


def post(events: ArgoEvents, document: object, token: str = TOKEN, **further: str) -> int:
    """Sends JSON as the other system would, with further headers; the status of the answer."""
    parts = urllib.parse.urlsplit(events.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **further}
    connection.request("POST", "/resume", json.dumps(document), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def of_task(home: Home, task: str) -> list[m.Json]:
    """The requests of a task."""
    return [
        one
        for one in home.cluster.list_all(RESUME, home.namespace)
        if one["spec"]["correlationData"]["taskId"] == task
    ]


def test_a_webhook_of_any_system_resumes_with_its_values(
    webhook: ArgoEvents, home: Home, task: str
) -> None:
    home.submit(play(task, "ticket"))
    hostile = 'it\'s "{{quoted}}" \\ \U0001f600'
    document = {"task": int(task), "type": "approved", "by": hostile, "values": {"ticket": "T-1"}}
    assert post(webhook, document, "guessed") == 401
    assert post(webhook, {**document, "task": None}) == 200
    assert post(webhook, document) == 200
    waiting.eventually(
        lambda: of_task(home, task), lambda: webhook.tail("webhook-resume"), _TIMEOUT
    )
    webhook.drained()
    (request,) = of_task(home, task)
    home.resumed(request["metadata"]["name"])
    assert request["spec"]["correlationData"]["githubEvent"] == document
    assert homes.outputs(home.ended(f"play-{task}"), "wait") == {"ticket": "T-1"}
    # Without values there are no parameters, which this gate needs none of.
    other = f"{task}1"
    home.submit(play(other))
    trace = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    assert post(webhook, {"task": other, "type": "unheard-of"}, **trace) == 200
    waiting.eventually(
        lambda: of_task(home, other), lambda: webhook.tail("webhook-resume"), _TIMEOUT
    )
    (traced,) = of_task(home, other)
    home.came_to(traced["metadata"]["name"], Reason.GATE_OPENED)
    assert "annotations" not in request["metadata"]
    assert traced["metadata"]["annotations"] == {
        constants.TRACEPARENT: TRACEPARENT,
        constants.TRACESTATE: "vendor=1",
    }
