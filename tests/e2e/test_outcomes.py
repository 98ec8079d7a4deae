"""What a request can come to, as its author sees it: the reasons that a healthy cluster can show.

Those of a sick one (BackingOff, CircuitOpen, RetriesExhausted) are the matter of the tests with
faults, Expired that of `test_early`, those about node status of `test_storage`.
"""

from __future__ import annotations

from typing import Any

import pytest

from resumer.api.outcomes import Reason
from tests.e2e.support import home as homes
from tests.e2e.support import manifests
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

pytestmark = pytest.mark.usefixtures("operator")

STILL = "untouched"


@pytest.fixture(scope="module")
def untouched(home: Home) -> Json:
    """A workflow at its gates that no request in this module may change."""
    choice = {"name": "decision", "enum": ["YES", "NO"], "value": "NO"}
    return home.submit(
        manifests.workflow(
            STILL,
            manifests.dag(
                manifests.step("asks", "asks"),
                manifests.step("chooses", "chooses"),
                manifests.step("plain", "plain"),
            ),
            manifests.gate("asks", "answer"),
            manifests.gate("chooses", "decision", inputs=[choice]),
            manifests.gate("plain"),
            task="31",
            labels={"team": "blue"},
        ),
        gates=3,
    )


def test_a_request_that_opened_its_gate_says_which_and_the_workflow_says_who(home: Home) -> None:
    before = home.submit(manifests.two_gates("opened", "30"))
    request = manifests.resume(
        "opened",
        task="30",
        event={"action": "opened", "labels": ["task-30"], "sender": "rex[bot]"},
        rules=[manifests.rule("current-stage", "equals", manifests.PR_CREATED)],
    )
    home.ask(request)
    status = home.resumed("opened")
    gate = homes.node(before, "first")
    found = status["workflow"]
    assert (found["name"], found["uid"]) == ("opened", before["metadata"]["uid"])
    assert found["stage"] == manifests.PR_CREATED
    assert found["nodes"] == [
        {
            "id": gate["id"],
            "displayName": "first",
            "templateName": "first",
            "startedAt": gate["startedAt"],
        }
    ]
    assert status["checks"] == [
        {
            "field": "current-stage",
            "operator": "equals",
            "expected": manifests.PR_CREATED,
            "actual": manifests.PR_CREATED,
            "passed": True,
        }
    ]
    assert status["resumedBy"] == "workflowresume/opened"
    assert status["resumedTime"]
    assert [one["outcome"] for one in status["attempts"]] == ["Resumed"]
    after = home.at_gate("opened", "second")
    opened = homes.node(after, "first")
    uid = home.cluster.get(homes.RESUME, "opened", home.namespace)["metadata"]["uid"]
    assert opened["phase"] == "Succeeded"
    assert opened["message"] == f"Resumed by: workflowresume/opened (uid {uid})"
    assert opened["finishedAt"] >= opened["startedAt"]
    labels = after["metadata"]["labels"]
    assert labels["workflows.argoproj.io/action"] == "Resume"
    assert labels["workflows.argoproj.io/actor"] == "rex-bot"


def test_the_next_request_for_the_stage_says_that_it_was_resumed_and_by_whom(home: Home) -> None:
    home.submit(manifests.two_gates("twice", "32"))
    home.ask(manifests.resume("twice-a", task="32"))
    home.resumed("twice-a")
    home.at_gate("twice", "second")
    # The stage label is still what it was, and a gate is open: the event alone would match again.
    home.ask(manifests.resume("twice-b", task="32"), manifests.resume("twice-c", "twice", task=32))
    for name in ("twice-b", "twice-c"):
        status = home.came_to(name, Reason.STAGE_ALREADY_RESUMED)
        assert status["resumedBy"] == "workflowresume/twice-a"
        assert "workflowresume/twice-a" in status["message"]
    assert list(homes.open_gates(home.workflow("twice"))) == ["second"]


