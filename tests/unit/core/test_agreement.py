"""What a request says of its event is compared with the event, by the rules of the right policy."""

from __future__ import annotations

import pytest

from resumer.api.outcomes import Reason
from tests import github
from tests.builders import PolicyBuilder, a_policy, a_request, at_review, three_stages
from tests.unit.core.scenes import decided, end_of, word

OPENED = github.event("pull_request.opened", pull_request__head__ref="task-7-x")
ISSUE = github.event("issues.opened", issue__labels=github.labels("task-7"))


def titled(**spec: object) -> PolicyBuilder:
    """A policy that finds the task in the title, written ``#7``, and its own types."""
    return three_stages().with_spec(
        events={
            "taskIdSources": [{"from": "Title", "pattern": "#([0-9]+)"}],
            "types": [{"name": "reviewed", "event": "pull_request", "action": "opened"}],
        },
        **spec,
    )


def test_an_issue_that_was_opened_is_no_pull_request() -> None:
    request = a_request().of_event("pr-created", **ISSUE)
    assert end_of(decided(request)) == (
        Reason.EVENT_TYPE_MISMATCH,
        (
            "the event (issues, action 'opened') is not 'pr-created', "
            "as correlationData.eventType says"
        ),
    )


def test_an_event_without_a_type_may_be_requested_as_one_that_no_rule_knows() -> None:
    request = a_request().of_event("reviewed", **ISSUE)
    assert word(decided(request)) == "Resume wait"


def test_an_event_of_an_unknown_kind_is_not_what_a_rule_knows() -> None:
    request = a_request().of_event("pr-created", action="answered", discussion={})
    assert "the event (of an unknown kind, action 'answered')" in end_of(decided(request))[1]
    ping = {"X-GitHub-Event": "ping", "zen": "Keep it logically awesome."}
    message = end_of(decided(a_request().of_event("pr-created", **ping)))[1]
    assert message.startswith("the event (ping, without an action) is not 'pr-created'")


@pytest.mark.parametrize(
    ("title", "said"),
    [("Add it (#7)", "Resume wait"), ("Add it (#8)", "TaskMismatch"), ("Add it", "TaskMismatch")],
)
def test_the_policy_of_the_workflow_says_how_its_events_are_read(title: str, said: str) -> None:
    event = github.event("pull_request.opened", pull_request__title=title)
    request = a_request().of_event("reviewed", **event)
    assert word(decided(request, policy=titled())) == said


def test_what_no_policy_accepts_is_refused_before_there_is_a_workflow() -> None:
    event = github.event(
        "pull_request.opened", pull_request__title="#8", pull_request__head__ref="task-9"
    )
    request = a_request().of_event("reviewed", **event).with_spec(workflowName="nobody")
    assert word(decided(request, policy=titled())) == "TaskMismatch"


def test_what_some_policy_accepts_waits_for_its_workflow() -> None:
    request = a_request().of_event("pr-created", **OPENED).with_spec(workflowName="nobody")
    policy = titled(workflowSelector={"matchLabels": {"team": "a"}})
    assert word(decided(request, policy=policy)) == "WorkflowNotFound"
    assert word(decided(request, policy=titled())) == "WorkflowNotFound"


def test_a_policy_that_is_named_decides_at_once() -> None:
    request = a_request().of_event("pr-created", **OPENED).with_spec(policyName="play")
    assert word(decided(request, policy=titled())) == "TaskMismatch"


def test_the_message_says_where_the_task_was_looked_for() -> None:
    event = github.event("pull_request.opened", pull_request__title="Add it")
    request = a_request().of_event("reviewed", **event).with_spec(policyName="play")
    assert end_of(decided(request, policy=titled()))[1] == (
        "the event's title names no task (none that the policy's taskIdSources find), "
        "correlationData.taskId is '7'"
    )


def test_a_policy_for_other_workflows_changes_nothing() -> None:
    other = (
        a_policy("other")
        .for_workflows({"team": "b"})
        .with_spec(events={"types": [{"name": "reviewed", "event": "pull_request"}]})
    )
    request = a_request().of_event("reviewed", **OPENED)
    found = decided(request, at_review(), policy=other)
    assert word(found) == "EventTypeMismatch"


def test_the_rules_of_the_workflows_policy_are_asked_once_it_is_known() -> None:
    policy = titled(workflowSelector={"matchLabels": {"task-id": "7"}})
    event = github.event("pull_request.opened", pull_request__title="Add it (#7)")
    request = a_request().of_event("reviewed", **event)
    assert word(decided(request, policy=policy)) == "Resume wait"


def test_nothing_is_refused_while_the_rules_of_a_policy_cannot_be_read() -> None:
    unreadable = {"taskIdSources": [{"from": "Title", "pattern": "#("}]}
    event = github.event("pull_request.opened", pull_request__head__ref="task-9")
    request = a_request().of_event("pr-created", **event)
    assert word(decided(request)) == "TaskMismatch"
    policy = three_stages().with_spec(events=unreadable)
    assert word(decided(request, policy=policy)) == "PolicyInvalid"
