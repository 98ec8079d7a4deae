"""How the operator stands with thousands of Workflows and WorkflowResumes that all wait.

For each size, one after the other in one namespace: the mass is filled up, a client lists all of it
as a floor, an operator is started anew, and then some more requests, one at a time, each open the
gate of a workflow out of the mass. What matters is how the figures grow from size to size within a
run: a shared machine disturbs times, but hardly memory, calls, or the processor time of a resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from resumer.adapters import kube
from tests.bench import api, contenders, growth, machine, mass, objects, report
from tests.controlplane import components, launcher

NODES = 50

STORE_BYTES = 8 * 2**30
"""What etcd may hold: ten thousand Workflows are half a GiB."""

SERVER_MEMORY = "8GiB"
"""What the API server takes at most, as far as it can.

It keeps half a MiB for each of these Workflows. With little more than that it does nothing but
collect garbage: at 10,000 and 6 GiB a page of the list took it fifteen seconds.
"""

_NAMESPACE = "bench-scale"
_START_TIMEOUT = 1800.0
_TAKE_TIMEOUT = 900.0
_SETTLE_TIMEOUT = 900.0
_MODEL_TIMEOUT = 30.0
_OPEN_TIMEOUT = 30.0
_IDLE_SECONDS = 5.0
_PAUSE = 0.03
_POLL = 0.05
_CONTINUE = re.compile(rb'"continue":"([^"]*)"')


async def run(
    plane: launcher.ControlPlane,
    counts: Sequence[int],
    folder: pathlib.Path,
    *,
    resumes: int,
    say: Callable[[str], None],
) -> list[growth.Figures]:
    """Measure.

    Arguments:
        plane: a control plane without Argo's controller, see `plane`
        counts: the sizes
        folder: for logs
        resumes: measured at each size
        say: told how far it is

    Raises:
        ContenderFailed: the operator did not do its work
        NotTaken: the mass could not be made
        CallFailed: the API server refused what cannot be done without
    """
    server = api.Api(plane.kubeconfig)
    scale = _Scale(server, plane, folder)
    try:
        await scale.make_model()
        found = []
        for count in sorted(counts):
            began = time.monotonic()
            await scale.fill(count)
            say(f"{count} workflows are there after {time.monotonic() - began:.0f} s")
            found.append(await scale.measure(count, resumes))
            # At once: the next size takes three times as long, and may be too large.
            say(growth.table(found))
        return found
    finally:
        await server.close()


def plane() -> launcher.ControlPlane:
    """A control plane that takes so much.

    With Argo's minimal CRDs, as its quick start installs them: with the full schemas the API server
    takes many times as long to read what is in its store. It lists both at the same pace. Its
    memory is bounded, since it keeps all Workflows parsed, and would let as much garbage pile up.
    """
    return launcher.start(
        argo=False,
        crds="minimal",
        extra_args={components.ETCD.name: [f"--quota-backend-bytes={STORE_BYTES}"]},
        component_env={
            components.API_SERVER.name: {"GOMEMLIMIT": SERVER_MEMORY, "GOGC": "50"},
            components.ETCD.name: {"GOGC": "50"},
        },
    )


class _Scale:
    def __init__(self, server: api.Api, plane: launcher.ControlPlane, folder: pathlib.Path) -> None:
        self._server = server
        self._plane = plane
        self._folder = folder
        etcd = f"http://127.0.0.1:{plane.layout.ports.etcd}"
        self._mass = mass.Mass(server, etcd, _NAMESPACE)
        programs = (components.API_SERVER.name, components.ETCD.name)
        pids = [machine.process_of(program, plane.workdir) for program in programs]
        self._server_processes = [pid for pid in pids if pid is not None]
        self._count = 1
        self._resumed = 0

    async def make_model(self) -> None:
        """Make the pair number 0, with the status that an operator gives a request that waits."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        await self._server.call("POST", "/api/v1/namespaces", json.dumps(body).encode())
        names = objects.Names(0)
        for plural, one in (
            (mass.WORKFLOWS, objects.workflow(names, NODES)),
            (mass.REQUESTS, mass.early_request(names)),
        ):
            await self._create(plural, one)
        async with self._operator("model"), asyncio.timeout(_MODEL_TIMEOUT):
            path = f"{api.collection(mass.REQUESTS, _NAMESPACE)}/{mass.waiting_name(names)}"
            status: objects.Json = {}
            while "outcome" not in status:
                await asyncio.sleep(_POLL)
                status = (await self._server.read(path)).get("status", {})
        if status["outcome"] != "Waiting":
            raise contenders.ContenderFailed(f"the request of the mass does not wait: {status}")

    async def fill(self, count: int) -> None:
        """Fill up to this size, and wait until the API server has digested it."""
        await self._mass.copy(self._count, count)
        self._count = count
        await self._mass.await_taken(count, _TAKE_TIMEOUT)
        await machine.quiet(self._server_processes, _SETTLE_TIMEOUT)

    async def measure(self, count: int, resumes: int) -> growth.Figures:
        """Start an operator and let it resume some workflows."""
        bare = await self._listing()
        server_used = machine.processor_seconds(self._server_processes)
        began = time.monotonic()
        async with self._operator(f"operator-{count}") as operator:
            process = operator.running.pid
            ready = time.monotonic() - began
            ready_used = machine.processor_seconds([process])
            server_used = machine.processor_seconds(self._server_processes) - server_used
            await operator.settled(_SETTLE_TIMEOUT)
            settled = time.monotonic() - began
            settled_used = machine.processor_seconds([process])
            memory = machine.memory_bytes(process) or 0
            calls = await machine.calls(self._server)
            await asyncio.sleep(_IDLE_SECONDS)
            used = machine.processor_seconds([process])
            idle_calls = await machine.calls(self._server) - calls
            calls += idle_calls
            latencies = await self._resume(resumes)
            await operator.settled(_SETTLE_TIMEOUT)
            resume_used = machine.processor_seconds([process]) - used
            resuming_calls = await machine.calls(self._server) - calls
            resuming_calls["LIST workflows"] -= 1  # our own
            return growth.Figures(
                count=count,
                bare=bare,
                ready=ready,
                ready_processor=ready_used,
                ready_server=server_used,
                settled=settled,
                settled_processor=settled_used,
                memory=memory,
                peak=machine.memory_bytes(process, peak=True) or 0,
                idle=(used - settled_used) / _IDLE_SECONDS,
                idle_calls=_without_streams(idle_calls).total(),
                latency=report.Percentiles.of(latencies),
                resume_processor=resume_used / resumes,
                calls={
                    kind: number / resumes
                    for kind, number in sorted(_without_streams(resuming_calls).items())
                },
            )

    async def _listing(self) -> growth.Listing:
        """As `_list`, once the API server has caught up with its store: until then it refuses."""
        deadline = time.monotonic() + _TAKE_TIMEOUT
        while True:
            try:
                return await self._list()
            except api.CallFailed:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _list(self) -> growth.Listing:
        """List both kinds as the operator does, and throw it away."""
        used = machine.processor_seconds(self._server_processes)
        began, size = time.monotonic(), 0
        for plural in (mass.WORKFLOWS, mass.REQUESTS):
            query = {"limit": str(kube.PAGE_OF_WORKFLOWS)}
            while True:
                path = api.collection(plural, _NAMESPACE)
                page = await self._server.call("GET", path, query=query)
                size += len(page)
                # The metadata of a list comes last.
                found = _CONTINUE.search(page, page.rindex(b'"metadata":{'))
                if found is None or not found[1]:
                    break
                query["continue"] = found[1].decode()
        seconds = time.monotonic() - began
        used = machine.processor_seconds(self._server_processes) - used
        return growth.Listing(seconds, used, size)

    async def _resume(self, resumes: int) -> list[float]:
        """Let one workflow after the other be resumed, and say how long each took."""
        path = api.collection(mass.WORKFLOWS, _NAMESPACE)
        listed = await self._server.read(path, limit="1")
        stream = self._server.events(path, listed["metadata"]["resourceVersion"])
        latencies = []
        async with contextlib.aclosing(stream) as events:
            await anext(events)
            for _ in range(resumes):
                self._resumed += 1
                names = objects.Names(self._resumed)
                started = time.monotonic()
                await self._create(mass.REQUESTS, objects.request(names))
                async with asyncio.timeout(_OPEN_TIMEOUT):
                    async for line in events:
                        if objects.opened(line) == names.workflow:
                            break
                latencies.append(time.monotonic() - started)
                await asyncio.sleep(_PAUSE)
        return latencies

    @contextlib.asynccontextmanager
    async def _operator(self, name: str) -> AsyncIterator[contenders.OperatorChild]:
        place = contenders.Place(self._plane.kubeconfig, _NAMESPACE, self._folder, self._folder)
        operator = contenders.OperatorChild(name, place)
        await operator.start()
        try:
            await operator.wait_for_log(contenders.READY, _START_TIMEOUT)
            yield operator
        finally:
            await operator.stop()

    async def _create(self, plural: str, body: objects.Json) -> None:
        path = api.collection(plural, _NAMESPACE)
        await self._server.call("POST", path, json.dumps(body).encode(), accept=api.METADATA)


def _without_streams(calls: Counter[str]) -> Counter[str]:
    """Watches end by themselves now and then, and are begun anew."""
    return +Counter({kind: n for kind, n in calls.items() if not kind.startswith("WATCH")})
