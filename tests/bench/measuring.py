"""A whole run: the contenders are started, warmed up and measured in turns.

In each round every contender has a pass under load and an idle one for each size; who goes first
changes from round to round. Each has a namespace to itself, so that the operator has nothing to do
while others are measured, but for Kubernetes Events that it still has to write: ten a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from tests.bench import api, contenders, driver, events, machine, objects, report, templates
from tests.controlplane import components, launcher

Results = dict[int, dict[str, report.Figures]]
"""By the number of nodes and the contender's name."""

CONTENDERS = (report.OPERATOR, report.FLOOR, report.ARGO)

_AGAINST = "against"
_SAMPLE_TIMEOUT = 30.0
_POLL = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Arguments:
        nodes: sizes of workflows
        rounds: how often each contender has its turn
        resumes: in a pass under load; with more than ten nodes a third of them
        idle: resumes in an idle pass
        concurrency: resumes at a time under load
        contenders: who takes part
        settling: seconds at most that the API server gets to settle after its start
    """

    nodes: Sequence[int] = (2, 50)
    rounds: int = 5
    resumes: int = 200
    idle: int = 30
    concurrency: int = 16
    contenders: Sequence[str] = CONTENDERS
    settling: float = 60.0

    def resumes_with(self, nodes: int) -> int:
        """Resumes in a pass under load: fewer where each takes longer."""
        return self.resumes if nodes <= 10 else max(1, self.resumes // 3)


FULL = Plan()
QUICK = Plan(rounds=1, resumes=20, idle=5, concurrency=8, settling=0.0)


async def run(
    plane: launcher.ControlPlane,
    plan: Plan,
    folder: pathlib.Path,
    *,
    against: pathlib.Path | None = None,
    say: Callable[[str], None],
) -> Results:
    """Measure.

    Arguments:
        plane: a control plane without Argo's controller
        plan: what to measure
        folder: for logs and the like
        against: a checkout whose operator takes part as well
        say: told how far it is

    Raises:
        ContenderFailed: one did not do its work
        PassFailed: a pass did not come to its end
        CallFailed: the API server refused what cannot be done without
    """
    server = api.Api(plane.kubeconfig)
    names = [*plan.contenders, *([_AGAINST] if against else [])]
    # Of the control plane only these two have anything to do with a resume.
    programs = (components.API_SERVER.name, components.ETCD.name)
    pids = [machine.process_of(program, plane.workdir) for program in programs]
    drive = driver.Driver(server, [pid for pid in pids if pid is not None])
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        taking_part = []
        file = folder / "templates.json"
        templates.of_request().save(file)
        for name in sorted(names, key=lambda name: name == report.FLOOR):
            place = contenders.Place(plane.kubeconfig, f"bench-{name}", folder, file)
            await _make_namespace(server, place.namespace)
            if name == report.FLOOR:
                await _sample(server, plane, folder, file)
            one = _contender(name, place, plan, against)
            stack.push_async_callback(one.stop)
            await one.start()
            taking_part.append(one)
        return await _measure(drive, taking_part, plan, say)


async def _measure(
    drive: driver.Driver,
    taking_part: Sequence[contenders.Contender],
    plan: Plan,
    say: Callable[[str], None],
) -> Results:
    rounds: dict[int, dict[str, list[report.Round]]] = {
        nodes: {name.name: [] for name in taking_part} for nodes in plan.nodes
    }
    await drive.settle(plan.settling)
    for nodes, of_size in rounds.items():
        for one in taking_part:
            # Connections are opened, code is compiled, caches are filled: none of it counts.
            await drive.measure(
                one, nodes=nodes, resumes=2 * plan.concurrency, concurrency=plan.concurrency
            )
        for turn in range(plan.rounds):
            first = turn % len(taking_part)
            for one in (*taking_part[first:], *taking_part[:first]):
                idle = await drive.measure(one, nodes=nodes, resumes=plan.idle, concurrency=1)
                busy = await drive.measure(
                    one,
                    nodes=nodes,
                    resumes=plan.resumes_with(nodes),
                    concurrency=plan.concurrency,
                )
                of_size[one.name].append(report.Round(busy=busy, idle=idle))
                say(
                    f"{nodes} nodes, round {turn + 1} of {plan.rounds}: {one.name}"
                    f" {busy.rate:.0f} resumes/s, idle"
                    f" {report.Percentiles.of(idle.latencies).p50 * 1e3:.1f} ms"
                )
    return {
        nodes: {
            name: report.figures(each, of_size.get(report.FLOOR)) for name, each in of_size.items()
        }
        for nodes, of_size in rounds.items()
    }


def _contender(
    name: str, place: contenders.Place, plan: Plan, against: pathlib.Path | None
) -> contenders.Contender:
    match name:
        case report.FLOOR:
            return contenders.Floor(name, place)
        case report.OPERATOR:
            return contenders.Operator(name, place)
        case report.ARGO:
            return contenders.Argo(name, place, plan.concurrency)
        case events.CREATING:
            return events.Creating(name, place)
        case events.RESUMING:
            return events.Resuming(name, place)
        case _:
            assert against is not None
            return contenders.Operator(name, place, against.resolve())


async def _make_namespace(server: api.Api, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await server.call("POST", "/api/v1/namespaces", json.dumps(body).encode())


async def _sample(
    server: api.Api, plane: launcher.ControlPlane, folder: pathlib.Path, file: pathlib.Path
) -> None:
    """Let an operator resume one workflow, and keep what the floor needs to write the same."""
    place = contenders.Place(plane.kubeconfig, "bench-sample", folder, file)
    await _make_namespace(server, place.namespace)
    names = objects.Names(999_999)
    workflows = api.collection("workflows", place.namespace)
    requests = api.collection("workflowresumes", place.namespace)
    operator = contenders.Operator("sample", place)
    try:
        await operator.start()
        body = json.dumps(objects.workflow(names, 2)).encode()
        workflow = json.loads(await server.call("POST", workflows, body))
        operator.tell(names, workflow["metadata"]["uid"])
        request: objects.Json = {}
        async with asyncio.timeout(_SAMPLE_TIMEOUT):
            while "outcome" not in request.get("status", {}):
                await asyncio.sleep(_POLL)
                found = await server.read(requests)
                request = found["items"][0] if found["items"] else {}
    except TimeoutError as error:
        raise contenders.ContenderFailed(
            f"the operator did not decide on the sample in {_SAMPLE_TIMEOUT:g} s"
        ) from error
    finally:
        await operator.stop()
    request |= {"apiVersion": objects.API_VERSION, "kind": "WorkflowResume"}
    templates.of_sample(names, workflow, request).save(file)
