"""`KubeClient` on a server that fails in every way: each fault becomes the right class."""

from __future__ import annotations

import asyncio
import json
import pathlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from resumer import errors
from resumer.adapters import kube
from tests.contract import faulty_server

PATCHED = kube.path("argoproj.io/v1alpha1", "workflows", "team-a", "build-1")
COLLECTION = kube.path("argoproj.io/v1alpha1", "workflows", "team-a")
OPERATIONS = [{"op": "test", "path": "/metadata/uid", "value": "u-1"}]


hasty = pytest.mark.parametrize("client", [2.0], indirect=True, ids=["hasty"])
"""The client gives up soon: for answers that do not come."""


@pytest.fixture
async def client(
    request: pytest.FixtureRequest, server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> AsyncIterator[kube.KubeClient]:
    """It is patient: a machine that stands still for a moment is no fault of the server."""
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig(token="secret-token"))
    async with faulty_server.connected(str(config)) as link:
        yield link.client(timeout=getattr(request, "param", 20.0), max_connections=2)


async def patch(client: kube.KubeClient) -> dict[str, Any]:
    return await client.patch(PATCHED, OPERATIONS, kube.PatchType.JSON)


async def test_a_call_carries_compact_json_credentials_and_its_headers(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.answer(200, {"metadata": {"name": "build-1"}}))

    answer = await client.patch(
        PATCHED,
        OPERATIONS,
        kube.PatchType.JSON,
        params={"fieldManager": "resumer"},
        accept=kube.Accept.METADATA,
    )

    (received,) = server.received
    assert answer == {"metadata": {"name": "build-1"}}
    assert received.body == b'[{"op":"test","path":"/metadata/uid","value":"u-1"}]'
    assert received.path == (
        "/apis/argoproj.io/v1alpha1/namespaces/team-a/workflows/build-1?fieldManager=resumer"
    )
    assert received.headers["Authorization"] == "Bearer secret-token"
    assert received.headers["Content-Type"] == "application/json-patch+json"
    assert received.headers["Accept"] == kube.Accept.METADATA.value
    assert received.headers["Accept-Encoding"] == "identity"
    assert received.headers["User-Agent"].startswith("resumer/")


async def test_a_label_selector_arrives_as_it_was_written(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.answer(200, {"items": []}))
    selector = "a in (b,c),d!=e,f.g/h=i_j+k"

    await client.get(COLLECTION, params={"labelSelector": selector})

    assert server.received[0].query["labelSelector"] == selector


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "..",
        ".",
        "a%2fb",
        "A",
        "a?b=c",
        "a#b",
        "a b",
        "ä",
        "a..b",
        "-a",
        "x" * 254,
        "a\n",
    ],
)
@pytest.mark.parametrize("field", ["namespace", "name"])
def test_what_is_no_name_of_kubernetes_never_becomes_part_of_a_path(field: str, name: str) -> None:
    names = {"namespace": "team-a", "name": "build-1", field: name}
    if not name:
        assert kube.path("v1", "events", "", "") == "/api/v1/events"
        return
    with pytest.raises(errors.InvalidError, match="is not a name of Kubernetes") as caught:
        kube.path("argoproj.io/v1alpha1", "workflows", **names)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (faulty_server.status(429, "TooManyRequests", "too many"), "TooManyRequests"),
        (faulty_server.answer(500, b"<html>secret payload</html>"), "Http500"),
        (faulty_server.status(500, "InternalError", "etcdserver: timeout"), "InternalError"),
        (faulty_server.answer(502, b"\x00\xff"), "Http502"),
        (faulty_server.answer(503), "Http503"),
        (faulty_server.status(504, "Timeout", "took too long"), "Timeout"),
        (faulty_server.answer(408), "Http408"),
        (faulty_server.answer(200, b"<html>login</html>"), "UnreadableBody"),
        (faulty_server.answer(200, b"[1]"), "UnreadableBody"),
        (faulty_server.answer(200, b"\xff\xfe{"), "UnreadableBody"),
        (faulty_server.reset, "ServerDisconnectedError"),
        (faulty_server.cut, "ClientPayloadError"),
    ],
)
async def test_what_may_be_better_later_is_transient_and_may_have_been_carried_out(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    answer: faulty_server.Answer,
    reason: str,
) -> None:
    server.plan(answer)

    with pytest.raises(errors.TransientError) as caught:
        await patch(client)

    assert (caught.value.reason, caught.value.sent) == (reason, True)
    assert caught.value.retry_after is None
    assert "secret" not in str(caught.value)
    assert len(server.received) == 1, "a patch must never be sent twice"


