"""Starts and stops a control plane: etcd, API server, controller manager and Argo's controller.

    with launcher.start() as plane:
        subprocess.run(["kubectl", f"--kubeconfig={plane.kubeconfig}", "get", "workflows"])

Every control plane has its own ports, certificates and data, in a folder that goes with it, however
its owner ends (see `supervisor`). It starts in seconds once its components are built.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import pathlib
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, get_args

import yaml

from tests.controlplane import build, client, components, processes, seed, storage, supervised

Crds = Literal["full", "minimal"]

PROJECT_CRDS = pathlib.Path(__file__).parents[2] / "crds"

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 10.0
_POLL = 0.05
_LOG_LINES = 30
_PORT_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"

# All that spins or stalls when the store or the API server goes away from under it.
_BACKENDS = (components.ETCD.name, components.API_SERVER.name)


class StartFailed(RuntimeError):
    """A component did not start, or did not stay; the message names it and ends with its log."""

    def __init__(self, component: str, what: str, log: str) -> None:
        super().__init__(f"{component} {what}; the end of its log:\n{log}")
        self.component = component
        self.log = log


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What may differ between control planes.

    Arguments:
        crds: Argo's CRDs with their full schemas, as its manifests install them, or the minimal
            ones, which let everything pass, as its Helm chart may
        argo: run Argo's controller; its CRDs are there in any case
        requeue: how long Argo lets a changed Workflow wait for more changes, as a Go duration
        audit: keep an audit log, a JSON object for each request that was answered
        extra_env: environment variables of Argo's controller, such as MAX_WORKFLOW_SIZE (bytes
            above which it compresses a Workflow's nodes)
        argo_config: keys of Argo's ConfigMap, such as instanceID or persistence
        extra_args: further flags of a component, by its name
        component_env: further environment variables of a component, by its name
        crd_folders: folders of further CustomResourceDefinitions; the project's by default
    """

    crds: Crds = "full"
    argo: bool = True
    requeue: str = "100ms"
    audit: bool = False
    extra_env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    argo_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extra_args: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    component_env: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    crd_folders: Sequence[pathlib.Path] = (PROJECT_CRDS,)

    def __post_init__(self) -> None:
        if self.crds not in get_args(Crds):
            raise ValueError(f"crds {self.crds!r}: allowed are {', '.join(get_args(Crds))}")


