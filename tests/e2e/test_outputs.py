"""The values that a request hands to the workflow: what arrives, and what may not."""

from __future__ import annotations

from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

pytestmark = pytest.mark.usefixtures("operator")

OF_GATE = "{{%s.wait.outputs.parameters.%s}}"
EXPORTED = "{{workflow.outputs.parameters.%s}}"


def passes_on(name: str, task: str, gate: Json, *outputs: str, **fields: Any) -> Json:
    """A workflow whose last step keeps what the gate put out."""
    seen = {output: OF_GATE % ("steps", output) for output in outputs}
    return manifests.workflow(
        name,
        manifests.steps(step("wait", "gate"), step("done", "witness", arguments=seen)),
        gate,
        manifests.witness(*outputs),
        task=task,
        **fields,
    )


VALUES = {
    "empty": "",
    "blanks": "  two before, two after  ",
    "quotes": """it's "quoted" `here`""",
    "backslashes": r"C:\new\table \{\{ \" \\ \u0041",
    "lines": "first\nsecond\r\n\tthird\n",
    "unicode": "Grüße, 世界, 🚀, \u2028, \u200b, e\u0301",
    "control": "form feed \f, back space \b, next line \x85",
    "braces": '{ } }} { { {"a": {"b": "}}"}} }',
    "percent": "%s %(x)s %d 100% %%",
    "dollars": "$HOME ${HOME} $(rm -rf /) $$ $1",
    "json": '[{"name": "a", "value": null}, 1.0, true]',
    "yaml": "- a: &b !!str c\n  <<: *b\n# no comment",
    "markup": "<script>alert(1)</script> &amp; <!-- -->",
    "number": "007",
    "null": "null",
    "long": "0123456789abcdef" * 512,
}


def test_every_value_arrives_in_the_next_step_byte_for_byte(home: Home) -> None:
    names = tuple(VALUES)
    home.submit(passes_on("bytes", "71", manifests.gate("gate", *names), *names))
    home.ask(manifests.resume("bytes", task="71", parameters=VALUES))
    home.resumed("bytes")
    body = home.ended("bytes")
    assert homes.outputs(body, "wait") == VALUES
    assert homes.inputs(body, "done") == VALUES


UNSPEAKABLE = {
    "nul": "\x00",
    "bell": "\x07",
    "vertical-tab": "\x0b",
    "escape": "\x1b[31m",
    "delete": "\x7f",
    "flag": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "private": "\U000f0000",
}


@pytest.mark.parametrize("kind", UNSPEAKABLE)
def test_a_value_that_argo_cannot_pass_on_is_refused_while_the_gate_is_closed(
    home: Home, kind: str
) -> None:
    """Argo quotes as Go does, which is no JSON for these: the workflow would end in an error."""
    name = f"unspeakable-{kind}"
    before = home.submit(passes_on(name, name, manifests.gate("gate", "title"), "title"))
    value = f"title {UNSPEAKABLE[kind]} of a pull request"
    home.ask(manifests.resume(name, task=name, parameters={"title": value}))
    status = home.came_to(name, Reason.VALUE_NOT_ALLOWED)
    assert "'title'" in status["message"]
    assert home.workflow(name) == before


def test_outputs_that_the_request_leaves_out_take_their_defaults(home: Home) -> None:
    gate = manifests.gate("gate", "given", defaults={"left": "default", "other": "default"})
    home.submit(passes_on("defaults", "72", gate, "given", "left", "other"))
    home.ask(manifests.resume("defaults", task="72", parameters={"given": "a", "other": "b"}))
    home.resumed("defaults")
    expected = {"given": "a", "left": "default", "other": "b"}
    assert homes.inputs(home.ended("defaults"), "done") == expected


def test_the_default_of_the_input_of_the_same_name_counts_as_the_outputs_default(
    home: Home,
) -> None:
    gate = manifests.gate("gate", "answer", inputs=[{"name": "answer", "default": "perhaps"}])
    home.submit(passes_on("input-default", "73", gate, "answer"))
    home.ask(manifests.resume("input-default", task="73"))
    home.resumed("input-default")
    assert homes.inputs(home.ended("input-default"), "done") == {"answer": "perhaps"}


def test_a_value_that_the_input_allows_is_accepted(home: Home) -> None:
    choice = {"name": "decision", "enum": ["YES", "NO"], "value": "NO"}
    gate = manifests.gate("gate", "decision", inputs=[choice])
    home.submit(passes_on("allowed", "74", gate, "decision"))
    home.ask(manifests.resume("forbidden", task="74", parameters={"decision": "yes"}))
    home.came_to("forbidden", Reason.VALUE_NOT_ALLOWED)
    home.ask(manifests.resume("allowed", task="74", parameters={"decision": "YES"}))
    home.resumed("allowed")
    assert homes.inputs(home.ended("allowed"), "done") == {"decision": "YES"}


