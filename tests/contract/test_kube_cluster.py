"""`KubeClient` on a real API server: the words it uses are those that `faults` looks for."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
import yarl
from kubernetes.aio.config import incluster_config

from resumer import errors
from resumer.adapters import kube
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

VERSION = "argoproj.io/v1alpha1"
RESUMES = "workflowresumes"


@pytest.fixture
async def client(cluster: cluster_client.Cluster) -> AsyncIterator[kube.KubeClient]:
    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        yield link.client(timeout=20.0, max_connections=8)


def manifest(name: str = "one", **event: Any) -> dict[str, Any]:
    correlation = {"taskId": "5", "eventType": "pr-created", "githubEvent": event}
    return {
        "apiVersion": VERSION,
        "kind": "WorkflowResume",
        "metadata": {"name": name},
        "spec": {"workflowName": "build-1", "correlationData": correlation},
    }


@pytest.fixture
async def stored(client: kube.KubeClient, namespace: str) -> dict[str, Any]:
    return await client.create(kube.path(VERSION, RESUMES, namespace), manifest())


def at(stored: dict[str, Any], subresource: str = "") -> kube.Path:
    metadata = stored["metadata"]
    return kube.path(VERSION, RESUMES, metadata["namespace"], metadata["name"], subresource)


async def test_what_is_created_can_be_read_in_full_or_as_metadata_only(
    client: kube.KubeClient, stored: dict[str, Any]
) -> None:
    full = await client.get(at(stored))
    short = await client.get(at(stored), accept=kube.Accept.METADATA)

    assert full["spec"] == stored["spec"]
    assert short["kind"] == "PartialObjectMetadata"
    assert short["metadata"]["uid"] == full["metadata"]["uid"]
    assert "spec" not in short


async def test_a_missing_object_a_missing_kind_and_a_missing_namespace_are_told_apart(
    client: kube.KubeClient, namespace: str
) -> None:
    with pytest.raises(errors.NotFoundError, match='"nobody" not found'):
        await client.get(kube.path(VERSION, RESUMES, namespace, "nobody"))
    for missing in (("argoproj.io/v1alpha1", "nothings"), ("nobody.example/v1", "things")):
        with pytest.raises(errors.PermanentError) as caught:
            await client.get(kube.path(*missing, namespace, "nobody"))
        assert caught.value.reason == "KindNotFound"
    with pytest.raises(errors.NotFoundError, match="namespaces"):
        await client.create(kube.path(VERSION, RESUMES, "no-such-namespace"), manifest())


async def test_a_second_object_of_the_same_name_is_a_lost_race(
    client: kube.KubeClient, stored: dict[str, Any], namespace: str
) -> None:
    with pytest.raises(errors.PreconditionError) as caught:
        await client.create(kube.path(VERSION, RESUMES, namespace), manifest())
    assert caught.value.reason == "AlreadyExists"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/metadata/uid", "value": "another"},
        {"op": "test", "path": "/spec/nothing", "value": "x"},
        {"op": "replace", "path": "/status/nodes/x/phase", "value": "Succeeded"},
        {"op": "remove", "path": "/spec/nothing"},
    ],
)
async def test_a_json_patch_that_does_not_apply_is_a_failed_precondition_and_writes_nothing(
    client: kube.KubeClient, stored: dict[str, Any], operation: dict[str, Any]
) -> None:
    label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}

    with pytest.raises(errors.PreconditionError) as caught:
        await client.patch(at(stored), [label, operation], kube.PatchType.JSON)

    assert (caught.value.status, caught.value.reason) == (422, "PatchTestFailed")
    now = await client.get(at(stored))
    assert now["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("body", "patch_type", "status", "reason"),
    [
        (
            [{"op": "add", "path": "/spec/deadlineSeconds", "value": -1}],
            kube.PatchType.JSON,
            422,
            "Invalid",
        ),
        ({"spec": {"deadlineSeconds": -1}}, kube.PatchType.MERGE, 422, "Invalid"),
        ({"not": "a list"}, kube.PatchType.JSON, 400, "BadRequest"),
    ],
)
async def test_a_patch_of_our_own_making_that_is_wrong_is_permanent(
    client: kube.KubeClient,
    stored: dict[str, Any],
    body: Any,
    patch_type: kube.PatchType,
    status: int,
    reason: str,
) -> None:
    with pytest.raises(errors.PermanentError) as caught:
        await client.patch(at(stored), body, patch_type)
    assert (caught.value.status, caught.value.reason) == (status, reason)


async def test_a_patch_for_another_uid_or_another_version_is_refused(
    client: kube.KubeClient, stored: dict[str, Any]
) -> None:
    label = {"labels": {"a": "b"}}
    with pytest.raises(errors.NotFoundError) as other:
        await client.patch(
            at(stored), {"metadata": {**label, "uid": "another"}}, kube.PatchType.MERGE
        )
    assert other.value.reason == "OtherUid"

    await client.patch(at(stored), {"metadata": label}, kube.PatchType.MERGE)
    old = {"resourceVersion": stored["metadata"]["resourceVersion"]}
    with pytest.raises(errors.PreconditionError) as stale:
        await client.patch(at(stored), {"metadata": old}, kube.PatchType.MERGE)
    assert (stale.value.status, stale.value.reason) == (409, "Conflict")


async def test_the_api_server_ignores_the_uid_in_a_merge_patch_of_a_status(
    client: kube.KubeClient, stored: dict[str, Any]
) -> None:
    """Why `KubeRequests.write_status` is a JSON-Patch; if this fails, it may become a merge."""
    answer = await client.patch(
        at(stored, "status"),
        {"metadata": {"uid": "another"}, "status": {"phase": "Waiting"}},
        kube.PatchType.MERGE,
    )
    assert answer["status"]["phase"] == "Waiting"
    assert answer["metadata"]["uid"] == stored["metadata"]["uid"]


async def test_a_delete_removes_only_the_version_that_was_meant(
    client: kube.KubeClient, stored: dict[str, Any]
) -> None:
    uid = stored["metadata"]["uid"]
    with pytest.raises(errors.NotFoundError) as other:
        await client.delete(at(stored), uid="another")
    assert (other.value.status, other.value.reason) == (409, "OtherUid")
    with pytest.raises(errors.PreconditionError) as stale:
        await client.delete(at(stored), uid=uid, resource_version="1")
    assert stale.value.reason == "Conflict"

    await client.delete(at(stored), uid=uid, resource_version=stored["metadata"]["resourceVersion"])

    with pytest.raises(errors.NotFoundError):
        await client.delete(at(stored), uid=uid)


@pytest.mark.parametrize(
    ("size", "status"), [(2_000_000, 500), (4_000_000, 413)], ids=["for etcd", "for the API server"]
)
async def test_an_object_that_is_too_large_is_permanent(
    client: kube.KubeClient, namespace: str, size: int, status: int
) -> None:
    with pytest.raises(errors.PermanentError) as caught:
        await client.create(kube.path(VERSION, RESUMES, namespace), manifest(payload="x" * size))
    assert (caught.value.status, caught.value.reason) == (status, "RequestEntityTooLarge")
    assert "xxx" not in str(caught.value)


async def test_pages_bring_every_object_once(client: kube.KubeClient, namespace: str) -> None:
    collection = kube.path(VERSION, RESUMES, namespace)
    names = {f"one-{number}" for number in range(7)}
    for name in names:
        await client.create(collection, manifest(name))

    pages = [page async for page in client.pages(collection, limit=3)]

    assert [len(page) for page in pages] == [3, 3, 1]
    assert {body["metadata"]["name"] for page in pages for body in page} == names


async def test_a_selector_that_the_api_server_cannot_read_is_permanent(
    client: kube.KubeClient, namespace: str
) -> None:
    collection = kube.path(VERSION, RESUMES, namespace)
    for params in ({"labelSelector": "a in b"}, {"fieldSelector": "status.nothing=x"}):
        with pytest.raises(errors.PermanentError) as caught:
            await client.get(collection, params=params)
        assert caught.value.status == 400


async def test_a_user_without_rights_is_refused_for_good(
    kubeconfig_for: Any, namespace: str
) -> None:
    async with faulty_server.connected(str(kubeconfig_for("nobody", []))) as link:
        client = link.client(timeout=20.0, max_connections=1)
        with pytest.raises(errors.PermanentError) as caught:
            await client.get(kube.path(VERSION, RESUMES, namespace))
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


async def test_a_service_accounts_token_is_accepted_and_a_forged_one_is_not(
    cluster: cluster_client.Cluster, namespace: str, tmp_path: pathlib.Path
) -> None:
    token = robot_token(cluster, namespace)
    accepted = with_user(cluster, tmp_path / "good", {"token": token})
    async with faulty_server.connected(str(accepted)) as link:
        client = link.client(timeout=20.0, max_connections=1)
        with pytest.raises(errors.PermanentError) as forbidden:
            await client.get(kube.path(VERSION, RESUMES, namespace))
    assert forbidden.value.status == 403
    assert "robot" in str(forbidden.value)

    forged = with_user(cluster, tmp_path / "forged", {"token": token[:-8] + "AAAAAAAA"})
    async with faulty_server.connected(str(forged)) as link:
        client = link.client(timeout=20.0, max_connections=1)
        with pytest.raises(errors.PermanentError) as unknown:
            await client.get(kube.path(VERSION, RESUMES, namespace))
    assert unknown.value.status == 401
    assert token not in str(unknown.value)


async def test_a_pod_is_known_by_its_service_account_and_survives_the_rotation_of_its_token(
    cluster: cluster_client.Cluster,
    namespace: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token_file, authority_file = tmp_path / "token", tmp_path / "ca.crt"
    authority_file.write_bytes(authority_of(cluster))
    token_file.write_text("from-before-the-rotation\n")
    server = yarl.URL(cluster.server)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.host))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token_file))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority_file))

    async with faulty_server.connected("") as link:
        token_file.write_text(f"{robot_token(cluster, namespace)}\n")
        client = link.client(timeout=20.0, max_connections=1)
        with pytest.raises(errors.PermanentError, match="robot") as known:
            await client.get(kube.path(VERSION, RESUMES, namespace))
    assert known.value.status == 403


async def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(
    cluster: cluster_client.Cluster, tmp_path: pathlib.Path
) -> None:
    version = kube.Path("/version")
    for expected, accepted in (("localhost", True), ("another.example", False)):
        file = with_user(cluster, tmp_path / expected, None, **{"tls-server-name": expected})
        async with faulty_server.connected(str(file)) as link:
            client = link.client(timeout=20.0, max_connections=1)
            if accepted:
                assert (await client.get(version))["major"] == "1"
                continue
            with pytest.raises(errors.TransientError) as caught:
                await client.patch(version, {}, kube.PatchType.MERGE)
            assert caught.value.sent is False


def authority_of(cluster: cluster_client.Cluster) -> bytes:
    """The certificate of who signed the API server's."""
    settings = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    if "certificate-authority-data" in settings:
        return base64.b64decode(settings["certificate-authority-data"])
    return pathlib.Path(settings["certificate-authority"]).read_bytes()


def robot_token(cluster: cluster_client.Cluster, namespace: str) -> str:
    """The token of a new service account, which has no rights."""
    cluster.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}, namespace
    )
    answer = cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/robot/token",
        body={
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 600},
        },
    )
    return str(answer["status"]["token"])


def with_user(
    cluster: cluster_client.Cluster,
    file: pathlib.Path,
    user: dict[str, Any] | None,
    **settings: Any,
) -> pathlib.Path:
    """A kubeconfig of the cluster with another user, or with other settings of the cluster."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    if user is not None:
        config["users"] = [{"name": entry["name"], "user": user} for entry in config["users"]]
    for entry in config["clusters"]:
        entry["cluster"].update(settings)
    file.write_text(yaml.safe_dump(config))
    return file
