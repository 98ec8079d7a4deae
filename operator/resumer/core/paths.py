"""Dotted paths into JSON: ``pull_request.labels[].name``, ``status.conditions[0]``.

A step is a key; ``[]`` after it means any element of a list, ``[2]`` the third. A key with a dot, a
bracket or a blank is written in double quotes: ``metadata.annotations."example.com/x"``. Looking up
never fails on the shape of the document: what is not there is simply not found, and neither is a
JSON null. Hostile documents are harmless: the depth of a path and the elements it may reach are
bounded.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self, assert_never

from resumer.errors import InvalidError

MAX_DEPTH: Final = 16
"""Steps in a path, brackets included."""

MAX_VISITED: Final = 1000
"""Elements that one lookup may reach. More are refused: a part of them would be a wrong answer."""

_PLAIN: Final = re.compile(r'[^\s."\[\]]+')
_KEY: Final = re.compile(
    rf'(?:"(?P<quoted>[^"]+)"|(?P<plain>{_PLAIN.pattern}))(?P<indexes>(?:\[[0-9]{{0,6}}\])*)'
)
_INDEX: Final = re.compile(r"\[([0-9]*)\]")


@dataclass(frozen=True, slots=True)
class AnyElement:
    """The step ``[]``: every element of a list."""


Step = str | int | AnyElement


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path."""

    steps: tuple[Step, ...]

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def parse(cls, text: str, *, field: str = "field") -> Self:
        """Reads a path.

        Args:
            text: What the user wrote.
            field: Its path, for the error.

        Raises:
            InvalidError: It cannot be read or is deeper than `MAX_DEPTH`; says where.
        """
        steps: list[Step] = []
        position = 0
        while True:
            found = _KEY.match(text, position)
            if found is None:
                raise _unreadable(text, position, "a key", field)
            steps.append(found["quoted"] or found["plain"])
            indexes = _INDEX.findall(found["indexes"])
            steps += [int(index) if index else AnyElement() for index in indexes]
            position = found.end()
            if position == len(text):
                break
            if text[position] != ".":
                raise _unreadable(text, position, "'.', '[]' or '[N]'", field)
            position += 1
        if len(steps) > MAX_DEPTH:
            raise InvalidError(
                field, f"{field}: {text!r} has {len(steps)} steps, at most {MAX_DEPTH} are allowed"
            )
        return cls(tuple(steps))

    def find(self, document: object, *, field: str = "field") -> tuple[object, ...]:
        """The values the path leads to, in the order of the document; several only through ``[]``.

        Args:
            document: Any JSON.
            field: The path of what the user wrote, for the error.

        Raises:
            InvalidError: The document has more than `MAX_VISITED` elements on the way.
        """
        found: tuple[object, ...] = (document,)
        visited = 0
        for step in self.steps:
            reached: list[object] = []
            for value in found:
                reached.extend(itertools.islice(_follow(value, step), MAX_VISITED + 1))
                if visited + len(reached) > MAX_VISITED:
                    raise InvalidError(
                        field, f"{field}: {self} leads to more than {MAX_VISITED} elements"
                    )
            visited += len(reached)
            found = tuple(reached)
        return found

    def __str__(self) -> str:
        text = ""
        for step in self.steps:
            match step:
                case str():
                    key = step if _PLAIN.fullmatch(step) else f'"{step}"'
                    text += f".{key}" if text else key
                case int():
                    text += f"[{step}]"
                case AnyElement():
                    text += "[]"
                case _:
                    assert_never(step)
        return text


def _follow(value: object, step: Step) -> Iterator[object]:
    match step:
        case str() if isinstance(value, Mapping):
            if value.get(step) is not None:
                yield value[step]
        case int() if isinstance(value, list) and step < len(value):
            if value[step] is not None:
                yield value[step]
        case AnyElement() if isinstance(value, list):
            yield from (item for item in value if item is not None)


def _unreadable(text: str, position: int, wanted: str, field: str) -> InvalidError:
    found = repr(text[position]) if position < len(text) else "the end"
    return InvalidError(
        field,
        f"{field}: {text!r} is not a path: found {found} at character {position + 1},"
        f" expected {wanted}",
    )
