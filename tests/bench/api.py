"""The few calls to the API server that measuring takes, on bare aiohttp.

No more than what they say: no model, no second try. The floor is made of these, so anything that
can be spared is.
"""

from __future__ import annotations

import json
import pathlib
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
import kubernetes.client
import kubernetes.config
import yarl

GROUP = "/apis/argoproj.io/v1alpha1"
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class CallFailed(RuntimeError):
    """The API server refused a call."""


class Api:
    """The calls, over one session; made inside the event loop that uses it.

    Arguments:
        kubeconfig: how to reach the server and as whom
        connections: at most; more calls wait for one
    """

    def __init__(self, kubeconfig: pathlib.Path, *, connections: int = 64) -> None:
        configuration = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), client_configuration=configuration
        )
        trust = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file is None:
            raise CallFailed(f"{kubeconfig}: a client certificate is needed")
        trust.load_cert_chain(configuration.cert_file, configuration.key_file)
        self._server = str(configuration.host)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=trust),
            headers={"User-Agent": "resumer-bench", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of the answer.

        Raises:
            CallFailed: the status is not 2xx
        """
        url = yarl.URL(f"{self._server}{path}", encoded=True)
        async with self._session.request(
            method,
            url.with_query(query) if query else url,
            data=body,
            headers={"Accept": accept, "Content-Type": content_type},
        ) as response:
            answer = await response.read()
        if response.status >= 300:
            raise CallFailed(f"{method} {path}: {response.status} {answer[:1000].decode()}")
        return answer

    async def read(self, path: str, **query: str) -> dict[str, Any]:
        """An object or a list."""
        answer: dict[str, Any] = json.loads(await self.call("GET", path, query=query))
        return answer

    async def events(self, path: str, version: str) -> AsyncGenerator[bytes, None]:
        """The lines of a watch, after an empty one that says that it stands.

        Arguments:
            path: of a collection
            version: resourceVersion that it starts after

        Raises:
            CallFailed: it was refused, or ended
        """
        url = yarl.URL(f"{self._server}{path}", encoded=True)
        query = {"watch": "true", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(url.with_query(query), timeout=timeout) as response:
            if response.status != 200:
                raise CallFailed(f"watch {path}: {response.status}")
            yield b""
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line
        raise CallFailed(f"watch {path}: the server ended it")


def collection(plural: str, namespace: str) -> str:
    """The path of the objects of one of Argo's or our kinds in a namespace."""
    return f"{GROUP}/namespaces/{namespace}/{plural}"
