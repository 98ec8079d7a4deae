"""CHANGELOG.md, in the format of https://keepachangelog.com/en/1.1.0/, read and held to it."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence

UNRELEASED = "Unreleased"
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""The headings that a section may have, as the format names them."""

_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_RELEASE = re.compile(r"\[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?")
_KIND = re.compile(r"^### (.*)$", re.MULTILINE)
_ENTRY = re.compile(r"^- (.*(?:\n(?!- ).+)*)", re.MULTILINE)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.]+)?")


class Malformed(ValueError):
    """CHANGELOG.md is not as the format wants it; the message names the line's text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """What one release changes.

    Attributes:
        version: of the release, or `UNRELEASED`
        date: of the release; None for what is not released
        text: all below its heading
        entries: by kind, in the order of the page; each on one line
    """

    version: str
    date: datetime.date | None
    text: str
    entries: Mapping[str, Sequence[str]]


def parse(text: str) -> Sequence[Section]:
    """The sections, the newest first.

    Raises:
        Malformed: a heading is none of the format, or the order is wrong
    """
    parts = _HEADING.split(text)[1:]
    found = [_section(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    released = [one for one in found if one.version != UNRELEASED]
    if found[: len(found) - len(released)] + released != found:
        raise Malformed(f"[{UNRELEASED}] has to be the first section")
    numbers = [_number(one.version) for one in released]
    if numbers != sorted(set(numbers), reverse=True):
        raise Malformed(f"versions have to fall: {', '.join(one.version for one in released)}")
    return found


def of(sections: Sequence[Section], version: str) -> Section:
    """The section of a version.

    Raises:
        Malformed: there is none
    """
    for one in sections:
        if one.version == version:
            return one
    has = ", ".join(one.version for one in sections)
    raise Malformed(f"CHANGELOG.md has no section [{version}]; it has {has}")


def _section(heading: str, body: str) -> Section:
    match = _RELEASE.fullmatch(heading)
    if match is None:
        raise Malformed(f"'## {heading}' is neither [{UNRELEASED}] nor [1.2.3] - 2026-01-31")
    version = match["version"]
    if (version == UNRELEASED) != (match["date"] is None):
        raise Malformed(f"'## {heading}': a release has a date, and what is unreleased has none")
    try:
        date = datetime.date.fromisoformat(match["date"]) if match["date"] else None
    except ValueError as error:
        raise Malformed(f"'## {heading}': the date is not one as 2026-01-31") from error
    parts = _KIND.split(body)[1:]
    entries = dict(zip(parts[::2], map(_entries, parts[1::2]), strict=True))
    if wrong := [kind for kind in entries if kind not in KINDS]:
        raise Malformed(f"'### {wrong[0]}' below [{version}]: allowed are {', '.join(KINDS)}")
    if empty := [kind for kind, listed in entries.items() if not listed]:
        raise Malformed(f"'### {empty[0]}' below [{version}] lists nothing")
    if len(entries) * 2 != len(parts):
        raise Malformed(f"[{version}] has a heading twice")
    return Section(version, date, body.strip(), entries)


def _entries(body: str) -> Sequence[str]:
    return [" ".join(entry.split()) for entry in _ENTRY.findall(body)]


def _number(version: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise Malformed(f"[{version}] is no version as 1.2.3")
    return tuple(int(part) for part in match.groups())
