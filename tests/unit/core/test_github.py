"""A payload is cut to what correlation needs, within bounds, whatever is in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.core import extraction, github
from tests import github as recorded

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)
PARTS = ("action", "label", "pull_request", "review", "issue", "check_suite", "sender", "ref")


@pytest.mark.parametrize("name", recorded.NAMES)
def test_what_is_read_of_a_payload_is_in_what_is_left_of_it(name: str) -> None:
    whole = recorded.event(name, "72d3162e-cc78-11e3-81ab-4c9367dc0958")
    short = github.cut(whole)
    assert extraction.read(short, extraction.DEFAULT) == extraction.read(whole, extraction.DEFAULT)
    assert len(json.dumps(short)) < min(4096, len(json.dumps(whole)))


@pytest.mark.parametrize("name", recorded.NAMES)
def test_to_cut_twice_is_to_cut_once(name: str) -> None:
    once = github.cut(recorded.event(name))
    assert github.cut(once) == once


def test_what_is_left_stands_where_it_stood() -> None:
    event = recorded.event("pull_request.labeled", pull_request__labels=recorded.labels("task-5"))
    short = github.cut(event)
    assert short["pull_request"]["labels"] == [{"name": "task-5"}]
    assert short["label"] == {"name": event["label"]["name"]}
    assert short["sender"] == {"login": "Codertocat", "type": "User"}
    assert "organization" not in short
    assert "url" not in short["pull_request"]


def test_names_lists_and_prose_are_bounded() -> None:
    labels = recorded.labels(*(f"label {number}" for number in range(500)))
    body = "word " * 5000
    event = recorded.event(
        "pull_request.opened",
        pull_request__labels=labels,
        pull_request__head__ref="b" * 1000,
        pull_request__body=body,
    )
    pull = github.cut(event)["pull_request"]
    assert (len(pull["labels"]), len(pull["head"]["ref"])) == (100, 255)
    assert pull["body"] == "word " * 819


def test_a_long_title_is_cut_at_a_blank_and_not_in_a_task() -> None:
    event = recorded.event("pull_request.opened", pull_request__title=" " * 4089 + "task-123")
    assert github.cut(event)["pull_request"]["title"] == " " * 4089
    whole = recorded.event("pull_request.opened", pull_request__title="t" * 4096)
    assert github.cut(whole)["pull_request"]["title"] == "t" * 4096


@given(st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=8), JSON))
def test_any_shape_is_cut_to_something_small(event: dict[str, object]) -> None:
    assert len(json.dumps(github.cut(event))) < 4096


@pytest.mark.parametrize("wrong", [None, 7, "text", [], [[]], {"labels": 1, "head": []}])
def test_a_part_of_another_type_is_left_out(wrong: object) -> None:
    assert github.cut({"action": "opened", "pull_request": wrong}) == {"action": "opened"}
