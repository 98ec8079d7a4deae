"""A TLS reverse proxy between the operator and the API server that breaks what a test asks for.

    operator --(kubeconfig of the proxy)--> proxy --(credentials of the upstream)--> API server

It runs in a thread of the test process. A rule names calls by method and path and gives them a
`Fault`; what no rule names is passed on. Each call that was no watch is in the log once it has
ended, so that a test can count writes and say what became of each. Watches are passed on as they
come and can be cut, frozen (the connections stay, and nothing arrives any more, on new ones either)
or left to hang (nothing arrives any more on those that are open, and a new one is as any other).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import pathlib
import re
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import kubernetes.config
import yaml
from aiohttp import web

from tests.controlplane import certs
from tests.e2e.support import faults, waiting

_MAX_BODY = 16 * 2**20
_CLOSE_SECONDS = 10.0
_HOP_HEADERS = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """One call that has ended.

    Attributes:
        method: of HTTP
        path: without the query
        query: as it was sent
        body: that was sent
        began: when it arrived
        upstream: status of the API server's answer; None if the call never reached it
        told: status that the operator was told; None if it got no answer
    """

    method: str
    path: str
    query: str
    body: bytes
    began: datetime.datetime
    upstream: int | None
    told: int | None

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def took_effect(self) -> bool:
        """Whether the API server carried it out, whatever the operator was told."""
        return self.upstream is not None and self.upstream < 300


class Rule:
    """Which calls meet a fault; a context manager that ends with its block."""

    def __init__(
        self, rules: list[Rule], method: str, path: str, fault: faults.Fault, times: int | None
    ) -> None:
        self._rules = rules
        self._method = method
        self._path = re.compile(path)
        self.fault = fault
        self._left = times
        self.hits = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether this call is one of them; if so it counts."""
        if method != self._method or self._left == 0 or not self._path.search(path):
            return False
        self._left = None if self._left is None else self._left - 1
        self.hits += 1
        return True

    def wait(self, hits: int, timeout: float = waiting.TIMEOUT) -> None:
        """Return as soon as so many calls have met it.

        Raises:
            AssertionError: they did not come in time
        """
        waiting.eventually(
            lambda: self.hits >= hits, lambda: f"{self.hits} calls, not {hits}", timeout
        )

    def remove(self) -> None:
        """Takes it back."""
        with contextlib.suppress(ValueError):
            self._rules.remove(self)

    def __enter__(self) -> Rule:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Proxy:
    """A running proxy; `running` makes one.

    Attributes:
        kubeconfig: leads to the proxy; it has no credentials
    """

    def __init__(self, upstream: pathlib.Path, folder: pathlib.Path) -> None:
        self.kubeconfig = folder / "proxy-kubeconfig"
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._rules: list[Rule] = []
        self._log: list[Exchange] = []
        self._watches: list[web.Request] = []
        self._opened: list[str] = []
        self._refused: list[int] = []
        self._frozen: list[re.Pattern[str]] = []
        self._hanging: list[web.Request] = []
        self._expired: list[re.Pattern[str]] = []
        self._broken_handshakes: int | None = None
        self._server, self._tls, self._headers = _upstream(upstream)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Listens on a free port of loopback, and writes the kubeconfig."""
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        """Breaks all connections and ends."""
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        self._loop.close()

    def on(self, method: str, path: str, fault: faults.Fault, *, times: int | None = 1) -> Rule:
        """Gives calls a fault; of several rules the one made last counts.

        Arguments:
            method: of HTTP
            path: a regular expression that is searched in the path
            fault: what happens to them
            times: to how many of them; None for all
        """
        rule = Rule(self._rules, method, path, fault, times)
        self._rules.append(rule)
        return rule

    def log(self, method: str = "", path: str = "") -> list[Exchange]:
        """The calls that have ended, in the order of their ends.

        Arguments:
            method: of HTTP, or "" for any
            path: a regular expression that is searched in the path
        """
        searched = re.compile(path)
        return [
            one
            for one in list(self._log)
            if method in ("", one.method) and searched.search(one.path)
        ]

    def cut(self, path: str = "") -> int:
        """Breaks the watches whose path has this regular expression; returns how many."""
        return self._run(self._cut(re.compile(path)))

    def freeze(self, path: str = "") -> None:
        """Lets nothing more through on such watches, those under way and those to come."""
        self._frozen.append(re.compile(path))

    @contextlib.contextmanager
    def frozen(self, path: str = "") -> Iterator[None]:
        """`freeze` for the length of the block, however that ends."""
        self.freeze(path)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Ends all `freeze`; what was held back is lost, as its connection is broken."""
        frozen, self._frozen = self._frozen, []
        for one in frozen:
            self.cut(one.pattern)

    def hang(self, path: str = "") -> int:
        """Lets nothing more through on the watches of such a path that are open now.

        Their connections stay until the operator closes them.

        Returns:
            How many they are.
        """
        return self._run(self._hang(re.compile(path)))

    def expire(self, path: str) -> None:
        """Tells the next watch of such a path that its version is too old (410): list again."""
        self._expired.append(re.compile(path))

    @contextlib.contextmanager
    def without_handshakes(self) -> Iterator[Callable[[], int]]:
        """All connections are broken, and every TLS handshake fails for the length of the block.

        Yields:
            tells how many handshakes have failed so far
        """
        self._broken_handshakes = 0
        self._run(self._abort())
        try:
            yield lambda: self._broken_handshakes or 0
        finally:
            self._broken_handshakes = None

    @property
    def watches(self) -> Sequence[str]:
        """The paths of the watches that are open."""
        return tuple(request.path for request in list(self._watches))

    def opened(self, path: str) -> int:
        """How many watches of such a path the API server has opened so far."""
        return len([one for one in list(self._opened) if re.search(path, one)])

    @property
    def refused(self) -> Sequence[int]:
        """With which statuses watches were refused by the API server."""
        return tuple(self._refused)

    async def send(self, request: web.Request, body: bytes) -> faults.Reply:
        """Passes a call on and reads the whole answer."""
        assert self._session is not None
        async with self._session.request(
            request.method,
            self._server + request.raw_path,
            data=body or None,
            headers=self._passed(request.headers),
            allow_redirects=False,
        ) as got:
            return faults.Reply(got.status, await got.read(), _kept(got.headers))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if "watch" in request.query:
            return await self._stream(request)
        call = faults.Call(self.send, request, body)
        rules = list(reversed(self._rules))
        rule = next((one for one in rules if one.takes(request.method, request.path)), None)
        reply: faults.Reply | None = None
        try:
            reply = await (rule.fault(call) if rule is not None else call.forward())
        except aiohttp.ClientError:
            call.drop()
        finally:
            told = None if reply is None else reply.status
            self._log.append(
                Exchange(
                    request.method,
                    request.path,
                    request.query_string,
                    body,
                    call.began,
                    call.upstream,
                    told,
                )
            )
        if reply is None:
            return web.Response()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        expired = next((one for one in self._expired if one.search(request.path)), None)
        if expired is not None:
            self._expired.remove(expired)
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            told = json.dumps({"type": "ERROR", "object": gone})
            return web.Response(text=f"{told}\n", content_type="application/json")
        answered = web.StreamResponse()
        self._watches.append(request)
        try:
            async with self._session.get(
                self._server + request.raw_path, headers=self._passed(request.headers)
            ) as got:
                if got.status >= 300:
                    self._refused.append(got.status)
                else:
                    self._opened.append(request.path)
                answered.set_status(got.status)
                answered.headers.update(_kept(got.headers))
                await answered.prepare(request)
                async for chunk in got.content.iter_any():
                    if request in self._hanging or self._is_frozen(request):
                        await asyncio.Event().wait()
                    await answered.write(chunk)
        except (aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watches.remove(request)
            if request in self._hanging:
                self._hanging.remove(request)
        return answered

    def _is_frozen(self, request: web.Request) -> bool:
        return any(one.search(request.path) for one in self._frozen)

    def _passed(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**_kept(headers), **self._headers}

    async def _cut(self, path: re.Pattern[str]) -> int:
        found = [request for request in self._watches if path.search(request.path)]
        for request in found:
            if request.transport is not None:
                request.transport.abort()
            if request.task is not None:
                request.task.cancel()
        return len(found)

    async def _hang(self, path: re.Pattern[str]) -> int:
        found = [request for request in self._watches if path.search(request.path)]
        self._hanging += found
        return len(found)

    async def _abort(self) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        for one in self._runner.server.connections:
            if one.transport is not None:
                one.transport.abort()

    def _handshake(self, *_: object) -> int | None:
        """The server's part of a TLS handshake: an alert, or None to go on."""
        if self._broken_handshakes is None:
            return None
        self._broken_handshakes += 1
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    async def _start(self) -> None:
        authority = certs.Authority(self._folder / "proxy-certificates")
        issued = authority.issue_server("proxy", ["localhost"], ["127.0.0.1"])
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*issued)
        tls.sni_callback = self._handshake
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        cluster = {
            "server": f"https://127.0.0.1:{self._runner.addresses[0][1]}",
            "certificate-authority": str(authority.certificate),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": cluster}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "current-context": "proxy",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    async def _stop(self) -> None:
        await self._cut(re.compile(""))
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await self._session.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # TLS connections are torn down in the rounds of the loop that follow.
        await asyncio.sleep(0.1)

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CLOSE_SECONDS)


@contextlib.contextmanager
def running(upstream: pathlib.Path, folder: pathlib.Path) -> Iterator[Proxy]:
    """A proxy for as long as the block.

    Arguments:
        upstream: kubeconfig with the API server and the user that all calls are made as
        folder: for its certificates and its kubeconfig
    """
    proxy = Proxy(upstream, folder)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _upstream(kubeconfig: pathlib.Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """The server of a kubeconfig, how it is spoken to, and the headers that say who does."""
    api = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig)
    )
    known = api.configuration
    tls = ssl.create_default_context(cafile=known.ssl_ca_cert)
    if known.cert_file:
        tls.load_cert_chain(known.cert_file, known.key_file)
    headers: dict[str, str] = {}
    api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
    api.rest_client.pool_manager.clear()
    return str(known.host).rstrip("/"), tls, headers


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_HEADERS}