class ControlPlane:
    """A running control plane; `start` makes one. Leaving it as a context manager stops it.

    Attributes:
        layout: where its files and ports are
        kubeconfig: of a cluster administrator
        server: URL of the API server
        workdir: folder of all its files, which goes when it stops
        audit_log: one JSON object for each request that was answered; None unless asked for
    """

    def __init__(
        self, layout: processes.Layout, options: Options, built: Mapping[str, build.Built]
    ) -> None:
        self.layout = layout
        self._options = options
        self._built = built
        self._running: dict[str, processes.Process] = {}
        self._argo_waits = False
        # Of the kinds that tests read and write.
        self._collections: Sequence[str] = ()
        self._supervisor = supervised.Supervisor(layout.workdir)
        self.kubeconfig = layout.kubeconfig
        self.server = layout.server
        self.workdir = layout.workdir
        self.audit_log = layout.audit_log if options.audit else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all components and remove the working directory."""
        self._running.clear()
        self._supervisor.stop()

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> pathlib.Path:
        """A kubeconfig with a certificate of this user, who may do what RBAC allows and no more.

        Arguments:
            user: name that the API server knows the user by
            groups: that it puts the user into
        """
        return self.layout.kubeconfig_for(user, groups)

    def start_component(self, name: str) -> None:
        """Start a component that was stopped or killed, and wait until it is ready.

        Argo's controller starts as well, if it was stopped along with etcd or the API server.

        Raises:
            StartFailed: it ended again, or was not ready in time
            ValueError: there is no such component
        """
        self._launch(name)
        self._await_ready(name)
        if name in _BACKENDS and all(backend in self._running for backend in _BACKENDS):
            self._await_of_kinds(storage.cut_off)
            if self._argo_waits:
                self._argo_waits = False
                self.start_component(components.ARGO.name)

    def stop_component(self, name: str) -> None:
        """Stop a component as its operator would, and wait until it has ended.

        Argo's controller is stopped before etcd or the API server, since it spins without them.
        """
        self._end(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """Kill a component, as a node that fails would, and wait until it has ended.

        Argo's controller is stopped before etcd or the API server, since it spins without them.
        """
        self._end(name, signal.SIGKILL)

    def restart(self, name: str) -> None:
        """Stop a component and start it on its old ports and data."""
        self.stop_component(name)
        self.start_component(name)

    def log_tail(self, name: str, lines: int = _LOG_LINES) -> str:
        """The last lines that a component has written."""
        log = self.layout.log(name)
        text = log.read_text(errors="replace") if log.exists() else ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    def ended(self) -> Mapping[str, int]:
        """The components that ended though nobody stopped them, with their exit codes."""
        status = self._supervisor.status()
        return {name: code for name in self._running if (code := status[name]) is not None}

    def bring_up(self) -> None:
        """Start all components; for `start` alone."""
        processes.prepare(self.layout)
        kept = seed.location(self._built.values(), self._options.crds)
        planted = seed.plant(kept, self.layout.etcd_data)
        # The API server waits for etcd by itself, and has enough to do meanwhile.
        self._launch(components.ETCD.name)
        self._launch(components.API_SERVER.name)
        folder = self._built[components.ARGO.name].data(f"crds/{self._options.crds}")
        argo = client.load_definitions(folder)
        self._await_ready(components.API_SERVER.name)
        with contextlib.closing(client.Cluster(self.kubeconfig)) as cluster:
            if planted:
                cluster.await_served(argo)
            else:
                cluster.establish(argo)
                self._keep_seed(kept)
            ours = [client.load_definitions(one) for one in self._options.crd_folders]
            for definitions in ours:
                cluster.establish(definitions)
            cluster.apply(_argo_configuration(self._options.argo_config))
        # After the CRDs, else the garbage collector would learn of them half a minute late.
        last = [components.CONTROLLER_MANAGER.name]
        if self._options.argo:
            last.append(components.ARGO.name)
        for name in last:
            self._launch(name)
        for name in last:
            self._await_ready(name)
        workflows = [one for one in argo if one["spec"]["names"]["kind"] == "Workflow"]
        self._collections = storage.collections(itertools.chain(workflows, *ours))
        self._await_of_kinds(storage.unlisted)

    def _keep_seed(self, kept: pathlib.Path) -> None:
        self._supervisor.signal(components.ETCD.name, signal.SIGSTOP)
        try:
            seed.harvest(self.layout.etcd_data, kept)
        finally:
            self._supervisor.signal(components.ETCD.name, signal.SIGCONT)

    def _describe(self, name: str) -> processes.Process:
        """How a component is run."""
        options = self._options
        match name:
            case components.ETCD.name:
                return processes.etcd(self._built[name], self.layout)
            case components.API_SERVER.name:
                return processes.api_server(self._built[name], self.layout, audit=options.audit)
            case components.CONTROLLER_MANAGER.name:
                return processes.controller_manager(self._built[name], self.layout)
            case components.ARGO.name:
                return processes.argo(
                    self._built[name],
                    self.layout,
                    requeue=options.requeue,
                    environment=options.extra_env,
                )
            case _:
                allowed = ", ".join(one.name for one in components.CONTROL_PLANE)
                raise ValueError(f"component {name!r}: allowed are {allowed}")

    def _launch(self, name: str) -> None:
        process = self._describe(name)
        argv = (*process.argv, *self._options.extra_args.get(name, ()))
        env = {**process.env, **self._options.component_env.get(name, {})}
        try:
            self._supervisor.start(name, argv, env, self.layout.log(name))
        except OSError as error:
            raise StartFailed(name, "cannot be run", str(error)) from error
        self._running[name] = process

    def _await_ready(self, name: str) -> None:
        self._await(name, self._running[name].ready)

    def _await_of_kinds(self, look: Callable[[client.Cluster, Sequence[str]], str | None]) -> None:
        with contextlib.closing(client.Cluster(self.kubeconfig)) as cluster:
            self._await(components.API_SERVER.name, lambda: look(cluster, self._collections))

    def _await(self, name: str, look: Callable[[], str | None]) -> None:
        """Returns when a look, which says what a component lacks, finds nothing lacking."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            late = time.monotonic() > deadline
            # Before the probe: another server may have taken a dead one's port.
            for ended, code in self.ended().items():
                raise StartFailed(ended, f"ended with exit code {code}", self.log_tail(ended))
            if (lacking := look()) is None:
                return
            if late:
                what = f"was not ready within {_START_TIMEOUT:g} s ({lacking})"
                raise StartFailed(name, what, self.log_tail(name))
            time.sleep(_POLL)

    def _end(self, name: str, how: signal.Signals) -> None:
        if name in _BACKENDS and components.ARGO.name in self._running:
            self._argo_waits = True
            self._end(components.ARGO.name, signal.SIGKILL)
        self._running.pop(name, None)
        # Argo's controller takes no notice of SIGTERM.
        self._supervisor.signal(name, signal.SIGKILL if name == components.ARGO.name else how)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while self._supervisor.status().get(name, 0) is None:
            if time.monotonic() > deadline:
                self._supervisor.signal(name, signal.SIGKILL)
            time.sleep(_POLL)


