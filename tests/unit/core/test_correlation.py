"""Which workflows a request can mean, and how each stands, seen from the stage it is for."""

from __future__ import annotations

import pytest

from resumer.api.outcomes import Reason
from resumer.core import correlation, selectors
from resumer.core.correlation import Candidate, Mismatch, Standing
from tests.builders import (
    PolicyBuilder,
    RequestBuilder,
    WorkflowBuilder,
    a_bare_workflow,
    a_policy,
    a_request,
    a_workflow,
    at_review,
    three_stages,
)

BY_PARAMETER = three_stages().with_spec(stageParameter="stage")
REPEATABLE = three_stages(repeatable=True)


def found(
    request: RequestBuilder, *workflows: WorkflowBuilder, policies: tuple[PolicyBuilder, ...] = ()
) -> list[Candidate | Mismatch]:
    spec = request.model().spec
    text = spec.label_selector
    selector = selectors.LabelSelector.parse(text) if text else selectors.LabelSelector()
    views = [workflow.view() for workflow in workflows]
    known = [policy.resolved() for policy in policies]
    return list(correlation.candidates(spec, selector, views, known))


def standing(
    workflow: WorkflowBuilder,
    *,
    request: RequestBuilder | None = None,
    policy: PolicyBuilder | None = None,
) -> Standing:
    (candidate,) = found(request or a_request(), workflow, policies=(policy or three_stages(),))
    assert isinstance(candidate, Candidate)
    assert (candidate.marker is not None) is (candidate.standing is Standing.RESUMED)
    return candidate.standing


@pytest.mark.parametrize(
    ("workflow", "stands"),
    [
        (a_workflow(), Standing.AHEAD),
        (a_workflow().in_stage("draft"), Standing.AHEAD),
        (a_workflow().in_stage("elsewhere"), Standing.AHEAD),
        (a_workflow().in_stage("review"), Standing.THERE),
        (a_workflow().in_stage("release"), Standing.PASSED),
        (a_workflow().in_stage("release").marked("review"), Standing.RESUMED),
        (a_workflow().in_stage("draft").marked("review"), Standing.RESUMED),
        (a_workflow().in_stage("review").marked("draft"), Standing.THERE),
        (a_workflow().in_stage("review").marked(workflow_uid="older"), Standing.THERE),
        (a_workflow().in_stage("review").marked(event_type="reviewed"), Standing.THERE),
        (a_workflow().in_stage("review").finished(), Standing.PASSED),
        (a_workflow().in_stage("review").marked().finished(), Standing.RESUMED),
    ],
    ids=[
        "early: no stage yet",
        "early: an earlier stage",
        "early: a stage that the policy does not list",
        "there",
        "late: a later stage",
        "a duplicate, and the workflow has gone on",
        "a duplicate, whatever the label says",
        "there: another stage was resumed",
        "there: the marker was copied from another workflow (argo resubmit)",
        "there: the marker is for requests without a stage",
        "late: finished",
        "a duplicate, and the workflow has finished",
    ],
)
def test_a_workflow_stands_where_its_label_and_its_marker_say(
    workflow: WorkflowBuilder, stands: Standing
) -> None:
    assert standing(workflow) is stands


@pytest.mark.parametrize(
    ("workflow", "policy", "stands"),
    [
        (at_review().marked(node="wait"), three_stages(), Standing.RESUMED),
        (at_review(phase="Succeeded").marked(node="wait"), three_stages(), Standing.RESUMED),
        (at_review().marked(node="gone"), three_stages(), Standing.RESUMED),
        (at_review().marked(node="wait", started=-500), three_stages(), Standing.THERE),
        (
            at_review(phase="Succeeded").marked(node="wait", started=-500),
            three_stages(),
            Standing.RESUMED,
        ),
        (at_review().marked(), REPEATABLE, Standing.THERE),
        (at_review().marked().finished(), REPEATABLE, Standing.RESUMED),
    ],
    ids=[
        "the same gate, seen before its end",
        "the same gate, opened",
        "a gate that is no longer there",
        "the same gate, started anew (argo retry)",
        "started anew, and opened again",
        "a stage that may be passed more than once",
        "such a stage of a finished workflow",
    ],
)
def test_a_marker_counts_unless_its_gate_was_started_anew_or_the_stage_is_repeatable(
    workflow: WorkflowBuilder, policy: PolicyBuilder, stands: Standing
) -> None:
    assert standing(workflow, policy=policy) is stands


