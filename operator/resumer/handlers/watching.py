"""The handlers, one for each watched kind."""

from __future__ import annotations

from typing import Any

import kopf
import structlog

from resumer import errors
from resumer.adapters import breakers
from resumer.api import constants
from resumer.core.keys import Key
from resumer.factory import Services

BY_KOPF = (constants.POLICY_PLURAL, constants.BREAKER_PLURAL)
"""The plurals of the kinds that kopf watches: few objects, which seldom change."""

WATCHED = (*BY_KOPF, constants.RESUME_PLURAL, constants.WORKFLOW_PLURAL)
"""The plurals of all watched kinds; `adapters.listwatch` says why two of them are not kopf's."""

UNUSABLE_EVENT = "BreakerUnusable"
"""The reason of the Event about a WorkflowResumeBreaker that somebody edited badly."""

_log = structlog.get_logger(__name__)

_GONE = "DELETED"
"""Also sent for what no longer matches the watch's selector."""


def register(registry: kopf.OperatorRegistry, services: Services) -> None:
    """Adds the handlers to a registry."""
    resync = services.resync

    @kopf.on.event(constants.GROUP, constants.VERSION, constants.POLICY_PLURAL, registry=registry)
    async def policies(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == _GONE:
            resync.policy_gone(Key.of(event["object"]))
        else:
            await resync.policy(Key.of(event["object"]), event["object"])

    @kopf.on.event(constants.GROUP, constants.VERSION, constants.BREAKER_PLURAL, registry=registry)
    async def circuit_breakers(event: kopf.RawEvent, **_: Any) -> None:
        namespace = Key.of(event["object"]).namespace
        try:
            stored = breakers.parse(event["object"])
        except errors.InvalidError as error:
            _complain(services, event, str(error))
            return
        if event["type"] == _GONE:
            resync.breaker_gone(namespace, stored.stage, stored.version)
            return
        if stored.problem:
            _complain(services, event, f"it counts as closed: {stored.problem}")
        resync.breaker(namespace, stored.stage, stored.breaker, stored.version)


def _complain(services: Services, event: kopf.RawEvent, problem: str) -> None:
    """Tells, in the log and on the object, about a breaker that a person has to look at."""
    key = Key.of(event["object"])
    _log.warning("breaker not usable", namespace=key.namespace, breaker=key.name, problem=problem)
    if services.elector is not None and not services.elector.leads():
        return  # The leader sees it too, and tells.
    services.events.publish(event["object"], warning=True, reason=UNUSABLE_EVENT, message=problem)
