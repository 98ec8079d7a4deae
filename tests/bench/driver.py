"""Drives a contender through a pass: workflows are made, resumed and removed again.

A pass under load is a closed loop: as soon as one gate is seen open, the next resume begins. An
idle pass has one resume at a time, with a pause in between in which all that follows can end. In
both, the same watch sees the gates open, in this process, which does nothing else meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

import aiohttp

from tests.bench import api, contenders, machine, objects

_PREPARING = 16
_PASS_TIMEOUT = 120.0
_IDLE_PAUSE = 0.03
_SETTLE_TIMEOUT = 5.0
_POLL = 0.01


_Opened = asyncio.Queue[tuple[str, int] | Exception]
"""Names of workflows whose gates were seen open, with the time; or why nothing is seen any more."""


class PassFailed(RuntimeError):
    """A pass did not come to its end; the message says what was missing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """What was measured.

    Arguments:
        latencies: seconds from before the first call of a resume until its gate was seen open
        opening: seconds from the first start until the last gate was seen open
        recording: seconds from the first start until the last status was written as well
        calls: at the API server, by kind, without the driver's own
        processor: seconds that the contender's process used
        all_processor: the same with that of who creates the requests, of API server and store
        server_processor: seconds that the API server and its store used
        others: part of the machine's processor time that went to programs which are not measured
        memory: bytes of resident memory of the contender's process at the end
    """

    latencies: Sequence[float]
    opening: float
    recording: float
    calls: Mapping[str, int]
    processor: float
    all_processor: float
    server_processor: float
    others: float
    memory: int | None

    @property
    def rate(self) -> float:
        """Resumes in a second, with all that belongs to them."""
        return len(self.latencies) / self.recording


