"""Every status that the WorkflowResumes of a namespace ever had, seen by a watch of the test."""

from __future__ import annotations

import collections
import contextlib
import http
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import kubernetes.config
import urllib3

from tests.controlplane import client
from tests.e2e.support import waiting

Json = dict[str, Any]

_STOP_SECONDS = 10.0
_BORN = {"observedGeneration": 0, "phase": "Pending"}
"""The status of an object that nobody has written to yet, which is left out."""


class History:
    """The statuses, in the order in which they were stored; `watching` makes one."""

    def __init__(self, cluster: client.Cluster, namespace: str) -> None:
        self._path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflowresumes"
        listed = cluster.request("GET", self._path)
        self._version = str(listed["metadata"]["resourceVersion"])
        self._api = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(cluster.kubeconfig)
        )
        self._seen: dict[str, list[Json]] = collections.defaultdict(list)
        self._stopped = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._problem = ""
        self._thread = threading.Thread(target=self._watch, name="history", daemon=True)

    def of(self, name: str) -> Sequence[Json]:
        """The statuses of a WorkflowResume; one that says the same as the one before is left out.

        Raises:
            AssertionError: the watch broke off, so that something may be missing
        """
        assert not self._problem, self._problem
        return tuple(self._seen[name])

    def reasons(self, name: str) -> Sequence[str]:
        """The reasons of these statuses, those that repeat the one before left out."""
        found: list[str] = []
        for status in self.of(name):
            if not found or found[-1] != status.get("reason"):
                found.append(str(status.get("reason")))
        return found

    def wait(
        self, name: str, holds: Callable[[Json], object], timeout: float = waiting.TIMEOUT
    ) -> Json:
        """The first status that this holds for, as soon as it was there, even if it is gone again.

        Raises:
            AssertionError: there was none in time
        """
        waiting.eventually(
            lambda: any(holds(one) for one in self.of(name)),
            lambda: f"{name}: {self.reasons(name)}, at last {self.of(name)[-1:]}",
            timeout,
        )
        return next(one for one in self.of(name) if holds(one))

    def wait_reason(self, name: str, reason: str, timeout: float = waiting.TIMEOUT) -> Json:
        """The first status with this reason."""
        return self.wait(name, lambda status: status.get("reason") == reason, timeout)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._stopped.set()
        if self._response is not None:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                self._response.shutdown()
        self._thread.join(_STOP_SECONDS)
        self._api.rest_client.pool_manager.clear()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            query = urllib.parse.urlencode({"watch": "1", "resourceVersion": self._version})
            headers = {"Accept": "application/json"}
            self._api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
            try:
                self._response = self._api.rest_client.pool_manager.request(
                    "GET",
                    f"{self._api.configuration.host}{self._path}?{query}",
                    headers=headers,
                    preload_content=False,
                    retries=False,
                )
                self._read(self._response)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if not self._stopped.is_set():
                    # What was missed in between would be missing.
                    self._problem = f"the watch of the test broke: {error}"
                    return

    def _read(self, response: urllib3.BaseHTTPResponse) -> None:
        rest = b""
        try:
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"status {response.status}: {response.data.decode()}")
            for chunk in response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
        finally:
            response.close()

    def _take(self, event: Json) -> None:
        if event["type"] == "ERROR":
            raise ValueError(event["object"])
        body = event["object"]
        self._version = body["metadata"]["resourceVersion"]
        status = body.get("status")
        statuses = self._seen[body["metadata"]["name"]]
        if status and status != _BORN and (not statuses or statuses[-1] != status):
            statuses.append(status)


@contextlib.contextmanager
def watching(cluster: client.Cluster, namespace: str) -> Iterator[History]:
    """A history for as long as the block."""
    history = History(cluster, namespace)
    history.start()
    try:
        yield history
    finally:
        history.stop()
