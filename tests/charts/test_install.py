"""Helm 3 and Helm 4 install, upgrade, roll back and uninstall the chart on a real API server.

There is no kubelet. `plane.Kubelet` stands in for it and says of each pod that it is ready. What is
proven of `--wait` is that Helm waits for our Deployment and no longer, not that the image starts.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.charts import charts
from tests.charts.charts import Json
from tests.charts.plane import Kubelet, Plane
from tests.controlplane import build, client, components
from tests.e2e.support import home as homes
from tests.e2e.support import manifests

pytestmark = pytest.mark.timeout(400)

CRD = "CustomResourceDefinition"
DEPLOYMENT = "apps/v1/Deployment"
LATER_FIELD = "dryRun"
"""Of a WorkflowResume; the previous version does not know it."""

TIMEOUT = "90s"
SHORT = "3s"

HELM = (components.HELM_3, components.HELM_4)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A chart as a version before this one might have been: without a field, with another image.

    Nothing was released before this version, so this is made, not fetched. New objects have no
    status in it.
    """
    folder = tmp_path_factory.mktemp("previous") / "workflow-resumer"
    shutil.copytree(charts.CHART, folder)
    rewrite(folder / "Chart.yaml", version="0.0.9", appVersion="0.0.9")
    file = folder / "files" / "crds" / "workflowresumes.argoproj.io.yaml"
    definition = yaml.safe_load(file.read_text())
    del properties(definition)[LATER_FIELD]
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["status"]["default"]
    file.write_text(json.dumps(definition))
    return folder


@pytest.fixture
def namespace(plane: Plane) -> Iterator[str]:
    """A namespace to install into; releases and definitions, cluster-wide, are gone afterwards."""
    name = plane.namespace()
    yield name
    helm = connected(components.HELM_4, plane)
    for release in helm("list", "--short", "--namespace", name).split():
        helm("uninstall", release, "--namespace", name)
    for one in plane.cluster.list_all(CRD):
        name = one["metadata"]["name"]
        if name.startswith("workflowresume"):
            plane.cluster.delete(CRD, name)
            plane.cluster.wait_gone(CRD, name, None, homes.TIMEOUT)


def rewrite(file: pathlib.Path, **fields: str) -> None:
    """Changes fields of a YAML file."""
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **fields}))


def properties(definition: Json) -> dict[str, Any]:
    """The schema of the fields of a spec."""
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return found


def connected(component: components.Component, plane: Plane) -> charts.Helm:
    """A Helm that talks to the control plane, as its administrator."""
    return charts.Helm(build.ensure((component,))[component.name].binary, plane.kubeconfig)


def at(namespace: str, *more: str) -> tuple[str, ...]:
    """The release in a namespace, waited for."""
    return ("--namespace", namespace, "--wait", "--timeout", TIMEOUT, *more)


def user_objects(cluster: client.Cluster, namespace: str) -> None:
    """Creates what a user has: a policy and a request."""
    stage = {"name": "review", "eventTypes": ["reviewed"]}
    cluster.create(manifests.policy("mine", stage, matches={"a": "b"}), namespace)
    cluster.create(manifests.resume("mine"), namespace)


def still_there(cluster: client.Cluster, namespace: str) -> None:
    """What a user had is still there."""
    for kind in (homes.POLICY, homes.RESUME):
        assert not cluster.get(kind, "mine", namespace)["metadata"].get("deletionTimestamp")


def available(cluster: client.Cluster, namespace: str) -> Json:
    """The Deployment, of which enough pods have to be ready."""
    found = cluster.get(DEPLOYMENT, charts.FULL_NAME, namespace)
    assert found["status"]["readyReplicas"] == found["spec"]["replicas"]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    return found


@pytest.mark.parametrize("component", HELM, ids=lambda one: one.name)
def test_a_release_comes_and_goes_and_what_users_made_stays(
    plane: Plane, namespace: str, component: components.Component
) -> None:
    helm, cluster, chart = connected(component, plane), plane.cluster, str(charts.CHART)

    helm("install", charts.RELEASE, chart, "--namespace", namespace)
    # No pod is ready: whoever waits is told.
    short = ("--namespace", namespace, "--wait", "--timeout", SHORT)
    answer = helm.run("upgrade", charts.RELEASE, chart, *short)
    assert answer.returncode != 0, answer.stdout
    assert "deadline exceeded" in answer.stderr
    status = cluster.get(DEPLOYMENT, charts.FULL_NAME, namespace).get("status", {})
    assert "readyReplicas" not in status

    with Kubelet(cluster):
        notes = helm("upgrade", charts.RELEASE, chart, *at(namespace))
        available(cluster, namespace)
        assert f"kubectl -n {namespace} rollout status deployment/{charts.FULL_NAME}" in notes
        user_objects(cluster, namespace)

        helm("uninstall", charts.RELEASE, *at(namespace))
        cluster.wait_gone(DEPLOYMENT, charts.FULL_NAME, namespace, homes.TIMEOUT)
        still_there(cluster, namespace)
        left = [one["metadata"]["name"] for one in cluster.list_all("ClusterRole")]
        assert not [name for name in left if name.startswith(charts.FULL_NAME)]

        # The definitions that were kept are the release's again; another release has to ask.
        helm("install", charts.RELEASE, chart, *at(namespace))
        helm("uninstall", charts.RELEASE, *at(namespace))
        answer = helm.run("install", "other", chart, *at(namespace))
        assert answer.returncode != 0
        assert "meta.helm.sh/release-name" in answer.stderr
        taken = ("--take-ownership", "--set", "crds.keep=false")
        helm("upgrade", "--install", "other", chart, *at(namespace), *taken)
        still_there(cluster, namespace)

        # Only who asked for it loses them.
        helm("uninstall", "other", *at(namespace))
        for plural in ("workflowresumes", "workflowresumepolicies"):
            cluster.wait_gone(CRD, f"{plural}.argoproj.io", None, homes.TIMEOUT)


