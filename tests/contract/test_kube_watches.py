"""`WatchActivity` on real streams: what lives, what is silent, what is missing."""

from __future__ import annotations

import asyncio
import pathlib
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

from resumer.adapters import kube, watches
from tests.contract import faulty_server

ALL = "/apis/argoproj.io/v1alpha1/workflows"
ONE = "/apis/argoproj.io/v1alpha1/namespaces/team-a/workflows"
DEADLINE = 10.0


class Streams:
    """Watch streams by path: a line for each put, the end for None."""

    def __init__(self) -> None:
        self._lines: dict[str, asyncio.Queue[bytes | None]] = {}

    def of(self, path: str) -> asyncio.Queue[bytes | None]:
        return self._lines.setdefault(path, asyncio.Queue())

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while (line := await self.of(request.path).get()) is not None:
            await response.write(line)
        return response


@pytest.fixture
def streams(server: faulty_server.FaultyServer) -> Streams:
    streams = Streams()
    server.plan(streams.answer)
    return streams


@pytest.fixture
def activity() -> watches.WatchActivity:
    return watches.WatchActivity(("workflows", "workflowresumes"), namespaces=(), now=0.0)


@pytest.fixture
async def session(
    server: faulty_server.FaultyServer, activity: watches.WatchActivity, tmp_path: pathlib.Path
) -> AsyncIterator[aiohttp.ClientSession]:
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    async with faulty_server.connected(str(config), activity=activity) as link:
        yield await link.watch_session(streams=4)


async def until(condition: Callable[[], object], state: Callable[[], object]) -> None:
    """Waits for a condition of the activity, which changes with the arrival of bytes."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - no event tells that bytes have arrived
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE} s; the last state was {state()}")


async def test_a_stream_that_never_starts_ages_from_the_beginning(
    activity: watches.WatchActivity,
) -> None:
    assert activity.ages(5.0) == {"workflows": 5.0, "workflowresumes": 5.0}
    assert activity.missing() == {("workflows", ""), ("workflowresumes", "")}


async def test_bytes_of_a_stream_make_it_young_and_silence_lets_it_age(
    server: faulty_server.FaultyServer,
    streams: Streams,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
) -> None:
    async with session.get(f"{server.url}{ALL}?watch=true") as response:
        assert activity.ages(10.0)["workflows"] == 0.0, "an opened stream is activity"
        assert activity.missing() == {("workflowresumes", "")}
        assert activity.ages(70.0)["workflows"] == 60.0

        streams.of(ALL).put_nowait(b'{"type":"BOOKMARK"}\n')
        await until(lambda: activity.ages(80.0)["workflows"] == 0.0, lambda: activity.ages(80.0))
        assert response.content.total_bytes == 20
        assert activity.ages(90.0) == {"workflows": 10.0, "workflowresumes": 90.0}
        streams.of(ALL).put_nowait(None)


async def test_a_stream_that_ended_is_missing_until_it_is_opened_again(
    server: faulty_server.FaultyServer,
    streams: Streams,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
) -> None:
    streams.of(ALL).put_nowait(None)
    async with session.get(f"{server.url}{ALL}?watch=true") as response:
        await response.read()
    assert ("workflows", "") in activity.missing()
    assert activity.ages(30.0)["workflows"] in (0.0, 30.0)

    async with session.get(f"{server.url}{ALL}?watch=true"):
        assert ("workflows", "") not in activity.missing()
        assert activity.ages(40.0)["workflows"] == 0.0
        streams.of(ALL).put_nowait(None)


async def test_with_several_namespaces_the_most_silent_stream_counts(
    server: faulty_server.FaultyServer,
    streams: Streams,
    tmp_path: pathlib.Path,
) -> None:
    activity = watches.WatchActivity(("workflows",), namespaces=("team-a", "team-b"), now=0.0)
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    async with faulty_server.connected(str(config), activity=activity) as link:
        session = await link.watch_session(streams=2)
        async with session.get(f"{server.url}{ONE}?watch=true"):
            assert activity.ages(10.0) == {"workflows": 10.0}
            assert activity.missing() == {("workflows", "team-b")}
            streams.of(ONE).put_nowait(None)


async def test_what_is_no_accepted_watch_does_not_count(
    server: faulty_server.FaultyServer,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
) -> None:
    server.plan(faulty_server.answer(410, b"{}"), faulty_server.answer(200, b"{}"))

    async with session.get(f"{server.url}{ALL}?watch=true") as refused:
        assert refused.status == 410
    async with session.get(f"{server.url}{ALL}") as listed:
        assert listed.status == 200

    assert activity.ages(10.0)["workflows"] == 10.0
    assert ("workflows", "") in activity.missing()


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
async def test_a_watch_that_is_refused_was_tried_and_brings_no_news(
    server: faulty_server.FaultyServer,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
    status: int,
) -> None:
    server.plan(faulty_server.answer(status, b"{}"))
    async with session.get(f"{server.url}{ALL}?watch=true") as refused:
        assert refused.status == status
    assert activity.idle(200.0) == {"workflows": 0.0, "workflowresumes": 200.0}
    assert activity.ages(210.0) == {"workflows": 210.0, "workflowresumes": 210.0}
    assert activity.idle(220.0)["workflows"] == 20.0, "one try does not count for ever"


async def test_a_watch_that_gets_no_answer_was_tried(
    server: faulty_server.FaultyServer,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
) -> None:
    server.plan(faulty_server.reset)
    with pytest.raises(aiohttp.ClientError):
        await session.get(f"{server.url}{ALL}?watch=true")
    assert activity.idle(200.0)["workflows"] == 0.0

    server.plan(faulty_server.silence)
    known = len(server.received)
    asked = asyncio.create_task(session.get(f"{server.url}{ALL}?watch=true"))
    await until(lambda: len(server.received) > known, lambda: server.received)
    assert activity.idle(400.0)["workflows"] == 200.0, "it has not ended"
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert activity.idle(400.0)["workflows"] == 0.0

    with socket.socket() as bound:  # and not listening, so that it refuses
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{bound.getsockname()[1]}{ALL}?watch=true")
    assert activity.idle(600.0)["workflows"] == 0.0


async def test_an_open_stream_that_is_silent_is_idle(
    server: faulty_server.FaultyServer,
    streams: Streams,
    activity: watches.WatchActivity,
    session: aiohttp.ClientSession,
) -> None:
    async with session.get(f"{server.url}{ALL}?watch=true"):
        assert activity.idle(10.0)["workflows"] == 0.0
        assert activity.idle(210.0)["workflows"] == 200.0
        streams.of(ALL).put_nowait(b'{"type":"BOOKMARK"}\n')
        await until(lambda: activity.idle(220.0)["workflows"] == 0.0, lambda: activity.idle(220.0))
        streams.of(ALL).put_nowait(None)


async def test_a_call_of_another_client_is_no_try(
    server: faulty_server.FaultyServer, activity: watches.WatchActivity, tmp_path: pathlib.Path
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    server.plan(faulty_server.answer(200, b"{}"))
    async with faulty_server.connected(str(config), activity=activity) as link:
        await link.client(timeout=5.0, max_connections=1).get(kube.Path(ALL))
    assert activity.idle(200.0)["workflows"] == 200.0


async def test_logging_in_again_and_again_gets_slower(
    server: faulty_server.FaultyServer,
    activity: watches.WatchActivity,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    async with faulty_server.connected(str(config), activity=activity) as link:
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", sleep)
            sessions = [await link.watch_session(streams=1) for _ in range(8)]

    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert len({id(session) for session in sessions}) == 8
    assert all(session.closed for session in sessions)
