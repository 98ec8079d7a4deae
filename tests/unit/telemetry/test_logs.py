"""Log lines: one JSON object each, with what was bound, and without what nobody should read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest
import structlog
from kopf._core.actions import loggers

from resumer import settings
from resumer.telemetry import logs, redaction


class Stream(io.StringIO):
    """Standard error, as a file or as a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


Start = Callable[..., Stream]


@pytest.fixture
def start() -> Iterator[Start]:
    """Configures logging into a stream of the test; afterwards all is as it was."""
    names = ["", "kopf", "kopf.objects", logs.ROOT]
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    handlers = logging.getLogger().handlers[:]

    def configure(
        log_format: settings.LogFormat = settings.LogFormat.JSON,
        log_level: settings.LogLevel = settings.LogLevel.INFO,
        *,
        terminal: bool = False,
    ) -> Stream:
        stream = Stream(terminal=terminal)
        logs.configure(log_format, log_level, stream)
        return stream

    yield configure
    for logger, level in before:
        logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_is_one_json_object_with_time_level_event_and_logger_first(start: Start) -> None:
    stream = start()
    logs.get("resumer.services.resuming").info("resumed", stage="review", nodes=["a", "b"])
    (line,) = stream.lines()
    assert list(line) == ["timestamp", "level", "event", "logger", "stage", "nodes"]
    assert line["level"] == "info"
    assert line["event"] == "resumed"
    assert line["logger"] == "resumer.services.resuming"
    assert line["nodes"] == ["a", "b"]
    moment = datetime.datetime.fromisoformat(line["timestamp"])
    assert moment.utcoffset() == datetime.timedelta(0)
    assert line["timestamp"].endswith("Z")


def test_what_is_bound_stands_on_every_line_inside_and_on_none_outside(start: Start) -> None:
    stream = start()
    log = logs.get("resumer.x")
    log.info("before")
    with structlog.contextvars.bound_contextvars(
        correlation_id="uid-1", delivery_id="d-1", namespace="a", workflowresume="r"
    ):
        log.info("inside", stage="review")
        logging.getLogger("some.library").warning("of a %s", "library")
    log.info("after")
    before, inside, library, after = stream.lines()
    for line in (inside, library):
        assert line["correlation_id"] == "uid-1"
        assert line["delivery_id"] == "d-1"
        assert line["namespace"] == "a"
        assert line["workflowresume"] == "r"
    assert library["event"] == "of a library"
    assert "correlation_id" not in before
    assert "correlation_id" not in after


async def test_two_reconciles_at_once_keep_their_ids_apart(start: Start) -> None:
    stream = start()
    both = asyncio.Barrier(2)

    async def reconcile(uid: str) -> None:
        with structlog.contextvars.bound_contextvars(correlation_id=uid):
            await both.wait()
            await asyncio.create_task(write(uid))

    async def write(uid: str) -> None:
        logs.get("resumer.x").info("working", expected=uid)

    await asyncio.wait_for(asyncio.gather(reconcile("a"), reconcile("b")), timeout=10)
    lines = stream.lines()
    assert sorted(line["correlation_id"] for line in lines) == ["a", "b"]
    assert all(line["correlation_id"] == line["expected"] for line in lines)


def test_lines_below_the_level_are_not_written(start: Start) -> None:
    stream = start(log_level=settings.LogLevel.WARNING)
    log = logs.get("resumer.x")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in stream.lines()] == ["yes"]


def test_a_logger_made_before_the_configuration_obeys_it(start: Start) -> None:
    log = logs.get("resumer.early")
    stream = start(log_level=settings.LogLevel.DEBUG)
    log.debug("now")
    assert [line["logger"] for line in stream.lines()] == ["resumer.early"]


def test_a_second_configuration_replaces_the_first(start: Start) -> None:
    first, second = start(), start()
    logs.get("resumer.x").info("once")
    assert first.lines() == []
    assert len(second.lines()) == 1


def test_an_exception_is_a_field_of_one_line(start: Start) -> None:
    stream = start()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logs.get("resumer.x").exception("failed")
        logging.getLogger("asyncio").exception("foreign")
    for line in stream.lines():
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ValueError: first\nsecond")


def test_kopf_is_heard_from_warnings_upwards(start: Start) -> None:
    stream = start()
    logging.getLogger("kopf._core.engines").info("chatter")
    logging.getLogger("kopf._core.engines").warning("trouble")
    assert [line["event"] for line in stream.lines()] == ["trouble"]


