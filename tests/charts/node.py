"""Plays the node that a plane has not: runs each pod of a Deployment as an operator's process.

A pod's process gets the arguments of its container and the token of its ServiceAccount, is ready
when its `/readyz` says so, and gets SIGTERM when the pod is deleted. So `helm upgrade --wait` or
`kubectl scale` do to operators what they do in a cluster. What image a pod names is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
import threading
from collections.abc import Mapping, Sequence

import urllib3

from tests.charts import plane as planes
from tests.charts.charts import Json
from tests.controlplane import client
from tests.e2e.support import process, waiting

_RELEASE = "app.kubernetes.io/instance"
_OF_THE_POD = ("run", "--metrics-port=", "--log-format=")
"""Options that `process.start` gives: two pods may not have one port of this machine."""

_POLL = 0.2


class Node:
    """Runs the pods of one namespace, as long as its block lasts.

    Every process has to leave with exit code 0 after SIGTERM, and may not end before.
    """

    def __init__(self, plane: planes.Plane, namespace: str, folder: pathlib.Path) -> None:
        self._plane = plane
        self._namespace = namespace
        self._folder = folder
        self._releases: dict[str, str] = {}
        self._running: dict[str, process.Operator] = {}
        self._leaving: dict[str, process.Operator] = {}
        self._ready: set[str] = set()
        self._faults: list[str] = []
        self._trouble = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)
        # Of its own: the connections of the plane's client are the test's.
        self._cluster = client.Cluster(plane.kubeconfig)

    def __enter__(self) -> Node:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        operators = [*self._running.values(), *self._leaving.values()]
        try:
            self._faults += [f"ended by itself: {one.tail()}" for one in self._dead()]
            for one in self._running.values():
                self._left(one, one.stop())
            # They have had their SIGTERM: another one ends a process that no longer listens for it.
            for one in self._leaving.values():
                self._left(one, one.ended())
        finally:
            for one in operators:
                one.kill()
                print(one.tail())
            self._cluster.close()
        if kind is None:
            assert not self._faults, "\n".join(self._faults)

    def of(self, release: str) -> Sequence[process.Operator]:
        """The processes of a release whose pods were not deleted."""
        return [one for pod, one in list(self._running.items()) if self._releases[pod] == release]

    def settled(self) -> None:
        """Waits until there is a process for each pod, and none whose pod was deleted.

        Raises:
            AssertionError: that does not come, or something went wrong before
        """

        def done() -> bool:
            return set(self._running) == set(self._pods()) and not self._leaving

        waiting.eventually(
            lambda: self._faults or done(),
            lambda: (
                f"at work: {sorted(self._running)}, leaving: {sorted(self._leaving)}; "
                f"last trouble: {self._trouble}"
            ),
        )
        assert not self._faults, "\n".join(self._faults)

    def _run(self) -> None:
        while not self._ended.wait(_POLL):
            try:
                self._round()
            except AssertionError as error:
                self._faults.append(str(error))
            # A pod that has gone, an answer that was late: the next round sees what is there then.
            except (client.ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                self._trouble = repr(error)
            if self._faults:
                return

    def _round(self) -> None:
        pods = self._pods()
        for name, pod in pods.items():
            if name not in self._running:
                self._start(name, pod)
            elif name not in self._ready and self._is_ready(name):
                # It may have been deleted meanwhile.
                with contextlib.suppress(client.ApiError):
                    planes.say_ready(self._cluster, pod)
                self._ready.add(name)
        for name in set(self._running) - set(pods):
            self._stop(name)
        for name, one in list(self._leaving.items()):
            if not one.alive:
                self._left(one, one.ended())
                del self._leaving[name]
        self._faults += [f"ended by itself: {one.tail()}" for one in self._dead()]

    def _pods(self) -> Mapping[str, Json]:
        return {
            pod["metadata"]["name"]: pod
            for pod in self._plane.cluster.list_all("v1/Pod", self._namespace)
            if "deletionTimestamp" not in pod["metadata"]
        }

    def _start(self, name: str, pod: Json) -> None:
        container = pod["spec"]["containers"][0]
        account = self._plane.account(self._namespace, pod["spec"]["serviceAccountName"])
        self._releases[name] = pod["metadata"]["labels"][_RELEASE]
        self._running[name] = process.start(
            account,
            self._folder / f"{name}.log",
            [],
            options=[one for one in container["args"] if not one.startswith(_OF_THE_POD)],
            env={"POD_NAME": name},
        )

    def _is_ready(self, name: str) -> bool:
        operator = self._running[name]
        served = any(line["event"] == "serving metrics and health" for line in operator.log())
        return served and operator.get("/readyz")[0] == 200

    def _stop(self, name: str) -> None:
        operator = self._running.pop(name)
        if operator.alive:
            operator.signal(signal.SIGTERM)
        self._leaving[name] = operator

    def _left(self, operator: process.Operator, code: int) -> None:
        # One that had not even begun knows nothing of signals yet.
        begun = bool(operator.log())
        if code != 0 and (begun or code != -signal.SIGTERM):
            self._faults.append(f"exit code {code} after SIGTERM: {operator.tail()}")

    def _dead(self) -> Sequence[process.Operator]:
        return [one for one in self._running.values() if not one.alive]


def writers(audit_log: pathlib.Path, namespace: str) -> Mapping[str, Sequence[str]]:
    """For each Workflow of a namespace the accounts whose writes to it took effect, in order.

    A write of the operator to a Workflow opens a gate or fails: that is what it tests for.
    """
    found: dict[str, list[str]] = {}
    text = audit_log.read_bytes()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        if namespace.encode() not in line or b'"resumer/' not in line:
            continue
        entry = json.loads(line)
        target = entry.get("objectRef", {})
        if (
            (entry["verb"], target.get("resource")) == ("patch", "workflows")
            and target["namespace"] == namespace
            and entry["responseStatus"]["code"] == 200
        ):
            account = entry["user"]["username"].rpartition(":")[2]
            found.setdefault(target["name"], []).append(account)
    return found
