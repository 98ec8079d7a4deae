"""The services of an operator on an API server in memory, as the handlers get them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from resumer.adapters.events import KubeEvents
from resumer.adapters.kube import KubeClient
from resumer.adapters.listwatch import ListWatch
from resumer.factory import Services
from resumer.services.cleaning import Cleaner
from resumer.services.leading import Elector
from tests import fakes
from tests.unit.services.world import Operator


class FakeListWatch:
    """A list-watch whose first list a test declares complete."""

    def __init__(self) -> None:
        self.listed = asyncio.Event()


class FakeActivity:
    """The watch streams, as far as the start waits for them."""

    def __init__(self) -> None:
        self.absent = {("workflowresumes", "")}

    def missing(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.absent)

    def awaited(self) -> None:
        pass


def services(
    operator: Operator,
    *,
    client: Any = None,
    watches: tuple[FakeListWatch, ...] = (),
    elector: Elector | None = None,
) -> Services:
    """The services; what is not given is not there, and whoever uses it fails."""
    requests = fakes.FakeRequests(operator.world.api, operator.world.faults)
    return Services(
        client=cast(KubeClient, client),
        watches=cast("tuple[ListWatch, ...]", watches),
        stores=operator.stores,
        queue=operator.queue,
        intake=operator.intake,
        governor=operator.governor,
        resync=operator.resync,
        cleaner=Cleaner(requests, operator.world.clock, interval=0),
        events=cast(KubeEvents, operator.world.events),
        elector=elector,
    )