@pytest.mark.parametrize("component", HELM, ids=lambda one: one.name)
def test_helm_4_waits_for_requests_and_policies_that_nobody_has_looked_at_and_helm_3_does_not(
    plane: Plane, namespace: str, component: components.Component, tmp_path: pathlib.Path
) -> None:
    """The pods are ready here, and there is no operator in them."""
    helm, chart = connected(component, plane), str(charts.CHART)
    stage = {"name": "review", "eventTypes": ["reviewed"]}
    policy = manifests.policy("ours", stage, matches={"a": "b"})
    with Kubelet(plane.cluster):
        helm("install", charts.RELEASE, chart, *at(namespace))
        for one in (manifests.resume("ours"), policy):
            file = charts.values_file(tmp_path, {"extraObjects": [one]})
            short = ("--namespace", namespace, "--wait", "--timeout", SHORT, "-f", str(file))
            answer = helm.run("upgrade", charts.RELEASE, chart, *short)
            if component is components.HELM_3:
                assert answer.returncode == 0, answer.stderr
            else:
                assert answer.returncode != 0, answer.stdout
                assert f"{one['kind']}/{namespace}/ours not ready" in answer.stderr


@pytest.mark.parametrize(
    ("first", "second"),
    [(3, 3), (3, 4), (4, 4)],
    ids=["by-helm-3", "of-helm-3-by-helm-4", "by-helm-4"],
)
def test_an_older_version_is_upgraded_and_rolled_back(
    plane: Plane, namespace: str, previous: pathlib.Path, first: int, second: int
) -> None:
    cluster = plane.cluster
    helms = {3: components.HELM_3, 4: components.HELM_4}
    before, after = connected(helms[first], plane), connected(helms[second], plane)
    definition = "workflowresumes.argoproj.io"
    with Kubelet(cluster):
        before("install", charts.RELEASE, str(previous), *at(namespace))
        assert LATER_FIELD not in properties(cluster.get(CRD, definition))
        user_objects(cluster, namespace)

        after("upgrade", charts.RELEASE, str(charts.CHART), *at(namespace))
        still_there(cluster, namespace)
        # What Helm does for its own folder `crds/`, is not to upgrade it.
        assert LATER_FIELD in properties(cluster.get(CRD, definition))
        image = available(cluster, namespace)["spec"]["template"]["spec"]["containers"][0]["image"]
        assert not image.endswith(":0.0.9")

        after("rollback", charts.RELEASE, "1", *at(namespace))
        still_there(cluster, namespace)
        image = available(cluster, namespace)["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image.endswith(":0.0.9")


def test_the_api_server_takes_every_object_that_the_chart_can_make(
    plane: Plane, namespace: str, tmp_path: pathlib.Path
) -> None:
    cluster = plane.cluster
    monitored = ("ServiceMonitor", "PrometheusRule")
    cluster.establish([stand_in(kind) for kind in monitored])
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}})
    values = yaml.safe_load((charts.CHART / "ci" / "everything-values.yaml").read_text())
    for kind in ("serviceMonitor", "prometheusRule"):
        values[kind]["renderMode"] = "failIfMissing"
    file = charts.values_file(tmp_path, values)
    helm = connected(components.HELM_4, plane)
    helm("install", charts.RELEASE, str(charts.CHART), *("--namespace", namespace), "-f", str(file))
    told = helm("get", "manifest", charts.RELEASE, "--namespace", namespace)
    made = {one["kind"] for one in charts.documents(told)}
    assert {*monitored, "PodDisruptionBudget", "NetworkPolicy", "ValidatingAdmissionPolicy"} <= made


def stand_in(kind: str) -> Json:
    """A definition of a kind of the Prometheus operator that lets everything pass."""
    plural, free = f"{kind.lower()}s", {"x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", **free}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": CRD,
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