def test_a_gate_that_a_person_opened_with_argo_is_already_resumed_by_that_person(
    home: Home,
) -> None:
    gate = homes.node(home.submit(manifests.two_gates("by-argo", "33")), "first")
    home.cluster.patch(
        homes.WORKFLOW,
        "by-argo",
        home.namespace,
        {
            "status": {
                "nodes": {
                    gate["id"]: {
                        "phase": "Succeeded",
                        "finishedAt": gate["startedAt"],
                        "message": "Resumed by: map[User:alice]",
                    }
                }
            }
        },
    )
    home.at_gate("by-argo", "second")
    home.ask(manifests.resume("by-argo", task="33", nodeFieldSelector="displayName=first"))
    status = home.came_to("by-argo", Reason.GATE_ALREADY_OPENED)
    assert status["resumedBy"] == "map[User:alice]"
    assert "'first'" in status["message"]
    assert list(homes.open_gates(home.workflow("by-argo"))) == ["second"]


def test_a_gate_whose_duration_has_passed_is_already_resumed_by_its_duration(home: Home) -> None:
    home.cluster.create(
        manifests.two_gates("by-time", "34", manifests.witness(name="first")), home.namespace
    )
    home.at_gate("by-time", "second")
    home.ask(manifests.resume("by-time", task="34", nodeFieldSelector="displayName=first"))
    assert home.came_to("by-time", Reason.GATE_ALREADY_OPENED)["resumedBy"] == "its duration"


def test_a_request_for_a_finished_workflow_is_late_and_no_failure(home: Home) -> None:
    home.submit(manifests.workflow("finished", task="35"))
    home.ask(manifests.resume("ends", task="35"))
    home.ended("finished")
    home.resumed("ends")
    # Without a stage of its own, so that it does not count as a repetition of the first.
    home.ask(
        manifests.resume("after-end", task="35", event_type="pr-approved"),
        manifests.resume("after-end-by-name", "finished", task="35", event_type="pr-approved"),
    )
    for name in ("after-end", "after-end-by-name"):
        status = home.came_to(name, Reason.WORKFLOW_FINISHED)
        assert "'finished'" in status["message"]
        assert "Succeeded" in status["message"]
        assert status["workflow"]["name"] == "finished"


def test_a_request_for_a_stage_that_is_passed_is_late_and_names_both_stages(home: Home) -> None:
    home.submit(manifests.workflow("passed", task="36", stage=manifests.PR_APPROVED))
    home.ask(manifests.resume("passed", task="36"))
    message = home.came_to("passed", Reason.STAGE_PASSED)["message"]
    assert manifests.PR_APPROVED in message
    assert manifests.PR_CREATED in message
    assert list(homes.open_gates(home.workflow("passed"))) == ["wait"]


def test_a_request_without_a_workflow_waits_and_says_what_it_looks_for(home: Home) -> None:
    home.ask(
        manifests.resume("no-workflow", task="37", labelSelector="team=blue,current-stage=here"),
        manifests.resume("no-name", "nobody", task="37"),
    )
    status = home.came_to("no-workflow", Reason.WORKFLOW_NOT_FOUND)
    assert "team=blue" in status["message"]
    assert "task-id=37" in status["message"]
    assert status["deadlineTime"]
    assert "'nobody'" in home.came_to("no-name", Reason.WORKFLOW_NOT_FOUND)["message"]


@pytest.mark.parametrize("stage", [None, manifests.PR_CREATED], ids=["no-stage", "earlier"])
def test_a_request_for_a_later_stage_waits_and_names_both_stages(
    home: Home, stage: str | None
) -> None:
    name = f"ahead-{stage or 'none'}"
    home.submit(manifests.workflow(name, task=name, stage=stage))
    home.ask(manifests.resume(name, task=name, event_type="pr-approved"))
    message = home.came_to(name, Reason.STAGE_NOT_REACHED)["message"]
    assert manifests.PR_APPROVED in message
    assert (stage or "current-stage") in message
    assert list(homes.open_gates(home.workflow(name))) == ["wait"]


