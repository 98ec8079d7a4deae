"""Traces are sent where the environment says, and what cannot be is said in one line."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import ReadableSpan, export
from structlog.testing import capture_logs

import resumer
from resumer import errors, telemetry
from resumer.api.base import ObjectMeta
from resumer.telemetry import otlp, tracing
from tests import builders, fakes

CLOCK = fakes.FakeClock(builders.NOW)
SUCCESS, FAILURE = export.SpanExportResult.SUCCESS, export.SpanExportResult.FAILURE


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the machine counts, and loggers are as they were afterwards."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    structlog.reset_defaults()
    known = [logging.getLogger(name) for name in (trace_exporter.__name__, __name__)]
    before = [(one, one.handlers, one.propagate, one.level) for one in known]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


class Exporter(export.SpanExporter):
    """Answers as it is told, and complains as the SDK's does."""

    def __init__(self) -> None:
        self.answer = SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> export.SpanExportResult:
        if self.answer is FAILURE:
            logging.getLogger(__name__).warning("Transient error %s, retrying", "refused")
            logging.getLogger(__name__).error("given up")
        return self.answer


def test_that_traces_are_lost_is_told_once_and_that_they_are_not_any_more() -> None:
    inner = Exporter()
    told = otlp.TellingExporter(inner)
    batch = [ReadableSpan("one"), ReadableSpan("two")]
    with capture_logs() as lines:
        for answer in (SUCCESS, FAILURE, FAILURE, SUCCESS, SUCCESS):
            inner.answer = answer
            assert told.export(batch) is answer
    assert lines == [
        {
            "event": "traces cannot be exported",
            "log_level": "warning",
            "endpoint": "http://localhost:4318",
            "error": "Transient error refused, retrying given up",
        },
        {"event": "traces are exported again", "log_level": "info", "lost_spans": 4},
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only 'http/protobuf' is spoken"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "only 'http/protobuf' is spoken"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "has to be an http or https URL"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://", "has to be an http or https URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[collector", "OTEL_"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:otlp", "OTEL_"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "max_queue_size"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-5", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
    ],
)
def test_a_variable_that_says_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(errors.SettingsError, match=said) as raised:
        tracing.begin(True, CLOCK)
    assert raised.value.field == "tracing"


def test_the_variables_say_who_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "resumer-0")
    assert dict(otlp.resource().attributes).items() >= {
        ("service.name", "resumer"),
        ("service.version", resumer.__version__),
        ("service.instance.id", "resumer-0"),
    }
    monkeypatch.setenv("OTEL_SERVICE_NAME", "blue")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=prod,service.instance.id=7")
    assert dict(otlp.resource().attributes).items() >= {
        ("service.name", "blue"),
        ("k8s.cluster.name", "prod"),
        ("service.instance.id", "7"),
    }


async def test_traces_that_are_switched_off_by_opentelemetrys_own_switch_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    traces = tracing.begin(True, CLOCK)
    try:
        metadata = ObjectMeta(name="wake", uid="1")
        with traces.reconcile(metadata, builders.NOW, first=True) as ids:
            assert ids == {}
            assert traces.exemplar() is None
    finally:
        await traces.close(10)


def test_a_package_that_is_missing_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "resumer.telemetry.otlp")
    monkeypatch.delattr(telemetry, "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(errors.SettingsError, match=r"opentelemetry.*install Resumer .*`otel`"):
        tracing.begin(True, CLOCK)


async def test_without_traces_a_pass_carries_nothing() -> None:
    traces = tracing.begin(False, CLOCK)
    with traces.reconcile(ObjectMeta(), None, first=True) as ids:
        assert (ids, traces.exemplar(), traces.hooks()) == ({}, None, ())
    await traces.close(1)


def test_an_operator_that_does_not_trace_imports_nothing_of_opentelemetry() -> None:
    look = "import sys, resumer.handlers.operation; print(*sys.modules, sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60
    )
    assert "resumer.telemetry.tracing" in answer.stdout.split()
    assert [name for name in answer.stdout.split() if name.startswith("opentelemetry")] == []
