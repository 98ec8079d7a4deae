"""Traces, or none: where they are switched off, nothing of OpenTelemetry is imported.

What is in a trace, and how it survives restarts, is in `resumer.telemetry.spans`; where it is sent,
in `resumer.telemetry.otlp`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import aiohttp

from resumer import errors, ports
from resumer.api.base import ObjectMeta
from resumer.core.observation import End, Facts


class Traces(ports.Tracing, Protocol):
    """The traces of one process."""

    def hooks(self) -> Sequence[aiohttp.TraceConfig]:
        """What a session needs so that its calls are seen."""

    def exemplar(self) -> dict[str, str] | None:
        """The ids of the pass under way, if it will be exported."""

    async def close(self, seconds: float) -> None:
        """Exports what is left, for so many seconds at most."""


class Untraced:
    """Implements `Traces` by doing nothing."""

    def __init__(self) -> None:
        self._pass: contextlib.nullcontext[Mapping[str, str]] = contextlib.nullcontext({})

    def reconcile(
        self, metadata: ObjectMeta, created: datetime | None, *, first: bool
    ) -> contextlib.nullcontext[Mapping[str, str]]:
        """A pass that nobody sees."""
        del metadata, created, first
        return self._pass

    def found(self, facts: Facts, end: End) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Nothing."""

    def hooks(self) -> Sequence[aiohttp.TraceConfig]:
        """None."""
        return ()

    def exemplar(self) -> dict[str, str] | None:
        """None."""
        return None

    async def close(self, seconds: float) -> None:
        """There is nothing left."""


def begin(wanted: bool, clock: ports.Clock) -> Traces:
    """The traces of this process, or what stands for none.

    Args:
        wanted: Whether to trace.
        clock: Gives the times.

    Raises:
        SettingsError: What is needed is not installed, or the environment says what cannot be.
    """
    if not wanted:
        return Untraced()
    try:
        from resumer.telemetry import otlp  # noqa: PLC0415 - an extra, and a third of a second
    except ImportError as error:
        raise errors.SettingsError(
            "tracing",
            f"a package that it needs is not installed ({error}): "
            "install Resumer with its extra `otel`",
        ) from error
    return otlp.begin(clock)
