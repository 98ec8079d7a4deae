"""The errors of the project: what the outside world can do to a reconcile, in our words.

Adapters turn every foreign error (HTTP status, timeout, broken connection) into one of these once,
at the edge; everything above decides on the class alone. Messages are already truncated and never
hold a payload.
"""

from __future__ import annotations


class ResumerError(Exception):
    """Base of all errors raised on purpose by this package."""


class InvalidError(ResumerError):
    """Something a user wrote cannot be understood: a selector, a pattern, a path.

    Attributes:
        field: The field that is wrong, as the user spelled its path.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SettingsError(InvalidError):
    """A setting of the operator itself cannot be used; it cannot start.

    Attributes:
        field: The name of the field of `resumer.settings.Settings`.
    """


class MalformedWorkflowError(ResumerError):
    """A Workflow object does not have the shape that Argo gives it; it cannot be resumed safely."""


class WithdrawnError(ResumerError):
    """The request that was to be acted on is gone, or was ended by somebody else."""


class BusyError(ResumerError):
    """Too many requests are to be written to the same Workflow just now; this one comes later."""


class LeadershipLostError(ResumerError):
    """This process led and does no more: it has to end, another one is at work."""


class ApiError(ResumerError):
    """Base of what a call to the Kubernetes API can end in.

    Attributes:
        status: The HTTP status, or 0 where no answer came.
        reason: The machine-readable reason of the answer (``Conflict``, ``Timeout``), or the kind
            of failure.
        retry_after: Seconds the server asked to wait, or None.
    """

    retry_after: float | None = None

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class TransientError(ApiError):
    """The same call may succeed later: 429, 5xx, a timeout, a refused or broken connection.

    Attributes:
        sent: False where the request provably never reached the server; True where it may have
            been carried out.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after = retry_after
        self.sent = sent


class PermanentError(ApiError):
    """Repeating cannot help: 400, 401, 403, 404 of the kind, 413, 422 of our own making."""


class PreconditionError(ApiError):
    """The object is not what was expected: 409, or a failed ``test`` (422). Read it again."""


class NotFoundError(ApiError):
    """The named object does not exist (its kind does)."""
