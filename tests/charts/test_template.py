"""What the chart renders: for the values of its users, and against the schemas of Kubernetes."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import kubernetes_validate
import pytest
import yaml

from resumer.api import constants
from tests.charts import charts
from tests.charts.charts import Json

KUBERNETES_VERSIONS = ("1.32", "1.34", "1.37")
"""The oldest that the chart allows, one between, and the newest that there are schemas of."""

CI = {file.stem: file for file in sorted((charts.CHART / "ci").glob("*.yaml"))}

_UNKNOWN = ("CustomResourceDefinition", "ServiceMonitor", "PrometheusRule")
"""Kinds that Kubernetes itself has no schema of, or none that is complete."""


@functools.cache
def rendered(values: str) -> Sequence[Json]:
    """The objects of a file of values in `ci/`."""
    return charts.render(yaml.safe_load(CI[values].read_text()))


def strings(of: object) -> Iterator[str]:
    """All strings in an object, keys included."""
    match of:
        case str():
            yield of
        case dict():
            for key, value in of.items():
                yield key
                yield from strings(value)
        case list():
            for item in of:
                yield from strings(item)
        case _:
            pass


def container(objects: Sequence[Json]) -> Json:
    """The operator's container."""
    found: Json = charts.pod(objects)["containers"][0]
    return found


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("values", CI)
def test_every_object_is_one_of_kubernetes_without_a_field_too_many(
    values: str, version: str
) -> None:
    checked = [one for one in rendered(values) if one["kind"] not in _UNKNOWN]
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)
    assert checked


@pytest.mark.parametrize("values", CI)
def test_every_object_has_a_name_and_the_labels_of_the_release(values: str) -> None:
    objects = rendered(values)
    names = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects
    ]
    assert len(set(names)) == len(names)
    for one in objects:
        if one["kind"] != "ConfigMap":  # these are extra objects, and the user's own
            labels = one["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == "workflow-resumer"
            assert labels["app.kubernetes.io/instance"] == charts.RELEASE
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert ("team" in labels) == (values == "everything-values"), one["metadata"]["name"]


def test_the_pod_is_allowed_where_pods_are_restricted() -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    spec, only = charts.pod(rendered("default-values")), container(rendered("default-values"))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    # A platform may give each namespace a range of users: none is demanded.
    assert "runAsUser" not in {**spec["securityContext"], **only["securityContext"]}
    assert not [volume for volume in spec.get("volumes", ()) if "hostPath" in volume]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_the_pod_asks_for_memory_and_cpu_and_is_not_throttled() -> None:
    resources = container(rendered("default-values"))["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


def test_the_labels_that_select_pods_stay_as_they_are_over_versions() -> None:
    deployment = charts.only(rendered("everything-values"), "Deployment")
    selected = deployment["spec"]["selector"]["matchLabels"]
    assert set(selected) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    assert selected.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_what_selects_pods_selects_those_of_the_deployment(kind: str) -> None:
    objects = rendered("everything-values")
    selected = charts.only(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    spec = charts.only(objects, kind)["spec"]
    selector = spec.get("selector") or spec["podSelector"]
    assert selector.get("matchLabels", selector) == selected


def test_the_operator_understands_its_options_as_they_are_meant() -> None:
    found = charts.settings(rendered("everything-values"))
    wanted = {
        "namespaces": [],
        "instance_id": "blue",
        "log_level": "debug",
        "log_format": "console",
        "metrics_port": 9500,
        "workers": 16,
        "api_connections": 8,
        "leader_elect": True,
        "leader_elect_lease_name": "resumer",
        "leader_elect_namespace": charts.NAMESPACE,
    }
    assert {key: found[key] for key in wanted} == wanted
    some = charts.settings(rendered("namespaced-values"))
    assert some["namespaces"] == ["team-a", "team-b"]


def test_traces_are_off_unless_they_are_asked_for() -> None:
    objects = rendered("default-values")
    assert charts.settings(objects)["tracing"] is False
    assert not [one for one in container(objects)["env"] if one["name"].startswith("OTEL_")]


def test_traces_go_to_the_collector_and_the_network_policy_lets_them() -> None:
    objects = rendered("everything-values")
    assert charts.settings(objects)["tracing"] is True
    named = charts.variables(container(objects), "pod", "namespace")
    assert {name: value for name, value in named.items() if name.startswith("OTEL_")} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    }
    egress = charts.only(objects, "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": 4318, "protocol": "TCP"}]} in egress


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("https://traces.example.com/otlp", 443),
        ("http://traces.example.com", 80),
        ("http://[fd00::1]:4318/", 4318),
    ],
)
def test_the_network_policy_takes_the_port_from_the_collectors_url(
    endpoint: str, port: int
) -> None:
    values = {"enabled": True, "endpoint": endpoint}
    objects = charts.render({"tracing": values, "networkPolicy": {"enabled": True}})
    egress = charts.only(objects, "NetworkPolicy")["spec"]["egress"]
    assert egress[-1] == {"ports": [{"port": port, "protocol": "TCP"}]}


