"""Each WorkflowResume is one trace in a collector, whatever happens to the operator meanwhile.

And whatever happens to the collector, the operator resumes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence

import pytest

from resumer.api import constants
from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.e2e.support import collector, manifests, process, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.collector import Collector, Span
from tests.e2e.support.home import RESUME, Home

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ARGO = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}"
WRITES = [f"PATCH {ARGO}/workflows/{{name}}", f"PATCH {ARGO}/workflowresumes/{{name}}/status"]
"""The last two calls for a request that resumes."""
SECRET = "what-only-the-event-may-say"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Collector]:
    """The collector of the module's operator."""
    with collector.running() as started:
        yield started


@pytest.fixture(scope="module")
def operator(
    home: Home, receiver: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[process.Operator]:
    """An operator that traces."""
    log = tmp_path_factory.mktemp("traces") / "operator.log"
    with process.running(
        home.account(),
        log,
        [home.namespace],
        options=["--tracing"],
        env=sending_to(receiver.url),
    ) as started:
        yield started


def sending_to(url: str, **variables: str) -> Mapping[str, str]:
    """The environment of an operator that sends its spans soon."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **variables,
    }


def event() -> tuple[str, str]:
    """The ids of a trace and a span of somebody else, of whom the event comes."""
    return secrets.token_hex(16), secrets.token_hex(8)


def caused_by(request: manifests.Json, traceparent: str) -> manifests.Json:
    """A request whose event brought a trace."""
    request["metadata"]["annotations"] = {constants.TRACEPARENT: traceparent}
    return request


def uid(home: Home, name: str) -> str:
    """Of a WorkflowResume."""
    return str(home.cluster.get(RESUME, name, home.namespace)["metadata"]["uid"])


def below(spans: Sequence[Span], parent: Span) -> list[str]:
    """The names of the children of a span, by when they began."""
    return [one.name for one in spans if one.parent == parent.id]


def top(spans: Sequence[Span]) -> Span:
    """The span of the whole request; the passes are its children, the calls are the passes'."""
    (found,) = (one for one in spans if one.name == "WorkflowResume")
    looks = {one.id for one in passes(spans)}
    for one in spans:
        if one is not found:
            assert one.parent in looks if one.kind == "CLIENT" else one.parent == found.id, spans
    return found


def writes(spans: Sequence[Span]) -> list[str]:
    """The names of the calls that write, by when they began."""
    return [one.name for one in spans if one.kind == "CLIENT" and not one.name.startswith("GET")]


def passes(spans: Sequence[Span]) -> list[Span]:
    """Those of the passes."""
    return [one for one in spans if one.name == "reconcile"]


def test_an_event_that_brings_a_trace_is_followed_to_the_open_gate(
    home: Home, operator: process.Operator, receiver: Collector, task: str
) -> None:
    trace, parent = event()
    home.submit(manifests.workflow("brought", task=task))
    request = manifests.resume("brought", task=task, event={"label": SECRET})
    home.ask(caused_by(request, f"00-{trace}-{parent}-01"))
    status = home.resumed("brought")

    spans = receiver.trace(uid(home, "brought"))
    whole, last = top(spans), passes(spans)[-1]
    assert (whole.trace, whole.parent, whole.links) == (trace, parent, [parent])
    assert below(spans, whole).count("intake") == 1
    assert set(below(spans, whole)) == {"intake", "reconcile"}
    assert writes(spans)[-2:] == WRITES
    about = {
        "resumer.outcome": "Resumed",
        "resumer.reason": "GateOpened",
        "resumer.stage": manifests.PR_CREATED,
        "resumer.workflow.name": "brought",
        "resumer.workflow.uid": status["workflow"]["uid"],
    }
    assert about.items() <= whole.attributes.items()
    assert about.items() <= last.attributes.items()
    assert not any(one.failed for one in (whole, last))
    for one in spans:
        assert SECRET not in str(one)
        assert one.resource["service.name"] == "resumer"
        assert one.began <= one.ended, one.name


def test_metrics_and_log_lines_lead_to_the_trace(
    home: Home, operator: process.Operator, receiver: Collector, task: str
) -> None:
    home.submit(manifests.workflow("shown", task=task, stage=manifests.READY_FOR_QA))
    home.ask(manifests.resume("shown", task=task, event_type="pr-labeled-ready"))
    home.resumed("shown")
    spans = receiver.trace(uid(home, "shown"))
    whole, last = top(spans), passes(spans)[-1]

    line = operator.wait_logged("decided", workflowresume="shown", outcome="Resumed")
    assert (line["trace_id"], line["span_id"]) == (whole.trace, last.id)
    _, page = operator.get("/metrics", OPENMETRICS)
    exemplars = [
        line
        for line in page.splitlines()
        if line.startswith("resumer_resume_latency_seconds_bucket")
        and f'stage="{manifests.READY_FOR_QA}"' in line
        and f'trace_id="{whole.trace}"' in line
        and f'span_id="{last.id}"' in line
    ]
    assert len(exemplars) == 1, page
    assert "trace_id" not in operator.get("/metrics")[1]


def test_an_event_that_is_not_sampled_is_not_sent(
    home: Home, operator: process.Operator, receiver: Collector, task: str
) -> None:
    trace, parent = event()
    for name, flags in (("unsampled", "00"), ("sampled", "01")):
        home.submit(manifests.workflow(name, task=f"{task}-{name}"))
        request = manifests.resume(name, task=f"{task}-{name}")
        home.ask(caused_by(request, f"00-{trace}-{parent}-{flags}"))
        home.resumed(name)
    spans = receiver.trace(uid(home, "sampled"))
    assert {one.attributes.get("resumer.request.name") for one in spans} == {None, "sampled"}
    assert receiver.spans(resumer__request__name="unsampled") == []
    line = operator.wait_logged("decided", workflowresume="unsampled", outcome="Resumed")
    assert line["trace_id"] == trace


def test_a_traceparent_that_is_none_changes_nothing(
    home: Home, operator: process.Operator, receiver: Collector, task: str
) -> None:
    home.submit(manifests.workflow("odd", task=task))
    home.ask(caused_by(manifests.resume("odd", task=task), "{{traceparent}}\n" * 1000))
    home.resumed("odd")
    assert top(receiver.trace(uid(home, "odd"))).parent == ""


def test_a_refusal_is_an_error_that_names_its_reason_and_quotes_nothing(
    home: Home, operator: process.Operator, receiver: Collector, task: str
) -> None:
    home.submit(manifests.workflow("refusing", task=task))
    rule = manifests.rule("labelName", "equals", "wanted")
    request = manifests.resume("refused", task=task, event={"labelName": SECRET}, rules=[rule])
    home.ask(request)
    home.came_to("refused", Reason.RULE_FAILED)
    spans = receiver.trace(uid(home, "refused"))
    whole = top(spans)
    assert whole.failed
    assert whole.attributes["error.type"] == "RuleFailed"
    assert SECRET not in str(spans)


def test_a_request_that_outlives_its_operator_is_one_trace(
    cluster: client.Cluster, receiver: Collector, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It comes early; the operator is killed; the next one sees the gate open."""
    logs, env = tmp_path_factory.mktemp("killed"), sending_to(receiver.url)
    with homes.new(cluster) as home:
        arguments = (home.account(), logs / "first.log", [home.namespace])
        first = process.start(*arguments, options=["--tracing"], env=env)
        try:
            first.wait_logged("ready", process.START_TIMEOUT)
            home.ask(manifests.resume("early"))
            home.came_to("early", Reason.WORKFLOW_NOT_FOUND)
            told = first.wait_logged("decided", workflowresume="early", outcome="Waiting")
            waiting.eventually(
                lambda: any(one.id == told["span_id"] for one in receiver.spans()),
                lambda: f"no span {told['span_id']}; {first.tail()}",
            )
        finally:
            first.kill()
        arguments = (home.account(), logs / "second.log", [home.namespace])
        with process.running(*arguments, options=["--tracing"], env=env) as second:
            home.cluster.create(manifests.workflow("late"), home.namespace)
            home.resumed("early")
            decided = second.wait_logged("decided", workflowresume="early", outcome="Resumed")
        spans = receiver.trace(uid(home, "early"))

    whole = top(spans)
    assert {told["trace_id"], decided["trace_id"]} == {whole.trace}
    found = {one.id: one.attributes.get("resumer.outcome") for one in passes(spans)}
    assert found[told["span_id"]] == "Waiting"
    assert found[decided["span_id"]] == "Resumed"
    assert below(spans, whole).count("intake") == 1
    assert writes(spans)[-2:] == WRITES


@pytest.mark.parametrize("how", ["hangs", "is down"])
def test_a_collector_that_takes_nothing_holds_up_no_resume_and_no_end(
    cluster: client.Cluster, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    """More spans come than are kept, and the operator ends in time all the same."""
    log = tmp_path_factory.mktemp("lost") / "operator.log"
    names = [f"untaken-{number}" for number in range(8)]
    with homes.new(cluster) as home, collector.running() as receiver, receiver.hanging():
        if how == "is down":
            receiver.close()
        few = sending_to(
            receiver.url,
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
            OTEL_EXPORTER_OTLP_TIMEOUT="1" if how == "is down" else "60",
        )
        arguments = (home.account(), log, [home.namespace])
        with process.running(*arguments, options=["--tracing"], env=few) as operator:
            for name in names:
                home.cluster.create(manifests.workflow(name, task=name), home.namespace)
            home.ask(*(manifests.resume(name, task=name) for name in names))
            for name in names:
                home.resumed(name)
            if how == "hangs":
                operator.wait_logged("Queue full, dropping Span.")
                waiting.eventually(lambda: receiver.asked, operator.tail)
                assert receiver.spans() == []
            else:
                operator.wait_logged("traces cannot be exported")
        # Here it has ended with 0 within `process.STOP_TIMEOUT`.
        if how == "hangs":
            said = [line["event"] for line in operator.log()]
            assert "the last traces were not taken in time" in said
