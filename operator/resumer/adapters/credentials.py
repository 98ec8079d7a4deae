"""Where the API server is and how to prove who is calling, kept fresh while tokens rotate.

The official client's loaders read the configuration (a service account, or a kubeconfig with
tokens, client certificates, exec plugins and the like); this module chooses between them, hands
out the `Authorization` header and renews it. `connection` makes sessions of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import urllib.request
from typing import TYPE_CHECKING, Final

import aiohttp
import yaml
import yarl
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import configuration as kubernetes_configuration
from kubernetes.aio.client import rest

from resumer import errors, ports

if TYPE_CHECKING:
    from kubernetes.aio.config.kube_config import KubeConfigLoader

_log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 60.0
"""How old a token from a kubeconfig may be before its source is asked again; the loaders decide
whether it is still good. A service account's file is read again as often."""

RENEW_SECONDS: Final = 5.0
"""Two renewals after a 401 are at least so far apart: many calls fail at once when a token ends,
and asking again would start the exec plugin for each."""


class Credentials:
    """The API server's address, the TLS context and the current `Authorization` header.

    As an aiohttp client middleware (call the object), it signs each request, and after a 401 signs
    it once more with renewed credentials. Client certificates are read when a session is made.
    """

    def __init__(self, clock: ports.Clock, kubeconfig: str, context: str) -> None:
        """Use `load`."""
        self._clock = clock
        self._kubeconfig = kubeconfig
        self._context = context
        self._configuration = kubernetes_configuration.Configuration()
        self._loader: KubeConfigLoader | None = None
        self._lock = asyncio.Lock()
        self._refreshed = clock.monotonic()
        self._renewed = clock.monotonic() - RENEW_SECONDS

    @classmethod
    async def load(
        cls, clock: ports.Clock, *, kubeconfig: str = "", context: str = ""
    ) -> Credentials:
        """Finds and reads the configuration.

        Args:
            clock: Says when to look for newer credentials.
            kubeconfig: Files to read, separated as in a PATH. "" means `$KUBECONFIG`, else the
                service account of the pod, else `~/.kube/config`: the order of
                controllers built with controller-runtime.
            context: The context of the kubeconfig, or "" for its current one.

        Raises:
            SettingsError: There is none, or it cannot be understood.
        """
        files = kubeconfig or os.environ.get("KUBECONFIG", "")
        in_cluster = not files and "KUBERNETES_SERVICE_HOST" in os.environ
        if not in_cluster:
            files = files or "~/.kube/config"
        credentials = cls(clock, files, context)
        try:
            await credentials.reload()
            server = yarl.URL(credentials.server)
        except (kubernetes_config.ConfigException, OSError, ValueError, TypeError) as error:
            source = "service account" if in_cluster else f"kubeconfig {files!r}"
            raise errors.SettingsError("kubeconfig", f"{source}: {error}") from error
        except yaml.YAMLError as error:
            # The error's own text quotes the file, which holds secrets.
            raise errors.SettingsError("kubeconfig", f"{files!r} is not YAML") from error
        if server.scheme not in ("https", "http") or not server.host:
            raise errors.SettingsError(
                "kubeconfig", f"server is {credentials.server!r}, must be an https:// URL"
            )
        return credentials

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._configuration.host)

    @property
    def proxy(self) -> str | None:
        """The proxy for the API server: the kubeconfig's, else the environment's, else None."""
        if self._configuration.proxy:
            return str(self._configuration.proxy)
        # Looked up once here: aiohttp's `trust_env` would do it in a thread for each request.
        server = yarl.URL(self.server)
        if urllib.request.proxy_bypass(server.host or ""):
            return None
        return urllib.request.getproxies().get(server.scheme)

    def tls(self) -> ssl.SSLContext:
        """A new TLS context, with the certificates as they are on disk now."""
        context: ssl.SSLContext = rest.RESTClientObject(self._configuration).ssl_context
        return context

    async def reload(self) -> None:
        """Reads the configuration anew, from files and plugins, whatever is known already."""
        # kubernetes.aio has no annotations in `config`: the ignores here and below say no more.
        self._refreshed = self._clock.monotonic()
        if not self._kubeconfig:
            kubernetes_config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=self._configuration
            )
            return
        self._loader = await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=self._kubeconfig,
            context=self._context or None,
            client_configuration=self._configuration,
            persist_config=False,
        )

    async def authorization(self) -> str | None:
        """The `Authorization` header for a request made now, or None where there is none."""
        try:
            if self._loader and self._clock.monotonic() - self._refreshed >= REFRESH_SECONDS:
                async with self._lock:
                    if self._clock.monotonic() - self._refreshed >= REFRESH_SECONDS:
                        self._refreshed = self._clock.monotonic()
                        await self._loader.load_and_set(self._configuration)  # type: ignore[no-untyped-call]
            header = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (kubernetes_config.ConfigException, OSError, ValueError) as error:
            # What is known may still be good; if not, the 401 says so.
            _log.warning("Cannot refresh the credentials: %s", type(error).__name__)
            header = self._configuration.api_key.get("BearerToken")
        # The loader of a service account keeps the newline that a token file may end with.
        return header.strip() if header else None

    async def renewed(self, refused: str | None) -> str | None:
        """The header to use in place of one that the API server answered with 401."""
        async with self._lock:
            current = self._known()
            if current != refused or self._clock.monotonic() - self._renewed < RENEW_SECONDS:
                return current
            self._renewed = self._clock.monotonic()
            try:
                await self.reload()
            except (
                kubernetes_config.ConfigException,
                OSError,
                ValueError,
                yaml.YAMLError,
            ) as error:
                _log.warning("Cannot renew the credentials: %s", type(error).__name__)
            return self._known()

    def _known(self) -> str | None:
        header = self._configuration.api_key.get("BearerToken")
        return header.strip() if header else None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Sends the request with credentials; with newer ones once more if they were refused."""
        if self._configuration.tls_server_name:
            request.server_hostname = self._configuration.tls_server_name
        header = await self.authorization()
        if header is None:
            return await handler(request)
        request.headers["Authorization"] = header
        response = await handler(request)
        if response.status != 401:
            return response
        newer = await self.renewed(header)
        if newer is None or newer == header:
            return response
        response.release()
        request.headers["Authorization"] = newer
        return await handler(request)