@hasty
async def test_an_answer_that_does_not_come_is_transient_and_may_have_been_carried_out(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.silence)

    with pytest.raises(errors.TransientError) as caught:
        await patch(client)

    assert (caught.value.reason, caught.value.sent) == ("TimeoutError", True)
    assert caught.value.retry_after is None
    assert len(server.received) == 1, "a patch must never be sent twice"


async def test_a_refused_connection_is_transient_and_was_never_sent(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, not listening: connections are refused.
        closed = faulty_server.FaultyServer(f"http://127.0.0.1:{taken.getsockname()[1]}")
        config = tmp_path / "kubeconfig"
        config.write_text(closed.kubeconfig())
        async with faulty_server.connected(str(config)) as link:
            with pytest.raises(errors.TransientError) as caught:
                await patch(link.client(timeout=5.0, max_connections=2))

    assert caught.value.sent is False
    assert caught.value.status == 0


async def test_a_tls_handshake_that_fails_is_transient_and_was_never_sent(
    tmp_path: pathlib.Path,
) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        address = listener.sockets[0].getsockname()
        config = tmp_path / "kubeconfig"
        config.write_text(
            faulty_server.FaultyServer(f"https://127.0.0.1:{address[1]}").kubeconfig()
        )
        async with faulty_server.connected(str(config)) as link:
            with pytest.raises(errors.TransientError) as caught:
                await patch(link.client(timeout=5.0, max_connections=2))

    assert caught.value.sent is False


@hasty
async def test_a_call_that_found_no_free_connection_was_never_sent(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.silence)

    results = await asyncio.gather(*(patch(client) for _ in range(3)), return_exceptions=True)

    sent = sorted(result.sent for result in results if isinstance(result, errors.TransientError))
    assert sent == [False, True, True], results
    assert len(server.received) == 2


async def test_a_call_after_the_end_is_transient_and_was_never_sent(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    await client._session.close()

    with pytest.raises(errors.TransientError, match="stopping") as caught:
        await patch(client)

    assert caught.value.sent is False
    assert server.received == []


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (faulty_server.answer(429, Retry_After="7"), 7.0),
        (faulty_server.answer(503, Retry_After="0"), 0.0),
        (faulty_server.answer(429, Retry_After="999999"), 3600.0),
        (
            faulty_server.answer(
                429,
                Retry_After="Sat, 21 Nov 2026 09:00:42 GMT",
                Date="Sat, 21 Nov 2026 09:00:00 GMT",
            ),
            42.0,
        ),
        (
            faulty_server.answer(
                429,
                Retry_After="Sat, 21 Nov 2026 08:00:00 GMT",
                Date="Sat, 21 Nov 2026 09:00:00 GMT",
            ),
            0.0,
        ),
        (faulty_server.answer(429, Retry_After="soon"), None),
        (faulty_server.answer(429, Retry_After="-5"), None),
        (faulty_server.answer(429, Retry_After="nan"), None),
        (faulty_server.status(429, "TooManyRequests", "busy", retryAfterSeconds=3), 3.0),
        (faulty_server.status(500, "ServerTimeout", "busy", retryAfterSeconds=2), 2.0),
    ],
)
async def test_the_wait_that_the_server_asks_for_is_handed_on(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    answer: faulty_server.Answer,
    seconds: float | None,
) -> None:
    server.plan(answer)

    with pytest.raises(errors.TransientError) as caught:
        await patch(client)

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("answer", "expected", "reason"),
    [
        (faulty_server.status(400, "BadRequest", "no"), errors.PermanentError, "BadRequest"),
        (faulty_server.status(403, "Forbidden", "no"), errors.PermanentError, "Forbidden"),
        (faulty_server.answer(405), errors.PermanentError, "Http405"),
        (faulty_server.answer(413), errors.PermanentError, "Http413"),
        (faulty_server.answer(415), errors.PermanentError, "Http415"),
        (faulty_server.answer(302, Location="/x"), errors.PermanentError, "Http302"),
        (faulty_server.answer(404, b"404 page not found\n"), errors.PermanentError, "KindNotFound"),
        (
            faulty_server.status(404, "NotFound", "gone", name="build-1", kind="workflows"),
            errors.NotFoundError,
            "NotFound",
        ),
        (faulty_server.status(409, "Conflict", "changed"), errors.PreconditionError, "Conflict"),
        (faulty_server.status(410, "Expired", "too old"), errors.PreconditionError, "Expired"),
        (
            faulty_server.status(500, "InternalError", "etcdserver: request is too large"),
            errors.PermanentError,
            "RequestEntityTooLarge",
        ),
    ],
)
async def test_each_refusal_has_its_class(
    server: faulty_server.FaultyServer,
    client: kube.KubeClient,
    answer: faulty_server.Answer,
    expected: type[errors.ApiError],
    reason: str,
) -> None:
    server.plan(answer)

    with pytest.raises(errors.ApiError) as caught:
        await patch(client)

    assert (type(caught.value), caught.value.reason) == (expected, reason)
    assert len(server.received) == 1


