"""Which gates a request means, and what they hand on: never more than asked, never unset."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from resumer.api.outcomes import Reason
from resumer.core import gates, selectors
from resumer.core.gates import Fill, Misfit, Wanted
from resumer.core.policies import Policy
from resumer.core.suspended import Gate
from tests.builders import (
    STAGE,
    Json,
    PolicyBuilder,
    WorkflowBuilder,
    a_policy,
    a_workflow,
    given,
    supplied,
    three_stages,
)

PLAIN = three_stages()
OWN = three_stages(nodeFieldSelector="templateName=approve")
BY_PARAMETER = three_stages().with_spec(stageParameter="stage")


def wanted(policy: PolicyBuilder, selector: str = "", stage: str = STAGE) -> Wanted:
    resolved: Policy = policy.resolved()
    own = selectors.NodeFieldSelector.parse(selector) if selector else None
    return Wanted(own, resolved.stage(stage), resolved)


def names(found: tuple[Gate, ...]) -> list[str]:
    return [gate.display_name for gate in found]


@pytest.mark.parametrize(
    ("workflow", "want", "found"),
    [
        (a_workflow().gate("a"), wanted(PLAIN), ["a"]),
        (a_workflow().gate("b").gate("a"), wanted(PLAIN), ["a", "b"]),
        (a_workflow().gate("a").gate("b", phase="Succeeded"), wanted(PLAIN), ["a"]),
        (a_workflow().gate("a", phase="Pending"), wanted(PLAIN), []),
        (a_workflow().gate("a", template="t", duration="1h").gate("b"), wanted(PLAIN), ["b"]),
        (a_workflow().gate("a", duration="1h"), wanted(OWN), []),
        (a_workflow().gate("a", duration="1h"), wanted(PLAIN, "displayName=a"), ["a"]),
        (a_workflow().gate("a", template="t").gate("b"), wanted(OWN), ["b"]),
        (a_workflow().gate("a", template="t").gate("b"), wanted(OWN, "templateName=t"), ["a"]),
        (a_workflow().gate("a").gate("b"), wanted(PLAIN, "displayName!=a"), ["b"]),
        (
            a_workflow().gate("a", inputs={"stage": "draft"}).gate("b", inputs={"stage": STAGE}),
            wanted(BY_PARAMETER),
            ["b"],
        ),
        (
            a_workflow().gate("a", inputs={"stage": "draft"}),
            wanted(BY_PARAMETER, "displayName=a"),
            [],
        ),
        (a_workflow().gate("a"), wanted(BY_PARAMETER), ["a"]),
        (a_workflow().gate("a", inputs={"stage": "draft"}), wanted(BY_PARAMETER, stage=""), ["a"]),
    ],
    ids=[
        "the only one",
        "several, by name",
        "not one that was opened",
        "not one that waits for a lock",
        "not a delay",
        "not a delay that only the stage's selector matches",
        "a delay that the request names",
        "the stage's own",
        "the request's own before the stage's",
        "all but one",
        "the one whose parameter names the stage",
        "not one of another stage, even if named",
        "one that names no stage",
        "of any stage, for a request without one",
    ],
)
def test_the_open_gates_are_those_that_the_request_means(
    workflow: WorkflowBuilder, want: Wanted, found: list[str]
) -> None:
    assert names(gates.open_gates(workflow.view(), want)) == found


@pytest.mark.parametrize(
    ("want", "named"),
    [(wanted(PLAIN), False), (wanted(OWN), True), (wanted(PLAIN, "displayName=a"), True)],
)
def test_a_gate_is_named_by_the_request_or_by_its_stage(want: Wanted, named: bool) -> None:
    assert want.named is named


OPENED = a_workflow().gate("a", phase="Succeeded", started=-300)
OF_STAGE = a_workflow().gate("a", phase="Succeeded", inputs={"stage": STAGE})


@pytest.mark.parametrize(
    ("workflow", "want", "found"),
    [
        (OPENED, wanted(PLAIN), None),
        (OPENED, wanted(OWN), "a"),
        (OPENED, wanted(PLAIN, "displayName=a"), "a"),
        (OPENED, wanted(PLAIN, "displayName=b"), None),
        (OPENED, wanted(PLAIN, "templateName=approve"), None),
        (OPENED, wanted(PLAIN, "displayName!=b"), None),
        (OPENED, wanted(BY_PARAMETER), None),
        (OF_STAGE, wanted(BY_PARAMETER), "a"),
        (OF_STAGE, wanted(BY_PARAMETER, stage=""), None),
        (OF_STAGE, wanted(PLAIN, "inputs.parameters.stage.value=review"), "a"),
        (a_workflow().gate("a", phase="Failed"), wanted(OWN), None),
        (a_workflow().gate("a", phase="Running"), wanted(OWN), None),
        (
            a_workflow().gate("b", phase="Succeeded", started=-100).gate("a", phase="Succeeded"),
            wanted(OWN),
            "b",
        ),
        (
            OPENED,
            wanted(a_policy().defaults(nodeFieldSelector="templateName=approve").stage("draft")),
            None,
        ),
    ],
    ids=[
        "nothing names it: it may be another stage's",
        "the stage's own",
        "named",
        "another is named",
        "only its template is named: others have the same",
        "only not being another is said",
        "it does not say its stage",
        "it says the stage",
        "no stage is asked for",
        "named by its parameter",
        "it failed",
        "it is open",
        "the last of several",
        "a stage that is not listed owns none",
    ],
)
def test_a_gate_was_opened_before_only_if_that_is_beyond_doubt(
    workflow: WorkflowBuilder, want: Wanted, found: str | None
) -> None:
    opened = gates.opened_gate(workflow.view(), want)
    assert (opened.display_name if opened else None) == found


# --- what the gates hand on ----------------------------------------------------------------------


def filled(
    outputs: Mapping[str, Json], parameters: Mapping[str, str], allowed: tuple[str, ...] = ()
) -> object:
    workflow = a_workflow().gate(outputs=outputs)
    if allowed:
        enum = [{"name": name, "enum": list(allowed)} for name in outputs]
        workflow.node(
            "wait",
            inputs={"parameters": enum},
            outputs={"parameters": [{"name": name, **value} for name, value in outputs.items()]},
        )
    return gates.fill(workflow.view().gates, parameters)


@pytest.mark.parametrize(
    ("outputs", "parameters", "fills"),
    [
        ({}, {}, ()),
        ({"a": supplied()}, {"a": "1"}, (Fill(0, "a", "1"),)),
        ({"a": supplied("d")}, {"a": "1"}, (Fill(0, "a", "1"),)),
        ({"a": supplied("d")}, {"a": ""}, (Fill(0, "a", ""),)),
        ({"a": supplied("d")}, {}, (Fill(0, "a", "d"),)),
        ({"a": supplied("")}, {}, (Fill(0, "a", ""),)),
        ({"x": given("y"), "a": supplied()}, {"a": "1"}, (Fill(1, "a", "1"),)),
        ({"x": given("y")}, {"x": "y"}, ()),
        ({"x": {"valueFrom": {"parameter": "p"}}}, {}, ()),
    ],
    ids=[
        "nothing to fill",
        "the request's value",
        "the request's value before the default",
        "an empty value before the default",
        "the default",
        "an empty default",
        "at its place behind others",
        "set before, to the same",
        "an output that waits for nothing",
    ],
)
def test_a_supplied_output_gets_the_requests_value_else_its_default(
    outputs: Mapping[str, Json], parameters: Mapping[str, str], fills: tuple[Fill, ...]
) -> None:
    assert filled(outputs, parameters) == (fills,)


@pytest.mark.parametrize(
    ("outputs", "parameters", "reason", "message"),
    [
        (
            {"b": supplied(), "a": given("x")},
            {"c": "1"},
            Reason.UNKNOWN_PARAMETER,
            "resumeParameters names 'c', which is no supplied output of the gate (it has: a, b)",
        ),
        (
            {},
            {"c": "1"},
            Reason.UNKNOWN_PARAMETER,
            "resumeParameters names 'c', which is no supplied output of the gate (it has: none)",
        ),
        (
            {"a": supplied()},
            {},
            Reason.MISSING_PARAMETER,
            "output 'a' of gate 'wait' has no default; give it a value in resumeParameters",
        ),
        (
            {"a": given("x")},
            {"a": "y"},
            Reason.PARAMETER_ALREADY_SET,
            "output 'a' of gate 'wait' has a value already; resumeParameters may not change it",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(
    outputs: Mapping[str, Json], parameters: Mapping[str, str], reason: Reason, message: str
) -> None:
    assert filled(outputs, parameters) == Misfit(reason, message)


def test_a_value_has_to_be_one_that_the_workflow_allows() -> None:
    outputs, allowed = {"a": supplied()}, ("YES", "NO")
    assert filled(outputs, {"a": "NO"}, allowed) == ((Fill(0, "a", "NO"),),)
    refused = filled(outputs, {"a": "no"}, allowed)
    assert refused == Misfit(
        Reason.VALUE_NOT_ALLOWED, "output 'a' of gate 'wait' must be one of YES, NO"
    )


def test_of_several_gates_each_gets_what_it_declares() -> None:
    view = (
        a_workflow()
        .gate("a", outputs={"number": supplied()})
        .gate("b", outputs={"kind": supplied("bug"), "number": supplied("0")})
        .gate("c")
        .view()
    )
    assert gates.fill(view.gates, {"number": "5"}) == (
        (Fill(0, "number", "5"),),
        (Fill(0, "kind", "bug"), Fill(1, "number", "5")),
        (),
    )
