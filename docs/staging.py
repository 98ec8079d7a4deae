#!/usr/bin/env python3
"""Lays the user's pages out for the site: `make docs` builds it from the folder that this writes.

    python docs/staging.py FOLDER

Pages link to each other, to the README and to files as they lie in the repository, so that they can
be read there. The site's generator knows one folder: this one gets a copy of each page, and of
each file that a page links to, in its place in the repository.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import sys
from collections.abc import Sequence

_ROOT = pathlib.Path(__file__).parents[1]
_OUTSIDE_DOCS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "charts/workflow-resumer/README.md",
)
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


def pages() -> Sequence[pathlib.Path]:
    """The pages of the site."""
    return [*(_ROOT / name for name in _OUTSIDE_DOCS), *sorted((_ROOT / "docs").glob("*.md"))]


def files() -> Sequence[pathlib.Path]:
    """The pages, their style sheet, and the files that they link to."""
    found = dict.fromkeys([*pages(), _ROOT / "docs" / "site.css"])
    for page in pages():
        for link in _LINK.findall(page.read_text()):
            target = (page.parent / link).resolve()
            if "://" not in link and target.is_file():
                found[target] = None
    return list(found)


def main(arguments: Sequence[str]) -> int:
    """Write the folder anew; returns the exit code."""
    (folder,) = map(pathlib.Path, arguments)
    shutil.rmtree(folder, ignore_errors=True)
    for file in files():
        target = folder / file.relative_to(_ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
