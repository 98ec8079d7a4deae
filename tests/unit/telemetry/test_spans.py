"""The spans of a request: one trace over all passes and processes, and no word too many in it."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import threading
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import test_utils, web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, export, sampling
from opentelemetry.sdk.trace.export import in_memory_span_exporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from resumer import errors
from resumer.api import constants
from resumer.api.base import ObjectMeta
from resumer.api.outcomes import Reason
from resumer.core.observation import NOTHING, End
from resumer.telemetry import spans, tracing
from tests import builders, fakes

EVENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The context of an event, sampled."""
UNSAMPLED = f"{EVENT[:-2]}00"
PATH = "/apis/argoproj.io/v1alpha1/namespaces/team-a/workflows/play"
TEMPLATE = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows/{name}"
DONE = End(Reason.GATE_OPENED, "opened 'wait', and a secret that stood somewhere")
WAITS = End(Reason.GATE_NOT_OPEN, "not yet")


class Process:
    """One life of the operator, as far as it traces."""

    def __init__(
        self, clock: fakes.FakeClock | None = None, sampler: sampling.Sampler | None = None
    ) -> None:
        self.clock = clock or fakes.FakeClock(builders.NOW)
        self.exported = in_memory_span_exporter.InMemorySpanExporter()
        ids = spans.Ids()
        provider = TracerProvider(
            id_generator=ids, sampler=sampler or sampling.DEFAULT_ON, shutdown_on_exit=False
        )
        provider.add_span_processor(export.SimpleSpanProcessor(self.exported))
        tracer = provider.get_tracer("test")
        self.traces = spans.Spans(tracer, ids, self.clock, provider.shutdown)
        self.as_port: tracing.Traces = self.traces

    def named(self, name: str) -> list[ReadableSpan]:
        """What was exported under a name."""
        return [one for one in self.exported.get_finished_spans() if one.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only one of this name."""
        (found,) = self.named(name)
        return found


class Api:
    """An API server that answers with one status, and remembers what it was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.headers: list[str | None] = []

    async def call(self, process: Process, path: str = PATH) -> None:
        """A call of the operator."""
        async with (
            aiohttp.ClientSession(trace_configs=list(process.traces.hooks())) as session,
            session.patch(f"{self.url}{path}?labelSelector=secret") as answer,
        ):
            assert answer.status == self.status

    async def answer(self, request: web.Request) -> web.Response:
        """What it does with each call."""
        self.headers.append(request.headers.get("traceparent"))
        return web.Response(status=self.status)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server on a free port."""
    made = Api("")
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.answer)
    async with test_utils.TestServer(application) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


def request(event: str = "", state: str = "") -> ObjectMeta:
    """The metadata of a WorkflowResume."""
    annotations = {constants.TRACEPARENT: event, constants.TRACESTATE: state}
    return ObjectMeta(
        name="wake",
        namespace="team-a",
        uid="062ec1a5-4f32-4e2e-86a7-53e421b5206d",
        creation_timestamp=builders.NOW,
        annotations={key: value for key, value in annotations.items() if value},
    )


async def resume(process: Process, api: Api, metadata: ObjectMeta, *, first: bool = True) -> None:
    """A pass that resumes: two calls, a second each."""
    with process.traces.reconcile(metadata, metadata.creation_timestamp, first=first):
        for _ in range(2):
            process.clock.advance(1)
            await api.call(process)
        process.traces.found(NOTHING, DONE)
        process.traces.ended()


def hexes(span: ReadableSpan) -> tuple[str, str, str]:
    """The ids of a span's trace, of its parent and its own."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return f"{span.context.trace_id:032x}", parent, f"{span.context.span_id:016x}"


async def test_a_pass_that_resumes_is_one_trace_from_the_creation_on(api: Api) -> None:
    process = Process()
    process.clock.advance(5)
    await resume(process, api, request())

    whole, intake, look = (process.one(name) for name in (spans.REQUEST, spans.INTAKE, "reconcile"))
    calls = process.named(f"PATCH {TEMPLATE}")
    trace, above, top = hexes(whole)
    assert above == ""
    assert {hexes(one)[0] for one in (intake, look, *calls)} == {trace}
    assert [hexes(one)[1] for one in (intake, look)] == [top, top]
    assert [hexes(one)[1] for one in calls] == [hexes(look)[2]] * 2
    born = int(builders.NOW.timestamp()) * 10**9
    times = [(one.start_time, one.end_time) for one in (whole, intake, look)]
    assert [((a or 0) - born, (b or 0) - born) for a, b in times] == [
        (0, 7 * 10**9),
        (0, 5 * 10**9),
        (5 * 10**9, 7 * 10**9),
    ]


async def test_the_spans_say_what_a_pass_came_to_in_words_of_closed_sets(api: Api) -> None:
    process = Process()
    await resume(process, api, request())

    (call, _) = process.named(f"PATCH {TEMPLATE}")
    port = int(api.url.rpartition(":")[2])
    assert dict(call.attributes or {}) == {
        "http.request.method": "PATCH",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{api.url}{PATH}",
        "url.template": TEMPLATE,
    }
    assert call.kind is SpanKind.CLIENT
    whole = process.one(spans.REQUEST)
    assert dict(whole.attributes or {}) == {
        "k8s.namespace.name": "team-a",
        "resumer.request.name": "wake",
        "resumer.request.uid": "062ec1a5-4f32-4e2e-86a7-53e421b5206d",
        "resumer.outcome": "Resumed",
        "resumer.reason": "GateOpened",
    }
    assert whole.kind is SpanKind.CONSUMER
    assert whole.status.status_code is StatusCode.UNSET
    exported = process.exported.get_finished_spans()
    assert "secret" not in "".join(one.to_json() for one in exported)


async def test_a_request_that_waits_goes_on_in_the_same_trace_in_another_process(api: Api) -> None:
    before, after = Process(), Process()
    with before.traces.reconcile(request(), builders.NOW, first=True):
        await api.call(before)
        before.traces.found(NOTHING, WAITS)
    assert before.named(spans.REQUEST) == []
    await resume(after, api, request(), first=False)

    trace, _, top = hexes(after.one(spans.REQUEST))
    assert [hexes(process.one("reconcile"))[:2] for process in (before, after)] == [
        (trace, top),
        (trace, top),
    ]
    assert len(before.named(spans.INTAKE)) == 1
    assert after.named(spans.INTAKE) == []


async def test_a_pass_that_changed_nothing_and_called_nobody_is_not_exported() -> None:
    process = Process()
    with process.traces.reconcile(request(), builders.NOW, first=True):
        process.traces.found(NOTHING, WAITS)
    assert process.exported.get_finished_spans() == ()


async def test_a_pass_that_failed_is_exported_and_says_how() -> None:
    process = Process()
    with (
        pytest.raises(errors.TransientError),
        process.traces.reconcile(request(), builders.NOW, first=True),
    ):
        raise errors.TransientError("the answer quoted a secret", status=503)
    look = process.one("reconcile")
    assert look.status.status_code is StatusCode.ERROR
    assert (look.attributes or {})["error.type"] == "TransientError"
    assert "secret" not in look.to_json()


@pytest.mark.parametrize("reason", [Reason.TASK_MISMATCH, Reason.API_UNAVAILABLE])
async def test_an_outcome_that_somebody_has_to_look_at_is_an_error(
    api: Api, reason: Reason
) -> None:
    process = Process()
    with process.traces.reconcile(request(), builders.NOW, first=False):
        await api.call(process)
        process.traces.found(NOTHING, End(reason, ""))
    look = process.one("reconcile")
    assert look.status.status_code is StatusCode.ERROR
    assert (look.attributes or {})["error.type"] == str(reason)


async def test_a_call_that_is_refused_or_broken_is_an_error(api: Api) -> None:
    process, api.status = Process(), 422
    with process.traces.reconcile(request(), builders.NOW, first=False):
        await api.call(process)
        api.url = "http://127.0.0.1:1"
        with pytest.raises(aiohttp.ClientError):
            await api.call(process)
    found = [dict(one.attributes or {}) for one in process.named(f"PATCH {TEMPLATE}")]
    assert [one["error.type"] for one in found] == ["422", "ClientConnectorError"]
    assert [one.get("http.response.status_code") for one in found] == [422, None]


async def test_what_is_called_for_no_request_leaves_no_span(api: Api) -> None:
    """Watches, leases and Events; and what a task does that a pass has left behind."""
    process = Process()
    await api.call(process)
    with process.traces.reconcile(request(), builders.NOW, first=False):
        left = asyncio.create_task(asyncio.sleep(0))
        left_calling = asyncio.create_task(_after(left, api.call(process)))
    await left_calling
    process.traces.found(NOTHING, DONE)
    process.traces.ended()
    assert process.exported.get_finished_spans() == ()
    assert process.traces.exemplar() is None


async def _after(first: asyncio.Task[None], then: object) -> None:
    await first
    assert asyncio.iscoroutine(then)
    await then


async def test_the_event_is_the_parent_of_the_trace_and_linked(api: Api) -> None:
    process = Process()
    await resume(process, api, request(EVENT, "vendor=1"))
    whole = process.one(spans.REQUEST)
    assert hexes(whole)[:2] == (EVENT.split("-")[1], EVENT.split("-")[2])
    assert [f"{link.context.span_id:016x}" for link in whole.links] == [EVENT.split("-")[2]]
    assert whole.context is not None
    assert whole.context.trace_state.to_header() == "vendor=1"
    calls = [hexes(one)[2] for one in process.named(f"PATCH {TEMPLATE}")]
    assert [(one or "").split("-")[1:3] for one in api.headers] == [
        [EVENT.split("-")[1], call] for call in calls
    ]


async def test_an_event_that_is_not_sampled_is_not_exported_and_stands_in_logs(api: Api) -> None:
    process = Process()
    with process.traces.reconcile(request(UNSAMPLED), builders.NOW, first=True) as ids:
        await api.call(process)
        process.traces.found(NOTHING, DONE)
        process.traces.ended()
        assert process.traces.exemplar() is None
    assert process.exported.get_finished_spans() == ()
    assert (ids["trace_id"], ids["trace_flags"]) == (UNSAMPLED.split("-")[1], "00")


async def test_two_requests_of_one_event_are_two_branches_of_one_trace(api: Api) -> None:
    process = Process()
    for uid in ("one", "two"):
        await resume(process, api, request(EVENT).model_copy(update={"uid": uid}))
    one, two = map(hexes, process.named(spans.REQUEST))
    assert one[:2] == two[:2]
    assert one[2] != two[2]


def test_log_lines_and_exemplars_name_the_pass() -> None:
    process = Process()
    with process.traces.reconcile(request(EVENT), builders.NOW, first=True) as ids:
        shown = process.traces.exemplar()
    assert ids["trace_id"] == EVENT.split("-")[1]
    assert shown == {name: ids[name] for name in ("trace_id", "span_id")}
    # What Prometheus takes at most.
    assert sum(len(name) + len(value) for name, value in shown.items()) <= 128


def test_the_id_of_a_trace_can_be_computed_from_the_uid_as_the_page_says() -> None:
    uid = request().uid
    page = (pathlib.Path(__file__).parents[3] / "docs" / "tracing.md").read_text()
    assert "sha256sum | cut -c1-32" in page
    assert f"{spans.trace_id(uid):032x}" == hashlib.sha256(uid.encode()).hexdigest()[:32]


def test_a_share_of_the_traces_is_a_share_of_the_requests() -> None:
    """A uid's own bytes would not do: the last eight of all of them begin with the same bits."""
    half = sampling.TraceIdRatioBased(0.5)
    uids = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(1000)]
    taken = [half.should_sample(None, spans.trace_id(uid), "").decision for uid in uids]
    assert 400 < taken.count(sampling.Decision.RECORD_AND_SAMPLE) < 600


