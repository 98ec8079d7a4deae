"""The spans of a WorkflowResume: one trace, from its creation to its outcome.

    WorkflowResume              from its creation until its outcome is recorded
      intake                    until the first pass began
      reconcile                 one pass: what it came to, and for which workflow
        PATCH /apis/...         a call to the API server, named as OpenTelemetry names HTTP calls
      reconcile                 the pass when the gate opens, an hour later, by another process

A request may wait for days, and the operator may be replaced meanwhile, so nothing is kept in
memory between two passes. The ids of the trace and of its first span are made from the request's
uid. Each pass makes that span anew, as the parent of its own, and drops it; the pass that has
recorded a final outcome ends it, and only what is ended is exported. A span that was lost with a
killed process is not made again.

A pass that changed nothing and called nobody is dropped, too: each change of its workflow wakes a
request that waits.

The context that an event brings in an annotation becomes the parent of the trace, so that both are
one, and is linked as well: OpenTelemetry's conventions for messaging ask for the link, and allow
the parent where one message is processed for itself, as it is here. What cannot be read is ignored.

Spans hold names, ids and words of closed sets. They hold no message, for that may quote what was
found in an event or a workflow.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace

import aiohttp
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import id_generator
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import tracecontext

from resumer import ports
from resumer.api import constants
from resumer.api.base import ObjectMeta
from resumer.api.outcomes import Outcome, Phase
from resumer.core.observation import End, Facts

REQUEST = "WorkflowResume"
"""The name of the span of a whole request."""
INTAKE = "intake"
"""The name of the span from the creation to the first pass."""
RECONCILE = "reconcile"
"""The name of the span of a pass."""

_TEXT_LIMIT = 512
"""Characters of an annotation that are looked at: W3C demands that many of a ``tracestate``."""

_log = structlog.get_logger(__name__)
_propagator = tracecontext.TraceContextTextMapPropagator()


class Ids(id_generator.RandomIdGenerator):
    """Chance, but for the next span where its ids are given."""

    def __init__(self) -> None:
        self._trace = self._span = 0

    @contextlib.contextmanager
    def given(self, uid: str, name: str) -> Iterator[None]:
        """The span that is started inside has the ids that belong to a uid and a name."""
        self._trace, self._span = trace_id(uid), span_id(uid, name)
        try:
            yield
        finally:
            self._trace = self._span = 0

    def generate_trace_id(self) -> int:
        """Asked for where a span has no parent."""
        return self._trace or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Asked for each span."""
        return self._span or super().generate_span_id()


def trace_id(uid: str) -> int:
    """The trace of a request whose event brought none.

    A digest, not the uid itself: samplers go by the last eight bytes, which must be any with the
    same chance, and those of a uid all begin alike.
    """
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:16]) or 1


def span_id(uid: str, name: str) -> int:
    """The span of this name that a request has but one of."""
    return int.from_bytes(hashlib.sha256(f"{uid} {name}".encode()).digest()[:8]) or 1


def brought(annotations: Mapping[str, str]) -> SpanContext | None:
    """The context of the event, from the annotations of its request; None if there is none.

    Whoever creates a request writes them, so they may hold anything.
    """
    parent = annotations.get(constants.TRACEPARENT, "")
    state = annotations.get(constants.TRACESTATE, "")
    if not 0 < len(parent) <= _TEXT_LIMIT:
        return None
    carrier = {"traceparent": parent, "tracestate": state if len(state) <= _TEXT_LIMIT else ""}
    found = trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    return found if found.is_valid else None


def template(path: str) -> str:
    """The path of a call with names replaced by what they name, as ``url.template`` has it."""
    parts = path.split("/")
    # /api/v1 or /apis/GROUP/VERSION, perhaps a namespace, the resource, perhaps a name and more.
    at = 3 if path.startswith("/api/") else 4
    if parts[at : at + 1] == ["namespaces"] and len(parts) > at + 2:
        parts[at + 1] = "{namespace}"
        at += 2
    if len(parts) > at + 1:
        parts[at + 1] = "{name}"
    return "/".join(parts)


@dataclass(slots=True)
class _Pass:
    """The pass under way."""

    request: Span
    span: Span
    calls: int = 0
    """Calls that were made in it."""
    decided: bool = False
    """Whether it came to something that is recorded."""
    last: bool = False
    """Whether it has recorded the end of the request."""
    over: bool = False


_under_way: ContextVar[_Pass | None] = ContextVar("pass", default=None)


