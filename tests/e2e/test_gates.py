"""Which gate a request opens, in whatever way the workflow is put together, and none beside it."""

from __future__ import annotations

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step

pytestmark = pytest.mark.usefixtures("operator")


def opened(status: Json) -> list[str]:
    """The display names of the gates that a status says were opened."""
    return [one["displayName"] for one in status["workflow"]["nodes"]]


def test_a_gate_among_the_steps_lets_the_next_step_begin(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "steps",
            manifests.steps(step("wait", "gate"), step("next", "gate")),
            manifests.gate(),
            task="51",
        )
    )
    home.ask(manifests.resume("steps", task="51"))
    assert opened(home.resumed("steps")) == ["wait"]
    assert list(homes.open_gates(home.at_gate("steps", "next"))) == ["next"]


def test_of_the_open_gates_of_a_dag_only_the_named_one_opens(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "dag",
            manifests.dag(
                step("left", "gate"),
                step("right", "gate"),
                step("after-left", "gate", depends="left"),
            ),
            manifests.gate(),
            task="52",
        ),
        gates=2,
    )
    home.ask(manifests.resume("dag", task="52", nodeFieldSelector="displayName=left"))
    assert opened(home.resumed("dag")) == ["left"]
    assert set(homes.open_gates(home.at_gate("dag", "after-left"))) == {"right", "after-left"}


@pytest.mark.parametrize("kind", ["withItems", "withParam"])
def test_one_turn_of_a_loop_is_told_by_its_input(home: Home, kind: str) -> None:
    name = f"loop-{kind.lower()}"
    items: object = ["berlin", "paris", "rome"]
    if kind == "withParam":
        items = '["berlin", "paris", "rome"]'
    loop = step("deploy", "gate", arguments={"city": "{{item}}"}, **{kind: items})
    home.submit(
        manifests.workflow(name, manifests.steps(loop), manifests.gate(inputs=["city"]), task=name),
        gates=3,
    )
    chosen = "inputs.parameters.city.value=paris"
    home.ask(manifests.resume(name, task=name, nodeFieldSelector=chosen))
    assert opened(home.resumed(name)) == ["deploy(1:paris)"]
    assert set(homes.open_gates(home.workflow(name))) == {"deploy(0:berlin)", "deploy(2:rome)"}


def test_a_gate_under_a_retry_strategy_opens_and_its_wrapper_follows(home: Home) -> None:
    body = home.submit(
        manifests.workflow(
            "wrapped",
            manifests.steps(step("wait", "gate")),
            manifests.gate(retryStrategy={"limit": "2"}),
            task="53",
        )
    )
    assert homes.node(body, "wait")["type"] == "Retry"
    home.ask(manifests.resume("wrapped", task="53"))
    assert opened(home.resumed("wrapped")) == ["wait(0)"]
    assert homes.node(home.ended("wrapped"), "wait")["phase"] == "Succeeded"


def test_a_gate_in_an_exit_handler_opens(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "exits",
            manifests.steps(step("work", "witness")),
            manifests.witness(),
            manifests.steps(step("clean-up", "gate"), name="leave"),
            manifests.gate(),
            task="54",
            onExit="leave",
        )
    )
    home.ask(manifests.resume("exits", task="54"))
    assert opened(home.resumed("exits")) == ["clean-up"]
    home.ended("exits")


def test_a_gate_from_another_template_is_found_by_its_reference(home: Home) -> None:
    home.ask(manifests.workflow_template("library", manifests.gate("shared", "answer")))
    reference = {"templateRef": {"name": "library", "template": "shared"}}
    home.submit(
        manifests.workflow(
            "refers",
            manifests.dag({"name": "theirs", **reference}, step("ours", "ours")),
            manifests.gate("ours"),
            task="55",
        ),
        gates=2,
    )
    home.ask(
        manifests.resume(
            "refers",
            task="55",
            nodeFieldSelector="templateRef.name=library,templateRef.template=shared",
            parameters={"answer": "42"},
        )
    )
    assert opened(home.resumed("refers")) == ["theirs"]
    after = home.workflow("refers")
    assert homes.outputs(after, "theirs") == {"answer": "42"}
    assert list(homes.open_gates(after)) == ["ours"]


