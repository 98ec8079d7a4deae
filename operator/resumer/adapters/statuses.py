"""Writing the status of exactly one object of ours.

The API server ignores a uid in a merge patch of a status, so the object is pinned by the `test` of
a JSON-Patch; and as that cannot merge, the status has to be complete. The operator is the only
writer of these statuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resumer import ports
from resumer.adapters import kube
from resumer.api import constants
from resumer.core.keys import Key

NO_STATUS: Mapping[str, Any] = {"op": "test", "path": "/status", "value": None}
"""The test that there is no status at all.

A test for null passes where a field is missing, and not where what would hold it is missing as
well: so this takes a test of its own.
"""


async def replace(
    client: kube.KubeClient,
    plural: str,
    key: Key,
    uid: str,
    status: Mapping[str, Any],
    *,
    guard: Sequence[Mapping[str, Any]] = (),
) -> ports.Body:
    """Replaces the whole status of exactly this object and returns the new object.

    Args:
        client: Makes the call.
        plural: The resource.
        key: The object.
        uid: Its uid.
        status: The status as it shall be.
        guard: More JSON-Patch tests that must hold.

    Raises:
        NotFoundError: The object is gone.
        PreconditionError: It was recreated under its name, or a test of the guard does not hold.
        TransientError: It may have been written, unless `sent` is False.
        PermanentError: Refused, now and later.
    """
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        *guard,
        {"op": "add", "path": "/status", "value": status},
    ]
    at = kube.path(constants.API_VERSION, plural, key.namespace, key.name, "status")
    return await client.patch(at, operations, kube.PatchType.JSON)


def still(outcome: str | None) -> Mapping[str, Any]:
    """The test that the outcome in the status is still this one.

    Args:
        outcome: The outcome; None: there is a status without one. Whoever may write a status may
            leave the outcome out, and the default of the definition has none.
    """
    return {"op": "test", "path": "/status/outcome", "value": outcome}
