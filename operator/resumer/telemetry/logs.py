"""Log lines: structlog for our own, and one door for everybody else's.

Every line, from this package or from kopf, aiohttp or the interpreter, leaves through one handler
on standard error, as one JSON object (or one line for a person), cleaned by
`resumer.telemetry.redaction`. What a reconcile binds as structlog's context variables stands on
every line written inside of it, also on those of libraries.

Libraries are heard from warnings upwards only: at debug level kopf and the Kubernetes client write
whole objects and answers, which may hold what nobody should read in a log.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from resumer import settings
from resumer.telemetry import redaction

ROOT = "resumer"
"""The logger above all of ours; the level that a user sets is the level of this one."""

_OURS = frozenset({"timestamp", "level", "logger"})
_FIRST = ("timestamp", "level", "event", "logger")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_TRACE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Logger(Protocol):
    """What our modules do with a logger.

    Values are plain data; no payload, no secret, no whole object.
    """

    def debug(self, event: str, **values: object) -> None:
        """Says what only somebody who looks for a fault wants to know."""

    def info(self, event: str, **values: object) -> None:
        """Says what happened, once for each outcome."""

    def warning(self, event: str, **values: object) -> None:
        """Says what somebody should know, though it goes on."""

    def error(self, event: str, **values: object) -> None:
        """Says what failed and will not mend itself."""

    def exception(self, event: str, **values: object) -> None:
        """The same inside an ``except``, with the exception and where it came from."""


def get(name: str) -> Logger:
    """The logger of a module, by its ``__name__``; may be asked for before `configure`."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def configure(
    log_format: settings.LogFormat, log_level: settings.LogLevel, stream: TextIO | None = None
) -> None:
    """Sets up all logging of this process; a second call replaces the first.

    Args:
        log_format: How a line is written.
        log_level: The least important lines of ours that are written.
        stream: Where to; standard error if None. Colours are used only if it is a terminal.
    """
    stream = stream or sys.stderr
    ours: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *ours,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*ours, _name_object],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _clean,
                *_renderers(log_format, stream),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger(ROOT).setLevel(log_level.upper())
    # At debug, kopf's watches and its shutdown may be followed, but never its objects.
    kopf = logging.INFO if log_level is settings.LogLevel.DEBUG else logging.WARNING
    logging.getLogger("kopf").setLevel(kopf)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)


def _renderers(log_format: settings.LogFormat, stream: TextIO) -> list[Processor]:
    match log_format:
        case settings.LogFormat.JSON:
            return [_order, structlog.processors.JSONRenderer(serializer=_as_json)]
        case settings.LogFormat.CONSOLE:
            return [
                _escape,
                structlog.dev.ConsoleRenderer(
                    colors=stream.isatty(),
                    exception_formatter=structlog.dev.plain_traceback,
                    sort_keys=False,
                ),
            ]


def _name_object(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Names the object that a line of kopf is about, in our words; kopf hangs it on the record."""
    reference = getattr(event.get("_record"), "k8s_ref", None)
    if isinstance(reference, Mapping):
        for key in ("kind", "namespace", "name"):
            if reference.get(key):
                event.setdefault(key, reference[key])
    return event


def _clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    cleaned: MutableMapping[str, Any] = {}
    for key, value in event.items():
        if key in _OURS:
            cleaned[key] = value
        elif key == "exception":
            cleaned[key] = redaction.exception(str(value))
        else:
            cleaned[key] = redaction.clean(key, value)
    return cleaned


def _order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The same fields first on every line, so that a person who reads raw JSON finds them."""
    first = {key: event.pop(key) for key in _FIRST if key in event}
    return {**first, **event}


def _as_json(event: EventDict, **_: object) -> str:
    # ASCII only: whatever a user put into a value, the line is one line, and no terminal obeys it.
    return json.dumps(event, ensure_ascii=True, allow_nan=False, default=str)


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Makes control characters visible: no value may forge a line or steer a terminal."""
    return {key: _visible(value, multiline=key == "exception") for key, value in event.items()}


def _visible(value: object, *, multiline: bool = False) -> object:
    if isinstance(value, str):
        pattern = _CONTROL_IN_TRACE if multiline else _CONTROL
        return pattern.sub(lambda found: ascii(found.group())[1:-1], value)
    return value