def test_a_workflow_made_of_a_workflow_template_is_resumed_alike(home: Home) -> None:
    home.ask(
        manifests.workflow_template(
            "whole",
            manifests.dag(step("wait", "gate"), step("nap", "nap")),
            manifests.gate(),
            manifests.gate("nap", duration="1h"),
        )
    )
    home.submit(
        manifests.workflow("made", task="56", workflowTemplateRef={"name": "whole"}), gates=2
    )
    home.ask(manifests.resume("made", task="56"))
    assert opened(home.resumed("made")) == ["wait"]
    assert list(homes.open_gates(home.workflow("made"))) == ["nap"]


def test_an_inline_gate_opens(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "inline",
            manifests.steps(step("wait", manifests.gate("", "answer"))),
            task="57",
        )
    )
    home.ask(manifests.resume("inline", task="57", parameters={"answer": "yes"}))
    assert opened(home.resumed("inline")) == ["wait"]
    assert homes.outputs(home.ended("inline"), "wait") == {"answer": "yes"}


def test_delays_wherever_their_templates_lie_are_no_gates(home: Home) -> None:
    home.ask(manifests.workflow_template("delays", manifests.gate("nap", duration="1h")))
    by_input = manifests.gate("by-input", inputs=["time"], duration="{{inputs.parameters.time}}")
    home.submit(
        manifests.workflow(
            "naps",
            manifests.dag(
                step("local", "nap"),
                step("inline", manifests.gate("", duration="2h")),
                {"name": "referred", "templateRef": {"name": "delays", "template": "nap"}},
                step("by-input", "by-input", arguments={"time": "3h"}),
                step("looped", "nap", withItems=[1, 2]),
                step("wait", "gate"),
            ),
            manifests.gate("nap", duration="1h"),
            by_input,
            manifests.gate(),
            task="58",
        ),
        gates=7,
    )
    home.ask(manifests.resume("naps", task="58"))
    assert opened(home.resumed("naps")) == ["wait"]
    left = {"local", "inline", "referred", "by-input", "looped(0:1)", "looped(1:2)"}
    assert set(homes.open_gates(home.workflow("naps"))) == left


def test_a_delay_that_is_named_ends_early(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "nap",
            manifests.steps(step("nap", "nap")),
            manifests.gate("nap", duration="1h"),
            task="59",
        )
    )
    home.ask(manifests.resume("nap", task="59", nodeFieldSelector="displayName=nap"))
    assert opened(home.resumed("nap")) == ["nap"]
    home.ended("nap")


def test_all_matching_gates_open_in_one_write_if_the_request_says_so(home: Home) -> None:
    body = home.submit(
        manifests.workflow(
            "all",
            manifests.dag(*(step(f"yes-{number}", "yes") for number in range(3)), step("no", "no")),
            manifests.gate("yes"),
            manifests.gate("no"),
            task="60",
        ),
        gates=4,
    )
    home.ask(
        manifests.resume("all", task="60", nodeFieldSelector="templateName=yes", allGates=True)
    )
    assert opened(home.resumed("all")) == ["yes-0", "yes-1", "yes-2"]
    after = home.workflow("all")
    assert list(homes.open_gates(after)) == ["no"]
    ended = {homes.node(after, f"yes-{number}")["finishedAt"] for number in range(3)}
    assert len(ended) == 1, body


def test_a_suspended_workflow_is_resumed_as_a_whole(home: Home) -> None:
    home.cluster.create(
        manifests.workflow(
            "whole",
            manifests.steps(step("work", "witness")),
            manifests.witness(),
            task="61",
            suspend=True,
        ),
        home.namespace,
    )
    home.ask(manifests.resume("whole", task="61"))
    home.came_to("whole", Reason.WORKFLOW_UNSUSPENDED)
    assert "suspend" not in home.ended("whole")["spec"]
    home.ask(manifests.resume("whole-again", task="61"))
    home.came_to("whole-again", Reason.STAGE_ALREADY_RESUMED)


def test_a_gate_opens_while_the_workflow_as_a_whole_stays_suspended(home: Home) -> None:
    home.submit(manifests.workflow("stays", task="62"))
    home.cluster.patch(homes.WORKFLOW, "stays", home.namespace, {"spec": {"suspend": True}})
    home.ask(manifests.resume("stays", task="62"))
    home.resumed("stays")
    assert home.workflow("stays")["spec"]["suspend"] is True
    # An event of no stage: with no gate left, it is the workflow that waits.
    home.ask(manifests.resume("goes", task="62", event_type="released"))
    home.came_to("goes", Reason.WORKFLOW_UNSUSPENDED)
    home.ended("stays")


