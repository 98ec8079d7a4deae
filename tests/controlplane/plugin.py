"""Gives tests a cluster: `pytest -p tests.controlplane.plugin --cluster=local|kind|current`.

`local`, the default, starts a control plane on this machine when the first test asks for one, and
shares it between all workers of the run; what is not built yet is built after the collection, when
no test's timeout is running. `kind` makes a cluster in Docker through pytest-kind and installs Argo
there. `current` takes the kubeconfig's current context, where Argo must be installed. The CRDs in
the project's `crds/` are installed in each of them.

Tests share the cluster, so each keeps to a namespace of its own. A test that stops components
starts a control plane for itself with `launcher.start` and asks for `built_components`.
"""

from __future__ import annotations

import contextlib
import pathlib
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import pytest
import yaml

from tests.controlplane import (
    build,
    client,
    components,
    launcher,
    processes,
    progress,
    shared,
    toolchain,
)

KubeconfigFor = Callable[[str, Sequence[str]], pathlib.Path]

_ARGO_IMAGE = "quay.io/argoproj/workflow-controller"
_ARGO_TIMEOUT = 300.0
_RUN_FOLDER = "controlplane_run"

# What is built when a test that uses the fixture has been collected.
_BUILT = {
    "built_components": components.CONTROL_PLANE,
    "built_events": components.EVENTS,
    "built_helm": components.HELM,
    "built_monitoring": components.MONITORING,
}

