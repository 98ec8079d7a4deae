"""One requirement of a label selector, and the two grammars it is written in.

`parse` reads the string syntax as apimachinery's ``labels.Parse`` does, down to ``in (,)``;
`from_mapping` reads the JSON of a metav1.LabelSelector. Both name what they found, and where.
`resumer.core.selectors` makes the selectors of it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeGuard, assert_never

from resumer import names
from resumer.errors import InvalidError

_KEY: Final = re.compile(rf"((?P<prefix>{names.DNS_SUBDOMAIN})/)?{names.LABEL_VALUE}")
_VALUE: Final = re.compile(rf"({names.LABEL_VALUE})?")
_INTEGER: Final = re.compile(r"[0-9]{1,63}")
_TOKEN: Final = re.compile(r"[ \t\r\n]*(?P<token>==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)")
_WORD: Final = re.compile(r"[^=!(),<>]")


class Operator(enum.StrEnum):
    """How a requirement compares; the values are the spelling in a selector string."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    DOES_NOT_EXIST = "!"
    GREATER_THAN = ">"
    LESS_THAN = "<"


_BINARY: Final = {
    "=": Operator.EQUALS,
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
    ">": Operator.GREATER_THAN,
    "<": Operator.LESS_THAN,
}
_EXPRESSIONS: Final = {
    "In": Operator.IN,
    "NotIn": Operator.NOT_IN,
    "Exists": Operator.EXISTS,
    "DoesNotExist": Operator.DOES_NOT_EXIST,
}


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one label: key, operator, and the values in text order."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it. As in Kubernetes, an absent key fulfils ``!=``, ``notin``."""
        found = labels.get(self.key)
        match self.operator:
            case Operator.EQUALS | Operator.IN:
                return found is not None and found in self.values
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return found is None or found not in self.values
            case Operator.EXISTS:
                return found is not None
            case Operator.DOES_NOT_EXIST:
                return found is None
            case Operator.GREATER_THAN:
                return _is_integer(found) and int(found) > int(self.values[0])
            case Operator.LESS_THAN:
                return _is_integer(found) and int(found) < int(self.values[0])
            case _:
                assert_never(self.operator)

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


def parse(text: str, field: str) -> Iterator[Requirement]:
    """Reads a label selector string, for example ``a=b,c in (x,y),!d``.

    Args:
        text: What the user wrote.
        field: Its path, for the error.

    Raises:
        InvalidError: It cannot be read.
    """
    return _Parser(text, field).requirements()


def from_mapping(selector: Mapping[str, object], field: str) -> Iterator[Requirement]:
    """Reads a metav1.LabelSelector.

    Args:
        selector: The plain JSON object.
        field: Its path, for the error.

    Raises:
        InvalidError: A key, operator or value is not allowed.
    """
    yield from _match_labels(selector, field)
    yield from _match_expressions(selector, field)


class _Parser:
    """Reads one label selector string, token by token; knows where it is, for the errors."""

    def __init__(self, text: str, field: str) -> None:
        self._field = field
        self._tokens = [(found["token"], found.start("token")) for found in _TOKEN.finditer(text)]
        self._tokens.append(("", len(text)))
        self._next = 0

    def requirements(self) -> Iterator[Requirement]:
        if not self._peek():
            return
        while True:
            yield self._requirement()
            if not self._peek():
                return
            self._expect(",")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return self._checked(self._word("a label key after '!'"), Operator.DOES_NOT_EXIST, ())
        key = self._word("a label key or '!'")
        if self._peek() in ("", ","):
            return self._checked(key, Operator.EXISTS, ())
        operator = _BINARY.get(self._peek())
        if operator is None:
            self._fail(f"one of {', '.join(_BINARY)}, or ',' after the key {key!r}")
        self._take()
        if operator in (Operator.IN, Operator.NOT_IN):
            return self._checked(key, operator, tuple(self._values()))
        value = "" if self._peek() in ("", ",") else self._word("a value")
        return self._checked(key, operator, (value,))

    def _values(self) -> Iterator[str]:
        self._expect("(")
        while True:
            yield "" if self._peek() in (",", ")") else self._word("a value, ',' or ')'")
            if self._peek() == ")":
                self._take()
                return
            self._expect(",", "',' or ')'")

    def _checked(self, key: str, operator: Operator, values: Iterable[str]) -> Requirement:
        return _requirement(key, operator, values, self._field)

    def _peek(self) -> str:
        return self._tokens[self._next][0]

    def _take(self) -> str:
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _word(self, wanted: str) -> str:
        if not _WORD.match(self._peek()):
            self._fail(wanted)
        return self._take()

    def _expect(self, token: str, wanted: str = "") -> None:
        if self._peek() != token:
            self._fail(wanted or f"{token!r}")
        self._take()

    def _fail(self, wanted: str) -> NoReturn:
        found, position = self._tokens[self._next]
        what = repr(found) if found else "the end"
        message = f"{self._field}: found {what} at character {position + 1}, expected {wanted}"
        raise InvalidError(self._field, message)