def test_gates_and_the_workflow_as_a_whole_are_resumed_together_if_the_request_says_so(
    home: Home,
) -> None:
    home.submit(manifests.workflow("both", task="63"))
    # The label comes with the suspension: who asks for it cannot be answered by what was before.
    held = {"metadata": {"labels": {"held": "yes"}}, "spec": {"suspend": True}}
    home.cluster.patch(homes.WORKFLOW, "both", home.namespace, held)
    home.ask(
        manifests.resume("both", task="63", allGates=True, labelSelector="task-id=63,held=yes")
    )
    assert opened(home.resumed("both")) == ["wait"]
    home.ended("both")


def test_the_policy_says_which_gate_belongs_to_a_stage(home: Home) -> None:
    ours = {"gates-by": "policy"}
    stages = [
        {"name": stage, "eventTypes": [event], "nodeFieldSelector": f"templateName=suspend-{event}"}
        for stage, event in (
            (manifests.PR_CREATED, "pr-created"),
            (manifests.PR_APPROVED, "pr-approved"),
        )
    ]
    home.govern(manifests.policy("gates", *stages, matches=ours))
    home.submit(
        manifests.workflow(
            "chosen",
            manifests.dag(
                step("created", "suspend-pr-created"), step("approved", "suspend-pr-approved")
            ),
            manifests.gate("suspend-pr-created"),
            manifests.gate("suspend-pr-approved"),
            task="64",
            labels=ours,
            stage=manifests.PR_APPROVED,
        ),
        gates=2,
    )
    home.ask(manifests.resume("chosen", task="64", event_type="pr-approved"))
    assert opened(home.resumed("chosen")) == ["approved"]
    assert list(homes.open_gates(home.workflow("chosen"))) == ["created"]


def test_gates_that_name_their_stage_need_no_stage_label(home: Home) -> None:
    ours = {"gates-by": "parameter"}
    stages = [
        {"name": "build", "eventTypes": ["built"]},
        {"name": "test", "eventTypes": ["tested"]},
        {"name": "ship", "eventTypes": ["shipped"]},
    ]
    home.govern(manifests.policy("by-parameter", *stages, matches=ours, stageParameter="stage"))
    home.submit(
        manifests.workflow(
            "self-told",
            manifests.dag(
                step("a", "gate", arguments={"stage": "build"}),
                step("b", "gate", arguments={"stage": "test"}),
                step("c", "gate", depends="a && b", arguments={"stage": "ship"}),
            ),
            manifests.gate(inputs=["stage"]),
            task="65",
            labels=ours,
            stage=None,
        ),
        gates=2,
    )
    home.ask(
        manifests.resume("shipped", task="65", event_type="shipped", policyName="by-parameter")
    )
    home.came_to("shipped", Reason.STAGE_NOT_REACHED)
    for event, gate in (("tested", "b"), ("built", "a")):
        home.ask(manifests.resume(event, task="65", event_type=event, policyName="by-parameter"))
        assert opened(home.resumed(event)) == [gate]
    assert opened(home.resumed("shipped")) == ["c"]
    home.ended("self-told")


def test_a_repeatable_stage_takes_one_request_for_each_of_its_gates(home: Home) -> None:
    ours = {"repeats": "yes"}
    stage = {"name": manifests.PR_CREATED, "eventTypes": ["pr-created"], "repeatable": True}
    home.govern(manifests.policy("repeats", stage, matches=ours))
    home.submit(
        manifests.workflow(
            "repeats",
            manifests.steps(step("first", "gate"), step("second", "gate"), step("third", "gate")),
            manifests.gate(),
            task="66",
            labels=ours,
        )
    )
    for gate, following in (("first", "second"), ("second", "third")):
        home.ask(manifests.resume(f"repeats-{gate}", task="66"))
        assert opened(home.resumed(f"repeats-{gate}")) == [gate]
        home.at_gate("repeats", following)


def test_an_event_of_no_stage_opens_a_gate_once_whatever_the_stage(home: Home) -> None:
    home.submit(
        manifests.workflow(
            "stageless",
            manifests.steps(step("first", "gate"), step("second", "gate")),
            manifests.gate(),
            task="67",
        )
    )
    home.ask(manifests.resume("stageless", task="67", event_type="deployed"))
    assert opened(home.resumed("stageless")) == ["first"]
    home.at_gate("stageless", "second")
    home.ask(manifests.resume("stageless-again", task="67", event_type="deployed"))
    status = home.came_to("stageless-again", Reason.STAGE_ALREADY_RESUMED)
    assert status["resumedBy"] == "workflowresume/stageless"
    assert list(homes.open_gates(home.workflow("stageless"))) == ["second"]
