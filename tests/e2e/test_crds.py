"""What a user of the kinds can rely on: `kubectl` is pleasant, and errors name the field.

That schemas and models agree on what is valid is the matter of `test_crds_agreement`.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import pytest
import yaml

from tests.controlplane import client

CRDS = pathlib.Path(__file__).parents[2] / "crds"
RESUMES = "argoproj.io/v1alpha1/WorkflowResume"
POLICIES = "argoproj.io/v1alpha1/WorkflowResumePolicy"
BREAKERS = "argoproj.io/v1alpha1/WorkflowResumeBreaker"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"

# The manifests that users of Argo Events were promised, as they stand in a Sensor's template.
AFTER_PR_CREATED = r"""
apiVersion: argoproj.io/v1alpha1
kind: WorkflowResume
metadata:
  name: resume-after-pr-created
spec:
  labelSelector: "workflow-type=play-orchestration,current-stage=waiting-pr-created"
  correlationData:
    taskId: "{{extracted-task-id}}"
    eventType: "pr-created"
    githubEvent:
      action: "opened"
      pullRequestNumber: "{{pr-number}}"
  validationRules:
    - field: "task-id"
      operator: "equals"
      value: "{{extracted-task-id}}"
    - field: "pull_request.labels[].name"
      operator: "regex"
      value: "^task-{{extracted-task-id}}$"
  resumeParameters:
    - name: "pr-number"
      value: "{{pr-number}}"
    - name: "pr-url"
      value: "{{pr-url}}"
"""
AFTER_READY_FOR_QA = r"""
apiVersion: argoproj.io/v1alpha1
kind: WorkflowResume
metadata:
  name: resume-after-ready-for-qa
spec:
  labelSelector: "workflow-type=play-orchestration,current-stage=waiting-ready-for-qa"
  correlationData:
    taskId: "{{extracted-task-id}}"
    eventType: "pr-labeled-ready"
    githubEvent:
      action: "labeled"
      labelName: "ready-for-qa"
  validationRules:
    - field: "task-id"
      operator: "equals"
      value: "{{extracted-task-id}}"
    - field: "label.name"
      operator: "equals"
      value: "ready-for-qa"
    - field: "sender.login"
      operator: "regex"
      value: "^5DLabs-Cleo\\[bot\\]$"
  resumeParameters:
    - name: "cleo-completion-time"
      value: "{{event-timestamp}}"
"""
AFTER_PR_APPROVED = r"""
apiVersion: argoproj.io/v1alpha1
kind: WorkflowResume
metadata:
  name: resume-after-pr-approved
spec:
  labelSelector: "workflow-type=play-orchestration,current-stage=waiting-pr-approved"
  correlationData:
    taskId: "{{extracted-task-id}}"
    eventType: "pr-approved"
    githubEvent:
      action: "submitted"
      reviewState: "approved"
  validationRules:
    - field: "task-id"
      operator: "equals"
      value: "{{extracted-task-id}}"
    - field: "review.state"
      operator: "equals"
      value: "approved"
    - field: "review.user.login"
      operator: "regex"
      value: "^5DLabs-Tess\\[bot\\]$"
  resumeParameters:
    - name: "tess-approval-time"
      value: "{{event-timestamp}}"
    - name: "review-id"
      value: "{{review-id}}"
"""
BY_NAME = r"""
apiVersion: argoproj.io/v1alpha1
kind: WorkflowResume
metadata:
  name: resume-operation
spec:
  workflowName: "play-workflow-abc123"
  nodeFieldSelector: "templateName=suspend-for-webhook"
  correlationData:
    taskId: "{{extracted-task-id}}"
    eventType: "pr-created"
    githubEvent:
      pullRequestNumber: 123
      action: "opened"
      labels: ["task-5"]
  validationRules:
    - field: "task-id"
      operator: "equals"
      value: "{{extracted-task-id}}"
    - field: "current-stage"
      operator: "equals"
      value: "waiting-pr-created"
