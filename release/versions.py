"""The version: `operator/resumer/__init__.py` states it, and all others have to say the same."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

import resumer
from release import changelog

ROOT = pathlib.Path(__file__).parents[1]

# Where it stands, and what stands around it. Each has to be found.
_PLACES: Sequence[tuple[str, str]] = (
    ("charts/workflow-resumer/Chart.yaml", r"^version: (\S+)$"),
    ("charts/workflow-resumer/Chart.yaml", r"^appVersion: (\S+)$"),
    ("charts/workflow-resumer/README.md", r"version (\d\S+), on Kubernetes"),
    ("deploy/base/deployment.yaml", r"image: resumer:(\S+)$"),
    ("docs/install.md", r"example\.com/resumer:(\S+)"),
    ("docs/install.md", r"newTag: ([^\s,}]+)"),
    ("README.md", r"example\.com/resumer:(\S+)"),
)


def stated(root: pathlib.Path = ROOT) -> Mapping[str, Sequence[str]]:
    """The versions at each place; at a place that was moved or reworded, none."""
    return {
        f"{file}: {pattern}": re.findall(pattern, (root / file).read_text(), re.MULTILINE)
        for file, pattern in _PLACES
    }


def problems(tag: str | None = None, root: pathlib.Path = ROOT) -> Sequence[str]:
    """What is in the way of a release; nothing if it may be.

    Arguments:
        tag: that is released, as `v1.2.3`; None before there is one
        root: the folder of the project
    """
    version = resumer.__version__
    found = [
        f"{place} says {', '.join(said) or 'nothing'}, and operator/resumer/__init__.py {version}"
        for place, said in stated(root).items()
        if set(said) != {version}
    ]
    try:
        sections = changelog.parse((root / "CHANGELOG.md").read_text())
        if tag is not None:
            changelog.of(sections, version)
    except changelog.Malformed as error:
        found.append(str(error))
    if tag not in (None, f"v{version}"):
        found.append(f"the tag {tag} is not v{version}")
    return found
