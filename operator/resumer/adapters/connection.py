"""The connection of one process to its API server: one set of credentials, two kinds of sessions.

`client` serves the adapters; `watch_session` gives the framework that watches a session of its own
over the same credentials, because it holds a connection for each stream and closes its session when
it logs in again. Both are bounded, direct all requests through the credentials' middleware, and are
closed by `close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

import resumer
from resumer import ports
from resumer.adapters import credentials, kube, watches
from resumer.adapters.throttle import Turns

_LOGIN_PAUSE: Final = 1.0
_LOGIN_PAUSE_LIMIT: Final = 30.0


class Connection:
    """Made by `open` inside the event loop that uses it."""

    def __init__(
        self,
        clock: ports.Clock,
        access: credentials.Credentials,
        watch_activity: watches.WatchActivity,
        onlookers: Sequence[aiohttp.ClientMiddlewareType] = (),
        hooks: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        """Use `open`."""
        self._hooks = list(hooks)
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (access, *onlookers)
        self._clock = clock
        self._access = access
        self._sessions: list[aiohttp.ClientSession] = []
        self._login_pause = 0.0
        self._logged_in: float | None = None
        self.watches = watch_activity

    @classmethod
    async def open(
        cls,
        clock: ports.Clock,
        watch_activity: watches.WatchActivity,
        *,
        kubeconfig: str = "",
        context: str = "",
        onlookers: Sequence[aiohttp.ClientMiddlewareType] = (),
        hooks: Sequence[aiohttp.TraceConfig] = (),
    ) -> Connection:
        """Reads the configuration; the first connection is made by the first call.

        Args:
            clock: Says when credentials are to be renewed.
            watch_activity: Sees the streams of `watch_session`.
            kubeconfig: As for `Credentials.load`.
            context: As for `Credentials.load`.
            onlookers: See each call as it goes over the wire, and its answer.
            hooks: See all calls.

        Raises:
            SettingsError: There is no configuration, or it cannot be understood.
        """
        access = await credentials.Credentials.load(clock, kubeconfig=kubeconfig, context=context)
        return cls(clock, access, watch_activity, onlookers, hooks)

    @property
    def server(self) -> str:
        """The API server's URL, without credentials."""
        return self._access.server

    def client(
        self,
        *,
        timeout: float,
        max_connections: int,
        may_write: Callable[[], bool] = lambda: True,
        turns: Turns | None = None,
    ) -> kube.KubeClient:
        """A client with connections of its own.

        Args:
            timeout: Seconds for one call, from waiting for a connection to the last byte.
            max_connections: Connections at once; more calls wait for one.
            may_write: Asked before each call that writes; what it refuses is not sent.
            turns: Gives each call its turn; None: nothing waits.
        """
        session = self._session(max_connections)
        return kube.KubeClient(
            session, self.server, timeout=timeout, may_write=may_write, turns=turns
        )

    def watcher(
        self, *, timeout: float, streams: int, turns: Turns | None = None
    ) -> kube.KubeClient:
        """A client for streams, which `watches` sees.

        Args:
            timeout: Seconds for one call that is no stream.
            streams: How many streams will stay open.
            turns: Gives each call its turn, also those that open a stream; None: nothing waits.
        """
        session = self._watching(streams + 1)
        return kube.KubeClient(session, self.server, timeout=timeout, turns=turns)

    async def watch_session(self, *, streams: int) -> aiohttp.ClientSession:
        """A session for kopf (`kopf.AiohttpSession`), new at each login as kopf closes the old one.

        kopf logs in again when a request is answered with 401 although the credentials were
        renewed, and would do so without pause: each login soon after another waits longer, up to
        30 seconds.

        Args:
            streams: The streams that will stay open, one for each watched resource and namespace;
                a few connections are added for lists and discovery.
        """
        if self._logged_in is not None:
            quiet = self._clock.monotonic() - self._logged_in > 2 * _LOGIN_PAUSE_LIMIT
            doubled = 0.0 if quiet else self._login_pause * 2
            self._login_pause = min(max(_LOGIN_PAUSE, doubled), _LOGIN_PAUSE_LIMIT)
            await asyncio.sleep(self._login_pause)
        self._logged_in = self._clock.monotonic()
        return self._watching(streams + 8)

    async def close(self) -> None:
        """Closes all sessions, once nothing calls any more.

        A call under way might wait until its timeout: TLS does not tell it that the connection is
        gone.
        """
        for session in self._sessions:
            await session.close()
        self._sessions.clear()

    def _watching(self, max_connections: int) -> aiohttp.ClientSession:
        return self._session(
            max_connections, self.watches.response_class, (self.watches.note_tries,)
        )

    def _session(
        self,
        max_connections: int,
        response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
        further: tuple[aiohttp.ClientMiddlewareType, ...] = (),
    ) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections, ssl=self._access.tls()),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"resumer/{resumer.__version__}",
                # The API server compresses answers over 128 KiB; on the same network that costs
                # both sides more than it saves.
                "Accept-Encoding": "identity",
            },
            middlewares=(*self._middlewares, *further),
            trace_configs=self._hooks,
            proxy=self._access.proxy,
            response_class=response_class,
        )
        self._sessions = [known for known in self._sessions if not known.closed]
        self._sessions.append(session)
        return session
