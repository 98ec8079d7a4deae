"""Metrics: each appears under its name with its labels, and no user can make more of them."""

from __future__ import annotations

import re

import prometheus_client as prometheus
import pytest
from prometheus_client import parser

import resumer
from resumer import ports
from resumer.telemetry import catalog, metrics


def value(counted: metrics.Metrics, name: str, **labels: str) -> float | None:
    return counted.registry.get_sample_value(name, labels)


def series(counted: metrics.Metrics, name: str) -> list[dict[str, str]]:
    return [
        sample.labels
        for family in counted.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]


def use_all(counted: metrics.Metrics) -> None:
    counted.decided("review", "Rejected", "TaskMismatch")
    counted.attempted("review", "Done")
    counted.resumed("review", 2.0, 0.5)
    counted.breaker_changed("team-a", "review", "Closed", "Open")
    counted.queue_changed(1, 2, 3)
    counted.reconciled(0.02, "TransientError")
    counted.event_dropped()
    counted.leading(True)
    counted.called("patch", "200", 0.02)
    counted.call_held("write", 0.2)
    counted.call_turned_away()
    counted.show_known(lambda: {"workflows": 1})
    counted.show_unfinished(lambda: {("review", "Waiting", "0-1m"): 1})


def test_it_is_what_the_services_ask_for() -> None:
    telemetry: ports.Telemetry = metrics.Metrics()
    telemetry.decided("review", "Resumed", "GateOpened")


def test_what_is_exposed_and_what_is_described_are_the_same() -> None:
    counted = metrics.Metrics(lambda: {"workflows": 1.0})
    use_all(counted)
    text = prometheus.generate_latest(counted.registry).decode()
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in parser.text_string_to_metric_families(text)
        if family.name.startswith("resumer_")
    }
    described = {row.name: row for row in catalog.METRICS}
    assert set(exposed) == set(described)
    for name, row in described.items():
        assert exposed[name].type == row.kind.value, name
        assert exposed[name].documentation == row.help, name
        for sample in exposed[name].samples:
            assert set(sample.labels) - {"le"} == set(row.labels), name


def test_names_have_the_prefix_and_a_unit_and_a_sentence_of_help() -> None:
    for row in catalog.METRICS:
        assert re.fullmatch(
            r"resumer_([a-z_]+_(total|seconds|info|state|depth|objects|requests)|leader)", row.name
        )
        assert row.help.endswith(".")
        assert bool(row.buckets) is (row.kind is catalog.Kind.HISTOGRAM)
        assert list(row.buckets) == sorted(row.buckets)


def test_requests_are_counted_by_stage_outcome_and_reason() -> None:
    counted = metrics.Metrics()
    counted.decided("review", "Rejected", "TaskMismatch")
    counted.decided("review", "Rejected", "TaskMismatch")
    counted.decided("review", "Resumed", "GateOpened")
    name = "resumer_requests_total"
    assert value(counted, name, stage="review", outcome="Rejected", reason="TaskMismatch") == 2
    assert value(counted, name, stage="review", outcome="Resumed", reason="GateOpened") == 1


@pytest.mark.parametrize(
    ("since_created", "since_open", "latency", "wait", "reaction"),
    [
        pytest.param(2.0, 0.5, 2.0, 1.5, 0.5, id="the gate opened after the request came"),
        pytest.param(0.5, 60.0, 0.5, 0.0, 0.5, id="the gate was open before"),
        pytest.param(-0.5, -0.2, 0.0, 0.0, 0.0, id="the clocks disagree"),
    ],
)
def test_a_resume_is_measured_from_creation_and_from_when_both_were_there(
    since_created: float, since_open: float, latency: float, wait: float, reaction: float
) -> None:
    counted = metrics.Metrics()
    counted.resumed("review", since_created, since_open)
    assert value(counted, "resumer_resume_latency_seconds_sum", stage="review") == latency
    assert value(counted, "resumer_gate_wait_seconds_sum", stage="review") == wait
    assert value(counted, "resumer_reaction_seconds_sum", stage="review") == reaction
    assert value(counted, "resumer_reaction_seconds_count", stage="review") == 1


