"""Paths find what is there, nothing where it is not, and are bounded on any JSON."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resumer.core.paths import MAX_DEPTH, MAX_VISITED, AnyElement, Path
from resumer.errors import InvalidError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=3)
    ),
    max_leaves=10,
)
STEPS = st.one_of(st.from_regex(r'\A[^"]+\Z'), st.integers(0, 999999), st.just(AnyElement()))
DOCUMENT: dict[str, Any] = {
    "action": "opened",
    "pull_request": {"labels": [{"name": "task-5"}, {"id": 1}, {"name": "qa"}, None, 7]},
    "nested": [[1, 2], [3], "x"],
    "empty": [],
    "null": None,
    "false": False,
    "annotations": {"example.com/x": "y"},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("action", ("opened",)),
        ("pull_request.labels[].name", ("task-5", "qa")),
        ("pull_request.labels[2].name", ("qa",)),
        ("pull_request.labels[3]", ()),
        ("pull_request.labels[9]", ()),
        ("pull_request.labels.name", ()),
        ("nested[][]", (1, 2, 3)),
        ("nested[0][1]", (2,)),
        ("action[]", ()),
        ("action[0]", ()),
        ("action.x", ()),
        ("empty", ([],)),
        ("empty[]", ()),
        ("null", ()),
        ("null.x", ()),
        ("false", (False,)),
        ("missing.x[].y", ()),
        ('annotations."example.com/x"', ("y",)),
        ('"action"', ("opened",)),
    ],
)
def test_a_path_finds_every_value_it_leads_to_and_no_null(
    path: str, found: tuple[object, ...]
) -> None:
    assert Path.parse(path).find(DOCUMENT) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "found the end at character 1, expected a key"),
        (".a", "found '.' at character 1, expected a key"),
        ("a.", "found the end at character 3, expected a key"),
        ("a..b", "found '.' at character 3, expected a key"),
        ("a b", "found ' ' at character 2, expected '.', '[]' or '[N]'"),
        ("a[]b", "found 'b' at character 4, expected '.', '[]' or '[N]'"),
        ("a[-1]", "found '[' at character 2"),
        ("a[*]", "found '[' at character 2"),
        ("a[1234567]", "found '[' at character 2"),
        ("[]", "found '[' at character 1, expected a key"),
        ('"a', "found '\"' at character 1, expected a key"),
        ('""', "found '\"' at character 1, expected a key"),
        (".".join("a" * (MAX_DEPTH + 1)), f"has 17 steps, at most {MAX_DEPTH} are allowed"),
        ("a" + "[]" * MAX_DEPTH, "has 17 steps"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_by_what_and_where(text: str, complaint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Path.parse(text, field="validationRules[0].field")
    assert complaint in str(caught.value)
    assert caught.value.field == "validationRules[0].field"


def test_a_path_of_the_greatest_depth_is_followed() -> None:
    document: object = 1
    for _ in range(MAX_DEPTH):
        document = {"a": document}
    assert Path.parse(".".join("a" * MAX_DEPTH)).find(document) == (1,)


def test_more_elements_than_allowed_are_refused_instead_of_cut() -> None:
    path = Path.parse("a[]")
    assert len(path.find({"a": [1] * (MAX_VISITED - 1)})) == MAX_VISITED - 1
    with pytest.raises(InvalidError, match="more than 1000 elements"):
        path.find({"a": [1] * MAX_VISITED})


def test_elements_on_the_way_count_too() -> None:
    nested = {"a": [[0] * 40] * 40}
    with pytest.raises(InvalidError, match="more than 1000 elements"):
        Path.parse("a[][]").find(nested)
    with pytest.raises(InvalidError, match="more than 1000 elements"):
        Path.parse("a[].b.c").find({"a": [{"b": {}}] * 600})


@given(st.text(alphabet='ab.[]"0 \n', max_size=12), JSON)
def test_any_text_is_a_path_or_an_error_and_finds_the_same_as_what_it_is_written_as(
    text: str, document: object
) -> None:
    try:
        path = Path.parse(text)
    except InvalidError:
        return
    again = Path.parse(str(path))
    assert again == path
    assert again.find(document) == path.find(document)


@given(st.text(min_size=1).filter(lambda text: '"' not in text), st.lists(STEPS, max_size=6))
@example("labels", [0, "b c", AnyElement()])
def test_a_path_reads_back_from_what_it_writes(first: str, more: list[Any]) -> None:
    path = Path((first, *more))
    assert Path.parse(str(path)) == path


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=5))
def test_any_element_finds_them_all_in_order(rows: list[list[int]]) -> None:
    found = Path.parse("rows[][]").find({"rows": rows})
    assert found == tuple(itertools.chain(*rows))
