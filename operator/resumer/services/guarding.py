"""The circuit breakers at work: who may try now, and what an attempt taught.

The state lies in one WorkflowResumeBreaker for each namespace and stage, changed by
compare-and-swap; nothing is written while a stage is well. While the API server takes no writes,
the state is kept in memory and written with the next change: a breaker that could not be stored
still holds its stage back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from resumer import errors, ports
from resumer.core import breaker
from resumer.core.breaker import Breaker, Refused
from resumer.core.policies import Stage
from resumer.services.stores import BreakerStore

_ROUNDS = 8
"""How often a change is tried against others that write the same breaker."""

_log = structlog.get_logger(__name__)


class Guard:
    """Admits attempts and learns from their ends."""

    def __init__(
        self, store: BreakerStore, breakers: ports.Breakers, telemetry: ports.Telemetry
    ) -> None:
        self._store = store
        self._breakers = breakers
        self._telemetry = telemetry

    async def admit(
        self, namespace: str, stage: Stage, holder: str, now: datetime
    ) -> Refused | None:
        """Claims the right to one attempt; None if given, which is free while the stage is well."""

        def step(current: Breaker) -> Breaker | Refused:
            verdict = breaker.admit(current, stage.breaker, holder, now)
            return verdict if isinstance(verdict, Refused) else verdict.breaker

        return await self._change(namespace, stage.name, step)

    async def succeeded(self, namespace: str, stage: Stage, holder: str, now: datetime) -> None:
        """The attempt reached the API server and was carried out."""
        await self._learn(
            namespace, stage, lambda current: breaker.on_success(current, holder, now)
        )

    async def failed(
        self, namespace: str, stage: Stage, holder: str, reason: str, now: datetime
    ) -> None:
        """The attempt failed for a reason that lies with the API server."""
        await self._learn(
            namespace,
            stage,
            lambda current: breaker.on_failure(current, stage.breaker, holder, reason, now),
        )

    async def ignored(self, namespace: str, stage: Stage, holder: str) -> None:
        """The attempt said nothing about the API server."""
        await self._learn(namespace, stage, lambda current: breaker.on_ignored(current, holder))

    async def _learn(
        self, namespace: str, stage: Stage, step: Callable[[Breaker], Breaker]
    ) -> None:
        try:
            await self._change(namespace, stage.name, step)
        except errors.ApiError as error:
            # The attempt was made, and has to be told and counted: a failure that the breaker
            # misses does less harm than an attempt that nobody remembers.
            _log.warning(
                "breaker not changed", stage=stage.name, namespace=namespace, error=str(error)
            )

    async def _change(
        self, namespace: str, stage: str, step: Callable[[Breaker], Breaker | Refused]
    ) -> Refused | None:
        known, version = self._store.get(namespace, stage) or (Breaker(), "")
        for _ in range(_ROUNDS):
            after = step(known)
            if isinstance(after, Refused):
                return after
            if after is known:
                return None
            try:
                version = await self._breakers.write(namespace, stage, after, version)
            except errors.PreconditionError:
                stored, version = await self._breakers.read(namespace, stage)
                # One that was created and never written tells nothing: its first write failed.
                known = known if version and stored == Breaker() else stored
                self._store.put(namespace, stage, known, version)
                continue
            except errors.ApiError as error:
                _log.warning(
                    "breaker not stored", stage=stage, namespace=namespace, error=str(error)
                )
                # Others may have changed it in memory meanwhile.
                known, version = self._store.get(namespace, stage) or (known, version)
                again = step(known)
                if isinstance(again, Refused):
                    return again
                after = again
            self._store.put(namespace, stage, after, version)
            if after.state is not known.state:
                self._telemetry.breaker_changed(namespace, stage, known.state, after.state)
                _log.info(
                    "breaker changed",
                    stage=stage,
                    namespace=namespace,
                    before=known.state,
                    after=after.state,
                )
            return None
        raise errors.TransientError(
            f"the breaker of stage {stage!r} is being changed by too many", reason="Conflict"
        )
