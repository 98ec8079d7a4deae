"""What is written by `make chart` is current, and Helm finds nothing to complain of."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from tests.charts import charts
from tests.controlplane import build, components

CI = {file.stem: file for file in sorted((charts.CHART / "ci").glob("*.yaml"))}


def test_the_page_of_the_chart_is_current(tmp_path: pathlib.Path) -> None:
    shutil.copytree(charts.CHART, tmp_path / "chart")
    docs = build.ensure((components.HELM_DOCS,))[components.HELM_DOCS.name].binary
    subprocess.run(
        [docs, "--chart-search-root", tmp_path, "--log-level", "warning"], check=True, timeout=60
    )
    written = (tmp_path / "chart" / "README.md").read_text()
    assert (charts.CHART / "README.md").read_text() == written, "run make chart"


@pytest.mark.parametrize("helm", [components.HELM_3, components.HELM_4], ids=lambda one: one.name)
def test_helm_has_nothing_to_complain_of(helm: components.Component) -> None:
    files = [part for file in CI.values() for part in ("--values", str(file))]
    charts.helm(helm)("lint", "--strict", str(charts.CHART), *files)
    for file in CI.values():
        charts.helm(helm)("lint", "--strict", str(charts.CHART), "--values", str(file))
