"""What an answer or a broken call of the API server means: the one place that maps foreign errors.

`kube` calls `of_answer` for every HTTP status from 300 up and `of_exception` for every call that
got no answer; everything above decides on the classes of `resumer.errors`. A message is the API
server's own Status message, cleaned and cut; a body of any other shape is never repeated, because
nobody knows what a proxy puts there.
"""

from __future__ import annotations

import email.utils
import json
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from resumer import errors

MESSAGE_LIMIT: Final = 512
"""Characters of a message that are kept."""

RETRY_AFTER_LIMIT: Final = 3600.0
"""Seconds; a server that asks for more is taken to ask for this much."""

JSON_PATCH_REFUSED: Final = "the server rejected our request due to an error in our request"
"""All that kube-apiserver says when a JSON-Patch does not apply: a `test` that failed, a path that
is not there. The cause itself ("testing value ... failed") is dropped on its way out."""

REQUEST_TOO_LARGE: Final = "request is too large"
"""etcd's words for an object beyond its limit (1.5 MiB by default); a 500, yet never to succeed."""

OTHER_UID: Final = "the UID in the precondition"
"""Part of the 409 that answers a delete whose `preconditions.uid` is another object's."""


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` characters, without control characters."""
    line = "".join(char if char.isprintable() else " " for char in text[: limit * 2]).strip()
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def of_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, json_patch: bool = False
) -> errors.ApiError:
    """The error that an HTTP answer stands for.

    Args:
        status: The HTTP status, 300 or above.
        headers: The answer's headers, found by any case.
        body: The answer's body, as it came.
        json_patch: Whether the request was a JSON-Patch.
    """
    answer = _status_object(body)
    reason = _text(answer, "reason") or f"Http{status}"
    message = clean(_text(answer, "message") or f"HTTP {status} without a Kubernetes Status")
    match status:
        case 404:
            return _not_found(answer, message)
        case 409 if OTHER_UID in message:
            return errors.NotFoundError(message, status=status, reason="OtherUid")
        case 409 | 410:
            return errors.PreconditionError(message, status=status, reason=reason)
        case 422:
            return _unprocessable(answer, message, reason, json_patch=json_patch)
        case 500 if REQUEST_TOO_LARGE in message:
            return errors.PermanentError(message, status=status, reason="RequestEntityTooLarge")
        case _ if status in (408, 429) or status >= 500:
            return errors.TransientError(
                message, status=status, reason=reason, retry_after=_retry_after(headers, answer)
            )
        case _:
            return errors.PermanentError(message, status=status, reason=reason)


def of_exception(error: Exception, method: str) -> errors.TransientError:
    """The error that a call without an answer stands for.

    Args:
        error: What aiohttp or the operating system raised.
        method: The HTTP method of the call.
    """
    never_connected = isinstance(
        error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
    )
    # aiohttp itself sends GET, PUT and DELETE once more when a kept connection breaks, so that for
    # those a refused connection may be the second of two tries.
    sent = not (never_connected and method in ("PATCH", "POST"))
    what = "timed out" if isinstance(error, TimeoutError) else "broke"
    if never_connected:
        what = "could not be connected"
    kind = type(error).__name__
    message = clean(f"the call to the API server {what}: {kind}: {error}".removesuffix(": "))
    return errors.TransientError(message, reason=kind, sent=sent)


def of_unreadable(status: int) -> errors.TransientError:
    """The error for a success whose body is not a JSON object: what was done is unknown."""
    return errors.TransientError(
        f"HTTP {status} from the API server with a body that is not a JSON object",
        status=status,
        reason="UnreadableBody",
    )


def of_closed_session() -> errors.TransientError:
    """The error for a call after the end: the process is stopping, another one may do the call."""
    return errors.TransientError(
        "the connection to the API server is closed: this process is stopping",
        reason="Closed",
        sent=False,
    )


def _not_found(answer: Mapping[str, Any], message: str) -> errors.ApiError:
    # The Status of a missing object names it; for a missing kind the API server answers a Status
    # without a name, and for a missing group plain text.
    if _text(_details(answer), "name"):
        return errors.NotFoundError(message, status=404, reason="NotFound")
    return errors.PermanentError(message, status=404, reason="KindNotFound")


def _unprocessable(
    answer: Mapping[str, Any], message: str, reason: str, *, json_patch: bool
) -> errors.ApiError:
    details = _details(answer)
    causes = details.get("causes")
    fields = (
        {_text(cause, "field") for cause in causes if isinstance(cause, dict)}
        if isinstance(causes, list)
        else set()
    )
    if json_patch and not fields and message == JSON_PATCH_REFUSED:
        return errors.PreconditionError(message, status=422, reason="PatchTestFailed")
    if fields == {"metadata.uid"}:
        return errors.NotFoundError(message, status=422, reason="OtherUid")
    return errors.PermanentError(message, status=422, reason=reason)


def _retry_after(headers: Mapping[str, str], answer: Mapping[str, Any]) -> float | None:
    """Seconds to wait, from the header (seconds or a date, RFC 9110 10.2.3) or from the Status."""
    text = headers.get("Retry-After", "").strip()
    seconds: float | None = None
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    elif text:
        # Measured against the server's own clock, so that ours need not agree with it.
        then, now = (_http_date(value) for value in (text, headers.get("Date", "")))
        seconds = then - now if then is not None and now is not None else None
    else:
        stated = _details(answer).get("retryAfterSeconds")
        seconds = float(stated) if isinstance(stated, int) and stated > 0 else None
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def _http_date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def _details(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    details = answer.get("details")
    return details if isinstance(details, dict) else {}


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    return value if isinstance(value, str) else ""