"""
SENSOR_TEMPLATES = {
    "after the pull request": AFTER_PR_CREATED,
    "after the label": AFTER_READY_FOR_QA,
    "after the approval": AFTER_PR_APPROVED,
    "by name": BY_NAME,
}
VALUES = {
    "extracted-task-id": "5",
    "pr-number": "123",
    "pr-url": "https://github.com/5dlabs/play/pull/123",
    "event-timestamp": "2026-01-02T03:04:05Z",
    "review-id": "987654321",
}


def resume(name: str = "one", **spec: Any) -> dict[str, Any]:
    """A request that is valid, with more in its spec."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResume",
        "metadata": {"name": name},
        "spec": {
            "workflowName": "play-1",
            "correlationData": {"taskId": "5", "eventType": "pr-created"},
            **spec,
        },
    }


def causes(error: client.ApiError) -> dict[str, str]:
    """What the API server says is wrong: messages by field."""
    return {
        cause["field"]: cause["message"]
        for cause in error.body["details"]["causes"]
        if cause.get("field", "<nil>") != "<nil>"
    }


def refusal(cluster: client.Cluster, namespace: str, manifest: Any) -> dict[str, str]:
    """Why an object is refused: messages by field."""
    with pytest.raises(client.ApiError) as caught:
        cluster.create(manifest, namespace)
    assert caught.value.status == 422, str(caught.value)
    return causes(caught.value)


def table(cluster: client.Cluster, namespace: str, plural: str) -> dict[str, Any]:
    """The columns of `kubectl get -o wide` by name, for the only object there is."""
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/{plural}"
    answer = cluster.request("GET", path, accept=TABLE)
    (row,) = answer["rows"]
    names = [column["name"] for column in answer["columnDefinitions"]]
    return dict(zip(names, row["cells"], strict=True))


# --- the definitions --------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CRDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_definitions_are_taken_without_a_warning(
    path: pathlib.Path, cluster: client.Cluster
) -> None:
    as_json = json.dumps(yaml.safe_load(path.read_text()))
    for text in (path.read_text(), as_json):
        said = cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--dry-run=server"),
            *("--validate=strict", "--warnings-as-errors", "-f", "-"),
            input=text,
        )
        assert "serverside-applied" in said


def test_the_kinds_have_short_names_and_a_category(cluster: client.Cluster, namespace: str) -> None:
    cluster.create(resume("request"), namespace)
    cluster.create(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "WorkflowResumePolicy",
            "metadata": {"name": "policy"},
            "spec": {},
        },
        namespace,
    )
    cluster.create(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "WorkflowResumeBreaker",
            "metadata": {"name": "breaker"},
            "spec": {"stage": "waiting-pr-created"},
        },
        namespace,
    )
    names = {
        short: set(cluster.kubectl("get", short, "-n", namespace, "-o", "name").split())
        for short in ("wres", "wrespol", "wresbrk", "resumer")
    }
    assert names == {
        "wres": {"workflowresume.argoproj.io/request"},
        "wrespol": {"workflowresumepolicy.argoproj.io/policy"},
        "wresbrk": {"workflowresumebreaker.argoproj.io/breaker"},
        "resumer": names["wres"] | names["wrespol"] | names["wresbrk"],
    }


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("wres.spec.labelSelector", "in the syntax of kubectl's -l"),
        ("wres.spec.validationRules.operator", "regex is RE2"),
        ("wrespol.spec.stages.retry.jitter", "Proportional: up to 10 % more or less"),
        ("wresbrk.status.state", "HalfOpen: a few probes decide"),
    ],
)
def test_kubectl_explains_a_field(field: str, said: str, cluster: client.Cluster) -> None:
    text = cluster.kubectl("explain", field, "--api-version=argoproj.io/v1alpha1")
    assert said in " ".join(text.split())


# --- what is shown ----------------------------------------------------------------------------


