"""Whether the API server serves the kinds that the operator watches."""

from __future__ import annotations

from collections.abc import Iterable

from resumer import errors
from resumer.adapters import kube
from resumer.api import constants


async def missing(client: kube.KubeClient, plurals: Iterable[str]) -> frozenset[str]:
    """The plurals that are not served; a CustomResourceDefinition may be installed later.

    Raises:
        TransientError: The API server does not answer.
        PermanentError: Even discovery is refused.
    """
    try:
        answer = await client.get(kube.Path(f"/apis/{constants.API_VERSION}"))
    except errors.ApiError as error:
        if error.status != 404:
            raise
        answer = {}
    served = {resource.get("name") for resource in answer.get("resources") or ()}
    return frozenset(plurals) - served