def test_a_breaker_is_in_exactly_one_state() -> None:
    counted = metrics.Metrics()
    of_stage = {"workflow_namespace": "team-a", "stage": "review"}
    for before, after in [("Closed", "Open"), ("Open", "HalfOpen"), ("HalfOpen", "Closed")]:
        counted.breaker_in_force("team-a", "review", after)
        counted.breaker_changed("team-a", "review", before, after)
        states = {
            state: value(counted, "resumer_breaker_state", **of_stage, state=state)
            for state in metrics.BREAKER_STATES
        }
        assert states == {state: float(state == after) for state in metrics.BREAKER_STATES}
        name = "resumer_breaker_transitions_total"
        assert value(counted, name, **of_stage, to=after) == 1


def test_a_breaker_found_at_the_start_is_shown_and_not_counted() -> None:
    counted = metrics.Metrics()
    counted.breaker_in_force("team-a", "review", "Open")
    counted.breaker_changed("team-a", "review", "Open", "Open")
    assert len(series(counted, "resumer_breaker_state")) == 3
    assert series(counted, "resumer_breaker_transitions_total") == []


def test_a_breaker_that_is_gone_is_shown_no_more_and_gives_its_place_to_another() -> None:
    counted = metrics.Metrics()
    for number in range(metrics.BREAKER_LIMIT):
        counted.breaker_in_force(f"team-{number}", "review", "Closed")
    counted.breaker_changed("team-0", "review", "Closed", "Open")
    for _ in range(2):
        counted.breaker_in_force("team-0", "review", None)
    shown = {found["workflow_namespace"] for found in series(counted, "resumer_breaker_state")}
    assert len(shown) == metrics.BREAKER_LIMIT - 1
    assert "team-0" not in shown
    assert series(counted, "resumer_breaker_transitions_total") == []
    counted.breaker_in_force("new", "", "Open")
    name = "resumer_breaker_state"
    assert value(counted, name, workflow_namespace="new", stage="", state="Open") == 1


def test_the_queue_shows_its_last_depths() -> None:
    counted = metrics.Metrics()
    counted.queue_changed(9, 9, 9)
    counted.queue_changed(1, 2, 3)
    depths = [
        value(counted, "resumer_queue_depth", state=state)
        for state in ("ready", "delayed", "running")
    ]
    assert depths == [1, 2, 3]


def test_a_pass_is_measured_and_only_a_failed_one_counts_as_an_error() -> None:
    counted = metrics.Metrics()
    counted.reconciled(0.25, "")
    counted.reconciled(0.5, "TransientError")
    assert value(counted, "resumer_reconcile_seconds_sum") == 0.75
    assert series(counted, "resumer_reconcile_errors_total") == [{"error": "TransientError"}]


def test_a_dropped_event_is_counted() -> None:
    counted = metrics.Metrics()
    assert value(counted, "resumer_events_dropped_total") == 0
    counted.event_dropped()
    assert value(counted, "resumer_events_dropped_total") == 1


def test_the_age_of_a_watch_is_asked_for_at_each_scrape() -> None:
    ages = {"workflows": 1.0}
    counted = metrics.Metrics(lambda: ages)
    assert value(counted, "resumer_watch_age_seconds", resource="workflows") == 1
    ages["workflows"] = 61.5
    assert value(counted, "resumer_watch_age_seconds", resource="workflows") == 61.5


def test_the_known_objects_are_counted_at_each_scrape() -> None:
    sizes = {"workflows": 2, "requests": 0}
    counted = metrics.Metrics()
    counted.show_known(lambda: sizes)
    assert value(counted, "resumer_known_objects", kind="workflows") == 2
    sizes["workflows"] = 0
    assert value(counted, "resumer_known_objects", kind="workflows") == 0
    assert value(counted, "resumer_known_objects", kind="requests") == 0


def test_calls_are_counted_by_verb_and_answer_and_timed_by_verb() -> None:
    counted = metrics.Metrics()
    counted.called("patch", "200", 0.02)
    counted.called("patch", "409", 0.02)
    counted.called("get", "none", 10)
    assert value(counted, "resumer_api_calls_total", verb="patch", code="409") == 1
    assert value(counted, "resumer_api_calls_total", verb="get", code="none") == 1
    assert value(counted, "resumer_api_call_seconds_count", verb="patch") == 2
    assert value(counted, "resumer_api_call_seconds_sum", verb="get") == 10


