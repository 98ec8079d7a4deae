"""Regular expressions that users write: RE2, so that no pattern and no text can take long.

RE2 takes time proportional to pattern times text; both are bounded, the pattern where it is written
(`resumer.api`) and the text here. A pattern is searched for: anchor it with ``^`` and ``$``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import re2

from resumer.errors import InvalidError

MAX_TEXT: Final = 8192
"""Characters of all texts together that a pattern is tried on.

The worst patterns of 256 characters need a sixth of a second for this much (measured); more would
hold up everybody else."""

_MAX_MATCHES: Final = 8
"""How many times one text is searched for further matches; each can cost as much as the first."""

_MAX_MEMORY: Final = 128 * 1024
"""Bytes RE2 may use for one pattern; a bigger program is refused."""


def check(pattern: str, field: str) -> None:
    """Finds out whether a pattern can be searched for.

    Args:
        pattern: What the user wrote.
        field: Its path, for the error; the message leaves it to the caller.

    Raises:
        InvalidError: RE2 does not accept it; says why.
    """
    _compile(pattern, field, captures=False)


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


def found(pattern: str, texts: Iterable[str], field: str) -> bool:
    """Whether a pattern is found in any of some texts.

    Raises:
        InvalidError: The pattern is not accepted, or the texts are too long.
    """
    compiled = _compile(pattern, field, captures=False)
    return any(compiled.search(text) is not None for text in _bounded(texts, field))


def captured(pattern: str, texts: Iterable[str], field: str) -> Iterator[str]:
    """What the one group of a pattern captures in some texts, match by match.

    Only the first few matches in each text are looked at.

    Raises:
        InvalidError: The pattern is not accepted, or the texts are too long.
    """
    compiled = _compile(pattern, field, captures=True)
    for text in _bounded(texts, field):
        for match in itertools.islice(compiled.finditer(text), _MAX_MATCHES):
            if match[1] is not None:
                yield match[1].decode(errors="replace")


def _bounded(texts: Iterable[str], field: str) -> list[bytes]:
    all_texts = list(texts)
    length = sum(map(len, all_texts))
    if length > MAX_TEXT:
        raise InvalidError(field, f"{length} characters are too many for a regex ({MAX_TEXT})")
    # JSON can hold half of a surrogate pair, which is no text in UTF-8.
    return [text.encode(errors="replace") for text in all_texts]


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
