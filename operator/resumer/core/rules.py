r"""Validation rules: one rule against the event and the workflow makes one `Check`.

Where a rule's ``field`` looks:

    task-id                          no dot: the workflow's label of that key
    labels.example.com/task          the label of the rest, dots and slashes included
    workflow.metadata.name           a path into the Workflow
    event.action                     a path into the event
    pull_request.labels[].name       any other path: into the event, aliases included (see `events`)

Values compare as text: a boolean or a number as its JSON text (``true``, ``5``). Objects and lists
are there (``exists``) but equal nothing. A path with ``[]`` can find several values: then one that
fits is enough, and for ``notEquals``, ``notIn`` and ``absent`` none may be the unwanted one. A rule
on a missing field fails, except for these three. ``gt`` and ``lt`` compare decimal numbers, not
times. ``regex`` is RE2 (linear time, no look-around) and searches: anchor it with ``^``, ``$``.
"""

from __future__ import annotations

import decimal
import enum
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from resumer.api import base
from resumer.api.resume import MAX_CHECK_TEXT, MAX_PATTERN, RuleOperator, ValidationRule
from resumer.core import events, patterns
from resumer.core.paths import Path
from resumer.core.patterns import Effort
from resumer.errors import InvalidError

_NUMBER: Final = re.compile(r"-?[0-9]{1,64}(\.[0-9]{1,64})?([eE][-+]?[0-9]{1,3})?")


class Scope(enum.StrEnum):
    """What has to be known before a rule can be evaluated."""

    EVENT = "Event"
    """The event alone: the rule can be decided at once."""
    LABEL = "Label"
    """The workflow's labels."""
    WORKFLOW = "Workflow"
    """The whole Workflow."""


UNSTATED: Final = "(the short form of the event does not say)"
"""What a check shows for a field that a short-form event has a name for and leaves out.

The requirements' own manifests come with such rules (the labels, the sender and the reviewer of
events that name none), and have to work as they stand. Such a rule is passed over, visibly; a rule
with the operator ``exists`` demands the field. Any other missing field fails.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison and its result. Texts are cut to what status holds."""

    field: str
    operator: str
    expected: str
    actual: str | None
    """None: there is no such field. Several values are joined by commas."""
    passed: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected", base.truncate(self.expected, MAX_CHECK_TEXT))
        if self.actual is not None:
            object.__setattr__(self, "actual", base.truncate(self.actual, MAX_CHECK_TEXT))


def scope(rule: ValidationRule) -> Scope:
    """What has to be known before the rule can be evaluated."""
    return _scope(rule.field)


@functools.lru_cache(maxsize=1024)
def _scope(field: str) -> Scope:
    if field.startswith("workflow."):
        return Scope.WORKFLOW
    if field.startswith("labels.") or not re.search(r"[.\[]", field):
        return Scope.LABEL
    return Scope.EVENT


def validate(rule: ValidationRule, effort: Effort | None = None) -> None:
    """Finds what is wrong with a rule whatever it will be compared with.

    Args:
        rule: The rule.
        effort: What is left for all rules of the request; None for a rule that stands alone.

    Raises:
        InvalidError: The path, the pattern or the number cannot be read, or the patterns of all
            rules together are too large.
    """
    if scope(rule) is not Scope.LABEL:
        _path(rule)
    match rule.operator:
        case RuleOperator.REGEX:
            _check_pattern(rule, effort)
        case RuleOperator.GT | RuleOperator.LT:
            _limit(rule)
        case _:
            pass


def evaluate(
    rule: ValidationRule,
    *,
    event: Mapping[str, object],
    labels: Mapping[str, str] | None = None,
    workflow: Mapping[str, object] | None = None,
    effort: Effort | None = None,
) -> Check:
    """Evaluates one rule.

    Args:
        rule: The rule.
        event: The event as the user gave it.
        labels: The workflow's labels; not needed for a rule of `Scope.EVENT`.
        workflow: The whole Workflow; needed for a rule of `Scope.WORKFLOW` only.
        effort: What is left for all rules of the request; None for a rule that stands alone.

    Raises:
        InvalidError: The rule itself cannot be read, see `validate`.
    """
    validate(rule)
    try:
        found = _find(rule, event, labels or {}, workflow or {})
        if not found and _is_unstated(rule, event):
            return Check(rule.field, str(rule.operator), ", ".join(_wanted(rule)), UNSTATED, True)
        passed = _holds(rule, found, effort or Effort())
        actual = ", ".join(map(_json, found)) if found else None
    except InvalidError as error:
        # The rule is fine, what it looks at is too big: no reason to pass, whatever the operator.
        passed, actual = False, str(error)
    return Check(rule.field, str(rule.operator), ", ".join(_wanted(rule)), actual, passed)


