"""Whether a request still stands, asked just before it is acted on.

A request that was withdrawn must not open a gate. The watch tells of that, and nothing is asked
while it is heard. After a gap, the watch of Workflows may be back before that of WorkflowResumes:
then one read tells.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from resumer import errors, ports
from resumer.api.outcomes import Outcome
from resumer.api.resume import WorkflowResume
from resumer.core.keys import Key
from resumer.services import requeststore
from resumer.services.requeststore import RequestStore

_log = structlog.get_logger(__name__)


class Confirmer:
    """Makes sure of requests."""

    def __init__(
        self, store: RequestStore, reader: ports.Reader, is_heard: Callable[[str], bool]
    ) -> None:
        """Asks nothing yet.

        Args:
            store: What is known of the requests.
            reader: Reads one.
            is_heard: Whether the watch has told all about the requests of a namespace.
        """
        self._store = store
        self._reader = reader
        self._is_heard = is_heard

    async def confirm(self, request: WorkflowResume) -> None:
        """Makes sure that a request is still there, and not ended by somebody else.

        Raises:
            WithdrawnError: It is not: it is forgotten until a watch or a list shows it again.
            ApiError: It had to be read, and could not be.
        """
        key, uid = Key(request.metadata.namespace, request.metadata.name), request.metadata.uid
        stands = True
        if not self._is_heard(key.namespace):
            body = await self._reader.request(key)
            stands = body is not None and _is_open(body, uid)
        known = self._store.outline(key)
        if known is None or known.uid != uid:
            raise errors.WithdrawnError("the watch told so meanwhile")
        if not stands:
            self._store.remove(key)
            _log.info("request was withdrawn or ended unseen")
            raise errors.WithdrawnError("it is not there any more")


def _is_open(body: ports.Body, uid: str) -> bool:
    """Whether this is the object of that uid, and nobody has ended it or is deleting it."""
    outcome = (body.get("status") or {}).get("outcome")
    ended = outcome in [str(one) for one in Outcome if one.terminal]
    return body["metadata"]["uid"] == uid and not ended and not requeststore.is_withdrawn(body)
