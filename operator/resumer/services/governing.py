"""Policies coming into force: resolved, kept while the next version is invalid, and told so.

The last valid version outlives the operator in the policy's own status: whoever starts anew, and
finds a policy invalid, goes on with what was in force before.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from resumer import errors, ports
from resumer.api import base, conditions
from resumer.api.policy import MAX_KEPT_SPEC, PolicyStatus
from resumer.core import policies
from resumer.core.keys import Key
from resumer.core.policies import InForce, Version
from resumer.services.intake import Intake
from resumer.services.stores import PolicyStore

_log = structlog.get_logger(__name__)


class Governor:
    """Puts policies in force, live; the only writer of their status."""

    def __init__(
        self,
        store: PolicyStore,
        intake: Intake,
        writer: ports.Policies,
        clock: ports.Clock,
        *,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Knows no policy yet.

        Args:
            store: Takes those that are in force.
            intake: Is told what changed.
            writer: Writes their status.
            clock: The time.
            may_write: False while this process stands by; see `tell_untold`.
        """
        self._may_write = may_write
        self.failed = asyncio.Event()
        """Set when a status could not be written: `tell_untold` is to be called again."""
        self._untold: dict[Key, tuple[Mapping[str, Any], InForce]] = {}
        """Policies whose status was not written, as this process stood by or the API server failed,
        each with what is in force."""
        self._writing: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One write for each policy at a time, so that the newest is the last."""
        self._store = store
        self._intake = intake
        self._writer = writer
        self._clock = clock
        self._seen: dict[Key, base.ObjectMeta] = {}
        self._valid: dict[Key, Version] = {}
        """What is in force of each policy; its status may not say so yet."""

    def known(self) -> frozenset[Key]:
        """The policies that are known, valid or not."""
        return frozenset(self._seen)

    def take(self, key: Key, body: Mapping[str, Any]) -> InForce | None:
        """Puts in force what a policy says, or what it last said that was valid.

        Returns:
            What is in force now; None if something newer is known already.
        """
        metadata, known = base.ObjectMeta.from_json(body["metadata"]), self._seen.get(key)
        if known is not None and known.uid != metadata.uid:
            self._valid.pop(key, None)
        elif known is not None and _is_older(metadata, known):
            return None
        self._seen[key] = metadata
        found = in_force(body, self._valid.get(key))
        if found.version is not None:
            self._valid[key] = found.version
        changed = (
            self._store.remove(key) if found.policy is None else self._store.put(key, found.policy)
        )
        if changed:
            self._intake.policies_changed(key.namespace)
        return found

    async def policy(self, key: Key, body: Mapping[str, Any]) -> None:
        """A policy was created, changed, or listed: puts it in force and tells so in its status."""
        found = self.take(key, body)
        if found is not None:
            await self._record(key, body, found)

    async def tell_untold(self) -> None:
        """Writes what was not written, while this process stood by or as the API server failed."""
        self.failed.clear()
        for key in tuple(self._untold):
            # Those told or deleted meanwhile are gone from it.
            if untold := self._untold.pop(key, None):
                try:
                    await self._record(key, *untold)
                except Exception:  # noqa: BLE001 - the others must go on
                    _log.exception(
                        "policy status not told", namespace=key.namespace, policy=key.name
                    )

    def gone(self, key: Key) -> None:
        """A policy was deleted."""
        self._untold.pop(key, None)
        self._writing.pop(key, None)
        self._seen.pop(key, None)
        self._valid.pop(key, None)
        if self._store.remove(key):
            self._intake.policies_changed(key.namespace)

    async def _record(self, key: Key, body: Mapping[str, Any], found: InForce) -> None:
        self._untold.pop(key, None)
        if not self._may_write():
            self._untold[key] = (body, found)
            return
        async with self._writing[key]:
            if self._is_current(key, body):
                await self._write(key, body, found)

    def _is_current(self, key: Key, body: Mapping[str, Any]) -> bool:
        """Whether nothing newer is known: that is told, or comes with the watch."""
        known = self._seen.get(key)
        version = base.ObjectMeta.from_json(body["metadata"]).resource_version
        return known is not None and known.resource_version == version

    async def _write(self, key: Key, body: Mapping[str, Any], found: InForce) -> None:
        metadata = body["metadata"]
        before = PolicyStatus.from_json(body.get("status") or {})
        after = PolicyStatus(
            observed_generation=metadata.get("generation", 0),
            stages=len(found.policy.stages) if found.policy else 0,
            last_valid_generation=found.version.generation if found.version else None,
            last_valid_spec=_kept(found.version),
            conditions=conditions.of_policy(
                before.conditions,
                problem=found.problem,
                generation=metadata.get("generation", 0),
                now=self._clock.now(),
            ),
        )
        if after == before:
            return
        if found.problem:
            _log.warning(
                "policy not valid", namespace=key.namespace, policy=key.name, problem=found.problem
            )
        try:
            await self._writer.write_status(key, metadata.get("uid", ""), after.to_json())
        except errors.ApiError as error:
            _log.warning(
                "policy status not written",
                namespace=key.namespace,
                policy=key.name,
                error=str(error),
            )
            # The policy is in force all the same. Of one that is gone or was recreated the watch
            # tells; nobody but us would tell of the others that they are not valid.
            again = not isinstance(error, errors.NotFoundError | errors.PreconditionError)
            if again and self._is_current(key, body):
                self._untold[key] = (body, found)
                if isinstance(error, errors.TransientError):
                    self.failed.set()


def in_force(body: Mapping[str, Any], remembered: Version | None = None) -> InForce:
    """What is in force of a policy, as far as the object itself tells.

    Args:
        body: The object.
        remembered: The version that was last known to be valid, if its status does not say so yet.
    """
    metadata, status = body["metadata"], body.get("status") or {}
    stored = status.get("lastValidSpec")
    if remembered is None and stored:
        remembered = Version(status.get("lastValidGeneration") or 0, stored)
    return policies.in_force(
        metadata["name"],
        str(metadata.get("creationTimestamp") or ""),
        Version(metadata.get("generation") or 0, body.get("spec") or {}),
        remembered,
    )


def _kept(version: Version | None) -> dict[str, Any]:
    """The spec as status keeps it; empty if there is none, or it is too large for that."""
    if version is None or len(json.dumps(version.spec)) > MAX_KEPT_SPEC:
        return {}
    return dict(version.spec)


def _is_older(one: base.ObjectMeta, other: base.ObjectMeta) -> bool:
    versions = one.resource_version, other.resource_version
    return versions[0] != versions[1] and not base.newer(*versions)