def test_a_request_waits_while_only_a_delay_runs_and_leaves_the_delay_alone(home: Home) -> None:
    home.submit(manifests.two_gates("delayed", "38", manifests.gate("first", duration="1h")))
    home.ask(manifests.resume("delayed", task="38"))
    assert "'delayed'" in home.came_to("delayed", Reason.GATE_NOT_OPEN)["message"]
    assert list(homes.open_gates(home.workflow("delayed"))) == ["first"]


def test_several_workflows_are_ambiguous_and_all_named(home: Home) -> None:
    for name in ("double-a", "double-b"):
        home.submit(manifests.workflow(name, task="39"))
    home.ask(manifests.resume("double", task="39"))
    message = home.came_to("double", Reason.SEVERAL_WORKFLOWS)["message"]
    assert "'double-a'" in message
    assert "'double-b'" in message
    for name in ("double-a", "double-b"):
        assert list(homes.open_gates(home.workflow(name))) == ["wait"]


def test_several_gates_are_ambiguous_and_all_named(home: Home, untouched: Json) -> None:
    home.ask(manifests.resume("gates", task="31"))
    message = home.came_to("gates", Reason.SEVERAL_GATES)["message"]
    assert all(f"'{name}'" in message for name in ("asks", "chooses", "plain"))
    assert home.workflow(STILL) == untouched


def test_a_dry_run_says_what_it_would_do_and_does_not_do_it(home: Home, untouched: Json) -> None:
    named = "displayName=plain"
    home.ask(manifests.resume("dry", task="31", nodeFieldSelector=named, dryRun=True))
    status = home.came_to("dry", Reason.WOULD_RESUME)
    assert "'plain'" in status["message"]
    assert [one["displayName"] for one in status["workflow"]["nodes"]] == ["plain"]
    assert home.workflow(STILL) == untouched


def at(gate: str, **spec: Any) -> Json:
    """A request for one gate of the workflow that has to stay untouched."""
    return manifests.resume("", STILL, task="31", nodeFieldSelector=f"displayName={gate}", **spec)


TOO_MANY_LABELS = {"action": "opened", "labels": [f"label-{number}" for number in range(1001)]}

