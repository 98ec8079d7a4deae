"""Objects for tests, as the API server would give them: said in the words of a test.

`a_workflow().labelled(task="7").in_stage("review").gate("wait").build()` is the plain JSON of a
Workflow that Argo could have written; `a_request()` and `a_policy()` do the same for our kinds, and
build the models too. What a test does not say gets a value that harms nothing: a builder alone
makes a request that resumes the workflow that a builder alone makes, once that has a gate.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from resumer.api import base, constants, policy, resume
from resumer.core import markers, policies, workflows

NAMESPACE = "team"
TASK = "7"
STAGE = "review"
EVENT_TYPE = "reviewed"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""The time at which tests look; requests were created a minute before, gates opened two minutes."""

Json = dict[str, Any]


def at(seconds: float) -> str:
    """The time so many seconds after `NOW` (before, if negative), as the API writes it."""
    return base.rfc3339(NOW + timedelta(seconds=seconds))


def supplied(default: str | None = None) -> Json:
    """An output that waits for a value, for `WorkflowBuilder.gate`."""
    source: Json = {"supplied": {}}
    return {"valueFrom": source if default is None else {**source, "default": default}}


def given(value: str) -> Json:
    """An output that has its value, for `WorkflowBuilder.gate`."""
    return {"value": value}


class WorkflowBuilder:
    """A Workflow of one steps template; every method says one more thing about it."""

    def __init__(self, name: str) -> None:
        self._body: Json = {
            "apiVersion": constants.API_VERSION,
            "kind": constants.WORKFLOW_KIND,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-of-{name}",
                "resourceVersion": "100",
                "creationTimestamp": at(-600),
                "labels": {},
            },
            "spec": {"entrypoint": "main", "templates": [{"name": "main", "steps": []}]},
            "status": {"phase": "Running", "nodes": {}},
        }
        self._compressed = False
        self.node(name, type="Steps", displayName=name, templateName="main")

    @property
    def name(self) -> str:
        """The name of the Workflow."""
        return str(self._body["metadata"]["name"])

    def with_uid(self, uid: str) -> Self:
        """Another uid."""
        self._body["metadata"]["uid"] = uid
        return self

    def created(self, seconds: float) -> Self:
        """Created so many seconds after `NOW`."""
        self._body["metadata"]["creationTimestamp"] = at(seconds)
        return self

    def labelled(self, task: str | None = None, **labels: str) -> Self:
        """Labels; an underscore in a key is written as a dash."""
        if task is not None:
            labels[constants.DEFAULT_TASK_LABEL] = task
        return self.with_labels({key.replace("_", "-"): value for key, value in labels.items()})

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """Labels of any key."""
        self._body["metadata"]["labels"].update(labels)
        return self

    def without_labels(self) -> Self:
        """No labels at all."""
        del self._body["metadata"]["labels"]
        return self

    def in_stage(self, stage: str) -> Self:
        """The label of the stage."""
        return self.with_labels({constants.DEFAULT_STAGE_LABEL: stage})

    def annotated(self, key: str, value: str) -> Self:
        """An annotation."""
        self._body["metadata"].setdefault("annotations", {})[key] = value
        return self

    def marked(
        self,
        stage: str = STAGE,
        *,
        event_type: str = "",
        node: str = "",
        started: float = -120,
        by: str = "other",
        uid: str = "uid-of-other",
        workflow_uid: str | None = None,
    ) -> Self:
        """The marker of a resume: of a gate by its name, or without one of the whole workflow."""
        prefix = constants.EVENT_MARKER_PREFIX if event_type else constants.STAGE_MARKER_PREFIX
        marker = markers.Marker(
            workflow_uid=self._body["metadata"]["uid"] if workflow_uid is None else workflow_uid,
            node_id=self.node_id(node) if node else constants.WHOLE_WORKFLOW,
            started_at=at(started) if node else "",
            name=by,
            uid=uid,
            time=at(-30),
        )
        return self.annotated(f"{prefix}{event_type or stage}", marker.encode())

    def suspended(self) -> Self:
        """Suspended as a whole."""
        return self.with_spec(suspend=True)

    def finished(self, phase: str = "Succeeded") -> Self:
        """Finished."""
        self._body["status"]["phase"] = phase
        return self.with_labels({constants.LABEL_COMPLETED: "true", constants.LABEL_PHASE: phase})

    def with_spec(self, **fields: Any) -> Self:
        """More fields of the spec."""
        self._body["spec"].update(fields)
        return self

    def with_status(self, **fields: Any) -> Self:
        """More fields of the status."""
        self._body["status"].update(fields)
        return self

    def compressed(self) -> Self:
        """With its nodes packed as Argo packs those of a large Workflow."""
        self._compressed = True
        return self

    def offloaded(self) -> Self:
        """With its nodes in the database of Argo's controller."""
        self._body["status"]["nodes"] = {}
        return self.with_status(offloadNodeStatusVersion="fnv:1")

    def node_id(self, display_name: str) -> str:
        """The id of a node by its display name, hashed as Argo does."""
        if display_name == self.name:
            return self.name
        digest = 2166136261
        for byte in f"{self.name}[0].{display_name}".encode():
            digest = ((digest ^ byte) * 16777619) % 2**32
        return f"{self.name}-{digest}"

    def node(self, display_name: str, /, **fields: Any) -> Self:
        """A node of any type; a field of the value None is left out."""
        node_id = self.node_id(display_name)
        root = display_name == self.name
        node = {
            "id": node_id,
            "name": self.name if root else f"{self.name}[0].{display_name}",
            "displayName": display_name,
            "type": "Suspend",
            "phase": "Running",
            "startedAt": at(-600 if root else -120),
            "templateScope": f"local/{self.name}",
            **({} if root else {"boundaryID": self.name}),
            **fields,
        }
        self._body["status"]["nodes"][node_id] = {
            key: value for key, value in node.items() if value is not None
        }
        return self

    def template(self, name: str, **fields: Any) -> Self:
        """A template of the Workflow."""
        self._body["spec"]["templates"].append({"name": name, **fields})
        return self

    def gate(
        self,
        name: str = "wait",
        /,
        *,
        template: str = "approve",
        phase: str = "Running",
        started: float = -120,
        duration: str = "",
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, Json] | None = None,
        **fields: Any,
    ) -> Self:
        """A node of a suspend template, open unless another phase is said.

        Args:
            name: Its display name.
            template: The name of its template, which is added.
            phase: The phase of the node.
            started: When it opened, in seconds after `NOW`.
            duration: What the template says; empty: nothing.
            inputs: Its input parameters.
            outputs: Its output parameters, from `supplied` and `given`.
            fields: Any other field of the node.
        """
        suspend = {"duration": duration} if duration else {}
        self.template(template, suspend=suspend)
        lists = {
            "inputs": [{"name": key, "value": value} for key, value in (inputs or {}).items()],
            "outputs": [{"name": key, **value} for key, value in (outputs or {}).items()],
        }
        parameters = {kind: {"parameters": found} for kind, found in lists.items() if found}
        return self.node(
            name,
            **{
                "templateName": template,
                "phase": phase,
                "startedAt": at(started),
                **parameters,
                **fields,
            },
        )

    def build(self) -> Json:
        """The plain JSON, a new object each time."""
        body = copy.deepcopy(self._body)
        if self._compressed:
            packed = gzip.compress(json.dumps(body["status"].pop("nodes")).encode())
            body["status"]["compressedNodes"] = base64.b64encode(packed).decode()
        return body

    def metadata(self) -> Json:
        """What a list shows of it that is made by the metadata only."""
        return {"kind": "PartialObjectMetadata", "metadata": self.build()["metadata"]}

    def view(self, *, unpack: bool = False) -> workflows.WorkflowView:
        """What Resumer sees of it."""
        return workflows.view(self.build(), unpack=unpack)


