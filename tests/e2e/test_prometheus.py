"""A real Prometheus scrapes the operator under traffic: every alert and panel gets its answer.

The traffic comes twice, as a rate is of what follows the first sample. What a panel is asked is
what Grafana would ask, its variables filled in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.charts import monitoring
from tests.charts.charts import Json
from tests.e2e.support import faults, manifests, prometheus, rig, waiting
from tests.e2e.support.home import Home
from tests.e2e.support.prometheus import Prometheus
from tests.e2e.support.rig import Rig

pytestmark = pytest.mark.timeout(300)

STAGES = ("review", "qa")
SICK = "sick"
ROUNDS = ("first", "second")

GRAFANA = {
    "datasource": "prometheus",
    "job": "resumer|another",
    "namespace": ".*",
    "stage": ".*",
    "__rate_interval": "1m",
    "__interval": "15s",
    "__range": "1h",
}
"""What Grafana would put for the variables."""

_YOUNG = "no request of a test is a minute old"
_MAYBE_ZERO = "Waiting requests by age 1m-5m"
"""On a slow machine a request that waits may have come to that age."""
_ZERO = {
    _MAYBE_ZERO: _YOUNG,
    "Waiting requests by age 5m-15m": _YOUNG,
    "Waiting requests by age 15m-1h": _YOUNG,
    "Waiting requests by age 1h-6h": _YOUNG,
    "Waiting requests by age 6h-1d": _YOUNG,
    "Waiting requests by age over-1d": _YOUNG,
}
"""The queries that rightly tell 0 and nothing else, and why."""


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig.running(home, tmp_path_factory.mktemp("watched")) as started:
        yield started


@pytest.fixture(scope="module")
def watched(
    plant: Rig, built_monitoring: None, built_helm: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has seen the operator at work on all kinds of requests."""
    port = plant.operator.wait_logged("serving metrics and health")["port"]
    labels = {"job": monitoring.JOB, "pod": "resumer-a", "namespace": monitoring.NAMESPACE}
    with prometheus.running(
        tmp_path_factory.mktemp("prometheus"), {f"127.0.0.1:{port}": labels}, quick(groups())
    ) as started:
        for stage in STAGES:
            plant.policy(stage)
        breaker = {"failureThreshold": 1, "openSeconds": 2}
        plant.policy(SICK, retry={"maxAttempts": 1}, circuitBreaker=breaker)
        for one in ROUNDS:
            bring_traffic(plant, one)
            # The next round is what makes it a rate: this one has to have been scraped.
            started.wait_for(f"timestamp(up) > {time.time():.3f} and up == 1")
        yield started


def groups() -> list[Json]:
    return monitoring.groups()


def quick(groups: list[Json]) -> list[Json]:
    """The same rules, without patience for breakers."""
    return [
        {
            **group,
            "rules": [
                {**rule, "for": "1s"} if rule["alert"] == "ResumerBreakerOpen" else rule
                for rule in group["rules"]
            ],
        }
        for group in groups
    ]


def bring_traffic(plant: Rig, prefix: str) -> None:
    """Whatever may happen to requests."""
    home, proxy = plant.home, plant.proxy
    for stage in STAGES:
        names = plant.at_gates(stage, 4, f"{prefix}-{stage}")
        resumed, stumbling, refused, broken = names
        early = f"{prefix}-{stage}-early"
        home.ask(plant.request(early, stage))
        home.came_to(early, Reason.WORKFLOW_NOT_FOUND)
        # Resumed, at the first attempt or at the second one, in time or early, and once more.
        proxy.on("PATCH", rf"/workflows/{stumbling}$", faults.answer(503))
        proxy.on("PATCH", rf"/workflows/{resumed}$", faults.answer(429, retry_after=0))
        proxy.on("PATCH", rf"/workflowresumes/{resumed}/status$", faults.answer(500))
        proxy.on("POST", "/events$", faults.answer(500), times=2)
        home.ask(*(plant.request(name, stage) for name in (resumed, stumbling)))
        home.cluster.create(plant.workflow(early, stage), home.namespace)
        for name in (resumed, stumbling, early):
            plant.resumed_once(name)
        home.ask(plant.request(f"{resumed}-again", stage, task=resumed))
        home.came_to(f"{resumed}-again", Reason.STAGE_ALREADY_RESUMED)
        # Refused, too late, and for good.
        rules = [manifests.rule("current-stage", "equals", "another")]
        home.ask(
            plant.request(refused, stage, rules=rules),
            plant.request(f"{prefix}-{stage}-expires", stage, deadlineSeconds=1),
        )
        home.came_to(refused, Reason.RULE_FAILED)
        home.came_to(f"{prefix}-{stage}-expires", Reason.DEADLINE_EXCEEDED)
        proxy.on("PATCH", rf"/workflows/{broken}$", faults.answer(403))
        home.ask(plant.request(broken, stage))
        home.came_to(broken, Reason.FORBIDDEN)
        home.ask(plant.request(f"{prefix}-{stage}-waits", stage))
        home.came_to(f"{prefix}-{stage}-waits", Reason.WORKFLOW_NOT_FOUND)
    (name,) = plant.at_gates(SICK, 1, f"{prefix}-{SICK}")
    with proxy.on("PATCH", rf"/workflows/{name}$", faults.answer(503), times=None):
        home.ask(plant.request(name, SICK))
        home.came_to(name, Reason.RETRIES_EXHAUSTED)
        plant.breaker_in(SICK, "Open")


