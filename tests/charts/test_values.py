"""Each value of the chart goes to where it belongs.

What a value means for the operator is in test_template.py; here only where it ends up.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml

from tests.charts import charts
from tests.charts.charts import Json

FILE = charts.CHART / "ci" / "everything-values.yaml"

_POD = "Deployment spec.template.spec"
_CONTAINER = f"{_POD}.containers.0"

PLACES: Mapping[str, str] = {
    "image.pullPolicy": f"{_CONTAINER}.imagePullPolicy",
    "imagePullSecrets": f"{_POD}.imagePullSecrets",
    "replicaCount": "Deployment spec.replicas",
    "strategy": "Deployment spec.strategy",
    "crds.annotations": "CustomResourceDefinition metadata.annotations",
    "extraArgs": f"{_CONTAINER}.args",
    "extraEnv": f"{_CONTAINER}.env",
    "extraEnvFrom": f"{_CONTAINER}.envFrom",
    "extraVolumes": f"{_POD}.volumes",
    "extraVolumeMounts": f"{_CONTAINER}.volumeMounts",
    "extraContainers": f"{_POD}.containers",
    "serviceAccount.annotations": "ServiceAccount metadata.annotations",
    "serviceAccount.extraLabels": "ServiceAccount metadata.labels",
    "podLabels": "Deployment spec.template.metadata.labels",
    "podAnnotations": "Deployment spec.template.metadata.annotations",
    "deploymentAnnotations": "Deployment metadata.annotations",
    "terminationGracePeriodSeconds": f"{_POD}.terminationGracePeriodSeconds",
    "priorityClassName": f"{_POD}.priorityClassName",
    "runtimeClassName": f"{_POD}.runtimeClassName",
    "nodeSelector": f"{_POD}.nodeSelector",
    "tolerations": f"{_POD}.tolerations",
    "affinity": f"{_POD}.affinity",
    "topologySpreadConstraints": f"{_POD}.topologySpreadConstraints",
    "service.port": "Service spec.ports.0.port",
    "service.annotations": "Service metadata.annotations",
    "service.labels": "Service metadata.labels",
    "podDisruptionBudget.minAvailable": "PodDisruptionBudget spec.minAvailable",
    "networkPolicy.ingress.from": "NetworkPolicy spec.ingress.0.from",
    "networkPolicy.egress.extra": "NetworkPolicy spec.egress",
    "serviceMonitor.namespace": "ServiceMonitor metadata.namespace",
    "serviceMonitor.additionalLabels": "ServiceMonitor metadata.labels",
    "serviceMonitor.relabelings": "ServiceMonitor spec.endpoints.0.relabelings",
    "serviceMonitor.metricRelabelings": "ServiceMonitor spec.endpoints.0.metricRelabelings",
    "prometheusRule.additionalLabels": "PrometheusRule metadata.labels",
    "prometheusRule.extraRules": "PrometheusRule spec.groups.0.rules",
    "grafanaDashboard.namespace": "ConfigMap metadata.namespace",
    "grafanaDashboard.annotations": "ConfigMap metadata.annotations",
    "grafanaDashboard.extraLabels": "ConfigMap metadata.labels",
}
"""Where each value of the file stands: the kind of the object, and the path in it."""


@functools.cache
def values() -> Json:
    """The values of the file."""
    found: Json = yaml.safe_load(FILE.read_text())
    return found


@functools.cache
def rendered() -> Sequence[Json]:
    """What comes of them; of the extra objects nothing."""
    return charts.render({**values(), "extraObjects": []})


def at(body: Any, path: str) -> Any:
    """What stands at a path."""
    for part in path.split("."):
        body = body[int(part)] if part.isdigit() else body[part]
    return body


@pytest.mark.parametrize("value", PLACES)
def test_a_value_stands_where_it_belongs(value: str) -> None:
    kind, _, path = PLACES[value].partition(" ")
    wanted, objects = at(values(), value), charts.of_kind(rendered(), kind)
    assert objects
    for one in objects:
        match at(one, path), wanted:
            case dict(found), dict():
                assert wanted.items() <= found.items()
            case list(found), list():
                # What the chart adds to a constraint is a selector.
                listed = [
                    {key: each[key] for key in each if key != "labelSelector"}
                    if isinstance(each, dict)
                    else each
                    for each in found
                ]
                assert [each for each in wanted if each not in listed] == []
            case found, _:
                assert found == wanted
