"""The alerts and the dashboard ask for what the operator really shows, and say what to do."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import promql_parser
import pytest
import yaml

from resumer.api import breaker, outcomes
from resumer.telemetry import catalog
from tests.charts import charts
from tests.charts.charts import Json

_ADDED = {"job", "namespace", "pod", "instance"}
"""Labels that Prometheus puts on all that it gets from a target."""

_NOT_OURS = {"up", "process_resident_memory_bytes"}
"""Of Prometheus itself, and of its client's usual metrics of a process."""

_VALUES: dict[str, set[str]] = {
    "resumer_requests_total.outcome": {str(one) for one in outcomes.Outcome},
    "resumer_breaker_state.state": {str(one) for one in breaker.BreakerState},
    "resumer_queue_depth.state": {"ready", "delayed", "running"},
    "resumer_known_objects.kind": {"workflows", "unread", "requests", "finished"},
}
"""The values of labels that a selector names."""

_PARTS = {
    catalog.Kind.HISTOGRAM: {"_bucket": {"le"}, "_sum": set[str](), "_count": set[str]()},
    catalog.Kind.COUNTER: {"": set[str]()},
    catalog.Kind.GAUGE: {"": set[str]()},
}

SHOWN = {
    f"{row.name}{part}": {*row.labels, *more}
    for row in catalog.METRICS
    for part, more in _PARTS[row.kind].items()
}
"""The series of the operator and their labels."""


@functools.cache
def objects() -> Sequence[Json]:
    """All that the chart can make."""
    file = charts.CHART / "ci" / "everything-values.yaml"
    return charts.render(yaml.safe_load(file.read_text()))


def alerts() -> dict[str, Json]:
    """The alerts of the chart by name, without those of a user."""
    (group,) = charts.only(objects(), "PrometheusRule")["spec"]["groups"]
    return {one["alert"]: one for one in group["rules"] if one["alert"].startswith("Resumer")}


def dashboard() -> Json:
    """The dashboard as Grafana gets it."""
    found: Json = json.loads(
        charts.only(objects(), "ConfigMap", "resumer-dashboard")["data"]["resumer.json"]
    )
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """All queries, with where they stand."""
    for name, alert in alerts().items():
        yield name, alert["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            # Grafana fills in an interval.
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def parts(expression: Any) -> Iterator[Any]:
    """An expression and all that it is made of."""
    yield expression
    below = [
        getattr(expression, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")
    ] + list(getattr(expression, "args", ()))
    for one in below:
        if one is not None:
            yield from parts(one)


def selectors(expression: Any) -> list[Any]:
    """The selectors of series in an expression."""
    return [one for one in parts(expression) if isinstance(one, promql_parser.VectorSelector)]


def missing(selector: Any) -> Iterator[str]:
    """What a selector asks for that is not there."""
    name = str(selector.name)
    if name not in SHOWN and name not in _NOT_OURS:
        yield f"{name} is not shown"
    for matcher in selector.matchers.matchers:
        if matcher.name not in SHOWN.get(name, set()) | _ADDED:
            yield f"{name} has no label {matcher.name}"
        known = _VALUES.get(f"{name}.{matcher.name}")
        if known and not set(matcher.value.split("|")) <= known:
            yield f"{name} is never {matcher}"


def complaints(query: str) -> Iterator[str]:
    """What a query asks for that is not there.

    Raises:
        ValueError: it is no PromQL
    """
    expression = promql_parser.parse(query)
    labels = set(_ADDED)
    for selector in selectors(expression):
        labels |= SHOWN.get(str(selector.name), set())
        yield from missing(selector)
    for one in parts(expression):
        if isinstance(one, promql_parser.AggregateExpr) and one.modifier is not None:
            yield from (
                f"no series has the label {label}"
                for label in one.modifier.labels
                if label not in labels
            )


def test_every_query_asks_for_series_and_labels_that_the_operator_shows() -> None:
    found = [f"{where}: {what}" for where, query in expressions() for what in complaints(query)]
    assert found == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("resumer_request_total", "resumer_request_total is not shown"),
        ("resumer_leader{stage='x'}", "resumer_leader has no label stage"),
        ("sum by (stage) (resumer_leader)", "no series has the label stage"),
        ("resumer_requests_total{outcome=~'Failed|Broken'}", "is never outcome"),
    ],
)
def test_a_query_for_what_there_is_not_is_noticed(query: str, told: str) -> None:
    assert any(told in what for what in complaints(query))


def test_there_is_an_alert_for_all_that_stops_workflows() -> None:
    assert set(alerts()) == {
        "ResumerDown",
        "ResumerLeaderMissing",
        "ResumerWatchStale",
        "ResumerRequestsStuck",
        "ResumerReconcileErrors",
        "ResumerBreakerOpen",
        "ResumerRequestsFailed",
        "ResumerRequestsExpiredRising",
    }


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    page = (charts.ROOT / "docs" / "runbooks.md").read_text()
    parts_of_page = set(re.findall(r"^## (Resumer\w+)$", page, re.MULTILINE))
    assert parts_of_page == set(alerts())
    for name, alert in alerts().items():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        notes = alert["annotations"]
        assert notes["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        # The one does not change with what is found, so that alerts are grouped by it.
        assert "{{" not in notes["summary"]
        assert notes["description"].endswith(".")


def test_the_alerts_look_at_the_pods_of_their_release_only() -> None:
    for alert in alerts().values():
        for selector in selectors(promql_parser.parse(alert["expr"])):
            assert 'job="resumer"' in str(selector)


def test_the_runbooks_can_be_somewhere_else() -> None:
    where = "https://wiki.example.com/resumer"
    values = {
        "prometheusRule": {"enabled": True, "renderMode": "alwaysRender", "runbookURL": where}
    }
    (group,) = charts.only(charts.render(values), "PrometheusRule")["spec"]["groups"]
    assert {one["annotations"]["runbook_url"].split("#")[0] for one in group["rules"]} == {where}


def test_the_dashboard_works_with_any_data_source_and_any_release() -> None:
    found = dashboard()
    assert found["uid"] == "resumer"
    assert {one["name"] for one in found["templating"]["list"]} == {"datasource", "job"}
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'job=~"$job"' in target["expr"]


def test_the_dashboard_shows_every_metric_of_the_operator() -> None:
    shown = " ".join(query for where, query in expressions() if where not in alerts())
    left_out = {row.name for row in catalog.METRICS if row.name not in shown}
    # How often a breaker changed is seen in its states.
    assert left_out == {"resumer_breaker_transitions_total"}


def test_grafana_finds_the_dashboard_by_its_label() -> None:
    metadata = charts.only(objects(), "ConfigMap", "resumer-dashboard")["metadata"]
    assert metadata["labels"]["grafana_dashboard"] == "1"
    assert metadata["annotations"] == {"grafana_folder": "Argo"}
    assert metadata["namespace"] == "monitoring"
