"""A rule passes exactly where its field, its operator and what is found say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.api.resume import MAX_PATTERN, RuleOperator, ValidationRule
from resumer.core import rules
from resumer.core.paths import MAX_VISITED
from resumer.core.patterns import MAX_STEPS, MAX_TEXT, Effort
from resumer.core.rules import Check, Scope
from resumer.errors import InvalidError

NEGATIVE = {RuleOperator.NOT_EQUALS, RuleOperator.NOT_IN, RuleOperator.ABSENT}
EVENT: dict[str, Any] = {
    "action": "submitted",
    "number": 123,
    "draft": False,
    "nothing": None,
    "labels": ["task-5", "qa"],
    "review": {"state": "approved", "user": {"login": "5DLabs-Tess[bot]"}},
    "changes": {"files": [{"lines": 5}, {"lines": 70}]},
    "sizes": ["5", "7.5e1", "many", True, None],
    "odd": "\ud800",
}
LABELS = {"task-id": "5", "example.com/team.x": "core", "empty": ""}
WORKFLOW: dict[str, Any] = {
    "metadata": {"name": "play-1", "annotations": {"example.com/x": "y"}},
    "status": {"phase": "Running"},
}


def rule(
    field: str, operator: str, value: str | None = None, values: list[str] | None = None
) -> ValidationRule:
    raw = {"field": field, "operator": operator, "value": value, "values": values}
    return ValidationRule.from_json({key: item for key, item in raw.items() if item is not None})


def check(checked: ValidationRule) -> Check:
    return rules.evaluate(checked, event=EVENT, labels=LABELS, workflow=WORKFLOW)


@pytest.mark.parametrize(
    ("field", "scope"),
    [
        ("task-id", Scope.LABEL),
        ("labelName", Scope.LABEL),
        ("labels.example.com/team.x", Scope.LABEL),
        ("workflow.status.phase", Scope.WORKFLOW),
        ("event.action", Scope.EVENT),
        ("event.workflow.name", Scope.EVENT),
        ("review.state", Scope.EVENT),
        ("labels[]", Scope.EVENT),
        ("labels[].name", Scope.EVENT),
        ("workflow_run.id", Scope.EVENT),
    ],
)
def test_the_field_says_what_has_to_be_known(field: str, scope: Scope) -> None:
    assert rules.scope(rule(field, "exists")) is scope


@pytest.mark.parametrize(
    ("field", "actual"),
    [
        ("task-id", "5"),
        ("labels.task-id", "5"),
        ("labels.example.com/team.x", "core"),
        ("empty", ""),
        ("missing", None),
        ("labels.missing", None),
        ("workflow.status.phase", "Running"),
        ('workflow.metadata.annotations."example.com/x"', "y"),
        ("workflow.spec.suspend", None),
        ("event.action", "submitted"),
        ("event.number", "123"),
        ("event.draft", "false"),
        ("event.nothing", None),
        ("event.labels[]", "task-5, qa"),
        ("review.state", "approved"),
        ("event.review", '{"state":"approved","user":{"login":"5DLabs-Tess[bot]"}}'),
        ("changes.files[].lines", "5, 70"),
    ],
)
def test_the_check_shows_what_was_found(field: str, actual: str | None) -> None:
    found = check(rule(field, "exists"))
    assert found == Check(field, "exists", "", actual, passed=actual is not None)


@pytest.mark.parametrize(
    ("field", "operator", "operand", "passed"),
    [
        ("task-id", "equals", "5", True),
        ("task-id", "equals", "05", False),
        ("event.number", "equals", "123", True),
        ("event.draft", "equals", "false", True),
        ("event.draft", "equals", "False", False),
        ("event.review", "equals", "{}", False),
        ("empty", "equals", "", True),
        ("labels[]", "equals", "qa", True),
        ("labels[]", "equals", "task-5, qa", False),
        ("missing", "equals", "", False),
        ("task-id", "notEquals", "5", False),
        ("task-id", "notEquals", "6", True),
        ("labels[]", "notEquals", "qa", False),
        ("labels[]", "notEquals", "bug", True),
        ("event.review", "notEquals", "x", True),
        ("missing", "notEquals", "5", True),
        ("task-id", "in", ["4", "5"], True),
        ("task-id", "in", ["4", "6"], False),
        ("missing", "in", ["", "5"], False),
        ("labels[]", "in", ["x", "qa"], True),
        ("task-id", "notIn", ["4", "5"], False),
        ("task-id", "notIn", ["4", "6"], True),
        ("labels[]", "notIn", ["qa"], False),
        ("missing", "notIn", ["5"], True),
        ("empty", "exists", None, True),
        ("missing", "exists", None, False),
        ("event.review", "exists", None, True),
        ("event.nothing", "exists", None, False),
        ("missing", "absent", None, True),
        ("event.nothing", "absent", None, True),
        ("empty", "absent", None, False),
        ("labels[]", "absent", None, False),
        ("review.user.login", "contains", "Tess", True),
        ("review.user.login", "contains", "Cleo", False),
        ("event.review", "contains", "state", False),
        ("missing", "contains", "", False),
        ("labels[]", "startsWith", "task-", True),
        ("labels[]", "startsWith", "-5", False),
        ("missing", "startsWith", "", False),
        ("review.user.login", "regex", r"^5DLabs-Tess\[bot\]$", True),
        ("review.user.login", "regex", "Tess", True),
        ("review.user.login", "regex", "^Tess", False),
        ("pull_request.labels[].name", "regex", "^task-5$", True),
        ("pull_request.labels[].name", "regex", "^task-6$", False),
        ("sender.login", "regex", ".*", False),
        ("event.odd", "regex", r"^\?$", True),
        ("event.number", "gt", "122.5", True),
        ("event.number", "gt", "123", False),
        ("event.number", "lt", "1.24e2", True),
        ("event.number", "lt", "-5", False),
        ("changes.files[].lines", "gt", "60", True),
        ("changes.files[].lines", "lt", "5", False),
        ("event.sizes[]", "gt", "70", True),
        ("event.sizes[]", "gt", "75", False),
        ("event.action", "gt", "0", False),
        ("event.draft", "lt", "1", False),
        ("missing", "gt", "0", False),
        ("missing", "lt", "0", False),
    ],
)
def test_an_operator_compares_as_documented(
    field: str, operator: str, operand: str | list[str] | None, passed: bool
) -> None:
    checked = (
        rule(field, operator, values=operand)
        if isinstance(operand, list)
        else rule(field, operator, operand)
    )
    assert check(checked).passed is passed


def test_the_rules_of_the_requirements_pass_on_the_events_they_were_written_for() -> None:
    event = {
        "action": "labeled",
        "labelName": "ready-for-qa",
        "sender": "5DLabs-Cleo[bot]",
        "labels": ["task-5"],
    }
    for checked in (
        rule("task-id", "equals", "5"),
        rule("label.name", "equals", "ready-for-qa"),
        rule("sender.login", "regex", r"^5DLabs-Cleo\[bot\]$"),
        rule("pull_request.labels[].name", "regex", "^task-5$"),
    ):
        assert rules.evaluate(checked, event=event, labels=LABELS).passed


def test_a_rule_on_the_reviewer_of_a_short_review_looks_at_its_sender() -> None:
    event = {"action": "submitted", "reviewState": "approved", "sender": "eve"}
    checked = rule("review.user.login", "regex", r"^5DLabs-Tess\[bot\]$")
    assert rules.evaluate(checked, event=event) == Check(
        "review.user.login", "regex", r"^5DLabs-Tess\[bot\]$", "eve", passed=False
    )


def test_the_expected_values_are_shown() -> None:
    assert check(rule("task-id", "in", values=["4", "5"])).expected == "4, 5"
    assert check(rule("task-id", "equals", "5")).expected == "5"


def test_long_texts_are_cut_with_an_ellipsis() -> None:
    found = rules.evaluate(
        rule("event.text", "equals", "b" * 300), event={"text": "a" * 10_000}, labels={}
    )
    assert found.actual == "a" * 255 + "…"
    assert found.expected == "b" * 255 + "…"
    exact = Check("f", "equals", "b" * 256, "a" * 256, passed=False)
    assert (exact.expected, exact.actual) == ("b" * 256, "a" * 256)


@pytest.mark.parametrize(
    ("checked", "complaint"),
    [
        (rule("event..action", "exists"), "is not a path: found '.'"),
        (rule("workflow.", "exists"), "is not a path: found the end"),
        (rule("labels[", "exists"), "is not a path: found '['"),
        (rule("task-id", "gt", "five"), "gt needs a number, found 'five'"),
        (rule("task-id", "lt", ""), "lt needs a number, found ''"),
        (rule("task-id", "gt", "NaN"), "gt needs a number"),
        (rule("task-id", "gt", "1_000"), "gt needs a number"),
        (rule("task-id", "gt", "1e9999"), "gt needs a number"),
        (rule("task-id", "regex", "("), "'(' is not a pattern RE2 accepts: missing ): ("),
        (rule("task-id", "regex", r"(?=a)"), "is not a pattern RE2 accepts"),
        (rule("task-id", "regex", r"(a)\1"), "is not a pattern RE2 accepts"),
        (rule("task-id", "regex", r"((\pL{99}){9})"), "pattern too large"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_whatever_it_looks_at(
    checked: ValidationRule, complaint: str
) -> None:
    for attempt in (rules.validate, lambda item: rules.evaluate(item, event={})):
        with pytest.raises(InvalidError) as caught:
            attempt(checked)
        assert complaint in str(caught.value)
        assert caught.value.field == checked.field


def test_a_pattern_over_the_bound_is_refused_even_past_the_schema() -> None:
    checked = rule("task-id", "regex", "a").model_copy(update={"value": "a" * (MAX_PATTERN + 1)})
    with pytest.raises(InvalidError, match="the pattern has 257 characters, at most 256"):
        rules.validate(checked)


@pytest.mark.parametrize("operator", RuleOperator)
def test_a_lookup_that_reaches_too_much_never_passes(operator: RuleOperator) -> None:
    operands: dict[str, Any] = {"value": "5"}
    if operator in (RuleOperator.IN, RuleOperator.NOT_IN):
        operands = {"values": ["5"]}
    if operator in (RuleOperator.EXISTS, RuleOperator.ABSENT):
        operands = {}
    checked = ValidationRule.from_json({"field": "event.x[]", "operator": operator, **operands})
    found = rules.evaluate(checked, event={"x": ["5"] * MAX_VISITED})
    assert not found.passed
    assert "more than 1000 elements" in str(found.actual)


def test_a_text_too_long_for_a_regex_does_not_pass_and_says_so() -> None:
    checked = rule("event.text", "regex", "a")
    assert rules.evaluate(checked, event={"text": "a" * MAX_TEXT}).passed
    found = rules.evaluate(checked, event={"text": "a" * (MAX_TEXT + 1)})
    assert not found.passed
    assert "8193 characters are too many for a regex (8192)" in str(found.actual)


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+$", r"(.*a){25}", r"(\w+\s?)*$", r"((a?){30}a{30}){8}b"]
)
@pytest.mark.timeout(20)
def test_patterns_that_explode_elsewhere_are_answered(pattern: str) -> None:
    text = "a" * (MAX_TEXT - 1) + "!"
    found = rules.evaluate(rule("event.text", "regex", pattern), event={"text": text})
    assert isinstance(found.passed, bool)


def test_rules_that_share_an_effort_use_it_up_together_and_one_alone_does_not() -> None:
    checked = rule("event.text", "regex", "(?:.{1,3}){1,20}z")
    event = {"text": "a" * 1000 + "z"}
    shared = Effort()
    verdicts = [rules.evaluate(checked, event=event, effort=shared).passed for _ in range(32)]
    assert rules.evaluate(checked, event=event).passed
    assert verdicts == sorted(verdicts, reverse=True)
    assert set(verdicts) == {True, False}
    assert shared.exceeded
    assert 0 <= shared.left < MAX_STEPS


def test_a_search_past_the_effort_does_not_pass_and_says_what_it_needs() -> None:
    shared = Effort(left=1000)
    found = rules.evaluate(
        rule("event.text", "regex", "a"), event={"text": "a" * 100}, effort=shared
    )
    assert not found.passed
    assert "the pattern needs 1400 steps of matching" in str(found.actual)
    assert f"of {MAX_STEPS} for all patterns together, 0 are left" in str(found.actual)


def test_the_steps_of_a_text_are_those_of_its_bytes() -> None:
    def spent(text: str) -> int:
        shared = Effort()
        rules.evaluate(rule("event.text", "regex", "b"), event={"text": text}, effort=shared)
        return MAX_STEPS - shared.left

    assert spent("\N{LATIN SMALL LETTER E WITH ACUTE}" * 100) == spent("a" * 200) > spent("a" * 100)


def test_patterns_that_are_too_large_together_are_refused_before_any_search() -> None:
    shared = Effort()
    checked = rule("event.text", "regex", "(?:.{1,80}){1,10}z")
    for _ in range(MAX_STEPS // 1_440_800):
        rules.validate(checked, shared)
    with pytest.raises(InvalidError) as caught:
        rules.validate(checked, shared)
    assert "rule on event.text: the pattern needs 1440800 steps" in str(caught.value)


ORDINARY = (
    r"^5DLabs-Tess\[bot\]$",
    r"(?i)\b(?:fixes|closes) #[0-9]{3,6}\b",
    r"(?m)^Task: (?:[A-Z]+-)?[0-9]{1,6}$",
    r"^https?://[^/]+/pull/[0-9]+",
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[a-z]{2,}",
    r".*approved.*",
    r"^(feat|fix|docs|chore)(\([a-z-]+\))?!?: ",
    r"x$",
)


def test_thirty_two_ordinary_rules_on_a_long_text_are_all_searched() -> None:
    shared = Effort()
    text = ("Lorem ipsum dolor sit amet, " * 200)[:4096]
    for pattern in ORDINARY * 4:
        checked = rule("event.text", "regex", pattern)
        rules.validate(checked, shared)
        rules.evaluate(checked, event={"text": text}, effort=shared)
    assert not shared.exceeded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@st.composite
def any_rule(draw: st.DrawFn) -> ValidationRule:
    operator: RuleOperator = draw(st.sampled_from(list(RuleOperator)))
    text = st.sampled_from(["", "a", "5", "true", "0", "-1.5"])
    operands: dict[str, Any] = {}
    if operator in (RuleOperator.IN, RuleOperator.NOT_IN):
        operands["values"] = draw(st.lists(text, min_size=1, max_size=3))
    elif operator in (RuleOperator.GT, RuleOperator.LT):
        operands["value"] = draw(st.sampled_from(["5", "0", "-1.5"]))
    elif operator not in (RuleOperator.EXISTS, RuleOperator.ABSENT):
        operands["value"] = draw(text)
    field = draw(st.sampled_from(["event.x", "event.x[]", "event.x.y"]))
    return ValidationRule.from_json({"field": field, "operator": operator, **operands})


@given(any_rule(), JSON)
def test_any_json_makes_a_check(checked: ValidationRule, value: object) -> None:
    found = rules.evaluate(checked, event={"x": value})
    if found.actual is None:
        assert found.passed is (checked.operator in NEGATIVE)


@given(JSON, st.lists(st.sampled_from(["", "a", "5", "true"]), min_size=1, max_size=3))
def test_a_negative_operator_is_the_opposite_of_its_positive_one(
    value: object, wanted: list[str]
) -> None:
    def passed(operator: str, **operands: object) -> bool:
        raw: Mapping[str, object] = {"field": "event.x[]", "operator": operator, **operands}
        return rules.evaluate(ValidationRule.from_json(raw), event={"x": value}).passed

    assert passed("equals", value=wanted[0]) is not passed("notEquals", value=wanted[0])
    assert passed("in", values=wanted) is not passed("notIn", values=wanted)
    assert passed("exists") is not passed("absent")
    assert passed("equals", value=wanted[0]) is passed("in", values=[wanted[0]])


@pytest.mark.parametrize(
    ("event", "field", "operator", "value", "passed"),
    [
        ({"action": "opened"}, "sender.login", "equals", "cleo", True),
        ({"action": "opened"}, "pull_request.labels[].name", "regex", "^task-5$", True),
        ({"action": "submitted"}, "review.user.login", "regex", "^tess$", True),
        ({"action": "opened"}, "sender.login", "exists", None, False),
        ({"action": "opened"}, "sender.login", "absent", None, True),
        ({"action": "opened", "sender": "eve"}, "sender.login", "equals", "cleo", False),
        ({"action": "opened"}, "pull_request.title", "equals", "x", False),
        ({"action": "opened", "repository": {}}, "sender.login", "equals", "cleo", False),
        ({}, "sender.login", "equals", "cleo", False),
    ],
    ids=[
        "a sender the short form leaves out is passed over",
        "labels the short form leaves out are passed over",
        "a reviewer the short form leaves out is passed over",
        "exists demands the field",
        "absent holds for what is left out",
        "a sender the short form names is compared",
        "a field the short form has no name for fails",
        "in a whole payload a missing field fails",
        "where there is no event every field is missing",
    ],
)
def test_what_a_short_event_leaves_out_is_passed_over_visibly(
    event: dict[str, object], field: str, operator: str, value: str | None, passed: bool
) -> None:
    found = rules.evaluate(rule(field, operator, value), event=event)
    assert found.passed is passed
    unstated = operator not in ("exists", "absent") and passed
    assert (found.actual == rules.UNSTATED) is unstated
