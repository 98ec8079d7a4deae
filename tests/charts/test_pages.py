"""What the pages tell about installing can be typed, and is what Helm and kustomize take."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest
import yaml

from tests.charts import charts
from tests.charts.plane import Kubelet, Plane
from tests.charts.test_alerts import promtool
from tests.charts.test_monitoring import complaints
from tests.controlplane import build, components
from tests.e2e.support import commands, kustomize, pages
from tests.e2e.support.commands import Command, Shell, Trier
from tests.e2e.support.home import Home

_PAGE = "docs/install.md"
_KINDS = ("workflowresumes", "workflowresumepolicies", "workflowresumebreakers")
_CLEANED = (
    "helm uninstall resumer --namespace resumer",
    " ".join(("kubectl delete crd", *(f"{kind}.argoproj.io" for kind in _KINDS))),
)


@pytest.fixture
def shell(plane: Plane, tmp_path: pathlib.Path) -> Shell:
    """A reader's shell with Helm, in a copy of the project."""
    helm = build.ensure((components.HELM_4,))[components.HELM_4.name].binary
    return commands.shell(Home(plane.cluster, "default"), tmp_path, helm=helm)


@pytest.mark.timeout(600)
def test_the_commands_that_install_upgrade_and_remove_do_so(plane: Plane, shell: Shell) -> None:
    """Page by page, in their order; kustomize comes into a cluster that Helm has left."""
    by_page: dict[str, list[Command]] = {}
    for one in commands.of(Trier.INSTALL):
        by_page.setdefault(one.block.page, []).append(one)
    assert set(by_page) == {"README.md", "charts/workflow-resumer/README.md", _PAGE}
    plane.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}})
    with Kubelet(plane.cluster):
        kustomized = [one for one in by_page[_PAGE] if " -k " in one.text]
        for page, typed in by_page.items():
            for one in typed:
                if one not in kustomized:
                    shell.type(one.text)
            if page != _PAGE:
                for text in _CLEANED:
                    shell.type(text)
        for one in kustomized:
            shell.type(one.text)
    deployments = plane.cluster.list_all("apps/v1/Deployment")
    assert {one["metadata"]["name"] for one in deployments} == {"resumer"}


def _shown(name: str) -> list[str]:
    """The files of this name that the page shows."""
    first = f"# {name}\n"
    return [
        block.text
        for block in pages.blocks(_PAGE)
        if block.language == "yaml" and block.text.startswith(first)
    ]


def _parts(first: str) -> list[str]:
    """The parts in YAML of all pages that begin with this field."""
    blocks = (block for page in commands.PAGES for block in pages.blocks(page))
    return [one.text for one in blocks if one.text.startswith(f"{first}:")]


def test_helm_takes_the_values_of_the_pages() -> None:
    shown = [*_shown("values.yaml"), *_parts("tracing")]
    assert len(shown) > 3
    for text in shown:
        assert charts.render(yaml.safe_load(text))


def test_kustomize_takes_the_kustomization_of_the_page(tmp_path: pathlib.Path) -> None:
    (text,) = _shown("kustomization.yaml")
    (tmp_path / "kustomization.yaml").write_text(text)
    shutil.copytree(charts.ROOT / "deploy", tmp_path / "resumer" / "deploy")
    objects = kustomize.kustomized(tmp_path)
    assert {one["metadata"]["namespace"] for one in objects} == {"team-a"}
    container = charts.pod(objects)["containers"][0]
    assert container["image"] == "registry.example.com/resumer:0.1.0"
    assert charts.of_kind(objects, "NetworkPolicy")


@pytest.mark.usefixtures("built_monitoring")
def test_prometheus_takes_the_configuration_of_the_page(tmp_path: pathlib.Path) -> None:
    """All but how it finds pods: the one that is built here knows nothing of Kubernetes."""
    (text,) = _shown("prometheus.yaml")
    found = re.sub(r"kubernetes_sd_configs: .*", "static_configs: []", text)
    assert found != text
    (tmp_path / "prometheus.yaml").write_text(found)
    told = promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yaml")
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_part_of_the_page_in_yaml_is_tried() -> None:
    others = [
        block.text
        for block in pages.blocks(_PAGE)
        if block.language == "yaml" and not block.text.startswith("apiVersion:")
    ]
    files = ("values.yaml", "kustomization.yaml", "prometheus.yaml")
    assert sorted(others) == sorted(text for name in files for text in _shown(name))


def test_every_query_of_a_page_asks_for_what_the_operator_shows() -> None:
    shown = [
        query
        for page in commands.PAGES
        for block in pages.blocks(page)
        if block.language == "promql"
        for query in re.split(r"\n\n+", re.sub(r"^#.*\n", "", block.text, flags=re.MULTILINE))
    ]
    assert len(shown) > 3
    assert [what for query in shown for what in complaints(query)] == []