def _match_labels(selector: Mapping[str, object], field: str) -> Iterator[Requirement]:
    path = f"{field}.matchLabels"
    labels = selector.get("matchLabels") or {}
    if not isinstance(labels, Mapping):
        raise InvalidError(path, f"{path} is not an object")
    for key, value in labels.items():
        yield _requirement(key, Operator.EQUALS, [value], path)


def _match_expressions(selector: Mapping[str, object], field: str) -> Iterator[Requirement]:
    expressions = selector.get("matchExpressions") or []
    if not isinstance(expressions, list | tuple):
        path = f"{field}.matchExpressions"
        raise InvalidError(path, f"{path} is not a list")
    for index, expression in enumerate(expressions):
        path = f"{field}.matchExpressions[{index}]"
        if not isinstance(expression, Mapping):
            raise InvalidError(path, f"{path} is not an object")
        operator = _EXPRESSIONS.get(str(expression.get("operator")))
        if operator is None:
            raise InvalidError(
                f"{path}.operator",
                f"{path}.operator is {expression.get('operator')!r}, not one of"
                f" {', '.join(_EXPRESSIONS)}",
            )
        values = expression.get("values") or []
        several = operator in (Operator.IN, Operator.NOT_IN)
        if not isinstance(values, list | tuple) or bool(values) != several:
            raise InvalidError(
                f"{path}.values", f"{path}.values: In and NotIn need values, the others allow none"
            )
        yield _requirement(expression.get("key"), operator, values, path)


def _requirement(
    key: object, operator: Operator, values: Iterable[object], field: str
) -> Requirement:
    """Checks key and values as apimachinery's NewRequirement does."""
    if not isinstance(key, str) or not _is_key(key):
        raise InvalidError(
            field,
            f"{field}: {key!r} is not a label key: at most 63 letters, digits, '-', '_', '.',"
            " beginning and ending with a letter or digit, after an optional DNS prefix and '/'",
        )
    texts = []
    for value in values:
        if not isinstance(value, str) or len(value) > 63 or not _VALUE.fullmatch(value):
            raise InvalidError(
                field,
                f"{field}: {value!r} is not a value of the label {key}: at most 63 letters, digits,"
                " '-', '_', '.', beginning and ending with a letter or digit, or nothing",
            )
        texts.append(value)
    if operator in (Operator.GREATER_THAN, Operator.LESS_THAN) and not _is_integer(texts[0]):
        raise InvalidError(field, f"{field}: {key}{operator} needs an integer, found {texts[0]!r}")
    return Requirement(key, operator, tuple(sorted(set(texts))))


def _is_key(key: str) -> bool:
    found = _KEY.fullmatch(key)
    return found is not None and len(found["prefix"] or "") <= 253


def _is_integer(text: str | None) -> TypeGuard[str]:
    return text is not None and _INTEGER.fullmatch(text) is not None and int(text) < 2**63
