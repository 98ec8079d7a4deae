"""The kustomize manifests in `deploy/` install what the chart installs, with the same rights."""

from __future__ import annotations

import functools
import os
import pathlib
import tempfile
from collections.abc import Sequence

import kubernetes_validate
import pytest
import yaml

import resumer
from tests.charts import charts
from tests.charts.charts import Json
from tests.controlplane import client
from tests.e2e.support import home as homes
from tests.e2e.support import kustomize

pytestmark = pytest.mark.timeout(300)

DEPLOY = charts.ROOT / "deploy"
OVERLAYS = DEPLOY / "overlays"

RBAC = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
OTHERS = ("Service", "PodDisruptionBudget", "NetworkPolicy")

_USERS_OFF = {
    "aggregateToView": False,
    "aggregateToEdit": False,
    "aggregateToAdmin": False,
    "requesterRole": False,
}
_OPTIONAL: Json = {
    "networkPolicy": {"enabled": True},
    "tracing": {"enabled": True, "endpoint": "http://collector.observability:4318"},
}
CHART: dict[str, tuple[str, Json]] = {
    "cluster-install": ("resumer", _OPTIONAL),
    "namespace-install": (
        "argo",
        {"singleNamespace": True, "crds": {"install": False}, "rbac": _USERS_OFF, **_OPTIONAL},
    ),
}
"""For each overlay the namespace and the values that come to the same."""


@functools.cache
def of_kustomize(overlay: str) -> Sequence[Json]:
    """What kustomize makes of an overlay, with all that is optional."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        optional = [
            os.path.relpath(DEPLOY / "components" / name, folder.resolve())
            for name in ("network-policy", "tracing")
        ]
        fields = {"namespace": CHART[overlay][0], "components": optional}
        return kustomize.kustomized(kustomize.on_top(folder, OVERLAYS / overlay, **fields))


@functools.cache
def as_shipped(overlay: str) -> Sequence[Json]:
    """What kustomize makes of an overlay as it comes."""
    return kustomize.kustomized(OVERLAYS / overlay)


@functools.cache
def of_chart(overlay: str) -> Sequence[Json]:
    """What the chart makes of the values that come to the same as an overlay."""
    namespace, values = CHART[overlay]
    named = {"fullnameOverride": "resumer", **values}
    return charts.render(named, release="resumer", namespace=namespace)


def bare(one: Json) -> Json:
    """An object without the labels and annotations that its tool gives it."""
    metadata = one["metadata"]
    found = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    labels = {
        key: value
        for key, value in metadata.get("labels", {}).items()
        if key.startswith("rbac.authorization.k8s.io/")
    }
    return {**one, "metadata": {**found, "labels": labels}}


def every(objects: Sequence[Json], kinds: Sequence[str]) -> dict[str, Json]:
    """The objects of some kinds, as they are compared."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": bare(one)
        for one in objects
        if one["kind"] in kinds
    }


def without_options(objects: Sequence[Json]) -> Json:
    """The operator's pod but for its options and variables, which may say the same differently."""
    spec = charts.pod(objects)
    container = {key: value for key, value in spec["containers"][0].items() if key != "args"}
    return {**spec, "containers": [{**container, "env": []}]}


def of_traces(objects: Sequence[Json]) -> Json:
    """The operator's variables that say where traces go; all others are in its settings."""
    named = charts.variables(charts.pod(objects)["containers"][0], "pod", "namespace")
    return {name: value for name, value in named.items() if name.startswith("OTEL_")}


@pytest.mark.parametrize("overlay", CHART)
def test_kustomize_gives_the_rights_that_the_chart_gives(overlay: str) -> None:
    found = every(of_kustomize(overlay), RBAC)
    assert found == every(of_chart(overlay), RBAC)
    assert found


