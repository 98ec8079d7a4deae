"""Deliveries of a GitHub webhook, as GitHub makes them: recorded payloads, signed with the secret.

The payloads in `data/github` are GitHub's own documented examples, from the npm package
`@octokit/webhooks-examples` (MIT license). What a test is about is changed in them: the task, the
repository, the label, the verdict.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import hashlib
import hmac
import http.client
import json
import pathlib
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

from tests.e2e.support.manifests import Json

REPOSITORY = "Codertocat/Hello-World"
"""Of the recorded payloads."""

HUNG_UP = 0
"""Stands for the status where the server closed the connection without one."""

_TIMEOUT = 60.0
_FOLDER = pathlib.Path(__file__).parents[1] / "data" / "github"


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery.

    Attributes:
        event: the value of X-GitHub-Event
        payload: the body
        id: the value of X-GitHub-Delivery
    """

    event: str
    payload: Json
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def body(self) -> bytes:
        """The payload as it is sent."""
        return json.dumps(self.payload).encode()

    def signature(self, secret: str) -> str:
        """The value of X-Hub-Signature-256."""
        return _signature(self.body, secret)

    def headers(self, secret: str | None) -> dict[str, str]:
        """The headers with which GitHub sends it; without a secret it is not signed."""
        return _headers(self.event, self.id, self.body, secret)

    def post(
        self, url: str, secret: str | None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Send it.

        Arguments:
            url: of the webhook
            secret: to sign it with; None for no signature
            headers: further ones, which win

        Returns:
            the status and the body of the answer
        """
        return send(url, self.event, self.id, self.body, secret, headers)


def send(
    url: str,
    event: str,
    delivery: str,
    body: bytes,
    secret: str | None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Send any bytes as GitHub would; the status and the body of the answer."""
    sent = {**_headers(event, delivery, body, secret), **(headers or {})}
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(
        http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    ) as connection:
        try:
            # A server that has seen enough answers and hangs up before it has read all.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", parts.path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (http.client.HTTPException, ConnectionError) as error:
            return HUNG_UP, str(error)


def opened(task: str, **changes: Any) -> Delivery:
    """A pull request of a task was opened; `changes` go into its `pull_request`."""
    return Delivery("pull_request", _pull("pull_request.opened", task, changes))


def labeled(task: str, label: str = "ready-for-qa", **changes: Any) -> Delivery:
    """A label was set at it."""
    payload = _pull("pull_request.labeled", task, changes)
    payload["label"]["name"] = label
    return Delivery("pull_request", payload)


def reviewed(task: str, state: str = "approved", **changes: Any) -> Delivery:
    """A review of it was submitted."""
    payload = _pull("pull_request_review.submitted", task, changes)
    payload["review"]["state"] = state
    return Delivery("pull_request_review", payload)


def closed(task: str, *, merged: bool = True, **changes: Any) -> Delivery:
    """It was merged, or closed without that."""
    return Delivery(
        "pull_request", _pull("pull_request.closed", task, {"merged": merged, **changes})
    )


def issue_opened(task: str) -> Delivery:
    """An issue of the task was opened, which is not a pull request."""
    payload = _recorded("issues.opened")
    payload["issue"]["labels"] = [{"name": f"task-{task}"}]
    return Delivery("issues", payload)


def _headers(event: str, delivery: str, body: bytes, secret: str | None) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
    }
    if secret is not None:
        headers["X-Hub-Signature-256"] = _signature(body, secret)
    return headers


def _signature(body: bytes, secret: str) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def _pull(name: str, task: str, changes: Mapping[str, Any]) -> Json:
    payload = _recorded(name)
    payload["pull_request"] |= {"labels": [{"name": f"task-{task}"}], **changes}
    return payload


def _recorded(name: str) -> Json:
    return copy.deepcopy(_load(name))


@functools.cache
def _load(name: str) -> Json:
    payload: Json = json.loads((_FOLDER / f"{name}.json").read_text())
    return payload
