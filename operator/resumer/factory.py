"""All wiring: which adapter stands behind which port, and what one operator process is made of."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resumer import ports
from resumer.adapters import argo, breakers, events, kube, policies, reading, requests
from resumer.adapters.clock import SystemClock
from resumer.adapters.connection import Connection
from resumer.adapters.listwatch import ListWatch
from resumer.adapters.timekeeping import Timekeeper
from resumer.adapters.watches import WatchActivity
from resumer.api import constants
from resumer.api.outcomes import Phase
from resumer.core.keys import Key
from resumer.ports import Outside
from resumer.services.circuits import BreakerStore
from resumer.services.cleaning import Cleaner
from resumer.services.explaining import Explainer, Explanation
from resumer.services.governing import Governor
from resumer.services.guarding import Guard
from resumer.services.intake import Intake
from resumer.services.queue import KeyedQueue
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


async def connect(settings: Settings, clock: SystemClock, activity: WatchActivity) -> Connection:
    """The way to the API server, by whose answers the clock is put right.

    Raises:
        SettingsError: There is no way to reach a cluster.
    """
    return await Connection.open(
        clock,
        activity,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        timekeeper=Timekeeper(clock),
    )


def build(
    settings: Settings, connection: Connection, clock: ports.Clock, metrics: Metrics
) -> Services:
    """Puts the services together; nothing is started.

    Args:
        settings: Of the process.
        connection: To the API server.
        clock: Time and chance.
        metrics: Takes the measurements.
    """
    client = connection.client(
        timeout=settings.request_timeout, max_connections=settings.api_connections
    )
    stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
    request_writer = requests.KubeRequests(client, settings.namespaces)
    publisher = events.KubeEvents(
        client, clock, on_dropped=metrics.event_dropped, instance=platform.node()
    )
    reconciler = Reconciler(
        stores,
        Outside(
            workflows=argo.KubeWorkflows(client, settings.instance_id),
            backend=argo.KubeResumeBackend(client),
            requests=request_writer,
            clock=clock,
            telemetry=metrics,
        ),
        Guard(stores.breakers, breakers.KubeBreakers(client), metrics),
        Reporter(publisher, metrics),
    )
    queue = KeyedQueue(
        reconciler.reconcile, workers=settings.workers, clock=clock, telemetry=metrics
    )
    intake = Intake(stores, queue, clock, reconciler.forget)
    governor = Governor(stores.policies, intake, policies.KubePolicies(client), clock)
    return Services(
        client=client,
        watches=_watches(settings, connection, clock, intake),
        stores=stores,
        queue=queue,
        intake=intake,
        governor=governor,
        resync=Resync(
            governor,
            intake,
            stores.breakers,
            reading.KubeReader(client),
            clock,
            namespaces=settings.namespaces,
        ),
        cleaner=Cleaner(request_writer, clock, interval=settings.cleanup_interval),
        events=publisher,
    )


def _watches(
    settings: Settings, connection: Connection, clock: ports.Clock, intake: Intake
) -> tuple[ListWatch, ...]:
    namespaces = settings.namespaces or ("",)
    client = connection.watcher(timeout=LIST_TIMEOUT, streams=2 * len(namespaces))
    unfinished = {
        "labelSelector": argo.instance_selector(settings.instance_id),
        "fieldSelector": f"status.phase!={Phase.SUCCEEDED},status.phase!={Phase.FAILED}",
    }
    live = {"labelSelector": argo.live_selector(settings.instance_id)}

    def watch(
        plural: str,
        namespace: str,
        params: Mapping[str, str],
        on_object: Callable[[ports.Body], None],
        on_gone: Callable[[Key], None],
    ) -> ListWatch:
        at = kube.path(constants.API_VERSION, plural, namespace)
        return ListWatch(client, at, params, clock, on_object=on_object, on_gone=on_gone)

    workflows, requests_ = constants.WORKFLOW_PLURAL, constants.RESUME_PLURAL
    return (
        *(watch(workflows, n, live, intake.workflow, intake.workflow_gone) for n in namespaces),
        *(watch(requests_, n, unfinished, intake.request, intake.request_gone) for n in namespaces),
    )


async def explain(settings: Settings, request: str | Mapping[str, Any]) -> Explanation:
    """Explains a request, by its name in the cluster or by its manifest; nothing is written.

    Raises:
        SettingsError: There is no way to reach a cluster.
        InvalidError: The request is not what its schema says.
        ApiError: A read failed, or there is no such request.
    """
    clock, namespace = SystemClock(), settings.namespaces[0]
    activity = WatchActivity((), namespaces=(), now=clock.monotonic())
    connection = await connect(settings, clock, activity)
    try:
        client = connection.client(timeout=settings.request_timeout, max_connections=4)
        explainer = Explainer(
            reading.KubeReader(client), argo.KubeWorkflows(client, settings.instance_id), clock
        )
        if isinstance(request, str):
            return await explainer.stored(Key(namespace, request))
        return await explainer.written(request, namespace)
    finally:
        await connection.close()