_run_key = pytest.StashKey[shared.Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--cluster`."""
    parser.getgroup("cluster").addoption(
        "--cluster",
        choices=("local", "kind", "current"),
        default="local",
        help="cluster to test against: a control plane on this machine (default), a kind cluster "
        "in Docker, or the kubeconfig's current context",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work.

    Raises:
        pytest.UsageError: kind with several workers, the first of which would delete the cluster
    """
    workers = config.getoption("numprocesses", None)
    if config.getoption("cluster") == "kind" and workers and not config.getoption("keep_cluster"):
        raise pytest.UsageError("--cluster=kind with -n needs --keep-cluster")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of pytest-xdist the folder of the run."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    node.workerinput[_RUN_FOLDER] = str(_run_folder(config))  # type: ignore[attr-defined]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the collected tests need and the cache lacks."""
    config = session.config
    wanted: list[components.Component] = []
    for fixture, needs in _BUILT.items():
        if any(fixture in getattr(item, "fixturenames", ()) for item in session.items):
            wanted += needs
    if not wanted:
        return
    if config.getoption("cluster") != "local" or config.getoption("collectonly"):
        return
    with contextlib.ExitStack() as stack:
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            # It may take ten minutes, so whoever waits sees how far it is.
            stack.enter_context(capture.global_and_fixture_disabled())
        build.ensure(wanted, report=progress.Progress())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the control planes of the run."""
    run = config.stash.get(_run_key, None)
    if run is not None:
        run.close()


@pytest.fixture(scope="session")
def built_components(pytestconfig: pytest.Config) -> None:
    """For tests that start a control plane of their own: its components are built."""
    if pytestconfig.getoption("cluster") == "local":
        build.ensure()


@pytest.fixture(scope="session")
def built_events(pytestconfig: pytest.Config) -> None:
    """For tests that start Argo Events and its bus: both are built."""
    _only_local(pytestconfig, "Argo Events on this machine")
    build.ensure(components.EVENTS)


@pytest.fixture(scope="session")
def built_helm() -> None:
    """For tests of the chart: Helm 3 and 4 and helm-docs are built."""
    build.ensure(components.HELM)


@pytest.fixture(scope="session")
def built_monitoring() -> None:
    """For tests of what is measured: Prometheus and promtool are built."""
    build.ensure(components.MONITORING)


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest,
    built_components: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[client.Cluster]:
    """The cluster to test against, with the full schemas of Argo's CRDs and the project's CRDs."""
    chosen: client.Cluster
    match request.config.getoption("cluster"):
        case "local":
            chosen = _local(request.config, "full")
        case "kind":
            chosen = _kind(request, tmp_path_factory.mktemp("argo"))
        case "current":
            chosen = _current(tmp_path_factory.mktemp("current"))
        case other:
            raise pytest.UsageError(f"--cluster={other}: allowed are local, kind, current")
    with contextlib.closing(chosen):
        yield chosen


@pytest.fixture(scope="session")
def minimal_cluster(
    pytestconfig: pytest.Config, built_components: None
) -> Iterator[shared.LocalCluster]:
    """A local cluster whose CRDs of Argo let everything pass, as Helm users may have it."""
    _only_local(pytestconfig, "the minimal CRDs")
    with contextlib.closing(_local(pytestconfig, "minimal")) as chosen:
        yield chosen


@pytest.fixture
def namespace(cluster: client.Cluster) -> Iterator[str]:
    """A new namespace in `cluster`, deleted afterwards in the background."""
    with _new_namespace(cluster) as name:
        yield name


@pytest.fixture
def minimal_namespace(minimal_cluster: shared.LocalCluster) -> Iterator[str]:
    """A new namespace in `minimal_cluster`, deleted afterwards in the background."""
    with _new_namespace(minimal_cluster) as name:
        yield name


@pytest.fixture(scope="session")
def kubeconfig_for(pytestconfig: pytest.Config, cluster: client.Cluster) -> KubeconfigFor:
    """Makes kubeconfigs of other users of `cluster`, from a name and groups; RBAC binds them."""
    return _as_local(pytestconfig, cluster, "users with certificates").kubeconfig_for


@pytest.fixture(scope="session")
def audit_log(pytestconfig: pytest.Config, cluster: client.Cluster) -> pathlib.Path:
    """The audit log of `cluster`: a JSON object a line, with user, userAgent, verb, objectRef."""
    return _as_local(pytestconfig, cluster, "an audit log").audit_log


def _run_folder(config: pytest.Config) -> pathlib.Path:
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is not None:
        return pathlib.Path(worker[_RUN_FOLDER])
    if _run_key not in config.stash:
        config.stash[_run_key] = shared.Run()
    return config.stash[_run_key].folder


def _local(config: pytest.Config, flavour: Literal["full", "minimal"]) -> shared.LocalCluster:
    return shared.connect(_run_folder(config), flavour)


def _only_local(config: pytest.Config, what: str) -> None:
    chosen = config.getoption("cluster")
    if chosen != "local":
        pytest.skip(f"{what}: with --cluster=local, not {chosen}")


def _as_local(config: pytest.Config, cluster: client.Cluster, what: str) -> shared.LocalCluster:
    _only_local(config, what)
    assert isinstance(cluster, shared.LocalCluster)
    return cluster


def _current(folder: pathlib.Path) -> client.Cluster:
    """The current context, in a file of its own, for the kubeconfig may be spread over several."""
    answer = subprocess.run(
        [str(toolchain.kubectl()), "config", "view", "--raw", "--minify", "--flatten"],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip(f"--cluster=current: {answer.stderr.strip()}")
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(answer.stdout)
    chosen = client.Cluster(kubeconfig)
    chosen.establish(client.load_definitions(launcher.PROJECT_CRDS))
    return chosen


def _kind(request: pytest.FixtureRequest, folder: pathlib.Path) -> client.Cluster:
    docker = shutil.which("docker")
    if docker is None or subprocess.call([docker, "info"], stdout=subprocess.DEVNULL) != 0:
        pytest.skip("--cluster=kind: there is no Docker daemon to be reached")
    chosen = client.Cluster(pathlib.Path(request.getfixturevalue("kind_cluster").kubeconfig_path))
    argo = build.ensure((components.ARGO,))[components.ARGO.name]
    chosen.establish(client.load_definitions(argo.data("crds/full")))
    chosen.establish(client.load_definitions(launcher.PROJECT_CRDS))
    shutil.copytree(argo.data("install"), folder, dirs_exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(_argo_kustomization()))
    chosen.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": processes.ARGO_NAMESPACE},
        }
    )
    chosen.kubectl("apply", "--server-side", "-k", str(folder))
    chosen.wait_for(
        "Deployment",
        "workflow-controller",
        processes.ARGO_NAMESPACE,
        lambda deployment: deployment.get("status", {}).get("availableReplicas", 0) > 0,
        _ARGO_TIMEOUT,
        describe="available",
    )
    return chosen


def _argo_kustomization() -> dict[str, object]:
    """Argo's own manifests, at the pinned version, reacting to changes at once."""
    variable = {"name": "DEFAULT_REQUEUE_TIME", "value": "100ms"}
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": variable}]
    return {
        "namespace": processes.ARGO_NAMESPACE,
        "resources": ["workflow-controller", "workflow-controller-rbac"],
        "images": [{"name": _ARGO_IMAGE, "newTag": components.ARGO_VERSION}],
        "patches": [{"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(patch)}],
    }


@contextlib.contextmanager
def _new_namespace(cluster: client.Cluster) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        cluster.delete("Namespace", name, missing_ok=True)