@pytest.mark.parametrize("level", settings.LogLevel)
def test_no_level_lets_kopf_write_an_object(start: Start, level: settings.LogLevel) -> None:
    stream = start(log_level=level)
    body = kopf.Body({"metadata": {"name": "x"}, "spec": {"password": "hunter2"}})
    for logger in (logging.getLogger("kopf.objects"), logging.getLogger("kopf._cogs.clients")):
        logger.debug("Merge-patching the resource with: %r", body)
    logging.getLogger("kopf.objects").info("Creation is in progress: %r", body)
    logging.getLogger("kubernetes.aio.client.rest").debug("response body: %r", body)
    assert stream.getvalue() == ""


def test_a_line_of_kopf_about_an_object_names_it_and_tells_no_more(start: Start) -> None:
    stream = start()
    body = kopf.Body(
        {"kind": "WorkflowResume", "metadata": {"name": "r", "namespace": "a"}, "spec": {"x": "y"}}
    )
    about = loggers.LocalObjectLogger(body=body, settings=kopf.OperatorSettings())
    about.error("Handler 'changed' failed.")
    (line,) = stream.lines()
    assert (line["kind"], line["namespace"], line["name"]) == ("WorkflowResume", "a", "r")
    assert set(line) == {"timestamp", "level", "event", "logger", "kind", "namespace", "name"}


def test_a_warning_of_python_is_a_line(start: Start) -> None:
    stream = start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = stream.lines()
    assert line["logger"] == "py.warnings"
    assert "UserWarning: old" in line["event"]


def test_a_long_value_is_cut_and_says_how_long_it_was(start: Start) -> None:
    stream = start()
    logs.get("resumer.x").info("y" * 3000, value="x" * 100_000, values=["z" * 2000] * 100)
    (line,) = stream.lines()
    assert line["value"] == "x" * redaction.TEXT_LIMIT + "... (100000 characters)"
    assert line["event"] == "y" * redaction.TEXT_LIMIT + "... (3000 characters)"
    assert len(line["values"]) == redaction.ITEM_LIMIT + 1
    assert line["values"][-1] == "... (100 entries)"


@pytest.mark.parametrize("log_format", settings.LogFormat)
@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\n{}", "\x1b[31mred", "\x9b31m", "\x00", "\u2028", "\u202etxt", "\ud800", "\x7f"],
    ids=ascii,
)
def test_no_value_forges_a_line_or_steers_a_terminal(
    start: Start, log_format: settings.LogFormat, text: str
) -> None:
    stream = start(log_format)
    logs.get("resumer.x").info(text, value=text, values=[text], nested={text: text})
    written = stream.getvalue()
    assert written.endswith("\n")
    (line,) = written[:-1].split("\n")
    assert line.isprintable()
    assert line.encode()


@pytest.mark.parametrize("log_format", settings.LogFormat)
def test_a_secret_is_written_under_no_name(start: Start, log_format: settings.LogFormat) -> None:
    stream = start(log_format)
    log = logs.get("resumer.x")
    log.info("of ours", token="hunter2", nested={"deep": [{"Authorization": "hunter2"}]})
    with structlog.contextvars.bound_contextvars(githubEvent={"a": "hunter2"}):
        log.info("bound")
    log.info("in a text: Authorization: Bearer hunter2hunter2")
    with contextlib.suppress(RuntimeError):
        try:
            raise RuntimeError("https://user:hunter2@host/")
        except RuntimeError:
            log.exception("failed")
            raise
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count(redaction.HIDDEN) >= 5


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
def test_the_console_is_coloured_on_a_terminal_only(start: Start, terminal: bool) -> None:
    stream = start(settings.LogFormat.CONSOLE, terminal=terminal)
    with structlog.contextvars.bound_contextvars(correlation_id="uid-1"):
        logs.get("resumer.x").info("resumed", stage="review")
    assert ("\x1b[" in stream.getvalue()) is terminal
    assert "resumed" in stream.getvalue()
    assert "uid-1" in stream.getvalue()


def test_what_json_cannot_say_becomes_text(start: Start) -> None:
    stream = start()
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    logs.get("resumer.x").info("odd", at=at, nan=float("nan"), some={1}, key={(1, 2): None})
    (line,) = stream.lines()
    assert line["at"] == "2026-01-01 00:00:00+00:00"
    assert line["nan"] == "nan"
    assert line["some"] == [1]
    assert line["key"] == {"(1, 2)": None}