@pytest.mark.parametrize("readiness", [403, 500, 503])
async def test_what_an_api_server_forbids_that_is_not_ready_may_be_allowed_later(
    server: faulty_server.FaultyServer, client: kube.KubeClient, readiness: int
) -> None:
    """It has just started, and has not read the Roles."""
    server.plan(faulty_server.status(403, "Forbidden", "no"))
    server.readiness = readiness

    with pytest.raises(errors.TransientError, match=r"^no \(the API server") as caught:
        await patch(client)

    assert (caught.value.status, caught.value.reason) == (403, "NotReady")
    assert not caught.value.sent
    assert len(server.received) == 1


@pytest.mark.parametrize("readiness", [200, 404])
async def test_what_an_api_server_forbids_that_is_ready_is_forbidden(
    server: faulty_server.FaultyServer, client: kube.KubeClient, readiness: int
) -> None:
    """Or one behind something that does not pass the question on."""
    server.plan(faulty_server.status(403, "Forbidden", "no"))
    server.readiness = readiness

    with pytest.raises(errors.PermanentError, match=r"^no$"):
        await patch(client)


async def test_a_message_is_one_short_line_without_control_characters(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.status(400, "BadRequest", "a\nb\x1b[31mc\u202ed" + "x" * 2000))

    with pytest.raises(errors.PermanentError) as caught:
        await patch(client)

    assert len(str(caught.value)) == 512
    assert str(caught.value).startswith("a b [31mc d")
    assert str(caught.value).isprintable()


async def test_pages_follow_the_continue_token_to_the_end(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(
        faulty_server.answer(200, {"metadata": {"continue": "t/1+="}, "items": [{"n": 1}]}),
        faulty_server.answer(200, {"metadata": {"continue": ""}, "items": None}),
    )

    pages = [page async for page in client.pages(COLLECTION, params={"a": "b"}, limit=1)]

    assert pages == [[{"n": 1}], []]
    assert [dict(received.query) for received in server.received] == [
        {"a": "b", "limit": "1"},
        {"a": "b", "limit": "1", "continue": "t/1+="},
    ]


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_parts(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    """Not read to its end; a single object is read however large it is, and then more again."""
    large = {"metadata": {"continue": "t"}, "items": [{"n": "1" * 4 * 2**20}]}
    server.plan(
        faulty_server.answer(200, large),
        faulty_server.answer(200, large),
        faulty_server.answer(200, large),
        faulty_server.answer(200, {"metadata": {"continue": "u"}, "items": [{"n": "2"}]}),
        faulty_server.answer(200, {"items": [{"n": "3"}]}),
    )

    pages = [page async for page in client.pages(COLLECTION, limit=5)]

    assert pages == [large["items"], [{"n": "2"}], [{"n": "3"}]]
    assert [dict(received.query) for received in server.received] == [
        {"limit": "5"},
        {"limit": "1"},
        {"limit": "2", "continue": "t"},
        {"limit": "1", "continue": "t"},
        {"limit": "2", "continue": "u"},
    ]


async def test_a_delete_names_the_uid_and_the_version(
    server: faulty_server.FaultyServer, client: kube.KubeClient
) -> None:
    server.plan(faulty_server.answer(200, {"kind": "Status"}))

    await client.delete(PATCHED, uid="u-1", resource_version="7")

    assert server.received[0].method == "DELETE"
    assert json.loads(server.received[0].body)["preconditions"] == {
        "uid": "u-1",
        "resourceVersion": "7",
    }


async def test_a_write_that_is_not_allowed_is_not_sent_and_reads_are(
    server: faulty_server.FaultyServer, tmp_path: pathlib.Path
) -> None:
    server.plan(faulty_server.answer(200, {"metadata": {}}))
    config = tmp_path / "kubeconfig"
    config.write_text(server.kubeconfig())
    allowed = False
    async with faulty_server.connected(str(config)) as link:
        client = link.client(timeout=2.0, max_connections=2, may_write=lambda: allowed)
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: patch(client),
            lambda: client.create(COLLECTION, {}),
            lambda: client.replace(PATCHED, {}),
            lambda: client.delete(PATCHED, uid="u-1"),
        ]
        for write in writes:
            with pytest.raises(errors.TransientError, match="does not lead") as refused:
                await write()
            assert not refused.value.sent
        await client.get(PATCHED)
        assert [one.method for one in server.received] == ["GET"]

        allowed = True
        for write in writes:
            await write()
        assert [one.method for one in server.received[1:]] == ["PATCH", "POST", "PUT", "DELETE"]
