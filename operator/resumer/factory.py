"""All wiring: which adapter stands behind which port, and what one operator process is made of."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from resumer import ports
from resumer.adapters import (
    argo,
    breakers,
    events,
    kube,
    leases,
    policies,
    reading,
    requests,
    saved,
)
from resumer.adapters.clock import SystemClock
from resumer.adapters.connection import Connection
from resumer.adapters.listwatch import Listener, ListWatch
from resumer.adapters.metering import Meter
from resumer.adapters.throttle import Rank, Throttle, Turns
from resumer.adapters.timekeeping import Timekeeper
from resumer.adapters.watches import WatchActivity
from resumer.api import constants
from resumer.api.outcomes import Phase
from resumer.core.keys import Key
from resumer.core.leadership import Timing
from resumer.core.pacing import Limits
from resumer.core.proposals import Dropped, Wish
from resumer.ports import Outside
from resumer.services import outstanding, replaying
from resumer.services.circuits import BreakerStore
from resumer.services.cleaning import Cleaner
from resumer.services.confirming import Confirmer
from resumer.services.explaining import Explainer, Explanation
from resumer.services.governing import Governor
from resumer.services.guarding import Guard
from resumer.services.intake import Intake
from resumer.services.leading import Elector
from resumer.services.queue import KeyedQueue
from resumer.services.replaying import Replay
from resumer.services.reporting import Reporter
from resumer.services.requeststore import RequestStore
from resumer.services.resuming import Reconciler
from resumer.services.resyncing import Resync
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from resumer.settings import Settings
from resumer.telemetry.metrics import Metrics

LIST_TIMEOUT = 60.0
"""Seconds for one page of the first list: an API server that starts, too, can be slow."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the operator that live as long as its process."""

    client: kube.KubeClient
    watches: tuple[ListWatch, ...]
    """Of Workflows and WorkflowResumes, for each watched namespace, or one each for all."""
    stores: Stores
    queue: KeyedQueue
    intake: Intake
    governor: Governor
    resync: Resync
    cleaner: Cleaner
    events: events.KubeEvents
    elector: Elector | None
    """None where this process works without an election."""


async def connect(
    settings: Settings,
    clock: SystemClock,
    activity: WatchActivity,
    hooks: Sequence[aiohttp.TraceConfig] = (),
    metrics: Metrics | None = None,
) -> Connection:
    """The way to the API server, by whose answers the clock is put right.

    Args:
        settings: Of the process.
        clock: Is put right.
        activity: Sees the watches.
        hooks: See all calls.
        metrics: Takes the measurements of the calls; None: nobody looks at them.

    Raises:
        SettingsError: There is no way to reach a cluster.
    """
    onlookers: list[aiohttp.ClientMiddlewareType] = [Timekeeper(clock)]
    if metrics is not None:
        onlookers.append(Meter(clock, metrics.called))
    return await Connection.open(
        clock,
        activity,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        onlookers=onlookers,
        hooks=hooks,
    )


def build(
    settings: Settings,
    connection: Connection,
    clock: ports.Clock,
    metrics: Metrics,
    traces: ports.Tracing,
) -> Services:
    """Puts the services together; nothing is started.

    Args:
        settings: Of the process.
        connection: To the API server.
        clock: Time and chance.
        metrics: Takes the measurements.
        traces: Takes the spans.

    Raises:
        SettingsError: There is to be an election, and no namespace for its lease is known.
    """
    elector = _elector(settings, connection, clock, metrics)
    may_write = elector.leads if elector else _always
    throttle = Throttle(
        Limits(settings.api_rate, settings.api_burst, settings.api_connections),
        clock,
        on_held=metrics.call_held,
        on_turned_away=metrics.call_turned_away,
    )
    client = connection.client(
        timeout=settings.request_timeout,
        max_connections=settings.api_connections,
        may_write=may_write,
        turns=Turns(throttle),
    )
    stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
    request_writer = requests.KubeRequests(
        client, settings.namespaces, argo.instance_selector(settings.instance_id)
    )
    # Not held back by an election, as what was done has to be told, also after a resignation.
    teller = connection.client(
        timeout=settings.request_timeout, max_connections=1, turns=Turns(throttle, Rank.EVENT)
    )
    metrics.show_known(stores.sizes)
    metrics.show_unfinished(lambda: outstanding.count(stores, clock.now()))
    publisher = events.KubeEvents(
        teller, clock, on_dropped=metrics.event_dropped, instance=platform.node()
    )
    reader = reading.KubeReader(client)
    followed: dict[str, ListWatch] = {}
    reconciler = Reconciler(
        stores,
        Outside(
            workflows=argo.KubeWorkflows(client, settings.instance_id),
            backend=argo.KubeResumeBackend(client),
            requests=request_writer,
            reader=reader,
            clock=clock,
            telemetry=metrics,
            tracing=traces,
        ),
        Guard(stores.breakers, breakers.KubeBreakers(client), metrics),
        Reporter(publisher, metrics),
        Confirmer(stores.requests, reader, functools.partial(_is_heard, followed)),
        longest=settings.reconcile_timeout,
    )
    queue = KeyedQueue(
        reconciler.reconcile, workers=settings.workers, clock=clock, telemetry=metrics
    )
    intake = Intake(stores, queue, clock, reconciler.forget)
    governor = Governor(
        stores.policies, intake, policies.KubePolicies(client), clock, may_write=may_write
    )
    of_workflows, of_requests = _watches(settings, connection, clock, intake, Turns(throttle))
    followed.update(of_requests)
    return Services(
        client=client,
        watches=(*of_workflows, *of_requests.values()),
        stores=stores,
        queue=queue,
        intake=intake,
        governor=governor,
        resync=Resync(
            governor,
            intake,
            stores.breakers,
            reader,
            clock,
            namespaces=settings.namespaces,
        ),
        cleaner=Cleaner(request_writer, clock, interval=settings.cleanup_interval),
        events=publisher,
        elector=elector,
    )


