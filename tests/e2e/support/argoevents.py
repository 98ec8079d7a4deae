"""Argo Events at work in a namespace: the shipped manifests, and the processes they come to.

Argo Events' own controller reads the manifests and makes a Deployment for each EventSource and each
Sensor. `running` plays the kubelet for them: it runs the same program with the arguments, the
environment, the mounted Secrets and the ServiceAccount that the Deployment says. Three things
differ from a cluster: the bus is one nats-server instead of a StatefulSet of three, its clients
need no password, and the webhook has a free port.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.controlplane import build, certs, client, components, processes, supervised
from tests.e2e.support import home as homes
from tests.e2e.support import kustomize, pages, waiting
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json

MANIFESTS = pages.ROOT / "deploy" / "argo-events"
"""What is shipped; a user copies the folder and changes the values."""

BUS = "bus"
EVENT_SOURCE = "github-webhook"
SENSOR = "github-resume"
SECRET_NAME = "github-webhook"
SECRET = "It's a Secret to Everybody"
"""The webhook's secret, with which GitHub signs."""

START_TIMEOUT = 60.0

_CONTROLLER = "controller"
_DEPLOYMENT = "apps/v1/Deployment"
_SENSOR_OBJECT = "SENSOR_OBJECT"


@dataclasses.dataclass(frozen=True, slots=True)
class _Server:
    """A process that is to be run."""

    argv: Sequence[str]
    environment: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Ports:
    """The loopback ports of one bus and one webhook."""

    bus: int
    monitor: int
    webhook: int