@pytest.mark.parametrize(
    ("workflow", "stands"),
    [
        (a_workflow(), Standing.THERE),
        (a_workflow().in_stage("release"), Standing.THERE),
        (a_workflow().marked(event_type="merged"), Standing.RESUMED),
        (a_workflow().marked("review"), Standing.THERE),
        (a_workflow().finished(), Standing.PASSED),
    ],
)
def test_without_a_stage_every_live_workflow_without_a_marker_is_there(
    workflow: WorkflowBuilder, stands: Standing
) -> None:
    request = a_request().for_stage(None).of_event("merged")
    assert standing(workflow, request=request) is stands


@pytest.mark.parametrize(
    ("workflow", "stands"),
    [
        (a_workflow().gate(inputs={"stage": "review"}), Standing.THERE),
        (at_review(inputs={"stage": "draft"}), Standing.AHEAD),
        (at_review(inputs={"stage": "release"}), Standing.PASSED),
        (at_review(inputs={"stage": "release"}, phase="Succeeded"), Standing.THERE),
        (at_review(inputs={"stage": ""}), Standing.THERE),
        (at_review(), Standing.THERE),
        (
            a_workflow()
            .gate("a", inputs={"stage": "release"})
            .gate("b", inputs={"stage": "draft"}),
            Standing.AHEAD,
        ),
        (
            a_workflow()
            .gate("a", inputs={"stage": "release"})
            .gate("b", inputs={"stage": "review"}),
            Standing.THERE,
        ),
    ],
    ids=[
        "the gate names it",
        "the gate names an earlier one, against the label",
        "the gate names a later one, against the label",
        "the gate is not open, the label counts",
        "the gate's parameter is empty, the label counts",
        "the gate has no parameter, the label counts",
        "several gates: one is still earlier",
        "several gates: one is it",
    ],
)
def test_a_stage_parameter_on_an_open_gate_wins_over_the_label(
    workflow: WorkflowBuilder, stands: Standing
) -> None:
    assert standing(workflow, policy=BY_PARAMETER) is stands


@pytest.mark.parametrize(
    ("request_", "stage"),
    [
        (a_request().for_stage("draft"), "draft"),
        (a_request().for_stage("nowhere"), "nowhere"),
        (a_request().for_stage(None), "review"),
        (a_request().for_stage(None).of_event("merged"), ""),
        (a_request().for_stage(None).of_event("merged").selecting("current-stage=draft"), "draft"),
        (a_request().for_stage(None).selecting("current-stage=draft"), "review"),
        (a_request().for_stage(None).of_event("merged").selecting("current-stage!=draft"), ""),
    ],
    ids=[
        "its own",
        "its own, unknown to the policy",
        "its event type's",
        "none",
        "the one its selector asks for",
        "its event type's before its selector's",
        "a selector that only excludes asks for none",
    ],
)
def test_a_request_means_one_stage_or_none(request_: RequestBuilder, stage: str) -> None:
    spec = request_.model().spec
    text = spec.label_selector
    selector = selectors.LabelSelector.parse(text) if text else selectors.LabelSelector()
    assert correlation.target_stages(spec, three_stages().resolved(), selector) == (stage,)


def test_a_marker_is_for_a_stage_or_without_one_for_an_event_type() -> None:
    assert correlation.marker_key("review", "reviewed") == "stage.resumer.argoproj.io/review"
    assert correlation.marker_key("", "reviewed") == "event.resumer.argoproj.io/reviewed"


