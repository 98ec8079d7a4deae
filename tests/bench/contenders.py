"""The contenders, each a process or two that are told what to resume by one line each.

All of them answer on their standard output when they are done with one, as `writer` describes. The
operator is told by a WorkflowResume instead: its writer creates that and leaves the rest to it.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence

import aiohttp

from tests.bench import objects
from tests.controlplane import build, components, processes
from tests.e2e.support import process

ROOT = pathlib.Path(__file__).parents[2]

_READY_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_POLL = 0.05
_IDLE_LOOKS = 2
_PORT = re.compile(rb'"event": ?"serving metrics and health".*?"port": ?(\d+)')
READY = re.compile(rb'"event": ?"ready"')


class ContenderFailed(RuntimeError):
    """A contender did not do its work; the message says which and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """One answer.

    Arguments:
        workflow: the name
        start: nanoseconds since 1970, just before its first call
        end: just after its last one
        error: why it failed, or empty
    """

    workflow: str
    start: int
    end: int
    error: str


class Child:
    """A process that takes lines and answers with lines.

    Arguments:
        argv: its command
        log: where its standard error goes
        environment: of the process
    """

    def __init__(
        self, argv: Sequence[str], log: pathlib.Path, environment: Mapping[str, str]
    ) -> None:
        self._argv = argv
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=dict(self._environment),
            )

    @property
    def running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was not started"
        return self._process

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self.running.stdin is not None
        self.running.stdin.write(f"{line}\n".encode())

    async def answer(self) -> Done:
        """Its next line.

        Raises:
            ContenderFailed: it has ended
        """
        assert self.running.stdout is not None
        line = await self.running.stdout.readline()
        if not line:
            raise ContenderFailed(f"{self._argv[:3]} has ended: {self.log_tail()}")
        answer = json.loads(line)
        return Done(answer["name"], answer["start"], answer["end"], answer["error"])

    def log_tail(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._log.read_text(errors="replace")[-2000:]

    async def wait_for_log(
        self, pattern: re.Pattern[bytes], seconds: float = _READY_TIMEOUT
    ) -> None:
        """Return as soon as its standard error has this.

        Arguments:
            pattern: what to wait for
            seconds: at most

        Raises:
            ContenderFailed: it ended, or it took too long
        """
        deadline = time.monotonic() + seconds
        while not pattern.search(self._log.read_bytes()):
            if self.running.returncode is not None or time.monotonic() > deadline:
                raise ContenderFailed(f"{self._argv[:3]} is not ready: {self.log_tail()}")
            await asyncio.sleep(_POLL)

    async def stop(self) -> None:
        """End it in order, or kill it if that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a contender works.

    Arguments:
        kubeconfig: how to reach the API server
        namespace: of its workflows and requests, which no other contender sees
        folder: for its logs
        templates: what `writer` writes
    """

    kubeconfig: pathlib.Path
    namespace: str
    folder: pathlib.Path
    templates: pathlib.Path

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process here."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), **more}


class OperatorChild(Child):
    """`resumer run`, of this checkout or of another.

    Arguments:
        name: of its log
        place: where it works
        checkout: a checkout of the project
    """

    def __init__(self, name: str, place: Place, checkout: pathlib.Path = ROOT) -> None:
        argv = process.command("run", "--namespace", place.namespace)
        # A sweep lists the finished requests each minute, which would be counted with some resume.
        argv += ["--metrics-port", "0", "--log-format", "json", "--cleanup-interval", "0"]
        super().__init__(
            argv,
            place.folder / f"{name}.log",
            place.environment(PYTHONPATH=str(checkout / "operator")),
        )

    async def metrics(self, name: str) -> dict[str, float]:
        """The samples of a metric with one label, by the value of that."""
        found = _PORT.findall(self._log.read_bytes())
        if not found:
            raise ContenderFailed(f"the operator serves no metrics: {self.log_tail()}")
        url = f"http://{processes.HOST}:{int(found[-1])}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
        samples = re.findall(rf'^{name}\{{\w+="([^"]*)"\}} (\S+)$', text, re.MULTILINE)
        return {label: float(value) for label, value in samples}

    async def settled(self, seconds: float) -> None:
        """Return as soon as it has nothing to do and nothing to read, twice in a row.

        Raises:
            ContenderFailed: it took longer than so many seconds
        """
        deadline = time.monotonic() + seconds
        depth: Mapping[str, float] = {}
        idle = 0
        while idle < _IDLE_LOOKS:
            if time.monotonic() > deadline:
                raise ContenderFailed(f"the operator is still busy after {seconds:g} s: {depth}")
            await asyncio.sleep(_POLL)
            known = await self.metrics("resumer_known_objects")
            depth = {**await self.metrics("resumer_queue_depth"), "unread": known["unread"]}
            busy = depth["ready"] or depth["running"] or depth["unread"]
            idle = 0 if busy else idle + 1


class Contender(abc.ABC):
    """One that resumes workflows.

    Arguments:
        name: for the reader
        place: where it works
    """

    makes_requests = True
    """Whether there is a WorkflowResume for each resume, whose status says Succeeded at the end."""
    writes_events = False
    """Whether it also writes Kubernetes Events."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place

    @abc.abstractmethod
    async def start(self) -> None:
        """Return when it takes work."""

    @abc.abstractmethod
    def tell(self, names: objects.Names, workflow_uid: str) -> None:
        """Have it resume this workflow."""

    @abc.abstractmethod
    async def answer(self) -> Done:
        """What it says next about one that it was told of."""

    @property
    @abc.abstractmethod
    def processes(self) -> tuple[int, ...]:
        """Its processes, the one that does the work first."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End it."""


class Floor(Contender):
    """An asyncio loop that makes the three writes."""

    def __init__(self, name: str, place: Place, *, create_only: bool = False) -> None:
        super().__init__(name, place)
        argv = [sys.executable, "-m", "tests.bench.writer", str(place.kubeconfig)]
        argv += [place.namespace, str(place.templates)]
        argv += ["--create-only"] if create_only else []
        self._child = Child(argv, place.folder / f"{name}-writer.log", place.environment())

    async def start(self) -> None:
        await self._child.start()

    def tell(self, names: objects.Names, workflow_uid: str) -> None:
        self._child.tell(f"{names.number} {workflow_uid}")

    async def answer(self) -> Done:
        return await self._child.answer()

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._child.running.pid,)

    async def stop(self) -> None:
        await self._child.stop()


