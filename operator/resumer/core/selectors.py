"""Label selectors and node field selectors: parsing, matching, writing back.

`LabelSelector` says which Workflows a request or a policy means and follows apimachinery's
``labels.Parse``, so that the operator's index and the API server give the same answer to the same
string. `NodeFieldSelector` says which gate of a Workflow is meant and follows Argo's
``SelectorMatchesNode`` on apimachinery's ``fields.ParseSelector``.

Both are values: parsed once, then matched any number of times. Both refuse, unlike their models, to
select everything by accident: an empty text and an unknown field are errors.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from resumer.core import requirements
from resumer.core.requirements import Operator, Requirement
from resumer.errors import InvalidError

NODE_FIELDS: Final = (
    "displayName",
    "templateName",
    "phase",
    "name",
    "id",
    "templateRef.name",
    "templateRef.template",
)
"""The fields of a node that Argo lets select on, beside ``inputs.parameters.<name>.value``."""

_PARAMETER_FIELD: Final = re.compile(r"inputs\.parameters\.[^.]+\.value")
_ESCAPED: Final = ("\\", ",", "=")


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that all have to hold, in text order. Without any it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    @functools.lru_cache(maxsize=256)
    def parse(cls, text: str, *, field: str = "labelSelector") -> LabelSelector:
        """Reads the string syntax of Kubernetes, for example ``a=b,c in (x,y),!d``.

        Args:
            text: What the user wrote.
            field: Its path, for the error.

        Raises:
            InvalidError: It cannot be read, or is empty.
        """
        ordered = tuple(sorted(requirements.parse(text, field)))
        if not ordered:
            raise InvalidError(field, f"{field} is empty: it would match every workflow")
        return cls(ordered)

    @classmethod
    def from_mapping(
        cls, selector: Mapping[str, object], *, field: str = "workflowSelector"
    ) -> LabelSelector:
        """Reads a metav1.LabelSelector: ``matchLabels`` and ``matchExpressions``.

        An empty one matches everything, as everywhere in Kubernetes.

        Args:
            selector: The plain JSON object.
            field: Its path, for the error.

        Raises:
            InvalidError: A key, operator or value is not allowed.
        """
        return cls(tuple(sorted(requirements.from_mapping(selector, field))))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil every requirement."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def without(self, key: str) -> tuple[LabelSelector, tuple[Requirement, ...]]:
        """Splits the requirements on one label off: what is left, and what was taken out."""
        left = tuple(item for item in self.requirements if item.key != key)
        return LabelSelector(left), tuple(item for item in self.requirements if item.key == key)

    def implied(self) -> Mapping[str, str]:
        """The labels that everything it matches has: from ``=`` and from ``in`` with one value."""
        return {
            item.key: item.values[0]
            for item in self.requirements
            if item.operator in (Operator.EQUALS, Operator.IN) and len(item.values) == 1
        }

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One comparison of a node field selector."""

    field: str
    negated: bool
    value: str

    def __str__(self) -> str:
        value = self.value
        for character in _ESCAPED:
            value = value.replace(character, f"\\{character}")
        return f"{self.field}{'!=' if self.negated else '='}{value}"


@dataclass(frozen=True, slots=True)
class NodeFieldSelector:
    """Comparisons of fields of a node that all have to hold."""

    terms: tuple[FieldTerm, ...]

    @classmethod
    def parse(cls, text: str, *, field: str = "nodeFieldSelector") -> Self:
        r"""Reads Argo's syntax: ``=``, ``==``, ``!=``, comma for AND; ``\,`` ``\=`` ``\\``.

        Stricter than Argo, where these match every gate or none: a selector without terms and a
        field that nodes do not have (also one with a blank in front) are errors.

        Raises:
            InvalidError: It cannot be read; names the term, and the fields there are.
        """
        terms = tuple(_field_term(term, field) for term in _split_terms(text) if term)
        if not terms:
            raise InvalidError(field, f"{field} {text!r} has no terms: it would match every gate")
        return cls(terms)

    def matches(self, fields: Mapping[str, str] | Callable[[str], str]) -> bool:
        """Whether a node fulfils every term. A field that it does not have is the empty string.

        Args:
            fields: The node's fields by name, or a function that looks one up.
        """
        look_up = fields if callable(fields) else lambda name: fields.get(name, "")
        return all((look_up(term.field) == term.value) != term.negated for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def _split_terms(text: str) -> Iterator[str]:
    start, escaped = 0, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            yield text[start:index]
            start = index + 1
    yield text[start:]


def _field_term(term: str, field: str) -> FieldTerm:
    name, equals, value = term.partition("=")
    if not equals:
        raise InvalidError(field, f"{field}: the term {term!r} has none of '=', '==', '!='")
    negated = name.endswith("!")
    if negated:
        name = name[:-1]
    elif value.startswith("="):
        value = value[1:]
    if name not in NODE_FIELDS and not _PARAMETER_FIELD.fullmatch(name):
        raise InvalidError(
            field,
            f"{field}: {name!r} is not a field of a node; there are"
            f" {', '.join(NODE_FIELDS)}, inputs.parameters.<name>.value",
        )
    return FieldTerm(name, negated, "".join(_unescape(value, field)))


def _unescape(value: str, field: str) -> Iterator[str]:
    characters = iter(value)
    for character in characters:
        if character == "=":
            raise InvalidError(field, rf"{field}: '=' in the value {value!r} must be written '\='")
        if character != "\\":
            yield character
            continue
        escaped = next(characters, "")
        if escaped not in _ESCAPED:
            raise InvalidError(
                field,
                rf"{field}: '\{escaped}' in the value {value!r} is not an escape;"
                r" there are '\\', '\,', '\='",
            )
        yield escaped
