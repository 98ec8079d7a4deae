"""The releases of the page about high availability, as it writes them: each does its own part.

The control plane has no Argo controller, so that Workflows of any instance ID stand at their gates.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pathlib
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from resumer.api import constants
from tests import builders
from tests.e2e.support import home as homes
from tests.e2e.support import pages, process, rights
from tests.e2e.support import proxy as proxies
from tests.e2e.support.home import Home

PAGE = "docs/high-availability.md"
COMMAND = "resumer run --leader-elect --leader-elect-lease-name "
LEASE = "coordination.k8s.io/v1/Lease"
ALONE = "team-c"
"""The namespace that one release has for itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A release, behind a proxy that only it uses."""

    proxy: proxies.Proxy
    operator: process.Operator

    def wrote(self) -> set[str]:
        """The names of the Workflows and requests that it wrote to, each with its namespace."""
        found = [
            one.path.split("/")
            for one in self.proxy.log("PATCH", "/(workflows|workflowresumes)/")
            if one.took_effect
        ]
        return {f"{parts[5]}/{parts[7]}" for parts in found}


@pytest.fixture(scope="module")
def own(built_components: None) -> Iterator[Home]:
    """A namespace of a control plane of its own, where the namespace of the page is free."""
    with homes.without_argo() as made:
        made.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ALONE}})
        yield made


@pytest.fixture(scope="module")
def shards(own: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Shard]]:
    """All releases at work, by the names of their leases."""
    found: dict[str, Shard] = {}
    with contextlib.ExitStack() as stack:
        for block in pages.blocks(PAGE):
            for line in block.text.splitlines():
                if line.startswith(COMMAND):
                    name, *options = shlex.split(line.removeprefix(COMMAND))
                    folder = tmp_path_factory.mktemp(name)
                    found[name] = stack.enter_context(_running(own, folder, name, options))
        for shard in found.values():
            shard.operator.wait_logged("leading", process.START_TIMEOUT)
        yield found
        for shard in found.values():
            assert shard.operator.stop() == 0, shard.operator.tail()


@contextlib.contextmanager
def _running(own: Home, folder: pathlib.Path, lease: str, options: list[str]) -> Iterator[Shard]:
    elected = ["--leader-elect", "--leader-elect-lease-name", lease]
    account = rights.everywhere(own.cluster, own.namespace, name=lease)
    with proxies.running(account, folder) as proxy:
        operator = process.start(
            proxy.kubeconfig,
            folder / "operator.log",
            [],
            options=[*elected, "--leader-elect-namespace", own.namespace, *options],
        )
        try:
            yield Shard(proxy, operator)
        finally:
            operator.kill()
            print(operator.tail())


def at_gate(home: Home, name: str, instance: str, task: str) -> None:
    """A Workflow of an Argo controller, "" being the one without an instance ID, at its gate."""
    body = copy.deepcopy(builders.at_review(name).labelled(task=task).build())
    for field in ("uid", "resourceVersion", "creationTimestamp", "namespace"):
        body["metadata"].pop(field, None)
    if instance:
        body["metadata"]["labels"][constants.LABEL_INSTANCE_ID] = instance
    home.cluster.create(body, home.namespace)


def asking(name: str, instance: str) -> dict[str, Any]:
    """The request that the page shows, for another workflow and another instance."""
    shown = next(
        block.text for block in pages.blocks(PAGE) if block.text.startswith("apiVersion: argoproj")
    )
    body: dict[str, Any] = yaml.safe_load(shown)
    assert body["metadata"]["labels"] == {constants.LABEL_INSTANCE_ID: "blue"}
    body["metadata"] = {"name": name}
    if instance:
        body["metadata"]["labels"] = {constants.LABEL_INSTANCE_ID: instance}
    body["spec"]["workflowName"] = name
    return body


def test_each_release_leads_and_does_its_own_part_and_nothing_else(
    own: Home, shards: Mapping[str, Shard]
) -> None:
    assert set(shards) == {"resumer-blue", "resumer-green", "resumer-team-c"}
    alone = dataclasses.replace(own, namespace=ALONE)
    here, there = own.namespace, ALONE
    wanted = {
        "resumer-blue": {f"{here}/blue", f"{there}/blue"},
        "resumer-green": {f"{here}/green"},
        "resumer-team-c": {f"{there}/none"},
    }
    # One for which the page says that nobody looks at it: no such operator works there.
    placed = [(own, "blue"), (own, "green"), (own, "none"), (alone, "blue"), (alone, "none")]
    for home, name in placed:
        instance = "" if name == "none" else name
        at_gate(home, name, instance, "7")
        home.ask(asking(name, instance))
    for home, name in placed:
        if (home, name) != (own, "none"):
            home.resumed(name)

    for name, shard in shards.items():
        assert shard.wrote() == wanted[name], name
        body = own.cluster.get(LEASE, name, own.namespace)
        assert body["spec"]["holderIdentity"]
        assert shard.operator.metric("resumer_leader") == 1.0
    assert own.cluster.get(homes.RESUME, "none", here)["status"]["phase"] == "Pending"
    assert list(homes.open_gates(own.workflow("none")))