class Operator(Contender):
    """`resumer run`, of this checkout or of another.

    Arguments:
        name: for the reader
        place: where it works
        checkout: a checkout of the project
    """

    writes_events = True

    def __init__(self, name: str, place: Place, checkout: pathlib.Path = ROOT) -> None:
        super().__init__(name, place)
        self._creator = Floor(name, place, create_only=True)
        self._child = OperatorChild(name, place, checkout)

    async def start(self) -> None:
        await self._child.start()
        await self._creator.start()
        await self._child.wait_for_log(READY)

    def tell(self, names: objects.Names, workflow_uid: str) -> None:
        self._creator.tell(names, workflow_uid)

    async def answer(self) -> Done:
        return await self._creator.answer()

    @property
    def child(self) -> OperatorChild:
        """Its process."""
        return self._child

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._child.running.pid, *self._creator.processes)

    async def stop(self) -> None:
        await self._creator.stop()
        await self._child.stop()


class Argo(Contender):
    """Argo's own function.

    Arguments:
        name: for the reader
        place: where it works
        concurrency: resumes at the same time
    """

    makes_requests = False

    def __init__(self, name: str, place: Place, concurrency: int) -> None:
        super().__init__(name, place)
        binary = build.ensure((components.ARGO_RESUME,))[components.ARGO_RESUME.name].binary
        argv = [str(binary), "-kubeconfig", str(place.kubeconfig), "-namespace", place.namespace]
        argv += ["-concurrency", str(concurrency)]
        self._child = Child(argv, place.folder / f"{name}.log", place.environment())

    async def start(self) -> None:
        await self._child.start()

    def tell(self, names: objects.Names, workflow_uid: str) -> None:
        self._child.tell(names.workflow)

    async def answer(self) -> Done:
        return await self._child.answer()

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._child.running.pid,)

    async def stop(self) -> None:
        await self._child.stop()