def exported(body: Json) -> Json:
    """The outputs of a workflow as a whole."""
    found = body["status"].get("outputs", {}).get("parameters", ())
    return {one["name"]: one["value"] for one in found}


def globally(name: str) -> Json:
    """A gate whose output the whole workflow can see."""
    gate = manifests.gate(name, "answer")
    gate["outputs"]["parameters"][0]["globalName"] = "the-answer"
    return gate


@pytest.mark.parametrize("shape", ["steps", "dag"])
def test_an_output_with_a_global_name_is_seen_by_later_steps_and_outside(
    home: Home, shape: str
) -> None:
    name = f"global-{shape}"
    done = step("done", "witness", arguments={"answer": EXPORTED % "the-answer"})
    if shape == "steps":
        main = manifests.steps(step("wait", "gate"), done)
    else:
        main = manifests.dag(step("wait", "gate"), {**done, "depends": "wait"})
    home.submit(
        manifests.workflow(name, main, globally("gate"), manifests.witness("answer"), task=name)
    )
    home.ask(manifests.resume(name, task=name, parameters={"answer": "42"}))
    home.resumed(name)
    body = home.ended(name)
    assert exported(body) == {"the-answer": "42"}
    assert homes.inputs(body, "done") == {"answer": "42"}


def test_global_names_of_several_gates_are_kept_side_by_side(home: Home) -> None:
    first, second = globally("first"), globally("second")
    second["outputs"]["parameters"][0]["globalName"] = "another-answer"
    home.submit(
        manifests.workflow(
            "global-two",
            manifests.steps(step("first", "first"), step("second", "second")),
            first,
            second,
            task="77",
        )
    )
    for gate, value in (("first", "1"), ("second", "2")):
        home.at_gate("global-two", gate)
        home.ask(
            manifests.resume(
                f"global-{gate}", task="77", event_type=gate, parameters={"answer": value}
            )
        )
        home.resumed(f"global-{gate}")
    assert exported(home.ended("global-two")) == {"the-answer": "1", "another-answer": "2"}


def test_an_output_with_a_global_name_leaves_a_workflow_that_is_one_gate(home: Home) -> None:
    home.submit(manifests.workflow("global-alone", globally("main"), task="75"))
    home.ask(manifests.resume("global-alone", task="75", parameters={"answer": "42"}))
    home.resumed("global-alone")
    assert exported(home.ended("global-alone")) == {"the-answer": "42"}


SECRET = "hunter2"
EVALUATED = {
    "parameter": "{{workflow.parameters.secret}}",
    "expression": "{{=1+41}}",
    "everything": "{{=toJson(workflow)}}",
    "bomb": "{{=sprig.repeat(5000000,'A')}}",
}


@pytest.mark.parametrize("kind", EVALUATED)
def test_a_value_that_argo_would_evaluate_never_reaches_the_workflow(home: Home, kind: str) -> None:
    name = f"refused-{kind}"
    before = home.submit(
        passes_on(
            name, name, manifests.gate("gate", "title"), "title", arguments={"secret": SECRET}
        )
    )
    home.ask(manifests.resume(name, task=name, parameters={"title": EVALUATED[kind]}))
    status = home.came_to(name, Reason.TEMPLATE_IN_PARAMETER)
    assert "'title'" in status["message"]
    assert home.workflow(name) == before


def test_two_values_that_only_together_are_a_template_never_reach_the_workflow(home: Home) -> None:
    both = OF_GATE % ("steps", "a") + OF_GATE % ("steps", "b")
    before = home.submit(
        manifests.workflow(
            "split",
            manifests.steps(
                step("wait", "gate"), step("done", "witness", arguments={"joined": both})
            ),
            manifests.gate("gate", "a", "b"),
            manifests.witness("joined"),
            task="78",
        )
    )
    home.ask(manifests.resume("split", task="78", parameters={"a": "{", "b": "{=1+41}}"}))
    home.came_to("split", Reason.TEMPLATE_IN_PARAMETER)
    assert home.workflow("split") == before


def test_a_value_is_evaluated_where_the_policy_of_the_stage_allows_templates(home: Home) -> None:
    ours = {"templates": "allowed"}
    stage = {"name": manifests.PR_CREATED, "eventTypes": ["pr-created"], "allowTemplates": True}
    home.govern(manifests.policy("templates", stage, matches=ours))
    gate = manifests.gate("gate", "title")
    home.submit(
        passes_on("evaluated", "76", gate, "title", arguments={"secret": SECRET}, labels=ours)
    )
    home.ask(manifests.resume("evaluated", task="76", parameters={"title": EVALUATED["parameter"]}))
    home.resumed("evaluated")
    assert homes.inputs(home.ended("evaluated"), "done") == {"title": SECRET}
