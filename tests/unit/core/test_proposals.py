"""The request that becomes of an event is the one that the Sensor would make."""

from __future__ import annotations

from typing import Any

import pytest

from resumer.api.resume import WorkflowResume
from resumer.core import policies, proposals
from resumer.core.policies import Policy
from resumer.core.proposals import Dropped, Wish
from resumer.errors import InvalidError
from tests import github
from tests.builders import three_stages

ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
OPENED = github.event("pull_request.opened", ID, pull_request__head__ref="task-5-fix")


def proposed(event: github.Json, policy: Policy = policies.BUILT_IN, **wish: Any) -> dict[str, Any]:
    found = proposals.propose(event, policy, Wish(**wish))
    assert not isinstance(found, Dropped), found
    return found


def dropped(event: github.Json, policy: Policy = policies.BUILT_IN, **wish: Any) -> str:
    found = proposals.propose(event, policy, Wish(**wish))
    assert isinstance(found, Dropped), found
    return found.why


def values(manifest: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in manifest["spec"].get("resumeParameters", ())}


def test_an_event_becomes_a_request_that_the_schema_accepts() -> None:
    manifest = proposed(OPENED)
    WorkflowResume.from_json(manifest)
    assert manifest["metadata"] == {"name": f"resume-{ID}-replay"}
    assert manifest["spec"]["labelSelector"] == "task-id=5"
    correlation = manifest["spec"]["correlationData"]
    assert (correlation["taskId"], correlation["eventType"]) == ("5", "pr-created")
    assert correlation["githubEvent"]["X-GitHub-Delivery"] == ID
    assert values(manifest) == {
        "pr-number": "2",
        "pr-url": "https://github.com/Codertocat/Hello-World/pull/2",
    }


LABELED = github.event("pull_request.labeled", label__name="ready-for-qa")
APPROVED = github.event("pull_request_review.submitted", review__state="approved")
CLOSED = github.event("pull_request.closed", pull_request__merged=True)


@pytest.mark.parametrize(
    ("event", "event_type", "handed_on"),
    [
        (LABELED, "pr-labeled-ready", {"cleo-completion-time": "2019-05-15T15:20:35Z"}),
        (
            APPROVED,
            "pr-approved",
            {"tess-approval-time": "2019-05-15T15:20:38Z", "review-id": "237895671"},
        ),
        (CLOSED, "task-completed", {}),
    ],
    ids=["labeled", "approved", "merged"],
)
def test_each_suspension_point_has_its_type_and_its_values(
    event: github.Json, event_type: str, handed_on: dict[str, str]
) -> None:
    manifest = proposed(event, task_id="5")
    assert manifest["spec"]["correlationData"]["eventType"] == event_type
    assert values(manifest) == handed_on


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"pull_request__labels": github.labels("task-7", "task-8")}, "7"),
        ({"pull_request__head__ref": "task-8"}, "8"),
        ({"pull_request__title": "Fix task-9."}, "9"),
        ({"pull_request__body": "Does (task-10) and task-11"}, "10"),
    ],
)
def test_the_task_is_where_the_sensor_looks(changes: dict[str, Any], task: str) -> None:
    manifest = proposed(github.event("pull_request.opened", **changes))
    assert manifest["spec"]["correlationData"]["taskId"] == task


def test_the_policy_says_where_the_task_is_and_what_the_type_is_called() -> None:
    policy = three_stages().with_spec(
        workflowSelector={"matchLabels": {"team": "a"}},
        events={
            "taskIdSources": [{"from": "Title", "pattern": "#([0-9]+)"}],
            "types": [{"name": "reviewed", "event": "pull_request", "action": "opened"}],
        },
    )
    event = github.event("pull_request.opened", pull_request__title="Add it (#12)")
    spec = proposed(event, policy.resolved())["spec"]
    assert spec["correlationData"]["taskId"] == "12"
    assert spec["correlationData"]["eventType"] == "reviewed"
    assert spec["labelSelector"] == "team=a,task-id=12"
    assert "resumeParameters" not in spec
    without = github.event("pull_request.opened", pull_request__title="Add it")
    assert dropped(without, policy.resolved()).endswith(
        "names no task: neither the policy's taskIdSources find one, nor is a `task-<number>` in it"
    )


def test_what_is_said_wins_over_what_is_found() -> None:
    spec = proposed(OPENED, event_type="mine", task_id="99", label_selector="a=b", values=())[
        "spec"
    ]
    assert spec["labelSelector"] == "a=b"
    assert spec["correlationData"]["taskId"] == "99"
    assert spec["correlationData"]["eventType"] == "mine"
    assert "resumeParameters" not in spec


def test_values_are_taken_from_any_path_of_the_event_as_text() -> None:
    paths = (
        ("who", "sender.login"),
        ("short", "pullRequestNumber"),
        ("draft", "pull_request.draft"),
        ("object", "pull_request.user"),
        ("nothing", "nobody.here"),
    )
    assert values(proposed(OPENED, values=paths)) == {
        "who": "Codertocat",
        "short": "2",
        "draft": "false",
        "object": "",
        "nothing": "",
    }


def test_a_path_that_is_none_is_said() -> None:
    with pytest.raises(InvalidError, match=r"the path 'a\.\.b'"):
        proposed(OPENED, values=(("x", "a..b"),))


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (
            github.event("issues.opened"),
            "the event (issues, action 'opened') is of no type that the built-in policy knows",
        ),
        (
            {"zen": "Keep it."},
            "the event (of an unknown kind) is of no type that the built-in policy knows",
        ),
        (
            github.event("pull_request.labeled", label__name="bug"),
            (
                "the event (pull_request, action 'labeled') is 'pr-labeled', "
                "which neither opens nor fails a gate by the built-in policy"
            ),
        ),
        (
            github.event("pull_request.opened"),
            (
                "the event (pull_request, action 'opened') names no task: "
                "no `task-<number>` is in its labels, branch, title or text"
            ),
        ),
    ],
)
def test_an_event_that_is_not_meant_becomes_nothing(event: github.Json, why: str) -> None:
    assert dropped(event) == why


def test_an_event_that_fails_a_gate_becomes_a_request() -> None:
    policy = three_stages(failOn=["pr-closed"]).resolved()
    event = github.event("pull_request.closed", pull_request__merged=False)
    assert proposed(event, policy, task_id="5")["spec"]["correlationData"]["eventType"] == (
        "pr-closed"
    )
    assert "by policy 'play'" in dropped(OPENED, three_stages().resolved())


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("../../{{X}}", "resume-x-replay"),
        ("y" * 39 + "-" + "z", f"resume-{'y' * 39}-replay"),
    ],
)
def test_the_name_holds_what_it_may_of_the_delivery(sent: str, name: str) -> None:
    event = {**OPENED, "X-GitHub-Delivery": sent}
    assert proposed(event)["metadata"]["name"] == name


def test_without_a_delivery_the_name_is_the_same_for_the_same_event() -> None:
    first, second = (
        proposed(github.event("pull_request.opened", pull_request__head__ref=ref))
        for ref in ("task-5", "task-6")
    )
    again = proposed(github.event("pull_request.opened", pull_request__head__ref="task-5"))
    names = [one["metadata"]["name"] for one in (first, second, again)]
    assert names[0] == names[2] != names[1]
