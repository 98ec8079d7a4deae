"""Builders of what a user writes: Workflows that need no pods, requests and policies.

A Workflow is made of suspend, steps and dag templates only, so that Argo's controller runs it
without a kubelet. Whatever a builder does not name goes into the object as it stands: keyword
arguments have the names of the fields, as in YAML.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

Json = dict[str, Any]

API_VERSION = "argoproj.io/v1alpha1"
TASK = "task-id"
STAGE = "current-stage"
PR_CREATED = "waiting-pr-created"
READY_FOR_QA = "waiting-ready-for-qa"
PR_APPROVED = "waiting-pr-approved"
TWO_GATES = ("first", "second")
"""The gates of `two_gates`."""

_SEED = pathlib.Path(__file__).parents[1] / "data" / "seed"


def gate(
    name: str = "gate",
    *outputs: str,
    inputs: Iterable[str | Json] = (),
    duration: str | None = None,
    defaults: Mapping[str, str] | None = None,
    **fields: Any,
) -> Json:
    """A suspend template.

    Args:
        name: Of the template; empty for an inline one.
        *outputs: Names of its supplied outputs without a default.
        inputs: Its input parameters, by name or as they stand in YAML.
        duration: Makes it a delay, which Argo itself ends.
        defaults: Further supplied outputs and their defaults.
        **fields: Further fields of the template.
    """
    supplied = [
        *({"name": output, "valueFrom": {"supplied": {}}} for output in outputs),
        *(
            {"name": output, "valueFrom": {"supplied": {}, "default": default}}
            for output, default in (defaults or {}).items()
        ),
    ]
    taken = [{"name": item} if isinstance(item, str) else item for item in inputs]
    template: Json = {"suspend": {"duration": duration} if duration else {}, **fields}
    if name:
        template["name"] = name
    if taken:
        template["inputs"] = {"parameters": taken}
    if supplied:
        template["outputs"] = {"parameters": supplied}
    return template


def witness(*inputs: str, name: str = "witness") -> Json:
    """A template that ends by itself and keeps its inputs in its node, to see what came through."""
    return gate(name, inputs=inputs, duration="1ms")


def step(name: str, template: str | Json, **fields: Any) -> Json:
    """A step, or a task of a DAG.

    Args:
        name: Of the step.
        template: Its name, or an inline one.
        **fields: Further fields; `arguments` may be a mapping of parameters to values.
    """
    runs = {"template": template} if isinstance(template, str) else {"inline": template}
    if "arguments" in fields:
        fields["arguments"] = _parameters(fields["arguments"])
    return {"name": name, **runs, **fields}


def steps(*groups: Json | list[Json], name: str = "main", **fields: Any) -> Json:
    """A template of steps, one after the other; a list of steps runs at the same time."""
    return {"name": name, "steps": [one if isinstance(one, list) else [one] for one in groups]} | (
        fields
    )


def dag(*tasks: Json, name: str = "main") -> Json:
    """A template of tasks."""
    return {"name": name, "dag": {"tasks": list(tasks)}}


def workflow(
    name: str,
    *templates: Json,
    task: str = "5",
    stage: str | None = PR_CREATED,
    labels: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    **spec: Any,
) -> Json:
    """A Workflow whose entrypoint is the template `main`.

    Args:
        name: Of the Workflow.
        *templates: Its templates; without any, one step at one gate without outputs.
        task: Its task label.
        stage: Its stage label; None for none.
        labels: Further labels.
        arguments: Its parameters.
        **spec: Further fields of its spec.
    """
    own = {TASK: task, **({STAGE: stage} if stage else {}), **(labels or {})}
    body: Json = {"entrypoint": "main", **spec}
    if "workflowTemplateRef" not in spec:
        body["templates"] = list(templates) or [steps(step("wait", "gate")), gate()]
    if arguments:
        body["arguments"] = _parameters(arguments)
    return {
        "apiVersion": API_VERSION,
        "kind": "Workflow",
        "metadata": {"name": name, "labels": own},
        "spec": body,
    }


def two_gates(name: str, task: str, first: Json | None = None, **more: Any) -> Json:
    """A Workflow that waits at `first`, and once that is open at `second`: a resume too many shows.

    Args:
        name: Of the Workflow.
        task: Its task label.
        first: The template of the first gate, if it is not one without outputs.
        **more: Further arguments of `workflow`.
    """
    one, two = TWO_GATES
    main = steps(step(one, one), step(two, two))
    return workflow(name, main, first or gate(one), gate(two), task=task, **more)


def workflow_template(name: str, *templates: Json) -> Json:
    """A WorkflowTemplate."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowTemplate",
        "metadata": {"name": name},
        "spec": {"entrypoint": "main", "templates": list(templates)},
    }


def resume(
    name: str,
    workflow_name: str | None = None,
    *,
    task: str | int = "5",
    event_type: str = "pr-created",
    event: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    rules: Iterable[Json] = (),
    **spec: Any,
) -> Json:
    """A WorkflowResume.

    Args:
        name: Of the request.
        workflow_name: Of the Workflow it means; without, the one with its task label.
        task: Its task.
        event_type: Its event's type; the default belongs to stage `PR_CREATED`.
        event: The event.
        parameters: Values for the gate's supplied outputs.
        rules: Validation rules.
        **spec: Further fields of its spec, such as nodeFieldSelector.
    """
    body: Json = {"correlationData": {"taskId": task, "eventType": event_type}}
    if event is not None:
        body["correlationData"]["githubEvent"] = dict(event)
    if workflow_name:
        body["workflowName"] = workflow_name
    elif "labelSelector" not in spec:
        body["labelSelector"] = f"{TASK}={task}"
    if parameters:
        body["resumeParameters"] = _parameters(parameters)["parameters"]
    if rules := list(rules):
        body["validationRules"] = rules
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowResume",
        "metadata": {"name": name},
        "spec": {**body, **spec},
    }


def policy(name: str, *stages: Json, matches: Mapping[str, str], **spec: Any) -> Json:
    """A WorkflowResumePolicy for the Workflows with these labels."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowResumePolicy",
        "metadata": {"name": name},
        "spec": {
            "workflowSelector": {"matchLabels": dict(matches)},
            "stages": list(stages),
            **spec,
        },
    }


def rule(field: str, operator: str, value: str | None = None, **more: Any) -> Json:
    """A validation rule."""
    return {"field": field, "operator": operator, **({"value": value} if value else {}), **more}


def seed(name: str, values: Mapping[str, str]) -> Json:
    """A manifest as the requirements have it, with its placeholders filled in as a Sensor does it.

    Args:
        name: Of the file in `data/seed`.
        values: By placeholder; each has to stand in the manifest.
    """
    text = (_SEED / f"{name}.yaml").read_text()
    for placeholder, value in values.items():
        assert f"{{{{{placeholder}}}}}" in text, f"{name} has no {placeholder}"
        text = text.replace(f"{{{{{placeholder}}}}}", value)
    manifest: Json = yaml.safe_load(text)
    return manifest


def _parameters(values: Mapping[str, str] | Json) -> Json:
    if "parameters" in values:
        return dict(values)
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}