def test_the_probes_and_the_service_use_the_port_that_the_operator_serves() -> None:
    objects = rendered("everything-values")
    only = container(objects)
    assert "--metrics-port=9500" in only["args"]
    assert only["ports"] == [{"name": "metrics", "containerPort": 9500, "protocol": "TCP"}]
    assert only["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert charts.only(objects, "Service")["spec"]["ports"][0]["targetPort"] == "metrics"


def test_all_namespaces_need_a_cluster_role_and_no_role_of_a_namespace() -> None:
    objects = rendered("default-values")
    binding = charts.only(objects, "ClusterRoleBinding")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": charts.FULL_NAME, "namespace": charts.NAMESPACE}
    ]
    rules = charts.only(objects, "ClusterRole", charts.FULL_NAME)["rules"]
    assert ["argoproj.io"] in [rule["apiGroups"] for rule in rules]
    assert not [arg for arg in container(objects)["args"] if arg.startswith("--namespace")]


def test_some_namespaces_need_a_role_in_each_and_nothing_of_the_cluster() -> None:
    objects = rendered("namespaced-values")
    watched = {"team-a", "team-b"}
    bound = {
        one["metadata"]["namespace"]
        for one in charts.of_kind(objects, "RoleBinding")
        if one["metadata"]["name"] == charts.FULL_NAME
    }
    assert bound == watched
    args = container(objects)["args"]
    assert {arg for arg in args if arg.startswith("--namespace")} == {
        f"--namespace={name}" for name in watched
    }
    assert not [one["kind"] for one in objects if one["kind"].startswith("Cluster")]
    assert not charts.of_kind(objects, "CustomResourceDefinition")


def test_the_roles_of_both_modes_give_the_same_rights() -> None:
    everywhere = charts.only(rendered("default-values"), "ClusterRole", charts.FULL_NAME)
    for role in charts.of_kind(rendered("namespaced-values"), "Role"):
        if role["metadata"]["name"] == charts.FULL_NAME:
            assert role["rules"] == everywhere["rules"]


def test_two_pods_share_a_lease_of_the_release_and_one_of_them_leads() -> None:
    objects = rendered("default-values")
    assert charts.only(objects, "Deployment")["spec"]["replicas"] == 2
    assert {
        "--leader-elect",
        f"--leader-elect-lease-name={charts.FULL_NAME}",
        f"--leader-elect-namespace={charts.NAMESPACE}",
    } <= set(container(objects)["args"])
    role = charts.only(objects, "Role", f"{charts.FULL_NAME}-leader-election")
    assert role["metadata"]["namespace"] == charts.NAMESPACE
    named = [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule]
    assert named == [[charts.FULL_NAME]]
    alone = charts.render({"leaderElection": {"enabled": False}, "replicaCount": 1})
    assert not [arg for arg in container(alone)["args"] if arg.startswith("--leader")]
    kinds = {"Role", "PodDisruptionBudget"}
    assert not kinds & {one["kind"] for one in alone}


