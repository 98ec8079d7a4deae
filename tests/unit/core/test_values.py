"""Which values Argo hands on byte for byte, and which it would evaluate or choke on."""

from __future__ import annotations

import pytest

from resumer.core import values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", False),
        ("", False),
        ("a { b } c", False),
        ("{=1+41}}", False),
        ("{{workflow.name}}", True),
        ("x {{=1+41}} y", True),
        ("ends in {", True),
        ("{", True),
    ],
)
def test_what_could_be_or_begin_a_template_is_told_from_data(value: str, expected: bool) -> None:
    assert values.is_template(value) is expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        'quotes " and \\ backslash',
        "line\nbreak\ttab\r\f\b",
        "äöü 漢字 \u200b\uffff",
        "😀 $ % {",
    ],
)
def test_ordinary_text_survives(value: str) -> None:
    assert values.unfit_character(value) is None


@pytest.mark.parametrize(
    "character", ["\x00", "\x07", "\x0b", "\x1b", "\x7f", "\ud800", "\U000e0067"]
)
def test_a_character_that_would_end_the_workflow_in_an_error_is_found(character: str) -> None:
    assert values.unfit_character(f"before{character}after") == character