def test_what_has_not_finished_is_counted_at_each_scrape() -> None:
    waiting = {("review", "Waiting", "0-1m"): 2}
    counted = metrics.Metrics()
    counted.show_unfinished(lambda: waiting)
    name, labels = "resumer_unfinished_requests", {"stage": "review", "outcome": "Waiting"}
    assert value(counted, name, **labels, age="0-1m") == 2
    waiting.clear()
    assert series(counted, name) == []


def test_stages_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STAGE_LIMIT", 2)
    counted = metrics.Metrics()
    counted.show_unfinished(lambda: {(f"stage-{n}", "Waiting", "0-1m"): n for n in range(1, 5)})
    name = "resumer_unfinished_requests"
    assert value(counted, name, stage="stage-2", outcome="Waiting", age="0-1m") == 2
    assert value(counted, name, stage="other", outcome="Waiting", age="0-1m") == 3 + 4
    assert len(series(counted, name)) == 3


def test_the_build_and_the_process_are_described() -> None:
    counted = metrics.Metrics()
    (labels,) = series(counted, "resumer_build_info")
    assert labels["version"] == resumer.__version__
    text = prometheus.generate_latest(counted.registry).decode()
    assert "process_start_time_seconds" in text
    assert "python_gc_collections_total" in text
    assert "_created" not in text


def test_two_sets_of_metrics_do_not_share_anything() -> None:
    first, second = metrics.Metrics(), metrics.Metrics()
    first.attempted("review", "Done")
    assert series(second, "resumer_attempts_total") == []


def test_stages_without_end_share_one_label() -> None:
    counted = metrics.Metrics()
    for number in range(10 * metrics.STAGE_LIMIT):
        counted.attempted(f"stage-{number}", "Done")
        counted.attempted("stage-0", "Done")
    labels = {found["stage"] for found in series(counted, "resumer_attempts_total")}
    assert len(labels) == metrics.STAGE_LIMIT + 1
    assert "stage-0" in labels
    assert metrics.OTHER in labels
    assert value(counted, "resumer_attempts_total", stage=metrics.OTHER, result="Done") == (
        9 * metrics.STAGE_LIMIT
    )


def test_breakers_without_end_are_counted_together_and_not_shown() -> None:
    counted = metrics.Metrics()
    for number in range(2 * metrics.BREAKER_LIMIT):
        counted.breaker_in_force(f"team-{number}", "review", "Open")
        counted.breaker_changed(f"team-{number}", "review", "Closed", "Open")
    assert len(series(counted, "resumer_breaker_state")) == 3 * metrics.BREAKER_LIMIT
    name = "resumer_breaker_transitions_total"
    others = {"workflow_namespace": metrics.OTHER, "stage": metrics.OTHER}
    together = value(counted, name, **others, to="Open")
    assert together == metrics.BREAKER_LIMIT


@pytest.mark.parametrize("stage", ["", "x" * 64], ids=["none", "longer than a label value"])
def test_what_is_no_name_of_a_stage_has_no_label_of_its_own(stage: str) -> None:
    counted = metrics.Metrics()
    counted.attempted(stage, "Done")
    assert series(counted, "resumer_attempts_total") == [{"stage": metrics.OTHER, "result": "Done"}]


def test_latencies_carry_the_ids_of_a_trace_where_there_is_one() -> None:
    ids = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    shown = [ids, None]
    counted = metrics.Metrics(exemplar=lambda: shown.pop(0))
    for seconds in (0.2, 2.0):
        counted.resumed("review", seconds, seconds)
    found = {
        (sample.name, sample.labels["le"]): sample.exemplar.labels
        for family in counted.registry.collect()
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert found == {
        ("resumer_resume_latency_seconds_bucket", "0.25"): ids,
        ("resumer_gate_wait_seconds_bucket", "0.005"): ids,
        ("resumer_reaction_seconds_bucket", "0.25"): ids,
    }