def a_bare_workflow(name: str = "play") -> WorkflowBuilder:
    """A running Workflow without labels and gates."""
    return WorkflowBuilder(name)


def a_workflow(name: str = "play") -> WorkflowBuilder:
    """A running Workflow of task `TASK`, without a stage and without a gate."""
    return WorkflowBuilder(name).labelled(task=TASK)


class RequestBuilder:
    """A WorkflowResume; every method says one more thing about it."""

    def __init__(self, name: str) -> None:
        self._body: Json = {
            "apiVersion": constants.API_VERSION,
            "kind": constants.RESUME_KIND,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-of-{name}",
                "resourceVersion": "200",
                "generation": 1,
                "creationTimestamp": at(-60),
            },
            "spec": {
                "labelSelector": constants.DEFAULT_TASK_LABEL,
                "targetStage": STAGE,
                "correlationData": {"taskId": TASK, "eventType": EVENT_TYPE},
            },
        }

    def created(self, seconds: float) -> Self:
        """Created so many seconds after `NOW`."""
        self._body["metadata"]["creationTimestamp"] = at(seconds)
        return self

    def of_task(self, task: str) -> Self:
        """For another task."""
        self._body["spec"]["correlationData"]["taskId"] = task
        return self

    def of_event(self, event_type: str, /, **event: Any) -> Self:
        """For an event of this type, with what it says."""
        self._body["spec"]["correlationData"].update(eventType=event_type, githubEvent=event)
        return self

    def saying(self, **event: Any) -> Self:
        """With what the event says."""
        self._body["spec"]["correlationData"]["githubEvent"] = event
        return self

    def for_stage(self, stage: str | None) -> Self:
        """For another stage, or for none."""
        return self.with_spec(targetStage=stage)

    def named(self, workflow: str) -> Self:
        """For the workflow of this name."""
        return self.with_spec(workflowName=workflow)

    def selecting(self, selector: str | None) -> Self:
        """With this label selector, or without one."""
        return self.with_spec(labelSelector=selector)

    def at_gate(self, selector: str) -> Self:
        """With this node field selector."""
        return self.with_spec(nodeFieldSelector=selector)

    def rule(self, field: str, operator: str, value: str | None = None) -> Self:
        """With one more validation rule."""
        rule = {"field": field, "operator": operator, "value": value}
        self._body["spec"].setdefault("validationRules", []).append(
            {key: item for key, item in rule.items() if item is not None}
        )
        return self

    def parameter(self, name: str, value: str) -> Self:
        """With one more value for the next step."""
        found = self._body["spec"].setdefault("resumeParameters", [])
        found.append({"name": name, "value": value})
        return self

    def with_spec(self, **fields: Any) -> Self:
        """More fields of the spec; None takes one out."""
        spec = {**self._body["spec"], **fields}
        self._body["spec"] = {key: value for key, value in spec.items() if value is not None}
        return self

    def with_status(self, **fields: Any) -> Self:
        """Fields of the status."""
        self._body.setdefault("status", {}).update(fields)
        return self

    def failed_attempt(self, due: float, reason: str = "ApiUnavailable") -> Self:
        """One attempt failed, and the next is due so many seconds after `NOW`."""
        outcome, message = "BackingOff", "attempt 1 of 3 failed: no answer"
        return self.with_status(
            outcome=outcome,
            reason=reason,
            message=message,
            attempts=[
                {
                    "number": 1,
                    "startTime": at(-2),
                    "endTime": at(-1),
                    "outcome": outcome,
                    "reason": reason,
                    "message": message,
                }
            ],
            retry={"count": 1, "nextAttemptTime": at(due)},
        )

    def build(self) -> Json:
        """The plain JSON, a new object each time."""
        return copy.deepcopy(self._body)

    def model(self) -> resume.WorkflowResume:
        """The model."""
        return resume.WorkflowResume.from_json(self.build())


