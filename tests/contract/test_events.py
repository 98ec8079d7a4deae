"""`KubeEvents`: what people see, what is counted up, what is dropped, and that nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from resumer.adapters import clock, events, kube
from resumer.api import constants
from tests import fakes
from tests.contract import faulty_server
from tests.controlplane import client as cluster_client

START = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
DEADLINE = 20.0


class Drops:
    """Counts what was dropped."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
async def client(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> AsyncIterator[kube.KubeClient]:
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    server.plan(faulty_server.answer(201, {}))
    async with faulty_server.connected(str(config)) as link:
        yield link.client(timeout=5.0, max_connections=2)


@contextlib.asynccontextmanager
async def writing(publisher: events.KubeEvents) -> AsyncIterator[events.KubeEvents]:
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


def body(name: str = "one", uid: str = "u-1") -> dict[str, Any]:
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.RESUME_KIND,
        "metadata": {"namespace": "team-a", "name": name, "uid": uid, "resourceVersion": "7"},
    }


async def until(condition: Callable[[], object], state: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - publishing tells nobody when it is done
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE} s; the last state was {state()}")


async def test_kubectl_describe_shows_an_event_and_how_often_it_repeated(
    cluster: cluster_client.Cluster, namespace: str
) -> None:
    stored = cluster.create(
        {
            **body(),
            "metadata": {"name": "one"},
            "spec": {
                "workflowName": "build-1",
                "correlationData": {"taskId": "5", "eventType": "pr-created"},
            },
        },
        namespace,
    )
    moment, drops = fakes.FakeClock(START), Drops()

    def listed() -> list[dict[str, Any]]:
        return cluster.list_all("v1/Event", namespace)

    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        client = link.client(timeout=20.0, max_connections=2)
        publisher = events.KubeEvents(client, moment, on_dropped=drops, instance="pod-1")
        async with writing(publisher):
            publisher.publish(stored, warning=True, reason="Rejected", message="task 5 is not 6")
            await until(lambda: len(listed()) == 1, listed)
            moment.advance(60)
            publisher.publish(stored, warning=True, reason="Rejected", message="task 5 is not 6")
            await until(lambda: listed()[0]["count"] == 2, listed)

    (event,) = listed()
    described = cluster.kubectl("describe", "workflowresume", "one", "-n", namespace)
    (line,) = [line for line in described.splitlines() if "task 5 is not 6" in line]
    assert line.split()[:2] == ["Warning", "Rejected"]
    assert "(x2 over" in line
    assert "resumer" in line
    assert event["lastTimestamp"] == "2001-09-09T01:47:40Z"
    assert event["firstTimestamp"] == "2001-09-09T01:46:40Z"
    assert event["reportingInstance"] == "pod-1"
    assert drops.count == 0


async def test_an_event_that_has_expired_is_created_again(
    cluster: cluster_client.Cluster, namespace: str
) -> None:
    regarding = {**body(), "metadata": {**body()["metadata"], "namespace": namespace}}
    moment, drops = fakes.FakeClock(START), Drops()

    def listed() -> list[dict[str, Any]]:
        return cluster.list_all("v1/Event", namespace)

    async with faulty_server.connected(str(cluster.kubeconfig)) as link:
        client = link.client(timeout=20.0, max_connections=2)
        async with writing(events.KubeEvents(client, moment, on_dropped=drops)) as publisher:
            publisher.publish(regarding, warning=False, reason="Waiting", message="no gate")
            await until(lambda: len(listed()) == 1, listed)
            cluster.delete("v1/Event", listed()[0]["metadata"]["name"], namespace)

            publisher.publish(regarding, warning=False, reason="Waiting", message="no gate")
            await until(lambda: [event["count"] for event in listed()] == [2], listed)
    assert drops.count == 0


