"""The local control plane itself: what it promises to tests, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import http
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.controlplane import client, components, launcher, plugin, processes

pytestmark = [pytest.mark.usefixtures("built_components"), pytest.mark.timeout(400)]

SUSPENDED = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "waits"},
    "spec": {"entrypoint": "wait", "templates": [{"name": "wait", "suspend": {}}]},
}

PROJECT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plane() -> Iterator[launcher.ControlPlane]:
    """A control plane whose components may be stopped."""
    with launcher.start(crds="minimal", audit=True) as plane:
        yield plane


def suspend_node(workflow: dict[str, Any]) -> dict[str, Any] | None:
    """The Workflow's running Suspend node, if it has one."""
    nodes: dict[str, dict[str, Any]] = workflow.get("status", {}).get("nodes") or {}
    running = (n for n in nodes.values() if n["type"] == "Suspend" and n["phase"] == "Running")
    return next(running, None)


def has_succeeded(workflow: dict[str, Any]) -> bool:
    return bool(workflow.get("status", {}).get("phase") == "Succeeded")


def drive_to_success(cluster: client.Cluster, namespace: str) -> None:
    """Suspend a Workflow, resume it as Argo's own CLI does, and see it succeed."""
    cluster.create(SUSPENDED, namespace)
    workflow = cluster.wait_for(
        "Workflow", "waits", namespace, suspend_node, 60, describe="suspended"
    )
    node = suspend_node(workflow)
    assert node is not None
    patch = {"status": {"nodes": {node["id"]: {"phase": "Succeeded"}}}}
    cluster.patch("Workflow", "waits", namespace, patch)
    cluster.wait_for("Workflow", "waits", namespace, has_succeeded, 60, describe="Succeeded")


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not {what} within {timeout:g} s"
        time.sleep(0.05)


def processes_mentioning(text: str) -> dict[int, str]:
    """The commands of all processes which hold the text, by process id."""
    answer = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(maxsplit=1) for line in answer.splitlines())
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and text in row[1]}


def test_it_answers_with_the_version_that_was_built(cluster: client.Cluster) -> None:
    version = cluster.request("GET", "/version")
    assert version["gitVersion"] == "v1.36.3"
    assert "Server Version: v1.36.3" in cluster.kubectl("version")


def test_a_user_without_rights_is_refused_and_one_with_rights_is_not(
    cluster: client.Cluster, namespace: str, kubeconfig_for: plugin.KubeconfigFor
) -> None:
    name = f"reader-{namespace}"
    as_user = client.Cluster(kubeconfig_for(name, ["readers"]))
    with pytest.raises(client.ApiError) as refused:
        as_user.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")
    assert refused.value.status == http.HTTPStatus.FORBIDDEN

    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "readers", "namespace": namespace},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "view",
        },
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name},
        ],
    }
    cluster.create(binding)
    # `view` is aggregated by the controller manager, and RBAC follows by watching.
    cluster.wait_for("ClusterRole", "view", None, lambda role: role["rules"], 20)

    def may_read() -> bool:
        try:
            as_user.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")
        except client.ApiError:
            return False
        return True

    wait_until(may_read, 10, "allowed to read")
    as_user.close()


def test_a_service_account_gets_tokens(cluster: client.Cluster, namespace: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "someone"}}
    cluster.create(account, namespace)
    answer = cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/someone/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    review = cluster.create(
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": answer["status"]["token"]},
        }
    )
    assert review["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:someone"


def test_argo_suspends_a_workflow_and_finishes_it_once_resumed(
    cluster: client.Cluster, namespace: str
) -> None:
    drive_to_success(cluster, namespace)


def test_argo_does_the_same_with_its_minimal_crds(
    minimal_cluster: client.Cluster, minimal_namespace: str
) -> None:
    drive_to_success(minimal_cluster, minimal_namespace)


def test_only_the_full_crds_refuse_a_workflow_with_a_wrong_type(
    cluster: client.Cluster,
    namespace: str,
    minimal_cluster: client.Cluster,
    minimal_namespace: str,
) -> None:
    """Dry runs, for such a Workflow makes Argo's controller (4.0.2) panic where it is stored."""
    wrong = {**SUSPENDED, "spec": {"entrypoint": 7}}

    def try_in(chosen: client.Cluster, where: str) -> None:
        path = f"/apis/argoproj.io/v1alpha1/namespaces/{where}/workflows"
        chosen.request("POST", path, query={"dryRun": "All"}, body=wrong)

    with pytest.raises(client.ApiError, match=r"spec\.entrypoint"):
        try_in(cluster, namespace)
    try_in(minimal_cluster, minimal_namespace)


def test_the_project_s_crds_are_served(cluster: client.Cluster, namespace: str) -> None:
    for definition in client.load_definitions(launcher.PROJECT_CRDS):
        kind = f"{definition['spec']['names']['plural']}.{definition['spec']['group']}"
        assert cluster.list_all(kind, namespace) == []


def test_a_deleted_namespace_goes_with_what_is_in_it(
    cluster: client.Cluster, namespace: str
) -> None:
    cluster.create(SUSPENDED, namespace)
    cluster.delete("Namespace", namespace)
    cluster.wait_gone("Namespace", namespace, None, 60)


def test_what_a_deleted_workflow_owns_is_collected(cluster: client.Cluster, namespace: str) -> None:
    owner = cluster.create(SUSPENDED, namespace)
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "owned", "ownerReferences": [reference]},
    }
    cluster.create(owned, namespace)
    cluster.delete("Workflow", "waits", namespace)
    cluster.wait_gone("ConfigMap", "owned", namespace, 60)