@pytest.mark.parametrize(
    "event",
    [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        EVENT.upper(),
        f"{EVENT}-more",
        "x" * 100_000,
        "{{traceparent}}",
    ],
)
async def test_a_traceparent_that_is_none_is_ignored(event: str, api: Api) -> None:
    process = Process()
    with capture_logs() as lines:
        await resume(process, api, request(event))
    # Whoever looks for it finds it, without what somebody wrote there.
    assert [(one["log_level"], one["workflowresume"]) for one in lines] == [("debug", "wake")]
    assert event not in str(lines)
    whole = process.one(spans.REQUEST)
    assert hexes(whole)[:2] == (f"{spans.trace_id(request().uid):032x}", "")
    assert whole.links == ()


@given(event=st.one_of(st.text(), st.from_regex(r"[0-9a-f-]{40,60}")), state=st.text())
def test_nothing_in_an_annotation_fails_a_pass(event: str, state: str) -> None:
    process = Process()
    for parent in (event, EVENT):
        with process.traces.reconcile(request(parent, state), builders.NOW, first=True) as ids:
            assert len(ids["trace_id"]) == 32


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PATH, TEMPLATE),
        (f"{PATH}/status", f"{TEMPLATE}/status"),
        ("/api/v1/namespaces/a/events", "/api/v1/namespaces/{namespace}/events"),
        ("/api/v1/namespaces/a", "/api/v1/namespaces/{name}"),
        ("/apis/argoproj.io/v1alpha1/workflows", "/apis/argoproj.io/v1alpha1/workflows"),
        ("/apis/argoproj.io/v1alpha1", "/apis/argoproj.io/v1alpha1"),
        ("/version", "/version"),
        ("", ""),
    ],
)
def test_a_path_is_told_without_names(path: str, expected: str) -> None:
    assert spans.template(path) == expected


async def test_a_collector_that_hangs_does_not_hold_up_the_end() -> None:
    hangs = threading.Event()
    clock = fakes.FakeClock(builders.NOW)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    traces = spans.Spans(tracer, spans.Ids(), clock, lambda: print(hangs.wait()))
    try:
        await traces.close(0.05)
        assert not hangs.is_set()
    finally:
        hangs.set()


async def test_times_never_run_backwards_though_the_clock_is_put_right(api: Api) -> None:
    process = Process()
    with process.traces.reconcile(request(), builders.NOW + timedelta(hours=1), first=True):
        await api.call(process)
        process.traces.found(NOTHING, DONE)
        process.traces.ended()
        process.clock.advance(-30)
    for one in process.exported.get_finished_spans():
        assert (one.start_time or 0) <= (one.end_time or 0), one.name