def test_a_resume_shows_what_became_of_it(cluster: client.Cluster, namespace: str) -> None:
    cluster.create(resume(correlationData={"taskId": 5, "eventType": "pr-created"}), namespace)
    status = {
        "phase": "Succeeded",
        "outcome": "Resumed",
        "reason": "GateOpened",
        "message": "opened gate wait-for-pr",
        "policy": {"name": "play", "alsoMatching": ["every"]},
        "workflow": {"name": "play-1", "stage": "waiting-pr-created"},
    }
    cluster.patch(RESUMES, "one", namespace, {"status": status}, subresource="status")
    shown = table(cluster, namespace, "workflowresumes")
    assert re.fullmatch(r"\d+s", shown.pop("Age"))
    assert shown == {
        "Name": "one",
        "Workflow": "play-1",
        "Stage": "waiting-pr-created",
        "Task": "5",
        "Outcome": "Resumed",
        "Reason": "GateOpened",
        "Event": "pr-created",
        "Policy": "play",
        "Message": "opened gate wait-for-pr",
    }
    header = cluster.kubectl("get", "wres", "-n", namespace).splitlines()[0]
    assert header.split() == ["NAME", "WORKFLOW", "STAGE", "TASK", "OUTCOME", "REASON", "AGE"]


def test_a_policy_shows_its_labels_what_is_in_force_and_whether_it_is_valid(
    cluster: client.Cluster, namespace: str
) -> None:
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResumePolicy",
        "metadata": {"name": "play"},
        "spec": {"stageLabel": "stage"},
    }
    cluster.create(manifest, namespace)
    condition = {
        "type": "Valid",
        "status": "False",
        "reason": "PolicyInvalid",
        "message": "stages[1]: no",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    status = {"conditions": [condition], "stages": 2, "lastValidGeneration": 3}
    cluster.patch(POLICIES, "play", namespace, {"status": status}, subresource="status")
    shown = table(cluster, namespace, "workflowresumepolicies")
    del shown["Age"]
    assert shown == {
        "Name": "play",
        "Task-Label": "task-id",
        "Stage-Label": "stage",
        "Stages": 2,
        "Valid": "False",
        "In-Force": 3,
        "Message": "stages[1]: no",
    }
    header = cluster.kubectl("get", "wrespol", "-n", namespace).splitlines()[0]
    assert header.split() == ["NAME", "TASK-LABEL", "STAGE-LABEL", "STAGES", "VALID", "AGE"]


def test_a_breaker_shows_its_state(cluster: client.Cluster, namespace: str) -> None:
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResumeBreaker",
        "metadata": {"name": "first"},
        "spec": {"stage": "waiting-pr-created"},
    }
    cluster.create(manifest, namespace)
    status = {
        "state": "Open",
        "consecutiveFailures": 5,
        "openedTime": "2026-01-02T03:04:05.000006Z",
        "openUntilTime": "2226-01-02T03:04:05.000006Z",
    }
    cluster.patch(BREAKERS, "first", namespace, {"status": status}, subresource="status")
    shown = table(cluster, namespace, "workflowresumebreakers")
    assert re.fullmatch(r"\d+[smhdy]\w*", shown.pop("Opened"))
    del shown["Age"]
    assert shown == {
        "Name": "first",
        "Stage": "waiting-pr-created",
        "State": "Open",
        "Failures": 5,
        # To come, and shown all the same: it is not a column of dates.
        "Open-Until": "2226-01-02T03:04:05.000006Z",
    }


def test_resumes_can_be_listed_by_phase(cluster: client.Cluster, namespace: str) -> None:
    for name, phase in (("early", "Waiting"), ("done", "Succeeded"), ("new", None)):
        cluster.create(resume(name), namespace)
        if phase is not None:
            status = {"status": {"phase": phase}}
            cluster.patch(RESUMES, name, namespace, status, subresource="status")

    def having(selector: str) -> set[str]:
        path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowresumes"
        answer = cluster.request("GET", path, query={"fieldSelector": selector})
        return {item["metadata"]["name"] for item in answer["items"]}

    assert having("status.phase=Waiting") == {"early"}
    assert having("status.phase!=Succeeded,status.phase!=Failed") == {"early", "new"}