class ArgoEvents:
    """The bus, the EventSource and the Sensors of a namespace; `running` makes one.

    Attributes:
        home: where the manifests are applied
        url: of the webhook
        pids: the process ids of what was started last
    """

    def __init__(
        self,
        home: Home,
        built: Mapping[str, build.Built],
        supervisor: supervised.Supervisor,
        names: Sequence[str],
        path: pathlib.Path | None,
    ) -> None:
        self.home = home
        self._source, *self._sensors = names
        self._sensor = self._sensors[0]
        self._path = path
        self._built = built
        self._supervisor = supervisor
        self._ports = _Ports(*processes.free_ports(3))
        self._servers: dict[str, _Server] = {}
        self._consumers: dict[str, set[str]] = {}
        """Of each Sensor that was at work, its triggers' consumers, by name: the bus keeps them."""
        self.pids: dict[str, int] = {}
        self.url = f"http://{processes.HOST}:{self._ports.webhook}/github"

    def start(self, name: str) -> None:
        """Start the bus, the EventSource or the Sensor, and wait until it is at work."""
        server = self._servers[name]
        before = len(self.log(name))
        log = self._log_file(name)
        self.pids[name] = self._supervisor.start(name, server.argv, server.environment, log)
        ready: Mapping[str, Callable[[], bool]] = {
            BUS: self._bus_answers,
            self._source: lambda: "route is activated" in self.log(name)[before:],
            **dict.fromkeys(self._sensors, lambda: self._sensor_waits(name)),
        }
        waiting.eventually(ready[name], lambda: self.tail(name), START_TIMEOUT)

    def end(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a process a signal that ends it, and wait for the end."""
        self._supervisor.signal(name, how)
        waiting.eventually(lambda: not self.alive(name), lambda: self.tail(name))

    def deploy(self, name: str, change: Callable[[Json], None] = lambda _: None) -> None:
        """Runs a Sensor as it was applied but for a change, in the place of the one that ran.

        Arguments:
            name: of the Sensor
            change: made to its `spec`
        """
        applied = self._servers[name]
        sensor = _decoded(applied.environment[_SENSOR_OBJECT])
        change(sensor["spec"])
        if name in self.pids and self.alive(name):
            self.end(name)
        changed = {**applied.environment, _SENSOR_OBJECT: _encoded(sensor)}
        self._servers[name] = _Server(applied.argv, changed)
        try:
            self.start(name)
        finally:
            self._servers[name] = applied

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """A process that does nothing for the time of the block."""
        self._supervisor.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._supervisor.signal(name, signal.SIGCONT)

    def alive(self, name: str) -> bool:
        """Whether a process runs."""
        return self._supervisor.status()[name] is None

    def log(self, name: str) -> str:
        """What a process has written, in all its runs."""
        file = self._log_file(name)
        return file.read_text(errors="replace") if file.exists() else ""

    def tail(self, name: str) -> str:
        """The end of it."""
        return "\n".join([f"{name}, the end of its log:", *self.log(name).splitlines()[-40:]])

    def drained(self) -> None:
        """Return as soon as the Sensor is through with all that is on the bus."""
        waiting.eventually(
            lambda: all(
                one["num_pending"] == one["num_ack_pending"] == 0 for one in self.consumers()
            ),
            lambda: f"{self.consumers()}\n{self.tail(self._sensor)}",
            START_TIMEOUT,
        )

    def messages(self) -> int:
        """How many events the bus has taken so far."""
        return sum(stream["state"]["last_seq"] for stream in self._streams())

    def consumers(self) -> list[Json]:
        """How far each trigger of the Sensor is, as the bus tells it."""
        return [
            consumer
            for stream in self._streams()
            for consumer in stream.get("consumer_detail") or ()
        ]

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """The Sensor as it is, but with hardly any wait between a trigger's attempts."""
        server = self._servers[self._sensor]
        sensor = _decoded(server.environment[_SENSOR_OBJECT])
        for trigger in sensor["spec"]["triggers"]:
            trigger["retryStrategy"]["duration"] = "10ms"
        hasty = {**server.environment, _SENSOR_OBJECT: _encoded(sensor)}
        self._restart_sensor(_Server(server.argv, hasty))
        try:
            yield
        finally:
            self._restart_sensor(server)

    def lead_sensor(self, kubeconfig: pathlib.Path) -> None:
        """Let the Sensor reach the API server by another way from now on."""
        server = self._servers[self._sensor]
        led = {**server.environment, "KUBECONFIG": str(kubeconfig)}
        self._restart_sensor(_Server(server.argv, led))

    def requests(self, delivery: str) -> list[Json]:
        """The WorkflowResumes that the Sensor has made of a delivery so far."""
        found = self.home.cluster.list_all(homes.RESUME, self.home.namespace)
        return [one for one in found if one["metadata"]["name"].startswith(f"resume-{delivery}-")]

    def request(self, delivery: str) -> Json:
        """The one WorkflowResume of a delivery, as soon as it is there."""
        waiting.eventually(lambda: self.requests(delivery), lambda: self.tail(self._sensor))
        (found,) = self.requests(delivery)
        return found

    def kubeconfig(self) -> pathlib.Path:
        """The Sensor's."""
        return pathlib.Path(self._servers[self._sensor].environment["KUBECONFIG"])

    def bring_up(self, manifests: Sequence[Json]) -> None:
        """Start everything; for `running` alone."""
        self._servers[BUS] = self._describe_bus()
        self.start(BUS)
        deployments = self._deployments(manifests)
        for name in (self._source, *self._sensors):
            self._servers[name] = self._describe(name, deployments[name])
        for name in (self._source, self._sensor):
            self.start(name)

    def _restart_sensor(self, server: _Server) -> None:
        self.end(self._sensor)
        self._servers[self._sensor] = server
        self.start(self._sensor)

    def _bus_answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._monitor("/healthz").get("status") == "ok")
        return False

    def _sensor_waits(self, name: str) -> bool:
        """Whether each trigger of a Sensor has asked the bus for its next event."""
        triggers = _decoded(self._servers[name].environment[_SENSOR_OBJECT])["spec"]["triggers"]
        others = set().union(*(own for of, own in self._consumers.items() if of != name))
        consumers = [one for one in self.consumers() if one["name"] not in others]
        if len(consumers) != len(triggers) or not all(one["num_waiting"] for one in consumers):
            return False
        self._consumers[name] = {str(one["name"]) for one in consumers}
        return True

    def _streams(self) -> list[Json]:
        return [
            stream
            for account in self._monitor("/jsz?consumers=true").get("account_details") or ()
            for stream in account.get("stream_detail") or ()
            if stream["name"] == "default"
        ]

    def _monitor(self, path: str) -> Json:
        url = f"http://{processes.HOST}:{self._ports.monitor}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: Json = json.load(answer)
        return found

    def _describe_bus(self) -> _Server:
        """A JetStream that keeps its streams on disk and speaks TLS, as Argo Events demands."""
        pki = self._folder(BUS) / "pki"
        certificate, key = certs.Authority(pki).issue_server(BUS, ("localhost",), (processes.HOST,))
        settings = {
            "server_name": "bus",
            "listen": f"{processes.HOST}:{self._ports.bus}",
            "http": f"{processes.HOST}:{self._ports.monitor}",
            # As Argo Events' controller sets it.
            "max_payload": 1024 * 1024,
            "tls": {"cert_file": str(certificate), "key_file": str(key)},
            "jetstream": {"store_dir": str(self._folder(BUS) / "store")},
        }
        file = self._folder(BUS) / "nats.conf"
        # Its format takes JSON.
        file.write_text(json.dumps(settings))
        return _Server((str(self._built[components.NATS.name].binary), "-c", str(file)), {})

    def _deployments(self, manifests: Sequence[Json]) -> Mapping[str, Json]:
        """What Argo Events' controller makes of the manifests."""
        cluster, namespace = self.home.cluster, self.home.namespace
        events = self._built[components.ARGO_EVENTS.name]
        root = self._folder(_CONTROLLER)
        (root / "etc/argo-events").mkdir(parents=True)
        config = _config_map(events.data("controller"))
        for name, text in config["data"].items():
            (root / "etc/argo-events" / name).write_text(text)
        for manifest in manifests:
            cluster.apply(manifest, namespace)
        secret = {"metadata": {"name": SECRET_NAME}, "stringData": {"secret": SECRET}}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", **secret}, namespace)
        argv = (
            *(str(events.binary), "controller", "--namespaced", f"--managed-namespace={namespace}"),
            *("--leader-election=false", "--metrics-port=0", "--health-port=0"),
        )
        environment = {
            "ARGO_EVENTS_ROOT": str(root),
            "ARGO_EVENTS_IMAGE": "unused",
            "KUBECONFIG": str(cluster.kubeconfig),
        }
        self._supervisor.start(_CONTROLLER, argv, environment, self._log_file(_CONTROLLER))
        found: dict[str, Json] = {}

        def deployed() -> bool:
            for one in cluster.list_all(_DEPLOYMENT, namespace):
                labels = one["metadata"]["labels"]
                name = labels.get("eventsource-name") or labels.get("sensor-name")
                if name:
                    found[name] = one
            return {self._source, *self._sensors} <= set(found)

        waiting.eventually(deployed, lambda: self.tail(_CONTROLLER), START_TIMEOUT)
        self.end(_CONTROLLER)
        return found

    def _describe(self, name: str, deployment: Json) -> _Server:
        """The process that a kubelet would start."""
        pod = deployment["spec"]["template"]["spec"]
        container = pod["containers"][0]
        root = self._folder(name)
        (root / "tmp").mkdir(parents=True)
        self._mount(pod, root)
        environment = {one["name"]: one.get("value", "") for one in container["env"]}
        environment |= {
            "POD_NAME": name,
            "ARGO_EVENTS_ROOT": str(root),
            "TMPDIR": str(root / "tmp"),
            "KUBECONFIG": self._kubeconfig(pod["serviceAccountName"]),
            "EVENTBUS_CONFIG": self._bus_config(environment["EVENTBUS_CONFIG"]),
        }
        if self._path is not None:
            environment["PATH"] = f"{self._path}{os.pathsep}{os.environ['PATH']}"
        if "EVENTSOURCE_OBJECT" in environment:
            source = _decoded(environment["EVENTSOURCE_OBJECT"])
            kinds = (source["spec"].get(kind, {}) for kind in ("github", "webhook"))
            for one in (one for kind in kinds for one in kind.values()):
                one.get("webhook", one)["port"] = str(self._ports.webhook)
            environment["EVENTSOURCE_OBJECT"] = _encoded(source)
        binary = self._built[components.ARGO_EVENTS.name].binary
        return _Server((str(binary), *container["args"]), environment)

    def _mount(self, pod: Json, root: pathlib.Path) -> None:
        mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        for volume in pod["volumes"]:
            if "secret" not in volume:
                continue
            secret = self.home.cluster.get(
                "v1/Secret", volume["secret"]["secretName"], self.home.namespace
            )
            folder = root / mounts[volume["name"]].lstrip("/")
            folder.mkdir(parents=True)
            for key, value in secret["data"].items():
                (folder / key).write_bytes(base64.b64decode(value))

    def _kubeconfig(self, account: str) -> str:
        """A kubeconfig of a ServiceAccount; none if it has its token not mounted."""
        cluster, namespace = self.home.cluster, self.home.namespace
        found = cluster.get("v1/ServiceAccount", account, namespace)
        if found.get("automountServiceAccountToken") is False:
            return ""
        token = cluster.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        )["status"]["token"]
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [
            {"name": one["name"], "user": {"token": token}} for one in config["users"]
        ]
        file = self._folder(account) / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return str(file)

    def _bus_config(self, encoded: str) -> str:
        config = _decoded(encoded)
        jetstream = config["jetstream"]
        stream = yaml.safe_load(jetstream["streamConfig"]) | {"replicas": 1}
        config["jetstream"] = {
            "url": f"nats://{processes.HOST}:{self._ports.bus}",
            "streamConfig": yaml.safe_dump(stream),
        }
        return _encoded(config)

    def _folder(self, name: str) -> pathlib.Path:
        folder = self._supervisor.workdir / name
        folder.mkdir(exist_ok=True)
        return folder

    def _log_file(self, name: str) -> pathlib.Path:
        return self._folder(name) / "log"


