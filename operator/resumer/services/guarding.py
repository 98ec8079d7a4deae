"""The circuit breakers at work: who may try now, and what an attempt taught.

The state lies in one WorkflowResumeBreaker for each namespace and stage, changed by
compare-and-swap; nothing is written while a stage is well. A storm of failures costs few writes:
one task writes each breaker, and takes along in one write whatever came while the write before was
under way. While the API server takes no writes, the state is kept in memory and written with the
next change: a breaker that could not be stored still holds its stage back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from resumer import errors, ports
from resumer.core import breaker
from resumer.core.breaker import Breaker, Refused
from resumer.core.policies import Stage
from resumer.services.circuits import BreakerStore

_ROUNDS = 8
"""How often a change is tried against other operators that write the same breaker."""

_Pair = tuple[str, str]
"""A namespace and a stage."""
_Step = Callable[[Breaker], Breaker | Refused]
"""A change: the same object where there is nothing to change."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change that somebody waits for."""

    step: _Step
    answer: asyncio.Future[Refused | None]


class Guard:
    """Admits attempts and learns from their ends."""

    def __init__(
        self, store: BreakerStore, breakers: ports.Breakers, telemetry: ports.Telemetry
    ) -> None:
        self._store = store
        self._breakers = breakers
        self._telemetry = telemetry
        self._pending: dict[_Pair, list[_Change]] = {}
        """Changes that are not written yet, of the breakers that are being written."""
        self._expected: dict[_Pair, Breaker] = {}
        """What these breakers become if all goes well: what the next change is judged by."""
        self._writers: set[asyncio.Task[None]] = set()
        store.listen(self._in_force)

    async def admit(
        self, namespace: str, stage: Stage, holder: str, now: datetime
    ) -> Refused | None:
        """Claims the right to one attempt; None if given, which is free while the stage is well.

        A claim of a probe is given once it is stored. Where the API server takes no such write,
        the claim counts among the requests of this process alone.

        Raises:
            ApiError: Somebody else changed the breaker and it could not be read again for now, or
                too many change it; nothing is claimed.
        """

        def step(current: Breaker) -> Breaker | Refused:
            verdict = breaker.admit(current, stage.breaker, holder, now)
            return verdict if isinstance(verdict, Refused) else verdict.breaker

        return await self._change((namespace, stage.name), step)

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
            await self._change((namespace, stage.name), step)
        except errors.ApiError as error:
            # The attempt was made, and has to be told and counted: a failure that the breaker
            # misses does less harm than an attempt that nobody remembers.
            _log.warning(
                "breaker not changed", stage=stage.name, namespace=namespace, error=str(error)
            )

    async def _change(self, pair: _Pair, step: _Step) -> Refused | None:
        """Makes one change, with whatever else is to be changed at the same time."""
        current = self._expected.get(pair) or self._known(pair)[0]
        after = step(current)
        if isinstance(after, Refused):
            return after
        if after is current:
            return None
        change = _Change(step, asyncio.get_running_loop().create_future())
        self._expected[pair] = after
        if pair in self._pending:
            self._pending[pair].append(change)
        else:
            self._pending[pair] = [change]
            # Not in the context of whoever came first: the others are not his.
            writer = asyncio.create_task(
                self._write_all(pair), name=f"breaker {pair}", context=contextvars.Context()
            )
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await change.answer

    async def _write_all(self, pair: _Pair) -> None:
        """Writes one breaker until nobody waits for a change of it."""
        try:
            while batch := self._pending[pair]:
                self._pending[pair] = []
                try:
                    answers = await self._write(pair, [change.step for change in batch])
                except BaseException as error:
                    for change in batch:
                        if not change.answer.done():
                            change.answer.set_exception(error)
                    if isinstance(error, asyncio.CancelledError):
                        raise
                else:
                    for change, answer in zip(batch, answers, strict=True):
                        if not change.answer.done():
                            change.answer.set_result(answer)
                steps = [change.step for change in self._pending[pair]]
                self._expected[pair], _ = _fold(self._known(pair)[0], steps)
        finally:
            # Nobody waits for a writer that was cut off, and the next change begins anew.
            del self._expected[pair]
            for change in self._pending.pop(pair):
                change.answer.cancel()

    async def _write(self, pair: _Pair, steps: Sequence[_Step]) -> Sequence[Refused | None]:
        """Makes changes in one write, and says who of them was refused."""
        known, version = self._known(pair)
        for _ in range(_ROUNDS):
            after, answers = _fold(known, steps)
            if after == known:
                return answers
            try:
                version = await self._breakers.write(*pair, after, version)
            except errors.PreconditionError:
                try:
                    stored, version = await self._breakers.read(*pair)
                except errors.PermanentError as error:
                    # What is in its place is nobody's, or not ours to see: now and later.
                    known, after, answers = self._keep(pair, steps, error)
                else:
                    # One that was created and never written tells nothing: its first write failed.
                    known = known if version and stored == Breaker() else stored
                    self._store.put(*pair, known, version)
                    continue
            except errors.ApiError as error:
                known, after, answers = self._keep(pair, steps, error)
            else:
                self._store.learn(*pair, after, version)
            self._tell(pair, known, after)
            return answers
        raise errors.TransientError(
            f"the breaker of stage {pair[1]!r} is being changed by too many", reason="Conflict"
        )

    def _keep(
        self, pair: _Pair, steps: Sequence[_Step], error: errors.ApiError
    ) -> tuple[Breaker, Breaker, Sequence[Refused | None]]:
        """Makes changes in memory alone: the breaker before and after them, and the answers."""
        _log.warning("breaker not stored", namespace=pair[0], stage=pair[1], error=str(error))
        # The watch may have brought another one meanwhile.
        known, version = self._known(pair)
        after, answers = _fold(known, steps)
        self._store.put(*pair, after, version)
        return known, after, answers

    def _known(self, pair: _Pair) -> tuple[Breaker, str]:
        return self._store.get(*pair) or (Breaker(), "")

    def _tell(self, pair: _Pair, before: Breaker, after: Breaker) -> None:
        if after.state is before.state:
            return
        namespace, stage = pair
        self._telemetry.breaker_changed(namespace, stage, before.state, after.state)
        _log.info(
            "breaker changed",
            stage=stage,
            namespace=namespace,
            before=before.state,
            after=after.state,
        )

    def _in_force(
        self, namespace: str, stage: str, _: Breaker | None, after: Breaker | None
    ) -> None:
        self._telemetry.breaker_in_force(namespace, stage, after.state if after else None)


def _fold(known: Breaker, steps: Sequence[_Step]) -> tuple[Breaker, Sequence[Refused | None]]:
    """The breaker after all steps, in their order, and the answer to each."""
    answers: list[Refused | None] = []
    for step in steps:
        after = step(known)
        if isinstance(after, Refused):
            answers.append(after)
        else:
            known = after
            answers.append(None)
    return known, answers