async def test_repeats_are_one_event_until_they_are_ten_minutes_apart(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    moment = fakes.FakeClock(START)
    async with writing(events.KubeEvents(client, moment, on_dropped=Drops())) as publisher:
        for _ in range(100):
            publisher.publish(body(), warning=False, reason="Waiting", message="no gate")
        publisher.publish(body(uid="u-2"), warning=False, reason="Waiting", message="no gate")
        publisher.publish(body(), warning=False, reason="Waiting", message="another")
        await until(lambda: len(server.received) == 3, lambda: server.received)
        moment.advance(events.REPEAT_SECONDS + 1)
        publisher.publish(body(), warning=False, reason="Waiting", message="no gate")
        await until(lambda: len(server.received) == 4, lambda: server.received)

    assert [received.method for received in server.received] == ["POST"] * 4
    assert [received.json()["count"] for received in server.received] == [100, 1, 1, 1]
    assert len({received.json()["metadata"]["name"] for received in server.received}) == 4


async def test_a_flood_is_written_up_to_the_burst_and_dropped_beyond_the_queue(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    drops = Drops()
    publisher = events.KubeEvents(client, fakes.FakeClock(START), on_dropped=drops)
    for number in range(2000):
        publisher.publish(body(uid=f"u-{number}"), warning=False, reason="Resumed", message="x")
    assert drops.count == 2000 - events.QUEUE_LIMIT

    loop = asyncio.get_running_loop()
    started = loop.time()
    async with writing(publisher):
        await until(lambda: len(server.received) >= events.BURST, lambda: len(server.received))
        ending = loop.time()
    ended = loop.time()

    rate = events.BURST / events.BURST_SECONDS
    assert ended - ending < events.FLUSH_SECONDS + 2.0, "the end waits for about a second at most"
    assert len(server.received) <= events.BURST + rate * (ended - started) + 1


async def test_the_end_writes_what_is_queued(
    server: faulty_server.FaultyServer, client: kube.KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long it may take is another test's.
    monkeypatch.setattr(events, "FLUSH_SECONDS", DEADLINE)
    publisher = events.KubeEvents(client, clock.SystemClock(), on_dropped=Drops())
    publisher.start()
    for number in range(10):
        publisher.publish(body(uid=f"u-{number}"), warning=False, reason="Resumed", message="x")
    await publisher.close()
    assert len(server.received) == 10


@pytest.mark.parametrize(
    "answer",
    [
        faulty_server.status(403, "Forbidden", "no"),
        faulty_server.answer(500),
        faulty_server.reset,
        faulty_server.answer(201, b"garbage"),
    ],
)
async def test_what_cannot_be_written_is_dropped_and_counted_and_the_next_is_written(
    server: faulty_server.FaultyServer, client: kube.KubeClient, answer: faulty_server.Answer
) -> None:
    server.plan(answer, faulty_server.answer(201, {}))
    drops = Drops()
    still = fakes.FakeClock(START)
    async with writing(events.KubeEvents(client, still, on_dropped=drops)) as publisher:
        publisher.publish(body(), warning=False, reason="Resumed", message="x")
        publisher.publish(body(uid="u-2"), warning=False, reason="Resumed", message="x")
        await until(lambda: len(server.received) == 2, lambda: server.received)
    assert drops.count == 1


async def test_an_object_without_a_usable_namespace_harms_nothing(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    drops = Drops()
    odd = {**body(), "metadata": {"name": "one", "namespace": "../kube-system", "uid": "u-2"}}
    still = fakes.FakeClock(START)
    async with writing(events.KubeEvents(client, still, on_dropped=drops)) as publisher:
        publisher.publish(odd, warning=False, reason="Resumed", message="x")
        publisher.publish(body(), warning=False, reason="Resumed", message="x")
        await until(lambda: len(server.received) == 1, lambda: server.received)
    assert drops.count == 1


async def test_a_message_is_one_line_of_at_most_1024_characters(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    still = fakes.FakeClock(START)
    async with writing(events.KubeEvents(client, still, on_dropped=Drops())) as publisher:
        publisher.publish(
            body("n" * 253), warning=True, reason="R" * 300, message="a\nb\x1b" + "x" * 5000
        )
        await until(lambda: server.received, lambda: server.received)
    event = server.received[0].json()
    assert len(event["message"]) == 1024
    assert event["message"].startswith("a b x")
    assert len(event["reason"]) == 128
    assert len(event["metadata"]["name"]) <= 253
