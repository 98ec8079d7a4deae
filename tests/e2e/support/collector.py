"""An OpenTelemetry collector, as far as an exporter sees it: it takes OTLP over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.server
import threading
from collections.abc import Iterator, Mapping, Sequence

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.e2e.support import waiting

_HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One span, as it was received.

    Attributes:
        trace: id of its trace
        id: its own
        parent: its parent's, or empty
        kind: as SPAN_KIND_CLIENT, without the prefix
        began: nanoseconds since 1970
        ended: the same
        failed: whether its status is an error
        links: ids of the spans that it is linked to
        resource: attributes of who sent it
    """

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    began: int
    ended: int
    attributes: Mapping[str, object]
    failed: bool
    links: Sequence[str]
    resource: Mapping[str, object]


class Collector:
    """A running one; `running` makes it.

    Attributes:
        url: what OTEL_EXPORTER_OTLP_ENDPOINT has to be
        status: what it answers; nothing is kept unless that is 200
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._asked = 0
        self._go_on = threading.Event()
        self._go_on.set()
        self.status = 200
        self._server = http.server.ThreadingHTTPServer((_HOST, 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{_HOST}:{self._server.server_address[1]}"

    def spans(self, **attributes: object) -> list[Span]:
        """What has come so far, by when it began; only those with these attributes.

        In their names a double underscore stands for the dot.
        """
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}.items()
        with self._lock:
            found = [one for one in self._spans if wanted <= one.attributes.items()]
        return sorted(found, key=lambda one: one.began)

    def trace(self, request_uid: str) -> list[Span]:
        """The whole trace of a WorkflowResume, as soon as its end was exported."""
        waiting.eventually(
            lambda: self.spans(resumer__request__uid=request_uid),
            lambda: f"no span of {request_uid} among {[one.name for one in self.spans()]}",
        )
        (top,) = self.spans(resumer__request__uid=request_uid)
        return [one for one in self.spans() if one.trace == top.trace]

    @property
    def asked(self) -> int:
        """How many calls began so far, those that hang too."""
        with self._lock:
            return self._asked

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections, and answers only at the end."""
        self._go_on.clear()
        try:
            yield
        finally:
            self._go_on.set()

    def serve(self) -> None:
        """Until `close`."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Ends it; its port is free then, and refuses."""
        self._go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, body: bytes) -> int:
        with self._lock:
            self._asked += 1
        self._go_on.wait()
        if path != "/v1/traces":
            return 404
        if self.status == 200:
            request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
            with self._lock:
                self._spans += list(_spans(request))
        return self.status

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        take = self._take

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                with contextlib.suppress(OSError):  # it has hung up
                    self.send_response(take(self.path, body))
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler


@contextlib.contextmanager
def running() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve, name="collector", daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.close()
        thread.join()


def _spans(request: trace_service_pb2.ExportTraceServiceRequest) -> Iterator[Span]:
    for sender in request.resource_spans:
        resource = _plain(sender.resource.attributes)
        for scope in sender.scope_spans:
            for one in scope.spans:
                yield Span(
                    trace=one.trace_id.hex(),
                    id=one.span_id.hex(),
                    parent=one.parent_span_id.hex(),
                    name=one.name,
                    kind=trace_pb2.Span.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_"),
                    began=one.start_time_unix_nano,
                    ended=one.end_time_unix_nano,
                    attributes=_plain(one.attributes),
                    failed=one.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    links=[link.span_id.hex() for link in one.links],
                    resource=resource,
                )


def _plain(attributes: Sequence[common_pb2.KeyValue]) -> dict[str, object]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in attributes
    }
