"""The life of one operator process: connect, listen, watch, work; at SIGTERM the same backwards.

The queue starts when the watches stand: what existed at the start is known by then, so that
catching up costs no reads. Ending, it first stops to watch, then lets running reconciles end, and
what is cut off is found again by the next process: every step of a resume can be the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import structlog

import resumer
from resumer import errors, factory
from resumer.adapters import kinds
from resumer.adapters.clock import SystemClock
from resumer.adapters.connection import Connection
from resumer.adapters.watches import WatchActivity
from resumer.handlers import embedding, watching
from resumer.settings import Settings
from resumer.telemetry import health
from resumer.telemetry.metrics import Metrics
from resumer.telemetry.server import Server

_POLL = 0.02
"""Seconds between two looks whether the watches stand."""
_KINDS_INTERVAL = 1.0
"""Seconds between two looks whether all kinds are installed."""
_SETTLED = 3
"""Looks without a new object after which the first lists count as taken in."""

_log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Runs the operator until it is told to stop.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 if it could not go on.
    """
    return asyncio.run(_operate(settings))


async def _operate(settings: Settings) -> int:
    clock = SystemClock()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    activity = WatchActivity(
        watching.WATCHED, namespaces=settings.namespaces, now=clock.monotonic()
    )
    connection = await Connection.open(
        clock, activity, kubeconfig=settings.kubeconfig, context=settings.context
    )
    metrics = Metrics(watch_ages=lambda: activity.ages(clock.monotonic()))
    services = factory.build(settings, connection, clock, metrics)
    ready = asyncio.Event()
    try:
        async with _server(settings, metrics, activity, clock, ready):
            _log.info(
                "starting",
                version=resumer.__version__,
                server=connection.server,
                namespaces=settings.namespaces,
            )
            if not await _kinds_are_served(services, stop):
                return 0
            return await _work(settings, connection, services, stop, ready)
    finally:
        await services.events.close()
        await connection.close()


async def _kinds_are_served(services: factory.Services, stop: asyncio.Event) -> bool:
    """Waits until all watched kinds are installed; False if told to stop before."""
    told: str = ""
    while not stop.is_set():
        try:
            awaited = await kinds.missing(services.client, watching.WATCHED)
            problem = f"not installed: {', '.join(sorted(awaited))}" if awaited else ""
        except errors.ApiError as error:
            problem = str(error)
        if not problem:
            return True
        if problem != told:
            _log.warning("waiting for the kinds to watch", problem=problem)
            told = problem
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _KINDS_INTERVAL)
    return False


async def _work(
    settings: Settings,
    connection: Connection,
    services: factory.Services,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> int:
    services.events.start()
    watches = asyncio.create_task(
        embedding.watch(settings, connection, services, stop), name="watches"
    )
    others = [
        asyncio.create_task(
            _start_queue(services, connection.watches, ready), name="start of the queue"
        ),
        asyncio.create_task(services.cleaner.run(), name="cleaner"),
    ]
    code = 0
    try:
        await watches
    except Exception:  # noqa: BLE001  whatever ends the watches ends the process, in order
        _log.exception("the watches ended")
        code = 1
    for task in others:
        task.cancel()
    _log.info("stopping")
    if not await services.queue.drain(settings.drain_seconds):
        _log.warning("running reconciles were cut off; the next process picks them up")
    return code


async def _start_queue(
    services: factory.Services, activity: WatchActivity, ready: asyncio.Event
) -> None:
    """Starts the queue once every watch stands and all objects of the first lists are in."""
    known, quiet = -1, 0
    while quiet < _SETTLED:
        await asyncio.sleep(_POLL)
        count = len(services.stores.workflows) + len(services.stores.requests)
        quiet = quiet + 1 if count == known and not activity.missing() else 0
        known = count
    services.queue.start()
    ready.set()
    _log.info(
        "ready", workflows=len(services.stores.workflows), requests=len(services.stores.requests)
    )


@contextlib.asynccontextmanager
async def _server(
    settings: Settings,
    metrics: Metrics,
    activity: WatchActivity,
    clock: SystemClock,
    ready: asyncio.Event,
) -> AsyncIterator[None]:
    if settings.metrics_port is None:
        yield
        return
    server = Server(
        registry=metrics.registry,
        healthy=lambda: health.fresh(activity.ages(clock.monotonic()), settings.stale_seconds),
        ready=lambda: health.complete({"workflows and requests": ready.is_set()}),
        host=settings.metrics_host,
        port=settings.metrics_port,
    )
    await server.start()
    _log.info("serving metrics and health", port=server.port)
    try:
        yield
    finally:
        await server.stop()
