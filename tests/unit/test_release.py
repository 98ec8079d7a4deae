"""The changelog keeps its format, and the version is the same wherever it stands."""

from __future__ import annotations

import datetime
import pathlib
import shutil

import pytest

import resumer
from release import changelog, packages, versions

_GOOD = """# Changelog

## [Unreleased]

### Fixed

- A thing
  that goes on.
- Another.

## [0.2.0] - 2026-02-01

### Added

- More.

## [0.1.0] - 2026-01-01

The first.
"""


def test_the_changelog_is_one_and_says_what_comes_or_what_this_version_is() -> None:
    sections = changelog.parse((versions.ROOT / "CHANGELOG.md").read_text())
    assert sections
    assert sections[0].version in (changelog.UNRELEASED, resumer.__version__)
    assert sections[0].entries


def test_a_changelog_is_read_with_its_entries_on_one_line() -> None:
    coming, second, first = changelog.parse(_GOOD)
    assert coming.date is None
    assert coming.entries == {"Fixed": ["A thing that goes on.", "Another."]}
    assert second.date == datetime.date(2026, 2, 1)
    assert first.text == "The first."
    assert changelog.of([coming, second, first], "0.2.0") == second


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("## [0.2.0] - 2026-02-01", "## 0.2.0", "'## 0.2.0' is neither"),
        ("## [0.2.0] - 2026-02-01", "## [0.2.0]", "a release has a date"),
        ("## [Unreleased]", "## [Unreleased] - 2026-03-01", "what is unreleased has none"),
        ("2026-02-01", "2026-02-30", "the date is not one"),
        ("[0.2.0]", "[0.0.9]", "versions have to fall: 0.0.9, 0.1.0"),
        ("[0.2.0]", "[0.1.0]", "versions have to fall: 0.1.0, 0.1.0"),
        ("[0.2.0]", "[two]", "[two] is no version"),
        ("### Added", "### New", "'### New' below [0.2.0]: allowed are Added, Changed"),
        ("- More.", "", "'### Added' below [0.2.0] lists nothing"),
        ("- More.", "- More.\n\n### Added\n\n- Most.", "[0.2.0] has a heading twice"),
        ("## [Unreleased]\n", "", "is neither"),
    ],
)
def test_what_is_wrong_with_a_changelog_is_told_by_its_text(old: str, new: str, told: str) -> None:
    text = _GOOD.replace(old, new, 1)
    if old.startswith("## [Unreleased]\n"):
        # In the middle it would hide what was released before.
        text = text.replace("## [0.1.0]", "## Unreleased\n\n## [0.1.0]")
    with pytest.raises(changelog.Malformed) as refused:
        changelog.parse(text)
    assert told in str(refused.value)


def test_what_is_not_released_comes_first() -> None:
    text = _GOOD.replace("## [0.1.0]", "## [Unreleased]\n\n## [0.1.0]")
    with pytest.raises(changelog.Malformed, match="has to be the first section"):
        changelog.parse(text)


def test_the_version_is_the_same_everywhere() -> None:
    assert versions.problems() == []


@pytest.mark.parametrize("file", ["charts/workflow-resumer/Chart.yaml", "docs/install.md"])
def test_a_place_with_another_version_is_named(tmp_path: pathlib.Path, file: str) -> None:
    for place in {place.partition(":")[0] for place in versions.stated()} | {"CHANGELOG.md"}:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(versions.ROOT / place, tmp_path / place)
    assert versions.problems(root=tmp_path) == []
    other = tmp_path / file
    other.write_text(other.read_text().replace(resumer.__version__, "9.9.9", 1))
    found = versions.problems(root=tmp_path)
    assert len(found) == 1
    assert file in found[0]
    assert "9.9.9" in found[0]


def test_a_tag_needs_its_version_and_a_section_of_the_changelog() -> None:
    wrong = versions.problems("v9.9.9")
    assert f"the tag v9.9.9 is not v{resumer.__version__}" in wrong


def test_the_packages_that_run_are_those_that_are_locked_for_this_system() -> None:
    found = packages.names()
    assert {"kopf", "kubernetes", "pydantic"} <= set(found)
    assert "colorama" not in found  # of Windows
    assert len(found) == len(set(found))
