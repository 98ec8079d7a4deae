"""Names that appear on the wire: group, kinds, label keys, annotation keys.

They are the contract with Kubernetes and with Argo; a change here is a change for every user.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "argoproj.io"
"""The API group of Argo's kinds and of ours."""

VERSION: Final = "v1alpha1"
"""The only version served."""

API_VERSION: Final = f"{GROUP}/{VERSION}"
"""``apiVersion`` as it stands in a manifest."""

RESUME_KIND: Final = "WorkflowResume"
"""One request to resume."""

RESUME_PLURAL: Final = "workflowresumes"
"""The resource name of `RESUME_KIND`."""

POLICY_KIND: Final = "WorkflowResumePolicy"
"""The stages of a kind of workflow and how each is resumed."""

POLICY_PLURAL: Final = "workflowresumepolicies"
"""The resource name of `POLICY_KIND`."""

BREAKER_KIND: Final = "WorkflowResumeBreaker"
"""The circuit breaker of one stage of one namespace."""

BREAKER_PLURAL: Final = "workflowresumebreakers"
"""The resource name of `BREAKER_KIND`."""

WORKFLOW_KIND: Final = "Workflow"
"""Argo's kind."""

WORKFLOW_PLURAL: Final = "workflows"
"""The resource name of `WORKFLOW_KIND`."""

FIELD_MANAGER: Final = "resumer"
"""The name under which our writes stand in ``managedFields``."""

ARGO_LABEL_DOMAIN: Final = "argoproj.io"
"""Label keys under this domain belong to Argo: ``setLabels`` may not write them."""

LABEL_COMPLETED: Final = "workflows.argoproj.io/completed"
"""Argo sets it to ``true`` when a workflow has finished; absent or ``false`` before."""

LABEL_PHASE: Final = "workflows.argoproj.io/phase"
"""Argo's copy of ``.status.phase`` of a workflow."""

LABEL_INSTANCE_ID: Final = "workflows.argoproj.io/controller-instanceid"
"""Which of several Argo controllers owns a workflow; absent where there is one."""

LABEL_ACTOR: Final = "workflows.argoproj.io/actor"
"""Who acted last on a workflow; written by Argo's server and, on a resume, by us."""

LABEL_ACTOR_EMAIL: Final = "workflows.argoproj.io/actor-email"
"""The actor's address, written by Argo's server; stale after a resume of ours."""

LABEL_ACTOR_USERNAME: Final = "workflows.argoproj.io/actor-preferred-username"
"""The actor's user name, written by Argo's server; stale after a resume of ours."""

LABEL_ACTION: Final = "workflows.argoproj.io/action"
"""What the actor did last."""

ACTION_RESUME: Final = "Resume"
"""The value of `LABEL_ACTION` for a resume, as Argo's server writes it."""

ACTION_STOP: Final = "Stop"
"""The same for ``argo stop``, which with a node field selector fails gates."""

STAGE_MARKER_PREFIX: Final = "stage.resumer.argoproj.io/"
"""Annotation on a Workflow, followed by a stage: which node was resumed, and by whom."""

EVENT_MARKER_PREFIX: Final = "event.resumer.argoproj.io/"
"""The same for a request without a stage, followed by the event type."""

TRACEPARENT: Final = "resumer.argoproj.io/traceparent"
"""Annotation on a WorkflowResume: the W3C trace context of the event that asked for it."""

TRACESTATE: Final = "resumer.argoproj.io/tracestate"
"""The same for what vendors add to it."""

WHOLE_WORKFLOW: Final = "/spec/suspend"
"""Stands for the node in a marker when the whole workflow was suspended.

The slash keeps it apart from node ids.
"""

DEFAULT_TASK_LABEL: Final = "task-id"
"""The label of a workflow that names its task, where the policy names no other."""

DEFAULT_STAGE_LABEL: Final = "current-stage"
"""The label of a workflow that names its stage, where the policy names no other."""
