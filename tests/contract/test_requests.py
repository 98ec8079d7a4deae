"""`KubeRequests` on a real API server: exactly the object that was meant, and all finished ones."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from resumer import errors
from resumer.adapters import kube, requests
from resumer.api import constants
from resumer.core.keys import Key
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client
from tests.controlplane import launcher

DEFINITION = "apiextensions.k8s.io/v1/CustomResourceDefinition"
REQUEST = "argoproj.io/v1alpha1/WorkflowResume"
TIMEOUT = 60.0


@pytest.fixture
async def client(cluster: cluster_client.Cluster) -> AsyncIterator[kube.KubeClient]:
    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        yield link.client(timeout=20.0, max_connections=8)


@pytest.fixture
def written(client: kube.KubeClient, namespace: str) -> requests.KubeRequests:
    return requests.KubeRequests(client, (namespace,))


async def create(client: kube.KubeClient, namespace: str, name: str = "one") -> dict[str, Any]:
    correlation = {"taskId": "5", "eventType": "pr-created"}
    return await client.create(
        kube.path(constants.API_VERSION, constants.RESUME_PLURAL, namespace),
        {
            "apiVersion": constants.API_VERSION,
            "kind": constants.RESUME_KIND,
            "metadata": {"name": name},
            "spec": {"workflowName": "build-1", "correlationData": correlation},
        },
    )


async def test_a_status_is_written_to_an_object_that_has_none_and_then_replaced(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    uid = (await create(client, namespace))["metadata"]["uid"]
    key = Key(namespace, "one")

    first = await written.write_status(
        key, uid, None, {"phase": "Waiting", "outcome": "Waiting", "message": "no gate yet"}
    )
    second = await written.write_status(
        key, uid, "Waiting", {"phase": "Succeeded", "outcome": "Resumed"}
    )

    assert first["status"] == {
        "phase": "Waiting",
        "outcome": "Waiting",
        "message": "no gate yet",
    }
    assert second["status"] == {"phase": "Succeeded", "outcome": "Resumed"}
    assert second["metadata"]["generation"] == first["metadata"]["generation"]


async def test_writing_the_same_status_again_changes_nothing(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    uid = (await create(client, namespace))["metadata"]["uid"]
    key = Key(namespace, "one")

    status = {"phase": "Waiting", "outcome": "Waiting"}
    first = await written.write_status(key, uid, None, status)
    second = await written.write_status(key, uid, "Waiting", status)

    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_the_status_of_a_recreated_object_is_not_written(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    old = await create(client, namespace)
    key = Key(namespace, "one")
    await written.delete(key, old["metadata"]["uid"], old["metadata"]["resourceVersion"])
    new = await create(client, namespace)

    with pytest.raises(errors.PreconditionError):
        await written.write_status(key, old["metadata"]["uid"], None, {"phase": "Succeeded"})

    path = kube.path(constants.API_VERSION, constants.RESUME_PLURAL, namespace, "one")
    assert await client.get(path) == new


async def test_a_status_that_somebody_else_wrote_meanwhile_is_not_overwritten(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    uid = (await create(client, namespace))["metadata"]["uid"]
    key = Key(namespace, "one")
    await written.write_status(key, uid, None, {"phase": "Succeeded", "outcome": "Resumed"})

    for before in (None, "Waiting"):
        with pytest.raises(errors.PreconditionError):
            await written.write_status(key, uid, before, {"phase": "Waiting"})

    path = kube.path(constants.API_VERSION, constants.RESUME_PLURAL, namespace, "one")
    assert (await client.get(path))["status"]["outcome"] == "Resumed"


async def test_the_status_of_a_missing_object_is_not_found(
    written: requests.KubeRequests, namespace: str
) -> None:
    with pytest.raises(errors.NotFoundError):
        await written.write_status(Key(namespace, "nobody"), "u-1", None, {"phase": "Waiting"})


async def test_a_status_that_the_schema_forbids_is_permanent(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    uid = (await create(client, namespace))["metadata"]["uid"]
    with pytest.raises(errors.PermanentError, match="phase"):
        await written.write_status(Key(namespace, "one"), uid, None, {"phase": "Elsewhere"})


async def test_deleting_what_is_gone_or_was_recreated_is_success_and_deletes_nothing_else(
    client: kube.KubeClient, written: requests.KubeRequests, namespace: str
) -> None:
    stored = await create(client, namespace)
    key, uid = Key(namespace, "one"), stored["metadata"]["uid"]

    await written.delete(key, "another", stored["metadata"]["resourceVersion"])
    with pytest.raises(errors.PreconditionError):
        await written.delete(key, uid, "1")
    await written.delete(key, uid, stored["metadata"]["resourceVersion"])
    await written.delete(key, uid, stored["metadata"]["resourceVersion"])

    page = await client.get(kube.path(constants.API_VERSION, constants.RESUME_PLURAL, namespace))
    assert page["items"] == []


async def test_finished_brings_what_succeeded_and_what_failed_of_the_watched_namespaces_only(
    client: kube.KubeClient,
    written: requests.KubeRequests,
    namespace: str,
    cluster: cluster_client.Cluster,
) -> None:
    phases = {"a": "Succeeded", "b": "Failed", "c": "Waiting", "d": "Pending", "e": "Succeeded"}
    for name, phase in phases.items():
        uid = (await create(client, namespace, name))["metadata"]["uid"]
        await written.write_status(Key(namespace, name), uid, None, {"phase": phase})
    await create(client, namespace, "without-status")

    here = {body["metadata"]["name"] async for body in written.finished()}
    elsewhere = [body async for body in requests.KubeRequests(client, ("default",)).finished()]
    everywhere = {
        body["metadata"]["name"]
        async for body in requests.KubeRequests(client, ()).finished()
        if body["metadata"]["namespace"] == namespace
    }

    assert here == everywhere == {"a", "b", "e"}
    assert elsewhere == []


@pytest.fixture
def alone(built_components: None) -> Iterator[cluster_client.Cluster]:
    """A cluster whose definitions a test may change."""
    with (
        launcher.start(crds="minimal", argo=False) as plane,
        contextlib.closing(cluster_client.Cluster(plane.kubeconfig)) as made,
    ):
        yield made


async def test_a_first_status_is_written_whichever_definitions_the_request_was_made_under(
    alone: cluster_client.Cluster,
) -> None:
    """An upgrade or a rollback changes them while requests are known that nobody has looked at."""
    of = f"{constants.RESUME_PLURAL}.{constants.GROUP}"
    newer = alone.get(DEFINITION, of)["spec"]
    older = copy.deepcopy(newer)
    del older["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]
    status = {"observedGeneration": 1, "phase": "Waiting", "outcome": "Waiting"}

    def define(spec: dict[str, Any], seen: str, *, with_status: bool) -> None:
        alone.patch(DEFINITION, of, None, {"spec": spec})
        alone.wait_for(
            REQUEST, seen, "default", lambda body: ("status" in body) is with_status, TIMEOUT
        )

    async with faulty_server.connected(str(alone.kubeconfig)) as link:
        client = link.client(timeout=20.0, max_connections=8)
        written = requests.KubeRequests(client, ("default",))
        uid = (await create(client, "default", "rolled-back"))["metadata"]["uid"]
        define(older, "rolled-back", with_status=False)
        key = Key("default", "rolled-back")
        assert (await written.write_status(key, uid, None, status))["status"] == status

        uid = (await create(client, "default", "upgraded"))["metadata"]["uid"]
        define(newer, "upgraded", with_status=True)
        pending = ("--field-selector", "status.phase=Pending", "--output", "name")
        found = alone.kubectl("get", "wres", "--namespace", "default", *pending)
        assert found.split() == ["workflowresume.argoproj.io/upgraded"]
        key = Key("default", "upgraded")
        assert (await written.write_status(key, uid, None, status))["status"] == status
        with pytest.raises(errors.PreconditionError):
            await written.write_status(key, uid, None, status)
