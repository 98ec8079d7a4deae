"""An event says the same in its short form, as a whole payload and under ``body``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import events
from resumer.core.events import EventFacts
from resumer.core.paths import MAX_VISITED, Path
from resumer.errors import InvalidError

SHORT: dict[str, Any] = {
    "action": "labeled",
    "pullRequestNumber": 123,
    "labels": ["task-5", "qa"],
    "labelName": "ready-for-qa",
    "sender": "cleo[bot]",
    "branch": "task-5-add-login",
    "deliveryId": "d-1",
}
WHOLE: dict[str, Any] = {
    "action": "labeled",
    "label": {"name": "ready-for-qa"},
    "pull_request": {
        "number": 123,
        "labels": [{"name": "task-5"}, {"name": "qa"}],
        "head": {"ref": "task-5-add-login"},
    },
    "sender": {"login": "cleo[bot]", "id": 1},
    "X-GitHub-Delivery": "d-1",
}
NESTED: dict[str, Any] = {
    "headers": {"X-Github-Delivery": ["d-1"], "X-Github-Event": ["pull_request"]},
    "body": {key: value for key, value in WHOLE.items() if key != "X-GitHub-Delivery"},
}
KEYS = st.sampled_from(
    [
        *("action", "label", "labels", "labelName", "name", "pull_request", "review", "state"),
        *("sender", "login", "head", "ref", "branch", "body", "headers", "issue", "deliveryId"),
        *("X-GitHub-Delivery", "reviewState", "user"),
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.sampled_from(["opened", "labeled", "submitted", "task-5", "approved", "\ud800", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=8)


@pytest.mark.parametrize("event", [SHORT, WHOLE, NESTED], ids=["short", "whole", "nested"])
def test_the_three_shapes_say_the_same(event: Mapping[str, object]) -> None:
    facts = events.normalise(event)
    assert facts == EventFacts(
        event_type="pr-labeled-ready",
        task_id_label="5",
        task_id_branch="5",
        action="labeled",
        sender="cleo[bot]",
        has_task_source=True,
    )
    assert events.delivery_id(event) == "d-1"
    assert facts.task_ids == ("5",)


def test_the_first_manifest_of_the_requirements_is_understood() -> None:
    event = {"pullRequestNumber": 123, "action": "opened", "labels": ["task-5"]}
    facts = events.normalise(event)
    assert (facts.event_type, facts.task_ids) == ("pr-created", ("5",))


def test_an_empty_event_says_nothing() -> None:
    assert events.normalise({}) == EventFacts()
    assert EventFacts().task_ids == ()
    assert events.delivery_id({}) is None


@pytest.mark.parametrize(
    ("event", "event_type"),
    [
        ({"action": "opened"}, "pr-created"),
        ({"action": "opened", "pull_request": {}}, "pr-created"),
        ({"action": "opened", "issue": {"number": 1}}, None),
        ({"action": "opened", "issue": {"number": 1}, "pull_request": {}}, "pr-created"),
        ({"action": "opened", "issue": {"number": 1}, "pull_request": None}, None),
        ({"action": "opened", "milestone": {}}, None),
        ({"action": "labeled", "labelName": "ready-for-qa", "issue": {}}, None),
        ({"action": "labeled", "labelName": "ready-for-qa"}, "pr-labeled-ready"),
        ({"action": "labeled", "label": {"name": "ready-for-qa"}}, "pr-labeled-ready"),
        ({"action": "labeled", "label": {"name": "bug"}}, "pr-labeled"),
        ({"action": "labeled"}, "pr-labeled"),
        ({"action": "submitted", "review": {"state": "approved"}}, "pr-approved"),
        ({"action": "submitted", "review": {"state": "APPROVED"}}, "pr-approved"),
        ({"action": "submitted", "reviewState": "approved"}, "pr-approved"),
        ({"action": "submitted", "reviewState": "commented"}, "pr-reviewed"),
        ({"action": "submitted"}, "pr-reviewed"),
        ({"action": "closed"}, None),
        ({"action": ["opened"]}, None),
        ({"action": None}, None),
        ({"body": {"action": "opened"}, "action": "submitted"}, "pr-created"),
        ({"body": "text of a comment", "action": "opened"}, "pr-created"),
    ],
)
def test_the_event_type_follows_from_the_action(
    event: Mapping[str, object], event_type: str | None
) -> None:
    assert events.normalise(event).event_type == event_type


@pytest.mark.parametrize(
    ("event", "label", "branch", "conflicting"),
    [
        ({"labels": ["task-5"]}, "5", None, ()),
        ({"labels": [{"name": "task-5"}, "task-5"]}, "5", None, ()),
        ({"labels": ["task-5", "task-7"]}, None, None, ("5", "7")),
        (
            {"labels": ["task-5"], "pull_request": {"labels": [{"name": "task-7"}]}},
            None,
            None,
            ("5", "7"),
        ),
        ({"labels": ["task-5", "task-05"]}, None, None, ("5", "05")),
        ({"issue": {"labels": [{"name": "task-5"}]}}, "5", None, ()),
        (
            {"labels": ["task-", "task-x", "task-5-x", "Task-5", " task-5", "task-5\n"]},
            None,
            None,
            (),
        ),
        ({"labels": ["task-\N{ARABIC-INDIC DIGIT FIVE}"]}, None, None, ()),
        ({"labels": "task-5"}, None, None, ()),
        ({"labels": {"name": "task-5"}}, None, None, ()),
        ({"labels": [5, None, ["task-5"], {"name": 5}, {}]}, None, None, ()),
        ({"branch": "task-5"}, None, "5", ()),
        ({"headRef": "task-5-fix"}, None, "5", ()),
        ({"ref": "refs/heads/task-5-a/b\n"}, None, "5", ()),
        ({"branch": "task-5x"}, None, None, ()),
        ({"branch": "feature/task-5"}, None, None, ()),
        ({"branch": "main", "ref": "refs/heads/task-6"}, None, "6", ()),
        ({"pull_request": {"head": {"ref": "task-5"}}, "branch": "task-6"}, None, "5", ()),
        ({"pull_request": {"head": "task-5"}}, None, None, ()),
        ({"labels": ["task-5"], "branch": "task-7"}, "5", "7", ()),
    ],
)
def test_the_task_is_a_label_else_a_branch(
    event: Mapping[str, object], label: str | None, branch: str | None, conflicting: tuple[str, ...]
) -> None:
    facts = events.normalise(event)
    assert (facts.task_id_label, facts.task_id_branch) == (label, branch)
    assert facts.conflicting_task_ids == conflicting


@pytest.mark.parametrize(
    ("event", "has_source"),
    [
        ({"labels": ["bug"]}, True),
        ({"pull_request": {"labels": [{"name": "bug"}]}}, True),
        ({"branch": "main"}, True),
        ({"labels": []}, False),
        ({"labels": [5, {"name": ""}], "branch": ""}, False),
        ({"action": "opened"}, False),
    ],
)
def test_labels_or_a_branch_of_any_name_are_where_a_task_is_expected(
    event: Mapping[str, object], has_source: bool
) -> None:
    assert events.normalise(event).has_task_source is has_source


def test_all_tasks_that_an_event_names_are_listed_once() -> None:
    facts = EventFacts(conflicting_task_ids=("5", "7"), task_id_branch="5")
    assert facts.task_ids == ("5", "7")


@pytest.mark.parametrize(
    ("event", "delivery_id"),
    [
        ({"x-github-delivery": "a"}, "a"),
        ({"headers": {"x-github-delivery": "a"}}, "a"),
        ({"headers": {"X-Github-Delivery": ["", 5, "a"]}}, "a"),
        ({"body": {"deliveryId": "a"}}, "a"),
        ({"body": {"headers": {"X-GitHub-Delivery": "a"}}}, "a"),
        ({"deliveryId": "a", "headers": {"x-github-delivery": "b"}}, "a"),
        ({"deliveryId": 5}, None),
        ({"deliveryId": ""}, None),
        ({"deliveryId": "a b"}, None),
        ({"deliveryId": "a" * 129}, None),
        ({"headers": "x-github-delivery: a"}, None),
        ({"headers": {"x-github-delivery": {"a": "b"}}}, None),
    ],
)
def test_the_delivery_is_found_in_the_event_or_its_headers(
    event: Mapping[str, object], delivery_id: str | None
) -> None:
    assert events.delivery_id(event) == delivery_id


@pytest.mark.parametrize(
    ("path", "event", "found"),
    [
        ("label.name", {"labelName": "x"}, ("x",)),
        ("labelName", {"label": {"name": "x"}}, ("x",)),
        ("label.name", {"label": {"name": "x"}, "labelName": "y"}, ("x",)),
        ("labelName", {"label": {"name": "x"}, "labelName": "y"}, ("y",)),
        ("review.state", {"reviewState": "approved"}, ("approved",)),
        ("reviewState", {"review": {"state": "approved"}}, ("approved",)),
        ("pull_request.labels[].name", {"labels": ["a", "b"]}, ("a", "b")),
        ("pull_request.labels[].name", {"labels": [{"name": "a"}]}, ("a",)),
        ("labels[]", {"pull_request": {"labels": [{"name": "a"}]}}, ("a",)),
        ("labels[]", {"labels": [{"name": "a"}]}, ("a",)),
        ("labels[].name", {"labels": ["a"]}, ("a",)),
        ("pull_request.number", {"pullRequestNumber": 123}, (123,)),
        ("pullRequestNumber", {"pull_request": {"number": 123}}, (123,)),
        ("pull_request.head.ref", {"branch": "x"}, ("x",)),
        ("sender.login", {"sender": "x"}, ("x",)),
        ("sender", {"sender": {"login": "x"}}, ("x",)),
        ("sender", {"sender": {"id": 1}}, ()),
        ("body.label.name", {"body": {"label": {"name": "x"}}}, ("x",)),
        ("body.label.name", {"labelName": "x"}, ("x",)),
        ("body", {"body": "text"}, ("text",)),
        ("action", {"body": {"action": "x"}}, ("x",)),
        ("anything[].at.all", {"anything": [{"at": {"all": {"x": 1}}}]}, ({"x": 1},)),
        ("label.id", {"labelName": "x"}, ()),
    ],
)
def test_a_path_finds_the_other_form_too(
    path: str, event: Mapping[str, object], found: tuple[object, ...]
) -> None:
    assert events.find(event, Path.parse(path)) == found


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"action": "submitted", "reviewState": "approved"}, ()),
        ({"action": "submitted", "reviewer": "tess"}, ("tess",)),
        ({"action": "submitted", "sender": "tess"}, ("tess",)),
        ({"action": "submitted", "sender": {"login": "tess"}}, ("tess",)),
        ({"action": "labeled", "sender": "tess"}, ()),
        ({"sender": "tess"}, ()),
        ({"action": "submitted", "review": {"user": {"login": "x"}}, "sender": "y"}, ("x",)),
        ({"action": "submitted", "review": {"user": None}, "sender": "y"}, ()),
        ({"action": "submitted", "reviewer": "x", "sender": "y"}, ("x",)),
    ],
)
def test_the_sender_is_the_reviewer_only_where_a_short_event_submits_a_review(
    event: Mapping[str, object], found: tuple[object, ...]
) -> None:
    assert events.find(event, Path.parse("review.user.login")) == found


def test_an_event_with_too_many_labels_is_refused() -> None:
    with pytest.raises(InvalidError, match="more than 1000 elements"):
        events.normalise({"labels": ["x"] * (MAX_VISITED + 1)})


@given(OBJECTS)
def test_any_json_is_an_event(event: dict[str, Any]) -> None:
    facts = events.normalise(event)
    assert facts.event_type in {
        *("pr-created", "pr-labeled", "pr-labeled-ready", "pr-approved", "pr-reviewed", None)
    }
    assert all(task.isdecimal() for task in facts.task_ids)
    for path in ("labels[]", "review.user.login", "sender", "body.action"):
        assert isinstance(events.find(event, Path.parse(path)), tuple)


@given(OBJECTS)
def test_a_payload_under_body_says_the_same_as_alone(payload: dict[str, Any]) -> None:
    if not isinstance(payload.get("body"), dict):
        assert events.normalise({"body": payload}) == events.normalise(payload)
        assert events.delivery_id({"body": payload}) == events.delivery_id(payload)