# --- what is admitted -------------------------------------------------------------------------


@pytest.mark.parametrize("template", SENSOR_TEMPLATES.values(), ids=SENSOR_TEMPLATES)
def test_a_manifest_from_a_sensor_applies_as_it_stands(
    template: str, cluster: client.Cluster, namespace: str
) -> None:
    rendered = re.sub(r"{{(.*?)}}", lambda found: VALUES[found[1]], template)
    cluster.kubectl(
        *("apply", "-n", namespace, "--validate=strict", "--warnings-as-errors", "-f", "-"),
        input=rendered,
    )
    (stored,) = cluster.list_all(RESUMES, namespace)
    assert yaml.safe_load(rendered)["spec"].items() <= stored["spec"].items()


@pytest.mark.parametrize("template", SENSOR_TEMPLATES.values(), ids=SENSOR_TEMPLATES)
def test_a_template_that_nobody_rendered_is_refused_by_field(
    template: str, cluster: client.Cluster, namespace: str
) -> None:
    refused = refusal(cluster, namespace, yaml.safe_load(template))
    assert {"spec.correlationData.taskId", "spec.validationRules[0].value"} <= refused.keys()


@pytest.mark.parametrize(
    "field", ["workflowName", "labelSelector", "nodeFieldSelector", "targetStage"]
)
def test_an_unrendered_template_is_called_so(
    field: str, cluster: client.Cluster, namespace: str
) -> None:
    with pytest.raises(client.ApiError) as caught:
        cluster.create(resume(**{field: "current-stage={{target-stage}}"}), namespace)
    said = str(caught.value)
    assert f"spec.{field}: " in said
    assert "may not contain `{{`: a template was not rendered" in said


def test_a_request_that_names_no_workflow_is_refused(
    cluster: client.Cluster, namespace: str
) -> None:
    manifest = resume()
    del manifest["spec"]["workflowName"]
    said = refusal(cluster, namespace, manifest)["spec.workflowName"]
    assert said.endswith("workflowName or labelSelector is required")


@pytest.mark.parametrize("field", ["taskId", "eventType"])
def test_a_request_without_task_or_event_type_is_refused(
    field: str, cluster: client.Cluster, namespace: str
) -> None:
    manifest = resume()
    del manifest["spec"]["correlationData"][field]
    said = refusal(cluster, namespace, manifest)
    assert said[f"spec.correlationData.{field}"] == "Required value"


def test_an_event_type_of_two_stages_is_refused(cluster: client.Cluster, namespace: str) -> None:
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResumePolicy",
        "metadata": {"name": "play"},
        "spec": {"stages": [{"name": name, "eventTypes": ["pr-created"]} for name in "ab"]},
    }
    said = refusal(cluster, namespace, manifest)["spec.stages"]
    assert said.endswith("an event type may belong to one stage only")


# --- what can be changed ----------------------------------------------------------------------

EVENT = {"action": "opened", "nothing": None, "pull_request": {"number": 1, "labels": ["task-5"]}}


def _event(**changes: Any) -> dict[str, Any]:
    data = {"taskId": "5", "eventType": "pr-created", "githubEvent": {**EVENT, **changes}}
    return {"correlationData": data}


@pytest.mark.parametrize(
    "change",
    [
        {"targetStage": "another"},
        {"dryRun": True},
        {"correlationData": {**_event()["correlationData"], "taskId": 5}},
        _event(action="closed"),
        _event(more=1),
        _event(nothing={}),
        _event(pull_request={"number": 2, "labels": ["task-5"]}),
        _event(pull_request={"number": 1, "labels": ["task-6"]}),
        _event(pull_request={"numbers": 1, "labels": ["task-5"]}),
    ],
    ids=str,
)
def test_the_spec_of_a_resume_cannot_be_changed(
    change: dict[str, Any], cluster: client.Cluster, namespace: str
) -> None:
    created = cluster.create(resume(**_event()), namespace)
    created["spec"].update(change)
    _assert_immutable(cluster, namespace, created)


