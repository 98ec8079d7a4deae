"""An operator behind a `proxy.Proxy` that can be killed and started again, and what it wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.e2e.support import history as histories
from tests.e2e.support import home as homes
from tests.e2e.support import manifests, process
from tests.e2e.support import proxy as proxies
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

BREAKER = "argoproj.io/v1alpha1/WorkflowResumeBreaker"


@dataclasses.dataclass(slots=True)
class Rig:
    """The parts, and one operator or none at work.

    Attributes:
        home: where it works
        proxy: that it sees the API server through
        history: of all its requests
        folder: for the logs
        options: further command-line options of the operator
        env: further environment variables of it
        module: that is run, where it is not the operator's own
    """

    home: Home
    proxy: proxies.Proxy
    history: histories.History
    folder: pathlib.Path
    options: Sequence[str] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    module: str = "resumer"
    _operator: process.Operator | None = None
    _started: int = 0

    @property
    def operator(self) -> process.Operator:
        """The operator at work."""
        assert self._operator is not None, "no operator runs"
        return self._operator

    def start(self, *, ready: bool = True) -> process.Operator:
        """Starts an operator, and by default waits until it is at work."""
        assert self._operator is None, "one operator runs already"
        self._started += 1
        self._operator = process.start(
            self.proxy.kubeconfig,
            self.folder / f"operator-{self._started}.log",
            [self.home.namespace],
            options=self.options,
            env=self.env,
            module=self.module,
        )
        if ready:
            self._operator.wait_logged("ready", process.START_TIMEOUT)
        return self._operator

    def revive(self) -> None:
        """Starts an operator where a test killed it and failed before it started another one."""
        if self._started and self._operator is None:
            self.start()

    def at_gates(self, stage: str, count: int, prefix: str = "") -> Sequence[str]:
        """So many Workflows of a stage, each at its first gate; named after it, or the prefix."""
        names = [f"{prefix or stage}-{number}" for number in range(count)]
        for name in names:
            self.home.cluster.create(self.workflow(name, stage), self.home.namespace)
        for name in names:
            self.home.at_gate(name, manifests.TWO_GATES[0])
        return names

    def shown(self, name: str, policy: str) -> Json:
        """A Workflow at its first gate, as the operator's own watch has shown it.

        A dry run is decided on what the watches have shown. Without it a request may come before
        the gate that was there before it, and waits for a moment.
        """
        body = self.home.submit(self.workflow(name, policy))
        seen = f"{name}-seen"
        self.home.ask(self.request(seen, policy, task=name, dryRun=True))
        self.home.came_to(seen, Reason.WOULD_RESUME)
        return body

    def kill(self) -> None:
        """SIGKILL."""
        self.operator.kill()
        self._operator = None

    def stop(self) -> None:
        """SIGTERM, and the operator has to have been alive and to leave in order."""
        operator, self._operator = self._operator, None
        if operator is not None:
            try:
                assert operator.alive, f"the operator ended by itself; {operator.tail()}"
                assert operator.stop() == 0, operator.tail()
            finally:
                operator.kill()

    def logs(self) -> str:
        """The ends of the logs of all operators."""
        files = sorted(self.folder.glob("operator-*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()[-20000:]}" for file in files)

    def policy(self, name: str, **stage: Any) -> None:
        """Creates a policy of this name, with one stage and one event type of the same name.

        Arguments:
            name: of all three; a breaker belongs to a stage, so a test has one of its own
            **stage: further fields of the stage; attempts follow each other quickly by default
        """
        quick = {"strategy": "Fixed", "baseSeconds": 0.5, "jitter": "None"}
        stage["retry"] = {**quick, **stage.get("retry", {})}
        written = {"name": name, "eventTypes": [name], **stage}
        self.home.govern(manifests.policy(name, written, matches={"policy": name}))

    def workflow(self, name: str, policy: str, **more: Any) -> Json:
        """A Workflow of a policy's stage that waits at `first`, and once that is open `second`."""
        return manifests.two_gates(name, name, stage=policy, labels={"policy": policy}, **more)

    def request(self, name: str, policy: str, *, task: str = "", **spec: Any) -> Json:
        """A WorkflowResume for the Workflow of the same name."""
        return manifests.resume(
            name, task=task or name, event_type=policy, policyName=policy, **spec
        )

    def writes(self, workflow: str) -> Sequence[proxies.Exchange]:
        """The PATCHes to a Workflow that have ended."""
        return self.proxy.log("PATCH", rf"/workflows/{workflow}$")

    def opened_once(self, name: str, request: str = "", *, answered: bool = True) -> Json:
        """Asserts that the first gate was opened by exactly this request, and nothing else was.

        Arguments:
            name: of the Workflow
            request: its name, where it differs from the Workflow's
            answered: whether the API server answered every call that it carried out; one that dies
                may not have

        Returns:
            The Workflow, at its second gate.
        """
        request = request or name
        body = self.home.at_gate(name, "second")
        uid = self.home.cluster.get(homes.RESUME, request, self.home.namespace)["metadata"]["uid"]
        found = homes.node(body, "first")
        assert found["message"] == f"Resumed by: workflowresume/{request} (uid {uid})"
        assert found["phase"] == "Succeeded"
        assert homes.node(body, "second")["phase"] == "Running"
        done = [one for one in self.writes(name) if one.took_effect]
        unknown = [one for one in self.writes(name) if not answered and one.upstream is None]
        assert len(done) == 1 or (not done and unknown), f"{name}: {len(done)} writes took effect"
        return body

    def came_to(self, name: str, reason: Reason) -> Json:
        """The status of a request, as soon as it says this reason; the history has it, too."""
        status = self.home.came_to(name, reason)
        self.history.wait(name, lambda seen: seen == status)
        return status

    def resumed_once(self, name: str) -> Json:
        """The status of a request that has opened the gate of the Workflow of its name, once."""
        status = self.came_to(name, Reason.GATE_OPENED)
        self.opened_once(name)
        return status

    def untouched(self, name: str) -> None:
        """Asserts that a Workflow is at its first gate and nothing of ours is on it."""
        body = self.home.workflow(name)
        assert list(homes.open_gates(body)) == ["first"]
        assert not [one for one in self.writes(name) if one.took_effect]

    def breaker(self, stage: str) -> Json | None:
        """The breaker of a stage, or None where there is none."""
        try:
            return self.home.cluster.get(BREAKER, stage, self.home.namespace)
        except client.ApiError as error:
            if error.status != 404:
                raise
            return None

    def breaker_in(self, stage: str, state: str) -> Json:
        """The status of the breaker of a stage, as soon as it is in this state."""
        body = self.home.cluster.wait_for(
            BREAKER,
            stage,
            self.home.namespace,
            lambda body: body.get("status", {}).get("state") == state,
            homes.TIMEOUT,
            describe=state,
        )
        status: Json = body["status"]
        return status


@contextlib.contextmanager
def running(
    home: Home,
    folder: pathlib.Path,
    *,
    options: Sequence[str] = (),
    upstream: pathlib.Path | None = None,
    start: bool = True,
    env: Mapping[str, str] | None = None,
    module: str = "resumer",
) -> Iterator[Rig]:
    """A rig whose operator is at work; in the end it has to leave in order.

    Arguments:
        home: where it works
        folder: for logs, certificates and the kubeconfig
        options: further command-line options of the operator
        upstream: kubeconfig of the user that the operator is; by default its account in the home
        start: whether an operator is started
        env: further environment variables of the operator
        module: that is run, where it is not the operator's own
    """
    with (
        proxies.running(upstream or home.account(), folder) as proxy,
        histories.watching(home.cluster, home.namespace) as history,
    ):
        rig = Rig(home, proxy, history, folder, options, env or {}, module)
        try:
            if start:
                rig.start()
            yield rig
            rig.stop()
        finally:
            # Shown with whatever failed.
            print(rig.logs())
            if rig._operator is not None:
                rig.kill()