def test_a_wait_in_vain_tells_the_last_state(cluster: client.Cluster, namespace: str) -> None:
    with pytest.raises(AssertionError, match=r"not with a uid of 7 within 0\.1 s;(.|\n)*Active"):
        cluster.wait_for(
            "Namespace",
            namespace,
            None,
            lambda found: found["metadata"]["uid"] == "7",
            0.1,
            describe="with a uid of 7",
        )
    with pytest.raises(AssertionError, match="there was no such object"):
        cluster.wait_for("ConfigMap", "nothing", namespace, bool, 0.1)


def test_requests_can_be_counted_by_their_user_agent(
    cluster: client.Cluster, namespace: str, audit_log: pathlib.Path
) -> None:
    cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counted"}}, namespace
    )
    for _ in range(3):
        cluster.get("ConfigMap", "counted", namespace)

    def gets() -> list[dict[str, Any]]:
        events = [json.loads(line) for line in audit_log.read_text().splitlines()]
        return [
            event
            for event in events
            if event["verb"] == "get"
            and event.get("objectRef", {}).get("namespace") == namespace
            and event["userAgent"] == "resumer-tests"
        ]

    wait_until(lambda: len(gets()) == 3, 10, "three in the audit log")


@pytest.mark.parametrize(
    "component", [components.ETCD.name, components.API_SERVER.name, components.ARGO.name]
)
def test_a_killed_component_comes_back_with_its_data(
    plane: launcher.ControlPlane, component: str
) -> None:
    cluster = client.Cluster(plane.kubeconfig)
    name = f"survives-{component}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.create(manifest)
    plane.kill(component)
    plane.start_component(component)
    cluster = client.Cluster(plane.kubeconfig)
    assert cluster.get("Namespace", name)["metadata"]["name"] == name
    drive_to_success(cluster, name)
    assert plane.ended() == {}


def test_a_restart_keeps_the_server_and_its_users(plane: launcher.ControlPlane) -> None:
    plane.restart(components.API_SERVER.name)
    cluster = client.Cluster(plane.kubeconfig)
    assert cluster.server == plane.server
    assert cluster.request("GET", "/readyz")["message"] == "ok"


def test_a_stopped_api_server_takes_argo_along_until_it_is_back(
    plane: launcher.ControlPlane,
) -> None:
    argo = str(plane.workdir / "argo.kubeconfig")
    assert processes_mentioning(argo)
    plane.stop_component(components.API_SERVER.name)
    assert not processes_mentioning(argo)
    plane.start_component(components.API_SERVER.name)
    assert processes_mentioning(argo)


def test_an_unknown_component_is_refused_with_the_allowed_ones(
    plane: launcher.ControlPlane,
) -> None:
    with pytest.raises(ValueError, match="'kubelet': allowed are etcd, kube-apiserver"):
        plane.start_component("kubelet")


@pytest.mark.parametrize("component", [one.name for one in components.CONTROL_PLANE])
def test_a_component_that_cannot_start_is_named_with_its_log_and_nothing_is_left(
    component: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(launcher.StartFailed, match=f"^{component} ended with exit code") as failed:
        launcher.start(crds="minimal", extra_args={component: ["--no-such-flag"]})
    assert "no-such-flag" in failed.value.log
    assert list(tmp_path.iterdir()) == []
    assert processes_mentioning(str(tmp_path)) == {}


@pytest.mark.parametrize("server", ["etcd", "api_server", "controller_manager"])
def test_a_port_that_somebody_took_meanwhile_is_replaced(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick = processes.Ports.pick
    with socket.create_server((processes.HOST, 0)) as somebody:
        taken = dataclasses.replace(pick(), **{server: somebody.getsockname()[1]})
        answers = iter([taken])
        monkeypatch.setattr(processes.Ports, "pick", lambda: next(answers, None) or pick())
        with launcher.start(crds="minimal", argo=False) as plane:
            assert plane.layout.ports != taken
            assert plane.ended() == {}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_its_owner_ends_no_process_and_no_folder_is_left(
    how: signal.Signals, tmp_path: pathlib.Path
) -> None:
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.controlplane", "up", "--crds=minimal"],
                cwd=PROJECT,
                env={**os.environ, "TMPDIR": str(tmp_path)},
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        assert owner.stdout is not None
        stack.callback(owner.kill)
        started = next(line for line in owner.stdout if "export KUBECONFIG=" in line)
        workdir = pathlib.Path(started.partition("=")[2].strip()).parent
        assert workdir.is_relative_to(tmp_path)
        # Four components and their supervisor.
        assert len(processes_mentioning(str(workdir))) == 5
        owner.send_signal(how)
        owner.stdout.read()
    wait_until(lambda: not list(tmp_path.iterdir()), 20, "an empty temporary folder")
    wait_until(lambda: not processes_mentioning(str(workdir)), 5, "rid of all processes")


def test_a_fork_of_a_killed_owner_does_not_keep_the_control_plane(tmp_path: pathlib.Path) -> None:
    """The fork holds the pipe to the supervisor open, which must not wait for its end alone."""
    program = """
        import os, signal, sys, time
        from tests.controlplane import supervised
        import pathlib
        supervisor = supervised.Supervisor(pathlib.Path(sys.argv[1]))
        supervisor.start("sleeper", ["sleep", "600"], {}, pathlib.Path(sys.argv[1]) / "log")
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    workdir = tmp_path / "workdir"
    workdir.mkdir()
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(workdir)],
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    wait_until(lambda: not workdir.exists(), 10, "gone")
