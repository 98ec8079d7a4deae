"""The files of a release: chart, single-file install, bill of materials, licences, notes, sums.

The tree names the image `resumer`, since nobody knows where a fork publishes, and its pages by
where they are in the tree. Here the chart and the manifests get the name of the place that they
are published for, and the chart, which comes alone, the addresses of the pages.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import Any

import yaml

import resumer
from release import changelog, packages
from release.versions import ROOT
from tests.controlplane import build, components, toolchain

CHART = ROOT / "charts" / "workflow-resumer"
SUMS = "SHA256SUMS"

_REPOSITORY = "  repository: resumer\n"
_FROM_THE_TREE = """\
helm install resumer charts/workflow-resumer --namespace resumer --create-namespace \\
  --set image.repository=YOUR-REGISTRY/resumer
"""
_RUNBOOKS = "docs/runbooks.md"
_NOT_PUBLISHED = "None is published: build it with `make image` and push it to your registry."
_TIMEOUT = 120.0


def write(folder: pathlib.Path, repository: str, source: str) -> None:
    """Writes all files of the release of this version, into a folder that is emptied before.

    Arguments:
        folder: to write into
        repository: of the image, without a tag
        source: URL of the project; empty if it has none

    Raises:
        packages.Refused: see there
        changelog.Malformed: CHANGELOG.md has no section for what is released
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    section = notes()
    (folder / "notes.md").write_text(f"{section.text}\n")
    _chart(folder, repository, source, section)
    (folder / "install.yaml").write_text(_install(repository))
    (folder / "THIRD_PARTY_LICENSES.txt").write_text(packages.licences())
    packages.bill_of_materials(folder / "sbom.cdx.json")
    published = sorted(one for one in folder.iterdir() if one.name != "notes.md")
    sums = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in published]
    (folder / SUMS).write_text("".join(sums))


def notes() -> changelog.Section:
    """What the changelog says of this version; before it is released, of what is to come.

    Raises:
        changelog.Malformed: it says nothing
    """
    sections = changelog.parse((ROOT / "CHANGELOG.md").read_text())
    released = {one.version for one in sections}
    version = resumer.__version__
    return changelog.of(sections, version if version in released else changelog.UNRELEASED)


def of_artifact_hub(repository: str, source: str, section: changelog.Section) -> dict[str, str]:
    """What Artifact Hub shows of one release: https://artifacthub.io/docs/topics/annotations/helm."""
    changes = [
        {"kind": kind.lower(), "description": entry}
        for kind, entries in section.entries.items()
        for entry in entries
    ]
    images = [{"name": "operator", "image": f"{repository}:{resumer.__version__}"}]
    links = [{"name": "source", "url": source}] if source else []
    listed: dict[str, Any] = {"changes": changes, "images": images, "links": links}
    return {
        "artifacthub.io/prerelease": "true" if "-" in resumer.__version__ else "false",
        **{f"artifacthub.io/{name}": _yaml(value) for name, value in listed.items() if value},
    }


def _chart(folder: pathlib.Path, repository: str, source: str, section: changelog.Section) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch) / CHART.name
        shutil.copytree(CHART, made)
        file = made / "Chart.yaml"
        chart = yaml.safe_load(file.read_text())
        chart["annotations"] |= of_artifact_hub(repository, source, section)
        if source:
            chart |= {"home": source, "sources": [source]}
        file.write_text(_yaml(chart))
        _replace(made / "values.yaml", _REPOSITORY, f"  repository: {repository}\n")
        _replace(made / "README.md", '`"resumer"`', f'`"{repository}"`')
        for name in ("values.yaml", "README.md"):
            _replace(made / name, f" {_NOT_PUBLISHED}", "")
        _replace(made / "README.md", _FROM_THE_TREE, _from_the_registry(repository))
        if source:
            _to_the_pages(made, f"{source}/blob/v{resumer.__version__}")
        helm = build.ensure((components.HELM_4,))[components.HELM_4.name].binary
        _run(str(helm), "package", str(made), "--destination", str(folder))


def _from_the_registry(repository: str) -> str:
    """How the chart is installed from where `.github/workflows/release.yaml` pushes it."""
    return (
        f"helm install resumer oci://{repository}/charts/{CHART.name}"
        f" --version {resumer.__version__} \\\n"
        "  --namespace resumer --create-namespace\n"
    )


def _to_the_pages(chart: pathlib.Path, files: str) -> None:
    """Has what a chart says of the project's pages lead to them.

    Arguments:
        chart: its folder
        files: URL of the project's files as they are in this version
    """
    _replace(chart / "values.yaml", f"runbookURL: {_RUNBOOKS}", f"runbookURL: {files}/{_RUNBOOKS}")
    _replace(chart / "README.md", f'`"{_RUNBOOKS}"`', f'`"{files}/{_RUNBOOKS}"`')
    page = chart / "README.md"
    page.write_text(page.read_text().replace("](../../", f"]({files}/"))


def _install(repository: str) -> str:
    """All of `deploy/overlays/cluster-install`, with the image of this release."""
    with tempfile.TemporaryDirectory() as scratch:
        on_top = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(ROOT / "deploy/overlays/cluster-install", scratch)],
            "images": [{"name": "resumer", "newName": repository, "newTag": resumer.__version__}],
        }
        (pathlib.Path(scratch) / "kustomization.yaml").write_text(_yaml(on_top))
        return _run(str(toolchain.kubectl()), "kustomize", scratch)


def _replace(file: pathlib.Path, old: str, new: str) -> None:
    text = file.read_text()
    if (found := text.count(old)) != 1:
        raise packages.Refused(f"{file.name} holds {old!r} {found} times, and it has to be once")
    file.write_text(text.replace(old, new))


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10**6))


def _run(*command: str) -> str:
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=ROOT
    )
    if answer.returncode != 0:
        raise packages.Refused(f"{' '.join(command)}: {answer.stderr.strip()}")
    return answer.stdout