def _is_unstated(rule: ValidationRule, event: Mapping[str, object]) -> bool:
    """Whether a rule is about something that the event, in its short form, simply does not tell."""
    demands = rule.operator in (RuleOperator.EXISTS, RuleOperator.ABSENT)
    return scope(rule) is Scope.EVENT and not demands and events.is_unstated(event, _path(rule))


def _find(
    rule: ValidationRule,
    event: Mapping[str, object],
    labels: Mapping[str, str],
    workflow: Mapping[str, object],
) -> tuple[object, ...]:
    where = scope(rule)
    match where:
        case Scope.LABEL:
            label = labels.get(rule.field.removeprefix("labels."))
            return () if label is None else (label,)
        case Scope.WORKFLOW:
            return _path(rule).find(workflow, field=rule.field)
        case Scope.EVENT:
            return events.find(event, _path(rule), field=rule.field)
        case _:
            assert_never(where)


def _path(rule: ValidationRule) -> Path:
    for prefix in ("workflow.", "event."):
        if rule.field.startswith(prefix):
            return Path.parse(rule.field.removeprefix(prefix), field=rule.field)
    return Path.parse(rule.field, field=rule.field)


def _holds(rule: ValidationRule, found: Sequence[object], effort: Effort) -> bool:
    texts = [_json(value) for value in found if isinstance(value, events.Scalar)]
    wanted = _wanted(rule)
    match rule.operator:
        case RuleOperator.EXISTS:
            return bool(found)
        case RuleOperator.ABSENT:
            return not found
        case RuleOperator.EQUALS | RuleOperator.IN:
            return any(text in wanted for text in texts)
        case RuleOperator.NOT_EQUALS | RuleOperator.NOT_IN:
            return not any(text in wanted for text in texts)
        case RuleOperator.CONTAINS:
            return any(wanted[0] in text for text in texts)
        case RuleOperator.STARTS_WITH:
            return any(text.startswith(wanted[0]) for text in texts)
        case RuleOperator.REGEX:
            return _searches(rule, texts, effort)
        case RuleOperator.GT | RuleOperator.LT:
            return _compares(rule, texts)
        case _:
            assert_never(rule.operator)


def _searches(rule: ValidationRule, texts: Sequence[str], effort: Effort) -> bool:
    try:
        return patterns.found(_pattern(rule), texts, rule.field, effort)
    except InvalidError as error:
        raise _invalid(rule, str(error)) from None


def _compares(rule: ValidationRule, texts: Sequence[str]) -> bool:
    limit = _limit(rule)
    numbers = [decimal.Decimal(text) for text in texts if _NUMBER.fullmatch(text)]
    if rule.operator is RuleOperator.GT:
        return any(number > limit for number in numbers)
    return any(number < limit for number in numbers)


def _limit(rule: ValidationRule) -> decimal.Decimal:
    text = _wanted(rule)[0]
    if not _NUMBER.fullmatch(text):
        raise _invalid(rule, f"{rule.operator} needs a number, found {text!r}")
    return decimal.Decimal(text)


def _check_pattern(rule: ValidationRule, effort: Effort | None) -> None:
    pattern = _pattern(rule)
    try:
        patterns.check(pattern, rule.field, effort)
    except InvalidError as error:
        raise _invalid(rule, str(error)) from None


def _pattern(rule: ValidationRule) -> str:
    pattern = _wanted(rule)[0]
    if len(pattern) > MAX_PATTERN:
        raise _invalid(rule, f"the pattern has {len(pattern)} characters, at most {MAX_PATTERN}")
    return pattern


def _wanted(rule: ValidationRule) -> tuple[str, ...]:
    match rule.operator:
        case RuleOperator.EXISTS | RuleOperator.ABSENT:
            return ()
        case RuleOperator.IN | RuleOperator.NOT_IN:
            return rule.values or ()
        case _:
            return (rule.value or "",)


def _json(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _invalid(rule: ValidationRule, message: str) -> InvalidError:
    return InvalidError(rule.field, f"rule on {rule.field}: {message}")
