"""Where the configuration comes from, and how credentials stay good while tokens rotate."""

from __future__ import annotations

import asyncio
import pathlib
import stat
from datetime import UTC, datetime

import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config

from resumer import errors
from resumer.adapters import clock, credentials, kube
from tests import fakes
from tests.contract import faulty_server

START = datetime(2001, 9, 9, tzinfo=UTC)
PODS = kube.path("v1", "pods", "team-a")


@pytest.fixture(autouse=True)
def outside_of_clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No configuration of the machine reaches these tests."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """The surroundings of a pod; returns the file of its token."""
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("pod-token\n")
    authority.write_text("certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return token


def kubeconfig(folder: pathlib.Path, server: faulty_server.FaultyServer, **user: object) -> str:
    file = folder / "config"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(server.kubeconfig(**user))
    return str(file)


def write(file: pathlib.Path, text: str) -> None:
    file.write_text(text)


def only(*tokens: str) -> faulty_server.Answer:
    """Answers 200 to the tokens given and 401 to any other."""

    async def give(request: web.Request) -> web.StreamResponse:
        good = request.headers.get("Authorization") in {f"Bearer {token}" for token in tokens}
        return web.json_response({"items": []}, status=200 if good else 401)

    return give


async def test_the_kubeconfig_variable_wins_over_a_pod_and_a_pod_over_the_home_folder(
    server: faulty_server.FaultyServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    in_a_pod: pathlib.Path,
) -> None:
    kubeconfig(tmp_path / "home" / ".kube", server, token="home-token")

    in_pod = await credentials.Credentials.load(fakes.FakeClock(START))
    assert (in_pod.server, await in_pod.authorization()) == (
        "https://10.0.0.1:443",
        "bearer pod-token",
    )

    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "x", server, token="variable-token"))
    by_variable = await credentials.Credentials.load(fakes.FakeClock(START))
    assert await by_variable.authorization() == "Bearer variable-token"

    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    at_home = await credentials.Credentials.load(fakes.FakeClock(START))
    assert (at_home.server, await at_home.authorization()) == (server.url, "Bearer home-token")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "kubeconfig"),
        ("a: [b\ntoken: secret", "is not YAML"),
        ("[]", "kubeconfig"),
        ("text", "kubeconfig"),
        ("contexts: []\ncurrent-context: x", "x"),
    ],
)
async def test_a_configuration_that_cannot_be_understood_is_said_to_be_so(
    tmp_path: pathlib.Path, text: str | None, message: str
) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)

    with pytest.raises(errors.SettingsError, match=message) as caught:
        await credentials.Credentials.load(fakes.FakeClock(START), kubeconfig=str(file))

    assert caught.value.field == "kubeconfig"
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_no_url_is_refused(tmp_path: pathlib.Path) -> None:
    file = kubeconfig(tmp_path, faulty_server.FaultyServer("ftp://x"))

    with pytest.raises(errors.SettingsError, match="must be an https:// URL"):
        await credentials.Credentials.load(fakes.FakeClock(START), kubeconfig=file)


async def test_after_a_401_the_token_is_read_again_and_the_call_tried_once_more(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    config = kubeconfig(tmp_path, server, tokenFile=str(token))
    async with faulty_server.connected(config, moment=fakes.FakeClock(START)) as link:
        client = link.client(timeout=5.0, max_connections=2)
        server.plan(only("second"))
        write(token, "second")

        await client.get(PODS)
        await client.get(PODS)

    assert [received.headers["Authorization"] for received in server.received] == [
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]


async def test_a_401_that_stays_is_permanent_and_ends_after_one_more_try(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    config = kubeconfig(tmp_path, server, tokenFile=str(token))
    async with faulty_server.connected(config, moment=fakes.FakeClock(START)) as link:
        client = link.client(timeout=5.0, max_connections=2)
        server.plan(only("none"))
        write(token, "second")

        with pytest.raises(errors.PermanentError) as caught:
            await client.get(PODS)
        assert (caught.value.status, len(server.received)) == (401, 2)

        with pytest.raises(errors.PermanentError):
            await client.get(PODS)
    assert len(server.received) == 3, "the same refused token must not be tried twice"


async def test_many_refused_calls_start_the_exec_plugin_once(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> None:
    runs = tmp_path / "runs"
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\necho run >> {runs}\nn=$(wc -l < {runs})\n"
        'echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\",'
        ' \\"kind\\": \\"ExecCredential\\", \\"status\\": {\\"token\\": \\"token-$n\\",'
        ' \\"expirationTimestamp\\": \\"2999-01-01T00:00:00Z\\"}}"\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    config = kubeconfig(tmp_path, server, exec=entry)
    async with faulty_server.connected(config, moment=fakes.FakeClock(START)) as link:
        client = link.client(timeout=20.0, max_connections=10)
        server.plan(only("token-2"))

        await asyncio.gather(*(client.get(PODS) for _ in range(10)))

    assert len(runs.read_text().splitlines()) == 2


async def test_the_token_of_a_pod_is_read_again_within_a_minute_or_at_once_after_a_401(
    in_a_pod: pathlib.Path,
) -> None:
    moment = fakes.FakeClock(START)
    pod = await credentials.Credentials.load(moment)
    assert await pod.authorization() == "bearer pod-token"

    moment.advance(credentials.RENEW_SECONDS)
    write(in_a_pod, "rotated\n")
    assert await pod.renewed("bearer pod-token") == "bearer rotated"

    moment.advance(credentials.RENEW_SECONDS)
    write(in_a_pod, "")
    assert await pod.renewed("bearer rotated") == "bearer rotated", "an empty file is no token"


async def test_a_token_file_is_read_again_each_minute(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    moment = fakes.FakeClock(START)
    user = await credentials.Credentials.load(
        moment, kubeconfig=kubeconfig(tmp_path, server, tokenFile=str(token))
    )
    token.write_text("second")

    assert await user.authorization() == "Bearer first"
    moment.advance(credentials.REFRESH_SECONDS)
    assert await user.authorization() == "Bearer second"
    moment.advance(credentials.REFRESH_SECONDS)
    token.unlink()
    assert await user.authorization() == "Bearer second", "a token may outlive its file"


async def test_the_proxy_of_the_environment_is_used_unless_the_server_is_exempt(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kubeconfig(tmp_path, server, token="x")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    user = await credentials.Credentials.load(clock.SystemClock(), kubeconfig=file)
    assert user.proxy == "http://proxy:3128"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert user.proxy is None