def asked() -> Iterator[tuple[str, Json, Json, str]]:
    """The name of each query of the dashboard, its panel, its target, and what is asked."""
    for panel in monitoring.panels():
        for target, query in monitoring.queries(panel, GRAFANA):
            several = len(panel["targets"]) > 1
            name = f"{panel['title']} {target['legendFormat']}" if several else panel["title"]
            yield name, panel, target, query


def test_the_breaker_alert_fires_and_names_the_stage(watched: Prometheus, plant: Rig) -> None:
    alert = 'alertname="ResumerBreakerOpen", alertstate="firing", severity="warning"'
    stage = f'workflow_namespace="{plant.home.namespace}", stage="{SICK}"'
    watched.wait_for(f"ALERTS{{{alert}, {stage}}}")
    (rule,) = [one for one in watched.rules() if one["name"] == "ResumerBreakerOpen"]
    (fired,) = rule["alerts"]
    assert fired["annotations"]["description"] == (
        f"Writes for the stage {SICK} in the namespace {plant.home.namespace} failed; its requests "
        "are held back. The breaker stays open until a request of the stage succeeds or it is "
        "deleted."
    )


def test_requests_that_failed_fire_and_what_works_does_not(watched: Prometheus) -> None:
    for stage in STAGES:
        watched.wait_for(
            f'ALERTS{{alertname="ResumerRequestsFailed", alertstate="firing", stage="{stage}"}}'
        )
    well = {"ResumerDown", "ResumerLeaderMissing", "ResumerWatchStale", "ResumerRequestsStuck"}

    def states() -> dict[str, str]:
        return {one["name"]: one["state"] for one in watched.rules() if one["name"] in well}

    # On a slow machine a scrape may be late; then the next one is not.
    waiting.eventually(lambda: states() == dict.fromkeys(well, "inactive"), lambda: f"{states()}")


def test_every_alert_is_evaluated_without_an_error(watched: Prometheus) -> None:
    wanted = {(name, "ok", "") for name in monitoring.alerts()}

    def evaluated() -> set[tuple[str, str, str]]:
        return {(one["name"], one["health"], one.get("lastError", "")) for one in watched.rules()}

    waiting.eventually(lambda: evaluated() == wanted, lambda: f"{evaluated()}")
    for rule in watched.rules():
        watched.query(rule["query"])


def test_every_query_of_the_dashboard_has_an_answer(watched: Prometheus) -> None:
    empty, zero = [], []
    for name, _, target, query in asked():
        found = watched.query(query) if target["instant"] else watched.history(query)
        numbers = prometheus.values(found)
        if not numbers:
            empty.append(name)
        elif not any(numbers):
            zero.append(name)
    assert empty == []
    assert {*zero, _MAYBE_ZERO} == set(_ZERO)


def test_no_variable_is_left_in_what_is_asked() -> None:
    for name, _, _, query in asked():
        assert "$" not in query, name


def test_the_variables_of_the_dashboard_have_values(watched: Prometheus) -> None:
    """`label_values` asks for the values of a label of some series; as Grafana does it."""
    for one in monitoring.dashboard()["templating"]["list"]:
        if one["type"] == "query":
            inner = one["query"]["query"].removeprefix("label_values(").removesuffix(")")
            series, _, label = inner.rpartition(", ")
            found = watched.query(f"count by ({label}) ({monitoring.filled(series, GRAFANA)})")
            assert {row["metric"].get(label) for row in found} - {None}, one["name"]


def test_the_starts_of_pods_can_be_asked_for(watched: Prometheus) -> None:
    for one in monitoring.dashboard()["annotations"]["list"]:
        assert watched.history(monitoring.filled(one["expr"], GRAFANA)) == []


def test_series_are_told_apart_by_the_namespace_of_the_workflows(
    watched: Prometheus, plant: Rig
) -> None:
    """The namespace of the operator's pod is a label that Prometheus gives, and stays as it is."""
    (found,) = watched.query(f'resumer_breaker_state{{stage="{SICK}", state="Open"}}')
    assert found["metric"]["namespace"] == monitoring.NAMESPACE
    assert found["metric"]["workflow_namespace"] == plant.home.namespace
    assert not [name for name in found["metric"] if name.startswith("exported_")]