REJECTIONS: dict[str, tuple[Reason, Json, tuple[str, ...]]] = {
    "label-selector": (
        Reason.INVALID_SELECTOR,
        manifests.resume("", task="31", labelSelector="team in (blue"),
        ("spec.labelSelector", "expected ',' or ')'"),
    ),
    "node-selector": (
        Reason.INVALID_SELECTOR,
        manifests.resume("", STILL, task="31", nodeFieldSelector="colour=blue"),
        ("spec.nodeFieldSelector", "colour", "displayName"),
    ),
    "rule-pattern": (
        Reason.INVALID_RULE,
        at("plain", rules=[manifests.rule("team", "regex", "(?=blue)")]),
        ("team", "(?=blue)"),
    ),
    "rule-path": (
        Reason.INVALID_RULE,
        at("plain", rules=[manifests.rule("event..a", "exists")]),
        ("event..a",),
    ),
    "rule-number": (
        Reason.INVALID_RULE,
        at("plain", rules=[manifests.rule("event.a", "gt", "many")]),
        ("event.a", "many"),
    ),
    "policy": (
        Reason.POLICY_NOT_FOUND,
        at("plain", policyName="nowhere"),
        ("policyName", "'nowhere'"),
    ),
    "task-of-label": (
        Reason.TASK_MISMATCH,
        at("plain", event={"action": "opened", "labels": ["task-6"]}),
        ("'6'", "'31'"),
    ),
    "task-of-branch": (
        Reason.TASK_MISMATCH,
        at("plain", event={"pull_request": {"head": {"ref": "task-7-fix"}}}),
        ("'7'", "'31'"),
    ),
    "task-of-neither": (
        Reason.TASK_MISMATCH,
        at("plain", event={"action": "opened", "labels": ["bug"]}),
        ("no task", "'31'"),
    ),
    "tasks-disagree": (
        Reason.TASK_MISMATCH,
        at("plain", event={"labels": ["task-31"], "branch": "task-8-fix"}),
        ("'31'", "'8'"),
    ),
    "task-of-workflow": (
        Reason.TASK_MISMATCH,
        manifests.resume("", STILL, task="9"),
        (STILL, "31", "'9'"),
    ),
    "event-type": (
        Reason.EVENT_TYPE_MISMATCH,
        at("plain", event={"action": "labeled", "labelName": "ready-for-qa"}),
        ("pr-labeled-ready", "pr-created"),
    ),
    "selector-and-name": (
        Reason.SELECTOR_MISMATCH,
        at("plain", labelSelector="team=red"),
        (STILL, "team=red"),
    ),
    "selector-and-stage": (
        Reason.SELECTOR_MISMATCH,
        at("plain", labelSelector="current-stage=waiting-pr-approved"),
        ("waiting-pr-approved", "waiting-pr-created"),
    ),
    "rule-on-event": (
        Reason.RULE_FAILED,
        at("plain", event={"a": 1}, rules=[manifests.rule("event.a", "equals", "2")]),
        ("event.a", "equals 2", '"1"'),
    ),
    "rule-on-label": (
        Reason.RULE_FAILED,
        at("plain", rules=[manifests.rule("team", "notEquals", "blue")]),
        ("team", "notEquals blue", '"blue"'),
    ),
    "rule-on-workflow": (
        Reason.RULE_FAILED,
        at("plain", rules=[manifests.rule("workflow.spec.entrypoint", "equals", "other")]),
        ("workflow.spec.entrypoint", "equals other", '"main"'),
    ),
    "template": (
        Reason.TEMPLATE_IN_PARAMETER,
        at("asks", parameters={"answer": "{{workflow.name}}"}),
        ("'answer'", "allowTemplates"),
    ),
    "expression": (
        Reason.TEMPLATE_IN_PARAMETER,
        at("asks", parameters={"answer": "a {{=1+41}} b"}),
        ("'answer'",),
    ),
    "unknown-output": (
        Reason.UNKNOWN_PARAMETER,
        at("asks", parameters={"answer": "yes", "question": "why"}),
        ("'question'", "answer"),
    ),
    "output-of-a-gate-without": (
        Reason.UNKNOWN_PARAMETER,
        at("plain", parameters={"answer": "yes"}),
        ("'answer'", "none"),
    ),
    "missing-output": (Reason.MISSING_PARAMETER, at("asks"), ("'answer'", "'asks'")),
    "not-of-the-enum": (
        Reason.VALUE_NOT_ALLOWED,
        at("chooses", parameters={"decision": "MAYBE"}),
        ("'decision'", "YES", "NO"),
    ),
    "task-label": (
        Reason.LABEL_NOT_ALLOWED,
        at("plain", setLabels={manifests.TASK: "31", "team": "blue"}),
        ("setLabels", "'task-id'", "the built-in policy"),
    ),
    "too-many-labels": (
        Reason.INVALID_OBJECT,
        at("plain", event=TOO_MANY_LABELS),
        ("githubEvent", "1000"),
    ),
}


@pytest.mark.parametrize("case", REJECTIONS)
def test_what_does_not_agree_is_rejected_with_what_was_found_and_what_was_wanted(
    home: Home, untouched: Json, case: str
) -> None:
    reason, request, words = REJECTIONS[case]
    request["metadata"]["name"] = f"rejected-{case}"
    home.ask(request)
    status = home.came_to(f"rejected-{case}", reason)
    assert [word for word in words if word not in status["message"]] == [], status["message"]
    assert home.workflow(STILL) == untouched


