"""Which values can be handed to a workflow as data, byte for byte.

Argo puts a supplied output into later templates as text and then evaluates them: what contains
``{{`` would be code, and so would what ends in ``{`` when another value follows it. It quotes the
text with Go's strconv.Quote and reads it back as JSON; where the two differ (control characters,
characters beyond the basic plane that do not print) the workflow ends in Error after its gate was
opened. Measured on Argo 4.0.
"""

from __future__ import annotations

_QUOTED_ALIKE = "\b\t\n\f\r"
"""The control characters that Go and JSON escape in the same way."""


def is_template(value: str) -> bool:
    """Whether a value could be, or begin, a template."""
    return "{{" in value or value.endswith("{")


def unfit_character(value: str) -> str | None:
    """The first character that would not survive, or None."""
    return next((character for character in value if not _survives(character)), None)


def _survives(character: str) -> bool:
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return character in _QUOTED_ALIKE
    if 0xD800 <= code <= 0xDFFF:
        return False
    return code <= 0xFFFF or character.isprintable()
