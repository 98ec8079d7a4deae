"""The web server: what it serves, on which addresses, and that it stops."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

import resumer
from resumer import errors
from resumer.telemetry import health, metrics, server

Serve = Callable[..., Awaitable[server.Server]]


@dataclasses.dataclass
class Watched:
    """What is known of the watches; a test changes it."""

    ages: dict[str, float] = dataclasses.field(default_factory=dict)
    lists: dict[str, bool] = dataclasses.field(default_factory=dict)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
async def serve(watched: Watched) -> AsyncIterator[Serve]:
    """Starts servers on free ports; stops them afterwards."""
    servers: list[server.Server] = []

    async def start(host: str = "127.0.0.1", port: int = 0) -> server.Server:
        served = server.Server(
            registry=metrics.Metrics(lambda: watched.ages).registry,
            healthy=lambda: health.alive(watched.ages, 180),
            ready=lambda: health.complete(watched.lists),
            host=host,
            port=port,
        )
        servers.append(served)
        await served.start()
        return served

    yield start
    for served in servers:
        await served.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def test_metrics_are_served_as_prometheus_reads_them(
    serve: Serve, client: aiohttp.ClientSession, watched: Watched
) -> None:
    watched.ages["workflows"] = 42.0
    served = await serve()
    async with client.get(f"http://127.0.0.1:{served.port}/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        assert 'resumer_watch_age_seconds{resource="workflows"} 42.0' in await answer.text()
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    url = f"http://127.0.0.1:{served.port}/metrics"
    async with client.get(url, headers=openmetrics) as answer:
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


async def test_healthz_says_which_watch_does_nothing_and_for_how_long(
    serve: Serve, client: aiohttp.ClientSession, watched: Watched
) -> None:
    watched.ages["workflows"] = 1.0
    served = await serve()
    url = f"http://127.0.0.1:{served.port}/healthz"
    async with client.get(url) as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
    watched.ages["workflows"] = 200.0
    async with client.get(url) as answer:
        assert answer.status == 503
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.json() == {
            "status": "failing",
            "checks": [
                {
                    "name": "watch of workflows",
                    "ok": False,
                    "message": "last heard of or tried 200 s ago, 180 s are allowed",
                }
            ],
        }
    watched.ages["workflows"] = 0.0
    async with client.get(url) as answer:
        assert answer.status == 200


async def test_readyz_waits_for_the_first_lists(
    serve: Serve, client: aiohttp.ClientSession, watched: Watched
) -> None:
    served = await serve()
    url = f"http://127.0.0.1:{served.port}/readyz"
    async with client.get(url) as answer:
        assert answer.status == 503
    watched.lists["workflows"] = False
    async with client.get(url) as answer:
        assert answer.status == 503
        assert (await answer.json())["checks"][0]["message"] == "awaited"
    watched.lists["workflows"] = True
    async with client.get(url) as answer:
        assert answer.status == 200


async def test_the_index_names_the_pages_and_nothing_else_is_there(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    served = await serve()
    base = f"http://127.0.0.1:{served.port}"
    async with client.get(f"{base}/") as answer:
        text = await answer.text()
        assert resumer.__version__ in text
        assert all(page in text for page in ("/metrics", "/healthz", "/readyz"))
    async with client.get(f"{base}/debug") as answer:
        assert answer.status == 404
    async with client.post(f"{base}/healthz", data=b"x") as answer:
        assert answer.status == 405


async def test_without_a_host_one_port_answers_on_ipv4_and_ipv6(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    served = await serve(host="")
    addresses = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    for address in addresses:
        async with client.get(f"http://{address}:{served.port}/healthz") as answer:
            assert answer.status == 200


async def test_an_ipv6_address_is_listened_on_alone(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    served = await serve(host="::1")
    async with client.get(f"http://[::1]:{served.port}/healthz") as answer:
        assert answer.status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(f"http://127.0.0.1:{served.port}/healthz")


async def test_a_taken_port_is_refused_in_words(serve: Serve) -> None:
    served = await serve()
    with pytest.raises(errors.SettingsError, match=f"port {served.port}: ") as refused:
        await serve(port=served.port)
    assert refused.value.field == "metrics_port"


@pytest.mark.parametrize("host", ["192.0.2.1", "no host"], ids=["not ours", "not an address"])
async def test_an_address_that_cannot_be_listened_on_is_refused(serve: Serve, host: str) -> None:
    with pytest.raises(errors.SettingsError, match=host) as refused:
        await serve(host=host)
    assert refused.value.field == "metrics_host"


async def test_it_stops_within_two_seconds_though_a_connection_is_open(serve: Serve) -> None:
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readline(), timeout=10)
    await asyncio.wait_for(served.stop(), timeout=2)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)
    writer.close()


async def test_to_stop_twice_or_without_a_start_is_harmless() -> None:
    served = server.Server(
        registry=metrics.Metrics().registry,
        healthy=list,
        ready=list,
        host="127.0.0.1",
        port=0,
    )
    await served.stop()
    await served.start()
    await served.stop()
    await served.stop()