def a_request(name: str = "wake") -> RequestBuilder:
    """A WorkflowResume of task `TASK` for stage `STAGE`, whatever the workflow's name."""
    return RequestBuilder(name)


class PolicyBuilder:
    """A WorkflowResumePolicy; every method says one more thing about it."""

    def __init__(self, name: str) -> None:
        self._body: Json = {
            "apiVersion": constants.API_VERSION,
            "kind": constants.POLICY_KIND,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-of-{name}",
                "resourceVersion": "300",
                "generation": 1,
                "creationTimestamp": at(-3600),
            },
            "spec": {"workflowSelector": {}, "stages": []},
        }

    def created(self, seconds: float) -> Self:
        """Created so many seconds after `NOW`."""
        self._body["metadata"]["creationTimestamp"] = at(seconds)
        return self

    def for_workflows(self, labels: Mapping[str, str] | None) -> Self:
        """For the workflows with these labels; None: for none by itself."""
        selector = {"matchLabels": dict(labels)} if labels is not None else None
        return self.with_spec(workflowSelector=selector)

    def stage(self, name: str, *event_types: str, **settings: Any) -> Self:
        """One more stage, with its settings in the words of the manifest."""
        stage = {"name": name, "eventTypes": list(event_types), **settings}
        self._body["spec"]["stages"].append(stage)
        return self

    def defaults(self, **settings: Any) -> Self:
        """Settings for stages that leave them out."""
        return self.with_spec(defaults=settings)

    def with_spec(self, **fields: Any) -> Self:
        """More fields of the spec; None takes one out."""
        spec = {**self._body["spec"], **fields}
        self._body["spec"] = {key: value for key, value in spec.items() if value is not None}
        return self

    def build(self) -> Json:
        """The plain JSON, a new object each time."""
        return copy.deepcopy(self._body)

    def model(self) -> policy.WorkflowResumePolicy:
        """The model."""
        return policy.WorkflowResumePolicy.from_json(self.build())

    def resolved(self) -> policies.Policy:
        """The policy as the decision uses it."""
        model = self.model()
        created = self._body["metadata"]["creationTimestamp"]
        return policies.resolve(model.metadata.name, created, model.spec)

    def in_force(self, last_valid: policies.Version | None = None) -> policies.InForce:
        """What of it is in force, valid or not."""
        metadata = self._body["metadata"]
        newest = policies.Version(metadata["generation"], self.build()["spec"])
        return policies.in_force(
            metadata["name"], metadata["creationTimestamp"], newest, last_valid
        )


def a_policy(name: str = "play") -> PolicyBuilder:
    """A policy for every workflow, without stages of its own."""
    return PolicyBuilder(name)


def three_stages(**settings: Any) -> PolicyBuilder:
    """The policy of most tests: draft, review and release; the settings are those of review."""
    return (
        a_policy()
        .stage("draft", "drafted")
        .stage(STAGE, EVENT_TYPE, **settings)
        .stage("release", "released")
    )


def at_review(name: str = "play", **gate: Any) -> WorkflowBuilder:
    """The workflow of most tests: of task `TASK`, in stage `STAGE`, with its gate."""
    return a_workflow(name).in_stage(STAGE).gate(**gate)
