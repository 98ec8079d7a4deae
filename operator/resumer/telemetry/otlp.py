"""Where traces are sent: OTLP over HTTP, set up by the variables that OpenTelemetry defines.

A collector that is down, slow or hangs costs the traces and nothing else. Spans are handed to a
thread over a queue that holds 2048 and drops what is too much (``OTEL_BSP_...``); the SDK gives
each batch ten seconds (``OTEL_EXPORTER_OTLP_TIMEOUT``), and the thread ends with the process. That
traces are lost is told once, and once that they are not any more.
"""

from __future__ import annotations

import logging
import os
import platform
import urllib.parse
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk import resources, trace
from opentelemetry.sdk.trace import export

import resumer
from resumer import errors, ports
from resumer.telemetry import redaction, spans

PROTOCOL = "http/protobuf"
"""The one that is spoken."""

_PARSERS = "opentelemetry.trace"
_SIGNAL = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
"""What the names of the exporter's variables begin with: the first one that is set wins."""

_log = structlog.get_logger(__name__)


def begin(clock: ports.Clock) -> spans.Spans:
    """Traces to where the environment says; connects to nothing yet.

    Args:
        clock: Gives the times.

    Raises:
        SettingsError: A variable says what cannot be.
    """
    # It warns of each annotation that it cannot read, and users write those.
    logging.getLogger(_PARSERS).setLevel(logging.ERROR)
    ids = spans.Ids()
    try:
        _check_variables()
        provider = trace.TracerProvider(
            id_generator=ids, resource=resource(), shutdown_on_exit=False
        )
        exporter = TellingExporter(trace_exporter.OTLPSpanExporter())
        provider.add_span_processor(export.BatchSpanProcessor(exporter))
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        raise errors.SettingsError("tracing", f"a variable OTEL_... is wrong: {error}") from error
    _log.info("tracing", endpoint=_endpoint(), sampler=provider.sampler.get_description())
    tracer = provider.get_tracer("resumer", resumer.__version__)
    return spans.Spans(tracer, ids, clock, provider.shutdown)


class TellingExporter(export.SpanExporter):
    """Passes spans on to another exporter, and says in a line each that it fails or is well again.

    The SDK's exporter writes some lines for each batch that fails, which is one every few seconds.
    """

    def __init__(self, exporter: export.SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._words = _LastWords()
        loud = logging.getLogger(type(exporter).__module__)
        loud.handlers, loud.propagate = [self._words], False
        loud.setLevel(logging.WARNING)

    def export(self, batch: Sequence[trace.ReadableSpan]) -> export.SpanExportResult:
        """Called in the thread of the exporter, a batch after the other."""
        self._words.clear()
        result = self._exporter.export(batch)
        if result is not export.SpanExportResult.SUCCESS:
            if not self._lost:
                _log.warning(
                    "traces cannot be exported", endpoint=_endpoint(), error=self._words.text()
                )
            self._lost += len(batch)
        elif self._lost:
            _log.info("traces are exported again", lost_spans=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Ends the other one."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """It keeps nothing."""
        return self._exporter.force_flush(timeout_millis)


class _LastWords(logging.Handler):
    """Keeps the last two messages of a logger: what went wrong, and that it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages = [*self._messages[-1:], record.getMessage()]

    def clear(self) -> None:
        """Forgets them."""
        self._messages = []

    def text(self) -> str:
        """Both."""
        return " ".join(self._messages)


def _check_variables() -> None:
    protocol = _set("PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        raise errors.SettingsError(
            "tracing",
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: only {PROTOCOL!r} is spoken, which a "
            "collector takes on port 4318",
        )
    url = urllib.parse.urlsplit(_endpoint())
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
        raise errors.SettingsError(
            "tracing",
            f"OTEL_EXPORTER_OTLP_ENDPOINT is {redaction.text(_endpoint())!r}: it has to be an "
            "http or https URL, as http://collector:4318",
        )


def _endpoint() -> str:
    return _set("ENDPOINT") or "http://localhost:4318"


def _set(name: str) -> str:
    """A variable of the exporter; "" where it is not set."""
    return next((value for prefix in _SIGNAL if (value := os.environ.get(prefix + name))), "")


def resource() -> resources.Resource:
    """Who traces; the variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = {
        resources.SERVICE_NAME: "resumer",
        resources.SERVICE_VERSION: resumer.__version__,
        resources.SERVICE_INSTANCE_ID: os.environ.get("POD_NAME") or platform.node(),
    }
    said = resources.OTELResourceDetector().detect().attributes
    return resources.Resource.create({**ours, **said})