def test_a_key_of_the_event_cannot_be_renamed(cluster: client.Cluster, namespace: str) -> None:
    """An object of the same size, which CEL takes for equal where unknown fields are preserved."""
    created = cluster.create(resume(**_event()), namespace)
    event = created["spec"]["correlationData"]["githubEvent"]
    event["actions"] = event.pop("action")
    _assert_immutable(cluster, namespace, created)


def _assert_immutable(cluster: client.Cluster, namespace: str, changed: dict[str, Any]) -> None:
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowresumes/one"
    with pytest.raises(client.ApiError) as caught:
        cluster.request("PUT", path, body=changed)
    assert causes(caught.value)["spec"].endswith("create a new WorkflowResume instead")


def test_labels_of_a_resume_can_be_changed(cluster: client.Cluster, namespace: str) -> None:
    cluster.create(resume(**_event()), namespace)
    changed = cluster.patch(RESUMES, "one", namespace, {"metadata": {"labels": {"a": "b"}}})
    assert changed["metadata"]["labels"] == {"a": "b"}


def test_only_the_status_subresource_sets_status(cluster: client.Cluster, namespace: str) -> None:
    status = {"phase": "Succeeded", "outcome": "Resumed"}
    created = cluster.create({**resume(), "status": status}, namespace)
    patched = cluster.patch(RESUMES, "one", namespace, {"status": status})
    written = cluster.patch(
        *(RESUMES, "one", namespace, {"status": status, "spec": {"dryRun": True}}),
        subresource="status",
    )
    assert created["status"] == patched["status"] == {"observedGeneration": 0, "phase": "Pending"}
    assert written["status"] == {"observedGeneration": 0, **status}
    assert written["spec"]["dryRun"] is False


def test_what_nobody_has_looked_at_is_in_progress_for_tools_and_found_as_pending(
    cluster: client.Cluster, namespace: str
) -> None:
    """By the rules of kstatus it would be done at once if it had no observedGeneration."""
    for name in ("new", "seen"):
        cluster.create(resume(name), namespace)
    seen = {"status": {"observedGeneration": 1, "phase": "Waiting"}}
    cluster.patch(RESUMES, "seen", namespace, seen, subresource="status")
    found = cluster.kubectl(
        *("get", "wres", "--namespace", namespace, "--output", "name"),
        *("--field-selector", "status.phase=Pending"),
    )
    assert found.split() == ["workflowresume.argoproj.io/new"]
    policy = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResumePolicy",
        "metadata": {"name": "new"},
        "spec": {"stages": [{"name": "review", "eventTypes": ["reviewed"]}]},
    }
    for body in (cluster.create(policy, namespace), cluster.get(RESUMES, "new", namespace)):
        assert body["status"]["observedGeneration"] < body["metadata"]["generation"]


def test_a_resume_as_large_as_they_come_can_be_stored_and_given_a_status(
    cluster: client.Cluster, namespace: str
) -> None:
    """The rules on the spec run again with every write; their cost has a limit."""
    large = resume(
        labelSelector="a" * 1024,
        correlationData={
            "taskId": "t" * 63,
            "eventType": "e" * 63,
            "githubEvent": {f"k{n}": {"deep": ["v" * 100] * 12} for n in range(256)},
        },
        validationRules=[{"field": "f" * 256, "operator": "in", "values": ["v" * 256] * 64}] * 32,
        resumeParameters=[{"name": f"p{n}", "value": "v" * 8192} for n in range(32)],
        setLabels={f"{'p' * 250}/{n}": "v" * 63 for n in range(16)},
    )
    cluster.create(large, namespace)
    status = {"phase": "Waiting"}
    stored = cluster.patch(RESUMES, "one", namespace, {"status": status}, subresource="status")
    assert stored["status"] == {"observedGeneration": 0, **status}