class Driver:
    """Drives.

    Arguments:
        server: the API server
        server_processes: of the control plane, to wait for when they have something left to do
    """

    def __init__(self, server: api.Api, server_processes: Sequence[int]) -> None:
        self._server = server
        self._server_processes = server_processes
        self._number = 0

    async def settle(self, seconds: float) -> None:
        """Wait until the API server has ended what it does after a start, or for so long.

        It works on the schemas of Argo's CRDs for half a minute.
        """
        await machine.quiet(self._server_processes, seconds)

    async def measure(
        self, contender: contenders.Contender, *, nodes: int, resumes: int, concurrency: int
    ) -> Pass:
        """One pass.

        Arguments:
            contender: who resumes
            nodes: of each workflow
            resumes: how many
            concurrency: how many at the same time; 1 is an idle pass

        Raises:
            PassFailed: a gate stayed closed, or a status unwritten
            ContenderFailed: the contender says so
        """
        names = [objects.Names(self._number + index) for index in range(resumes)]
        self._number += resumes
        namespace = contender.place.namespace
        uids = await self._make(namespace, names, nodes)
        await machine.quiet([*self._server_processes, *contender.processes], _SETTLE_TIMEOUT)
        try:
            async with self._watch(namespace) as opened:
                run = _Run(self._server, self._server_processes, contender, names, uids)
                return await run.go(opened, concurrency)
        finally:
            for plural in ("workflows", "workflowresumes"):
                await self._server.call("DELETE", api.collection(plural, namespace))

    async def _make(
        self, namespace: str, names: Sequence[objects.Names], nodes: int
    ) -> dict[str, str]:
        """Create the workflows, and return the uid of each."""
        path, uids = api.collection("workflows", namespace), {}
        waiting = iter(names)

        async def some() -> None:
            for one in waiting:
                body = json.dumps(objects.workflow(one, nodes)).encode()
                answer = json.loads(
                    await self._server.call("POST", path, body, accept=api.METADATA)
                )
                uids[one.workflow] = answer["metadata"]["uid"]

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_PREPARING):
                tasks.create_task(some())
        return uids

    @contextlib.asynccontextmanager
    async def _watch(self, namespace: str) -> AsyncIterator[_Opened]:
        """Sees the gates that open from now on."""
        path = api.collection("workflows", namespace)
        found: _Opened = asyncio.Queue()
        stands = asyncio.Event()
        listed = await self._server.read(path, limit="1")

        async def follow() -> None:
            try:
                async for line in self._server.events(path, listed["metadata"]["resourceVersion"]):
                    stands.set()
                    if (name := objects.opened(line)) is not None:
                        found.put_nowait((name, time.time_ns()))
            except (api.CallFailed, aiohttp.ClientError) as error:
                stands.set()
                found.put_nowait(error)

        task = asyncio.create_task(follow(), name="watch")
        try:
            await stands.wait()
            yield found
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class _Run:
    """The measured part of a pass."""

    def __init__(
        self,
        server: api.Api,
        server_processes: Sequence[int],
        contender: contenders.Contender,
        names: Sequence[objects.Names],
        uids: Mapping[str, str],
    ) -> None:
        self._server = server
        self._server_processes = server_processes
        self._contender = contender
        self._names = names
        self._uids = uids
        self._starts: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._polls = 0
        self._unrecorded: object = None

    async def go(self, opened: _Opened, concurrency: int) -> Pass:
        contender = self._contender
        counted = await machine.calls(self._server)
        processes = contender.processes
        used = [machine.processor_seconds(each) for each in (processes[:1], processes)]
        server_used = machine.processor_seconds(self._server_processes)
        busy, began = _machine_beyond(), time.monotonic()
        try:
            async with asyncio.timeout(_PASS_TIMEOUT):
                await _together(self._feed(opened, concurrency), self._take_answers())
                recorded = await self._await_records()
        except TimeoutError as error:
            raise PassFailed(
                f"{contender.name}: within {_PASS_TIMEOUT:g} s {len(self._starts)} of"
                f" {len(self._names)} resumes were answered and {len(self._seen)} gates were seen"
                f" open; not recorded: {self._unrecorded}"
            ) from error
        after = [machine.processor_seconds(each) for each in (processes[:1], processes)]
        server_used = machine.processor_seconds(self._server_processes) - server_used
        all_used = after[1] - used[1] + server_used
        others = _machine_beyond() - busy - all_used
        available = (time.monotonic() - began) * machine.cores()
        calls = await machine.calls(self._server) - counted
        calls["LIST workflowresumes"] -= self._polls
        first = min(self._starts.values())
        return Pass(
            latencies=[
                (self._seen[name] - start) / 1e9 for name, start in sorted(self._starts.items())
            ],
            opening=(max(self._seen.values()) - first) / 1e9,
            recording=(recorded - first) / 1e9,
            calls={kind: count for kind, count in calls.items() if self._is_its_own(kind, count)},
            processor=after[0] - used[0],
            all_processor=all_used,
            server_processor=server_used,
            others=max(0.0, others / available),
            memory=machine.memory_bytes(processes[0]),
        )

    def _is_its_own(self, kind: str, count: int) -> bool:
        """Whether calls of this kind are the contender's, and not Events of another one."""
        return count > 0 and (self._contender.writes_events or not kind.endswith(" events"))

    async def _feed(self, opened: _Opened, concurrency: int) -> None:
        """Keep so many resumes in flight until all gates are open."""
        waiting = iter(self._names)

        def begin() -> None:
            if (one := next(waiting, None)) is not None:
                self._contender.tell(one, self._uids[one.workflow])

        for _ in range(concurrency):
            begin()
        while len(self._seen) < len(self._names):
            item = await opened.get()
            if isinstance(item, Exception):
                raise item
            name, moment = item
            # A workflow may be written again after its gate was opened.
            if name not in self._seen:
                self._seen[name] = moment
                if concurrency == 1:
                    await asyncio.sleep(_IDLE_PAUSE)
                begin()

    async def _take_answers(self) -> None:
        while len(self._starts) < len(self._names):
            done = await self._contender.answer()
            if done.error:
                raise contenders.ContenderFailed(f"{self._contender.name}: {done.error}")
            self._starts[done.workflow] = done.start
            self._ends[done.workflow] = done.end

    async def _await_records(self) -> int:
        """The time when all that belongs to the resumes was seen to be done."""
        if not self._contender.makes_requests:
            return max(*self._seen.values(), *self._ends.values())
        path = api.collection("workflowresumes", self._contender.place.namespace)
        while True:
            self._polls += 1
            # From the watch cache of the API server, which is a moment behind: as it is for all.
            found = await self._server.read(
                path, fieldSelector="status.phase!=Succeeded", limit="1", resourceVersion="0"
            )
            moment = time.time_ns()
            if not found["items"]:
                return moment
            self._unrecorded = found["items"][0].get("status")
            await asyncio.sleep(_POLL)


def _machine_beyond() -> float:
    """The processor time of the machine so far, but for this process."""
    return machine.all_processor_seconds() - time.process_time()


async def _together(*parts: Coroutine[None, None, None]) -> None:
    """Run these until all have ended, or one has failed."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