def test_a_single_namespace_is_that_of_the_release() -> None:
    objects = charts.render({"singleNamespace": True})
    assert f"--namespace={charts.NAMESPACE}" in container(objects)["args"]
    assert charts.only(objects, "Role", charts.FULL_NAME)["metadata"]["namespace"] == (
        charts.NAMESPACE
    )


def test_the_definitions_are_those_of_the_project_and_are_kept() -> None:
    source = [yaml.safe_load(file.read_text()) for file in (charts.ROOT / "crds").glob("*.yaml")]
    found = charts.of_kind(rendered("default-values"), "CustomResourceDefinition")
    assert len(found) == len(source)
    for one in source:
        own = charts.only(found, "CustomResourceDefinition", one["metadata"]["name"])
        assert own["spec"] == one["spec"]
        assert own["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


LINKED: Mapping[str, Json] = {
    "crds": {},
    "dashboards": {"crds": {"install": False}, "grafanaDashboard": {"enabled": True}},
}
"""The symbolic links of the chart, and values with which its objects are only those behind one."""


@pytest.mark.parametrize("folder", LINKED)
def test_a_copy_of_the_chart_without_symbolic_links_is_refused(
    folder: str, tmp_path: pathlib.Path
) -> None:
    """As Git makes one where links are switched off: a file with the path of the folder in it."""
    link = charts.CHART / "files" / folder
    chart = tmp_path / "chart"
    shutil.copytree(charts.CHART, chart)
    shutil.rmtree(chart / "files" / folder)
    (chart / "files" / folder).write_text(str(link.readlink()))
    values = charts.values_file(tmp_path, LINKED[folder])
    answer = charts.helm().run("template", charts.RELEASE, str(chart), "--values", str(values))
    assert answer.returncode != 0
    assert f"this copy of the chart holds nothing in files/{folder}" in answer.stderr
    assert "git config core.symlinks true" in answer.stderr


def test_every_value_is_described() -> None:
    """In the table of the chart's page: the comments of values.yaml are where it is from."""
    page = (charts.CHART / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \|.*\| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 50
    assert [name for name, told in rows if not told.strip()] == []


def test_the_definitions_go_with_the_release_on_request() -> None:
    objects = charts.render({"crds": {"keep": False}})
    assert "helm.sh/resource-policy" not in set(
        strings(charts.of_kind(objects, "CustomResourceDefinition"))
    )


@pytest.mark.parametrize("instance", ["", "blue"])
def test_the_commands_in_the_notes_are_for_the_operator_that_was_installed(
    instance: str, tmp_path: pathlib.Path
) -> None:
    """Typed as they are printed, where `kubectl` writes down what it is told.

    One with an instance ID looks at no requests without its label, and the other way round.
    """
    notes = charts.helm()(
        *("install", charts.RELEASE, str(charts.CHART), "--dry-run=client"),
        *("--set", f"instanceID={instance}", "--namespace", charts.NAMESPACE),
    ).partition("NOTES:\n")[2]
    # Each point is a heading and a command, which goes on to the next point.
    points = re.split(r"^\d\. ", notes, flags=re.MULTILINE)[1:]
    typed = "\n".join("kubectl" + point.partition("\nkubectl")[2] for point in points)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told\ncat >>{tmp_path}/given\n')
    kubectl.chmod(0o755)
    shell = subprocess.run(
        ["bash", "-eu", "-c", typed],
        env={"PATH": os.pathsep.join((str(tmp_path), os.environ["PATH"]))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (shell.returncode, shell.stderr) == (0, "")
    assert (tmp_path / "told").read_text().splitlines() == [
        f"-n {charts.NAMESPACE} rollout status deployment/{charts.FULL_NAME}",
        "-n default create -f -",
        "-n default get wres",
    ]
    example = yaml.safe_load((tmp_path / "given").read_text())
    labels = {constants.LABEL_INSTANCE_ID: instance} if instance else {}
    assert example["metadata"].get("labels", {}) == labels


def test_an_image_is_named_by_its_tag_or_by_its_digest() -> None:
    version = yaml.safe_load((charts.CHART / "Chart.yaml").read_text())["appVersion"]
    assert container(rendered("default-values"))["image"] == f"resumer:{version}"
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    image = f"registry.example.com/resumer@{digest}"
    assert container(rendered("everything-values"))["image"] == image


def test_a_long_name_of_a_release_is_cut_to_what_a_label_may_hold() -> None:
    objects = charts.render(release="r" * 53)
    for one in objects:
        assert max(len(value) for value in one["metadata"]["labels"].values()) <= 63
    assert len(charts.only(objects, "Service")["metadata"]["name"]) <= 63


def test_the_objects_for_the_prometheus_operator_come_where_its_kinds_are() -> None:
    wanted = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    kinds = {"ServiceMonitor", "PrometheusRule"}
    assert not kinds & {one["kind"] for one in charts.render(wanted)}
    served = [f"monitoring.coreos.com/v1/{kind}" for kind in kinds]
    assert kinds <= {one["kind"] for one in charts.render(wanted, apis=served)}


WRONG: Mapping[str, tuple[Json, str]] = {
    "an unknown value": ({"replicas": 2}, "replicas"),
    "an unknown value further down": ({"image": {"name": "x"}}, "name"),
    "a number as text": ({"replicaCount": "2"}, "replicaCount"),
    "a log level that there is not": ({"log": {"level": "trace"}}, "level"),
    "a namespace that is none": ({"watchNamespaces": ["Team_A"]}, "watchNamespaces"),
    "a digest that is a tag": ({"image": {"digest": "latest"}}, "digest"),
    "a collector without a scheme": ({"tracing": {"endpoint": "collector:4318"}}, "endpoint"),
    "a share of more than all": ({"tracing": {"samplerArg": "1.5"}}, "samplerArg"),
    "two modes at once": (
        {"singleNamespace": True, "watchNamespaces": ["a"]},
        "singleNamespace and watchNamespaces are both set",
    ),
    "kinds that are not served": (
        {"serviceMonitor": {"enabled": True, "renderMode": "failIfMissing"}},
        "the cluster does not serve monitoring.coreos.com/v1 ServiceMonitor",
    ),
    "a monitor of no service": (
        {
            "service": {"enabled": False},
            "serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"},
        },
        "serviceMonitor.enabled needs service.enabled",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_value_is_refused_by_its_name(what: str) -> None:
    values, told = WRONG[what]
    answer = charts.template(values)
    assert answer.returncode != 0
    assert told in answer.stderr


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((charts.CHART / "values.schema.json").read_text())
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    # Helm itself puts `global` into the values of a chart that is part of another one.
    assert paths_of_values(values, schema) == paths_of_schema(schema) - {".global"}


def paths_of_schema(schema: Mapping[str, Any], at: str = "") -> set[str]:
    """The paths of all values that a schema names."""
    found = set()
    for name, below in schema.get("properties", {}).items():
        path = f"{at}.{name}"
        found |= paths_of_schema(below, path) if "properties" in below else {path}
    return found


def paths_of_values(values: Mapping[str, Any], schema: Mapping[str, Any], at: str = "") -> set[str]:
    """The paths of all values, as deep as the schema goes."""
    found = set()
    for name, value in values.items():
        path, below = f"{at}.{name}", schema.get("properties", {}).get(name, {})
        found |= paths_of_values(value, below, path) if "properties" in below else {path}
    return found
