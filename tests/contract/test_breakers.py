"""`KubeBreakers` on a real API server: what is stored comes back, and only one writer wins."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest
from hypothesis import strategies

from resumer import errors
from resumer.adapters import breakers, kube
from resumer.api import constants
from resumer.api.breaker import BreakerState
from resumer.core import breaker as core_breaker
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

NOW = datetime(2026, 11, 21, 9, 0, 0, 123456, tzinfo=UTC)
OPEN = core_breaker.Breaker(
    state=BreakerState.OPEN,
    consecutive_failures=5,
    opened_at=NOW,
    open_until=NOW + timedelta(seconds=30),
    last_failure_at=NOW,
    last_failure_reason="HTTP 503",
    last_transition_at=NOW,
)
HALF_OPEN = core_breaker.Breaker(
    state=BreakerState.HALF_OPEN,
    consecutive_failures=5,
    opened_at=NOW,
    open_until=NOW + timedelta(seconds=30),
    probes=(core_breaker.Probe("uid-1", NOW), core_breaker.Probe("uid-2", NOW)),
)
STAGES = strategies.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", fullmatch=True)
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@pytest.fixture
async def stored(cluster: cluster_client.Cluster) -> AsyncIterator[breakers.KubeBreakers]:
    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        yield breakers.KubeBreakers(link.client(timeout=20.0, max_connections=8))


@hypothesis.given(STAGES)
@hypothesis.example("")
@hypothesis.example("a..b")
@hypothesis.example("A" * 63)
def test_every_stage_has_a_name_that_kubernetes_takes(stage: str) -> None:
    name = breakers.object_name(stage)
    assert DNS_NAME.fullmatch(name)
    assert len(name) <= 253
    assert kube.path("v1", "things", "space", name).endswith(f"/{name}")


@hypothesis.given(STAGES, STAGES)
@hypothesis.example("Stage", "stage")
@hypothesis.example("a_b", "a-b")
@hypothesis.example("", "no-stage")
def test_two_stages_never_share_an_object(one: str, other: str) -> None:
    assert (breakers.object_name(one) == breakers.object_name(other)) == (one == other)
    assert breakers.object_name(breakers.object_name(one)) != breakers.object_name(one) or (
        breakers.object_name(one) == one
    )


def test_a_stage_that_can_be_a_name_is_its_name() -> None:
    assert breakers.object_name("waiting-pr-created") == "waiting-pr-created"
    assert re.fullmatch(r"waiting-pr-[0-9a-f]{8}", breakers.object_name("Waiting_PR"))
    assert re.fullmatch(r"no-stage-[0-9a-f]{8}", breakers.object_name(""))


@pytest.mark.parametrize("stage", ["waiting-pr-created", "Waiting_PR..x", ""])
async def test_what_was_written_is_read_back_to_the_microsecond(
    stored: breakers.KubeBreakers, namespace: str, stage: str
) -> None:
    assert await stored.read(namespace, stage) == (core_breaker.Breaker(), "")

    version = await stored.write(namespace, stage, HALF_OPEN, "")

    assert await stored.read(namespace, stage) == (HALF_OPEN, version)


async def test_a_closed_breaker_replaces_an_open_one_without_a_rest(
    stored: breakers.KubeBreakers, namespace: str
) -> None:
    version = await stored.write(namespace, "stage", HALF_OPEN, "")
    version = await stored.write(namespace, "stage", OPEN, version)
    assert await stored.read(namespace, "stage") == (OPEN, version)

    closed = core_breaker.Breaker()
    version = await stored.write(namespace, "stage", closed, version)

    assert await stored.read(namespace, "stage") == (closed, version)


async def test_of_several_writers_of_one_version_exactly_one_wins(
    stored: breakers.KubeBreakers, namespace: str
) -> None:
    for version in ("", await stored.write(namespace, "second", OPEN, "")):
        stage = "second" if version else "first"
        results = await asyncio.gather(
            *(
                stored.write(
                    namespace, stage, core_breaker.Breaker(consecutive_failures=number), version
                )
                for number in range(1, 9)
            ),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, str)]
        lost = [result for result in results if isinstance(result, errors.PreconditionError)]
        assert (len(won), len(lost)) == (1, 7), results
        breaker, stored_version = await stored.read(namespace, stage)
        assert stored_version == won[0]
        assert breaker.consecutive_failures == results.index(won[0]) + 1


async def test_a_breaker_that_was_deleted_meanwhile_is_to_be_read_again(
    stored: breakers.KubeBreakers, cluster: cluster_client.Cluster, namespace: str
) -> None:
    version = await stored.write(namespace, "stage", OPEN, "")
    cluster.delete("WorkflowResumeBreaker", "stage", namespace)

    with pytest.raises(errors.PreconditionError):
        await stored.write(namespace, "stage", OPEN, version)

    assert await stored.read(namespace, "stage") == (core_breaker.Breaker(), "")


async def test_a_breaker_created_without_a_status_is_a_closed_one(
    stored: breakers.KubeBreakers, cluster: cluster_client.Cluster, namespace: str
) -> None:
    """What is left when the process ends between the two writes of a new breaker."""
    cluster.create(
        {
            "apiVersion": constants.API_VERSION,
            "kind": constants.BREAKER_KIND,
            "metadata": {"name": "stage"},
            "spec": {"stage": "stage"},
        },
        namespace,
    )

    breaker, version = await stored.read(namespace, "stage")
    assert (breaker, bool(version)) == (core_breaker.Breaker(), True)
    await stored.write(namespace, "stage", OPEN, version)
    assert (await stored.read(namespace, "stage"))[0] == OPEN


async def test_a_reason_that_is_too_long_is_cut(
    stored: breakers.KubeBreakers, namespace: str
) -> None:
    await stored.write(namespace, "stage", core_breaker.Breaker(last_failure_reason="x" * 1000), "")
    breaker, _ = await stored.read(namespace, "stage")
    assert len(breaker.last_failure_reason) == 256


async def test_what_a_watch_delivers_can_be_parsed(
    stored: breakers.KubeBreakers, cluster: cluster_client.Cluster, namespace: str
) -> None:
    version = await stored.write(namespace, "Stage_1", OPEN, "")
    body = cluster.get("WorkflowResumeBreaker", breakers.object_name("Stage_1"), namespace)
    assert breakers.parse(body) == breakers.Stored("Stage_1", OPEN, version)


async def test_a_breaker_that_somebody_edited_badly_counts_as_closed_and_is_mended(
    stored: breakers.KubeBreakers, cluster: cluster_client.Cluster, namespace: str
) -> None:
    """The API server knows a year 0, Python does not."""
    await stored.write(namespace, "stage", OPEN, "")
    cluster.patch(
        "WorkflowResumeBreaker",
        "stage",
        namespace,
        {"status": {"openUntilTime": "0000-01-01T00:00:00Z"}},
        subresource="status",
    )

    breaker, version = await stored.read(namespace, "stage")
    assert breaker == core_breaker.Breaker()
    await stored.write(namespace, "stage", HALF_OPEN, version)
    assert (await stored.read(namespace, "stage"))[0] == HALF_OPEN


@pytest.mark.parametrize("spec", [{}, {"stage": ""}, {"stage": "another"}])
async def test_an_object_in_its_place_that_is_another_stages_is_refused_and_left_alone(
    stored: breakers.KubeBreakers,
    cluster: cluster_client.Cluster,
    namespace: str,
    spec: dict[str, str],
) -> None:
    foreign = cluster.create(
        {
            "apiVersion": constants.API_VERSION,
            "kind": constants.BREAKER_KIND,
            "metadata": {"name": "stage"},
            "spec": spec,
        },
        namespace,
    )

    with pytest.raises(errors.PreconditionError):
        await stored.write(namespace, "stage", OPEN, "")
    with pytest.raises(errors.PermanentError, match="object in its place") as refused:
        await stored.read(namespace, "stage")
    assert refused.value.reason == "OtherStage"
    assert cluster.get("WorkflowResumeBreaker", "stage", namespace) == foreign

    cluster.delete("WorkflowResumeBreaker", "stage", namespace)
    version = await stored.write(namespace, "stage", OPEN, "")
    assert await stored.read(namespace, "stage") == (OPEN, version)


async def test_a_breaker_in_a_namespace_that_is_gone_cannot_be_written(
    stored: breakers.KubeBreakers,
) -> None:
    assert await stored.read("no-such-namespace", "stage") == (core_breaker.Breaker(), "")
    with pytest.raises(errors.NotFoundError):
        await stored.write("no-such-namespace", "stage", OPEN, "")
