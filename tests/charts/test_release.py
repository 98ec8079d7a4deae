"""What `make dist` writes is complete and installs what the tree installs."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping

import pytest
import yaml

import resumer
from release import packages
from tests.charts import charts
from tests.charts.charts import Json
from tests.controlplane import client
from tests.e2e.support import commands
from tests.e2e.support import home as homes

pytestmark = pytest.mark.timeout(400)

IMAGE = "registry.example.com/team/resumer"
SOURCE = "https://example.com/team/resumer"
ARCHIVE = f"workflow-resumer-{resumer.__version__}.tgz"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The files of a release."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "release", "dist", "--folder", str(folder)),
            *("--repository", IMAGE, "--source", SOURCE),
        ],
        cwd=charts.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(dist: pathlib.Path) -> pathlib.Path:
    """The chart as its users get it."""
    with tarfile.open(dist / ARCHIVE) as archive:
        archive.extractall(dist.parent, filter="data")
    return dist.parent / "workflow-resumer"


def told_of(chart: pathlib.Path) -> Mapping[str, str]:
    """What a chart says to Artifact Hub, by the part behind the prefix."""
    found: Json = yaml.safe_load((chart / "Chart.yaml").read_text())["annotations"]
    return {name.removeprefix("artifacthub.io/"): value for name, value in found.items()}


def definitions() -> Mapping[str, Json]:
    """The definitions of the kinds, by their names."""
    found = [yaml.safe_load(file.read_text()) for file in (charts.ROOT / "crds").glob("*.yaml")]
    return {one["metadata"]["name"]: one for one in found}


def test_every_file_is_there_and_its_sum_is_right(dist: pathlib.Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    published = {one.name for one in dist.iterdir()} - {"SHA256SUMS", "notes.md"}
    assert set(sums) == published
    assert published == {ARCHIVE, "install.yaml", "sbom.cdx.json", "THIRD_PARTY_LICENSES.txt"}
    for name, digest in sums.items():
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest
    assert (dist / "notes.md").read_text().strip()


def test_the_chart_and_the_manifests_run_the_image_that_was_published(
    dist: pathlib.Path, unpacked: pathlib.Path
) -> None:
    wanted = f"{IMAGE}:{resumer.__version__}"
    installed = list(charts.documents((dist / "install.yaml").read_text()))
    answer = charts.helm()("template", "resumer", str(unpacked), "--namespace", charts.NAMESPACE)
    for objects in (installed, list(charts.documents(answer))):
        assert charts.pod(objects)["containers"][0]["image"] == wanted
        assert len(charts.of_kind(objects, "CustomResourceDefinition")) == len(definitions())
    assert charts.helm().run("lint", "--strict", str(unpacked)).returncode == 0


def test_the_chart_comes_with_the_command_that_installs_what_was_published(
    unpacked: pathlib.Path,
) -> None:
    (told,) = [
        text
        for text in commands.lines((unpacked / "README.md").read_text())
        if text.startswith("helm install ")
    ]
    place = f"oci://{IMAGE}/charts/workflow-resumer --version {resumer.__version__}"
    assert told == f"helm install resumer {place} --namespace resumer --create-namespace"
    # As the workflow pushes it, next to the image.
    workflow = (charts.ROOT / ".github" / "workflows" / "release.yaml").read_text()
    repository = "ghcr.io/${GITHUB_REPOSITORY,,}"
    assert f'make dist PYTHON=python REPOSITORY="{repository}"' in workflow
    assert f'charts="{repository}/charts"' in workflow


def test_the_chart_leads_to_the_pages_of_its_version(unpacked: pathlib.Path) -> None:
    page = (unpacked / "README.md").read_text()
    files = f"{SOURCE}/blob/v{resumer.__version__}/"
    links = re.findall(r"\]\((.*?)\)", page)
    assert links
    runbooks = yaml.safe_load((unpacked / "values.yaml").read_text())["prometheusRule"]
    for link in (*links, runbooks["runbookURL"]):
        assert link.startswith(files)
        assert (charts.ROOT / link.removeprefix(files)).is_file()
    assert f'`"{runbooks["runbookURL"]}"`' in page
    answer = charts.helm()(
        *("template", "resumer", str(unpacked), "--set", "prometheusRule.enabled=true"),
        *("--set", "prometheusRule.renderMode=alwaysRender"),
    )
    (group,) = charts.only(list(charts.documents(answer)), "PrometheusRule")["spec"]["groups"]
    told = {rule["annotations"]["runbook_url"].partition("#")[0] for rule in group["rules"]}
    assert told == {f"{files}docs/runbooks.md"}


def test_the_chart_holds_nothing_that_only_its_authors_need(unpacked: pathlib.Path) -> None:
    names = {one.name for one in unpacked.iterdir()}
    assert names == {
        *("Chart.yaml", "README.md", "values.yaml", "values.schema.json"),
        *("templates", "files", ".helmignore"),
    }


def test_artifact_hub_is_told_of_every_kind_as_it_is(unpacked: pathlib.Path) -> None:
    told = {one["name"]: one for one in yaml.safe_load(told_of(unpacked)["crds"])}
    assert told.keys() == definitions().keys()
    for name, definition in definitions().items():
        versions = [one["name"] for one in definition["spec"]["versions"]]
        kind = definition["spec"]["names"]["kind"]
        assert (told[name]["kind"], [told[name]["version"]]) == (kind, versions)
        assert told[name]["description"]


def test_artifact_hub_is_told_of_this_release(unpacked: pathlib.Path) -> None:
    told = told_of(unpacked)
    image = {"name": "operator", "image": f"{IMAGE}:{resumer.__version__}"}
    assert yaml.safe_load(told["images"]) == [image]
    assert yaml.safe_load(told["links"]) == [{"name": "source", "url": SOURCE}]
    changes = yaml.safe_load(told["changes"])
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert changes
    assert {one["kind"] for one in changes} <= kinds
    assert (told["operator"], told["prerelease"]) == ("true", "false")
    assert told["license"] == "Apache-2.0"
    # https://artifacthub.io/docs/topics/annotations/helm
    assert told["category"] == "integration-delivery"
    assert told["operatorCapabilities"] in (
        *("Basic Install", "Seamless Upgrades", "Full Lifecycle"),
        *("Deep Insights", "Auto Pilot"),
    )


def test_the_examples_of_artifact_hub_are_accepted_by_the_api_server(
    cluster: client.Cluster,
) -> None:
    examples = yaml.safe_load(told_of(charts.CHART)["crdsExamples"])
    assert {one["kind"] for one in examples} == {"WorkflowResume", "WorkflowResumePolicy"}
    with homes.new(cluster) as home:
        for one in examples:
            dry = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
            cluster.kubectl("-n", home.namespace, *dry, input=yaml.safe_dump(one))


def test_the_bill_of_materials_lists_what_is_locked_and_what_needs_it(dist: pathlib.Path) -> None:
    bill = json.loads((dist / "sbom.cdx.json").read_text())
    listed = {one["purl"].removeprefix("pkg:pypi/") for one in bill["components"]}
    locked = (charts.ROOT / "requirements" / "run.txt").read_text().splitlines()
    pins = {line.split()[0].replace("==", "@") for line in locked if line[:1].isalnum()}
    assert len(listed) == len(packages.names())
    assert listed <= pins
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("resumer", resumer.__version__)
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert [one for one in needs[root["bom-ref"]] if one.startswith("kopf==")]
    # Else it is another one each time.
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]


def test_every_package_comes_with_the_text_of_an_allowed_licence(dist: pathlib.Path) -> None:
    told = (dist / "THIRD_PARTY_LICENSES.txt").read_text()
    for name in packages.names():
        assert f"\n{name.lower().replace('_', '-')}\n" in f"\n{told.lower().replace('_', '-')}"


def test_a_licence_that_is_not_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = [one for one in packages.ALLOWED if not one.startswith("Mozilla")]
    monkeypatch.setattr(packages, "ALLOWED", allowed)
    with pytest.raises(packages.Refused, match="certifi"):
        packages.licences()