def _always() -> bool:
    return True


def _elector(
    settings: Settings, connection: Connection, clock: ports.Clock, metrics: Metrics
) -> Elector | None:
    metrics.leading(not settings.leader_elect)
    if not settings.leader_elect:
        return None
    namespace = settings.leader_elect_namespace or leases.own_namespace()
    timing = Timing(
        lease=settings.lease_seconds,
        renew=settings.lease_renew_seconds,
        retry=settings.lease_retry_seconds,
    )
    # Connections of its own: a renewal must not wait behind what it permits. And two calls have
    # to fit into the time to renew.
    client = connection.client(timeout=timing.renew / 2, max_connections=2)
    return Elector(
        leases.KubeLeases(client, namespace, settings.leader_elect_lease_name),
        clock,
        leases.identity(),
        timing,
        metrics.leading,
    )


def _watches(
    settings: Settings,
    connection: Connection,
    clock: ports.Clock,
    intake: Intake,
    turns: Turns,
) -> tuple[Sequence[ListWatch], Mapping[str, ListWatch]]:
    """Of Workflows, and of WorkflowResumes by their namespace, "" being all of them."""
    namespaces = settings.namespaces or ("",)
    client = connection.watcher(timeout=LIST_TIMEOUT, streams=3 * len(namespaces), turns=turns)
    unfinished = {
        "labelSelector": argo.instance_selector(settings.instance_id),
        "fieldSelector": f"status.phase!={Phase.SUCCEEDED},status.phase!={Phase.FAILED}",
    }
    live = {"labelSelector": argo.live_selector(settings.instance_id)}

    def watch(
        plural: str, namespace: str, params: Mapping[str, str], listener: Listener
    ) -> ListWatch:
        on_try = functools.partial(connection.watches.tried, plural, namespace)
        told = dataclasses.replace(listener, on_try=on_try)
        return ListWatch(client, plural, namespace, params, clock, told)

    of_workflows = Listener(intake.workflow, intake.workflow_gone, intake.workflow_listed)
    of_requests = Listener(intake.request, intake.request_gone)
    workflows, requests_ = constants.WORKFLOW_PLURAL, constants.RESUME_PLURAL
    return (
        [watch(workflows, n, live, of_workflows) for n in namespaces],
        {n: watch(requests_, n, unfinished, of_requests) for n in namespaces},
    )


def _is_heard(followed: Mapping[str, ListWatch], namespace: str) -> bool:
    """Whether all that happened to the WorkflowResumes of a namespace was told."""
    one = followed.get(namespace) or followed.get("")
    return one is not None and one.current


@contextlib.asynccontextmanager
async def _reading(settings: Settings, clock: SystemClock) -> AsyncIterator[kube.KubeClient]:
    """A client for a command, which ends with it."""
    activity = WatchActivity((), namespaces=(), now=clock.monotonic())
    connection = await connect(settings, clock, activity)
    try:
        yield connection.client(timeout=settings.request_timeout, max_connections=4)
    finally:
        await connection.close()


async def explain(settings: Settings, request: str | Mapping[str, Any]) -> Explanation:
    """Explains a request, by its name in the cluster or by its manifest; nothing is written.

    Raises:
        SettingsError: There is no way to reach a cluster.
        InvalidError: The request is not what its schema says.
        ApiError: A read failed, or there is no such request.
    """
    clock, namespace = SystemClock(), settings.namespaces[0]
    async with _reading(settings, clock) as client:
        explainer = Explainer(
            reading.KubeReader(client), argo.KubeWorkflows(client, settings.instance_id), clock
        )
        if isinstance(request, str):
            return await explainer.stored(Key(namespace, request))
        return await explainer.written(request, namespace)


async def replay(
    settings: Settings,
    event: Mapping[str, object],
    wish: Wish,
    *,
    offline: bool = False,
    policies: Sequence[ports.Body] | None = None,
    workflows: Sequence[ports.Body] = (),
) -> Replay | Dropped:
    """Makes a request of an event and explains it; nothing is written.

    Args:
        settings: How the cluster is reached; its one namespace is where the request would be.
        event: The payload, see `resumer.core.deliveries`.
        wish: What is said of the request already.
        offline: Read nothing from a cluster.
        policies: Those there are, instead of the cluster's.
        workflows: Those there are, offline.

    Raises:
        SettingsError: There is no way to reach a cluster.
        InvalidError: No request can be made of it.
        ApiError: A read failed.
    """
    clock, namespace = SystemClock(), settings.namespaces[0]
    if offline:
        explainer = Explainer(
            saved.SavedPolicies(policies or ()), saved.SavedWorkflows(workflows), clock
        )
        return await replaying.replay(explainer, event, wish, namespace)
    async with _reading(settings, clock) as client:
        explainer = Explainer(
            reading.KubeReader(client) if policies is None else saved.SavedPolicies(policies),
            argo.KubeWorkflows(client, settings.instance_id),
            clock,
        )
        return await replaying.replay(explainer, event, wish, namespace)