# --- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "workflow"),
    [
        (a_request(), a_workflow().labelled(task="8")),
        (a_request(), a_bare_workflow()),
        (a_request().selecting("kind=play"), a_workflow()),
        (a_request().named("other"), a_workflow("play")),
    ],
    ids=["another task", "no task", "another label", "another name"],
)
def test_a_workflow_that_does_not_match_is_no_candidate(
    request_: RequestBuilder, workflow: WorkflowBuilder
) -> None:
    assert found(request_, workflow) == []


@pytest.mark.parametrize(
    ("request_", "workflow", "reason", "message"),
    [
        (
            a_request(),
            a_bare_workflow(),
            Reason.TASK_LABEL_MISSING,
            "workflow 'play' has no label 'task-id', so nothing ties it to a task",
        ),
        (
            a_request(),
            a_workflow().labelled(task="8"),
            Reason.TASK_MISMATCH,
            "workflow 'play' has task-id=8, the request has taskId '7'",
        ),
        (
            a_request().selecting("kind in (play,work),!draft"),
            a_workflow(),
            Reason.SELECTOR_MISMATCH,
            "workflow 'play' does not match labelSelector !draft,kind in (play,work)",
        ),
    ],
)
def test_the_named_workflow_is_compared_and_the_difference_told(
    request_: RequestBuilder, workflow: WorkflowBuilder, reason: Reason, message: str
) -> None:
    assert found(request_.named("play"), workflow) == [Mismatch(reason, message)]


@pytest.mark.parametrize("named", [True, False])
def test_a_selector_that_asks_for_another_stage_than_the_request_is_a_contradiction(
    named: bool,
) -> None:
    request = a_request().selecting("current-stage=draft")
    request = request.named("play") if named else request
    assert found(request, a_workflow(), a_workflow("task-8").labelled(task="8")) == [
        Mismatch(
            Reason.SELECTOR_MISMATCH,
            "labelSelector asks for current-stage=draft, but the request is for stage 'review'",
        )
    ]


@pytest.mark.parametrize(
    "selector", ["current-stage=review", "current-stage in (draft,review)", "current-stage!=draft"]
)
@pytest.mark.parametrize("stage", ["draft", "review", "release"])
def test_a_requirement_on_the_stage_is_no_part_of_the_lookup(selector: str, stage: str) -> None:
    assert found(a_request().selecting(selector), a_workflow().in_stage(stage))


def test_each_workflow_stands_under_its_own_policy() -> None:
    play = three_stages(deadlineSeconds=5).for_workflows({"kind": "play"})
    ticket = (
        a_policy("ticket")
        .for_workflows({"kind": "ticket"})
        .with_spec(taskLabel="ticket", stageLabel="step")
    )
    candidates = found(
        a_request(),
        a_workflow("one").labelled(kind="play").in_stage("release"),
        a_bare_workflow("two").labelled(kind="ticket", ticket="7", step="review", task_id="9"),
        a_workflow("three").labelled(kind="ticket"),
        policies=(play, ticket),
    )
    assert [
        (item.workflow.key.name, item.policy.name, item.stage.deadline_seconds, item.standing)
        for item in candidates
        if isinstance(item, Candidate)
    ] == [("one", "play", 5, Standing.PASSED), ("two", "ticket", 900, Standing.THERE)]


def test_the_task_label_is_that_of_the_policy() -> None:
    ticket = a_policy("ticket").with_spec(taskLabel="ticket", stageLabel="step")
    request = a_request().selecting("ticket")
    (candidate,) = found(
        request, a_bare_workflow().labelled(ticket="7", step="review"), policies=(ticket,)
    )
    assert isinstance(candidate, Candidate)
    assert candidate.standing is Standing.THERE
    assert found(request, a_workflow(), policies=(ticket,)) == []
