"""What is told about a decision once it is recorded: a log line, metrics, Kubernetes Events.

Events are few: one on the WorkflowResume when its outcome or reason changes, one on the Workflow
when it was resumed or its gate was failed. Stages in metrics are those that a policy lists; any
other is ``other``, so that no user can grow the label set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from resumer import ports
from resumer.api import constants
from resumer.api.outcomes import Outcome, Phase, Reason
from resumer.api.resume import WorkflowResume
from resumer.core.observation import End, Facts
from resumer.core.workflows import WorkflowView

RESUMED_EVENT = "ResumedByRequest"
"""The reason of the Event on a Workflow that was resumed."""
FAILED_EVENT = "FailedByRequest"
"""The reason of the Event on a Workflow whose gate was failed."""
SUPERSEDED_EVENT = "TerminatedAsSuperseded"
"""The reason of the Event on a Workflow that was terminated for a newer one of its task."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """From when on the time of a resume is measured."""

    created: datetime | None
    """When the request came."""
    opened: datetime | None
    """When the last of its gates opened; None where the workflow was suspended as a whole."""


class Reporter:
    """Tells."""

    def __init__(self, events: ports.Events, telemetry: ports.Telemetry) -> None:
        self._events = events
        self._telemetry = telemetry

    def decided(
        self, request: WorkflowResume, facts: Facts, end: End, now: datetime, origin: Origin
    ) -> None:
        """The status of a request changed."""
        outcome = end.reason.outcome
        warn = outcome.phase is Phase.FAILED
        (_log.warning if warn else _log.info)(
            "decided",
            outcome=outcome,
            reason=end.reason,
            message=end.message,
            workflow=facts.workflow.key.name if facts.workflow else None,
            stage=facts.stage.name,
            task=request.spec.correlation_data.task_id,
            event_type=request.spec.correlation_data.event_type,
            failed_checks=[
                {"field": check.field, "expected": check.expected, "actual": check.actual}
                for check in facts.checks
                if not check.passed
            ],
        )
        if (request.status.outcome, request.status.reason) != (outcome, str(end.reason)):
            self._telemetry.decided(metric_stage(facts), outcome, end.reason)
            self._events.publish(
                _of_request(request), warning=warn, reason=end.reason, message=end.message
            )
        if outcome is Outcome.RESUMED:
            self._resumed(facts, now, origin)
        if outcome.written and facts.workflow is not None:
            failed = outcome is Outcome.GATE_FAILED
            self._events.publish(
                _of_workflow(facts.workflow),
                warning=failed,
                reason=FAILED_EVENT if failed else RESUMED_EVENT,
                message=f"WorkflowResume {request.metadata.name} {end.message}",
            )

    def superseded(self, request: WorkflowResume, older: WorkflowView, *, by: str) -> None:
        """A workflow was terminated, because the policy says that the newer one is meant."""
        _log.warning("superseded workflow terminated", workflow=older.key.name, newer=by)
        self._events.publish(
            _of_workflow(older),
            warning=True,
            reason=SUPERSEDED_EVENT,
            message=f"WorkflowResume {request.metadata.name} means the newer workflow {by}",
        )

    def refused(self, reason: Reason) -> None:
        """A request that cannot even be read was refused."""
        self._telemetry.decided("other", reason.outcome, reason)

    def _resumed(self, facts: Facts, now: datetime, origin: Origin) -> None:
        created = origin.created or now
        self._telemetry.resumed(
            metric_stage(facts),
            (now - created).total_seconds(),
            (now - (origin.opened or created)).total_seconds(),
        )


def metric_stage(facts: Facts) -> str:
    """The stage as a metric's label: a listed one, or ``other``, or empty where there is none."""
    name = facts.stage.name
    return name if not name or facts.policy.position(name) is not None else "other"


def _of_request(request: WorkflowResume) -> ports.Body:
    metadata = request.metadata
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.RESUME_KIND,
        "metadata": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid},
    }


def _of_workflow(workflow: WorkflowView) -> ports.Body:
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.WORKFLOW_KIND,
        "metadata": {
            "namespace": workflow.key.namespace,
            "name": workflow.key.name,
            "uid": workflow.uid,
        },
    }
