"""`Meter` on a server that fails: each call over the wire is seen once, whatever becomes of it."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from resumer import errors
from resumer.adapters import clock, kube, metering
from tests.contract import faulty_server

OBJECT = kube.path("argoproj.io/v1alpha1", "workflows", "team-a", "build-1")
COLLECTION = kube.path("argoproj.io/v1alpha1", "workflows", "team-a")


class Seen:
    """What the meter told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.seconds: list[float] = []

    def __call__(self, verb: str, code: str, seconds: float) -> None:
        self.calls.append((verb, code))
        self.seconds.append(seconds)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def server() -> AsyncIterator[faulty_server.FaultyServer]:
    async with faulty_server.serve() as server:
        yield server


@pytest.fixture
async def client(
    request: pytest.FixtureRequest,
    server: faulty_server.FaultyServer,
    seen: Seen,
    tmp_path: pathlib.Path,
) -> AsyncIterator[kube.KubeClient]:
    """It is patient by default: a machine that stands still for a moment is no fault."""
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig(token="secret-token"))
    meter = metering.Meter(clock.SystemClock(), seen)
    async with faulty_server.connected(str(config), meter=meter) as link:
        yield link.client(timeout=getattr(request, "param", 20.0), max_connections=2)


async def test_a_call_is_told_with_its_verb_its_answer_and_its_time(
    server: faulty_server.FaultyServer, client: kube.KubeClient, seen: Seen
) -> None:
    server.plan(faulty_server.answer(200, {}), faulty_server.status(409, "Conflict", "changed"))
    await client.get(OBJECT)
    with pytest.raises(errors.PreconditionError):
        await client.patch(OBJECT, {}, kube.PatchType.MERGE)
    assert seen.calls == [("get", "200"), ("patch", "409")]
    assert all(seconds >= 0 for seconds in seen.seconds)


@pytest.mark.parametrize(
    ("fault", "client"),
    [(faulty_server.reset, 20.0), (faulty_server.silence, 2.0)],
    indirect=["client"],
    ids=["reset", "silence"],
)
async def test_a_call_without_an_answer_is_told_as_well(
    fault: faulty_server.Answer,
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    seen: Seen,
) -> None:
    server.plan(fault)
    with pytest.raises(errors.TransientError):
        await client.patch(OBJECT, {}, kube.PatchType.MERGE)
    assert seen.calls == [("patch", metering.NO_ANSWER)]


async def test_a_watch_is_told_once_it_is_open(
    server: faulty_server.FaultyServer, client: kube.KubeClient, seen: Seen
) -> None:
    server.plan(faulty_server.answer(200, b'{"type":"BOOKMARK","object":{}}\n'))
    async for _ in client.watch(COLLECTION, {"watch": "1"}, silence=5):
        assert seen.calls == [("watch", "200")]
    assert len(seen.calls) == 1
