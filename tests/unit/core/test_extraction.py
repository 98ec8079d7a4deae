"""What an event says of its task and its type, in GitHub's own payloads and in the short form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given

from resumer.api.policy import TaskIdPlace
from resumer.core import extraction
from resumer.core.extraction import (
    DEFAULT,
    MAX_TEXT,
    EventFacts,
    Extraction,
    TaskSource,
    TypeRule,
)
from resumer.core.paths import MAX_VISITED
from resumer.core.patterns import MAX_STEPS, Effort
from resumer.errors import InvalidError
from tests import github
from tests.unit.core.test_events import NESTED, OBJECTS, SHORT, WHOLE


def facts(event: Mapping[str, object], rules: Extraction = DEFAULT) -> EventFacts:
    return extraction.read(event, rules)


def by(*sources: tuple[TaskIdPlace, str]) -> Extraction:
    """Rules with these sources of the task."""
    written = tuple(TaskSource(place, pattern, "pattern") for place, pattern in sources)
    return Extraction(written, DEFAULT.types)


# --- the shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [SHORT, WHOLE, NESTED], ids=["short", "whole", "nested"])
def test_the_three_shapes_say_the_same(event: Mapping[str, object]) -> None:
    assert facts(event) == EventFacts(
        name="pull_request",
        action="labeled",
        event_type="pr-labeled-ready",
        task_ids=("5",),
        has_task_source=True,
        sender="cleo[bot]",
    )


def test_the_first_manifest_of_the_requirements_is_understood() -> None:
    event = {"pullRequestNumber": 123, "action": "opened", "labels": ["task-5"]}
    assert (facts(event).event_type, facts(event).task_ids) == ("pr-created", ("5",))


def test_an_empty_event_says_nothing() -> None:
    assert facts({}) == EventFacts()


CHANGED: dict[str, dict[str, object]] = {
    "pull_request.opened": {"pull_request__head__ref": "task-5-readme"},
    "pull_request.labeled": {"pull_request__labels": github.labels("bug", "task-5")},
    "pull_request.closed": {"pull_request__head__ref": "task-5"},
    "pull_request_review.submitted": {"pull_request__head__ref": "task-5-x"},
    "issue_comment.created": {"issue__labels": github.labels("task-5")},
    "issues.opened": {"issue__labels": github.labels("task-5")},
    "check_suite.completed": {"check_suite__head_branch": "task-5-x"},
    "workflow_run.completed": {"workflow_run__head_branch": "task-5-x"},
    "push": {"ref": "refs/heads/task-5-x"},
}
TYPES = {
    "pull_request.opened": "pr-created",
    "pull_request.labeled": "pr-labeled",
    "pull_request.closed": "pr-closed",
    "pull_request_review.submitted": "pr-reviewed",
    "issue_comment.created": "pr-commented",
    "issues.opened": None,
    "check_suite.completed": "checks-passed",
    "workflow_run.completed": "checks-passed",
    "push": "branch-pushed",
}


def test_there_is_a_case_for_every_payload() -> None:
    assert set(github.NAMES) == set(CHANGED) == set(TYPES)


@pytest.mark.parametrize("name", github.NAMES)
def test_the_task_and_the_type_of_githubs_own_payloads_are_found(name: str) -> None:
    found = facts(github.payload(name, **CHANGED[name]))
    event, _, action = name.partition(".")
    assert (found.name, found.action) == (event, action or None)
    assert found.event_type == TYPES[name]
    assert found.task_ids == ("5",)
    assert found.sender


@pytest.mark.parametrize("name", github.NAMES)
def test_the_header_tells_the_same_as_the_parts_of_the_payload(name: str) -> None:
    assert facts(github.event(name)) == facts(github.payload(name))


# --- the task ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "task_ids"),
    [
        ({"labels": ["task-5"]}, ("5",)),
        ({"labels": [{"name": "task-5"}, "task-5"]}, ("5",)),
        ({"labels": ["task-5", "task-7"]}, ("5", "7")),
        ({"labels": ["task-5"], "pull_request": {"labels": [{"name": "task-7"}]}}, ("5", "7")),
        ({"labels": ["task-5", "task-05"]}, ("5", "05")),
        ({"issue": {"labels": [{"name": "task-5"}]}}, ("5",)),
        ({"labels": ["task-", "task-x", "task-5-x", "Task-5", " task-5", "task-5\n"]}, ()),
        ({"labels": ["task-\N{ARABIC-INDIC DIGIT FIVE}"]}, ()),
        ({"labels": ["task-\ud800", "task-5"]}, ("5",)),
        ({"labels": "task-5"}, ()),
        ({"labels": {"name": "task-5"}}, ()),
        ({"labels": [5, None, ["task-5"], {"name": 5}, {}]}, ()),
        ({"branch": "task-5"}, ("5",)),
        ({"headRef": "task-5-fix"}, ("5",)),
        ({"ref": "refs/heads/task-5-a/b\n"}, ("5",)),
        ({"ref": "refs/tags/task-5"}, ()),
        ({"branch": "task-5x"}, ()),
        ({"branch": "feature/task-5"}, ()),
        ({"branch": "main", "ref": "refs/heads/task-6"}, ("6",)),
        ({"pull_request": {"head": {"ref": "task-5"}}, "branch": "task-6"}, ("5", "6")),
        ({"pull_request": {"head": "task-5"}}, ()),
        ({"labels": ["task-5"], "branch": "task-7"}, ("5", "7")),
        ({"labels": ["task-5"], "branch": "task-5-x"}, ("5",)),
        ({"check_run": {"check_suite": {"head_branch": "task-5"}}}, ("5",)),
    ],
)
def test_the_task_is_in_the_labels_and_the_branch_by_default(
    event: Mapping[str, object], task_ids: tuple[str, ...]
) -> None:
    assert facts(event).task_ids == task_ids


@pytest.mark.parametrize(
    ("event", "has_source"),
    [
        ({"labels": ["bug"]}, True),
        ({"pull_request": {"labels": [{"name": "bug"}]}}, True),
        ({"branch": "main"}, True),
        ({"labels": []}, False),
        ({"labels": [5, {"name": ""}], "branch": ""}, False),
        ({"action": "opened"}, False),
        ({"title": "task-5"}, False),
    ],
)
def test_labels_or_a_branch_of_any_name_are_where_a_task_is_expected(
    event: Mapping[str, object], has_source: bool
) -> None:
    assert facts(event).has_task_source is has_source


TITLE_AND_BODY = by(
    (TaskIdPlace.LABELS, "^task-([0-9]+)$"),
    (TaskIdPlace.TITLE, "\\[([A-Z]+-[0-9]+)\\]"),
    (TaskIdPlace.BODY, "(?m)^Task: ([0-9]+)$"),
)


@pytest.mark.parametrize(
    ("changes", "task_ids"),
    [
        ({"title": "[ABC-5] Add it"}, ("ABC-5",)),
        ({"title": "[ABC-5] Add it, see [ABC-7]"}, ("ABC-5", "ABC-7")),
        ({"title": "[ABC-5] Add it", "labels": github.labels("task-9")}, ("9",)),
        ({"body": "Adds it.\nTask: 5\n"}, ("5",)),
        ({"body": "Adds it.\nTask: 5\n", "title": "[ABC-5] Add it"}, ("ABC-5",)),
        ({"body": "Task: 5 and more"}, ()),
        ({"body": None, "title": None}, ()),
        ({"body": " " * (MAX_TEXT - 8) + "\nTask: 5" + "6" * 9}, ("5",)),
        ({"body": " " * MAX_TEXT + "\nTask: 5\n"}, ()),
    ],
)
def test_a_title_or_a_text_names_the_task_only_where_nothing_before_it_does(
    changes: dict[str, object], task_ids: tuple[str, ...]
) -> None:
    pull_request = {f"pull_request__{key}": value for key, value in changes.items()}
    event = github.payload("pull_request.opened", **pull_request)
    assert facts(event, TITLE_AND_BODY).task_ids == task_ids


def test_the_message_of_a_commit_is_a_text_too() -> None:
    event = github.payload("push", head_commit__message="Fix\n\nTask: 5")
    assert facts(event, TITLE_AND_BODY).task_ids == ("5",)


def test_labels_count_wherever_they_are_asked_for() -> None:
    rules = by((TaskIdPlace.TITLE, "#([0-9]+)"), (TaskIdPlace.LABELS, "^t([0-9]+)$"))
    assert facts({"title": "#5", "labels": ["t7"]}, rules).task_ids == ("5", "7")


def test_what_is_no_label_value_is_no_task() -> None:
    rules = by((TaskIdPlace.TITLE, "<(.*?)>"))
    event = {"title": f"<> <a b> <-a> <{'a' * 64}> <a.b>"}
    assert facts(event, rules).task_ids == ("a.b",)


def test_a_group_that_takes_no_part_names_nothing() -> None:
    assert facts({"branch": "x"}, by((TaskIdPlace.BRANCH, "x|([0-9]+)"))).task_ids == ()


def test_an_event_with_too_many_labels_is_refused() -> None:
    with pytest.raises(InvalidError, match="more than 1000 elements"):
        facts({"labels": ["x"] * (MAX_VISITED + 1)})


def test_an_event_with_too_much_text_in_its_labels_is_refused() -> None:
    with pytest.raises(InvalidError, match="10000 characters are too many for a regex"):
        facts({"labels": ["x" * 100] * 100})


def test_only_the_first_eight_matches_of_a_text_are_looked_at() -> None:
    title = " ".join(f"#{number}" for number in range(10))
    found = facts({"title": title}, by((TaskIdPlace.TITLE, "#([0-9]+)"))).task_ids
    assert found == tuple("01234567")


def test_further_matches_in_a_text_use_up_what_the_sources_share() -> None:
    def spent(title: str) -> int:
        shared = Effort()
        extraction.read({"title": title}, by((TaskIdPlace.TITLE, "#([0-9]+)")), shared)
        return MAX_STEPS - shared.left

    assert spent("#1 #2 #3") > spent("#1 #2 xx") > spent("xx xx xx")


def test_sources_too_heavy_for_a_text_are_refused() -> None:
    rules = by(*[(TaskIdPlace.TITLE, "((?:.{1,80}){1,10})z")] * 8)
    with pytest.raises(InvalidError, match="steps of matching"):
        facts({"title": "a" * MAX_TEXT}, rules)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "'(' is not a pattern RE2 accepts"),
        ("task-[0-9]+", "has 0 groups in parentheses, exactly 1 is needed"),
        ("(task)-([0-9]+)", "has 2 groups in parentheses, exactly 1 is needed"),
        ("(?P<id>[0-9]+)", ""),
        ("(?:task|job)-([0-9]+)", ""),
    ],
)
def test_a_pattern_has_exactly_one_group(pattern: str, problem: str) -> None:
    rules = by((TaskIdPlace.BODY, pattern))
    if not problem:
        extraction.check(rules)
        return
    with pytest.raises(InvalidError) as caught:
        extraction.check(rules)
    assert str(caught.value).startswith("pattern: ")
    assert problem in str(caught.value)
    assert caught.value.field == "pattern"


# --- the type ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "event_type"),
    [
        ({"action": "opened"}, "pr-created"),
        ({"action": "opened", "pull_request": {}}, "pr-created"),
        ({"action": "opened", "issue": {"number": 1}}, None),
        ({"action": "opened", "issue": {"number": 1}, "pull_request": {}}, "pr-created"),
        ({"action": "opened", "issue": {"number": 1}, "pull_request": None}, None),
        ({"action": "opened", "milestone": {}}, None),
        ({"action": "opened", "X-GitHub-Event": "issues"}, None),
        ({"action": "labeled", "labelName": "ready-for-qa", "issue": {}}, None),
        ({"action": "labeled", "labelName": "ready-for-qa"}, "pr-labeled-ready"),
        ({"action": "labeled", "label": {"name": "ready-for-qa"}}, "pr-labeled-ready"),
        ({"action": "labeled", "label": {"name": "bug"}}, "pr-labeled"),
        ({"action": "labeled"}, "pr-labeled"),
        ({"action": "submitted", "review": {"state": "approved"}}, "pr-approved"),
        ({"action": "submitted", "review": {"state": "APPROVED"}}, "pr-approved"),
        ({"action": "submitted", "reviewState": "approved"}, "pr-approved"),
        ({"action": "submitted", "reviewState": "commented"}, "pr-reviewed"),
        ({"action": "submitted", "reviewState": "changes_requested"}, "pr-changes-requested"),
        ({"action": "submitted"}, "pr-reviewed"),
        ({"action": "closed"}, None),
        ({"action": "closed", "merged": True}, "task-completed"),
        ({"action": "closed", "merged": False}, "pr-closed"),
        ({"action": "closed", "merged": 0}, None),
        ({"action": "closed", "pull_request": {}}, None),
        ({"action": "completed", "check_suite": {"conclusion": "timed_out"}}, "checks-failed"),
        ({"action": "completed", "workflow_run": {"conclusion": "failure"}}, "checks-failed"),
        ({"action": "completed", "check_suite": {"conclusion": "neutral"}}, None),
        ({"action": ["opened"]}, None),
        ({"action": None}, None),
    ],
)
def test_the_type_follows_from_the_event_and_its_action(
    event: Mapping[str, object], event_type: str | None
) -> None:
    assert facts(event).event_type == event_type


MERGED = github.payload("pull_request.closed", pull_request__merged=True)
CLOSED = github.payload("pull_request.closed")


@pytest.mark.parametrize(
    ("event", "event_type", "contradicts"),
    [
        ({}, "pr-created", False),
        ({"labels": ["task-5"]}, "pr-created", False),
        ({"action": "weird"}, "pr-created", True),
        ({"action": "weird"}, "of-nobody", False),
        ({"action": "closed"}, "pr-created", True),
        ({"action": "closed"}, "pr-closed", False),
        ({"action": "closed"}, "task-completed", False),
        ({"X-GitHub-Event": "push"}, "pr-created", True),
        ({"action": "opened", "milestone": {}}, "pr-created", True),
        (github.payload("issues.opened"), "pr-created", True),
        (github.payload("issues.opened"), "issue-opened", False),
        (CLOSED, "task-completed", True),
        (CLOSED, "pr-closed", False),
        (MERGED, "pr-closed", True),
    ],
)
def test_an_event_contradicts_a_type_that_its_rules_exclude(
    event: Mapping[str, object], event_type: str, contradicts: bool
) -> None:
    assert extraction.contradicts(event, event_type, DEFAULT) is contradicts


def test_the_first_rule_that_fits_gives_the_type_and_several_may_give_the_same() -> None:
    rules = Extraction(
        DEFAULT.sources,
        (
            TypeRule("urgent", "issues", "labeled", label="urgent"),
            TypeRule("told", "issues"),
            TypeRule("told", "issue_comment", "created"),
        ),
    )
    assert facts({"issue": {}, "action": "labeled", "labelName": "urgent"}, rules).event_type == (
        "urgent"
    )
    assert facts(github.payload("issues.opened"), rules).event_type == "told"
    assert facts(github.payload("issue_comment.created"), rules).event_type == "told"
    assert facts(github.payload("push"), rules).event_type is None


@given(OBJECTS)
def test_any_json_can_be_read(event: dict[str, Any]) -> None:
    found = facts(event)
    assert found.event_type in {None, *(rule.type for rule in DEFAULT.types)}
    assert all(task.isdecimal() for task in found.task_ids)
    if found.event_type is not None:
        assert not extraction.contradicts(event, found.event_type, DEFAULT)


@given(OBJECTS)
def test_a_payload_under_body_is_read_as_if_it_were_alone(payload: dict[str, Any]) -> None:
    if not isinstance(payload.get("body"), dict):
        assert facts({"body": payload}) == facts(payload)
