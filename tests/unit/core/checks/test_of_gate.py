"""The checks at the gate: the one that is meant, rules on the workflow, parameters."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resumer.api.outcomes import Reason
from resumer.core.case import Case
from tests.builders import (
    NOW,
    STAGE,
    RequestBuilder,
    WorkflowBuilder,
    a_request,
    a_workflow,
    at_review,
    given,
    supplied,
    three_stages,
)
from tests.unit.core.scenes import Scene, decided, end_of, facts_of, opened_by, order_of, word


def test_a_rule_on_the_workflow_is_judged_when_the_gate_is_open() -> None:
    request = a_request().rule("approved", "equals", "yes")
    early = at_review(phase="Pending")
    assert end_of(decided(request, early))[0] is Reason.GATE_NOT_OPEN
    assert end_of(decided(request)) == (
        Reason.RULE_FAILED,
        "rule on approved (equals yes): found nothing",
    )
    assert word(decided(request, at_review().labelled(approved="yes"))) == "Resume wait"


def test_a_rule_on_more_than_labels_needs_the_whole_workflow() -> None:
    request = a_request().rule("workflow.spec.entrypoint", "equals", "main")
    assert word(decided(request, fresh=False)) == "Look"
    assert word(decided(request)) == "Resume wait"


TWO = a_workflow().in_stage(STAGE).gate("a").gate("b")


@pytest.mark.parametrize(
    ("request_", "workflow", "result"),
    [
        (a_request(), TWO, "SeveralGates"),
        (a_request().at_gate("displayName=b"), TWO, "Resume b"),
        (a_request().with_spec(allGates=True), TWO, "Resume a b"),
        (a_request().with_spec(allGates=True).at_gate("displayName!=a"), TWO, "Resume b"),
        (a_request(), at_review(duration="1h"), "GateNotOpen"),
        (a_request().with_spec(allGates=True), at_review(duration="1h"), "GateNotOpen"),
        (a_request().at_gate("displayName=wait"), at_review(duration="1h"), "Resume wait"),
        (a_request().at_gate("displayName=x"), at_review(), "GateNotOpen"),
        (
            a_request().at_gate("displayName=wait"),
            at_review(phase="Succeeded"),
            "GateAlreadyOpened",
        ),
        (a_request(), at_review(phase="Succeeded"), "GateNotOpen"),
        (a_request(), a_workflow().in_stage(STAGE), "GateNotOpen"),
    ],
)
def test_exactly_the_gate_that_is_meant_is_opened(
    request_: RequestBuilder, workflow: WorkflowBuilder, result: str
) -> None:
    assert word(decided(request_, workflow)) == result


def test_several_gates_are_named_and_both_ways_out() -> None:
    assert end_of(decided(None, TWO))[1] == (
        "2 open gates of workflow 'play' match: 'a', 'b'; "
        "name one with nodeFieldSelector, or say allGates: true"
    )


@pytest.mark.parametrize(
    ("message", "duration", "by"),
    [
        ("Resumed by: map[Email:a@b User:cleo]", "", "map[Email:a@b User:cleo]"),
        ("x; Resumed by: workflowresume/first (uid 1)", "", "workflowresume/first (uid 1)"),
        (None, "", "somebody else"),
        (None, "1h", "its duration"),
    ],
)
def test_a_gate_that_was_opened_before_says_by_whom(
    message: str | None, duration: str, by: str
) -> None:
    workflow = at_review(phase="Succeeded", message=message, duration=duration)
    found = decided(a_request().at_gate("displayName=wait"), workflow)
    assert end_of(found) == (
        Reason.GATE_ALREADY_OPENED,
        f"gate 'wait' of workflow 'play' was opened by {by}",
    )
    assert facts_of(found).resumed_by == by


def test_an_opened_gate_of_a_repeatable_stage_may_open_again() -> None:
    found = decided(
        a_request().at_gate("displayName=wait"),
        at_review(phase="Succeeded"),
        policy=three_stages(repeatable=True),
    )
    assert end_of(found) == (
        Reason.GATE_NOT_OPEN,
        "no matching gate of workflow 'play' is suspended",
    )


def test_the_gate_of_another_stage_that_was_opened_is_not_ours() -> None:
    policy = three_stages().with_spec(stageParameter="stage")
    workflow = a_workflow().in_stage(STAGE).gate("first", phase="Succeeded")
    assert word(decided(None, workflow, policy=policy)) == "GateNotOpen"


@pytest.mark.parametrize(
    ("request_", "workflow", "gates", "lifted"),
    [
        (a_request(), a_workflow().in_stage(STAGE).suspended(), [], True),
        (a_request(), at_review().suspended(), ["wait"], False),
        (a_request().with_spec(allGates=True), at_review().suspended(), ["wait"], True),
        (a_request().with_spec(allGates=True), at_review(), ["wait"], False),
        (a_request(), at_review(duration="1h").suspended(), [], True),
    ],
    ids=["nothing else waits", "a gate waits", "all", "all, and it is not suspended", "a delay"],
)
def test_a_whole_workflow_suspend_is_lifted_if_nothing_else_waits_or_all_is_asked_for(
    request_: RequestBuilder, workflow: WorkflowBuilder, gates: list[str], lifted: bool
) -> None:
    found = decided(request_, workflow)
    assert (opened_by(found), order_of(found).lift_suspend) == (gates, lifted)


def test_a_whole_workflow_suspend_is_not_lifted_for_a_gate_that_is_named() -> None:
    workflow = a_workflow().in_stage(STAGE).suspended()
    assert word(decided(a_request().at_gate("displayName=x"), workflow)) == "GateNotOpen"


@pytest.mark.parametrize(
    ("deadline", "opened", "now", "result"),
    [
        (900, 0, 0, "Resume wait"),
        (60, 0, 7200, "Resume wait"),
        (60, -1, 7200, "Resume wait"),
        (60, 1, 7200, "DeadlineExceeded"),
        (0, -61, 0, "Resume wait"),
        (0, -60, 0, "Resume wait"),
        (0, -59, 0, "DeadlineExceeded"),
        (None, 840, 7200, "Resume wait"),
        (None, 841, 7200, "DeadlineExceeded"),
    ],
    ids=[
        "in time",
        "at the deadline, looked at long after",
        "before it, looked at long after",
        "a second too late",
        "decide at once: it was open",
        "decide at once: it opened in that second",
        "decide at once: it opened after",
        "the policy's deadline",
        "after the policy's deadline",
    ],
)
def test_a_gate_counts_if_it_opened_within_the_deadline_whenever_it_is_looked_at(
    deadline: int | None, opened: float, now: float, result: str
) -> None:
    request = a_request().with_spec(deadlineSeconds=deadline)
    workflow = at_review(started=opened)
    assert word(decided(request, workflow, now=NOW + timedelta(seconds=now))) == result


def test_a_gate_that_opened_too_late_is_named() -> None:
    found = decided(a_request().with_spec(deadlineSeconds=0), at_review(started=-1))
    assert end_of(found)[1] == "gate 'wait' of workflow 'play' opened only after the deadline"


def test_a_gate_whose_time_cannot_be_read_is_not_late() -> None:
    assert word(decided(None, at_review(startedAt="soon"))) == "Resume wait"


def test_a_request_without_a_time_of_creation_counts_from_now() -> None:
    observed = Scene().observed()
    metadata = observed.request.metadata.model_copy(update={"creation_timestamp": None})
    request = observed.request.model_copy(update={"metadata": metadata})
    case = Case(Scene().observed(), NOW)
    assert Case(type(observed)(request, (), ()), NOW).deadline == NOW + timedelta(seconds=900)
    assert case.deadline == NOW + timedelta(seconds=840)


@pytest.mark.parametrize(
    ("outputs", "parameters", "reason"),
    [
        ({}, {"a": "x"}, Reason.UNKNOWN_PARAMETER),
        ({"a": supplied()}, {}, Reason.MISSING_PARAMETER),
        ({"a": given("x")}, {"a": "y"}, Reason.PARAMETER_ALREADY_SET),
        ({"a": supplied()}, {"a": "{{workflow.name}}"}, Reason.TEMPLATE_IN_PARAMETER),
        ({"a": supplied()}, {"a": "x {{= 1 }}"}, Reason.TEMPLATE_IN_PARAMETER),
    ],
)
def test_parameters_that_do_not_fit_are_rejected(
    outputs: dict[str, dict[str, object]], parameters: dict[str, str], reason: Reason
) -> None:
    request = a_request()
    for name, value in parameters.items():
        request.parameter(name, value)
    found = decided(request, at_review(outputs=outputs))
    assert end_of(found)[0] is reason


def test_the_label_by_which_the_workflow_is_found_may_not_be_set() -> None:
    found = decided(a_request().with_spec(setLabels={"task-id": "7"}))
    reason, message = end_of(found)
    assert reason is Reason.LABEL_NOT_ALLOWED
    assert message == (
        "setLabels names 'task-id', the task label of policy 'play', by which the workflow is "
        "found; any label but that one may be set"
    )


def test_the_task_label_is_that_of_the_policy_of_the_workflow() -> None:
    policy = three_stages().with_spec(taskLabel="ticket")
    workflow = at_review().labelled(ticket="7")
    other = a_request().with_spec(setLabels={"task-id": "8"})
    assert order_of(decided(other, workflow, policy=policy)).labels["task-id"] == "8"
    own = a_request().with_spec(setLabels={"ticket": "8"})
    assert end_of(decided(own, workflow, policy=policy))[0] is Reason.LABEL_NOT_ALLOWED


def test_a_value_that_the_workflow_does_not_allow_is_rejected() -> None:
    workflow = at_review(outputs={"a": supplied()})
    workflow.node(
        "wait",
        inputs={"parameters": [{"name": "a", "value": "YES", "enum": ["YES", "NO"]}]},
        outputs={"parameters": [{"name": "a", **supplied()}]},
    )
    request = a_request().parameter("a", "MAYBE")
    assert end_of(decided(request, workflow))[0] is Reason.VALUE_NOT_ALLOWED


@pytest.mark.parametrize("value", ["{ x", "}}", "{ {x", "${x}", 'ünï\n"code"\\', ""])
def test_a_value_is_handed_on_as_it_is(value: str) -> None:
    found = decided(a_request().parameter("a", value), at_review(outputs={"a": supplied()}))
    assert order_of(found).gates[0].fills[0].value == value


@pytest.mark.parametrize("value", ["\x07", "a\x00", "\ud800", "\U000e0001"])
def test_a_value_that_argo_cannot_hand_on_is_rejected(value: str) -> None:
    found = decided(a_request().parameter("a", value), at_review(outputs={"a": supplied()}))
    assert end_of(found)[0] is Reason.VALUE_NOT_ALLOWED
    assert "a character that Argo cannot hand on" in end_of(found)[1]


def test_a_stage_may_allow_templates() -> None:
    found = decided(
        a_request().parameter("a", "{{workflow.name}}"),
        at_review(outputs={"a": supplied()}),
        policy=three_stages(allowTemplates=True),
    )
    assert order_of(found).gates[0].fills[0].value == "{{workflow.name}}"


def test_a_whole_workflow_suspend_takes_no_parameters() -> None:
    request = a_request().parameter("a", "x")
    found = decided(request, a_workflow().in_stage(STAGE).suspended())
    assert end_of(found)[0] is Reason.UNKNOWN_PARAMETER
