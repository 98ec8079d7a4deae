"""Whether anything stays behind in an operator that resumes for a long time.

One operator resumes workflows in passes. After each, when the finished requests and workflows are
deleted, its memory and what its stores hold are looked at. The first half warms it up: pools fill,
and what is remembered of the last 4,096 Kubernetes Events (two for each resume), so that it takes
some 5,000 resumes to see that its memory stays where it is.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from tests.bench import api, contenders, driver, machine, report, templates
from tests.controlplane import components, launcher

_NAMESPACE = "bench-leak"
_NODES = 2
_CONCURRENCY = 16
_PASSES = 10
_WARM = 5
"""Passes at the start that do not count."""
_EMPTY_TIMEOUT = 60.0
_POLL = 0.1

AIM_GROWTH = 1024
"""Bytes at most that may stay for each resume after the warm-up: less than a request takes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """After a pass.

    Arguments:
        resumes: so far
        memory: resident, in bytes
        known: what the stores hold, by kind
    """

    resumes: int
    memory: int
    known: Mapping[str, float]


async def run(
    plane: launcher.ControlPlane,
    resumes: int,
    folder: pathlib.Path,
    *,
    say: Callable[[str], None],
) -> list[Sample]:
    """Measure.

    Arguments:
        plane: a control plane without Argo's controller
        resumes: in all
        folder: for logs
        say: told how far it is

    Raises:
        ContenderFailed: the operator did not do its work, or its stores did not become empty
        PassFailed: a pass did not come to its end
        CallFailed: the API server refused what cannot be done without
    """
    server = api.Api(plane.kubeconfig)
    file = folder / "templates.json"
    templates.of_request().save(file)
    place = contenders.Place(plane.kubeconfig, _NAMESPACE, folder, file)
    operator = contenders.Operator("operator", place)
    programs = (components.API_SERVER.name, components.ETCD.name)
    pids = [machine.process_of(program, plane.workdir) for program in programs]
    drive = driver.Driver(server, [pid for pid in pids if pid is not None])
    try:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        await server.call("POST", "/api/v1/namespaces", json.dumps(body).encode())
        await operator.start()
        found: list[Sample] = []
        of_each = max(_CONCURRENCY, resumes // _PASSES)
        for number in range(_PASSES):
            await drive.measure(operator, nodes=_NODES, resumes=of_each, concurrency=_CONCURRENCY)
            known = await _emptied(operator.child)
            memory = machine.memory_bytes(operator.processes[0]) or 0
            found.append(Sample((number + 1) * of_each, memory, known))
            say(f"{found[-1].resumes} resumes: {memory / 2**20:.1f} MiB")
        return found
    finally:
        await operator.stop()
        await server.close()


async def _emptied(operator: contenders.OperatorChild) -> Mapping[str, float]:
    """What its stores hold once they hold nothing."""
    deadline = time.monotonic() + _EMPTY_TIMEOUT
    while True:
        known = await operator.metrics("resumer_known_objects")
        if known and not any(known.values()):
            return known
        if time.monotonic() > deadline:
            raise contenders.ContenderFailed(f"after a pass the operator still knows {known}")
        await asyncio.sleep(_POLL)


def growth(found: Sequence[Sample]) -> float:
    """Bytes that stayed for each resume, the warm-up left out."""
    first, last = found[_WARM - 1], found[-1]
    return (last.memory - first.memory) / (last.resumes - first.resumes)


def table(found: Sequence[Sample]) -> str:
    """A row for each pass."""
    head = ("resumes", "RSS MiB", *found[0].known)
    return report.aligned([head, *(_row(one) for one in found)])


def verdict(found: Sequence[Sample]) -> str:
    """What stayed, and what was aimed at."""
    grown = growth(found)
    return (
        f"{grown:.0f} bytes more for each resume after the first {found[_WARM - 1].resumes},"
        f" aim at most {AIM_GROWTH}: {report.met(grown <= AIM_GROWTH)}"
    )


def _row(one: Sample) -> tuple[str, ...]:
    known = (f"{value:.0f}" for value in one.known.values())
    return (str(one.resumes), f"{one.memory / 2**20:.1f}", *known)
