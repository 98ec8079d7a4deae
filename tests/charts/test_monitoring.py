"""The alerts and the dashboard ask for what the operator really shows, and say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from resumer.api import breaker, outcomes
from resumer.telemetry import catalog
from tests.charts import charts, monitoring
from tests.charts.charts import Json

_ADDED = {"job", "namespace", "pod", "instance"}
"""Labels that Prometheus puts on all that it gets from a target."""

_NOT_OURS = {
    "up",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
}
"""Of Prometheus itself, and of its client's usual metrics of a process."""

_GRAFANA = {
    "job": "resumer",
    "namespace": ".*",
    "stage": ".*",
    "__rate_interval": "5m",
    "__range": "6h",
}
"""What Grafana might put for the variables."""

_AGES = ("0-1m", "1m-5m", "5m-15m", "15m-1h", "1h-6h", "6h-1d", "over-1d")

_VALUES: dict[str, set[str]] = {
    "resumer_requests_total.outcome": {str(one) for one in outcomes.Outcome},
    "resumer_breaker_state.state": {str(one) for one in breaker.BreakerState},
    "resumer_queue_depth.state": {"ready", "delayed", "running"},
    "resumer_known_objects.kind": {"workflows", "unread", "requests", "finished"},
    "resumer_unfinished_requests.outcome": {"Pending", "Waiting", "BackingOff", "CircuitOpen"},
    "resumer_unfinished_requests.age": set(_AGES),
    "resumer_attempts_total.result": {
        "Done",
        "Conflict",
        "Transient",
        "RateLimited",
        "Permanent",
    },
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


def expressions() -> Iterator[tuple[str, str]]:
    """All queries, with where they stand."""
    for name, alert in monitoring.alerts().items():
        yield name, alert["expr"]
    for alert in rules_of_all():
        yield alert["alert"], alert["expr"]
    for panel in monitoring.panels():
        for _, query in monitoring.queries(panel, _GRAFANA):
            yield panel["title"], query
    for one in monitoring.dashboard()["annotations"]["list"]:
        yield one["name"], monitoring.filled(one["expr"], _GRAFANA)


def rules_of_all() -> list[Json]:
    """The alerts for those who do not use Helm."""
    return [rule for group in monitoring.groups_of_all() for rule in group["rules"]]


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
        if known and not all(_among(known, one) for one in matcher.value.split("|")):
            yield f"{name} is never {matcher}"


def _among(known: set[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, value) for value in known)


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
    assert set(monitoring.alerts()) == {
        "ResumerDown",
        "ResumerLeaderMissing",
        "ResumerWatchStale",
        "ResumerRequestsStuck",
        "ResumerQueueBacklog",
        "ResumerReconcileErrors",
        "ResumerBreakerOpen",
        "ResumerRequestsFailed",
        "ResumerRequestsExpiredRising",
        "ResumerWritesFailing",
        "ResumerApiThrottled",
    }


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    page = (charts.ROOT / "docs" / "runbooks.md").read_text()
    parts_of_page = set(re.findall(r"^## (Resumer\w+)$", page, re.MULTILINE))
    assert parts_of_page == set(monitoring.alerts())
    for name, alert in monitoring.alerts().items():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        notes = alert["annotations"]
        assert notes["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
        # The one does not change with what is found, so that alerts are grouped by it.
        assert "{{" not in notes["summary"]
        assert notes["description"].endswith(".")


def matched(expression: str) -> Iterator[dict[str, str]]:
    """What each selector of an expression wants labels to be equal to."""
    for selector in selectors(promql_parser.parse(expression)):
        yield {
            matcher.name: matcher.value
            for matcher in selector.matchers.matchers
            if matcher.op == promql_parser.MatchOp.Equal
        }


def test_the_alerts_look_at_the_pods_of_their_release_only() -> None:
    wide = {"prometheusRule": {"enabled": True, "renderMode": "alwaysRender", "namespace": "seen"}}
    made = charts.render(wide, release="gates", namespace="team-a")
    (group,) = charts.only(made, "PrometheusRule")["spec"]["groups"]
    for alert in group["rules"]:
        found = list(matched(alert["expr"]))
        assert found
        for labels in found:
            assert labels["job"] == "gates-workflow-resumer", alert["alert"]
            assert labels["namespace"] == "team-a", alert["alert"]


def test_the_alerts_without_helm_look_at_all_namespaces_and_tell_which_one_it_is() -> None:
    assert {rule["alert"] for rule in rules_of_all()} == set(monitoring.alerts())
    for rule in rules_of_all():
        assert all(
            labels["job"] == "resumer" and "namespace" not in labels
            for labels in matched(rule["expr"])
        )
        told = [
            one
            for one in parts(promql_parser.parse(rule["expr"]))
            if isinstance(one, promql_parser.AggregateExpr)
        ]
        assert told, rule["alert"]
        for one in told:
            assert one.modifier is not None, rule["alert"]
            assert "namespace" in one.modifier.labels, rule["alert"]


def test_the_runbooks_can_be_somewhere_else() -> None:
    where = "https://wiki.example.com/resumer"
    values = {
        "prometheusRule": {"enabled": True, "renderMode": "alwaysRender", "runbookURL": where}
    }
    (group,) = charts.only(charts.render(values), "PrometheusRule")["spec"]["groups"]
    assert {one["annotations"]["runbook_url"].split("#")[0] for one in group["rules"]} == {where}


def test_the_dashboard_works_with_any_data_source_and_any_release() -> None:
    found = monitoring.dashboard()
    assert found["uid"] == "resumer"
    assert {one["name"] for one in found["templating"]["list"]} == {
        "datasource",
        "job",
        "namespace",
        "stage",
    }
    for one in found["annotations"]["list"]:
        assert one["datasource"]["uid"] == "${datasource}"
    for panel in monitoring.panels():
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            of_the_release = 'job=~"$job", namespace=~"$namespace"'
            assert target["expr"].count("job=~") == target["expr"].count(of_the_release) > 0


def test_every_panel_has_a_place_of_its_own_and_says_what_it_tells() -> None:
    panels = monitoring.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in monitoring.panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_every_panel_of_what_has_a_stage_obeys_the_choice_of_a_stage() -> None:
    """And no other one does: what has no stage would show nothing once a stage is chosen."""
    for panel in monitoring.panels():
        for _, query in monitoring.queries(panel, {**_GRAFANA, "stage": "chosen"}):
            for selector in selectors(promql_parser.parse(query)):
                obeys = [one for one in selector.matchers.matchers if one.value == "chosen"]
                has_one = "stage" in SHOWN.get(str(selector.name), set())
                assert bool(obeys) == has_one, f"{panel['title']}: {selector.name}"


def test_the_dashboard_shows_every_metric_of_the_operator() -> None:
    asked = " ".join(query for where, query in expressions() if where not in monitoring.alerts())
    assert [row.name for row in catalog.METRICS if row.name not in asked] == []


def test_the_dashboard_shows_each_age_that_requests_have() -> None:
    (panel,) = [one for one in monitoring.panels() if one["title"] == "Waiting requests by age"]
    assert [target["legendFormat"] for target in panel["targets"]] == list(_AGES)
    (row,) = [one for one in catalog.METRICS if one.name == "resumer_unfinished_requests"]
    assert [age for age in _AGES if f"`{age}`" not in row.help] == []


def test_what_kustomize_installs_is_what_the_chart_makes() -> None:
    for file, text in monitoring.written().items():
        assert file.read_text() == text, f"{file}: run make chart"


def test_grafana_finds_the_dashboard_by_its_label() -> None:
    metadata = charts.only(monitoring.objects(), "ConfigMap", "resumer-dashboard")["metadata"]
    assert metadata["labels"]["grafana_dashboard"] == "1"
    assert metadata["annotations"] == {"grafana_folder": "Argo"}
    assert metadata["namespace"] == "monitoring"