def test_kustomize_gives_the_monitoring_that_the_chart_gives(tmp_path: pathlib.Path) -> None:
    component = os.path.relpath(DEPLOY / "components" / "monitoring", tmp_path.resolve())
    fields = {"namespace": "resumer", "components": [component]}
    made = kustomize.kustomized(kustomize.on_top(tmp_path, OVERLAYS / "cluster-install", **fields))
    shown = {"enabled": True, "renderMode": "alwaysRender"}
    values = {
        "grafanaDashboard": {"enabled": True},
        "serviceMonitor": shown,
        "prometheusRule": shown,
    }
    of_helm = charts.render(
        {"fullnameOverride": "resumer", **values}, release="resumer", namespace="resumer"
    )
    # It means its own namespace, which it may be moved to.
    del charts.only(of_helm, "ServiceMonitor")["spec"]["namespaceSelector"]
    kinds = ("ServiceMonitor", "ConfigMap")
    assert every(made, kinds) == every(of_helm, kinds)
    # Those of the chart look at one namespace, see tests.charts.monitoring.
    (ours,), (theirs,) = (
        charts.only(one, "PrometheusRule")["spec"]["groups"] for one in (made, of_helm)
    )
    for rule in (*ours["rules"], *theirs["rules"]):
        del rule["expr"]
        rule["labels"].pop("namespace", None)
    assert ours == theirs
    for objects in (made, of_helm):
        assert charts.only(objects, "ConfigMap")["metadata"]["labels"]["grafana_dashboard"] == "1"
    # What it looks for is what the Service has.
    wanted = charts.only(made, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= charts.only(made, "Service")["metadata"]["labels"].items()


@pytest.mark.parametrize("overlay", CHART)
def test_kustomize_makes_the_pod_that_the_chart_makes(overlay: str) -> None:
    kustomized, of_helm = of_kustomize(overlay), of_chart(overlay)
    assert charts.settings(kustomized) == charts.settings(of_helm)
    assert without_options(kustomized) == without_options(of_helm)
    assert of_traces(kustomized) == of_traces(of_helm)
    ours, theirs = (charts.only(each, "Deployment") for each in (kustomized, of_helm))
    for field in ("replicas", "revisionHistoryLimit", "selector"):
        assert ours["spec"][field] == theirs["spec"][field]
    assert every(kustomized, OTHERS) == every(of_helm, OTHERS)


def test_traces_can_be_had_without_the_network_policy(tmp_path: pathlib.Path) -> None:
    traces = os.path.relpath(DEPLOY / "components" / "tracing", tmp_path.resolve())
    folder = kustomize.on_top(tmp_path, OVERLAYS / "namespace-install", components=[traces])
    found = kustomize.kustomized(folder)
    assert charts.settings(found)["tracing"] is True
    assert not charts.of_kind(found, "NetworkPolicy")


def test_kustomize_installs_the_definitions_of_the_project() -> None:
    source = [yaml.safe_load(file.read_text()) for file in (charts.ROOT / "crds").glob("*.yaml")]
    found = as_shipped("cluster-install")
    kind = "CustomResourceDefinition"
    assert {one["metadata"]["name"]: one for one in charts.of_kind(found, kind)} == {
        one["metadata"]["name"]: one for one in source
    }
    assert not charts.of_kind(as_shipped("namespace-install"), kind)


@pytest.mark.parametrize("version", ["1.32", "1.37"])
@pytest.mark.parametrize("overlay", CHART)
def test_every_object_is_one_of_kubernetes_without_a_field_too_many(
    overlay: str, version: str
) -> None:
    for one in of_kustomize(overlay):
        if one["kind"] != "CustomResourceDefinition":
            kubernetes_validate.validate(one, version, strict=True)


def test_an_overlay_goes_into_the_namespace_and_takes_the_image_of_its_user(
    cluster: client.Cluster, tmp_path: pathlib.Path
) -> None:
    images = [{"name": "resumer", "newName": "registry.example.com/resumer", "newTag": "1"}]
    with homes.new(cluster) as home:
        folder = kustomize.on_top(
            tmp_path, OVERLAYS / "namespace-install", namespace=home.namespace, images=images
        )
        cluster.kubectl("apply", "--server-side", "-k", str(folder))
        made = cluster.get("apps/v1/Deployment", "resumer", home.namespace)
        container = made["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "registry.example.com/resumer:1"
        binding = cluster.get("RoleBinding", "resumer", home.namespace)
        assert binding["subjects"][0]["namespace"] == home.namespace


def test_the_api_server_takes_what_is_of_the_cluster(cluster: client.Cluster) -> None:
    wide = [one for one in as_shipped("cluster-install") if "namespace" not in one["metadata"]]
    text = yaml.safe_dump_all(wide)
    dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-")
    told = cluster.kubectl(*dry, input=text)
    assert len(told.splitlines()) == len(wide)


def test_the_version_is_the_same_everywhere() -> None:
    chart = yaml.safe_load((charts.CHART / "Chart.yaml").read_text())
    image = charts.pod(as_shipped("cluster-install"))["containers"][0]["image"]
    assert (chart["appVersion"], image) == (resumer.__version__, f"resumer:{resumer.__version__}")
