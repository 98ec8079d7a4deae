"""How each component is run: its command, and how to tell that it is ready.

All listen on loopback alone, except that Argo's controller opens port 6060 for its health on every
address; where that is taken it logs so and goes on.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import pathlib
import random
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence

from tests.controlplane import build, certs, components

HOST = "127.0.0.1"
ARGO_NAMESPACE = "argo"
ARGO_CONFIG = "workflow-controller-configmap"

ADMIN = "resumer-local-admin"
MASTERS = "system:masters"

# What a person's cluster has and a test may rest upon. No pods are run, so nothing about them.
_CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "clusterrole-aggregation-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "ttl-after-finished-controller",
)

# Below the range that the system takes outgoing connections' ports from: a port there stays free
# while its server is being restarted. Each of the test processes that run side by side has a part
# of its own: a port is bound some seconds after it was chosen.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_PORTS = range(20000 + 1500 * _WORKER, 20000 + 1500 * (_WORKER + 1))

# Argo's controller says this when its caches are in step and its queues are being worked on.
_ARGO_READY = b"Started workflow garbage collection"

_PROBE_TIMEOUT = 2.0

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [{"level": "Metadata"}],
}


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A component as the supervisor is to run it.

    Arguments:
        name: of the component
        argv: its command
        env: added to the environment
        ready: tells whether it does its work; None or what it lacks
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], str | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of one control plane."""

    etcd: int
    etcd_peer: int
    api_server: int
    controller_manager: int

    @classmethod
    def pick(cls) -> Ports:
        """Ports that are free at this moment."""
        return cls(*free_ports(len(dataclasses.fields(cls))))


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one control plane are.

    Arguments:
        workdir: holds all of them and goes when the control plane does
        ports: of its servers
    """

    workdir: pathlib.Path
    ports: Ports

    @property
    def server(self) -> str:
        return f"https://{HOST}:{self.ports.api_server}"

    @property
    def pki(self) -> pathlib.Path:
        return self.workdir / "pki"

    @property
    def kubeconfig(self) -> pathlib.Path:
        """The administrator's."""
        return self.workdir / "kubeconfig"

    @property
    def etcd_data(self) -> pathlib.Path:
        return self.workdir / "etcd"

    @property
    def audit_log(self) -> pathlib.Path:
        return self.workdir / "audit.log"

    def log(self, name: str) -> pathlib.Path:
        """A component's output."""
        return self.workdir / f"{name}.log"

    def kubeconfig_for(self, user: str, groups: Sequence[str]) -> pathlib.Path:
        """A kubeconfig which lets the API server know its bearer by this name.

        Raises:
            ValueError: the name cannot be a file's
        """
        if not user or "/" in user:
            raise ValueError(f"user {user!r}: a name without '/' is needed")
        authority = certs.Authority(self.pki)
        # A file of its own for each caller: several may ask for the same user at once.
        name = f"{user.replace(':', '-')}-{secrets.token_hex(4)}.kubeconfig"
        client = authority.issue_client(name, user, groups)
        file = self.workdir / name
        certs.write_kubeconfig(file, self.server, authority.certificate, user, client)
        return file


def free_ports(count: int) -> set[int]:
    """So many loopback ports that are free at this moment."""
    taken: set[int] = set()
    while len(taken) < count:
        port = random.choice(_PORTS)
        if _is_free(port):
            taken.add(port)
    return taken


def prepare(layout: Layout) -> None:
    """Write the certificates, keys, kubeconfigs and policies that the components read."""
    authority = certs.Authority(layout.pki)
    for name in (components.API_SERVER.name, components.CONTROLLER_MANAGER.name):
        authority.issue_server(name, ("localhost", "kubernetes.default.svc"), (HOST, "10.96.0.1"))
    certs.write_signing_key(layout.pki / "tokens.key", layout.pki / "tokens.pub")
    users = {
        layout.kubeconfig: ADMIN,
        layout.workdir / "controller-manager.kubeconfig": "system:kube-controller-manager",
        layout.workdir / "argo.kubeconfig": "argo-workflow-controller",
    }
    for file, user in users.items():
        # Masters, so that what Argo may do is never what a test fails by.
        client = authority.issue_client(file.name, user, (MASTERS,))
        certs.write_kubeconfig(file, layout.server, authority.certificate, user, client)
    (layout.workdir / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))


