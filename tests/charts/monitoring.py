"""The alerts and the dashboard as a user of the chart gets them, and how Grafana asks for them.

python -m tests.charts.monitoring     writes the same for those who do not use Helm
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import yaml

from tests.charts import charts
from tests.charts.charts import Json

JOB = "resumer"
"""The job of the operator's pods in Prometheus: what the release calls its Service."""

NAMESPACE = charts.NAMESPACE
"""Where that release is."""

_PROMETHEUS = charts.ROOT / "deploy" / "prometheus"

_HEAD = (
    "# Written by `make chart` from the templates of charts/workflow-resumer: change it there.\n"
)

_FOR_ALL = """\
# The chart's alerts are about the pods of one namespace, these about those of each: kustomize
# cannot write a namespace into a query.
"""

_FOR_RULE_FILES = (
    "# For `rule_files` of a Prometheus that scrapes the operator as the job resumer.\n"
)

_DOWN = (
    'count by (namespace) (count_over_time(up{job="resumer"}[1d]))'
    ' unless count by (namespace) (up{job="resumer"} == 1)'
    ' or on () absent(up{job="resumer"} == 1)'
)
"""A namespace counts for a day after Prometheus last had a target in it."""


@functools.cache
def objects() -> Sequence[Json]:
    """All that the chart can make."""
    file = charts.CHART / "ci" / "everything-values.yaml"
    return charts.render(yaml.safe_load(file.read_text()))


def groups() -> list[Json]:
    """The groups of rules, without those of a user."""
    found: list[Json] = charts.only(objects(), "PrometheusRule")["spec"]["groups"]
    return [
        {**group, "rules": [rule for rule in group["rules"] if rule["alert"].startswith("Resumer")]}
        for group in found
    ]


def alerts() -> dict[str, Json]:
    """The alerts of the chart by name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def groups_of_all() -> list[Json]:
    """The groups of rules for those who do not use Helm."""
    found: list[Json] = yaml.safe_load((_PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return found


def write_rules(file: pathlib.Path, groups: list[Json]) -> pathlib.Path:
    """Writes alerts as Prometheus itself reads them."""
    file.write_text(yaml.safe_dump({"groups": groups}))
    return file


def written() -> Mapping[pathlib.Path, str]:
    """What is generated for those who do not use Helm, by file."""
    values = {
        "fullnameOverride": "resumer",
        "prometheusRule": {"enabled": True, "renderMode": "alwaysRender"},
        "serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"},
    }
    made = charts.render(values, release="resumer", namespace="resumer")
    rule, monitor = (charts.only(made, kind) for kind in ("PrometheusRule", "ServiceMonitor"))
    # Without it, a ServiceMonitor means the namespace that it is in, whichever that is.
    del monitor["spec"]["namespaceSelector"]
    rule = {**rule, "spec": {"groups": [_of_all(group) for group in rule["spec"]["groups"]]}}
    component = charts.ROOT / "deploy" / "components" / "monitoring"
    return {
        component / "prometheusrule.yaml": _text(_HEAD + _FOR_ALL, _bare(rule)),
        component / "servicemonitor.yaml": _text(_HEAD, _bare(monitor)),
        _PROMETHEUS / "alerts.yaml": _text(_HEAD + _FOR_ALL + _FOR_RULE_FILES, rule["spec"]),
    }


def _of_all(group: Json) -> Json:
    """A group of rules of one namespace, for all namespaces."""
    return {**group, "rules": [_of_any(rule) for rule in group["rules"]]}


def _of_any(rule: Json) -> Json:
    expression = rule["expr"].replace(', namespace="resumer"', "")
    labels = {name: value for name, value in rule["labels"].items() if name != "namespace"}
    return {
        **rule,
        "expr": _DOWN if rule["alert"] == "ResumerDown" else expression,
        "labels": labels,
    }


def _bare(one: Json) -> Json:
    return {**one, "metadata": {"name": one["metadata"]["name"]}}


def _text(head: str, content: Json) -> str:
    return head + yaml.safe_dump(content, sort_keys=False, width=80)


def dashboard() -> Json:
    """The dashboard as Grafana gets it."""
    found: Json = json.loads(
        charts.only(objects(), "ConfigMap", "resumer-dashboard")["data"]["resumer.json"]
    )
    return found


def panels() -> list[Json]:
    """The panels of the dashboard, those of a folded row as well, without the rows."""
    found = dashboard()["panels"]
    inner = [below for one in found for below in one.get("panels", ())]
    return [one for one in (*found, *inner) if one["type"] != "row"]


def filled(query: str, values: Mapping[str, str]) -> str:
    """A query with its variables filled in as Grafana does it, whichever way they are written."""
    # The longest first: $__range begins as $__range_s does.
    for name in sorted(values, key=len, reverse=True):
        query = query.replace(f"${{{name}}}", values[name]).replace(f"${name}", values[name])
    return query


def queries(panel: Json, values: Mapping[str, str]) -> Iterator[tuple[Json, str]]:
    """The targets of a panel, each with its query, ready to be asked."""
    for target in panel["targets"]:
        yield target, filled(target["expr"], values)


def main() -> int:
    """Writes what is generated."""
    for file, text in written().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
