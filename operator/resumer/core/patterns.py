"""Regular expressions that users write: RE2, so that no pattern and no text can take long.

RE2 takes time proportional to pattern times text; both are bounded, the pattern where it is written
(`resumer.api`) and the text here. What many patterns of one request take together is bounded by an
`Effort` that they share. A pattern is searched for: anchor it with ``^`` and ``$``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import re2

from resumer.errors import InvalidError

MAX_TEXT: Final = 8192
"""Characters of all texts together that a pattern is tried on."""

MAX_STEPS: Final = 15_000_000
"""What an `Effort` allows: some milliseconds with ordinary patterns, 40 with the worst found (CPU).

It does for 32 ordinary patterns on 4096 bytes each.
"""

_MAX_MATCHES: Final = 8
"""How many times one text is searched for further matches; each can cost as much as the first."""

_MAX_MEMORY: Final = 128 * 1024
"""Bytes RE2 may use for one pattern; a bigger program is refused."""

_STEPS_OF_COMPILING: Final = 100
"""For each instruction of a program: to make it takes as long as these many bytes of text."""

_STEPS_OF_CALLING: Final = 400
"""For each search, however short the text."""


@dataclass(slots=True)
class Effort:
    """How much matching is left for patterns that share it, in steps.

    A step is one instruction of a pattern's program on one byte of text. They are counted before
    the search, for the worst case: the same patterns on the same texts always take the same.
    """

    left: int = MAX_STEPS
    exceeded: bool = False
    """Whether a search was refused."""

    def spend(self, steps: int, field: str) -> None:
        """Takes what a search can need at most.

        Raises:
            InvalidError: So much is not left; nothing was taken.
        """
        if steps > self.left:
            self.exceeded = True
            raise InvalidError(
                field,
                f"the pattern needs {steps} steps of matching (size of the pattern x bytes of "
                f"text); of {MAX_STEPS} for all patterns together, {self.left} are left",
            )
        self.left -= steps


def check(pattern: str, field: str, effort: Effort | None = None) -> None:
    """Finds out whether a pattern can be searched for.

    Args:
        pattern: What the user wrote.
        field: Its path, for the error; the message leaves it to the caller.
        effort: Of what the pattern is a part; None for one that stands alone.

    Raises:
        InvalidError: RE2 does not accept it, or too much was checked before; says which.
    """
    compiled = _compile(pattern, field, captures=False)
    if effort is not None:
        effort.spend(_size(compiled) * _STEPS_OF_COMPILING, field)


def check_group(pattern: str, field: str) -> None:
    """Finds out whether a pattern captures one thing, see `captured`.

    Raises:
        InvalidError: RE2 does not accept it, or it has not exactly one group.
    """
    groups = _compile(pattern, field, captures=True).groups
    if groups != 1:
        raise InvalidError(
            field,
            f"{pattern!r} has {groups} groups in parentheses, exactly 1 is needed; "
            "write the others as (?:...)",
        )


def found(pattern: str, texts: Iterable[str], field: str, effort: Effort) -> bool:
    """Whether a pattern is found in any of some texts.

    Raises:
        InvalidError: The pattern is not accepted, the texts are too long, or too much was searched
            before.
    """
    compiled = _compile(pattern, field, captures=False)
    all_texts = _bounded(texts, field)
    size = _size(compiled)
    effort.spend(size * _STEPS_OF_COMPILING, field)
    for text in all_texts:
        effort.spend(size * len(text) + _STEPS_OF_CALLING, field)
        if compiled.search(text) is not None:
            return True
    return False


def captured(pattern: str, texts: Iterable[str], field: str, effort: Effort) -> Iterator[str]:
    """What the one group of a pattern captures in some texts, match by match.

    Only the first few matches in each text are looked at.

    Raises:
        InvalidError: The pattern is not accepted, the texts are too long, or too much was searched
            before.
    """
    compiled = _compile(pattern, field, captures=True)
    all_texts = _bounded(texts, field)
    size = _size(compiled)
    effort.spend(size * _STEPS_OF_COMPILING, field)
    for text in all_texts:
        matches, start = compiled.finditer(text), 0
        for _ in range(_MAX_MATCHES):
            effort.spend(size * (len(text) - start) + _STEPS_OF_CALLING, field)
            match = next(matches, None)
            if match is None:
                break
            start = match.end()
            if match[1] is not None:
                yield match[1].decode(errors="replace")


def _bounded(texts: Iterable[str], field: str) -> list[bytes]:
    all_texts = list(texts)
    length = sum(map(len, all_texts))
    if length > MAX_TEXT:
        raise InvalidError(field, f"{length} characters are too many for a regex ({MAX_TEXT})")
    # JSON can hold half of a surrogate pair, which is no text in UTF-8.
    return [text.encode(errors="replace") for text in all_texts]


def _size(compiled: Any) -> int:
    """The instructions that a search runs through: from the left, and back to where it begins."""
    return 2 * int(compiled.programsize)


def _compile(pattern: str, field: str, *, captures: bool) -> Any:
    try:
        return _compiled(pattern, captures)
    except re2.error as error:
        what = error.args[0].decode(errors="replace")
        raise InvalidError(field, f"{pattern!r} is not a pattern RE2 accepts: {what}") from None


# re2 keeps compiled patterns too, but takes longer to find one than to match.
@functools.lru_cache(maxsize=256)
def _compiled(pattern: str, captures: bool) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    options.never_capture = not captures
    return re2.compile(pattern.encode(errors="replace"), options=options)