class Spans:
    """Implements `resumer.telemetry.tracing.Traces`."""

    def __init__(
        self, tracer: trace.Tracer, ids: Ids, clock: ports.Clock, end: Callable[[], None]
    ) -> None:
        """Traces nothing yet.

        Args:
            tracer: Makes the spans.
            ids: Gives them their ids.
            clock: Gives their times, which are the API server's.
            end: Exports what is left, and may hang.
        """
        self._tracer = tracer
        self._ids = ids
        self._clock = clock
        self._end = end

    @contextlib.contextmanager
    def reconcile(
        self, metadata: ObjectMeta, created: datetime | None, *, first: bool
    ) -> Iterator[Mapping[str, str]]:
        """One pass over a request."""
        began = _nanoseconds(self._clock.now())
        born = min(began, _nanoseconds(created)) if created else began
        request = self._request(metadata, born)
        within = trace.set_span_in_context(request, Context())
        span = self._tracer.start_span(RECONCILE, within, start_time=began)
        current = _Pass(request, span)
        token = _under_way.set(current)
        failed = False
        try:
            yield _for_logs(span.get_span_context())
        except BaseException as error:
            failed = True
            _mark(span, type(error).__name__)
            raise
        finally:
            _under_way.reset(token)
            current.over = True
            if current.calls or failed:
                now = self._since(began)
                if first and current.decided and not failed:
                    with self._ids.given(metadata.uid, INTAKE):
                        way = self._tracer.start_span(INTAKE, within, start_time=born)
                    way.end(began)
                span.end(now)
                if current.last:
                    request.end(now)

    def found(self, facts: Facts, end: End) -> None:
        """What the pass under way came to."""
        current = _under_way.get()
        if current is None:
            return
        current.decided = True
        if not current.span.is_recording():
            return
        outcome = end.reason.outcome
        about = _about(facts, end)
        for span in (current.span, current.request):
            span.set_attributes(about)
            if outcome.phase is Phase.FAILED or outcome is Outcome.BACKING_OFF:
                _mark(span, str(end.reason))

    def ended(self) -> None:
        """The end of the request is recorded."""
        current = _under_way.get()
        if current is not None:
            current.last = True

    def exemplar(self) -> dict[str, str] | None:
        """The ids of the pass under way, if it will be exported."""
        current = _under_way.get()
        if current is None:
            return None
        context = current.span.get_span_context()
        if not context.trace_flags.sampled:
            return None
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    def hooks(self) -> Sequence[aiohttp.TraceConfig]:
        """What a session needs so that its calls are seen."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._call_begins)
        config.on_request_end.append(self._call_ends)
        config.on_request_exception.append(self._call_fails)
        return (config,)

    async def close(self, seconds: float) -> None:
        """Exports what is left, for so many seconds at most; what then remains is lost."""
        # A thread that ends with the process: a collector that hangs must not hold it.
        last = threading.Thread(target=self._end, name="last-traces", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, seconds)
        if last.is_alive():
            _log.warning("the last traces were not taken in time", seconds=seconds)

    def _request(self, metadata: ObjectMeta, born: int) -> Span:
        """The span of the whole request, which is dropped unless this pass is the last one."""
        context, links = Context(), []
        if event := brought(metadata.annotations):
            context = trace.set_span_in_context(trace.NonRecordingSpan(event), context)
            links.append(Link(event))
        elif metadata.annotations.get(constants.TRACEPARENT):
            _log.debug(
                "traceparent ignored: not as W3C Trace Context has it",
                annotation=constants.TRACEPARENT,
                namespace=metadata.namespace,
                workflowresume=metadata.name,
            )
        about = {
            "k8s.namespace.name": metadata.namespace,
            "resumer.request.name": metadata.name,
            "resumer.request.uid": metadata.uid,
        }
        with self._ids.given(metadata.uid, REQUEST):
            return self._tracer.start_span(
                REQUEST, context, SpanKind.CONSUMER, about, links, start_time=born
            )

    async def _call_begins(
        self,
        _: aiohttp.ClientSession,
        call: SimpleNamespace,
        sent: aiohttp.TraceRequestStartParams,
    ) -> None:
        current = _under_way.get()
        if current is None or current.over:
            return  # a watch, a lease, an Event: not for one request
        current.calls += 1
        named = template(sent.url.path)
        context = trace.set_span_in_context(current.span, Context())
        call.began = _nanoseconds(self._clock.now())
        span = call.span = self._tracer.start_span(
            f"{sent.method} {named}",
            context,
            SpanKind.CLIENT,
            {
                "http.request.method": sent.method,
                "server.address": sent.url.host or "",
                "server.port": sent.url.port or 0,
                # Without its query: a selector may say more than a name.
                "url.full": str(sent.url.with_query(None).with_user(None)),
                "url.template": named,
            },
            start_time=call.began,
        )
        # An API server that traces may go on from here.
        _propagator.inject(sent.headers, trace.set_span_in_context(span, Context()))

    async def _call_ends(
        self, _: aiohttp.ClientSession, call: SimpleNamespace, got: aiohttp.TraceRequestEndParams
    ) -> None:
        span = getattr(call, "span", None)
        if span is not None:
            status = got.response.status
            span.set_attribute("http.response.status_code", status)
            if status >= 400:
                _mark(span, str(status))
            span.end(self._since(call.began))

    async def _call_fails(
        self,
        _: aiohttp.ClientSession,
        call: SimpleNamespace,
        got: aiohttp.TraceRequestExceptionParams,
    ) -> None:
        span = getattr(call, "span", None)
        if span is not None:
            _mark(span, type(got.exception).__name__)
            span.end(self._since(call.began))

    def _since(self, began: int) -> int:
        """The time; not before something began, although the clock may be put right meanwhile."""
        return max(began, _nanoseconds(self._clock.now()))


def _about(facts: Facts, end: End) -> dict[str, str]:
    found = {"resumer.outcome": str(end.reason.outcome), "resumer.reason": str(end.reason)}
    if facts.stage.name:
        found["resumer.stage"] = facts.stage.name
    if facts.policy.name:
        found["resumer.policy"] = facts.policy.name
    if facts.workflow is not None:
        found["resumer.workflow.name"] = facts.workflow.key.name
        found["resumer.workflow.uid"] = facts.workflow.uid
    return found


def _mark(span: Span, what: str) -> None:
    """Says that it failed, by a word that others can count."""
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", what)


def _for_logs(context: SpanContext) -> Mapping[str, str]:
    """The fields of a log line, as OpenTelemetry names them outside of its own protocol."""
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
        "trace_flags": f"{context.trace_flags:02x}",
    }


def _nanoseconds(moment: datetime) -> int:
    """Since 1970, as spans count."""
    return int(moment.timestamp() * 1_000_000) * 1_000
