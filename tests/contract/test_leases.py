"""`KubeLeases` on a real API server: one writer of a version wins, and what is there is kept."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from resumer import errors
from resumer.adapters import clock, kube, leases
from resumer.core.leadership import Record, Timing
from resumer.services import leading
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

NOW = datetime(2026, 11, 21, 9, 0, 0, 120000, tzinfo=UTC)
RECORD = Record("pod-1_abc", 10, NOW, NOW, 0)
LEASE = "coordination.k8s.io/v1/Lease"


@pytest.fixture
async def client(cluster: cluster_client.Cluster) -> AsyncIterator[kube.KubeClient]:
    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        yield link.client(timeout=20.0, max_connections=8)


@pytest.fixture
def stored(client: kube.KubeClient, namespace: str) -> leases.KubeLeases:
    return leases.KubeLeases(client, namespace, "resumer")


async def test_what_was_written_is_read_back_to_the_microsecond(
    stored: leases.KubeLeases, client: kube.KubeClient, namespace: str
) -> None:
    assert await stored.read() is None

    created = await stored.write(RECORD)
    later = dataclasses.replace(created, renewed=NOW + timedelta(seconds=2), transitions=4)
    renewed = await stored.write(later)

    assert created == dataclasses.replace(RECORD, version=created.version)
    assert renewed == dataclasses.replace(later, version=renewed.version)
    assert renewed.version not in ("", created.version)
    assert await leases.KubeLeases(client, namespace, "resumer").read() == renewed


async def test_a_released_lease_has_no_holder(stored: leases.KubeLeases) -> None:
    created = await stored.write(RECORD)
    await stored.write(dataclasses.replace(created, holder="", seconds=1))
    read = await stored.read()
    assert read is not None
    assert (read.holder, read.seconds) == ("", 1)


async def test_of_several_that_write_the_same_version_exactly_one_wins(
    client: kube.KubeClient, namespace: str
) -> None:
    crowd = [leases.KubeLeases(client, namespace, "resumer") for _ in range(8)]
    for later in (NOW, NOW + timedelta(minutes=1)):
        read = [await one.read() for one in crowd]
        results = await asyncio.gather(
            *(
                one.write(
                    dataclasses.replace(
                        known or RECORD,
                        holder=f"pod-{number}",
                        renewed=later + timedelta(seconds=number),
                    )
                )
                for number, (one, known) in enumerate(zip(crowd, read, strict=True))
            ),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, Record)]
        lost = [result for result in results if isinstance(result, errors.PreconditionError)]
        assert (len(won), len(lost)) == (1, 7), results
        assert await crowd[0].read() == won[0]


async def test_a_lease_that_was_deleted_meanwhile_is_to_be_read_again(
    stored: leases.KubeLeases, cluster: cluster_client.Cluster, namespace: str
) -> None:
    created = await stored.write(RECORD)
    cluster.delete(LEASE, "resumer", namespace)
    later = dataclasses.replace(created, renewed=NOW + timedelta(seconds=2))
    with pytest.raises(errors.PreconditionError):
        await stored.write(later)
    assert await stored.read() is None
    assert (await stored.write(RECORD)).holder == RECORD.holder


async def test_what_others_wrote_on_the_lease_stays(
    stored: leases.KubeLeases, cluster: cluster_client.Cluster, namespace: str
) -> None:
    """A chart's labels, for one, or a field of a newer Kubernetes."""
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "resumer", "labels": {"app": "resumer"}},
        "spec": {"holderIdentity": "pod-0"},
    }
    cluster.create(body, namespace)
    read = await stored.read()
    assert read is not None
    assert (read.holder, read.seconds, read.renewed) == ("pod-0", 0, None)

    await stored.write(dataclasses.replace(RECORD, version=read.version))

    after = cluster.get(LEASE, "resumer", namespace)
    assert after["metadata"]["labels"] == {"app": "resumer"}
    assert after["spec"]["holderIdentity"] == RECORD.holder


async def test_a_namespace_that_is_missing_is_not_found(client: kube.KubeClient) -> None:
    missing = leases.KubeLeases(client, "no-such-namespace", "resumer")
    assert await missing.read() is None
    with pytest.raises(errors.NotFoundError):
        await missing.write(RECORD)


class JumpingClock(clock.SystemClock):
    """The machine's clock, an hour ahead or behind at each look."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def now(self) -> datetime:
        self.looks += 1
        return super().now() + timedelta(hours=self.looks % 3 - 1)


async def test_a_clock_that_jumps_by_hours_neither_ends_a_lead_nor_makes_a_second_one(
    client: kube.KubeClient, namespace: str
) -> None:
    """Each renewal is stamped an hour before or after the last, as seen by each of the two."""
    timing = Timing(lease=30.0, renew=20.0, retry=0.1)
    told: list[bool] = []
    first, second = (
        leading.Elector(
            leases.KubeLeases(client, namespace, "resumer"),
            JumpingClock(),
            name,
            timing,
            told.append,
        )
        for name in ("first", "second")
    )
    tasks = [asyncio.create_task(first.run())]
    await asyncio.wait_for(first.leading.wait(), 20.0)
    tasks.append(asyncio.create_task(second.run()))
    record, seen = leases.KubeLeases(client, namespace, "resumer"), set[str]()
    async with asyncio.timeout(60.0):
        while len(seen) < 10:
            now = await record.read()
            assert now is not None
            seen.add(now.version)
            assert (first.leads(), second.leads()) == (True, False)
            await asyncio.sleep(0.02)
    assert not any(task.done() for task in tasks)

    await first.resign()
    await asyncio.wait_for(second.leading.wait(), 20.0)
    assert told == [True, False, True]
    await second.resign()
    await asyncio.wait_for(asyncio.gather(*tasks), 20.0)


def test_the_name_of_a_process_tells_its_pod_and_is_never_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POD_NAME", "resumer-0")
    one, other = leases.identity(), leases.identity()
    assert one.startswith("resumer-0_")
    assert one != other
    monkeypatch.delenv("POD_NAME")
    assert leases.identity().partition("_")[0]


def test_the_namespace_of_the_lease_is_the_pods_own_or_has_to_be_given(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "namespace"
    with pytest.raises(errors.SettingsError, match="has to be given outside of a pod") as missing:
        leases.own_namespace(file)
    assert missing.value.field == "leader_elect_namespace"
    file.write_text("resumer-system\n")
    assert leases.own_namespace(file) == "resumer-system"
