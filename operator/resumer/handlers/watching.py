"""The handlers, one for each watched kind."""

from __future__ import annotations

from typing import Any

import kopf

from resumer.adapters import breakers
from resumer.api import constants
from resumer.core.keys import Key
from resumer.factory import Services

BY_KOPF = (constants.POLICY_PLURAL, constants.BREAKER_PLURAL)
"""The plurals of the kinds that kopf watches: few objects, which seldom change."""

WATCHED = (*BY_KOPF, constants.RESUME_PLURAL, constants.WORKFLOW_PLURAL)
"""The plurals of all watched kinds; `adapters.listwatch` says why two of them are not kopf's."""

_GONE = "DELETED"
"""Also sent for what no longer matches the watch's selector."""


def register(registry: kopf.OperatorRegistry, services: Services) -> None:
    """Adds the handlers to a registry."""
    resync = services.resync

    @kopf.on.event(constants.GROUP, constants.VERSION, constants.POLICY_PLURAL, registry=registry)
    async def policies(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == _GONE:
            resync.policy_gone(_key(event))
        else:
            await resync.policy(_key(event), event["object"])

    @kopf.on.event(constants.GROUP, constants.VERSION, constants.BREAKER_PLURAL, registry=registry)
    async def circuit_breakers(event: kopf.RawEvent, **_: Any) -> None:
        namespace = _key(event).namespace
        stage, breaker, version = breakers.parse(event["object"])
        if event["type"] == _GONE:
            resync.breaker_gone(namespace, stage)
        else:
            resync.breaker(namespace, stage, breaker, version)


def _key(event: kopf.RawEvent) -> Key:
    metadata = event["object"]["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])