@contextlib.contextmanager
def running(
    home: Home,
    values: Mapping[str, str],
    *,
    also: Sequence[str] = (),
    names: Sequence[str] = (EVENT_SOURCE, SENSOR),
    change: Callable[[list[Json]], None] | None = None,
    path: pathlib.Path | None = None,
) -> Iterator[ArgoEvents]:
    """Argo Events at work with the shipped manifests; in the end all of it is killed.

    Arguments:
        home: where the manifests are applied
        values: that the user sets
        also: components that the user adds
        names: of the EventSource and the Sensor that are run; a further Sensor runs when it is
            deployed
        change: what else the user changes in them
        path: a folder of programs that the servers find first
    """
    built = build.ensure(components.EVENTS)
    _install_crds(home.cluster, built[components.ARGO_EVENTS.name].data("crds"))
    supervisor = supervised.Supervisor(pathlib.Path(tempfile.mkdtemp(prefix="resumer-events-")))
    try:
        manifests = shipped(home.namespace, values, also=also)
        if change is not None:
            change(manifests)
        events = ArgoEvents(home, built, supervisor, names, path)
        events.bring_up(manifests)
        yield events
    finally:
        supervisor.stop()


def shipped(namespace: str, values: Mapping[str, str], *, also: Sequence[str] = ()) -> list[Json]:
    """The shipped manifests as a user has them who copied the folder and changed the values.

    Arguments:
        namespace: that the user names in `kustomization.yaml`
        values: that the user changes in `values.yaml`
        also: components that the user adds in `kustomization.yaml`
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "copy"
        shutil.copytree(MANIFESTS, folder)
        _change(folder / "kustomization.yaml", lambda own: own.update(namespace=namespace))
        _change(folder / "kustomization.yaml", lambda own: own["components"].extend(also))
        _change(folder / "values.yaml", lambda own: own["data"].update(values))
        return kustomize.kustomized(folder)


def _install_crds(cluster: client.Cluster, folder: pathlib.Path) -> None:
    definitions = client.load_definitions(folder)
    with contextlib.suppress(client.ApiError):
        cluster.establish(definitions)
        return
    # Another worker was at it at the same moment.
    cluster.await_served(definitions)


def _config_map(folder: pathlib.Path) -> Json:
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] == "ConfigMap":
                found: Json = document
                return found
    raise AssertionError(f"{folder} holds no ConfigMap")


def _change(file: pathlib.Path, change: Callable[[Any], None]) -> None:
    document = yaml.safe_load(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document))


def _decoded(text: str) -> Any:
    return json.loads(base64.b64decode(text))


def _encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()
