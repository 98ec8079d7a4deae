"""An event says the same in its short form, as a whole payload and under ``body``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import events
from resumer.core.paths import Path

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
    assert events.name(event) == "pull_request"
    assert events.action(event) == "labeled"
    assert events.sender(event) == "cleo[bot]"
    assert events.delivery_id(event) == "d-1"


def test_an_empty_event_says_nothing() -> None:
    asked = (events.name, events.action, events.sender, events.delivery_id)
    assert [ask({}) for ask in asked] == [None] * len(asked)


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"X-GitHub-Event": "issues", "pull_request": {}}, "issues"),
        ({"x-github-event": "push"}, "push"),
        ({"headers": {"X-Github-Event": ["push"]}, "body": {}}, "push"),
        ({"X-GitHub-Event": "Not A Name", "pull_request": {}}, "pull_request"),
        ({"X-GitHub-Event": 5}, None),
        ({"review": {}, "pull_request": {}}, "pull_request_review"),
        ({"comment": {}, "pull_request": {}}, "pull_request_review_comment"),
        ({"pull_request": {}}, "pull_request"),
        ({"issue": {}, "pull_request": {}}, "pull_request"),
        ({"issue": {}, "pull_request": None}, "issues"),
        ({"comment": {}, "issue": {}}, "issue_comment"),
        ({"issue": {}, "action": "opened"}, "issues"),
        ({"check_run": {"check_suite": {}}}, "check_run"),
        ({"check_suite": {}}, "check_suite"),
        ({"workflow_run": {}, "workflow": {}}, "workflow_run"),
        ({"ref": "refs/heads/x", "before": "0", "after": "1"}, "push"),
        ({"action": "opened"}, "pull_request"),
        ({"action": "closed", "sender": {"login": "x"}}, "pull_request"),
        ({"action": "labeled", "label": {"name": "x"}}, "pull_request"),
        ({"action": "submitted", "review": {"state": "approved"}}, "pull_request_review"),
        ({"action": "opened", "milestone": {}}, None),
        ({"action": "closed", "discussion": {}}, None),
        ({"action": "weird"}, None),
        ({"action": ["opened"]}, None),
        ({"body": {"action": "opened"}, "action": "submitted"}, "pull_request"),
        ({"body": "text of a comment", "action": "opened"}, "pull_request"),
    ],
)
def test_the_name_of_an_event_is_in_its_header_or_follows_from_its_parts(
    event: Mapping[str, object], name: str | None
) -> None:
    assert events.name(event) == name


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
        ("branch", {"check_suite": {"head_branch": "x"}}, ("x",)),
        ("branch", {"workflow_run": {"head_branch": "x"}}, ("x",)),
        ("branch", {"ref": "refs/heads/x/y", "before": "", "after": ""}, ("x/y",)),
        ("headRef", {"ref": "x"}, ("x",)),
        ("branch", {"ref": "refs/tags/x"}, ()),
        ("ref", {"ref": "refs/heads/x"}, ("refs/heads/x",)),
        ("check_suite.head_branch", {"workflow_run": {"head_branch": "x"}}, ()),
        ("check_suite.head_branch", {"branch": "x"}, ("x",)),
        ("conclusion", {"check_run": {"conclusion": "success"}}, ("success",)),
        ("workflow_run.conclusion", {"conclusion": "failure"}, ("failure",)),
        ("merged", {"pull_request": {"merged": False}}, (False,)),
        ("labels[]", {"issue": {"labels": [{"name": "a"}]}}, ("a",)),
        ("pullRequestNumber", {"check_suite": {"pull_requests": [{"number": 2}]}}, (2,)),
        ("pullRequestNumber", {"issue": {"number": 3, "pull_request": {}}}, (3,)),
        ("pullRequestNumber", {"issue": {"number": 3}}, ()),
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


@given(OBJECTS)
def test_any_json_is_an_event(event: dict[str, Any]) -> None:
    for path in ("labels[]", "review.user.login", "sender", "body.action", "branch"):
        assert isinstance(events.find(event, Path.parse(path)), tuple)
    assert events.is_short(event) in (True, False)


@given(OBJECTS)
def test_a_payload_under_body_says_the_same_as_alone(payload: dict[str, Any]) -> None:
    if not isinstance(payload.get("body"), dict):
        for ask in (events.name, events.action, events.sender, events.delivery_id):
            assert ask({"body": payload}) == ask(payload)