def etcd(built: build.Built, layout: Layout) -> Process:
    """The store. It holds nothing of worth, so it never waits for the disk."""
    client = f"http://{HOST}:{layout.ports.etcd}"
    peer = f"http://{HOST}:{layout.ports.etcd_peer}"
    argv = (
        str(built.binary),
        "--name=local",
        f"--data-dir={layout.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Process(
        components.ETCD.name, argv, {}, lambda: _probe(layout.ports.etcd, "/health", None)
    )


def api_server(built: build.Built, layout: Layout, *, audit: bool) -> Process:
    """The API server, with RBAC and everything else as in a cluster but ServiceAccount admission.

    That admission would refuse pods in a namespace whose ServiceAccount is not there yet.
    """
    pki = layout.pki
    argv = [
        str(built.binary),
        f"--etcd-servers=http://{HOST}:{layout.ports.etcd}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={layout.ports.api_server}",
        f"--cert-dir={pki}",
        f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'tokens.pub'}",
        f"--service-account-signing-key-file={pki / 'tokens.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--profiling=false",
        # Else it waits a minute for the watches of its clients to end by themselves.
        "--shutdown-watch-termination-grace-period=1s",
    ]
    if audit:
        argv += [
            f"--audit-policy-file={layout.workdir / 'audit-policy.json'}",
            f"--audit-log-path={layout.audit_log}",
            # One file, however long.
            "--audit-log-maxsize=100000",
        ]
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    client = pki / f"{layout.kubeconfig.name}.crt"
    trust.load_cert_chain(str(client), str(client.with_suffix(".key")))
    return Process(
        components.API_SERVER.name,
        tuple(argv),
        {},
        lambda: _probe(layout.ports.api_server, "/readyz?verbose", trust),
    )


def controller_manager(built: build.Built, layout: Layout) -> Process:
    """The controllers that delete namespaces, collect garbage, count quotas and the like."""
    pki = layout.pki
    argv = (
        str(built.binary),
        f"--kubeconfig={layout.workdir / 'controller-manager.kubeconfig'}",
        f"--controllers={','.join(_CONTROLLERS)}",
        f"--bind-address={HOST}",
        f"--secure-port={layout.ports.controller_manager}",
        f"--tls-cert-file={pki / 'kube-controller-manager.crt'}",
        f"--tls-private-key-file={pki / 'kube-controller-manager.key'}",
        f"--service-account-private-key-file={pki / 'tokens.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--leader-elect=false",
        "--concurrent-namespace-syncs=20",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
    )
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    return Process(
        components.CONTROLLER_MANAGER.name,
        argv,
        {},
        lambda: _probe(layout.ports.controller_manager, "/healthz", trust),
    )


def argo(
    built: build.Built, layout: Layout, *, requeue: str, environment: Mapping[str, str]
) -> Process:
    """Argo's workflow-controller for all namespaces, with no limit on its requests.

    Arguments:
        built: its binary
        layout: of the control plane
        requeue: how long a changed Workflow waits for more changes, as a Go duration; Argo's own
            default is 10s
        environment: further variables, which win over these
    """
    argv = (
        str(built.binary),
        f"--kubeconfig={layout.workdir / 'argo.kubeconfig'}",
        f"--namespace={ARGO_NAMESPACE}",
        f"--configmap={ARGO_CONFIG}",
        "--executor-image=unused",
        "--qps=1000",
        "--burst=2000",
    )
    env = {"LEADER_ELECTION_DISABLE": "true", "DEFAULT_REQUEUE_TIME": requeue, **environment}
    log = layout.log(components.ARGO.name)
    # The log of a former run of the same controller says so already.
    before = log.stat().st_size if log.exists() else 0

    def ready() -> str | None:
        with log.open("rb") as stream:
            stream.seek(before)
            return None if _ARGO_READY in stream.read() else "its caches are not in step yet"

    return Process(components.ARGO.name, argv, env, ready)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Go's servers do: what a former one left in TIME_WAIT is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _probe(port: int, path: str, trust: ssl.SSLContext | None) -> str | None:
    """None if the server answers 200, else what it answers instead."""
    connection: http.client.HTTPConnection
    if trust is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_PROBE_TIMEOUT)
    else:
        connection = http.client.HTTPSConnection(HOST, port, timeout=_PROBE_TIMEOUT, context=trust)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: {error}"
    finally:
        connection.close()
    if response.status == http.HTTPStatus.OK:
        return None
    failing = [line for line in body.splitlines() if line.startswith("[-]")]
    return f"{path}: {response.status} {'; '.join(failing) or body[:200]}"
