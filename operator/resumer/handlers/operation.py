"""The life of one operator process: connect, listen, watch, work; at SIGTERM the same backwards.

The queue starts when the watches stand: what existed at the start is known by then, so that
catching up costs few reads, and those are spread. Ending, it first stops to watch, then lets
running reconciles end, and what is cut off is found again by the next process: every step of a
resume can be the last one.

With an election (`resumer.services.leading`) the process takes part once it has seen all that
exists. Standing by it goes on watching, so that the stores are warm, and writes nothing; the queue
starts when it leads. Its lead lost, it stops at once and ends with 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import structlog

import resumer
from resumer import errors, factory
from resumer.adapters import kinds
from resumer.adapters.clock import SystemClock
from resumer.adapters.connection import Connection
from resumer.adapters.watches import WatchActivity
from resumer.handlers import embedding, watching
from resumer.services.leading import Elector
from resumer.settings import Settings
from resumer.telemetry import health, tracing
from resumer.telemetry.metrics import Metrics
from resumer.telemetry.server import Server

_FRAMES = 20_000
"""How deep the interpreter may go; twice what the deepest object of the API server needs."""
_POLL = 0.02
"""Seconds between two looks whether the watches stand."""
_LAST_TRACES = 1.0
"""Seconds that a collector gets to take the last traces."""
_KINDS_INTERVAL = 1.0
"""Seconds between two looks whether all kinds are installed."""

_log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Runs the operator until it is told to stop.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 if it could not go on.
    """
    # The API server takes JSON of 10,000 levels, and reading it takes a frame for each: one object
    # of 10 KB would end the operator, and each that follows it.
    sys.setrecursionlimit(_FRAMES)
    # Modules stay for good, and each resume makes thousands of short-lived objects without cycles:
    # looked through as often as by default, they cost a tenth of the operator's time.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    return asyncio.run(_operate(settings))


async def _operate(settings: Settings) -> int:
    clock = SystemClock()
    stop = asyncio.Event()
    _take_signals(stop)
    activity = WatchActivity(
        watching.WATCHED, namespaces=settings.namespaces, now=clock.monotonic()
    )
    traces = tracing.begin(settings.tracing, clock)
    metrics = Metrics(lambda: activity.ages(clock.monotonic()), traces.exemplar)
    connection = await factory.connect(settings, clock, activity, traces.hooks(), metrics)
    services = factory.build(settings, connection, clock, metrics, traces)
    ready = asyncio.Event()
    try:
        async with _server(settings, metrics, activity, clock, ready, services.elector):
            _log.info(
                "starting",
                version=resumer.__version__,
                server=connection.server,
                namespaces=settings.namespaces,
            )
            if not await _kinds_are_served(services, activity, stop):
                return 0
            return await _work(settings, connection, services, stop, ready)
    finally:
        await services.events.close()
        await connection.close()
        await traces.close(_LAST_TRACES)


async def _kinds_are_served(
    services: factory.Services, activity: WatchActivity, stop: asyncio.Event
) -> bool:
    """Waits until all watched kinds are installed; False if told to stop before."""
    told: str = ""
    while not stop.is_set():
        try:
            awaited = await kinds.missing(services.client, watching.WATCHED)
            problem = f"not installed: {', '.join(sorted(awaited))}" if awaited else ""
        except errors.ApiError as error:
            problem = str(error)
        activity.awaited()
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
    """Watches and works until told to stop, or until a watch ends that never should."""
    services.events.start()
    connection.watches.on_opened(watching.BY_KOPF, services.resync.ask)
    end_kopf = asyncio.Event()
    kopf_watch = asyncio.create_task(embedding.watch(settings, connection, services, end_kopf))
    watches = {kopf_watch, *(asyncio.create_task(one.run()) for one in services.watches)}
    others = {
        asyncio.create_task(_start_queue(services, connection.watches, stop, ready)),
        asyncio.create_task(services.resync.run()),
        asyncio.create_task(_clean(services)),
        asyncio.create_task(_elect(services, ready)),
    }
    told = asyncio.create_task(stop.wait())
    failed = await _first_failure(told, watches, others)
    lost = False
    for ended in failed:
        if isinstance(error := ended.exception(), errors.LeadershipLostError):
            lost = True
            _log.error("leadership lost", why=str(error))
        else:
            _log.error("a part of the operator ended", exc_info=error)
    _log.info("stopping")
    # Before kopf ends: it cancels every task that began after it did, running reconciles too.
    if not await services.queue.drain(0.0 if lost else settings.drain_seconds):
        _log.warning("running reconciles were cut off; the next process picks them up")
    if services.elector is not None:
        await services.elector.resign()
    end_kopf.set()
    for task in {told, *watches, *others} - {kopf_watch}:
        task.cancel()
    await asyncio.gather(kopf_watch, told, *watches, *others, return_exceptions=True)
    return 1 if failed else 0


async def _first_failure(
    told: asyncio.Task[Any], watches: set[asyncio.Task[None]], others: set[asyncio.Task[None]]
) -> list[asyncio.Task[None]]:
    """Waits until told to stop or a watch ends, or any part fails; returns what failed.

    The others may end: the start of the queue does, and a cleaner that is switched off.
    """
    running = watches | others
    while True:
        await asyncio.wait({told, *running}, return_when=asyncio.FIRST_COMPLETED)
        ended = {task for task in running if task.done()}
        # kopf cancels, when it is told to stop, what has begun after it.
        failed = [one for one in ended if not one.cancelled() and one.exception() is not None]
        if failed or told.done() or ended & watches:
            return failed
        running -= ended


async def _start_queue(
    services: factory.Services, activity: WatchActivity, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    """Starts the queue once every watch stands and all objects of the first lists are in."""
    for one in services.watches:
        await one.listed.wait()
    while activity.missing():  # noqa: ASYNC110 - a stream that breaks tells nobody
        await asyncio.sleep(_POLL)
    await services.resync.complete()  # kopf does not tell when its own first lists are in
    _take_signals(stop)  # kopf took them when it started, and would not let reconciles end
    ready.set()
    _log.info(
        "ready", workflows=len(services.stores.workflows), requests=len(services.stores.requests)
    )
    await _our_turn(services)
    services.intake.start()
    await services.governor.tell_untold()


async def _elect(services: factory.Services, ready: asyncio.Event) -> None:
    """Takes part in the election once all is known: who leads is to work at once."""
    if services.elector is not None:
        await ready.wait()
        await services.elector.run()


async def _clean(services: factory.Services) -> None:
    await _our_turn(services)
    await services.cleaner.run()


async def _our_turn(services: factory.Services) -> None:
    if services.elector is not None:
        await services.elector.leading.wait()


def _take_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


@contextlib.asynccontextmanager
async def _server(
    settings: Settings,
    metrics: Metrics,
    activity: WatchActivity,
    clock: SystemClock,
    ready: asyncio.Event,
    elector: Elector | None,
) -> AsyncIterator[None]:
    if settings.metrics_port is None:
        yield
        return
    server = Server(
        registry=metrics.registry,
        healthy=lambda: health.alive(activity.idle(clock.monotonic()), settings.stale_seconds),
        ready=lambda: [
            *health.complete({"workflows and requests": ready.is_set()}),
            health.leadership(elector.usable, elector.describe())
            if elector
            else health.leadership(True, "no election: this process works"),
        ],
        host=settings.metrics_host,
        port=settings.metrics_port,
    )
    await server.start()
    _log.info("serving metrics and health", port=server.port)
    try:
        yield
    finally:
        await server.stop()