def start(
    *,
    crds: Crds = "full",
    argo: bool = True,
    requeue: str = "100ms",
    audit: bool = False,
    extra_env: Mapping[str, str] | None = None,
    argo_config: Mapping[str, Any] | None = None,
    extra_args: Mapping[str, Sequence[str]] | None = None,
    component_env: Mapping[str, Mapping[str, str]] | None = None,
    crd_folders: Sequence[pathlib.Path] = (PROJECT_CRDS,),
) -> ControlPlane:
    """A control plane that is ready for use; components which were never built are built first.

    The arguments are those of `Options`.

    Raises:
        StartFailed: a component did not start; all others have been stopped again
        build.BuildFailed: a component could not be built
    """
    options = Options(
        crds=crds,
        argo=argo,
        requeue=requeue,
        audit=audit,
        extra_env=extra_env or {},
        argo_config=argo_config or {},
        extra_args=extra_args or {},
        component_env=component_env or {},
        crd_folders=crd_folders,
    )
    built = build.ensure()
    for _ in range(_PORT_ATTEMPTS - 1):
        try:
            return _start_once(options, built)
        except StartFailed as failure:
            # Somebody else took a port between its choice and its use.
            if _PORT_TAKEN not in failure.log:
                raise
    return _start_once(options, built)


def _start_once(options: Options, built: Mapping[str, build.Built]) -> ControlPlane:
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="resumer-controlplane-"))
    plane = ControlPlane(processes.Layout(workdir, processes.Ports.pick()), options, built)
    try:
        plane.bring_up()
    except BaseException:
        # Ctrl-C included: nothing is left behind.
        plane.stop()
        raise
    return plane


def _argo_configuration(config: Mapping[str, Any]) -> str:
    """Argo's namespace and ConfigMap, with its metrics off, for their ports are fixed."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": processes.ARGO_NAMESPACE},
    }
    off = {"enabled": False}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": processes.ARGO_CONFIG, "namespace": processes.ARGO_NAMESPACE},
        "data": {
            "config": yaml.safe_dump({"metricsConfig": off, "telemetryConfig": off, **config})
        },
    }
    return yaml.safe_dump_all([namespace, config_map])
