"""What must never be in a log line, and what must not be there at full length.

Applied to every line, ours or a library's, as the last step before it is written
(`resumer.telemetry.logs`). It is the second line of defence: the first is that nobody logs a
payload. A value under a telling key is replaced whole; elsewhere only what looks like a well-known
credential is; a secret that looks like nothing stays.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping, Set

TEXT_LIMIT = 1024
"""Characters of one value. A message of the API server is shorter; a payload is longer."""

EXCEPTION_LIMIT = 8192
"""Characters of one traceback, of which the end is kept: that is where the error stands."""

ITEM_LIMIT = 64
"""Entries of one list or mapping; a decision names at most that many workflows or checks."""

DEPTH_LIMIT = 4
"""Levels of nesting; deeper values become text."""

HIDDEN = "[hidden]"
"""What stands in place of a value that must not be seen."""

_LOOKED_AT = 4 * TEXT_LIMIT
# The search for credentials is not linear in the worst case: what is cut off is not searched.

_SECRET_WORDS = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "passwd",
        "password",
        "secret",
        "secrets",
        "token",
        "tokens",
    }
)
_TELLING_KEYS = frozenset(
    {
        "access_key",
        "api_key",
        "body",
        "event_body",
        "githubevent",
        "github_event",
        "headers",
        "kubeconfig_data",
        "payload",
        "private_key",
    }
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
_CREDENTIALS = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9+/._~=-]{8,}"  # an Authorization header
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON web token
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{10,}"  # GitHub, GitLab, Slack
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # a user and a password in an address
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)


def clean(key: str, value: object) -> object:
    """The value as it may be logged under this key.

    Args:
        key: The name of the field.
        value: Anything; what is not plain data becomes its text.
    """
    return _clean(key, value, DEPTH_LIMIT)


def text(value: str) -> str:
    """A text as it may be logged: no credentials; if it is long, its beginning and its length."""
    shown = _hide(value[:_LOOKED_AT])
    if len(value) <= _LOOKED_AT and len(shown) <= TEXT_LIMIT:
        return shown
    return f"{shown[:TEXT_LIMIT]}... ({len(value)} characters)"


def exception(value: str) -> str:
    """A traceback as it may be logged: no credentials; if it is long, its length and its end."""
    shown = _hide(value[-EXCEPTION_LIMIT:])
    if len(value) <= EXCEPTION_LIMIT:
        return shown
    return f"({len(value)} characters) ...{shown}"


@functools.lru_cache(maxsize=1024)
def is_telling(key: str) -> bool:
    """Whether a key stands for a secret or a payload: by its words, however they are joined."""
    words = [word.lower() for word in _WORDS.findall(key)]
    return not _SECRET_WORDS.isdisjoint(words) or "_".join(words) in _TELLING_KEYS


def _clean(key: str, value: object, depth: int) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_telling(key):
        return HIDDEN
    if isinstance(value, str):
        return text(value)
    if depth > 0 and isinstance(value, Mapping):
        some = itertools.islice(value.items(), ITEM_LIMIT)
        # text() on the name too: a mapping of a user may have anything for a key
        kept = {text(str(name)): _clean(str(name), item, depth - 1) for name, item in some}
        return kept if len(value) <= ITEM_LIMIT else {**kept, "...": len(value)}
    if depth > 0 and isinstance(value, list | tuple | Set):
        items = [_clean(key, item, depth - 1) for item in itertools.islice(value, ITEM_LIMIT)]
        return items if len(value) <= ITEM_LIMIT else [*items, f"... ({len(value)} entries)"]
    return text(str(value))


def _hide(value: str) -> str:
    return _CREDENTIALS.sub(HIDDEN, value)
