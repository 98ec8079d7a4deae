"""Models: what is read from the API server, what is written to it, and what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import hypothesis
import pydantic
import pytest
from hypothesis import strategies as st

from resumer import errors
from resumer.api import base, breaker, outcomes, policy, resume
from resumer.api.outcomes import Outcome, Phase

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def manifest(**spec: Any) -> dict[str, Any]:
    """A request as the API server sends it."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResume",
        "metadata": {
            "name": "one",
            "namespace": "argo",
            "uid": "u-1",
            "generation": 1,
            "creationTimestamp": "2026-01-02T12:00:00Z",
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "workflowName": "play-1",
            "correlationData": {"taskId": "5", "eventType": "pr-created"},
            **spec,
        },
    }


def read(**spec: Any) -> resume.WorkflowResume:
    """The model of a request."""
    return resume.WorkflowResume.from_json(manifest(**spec))


def test_an_integer_means_the_string_of_its_digits() -> None:
    request = read(
        correlationData={"taskId": 5, "eventType": "pr-created"},
        validationRules=[{"field": "task-id", "operator": "equals", "value": 5}],
        resumeParameters=[{"name": "pr-number", "value": 123}],
    )
    assert request.spec.correlation_data.task_id == "5"
    assert request.spec.validation_rules[0].value == "5"
    assert request.spec.resume_parameters[0].value == "123"


def test_metadata_is_read_with_a_time_zone() -> None:
    metadata = read().metadata
    assert metadata.creation_timestamp == NOON
    assert (metadata.name, metadata.namespace, metadata.uid) == ("one", "argo", "u-1")


def test_a_null_is_an_absent_field() -> None:
    request = read(labelSelector=None, ttlSecondsAfterFinished=None, setLabels={"a": None})
    assert request == read(setLabels={})
    assert request.spec.ttl_seconds_after_finished == 86400


def test_the_event_is_kept_as_it_is() -> None:
    event = {"action": None, "pull_request": {"labels": [{"name": None}], "draft": False}}
    request = read(correlationData={"taskId": "5", "eventType": "x", "githubEvent": event})
    assert request.spec.correlation_data.github_event == event