def test_a_failed_rule_leaves_the_whole_comparison_in_the_status(home: Home) -> None:
    home.ask(
        manifests.resume(
            "compares",
            task="31",
            event={"action": "opened", "pull_request": {"labels": [{"name": "task-31"}]}},
            rules=[
                manifests.rule("pull_request.labels[].name", "startsWith", "task-"),
                manifests.rule("event.action", "in", values=["closed", "reopened"]),
            ],
        )
    )
    status = home.came_to("compares", Reason.RULE_FAILED)
    assert status["checks"] == [
        {
            "field": "pull_request.labels[].name",
            "operator": "startsWith",
            "expected": "task-",
            "actual": "task-31",
            "passed": True,
        },
        {
            "field": "event.action",
            "operator": "in",
            "expected": "closed, reopened",
            "actual": "opened",
            "passed": False,
        },
    ]


def test_a_workflow_without_a_task_label_is_not_resumed_by_its_name_alone(home: Home) -> None:
    bare = manifests.workflow("bare")
    del bare["metadata"]["labels"][manifests.TASK]
    home.submit(bare)
    home.ask(manifests.resume("bare", "bare"))
    assert "'task-id'" in home.came_to("bare", Reason.TASK_LABEL_MISSING)["message"]
    assert list(homes.open_gates(home.workflow("bare"))) == ["wait"]


def test_an_output_that_somebody_has_set_by_then_is_not_changed(home: Home) -> None:
    body = home.submit(manifests.two_gates("set", "40", manifests.gate("first", "answer")))
    gate = homes.node(body, "first")
    home.cluster.patch(
        homes.WORKFLOW,
        "set",
        home.namespace,
        {
            "status": {
                "nodes": {
                    gate["id"]: {"outputs": {"parameters": [{"name": "answer", "value": "theirs"}]}}
                }
            }
        },
    )
    home.ask(manifests.resume("set", task="40", parameters={"answer": "ours"}))
    assert "'answer'" in home.came_to("set", Reason.PARAMETER_ALREADY_SET)["message"]
    after = home.workflow("set")
    assert homes.outputs(after, "first") == {"answer": "theirs"}
    assert list(homes.open_gates(after)) == ["first"]
    # The very value it has is no change.
    home.ask(manifests.resume("same", task="40", parameters={"answer": "theirs"}))
    home.resumed("same")


def test_the_newest_of_several_workflows_is_resumed_where_the_policy_says_so(home: Home) -> None:
    ours = {"kind-of-play": "newest"}
    home.govern(manifests.policy("newest", matches=ours, defaults={"ambiguity": "Newest"}))
    # Their creation times have whole seconds: of the same age, the last by name counts as newer.
    for name in ("newest-a", "newest-b"):
        home.submit(manifests.workflow(name, task="41", labels=ours))
    home.ask(manifests.resume("newest", task="41", policyName="newest"))
    assert home.resumed("newest")["workflow"]["name"] == "newest-b"
    home.ended("newest-b")
    assert list(homes.open_gates(home.workflow("newest-a"))) == ["wait"]


def test_the_older_workflows_are_terminated_where_the_policy_says_so(home: Home) -> None:
    ours = {"kind-of-play": "only"}
    home.govern(
        manifests.policy("only", matches=ours, defaults={"ambiguity": "NewestCancelOthers"})
    )
    for name in ("only-a", "only-b", "only-c"):
        home.submit(manifests.workflow(name, task="42", labels=ours))
    home.ask(manifests.resume("only", task="42", policyName="only"))
    status = home.resumed("only")
    assert status["workflow"]["name"] == "only-c"
    home.ended("only-c")
    for name in ("only-a", "only-b"):
        assert home.ended(name, "Failed")["spec"]["shutdown"] == "Terminate"
        assert name in status["message"]
