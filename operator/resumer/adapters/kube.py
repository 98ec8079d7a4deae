"""Calls to the Kubernetes API on plain JSON objects: get, list by pages, patch, create, delete.

The adapters of this package are written on `KubeClient`; it knows no kind. Each call has one total
timeout, sends compact JSON and ends in a JSON object or in a class of `resumer.errors` (mapped in
`faults`). Nothing is tried again here, except once after a 401 with renewed credentials
(`connection`), and what the API server turned away with 429 (`throttle`, which also says whose turn
it is): whether and when to try again is decided above.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NewType, TypeVar

import aiohttp
import yarl

from resumer import errors, names
from resumer.adapters import faults
from resumer.adapters.throttle import Turns

_Result = TypeVar("_Result")

Path = NewType("Path", str)
"""The path of a collection, an object or a subresource; made by `path` only."""

PAGE_SIZE: Final = 500
"""Objects in a page of a list: the chunk kubectl asks for."""

PAGE_OF_WORKFLOWS: Final = 50
"""Workflows in a page: with 50 nodes each some 2.5 MB, and five times that once parsed. A larger
page takes the API server as long for each."""

_LARGEST_PAGE: Final = 3 * 2**20
"""Bytes of a page that are read at most, unless it has but one object; once parsed they take up to
twenty-five times as much. Of a page that is larger, a smaller part is asked for."""

_LARGE_BODY: Final = 2**20
"""Bytes from which on aiohttp wants a body as a file, to write it in parts."""

_FORBIDDEN: Final = 403

_READINESS: Final = "/readyz"
"""Kubernetes lets everybody who is known ask for it (`system:public-info-viewer`)."""

_READY: Final = (200, 404)
"""What is in front of an API server may not pass the question on."""

_NAME: Final = re.compile(names.DNS_SUBDOMAIN)


class Accept(StrEnum):
    """The form in which an object is returned."""

    FULL = "application/json"
    METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    """Metadata only: about 1 KiB where a Workflow has hundreds."""
    METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    """The same for the objects of a list."""


class PatchType(StrEnum):
    """How a patch is written down."""

    JSON = "application/json-patch+json"
    """A list of operations, all or nothing, with `test` (RFC 6902)."""
    MERGE = "application/merge-patch+json"
    """The fields that change; null removes one (RFC 7396)."""


def path(
    api_version: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> Path:
    """The path of what is named; a name from a user never changes which resource is meant.

    Args:
        api_version: `v1`, or group and version as in a manifest.
        plural: The resource, as in `constants.WORKFLOW_PLURAL`.
        namespace: The namespace, or "" for all of them (or a cluster-wide kind).
        name: The object, or "" for the collection.
        subresource: `status`, or "".

    Raises:
        InvalidError: The namespace or the name is no DNS-1123 subdomain.
    """
    parts = ["/apis" if "/" in api_version else "/api", api_version]
    if namespace:
        parts += ["namespaces", _segment("namespace", namespace)]
    parts.append(plural)
    if name:
        parts.append(_segment("name", name))
    if subresource:
        parts += [subresource]
    return Path("/".join(parts))


def _segment(field: str, value: str) -> str:
    if len(value) > names.MAX_NAME or not _NAME.fullmatch(value):
        raise errors.InvalidError(
            field,
            f"{field} {faults.clean(value, 80)!r} is not a name of Kubernetes: at most "
            f"{names.MAX_NAME} lower-case letters, digits, '-' and '.', with a letter or a digit "
            "at each end",
        )
    return value


class _PageTooLargeError(Exception):
    """A page has more than `_LARGEST_PAGE` bytes; the rest of it was not read."""


class KubeClient:
    """The calls, on one session; `connection.Connection` makes both.

    Any number of calls may run at once; the session's connector bounds how many are on the wire.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        server: str,
        *,
        timeout: float,
        may_write: Callable[[], bool] = lambda: True,
        turns: Turns | None = None,
    ) -> None:
        """Takes over nothing: who made the session closes it.

        Args:
            session: Carries TLS, credentials, User-Agent and the bound on connections.
            server: The API server's URL, with a path where it lies below one.
            timeout: Seconds for one call, from waiting for a connection to the last byte; waiting
                for its turn does not count.
            may_write: Asked before each call that writes; what it refuses is not sent.
            turns: Gives each call its turn; None: nothing waits, and a 429 is an error at once.
        """
        self._session = session
        self._server = server.rstrip("/")
        self._may_write = may_write
        self._turns = turns
        # Half of the time may pass before anything is sent: then the call is known not to have
        # reached the server.
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=timeout / 2)

    async def get(
        self, at: Path, *, params: Mapping[str, str] | None = None, accept: Accept = Accept.FULL
    ) -> dict[str, Any]:
        """Reads an object, or one list without paging.

        Raises:
            NotFoundError: There is no such object.
            TransientError: No answer, or one that may be better later.
            PermanentError: Refused, or there is no such kind.
        """
        return await self._call("GET", at, params=params, headers={"Accept": accept})

    async def pages(
        self,
        at: Path,
        *,
        params: Mapping[str, str] | None = None,
        accept: Accept = Accept.FULL,
        limit: int = PAGE_SIZE,
    ) -> AsyncIterator[Sequence[dict[str, Any]]]:
        """The objects of a list, page by page, all from one moment.

        Args:
            at: A collection.
            params: Selectors, as the API server spells them.
            accept: The form of each object.
            limit: Objects in a page.

        Raises:
            PreconditionError: More than about five minutes passed since the first page (410,
                reason `Expired`): list again.
            TransientError: No answer, or one that may be better later.
            PermanentError: Refused, or there is no such kind.
        """
        async for page in self.pages_of_list(at, params=params, accept=accept, limit=limit):
            yield page.get("items") or []

    async def pages_of_list(
        self,
        at: Path,
        *,
        params: Mapping[str, str] | None = None,
        accept: Accept = Accept.FULL,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """As `pages`, with the whole answer: its metadata has the resourceVersion to watch from."""
        query, size = dict(params or {}), limit
        while True:
            most = _LARGEST_PAGE if size > 1 else None
            try:
                page = await self._call(
                    "GET",
                    at,
                    params={**query, "limit": str(size)},
                    headers={"Accept": accept},
                    most=most,
                )
            except _PageTooLargeError:
                size = max(1, size // 4)
                continue
            size = min(limit, 2 * size)
            token = (page.get("metadata") or {}).get("continue")
            yield page
            if not token:
                return
            query["continue"] = token

    async def watch(
        self, at: Path, params: Mapping[str, str], *, silence: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a watch, until the server ends it.

        Args:
            at: A collection.
            params: With ``watch`` and all else that the API server shall know.
            silence: Seconds without a byte after which the stream counts as dead.

        Raises:
            TransientError: The stream could not be opened, broke, or fell silent.
            PermanentError: Refused, or there is no such kind.
            PreconditionError: The version to watch from is too old (410).
        """
        url = yarl.URL(f"{self._server}{at}", encoded=True).with_query(params)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._timeout.connect, sock_read=silence
        )

        async def opened() -> aiohttp.ClientResponse:
            response = await self._session.get(
                url, headers={"Accept": Accept.FULL}, timeout=timeout, allow_redirects=False
            )
            if response.status < 300:
                return response
            async with response:
                raw = await response.read()
            refusal = faults.of_answer(response.status, response.headers, raw, json_patch=False)
            raise await self._in_truth(refusal)

        try:
            # Many open at the same time, at the start for one: that waits its turn like a call.
            async with await self._in_turn("GET", opened) as response:
                async for line in _lines(response.content):
                    yield json.loads(line)
        except (aiohttp.ClientError, OSError) as error:
            raise faults.of_exception(error, "GET") from error
        except ValueError as error:
            raise faults.of_unreadable(200) from error

    async def patch(
        self,
        at: Path,
        body: Any,
        patch_type: PatchType,
        *,
        params: Mapping[str, str] | None = None,
        accept: Accept = Accept.FULL,
    ) -> dict[str, Any]:
        """Changes an object and returns it as it then is.

        Raises:
            PreconditionError: 409, or a JSON-Patch that does not apply (a `test` that failed, a
                path that is not there): nothing was written.
            NotFoundError: There is no such object, or the uid in the patch is another object's.
            TransientError: It may have been carried out, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        headers = {"Accept": accept, "Content-Type": patch_type}
        return await self._call("PATCH", at, params=params, headers=headers, body=body)

    async def create(
        self, at: Path, body: Mapping[str, Any], *, accept: Accept = Accept.FULL
    ) -> dict[str, Any]:
        """Creates an object in a collection and returns it.

        Raises:
            PreconditionError: There is one of that name already (reason `AlreadyExists`).
            NotFoundError: There is no such namespace.
            TransientError: It may have been carried out, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        headers = {"Accept": accept, "Content-Type": "application/json"}
        return await self._call("POST", at, headers=headers, body=body)

    async def replace(
        self, at: Path, body: Mapping[str, Any], *, accept: Accept = Accept.FULL
    ) -> dict[str, Any]:
        """Writes a whole object over the version that stands in its metadata, and returns it.

        Raises:
            PreconditionError: It was changed since that version.
            NotFoundError: There is no such object any more.
            TransientError: It may have been carried out, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        headers = {"Accept": accept, "Content-Type": "application/json"}
        return await self._call("PUT", at, headers=headers, body=body)

    async def delete(self, at: Path, *, uid: str, resource_version: str = "") -> None:
        """Deletes exactly this object, and with a resource version exactly this version of it.

        Raises:
            PreconditionError: It was changed since that version.
            NotFoundError: It is gone, or another of its name has taken its place.
            TransientError: It may have been carried out.
            PermanentError: Refused, now and later.
        """
        preconditions = {"uid": uid}
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        headers = {"Accept": Accept.METADATA, "Content-Type": "application/json"}
        await self._call("DELETE", at, headers=headers, body=body)

    async def _call(
        self,
        method: str,
        at: Path,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        body: Any = None,
        most: int | None = None,
    ) -> dict[str, Any]:
        # Why not ApiClient.call_api of kubernetes.aio: per PATCH (0.3 KB out, 1 KB back, 16 at
        # once) it was measured to take 2.9 times the CPU of this code (733 to 253 us), as its
        # session asks .netrc and the proxy variables in threads for each call, and 1.19 times with
        # that switched off. Its RESTClientObject takes as much as this, but pads the JSON, follows
        # redirects with the token, and turns a JSON-Patch that is no list into another kind of
        # patch. So its configuration and TLS context are used, and aiohttp for the call itself.
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        url = yarl.URL(f"{self._server}{at}", encoded=True)
        sent = functools.partial(
            self._send, method, url.with_query(params) if params else url, headers, data, most
        )
        return await self._in_turn(method, sent)

    async def _in_turn(self, method: str, call: Callable[[], Awaitable[_Result]]) -> _Result:
        return await (call() if self._turns is None else self._turns.run(method, call))

    async def _send(
        self,
        method: str,
        url: yarl.URL,
        headers: Mapping[str, str],
        data: bytes | None,
        most: int | None,
    ) -> dict[str, Any]:
        # When the turn has come, and not before.
        if method != "GET" and not self._may_write():
            raise errors.TransientError(
                f"{method} not sent: this process does not lead", reason="NotLeading", sent=False
            )
        try:
            async with self._session.request(
                method,
                url,
                data=io.BytesIO(data) if data and len(data) > _LARGE_BODY else data,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                raw = await (response.read() if most is None else _read(response, most))
        except (aiohttp.ClientError, OSError) as error:
            raise faults.of_exception(error, method) from error
        except RuntimeError as error:
            if not self._session.closed:
                raise
            raise faults.of_closed_session() from error
        if response.status >= 300:
            json_patch = headers.get("Content-Type") == PatchType.JSON
            refusal = faults.of_answer(
                response.status, response.headers, raw, json_patch=json_patch
            )
            raise await self._in_truth(refusal)
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise faults.of_unreadable(response.status) from error
        if not isinstance(answer, dict):
            raise faults.of_unreadable(response.status)
        return answer

    async def _in_truth(self, refusal: errors.ApiError) -> errors.ApiError:
        """What a refusal means: a 403 of an API server that is not ready yet passes by itself.

        One that has just started answers before it has read the Roles, and forbids everything to
        everybody for some seconds. It then does not say that it is ready, either because it is not
        or because it forbids the question as well.
        """
        if refusal.status != _FORBIDDEN or await self._is_ready():
            return refusal
        return errors.TransientError(
            f"{refusal} (the API server does not say that it is ready)",
            status=refusal.status,
            reason="NotReady",
            sent=False,
        )

    async def _is_ready(self) -> bool:
        url = yarl.URL(f"{self._server}{_READINESS}", encoded=True)
        try:
            async with self._session.get(
                url, timeout=self._timeout, allow_redirects=False
            ) as response:
                return response.status in _READY
        except (aiohttp.ClientError, OSError, RuntimeError):
            # The last one, if the session was closed meanwhile.
            return False


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole of a response that has at most so many bytes; of another the rest is given up."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            response.close()
            raise _PageTooLargeError
    return b"".join(pieces)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream, of whatever length; aiohttp's own reader stops at 128 KiB."""
    pieces: list[bytes] = []
    async for chunk in content.iter_any():
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            pieces.append(piece)
            line = b"".join(pieces)
            pieces.clear()
            if line:
                yield line
        if rest:
            pieces.append(rest)