def test_a_model_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        read().spec.dry_run = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"workflowName": None}, "spec", "workflowName or labelSelector is required"),
        ({"labelSelector": "a={{b}}"}, "spec.labelSelector", "a template was not rendered"),
        ({"setLabels": {"a.argoproj.io/b": "c"}}, "spec.setLabels", "belongs to Argo"),
        (
            {"validationRules": [{"field": "a", "operator": "in", "value": "b"}]},
            "spec.validationRules[0]",
            "need values",
        ),
        (
            {"resumeParameters": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]},
            "spec.resumeParameters",
            "a name may stand only once",
        ),
    ],
    ids=str,
)
def test_an_error_names_the_field(spec: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        read(**spec)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert said in str(caught.value)


def test_an_error_says_how_many_more_there_are() -> None:
    with pytest.raises(errors.InvalidError, match=r"\(and 1 more\)$"):
        read(targetStage="-", policyName="-")


def test_the_error_holds_no_value_of_the_object() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        read(resumeParameters=[{"name": "a", "value": "secret" * 2000}])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("raw", [{}, {"spec": None}, {"metadata": [], "spec": 5}])
def test_what_is_no_request_at_all_is_refused_in_our_words(raw: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidError):
        resume.WorkflowResume.from_json(raw)


def test_settings_of_a_policy_that_are_left_out_are_not_set() -> None:
    raw = {"metadata": {}, "spec": {"stages": [{"name": "a", "retry": {"maxAttempts": 5}}]}}
    found = policy.WorkflowResumePolicy.from_json(raw)
    (stage,) = found.spec.stages
    assert stage.retry == policy.RetrySettings(max_attempts=5)
    assert stage.ambiguity is None
    assert stage.set_labels is None
    assert found.spec.task_label == "task-id"


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        (
            {"stages": [{"name": name, "eventTypes": ["pr-created"]} for name in "ab"]},
            "spec.stages",
            "an event type may belong to one stage only",
        ),
        ({"stages": [{"name": "a"}] * 2}, "spec.stages", "a stage may stand only once"),
        (
            {"stages": [{"name": "a", "eventTypes": ["b", "b"]}]},
            "spec.stages[0].eventTypes",
            "an event type may stand only once",
        ),
        (
            {
                "stages": [
                    {"name": f"s{stage}", "eventTypes": [f"{stage}-{kind}" for kind in range(32)]}
                    for stage in range(17)
                ]
            },
            "spec.stages",
            "at most 512 event types",
        ),
        ({"defaults": {"retry": {"strategy": "Custom"}}}, "spec.defaults.retry", "delaysSeconds"),
        ({"defaults": {"setLabels": {"argoproj.io/a": "b"}}}, "spec.defaults.setLabels", "Argo"),
        ({"taskLabel": f"{'a' * 254}/b"}, "spec.taskLabel", "at most 253 characters"),
        (
            {"workflowSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.workflowSelector.matchExpressions[0]",
            "need values",
        ),
    ],
    ids=["two stages", "same stage", "same type", "too many", "custom", "argo", "prefix", "in"],
)
def test_an_error_in_a_policy_names_the_field(spec: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        policy.WorkflowResumePolicy.from_json({"metadata": {}, "spec": spec})
    assert caught.value.field == field
    assert said in str(caught.value)


def test_a_number_that_is_whole_is_an_integer() -> None:
    raw = {"metadata": {}, "spec": {"defaults": {"deadlineSeconds": 5.0, "retry": {"factor": 2}}}}
    found = policy.WorkflowResumePolicy.from_json(raw).spec.defaults
    assert found.deadline_seconds == 5
    assert found.retry == policy.RetrySettings(factor=2.0)


@pytest.mark.parametrize("wrong", [True, "5", 5.5])
def test_what_only_looks_like_an_integer_is_none(wrong: object) -> None:
    with pytest.raises(errors.InvalidError, match="deadlineSeconds"):
        read(deadlineSeconds=wrong)


@pytest.mark.parametrize("wrong", [True, 5.0, 2**53, None])
def test_a_task_is_a_string_or_an_integer(wrong: object) -> None:
    with pytest.raises(errors.InvalidError, match="taskId"):
        read(correlationData={"taskId": wrong, "eventType": "pr-created"})


def test_a_breaker_without_status_is_closed() -> None:
    found = breaker.WorkflowResumeBreaker.from_json({"metadata": {}, "spec": {"stage": "a"}})
    assert found.status.state is breaker.BreakerState.CLOSED
    assert found.status.consecutive_failures == 0


def test_status_is_written_by_alias_without_what_is_empty() -> None:
    status = resume.ResumeStatus(
        observed_generation=1,
        phase=Phase.SUCCEEDED,
        outcome=Outcome.RESUMED,
        reason=outcomes.Reason.GATE_OPENED,
        correlation_id="c-1",
        resumed_time=NOON,
        workflow=resume.WorkflowStatus(
            name="play-1", nodes=(resume.ResumedNode(id="play-1-7", started_at=NOON),)
        ),
    )
    assert status.to_json() == {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "outcome": "Resumed",
        "reason": "GateOpened",
        "correlationID": "c-1",
        "resumedTime": "2026-01-02T12:00:00Z",
        "workflow": {
            "name": "play-1",
            "uid": "",
            "nodes": [
                {
                    "id": "play-1-7",
                    "displayName": "",
                    "templateName": "",
                    "startedAt": "2026-01-02T12:00:00Z",
                }
            ],
        },
    }


@hypothesis.given(
    st.datetimes(
        min_value=datetime.datetime(1970, 1, 2),  # noqa: DTZ001 the zone is another argument
        timezones=st.sampled_from(
            [datetime.UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=30))]
        ),
    )
)
def test_a_moment_survives_the_wire(moment: datetime.datetime) -> None:
    text = base.rfc3339(moment)
    assert text.endswith("Z")
    assert resume.RetryStatus.from_json({"nextAttemptTime": text}).next_attempt_time == moment


@pytest.mark.parametrize("wrong", [1767355200, "2026-01-02T12:00:00", "yesterday", True])
def test_a_time_without_a_zone_or_form_is_refused(wrong: object) -> None:
    with pytest.raises(errors.InvalidError, match="nextAttemptTime"):
        resume.RetryStatus.from_json({"nextAttemptTime": wrong})


@pytest.mark.parametrize(
    ("text", "expected"), [("abc", "abc"), ("abcd", "ab…"), ("", "")], ids=repr
)
def test_a_text_is_cut_at_its_limit(text: str, expected: str) -> None:
    assert base.truncate(text, 3) == expected
