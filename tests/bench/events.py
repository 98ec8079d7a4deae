"""The contenders that are told by a webhook: the shipped Sensor, and Argo Events' own resume.

Both take a signed delivery of GitHub through the same EventSource and bus. The first creates a
WorkflowResume, and the operator does the rest. The second is Argo Events' own trigger
`argoWorkflow` with `operation: resume`, which runs `argo resume NAME`; it has to be told the name,
so the deliveries carry it. Where there is no `argo` on the PATH, a script stands in that calls the
same function of Argo by way of `argo-resume`, a smaller program that starts sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import time
from collections.abc import Iterator

import aiohttp

from tests.bench import contenders, objects
from tests.controlplane import build, client, components
from tests.e2e.support import argoevents, deliveries
from tests.e2e.support import home as homes

CREATING = "argo-events"
RESUMING = "argo-events-resume"

CONTENDERS = (CREATING, RESUMING)

_STAND_IN = """\
#!/bin/sh
# Called as: argo -n NAMESPACE resume NAME
echo "$4" | exec {binary} -kubeconfig "$KUBECONFIG" -namespace "$2"
"""


class Webhook(contenders.Contender):
    """Argo Events, told by deliveries.

    Arguments:
        name: for the reader
        place: where it works
    """

    def __init__(self, name: str, place: contenders.Place) -> None:
        super().__init__(name, place)
        self._answers: asyncio.Queue[contenders.Done] = asyncio.Queue()
        self._posting: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._events: argoevents.ArgoEvents | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._events = await asyncio.to_thread(self._bring_up)
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())

    def tell(self, names: objects.Names, workflow_uid: str) -> None:
        task = asyncio.create_task(self._post(names), name=f"post {names.number}")
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def answer(self) -> contenders.Done:
        return await self._answers.get()

    @property
    def processes(self) -> tuple[int, ...]:
        assert self._events is not None, "it was not started"
        return tuple(self._events.pids.values())[::-1]

    async def stop(self) -> None:
        await self._stack.aclose()

    def _bring_up(self) -> argoevents.ArgoEvents:
        home = homes.Home(client.Cluster(self.place.kubeconfig), self.place.namespace)
        self._stack.callback(home.cluster.close)
        return self._stack.enter_context(self._running(home))

    @contextlib.contextmanager
    def _running(self, home: homes.Home) -> Iterator[argoevents.ArgoEvents]:
        values = {"repositories": f"^{deliveries.REPOSITORY}$"}
        with argoevents.running(home, values) as events:
            yield events

    async def _post(self, names: objects.Names) -> None:
        assert self._session is not None
        assert self._events is not None
        # The title is for Argo's own resume, which needs the name.
        delivery = deliveries.opened(names.task, title=names.workflow)
        start = time.time_ns()
        try:
            async with self._session.post(
                self._events.url,
                data=delivery.body,
                headers=delivery.headers(argoevents.SECRET),
            ) as answer:
                text = await answer.text()
            error = "" if answer.ok else f"{answer.status}: {text}"
        except aiohttp.ClientError as failure:
            error = str(failure)
        done = contenders.Done(names.workflow, start, time.time_ns(), error)
        self._answers.put_nowait(done)


class Creating(Webhook):
    """The shipped Sensor, and the operator."""

    writes_events = True

    def __init__(self, name: str, place: contenders.Place) -> None:
        super().__init__(name, place)
        self._operator = contenders.Operator(name, place)

    async def start(self) -> None:
        await super().start()
        self._stack.push_async_callback(self._operator.stop)
        await self._operator.start()

    @property
    def processes(self) -> tuple[int, ...]:
        return (self._operator.processes[0], *super().processes)


class Resuming(Webhook):
    """Argo Events' own resume, with a Sensor that is otherwise the same."""

    makes_requests = False

    @contextlib.contextmanager
    def _running(self, home: homes.Home) -> Iterator[argoevents.ArgoEvents]:
        values = {"repositories": f"^{deliveries.REPOSITORY}$"}
        with argoevents.running(
            home, values, change=_resume_by_name, path=self._argo_folder()
        ) as events:
            yield events

    def _argo_folder(self) -> pathlib.Path | None:
        """Where the stand-in for `argo` is; None where there is an `argo`."""
        if shutil.which("argo") is not None:
            return None
        folder = self.place.folder / "path"
        folder.mkdir()
        script = folder / "argo"
        binary = build.ensure((components.ARGO_RESUME,))[components.ARGO_RESUME.name].binary
        script.write_text(_STAND_IN.format(binary=binary))
        script.chmod(0o755)
        return folder


def program() -> str:
    """What runs as `argo`, for the reader."""
    found = shutil.which("argo")
    return found or "argo-resume, for there is no argo on the PATH"


def _resume_by_name(manifests: list[objects.Json]) -> None:
    """Turns the shipped manifests into those of a user of `operation: resume`."""
    for manifest in manifests:
        if manifest["kind"] == "Role":
            # To change any field of any workflow: nothing less will do for `argo resume`.
            manifest["rules"] = [
                {
                    "apiGroups": ["argoproj.io"],
                    "resources": ["workflows"],
                    "verbs": ["get", "list", "patch", "update"],
                }
            ]
        elif manifest["kind"] == "Sensor":
            for trigger in manifest["spec"]["triggers"]:
                template = trigger["template"]
                del template["k8s"]
                template["argoWorkflow"] = _resume_trigger(template["name"])


def _resume_trigger(dependency: str) -> objects.Json:
    workflow = {
        "apiVersion": objects.API_VERSION,
        "kind": "Workflow",
        "metadata": {"name": "unknown"},
    }
    name = {"dependencyName": dependency, "dataKey": "githubEvent.pull_request.title"}
    return {
        "operation": "resume",
        "source": {"resource": workflow},
        "parameters": [{"src": name, "dest": "metadata.name"}],
    }
