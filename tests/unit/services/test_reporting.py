"""`Reporter`: what is told of a decision, to whom, and under which bounded names."""

from __future__ import annotations

from datetime import timedelta

import pytest
import structlog

from resumer.api.outcomes import Reason
from resumer.core.observation import NOTHING, End, Facts
from resumer.core.policies import BUILT_IN
from resumer.core.rules import Check
from resumer.services import reporting
from resumer.services.reporting import Origin, Reporter
from tests import builders, fakes

NOW = builders.NOW
POLICY = builders.three_stages().resolved()
UNKNOWN = Origin(created=None, opened=None)


class Scene:
    def __init__(self) -> None:
        self.events = fakes.FakeEvents()
        self.telemetry = fakes.FakeTelemetry()
        self.reporter = Reporter(self.events, self.telemetry)


def facts(stage: str = "review") -> Facts:
    workflow = builders.at_review().view()
    return Facts(POLICY, POLICY.stage(stage), workflow=workflow, gates=workflow.gates)


@pytest.mark.parametrize(
    ("stage", "label"), [("review", "review"), ("somebody's own", "other"), ("", "")]
)
def test_only_a_listed_stage_becomes_a_label(stage: str, label: str) -> None:
    assert reporting.metric_stage(facts(stage)) == label


def test_a_thousand_stages_of_users_make_one_label() -> None:
    scene = Scene()
    for number in range(1000):
        request = builders.a_request().for_stage(f"stage-{number}").model()
        end = End(Reason.WORKFLOW_NOT_FOUND, "no workflow")
        stage = BUILT_IN.stage(f"stage-{number}")
        scene.reporter.decided(request, Facts(BUILT_IN, stage), end, NOW, UNKNOWN)
    assert {stage for stage, _, _ in scene.telemetry.decisions} == {"other"}


def test_an_outcome_that_somebody_should_read_is_a_warning() -> None:
    scene = Scene()
    check = Check("labels.team", "equals", "blue", "red", passed=False)
    passed = Check("task-id", "equals", "7", "7", passed=True)
    found = Facts(POLICY, POLICY.stage("review"), checks=(passed, check))
    with structlog.testing.capture_logs() as logs:
        scene.reporter.decided(
            builders.a_request().model(), found, End(Reason.RULE_FAILED, "no"), NOW, UNKNOWN
        )
    assert [(event.warning, event.reason) for event in scene.events.published] == [
        (True, "RuleFailed")
    ]
    (line,) = logs
    assert line["log_level"] == "warning"
    assert line["failed_checks"] == [{"field": "labels.team", "expected": "blue", "actual": "red"}]
    assert line["workflow"] is None


def test_the_same_reason_again_is_logged_and_neither_counted_nor_published() -> None:
    scene = Scene()
    request = builders.a_request().failed_attempt(due=2).model()
    with structlog.testing.capture_logs() as logs:
        scene.reporter.decided(
            request, facts(), End(Reason.API_UNAVAILABLE, "attempt 2"), NOW, UNKNOWN
        )
    assert scene.events.published == []
    assert scene.telemetry.decisions == []
    assert len(logs) == 1
    limited = End(Reason.RATE_LIMITED, "attempt 3")
    scene.reporter.decided(request, facts(), limited, NOW, UNKNOWN)
    assert scene.telemetry.decisions == [("review", "BackingOff", "RateLimited")]


def test_a_resume_is_measured_from_its_origin_and_told_on_the_workflow() -> None:
    scene = Scene()
    origin = Origin(created=NOW - timedelta(seconds=3), opened=NOW - timedelta(seconds=1.5))
    end = End(Reason.GATE_OPENED, "opened 'wait' of workflow 'play'")
    scene.reporter.decided(builders.a_request().model(), facts(), end, NOW, origin)
    assert scene.telemetry.latencies == [("review", 3.0, 1.5)]
    assert scene.events.published[1] == fakes.Published(
        "Workflow",
        "play",
        False,
        "ResumedByRequest",
        "WorkflowResume wake opened 'wait' of workflow 'play'",
    )


def test_a_whole_workflow_has_no_gate_to_measure_from() -> None:
    scene = Scene()
    origin = Origin(created=NOW - timedelta(seconds=3), opened=None)
    end = End(Reason.WORKFLOW_UNSUSPENDED, "lifted spec.suspend of workflow 'play'")
    scene.reporter.decided(builders.a_request().model(), facts(), end, NOW, origin)
    assert scene.telemetry.latencies == [("review", 3.0, 3.0)]


def test_without_any_time_a_resume_took_none() -> None:
    scene = Scene()
    end = End(Reason.GATE_OPENED, "opened 'wait'")
    scene.reporter.decided(builders.a_request().model(), NOTHING, end, NOW, UNKNOWN)
    assert scene.telemetry.latencies == [("", 0.0, 0.0)]
    assert [event.kind for event in scene.events.published] == ["WorkflowResume"]


def test_a_superseded_workflow_is_told_on_itself_by_which_newer_one() -> None:
    scene = Scene()
    older = builders.at_review("old").view()
    scene.reporter.superseded(builders.a_request().model(), older, by="new")
    assert scene.events.published == [
        fakes.Published(
            "Workflow",
            "old",
            True,
            "TerminatedAsSuperseded",
            "WorkflowResume wake means the newer workflow new",
        )
    ]


def test_a_request_that_cannot_be_read_is_counted_under_no_stage_of_its_own() -> None:
    scene = Scene()
    scene.reporter.refused(Reason.INVALID_OBJECT)
    assert scene.telemetry.decisions == [("other", "Rejected", "InvalidObject")]
