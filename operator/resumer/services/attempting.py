"""One attempt to write a resume: admitted by the breaker, sent, and what became of it.

A write whose fate is unknown is followed by a fresh look before anything is said about it. Only an
attempt uses up the retry budget, and only one that says something about the API server moves the
breaker.
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta

import structlog

from resumer import errors, ports
from resumer.api import base
from resumer.api.outcomes import Reason
from resumer.api.resume import MAX_ATTEMPT_MESSAGE, Attempt, WorkflowResume
from resumer.core import backoff, decision, orders, status, suspended
from resumer.core.checks import of_attempt
from resumer.core.observation import Decision, End, Facts, ResumeOrder
from resumer.core.policies import Stage
from resumer.services.confirming import Confirmer
from resumer.services.gathering import Gatherer
from resumer.services.guarding import Guard
from resumer.services.reporting import metric_stage
from resumer.services.workflowindex import WorkflowIndex

_log = structlog.get_logger(__name__)


class Attempter:
    """Acts on the decision to resume."""

    def __init__(
        self,
        outside: ports.Outside,
        index: WorkflowIndex,
        gatherer: Gatherer,
        guard: Guard,
        confirmer: Confirmer,
    ) -> None:
        self._out = outside
        self._index = index
        self._gatherer = gatherer
        self._guard = guard
        self._confirmer = confirmer
        self._broken_off: dict[str, tuple[Facts, datetime]] = {}
        """What attempts that were cancelled knew, and when they began, by the request's uid."""

    async def attempt(
        self, request: WorkflowResume, decided: Decision, order: ResumeOrder
    ) -> tuple[End, Attempt | None] | None:
        """Tries the write.

        Returns:
            What it came to, and the attempt to be recorded, if one was made. None if the workflow
            is not as the order expects and has to be looked at again.

        Raises:
            WithdrawnError: Nobody asks for it any more; nothing was written.
            ApiError: It could not be found out whether somebody does; no attempt was made.
            TransientError: The last attempt of the budget met a failure and it could not be found
                out whether it was carried out.
        """
        namespace = request.metadata.namespace
        stage, holder = decided.facts.stage, request.metadata.uid
        await self._confirmer.confirm(request)
        began = self._out.clock.now()
        refused = await self._guard.admit(namespace, stage, holder, began)
        if refused is not None:
            return of_attempt.held(stage, refused), None
        try:
            return await self._write(request, decided, order, began)
        except asyncio.CancelledError:
            self._broken_off[holder] = (decided.facts, began)
            raise

    async def after_cut(
        self, request: WorkflowResume, message: str
    ) -> tuple[Facts, End, Attempt] | None:
        """What a pass came to that was cut off in an attempt; None: it was not in one.

        The write may have been carried out. So it is never the end, even if it was the last attempt
        of the budget: the next pass looks first.

        Args:
            request: The request.
            message: Why it was cut off.
        """
        holder = request.metadata.uid
        broken_off = self._broken_off.pop(holder, None)
        if broken_off is None:
            return None
        facts, began = broken_off
        stage, now = facts.stage, self._out.clock.now()
        self._out.telemetry.attempted(metric_stage(facts), "Transient")
        await self._guard.failed(request.metadata.namespace, stage, holder, "Timeout", now)
        end = self._back_off(request, stage, now, _failed(request, stage, message))
        return facts, end, self._made(request, began, end)

    async def _write(
        self, request: WorkflowResume, decided: Decision, order: ResumeOrder, began: datetime
    ) -> tuple[End, Attempt | None] | None:
        namespace = request.metadata.namespace
        stage, holder = decided.facts.stage, request.metadata.uid
        try:
            await self._out.backend.resume(order)
        except (errors.PreconditionError, errors.NotFoundError) as error:
            _log.info(
                "workflow changed before the write", workflow=order.key.name, error=str(error)
            )
            self._out.telemetry.attempted(metric_stage(decided.facts), "Conflict")
            await self._guard.ignored(namespace, stage, holder)
            return None
        except errors.TransientError as error:
            if error.status == 429:
                return await self._after_turned_away(request, decided.facts, error)
            self._out.telemetry.attempted(metric_stage(decided.facts), "Transient")
            return await self._after_transient(request, decided.facts, error, began)
        except errors.PermanentError as error:
            self._out.telemetry.attempted(metric_stage(decided.facts), "Permanent")
            await self._guard.ignored(namespace, stage, holder)
            end = End(
                refusal(error), f"the write to workflow {order.key.name!r} was refused: {error}"
            )
            return end, self._made(request, began, end)
        self._out.telemetry.attempted(metric_stage(decided.facts), "Done")
        await self._guard.succeeded(namespace, stage, holder, self._out.clock.now())
        self._assume(decided.facts, order)
        end = of_attempt.done(
            order.key.name,
            decided.facts.gates,
            whole=not order.gates,
            failed=order.phase == suspended.FAILED,
        )
        return end, self._made(request, began, end)

    async def _after_transient(
        self,
        request: WorkflowResume,
        facts: Facts,
        error: errors.TransientError,
        began: datetime,
    ) -> tuple[End, Attempt | None]:
        """The write failed, or its answer was lost: look if it was done, else plan the next."""
        now, namespace = self._out.clock.now(), request.metadata.namespace
        stage, holder = facts.stage, request.metadata.uid
        last = _number(request) >= stage.retry.max_attempts
        unknown: errors.ApiError | None = None
        if error.sent:
            try:
                after = decision.decide(
                    await self._gatherer.observe(namespace, request, fresh=True), now
                )
            except errors.ApiError as unreadable:
                _log.info("fate of the write unknown", error=str(unreadable))
                unknown = unreadable
            else:
                if isinstance(after.what, End) and after.what.reason.outcome.written:
                    await self._guard.succeeded(namespace, stage, holder, now)
                    return after.what, self._made(request, began, after.what)
        await self._guard.failed(namespace, stage, holder, error.reason or str(error), now)
        if unknown is not None and last:
            # Giving up now could be untrue: the next pass begins with another look.
            raise error from unknown
        what = _failed(request, stage, str(error))
        if last:
            end = End(Reason.RETRIES_EXHAUSTED, what)
        else:
            end = self._back_off(request, stage, now, what, asked=error.retry_after)
        return end, self._made(request, began, end)

    async def _after_turned_away(
        self, request: WorkflowResume, facts: Facts, error: errors.TransientError
    ) -> tuple[End, None]:
        """The API server has too much to do (429): the write was not begun, and is no attempt."""
        stage = facts.stage
        self._out.telemetry.attempted(metric_stage(facts), "RateLimited")
        await self._guard.ignored(request.metadata.namespace, stage, request.metadata.uid)
        now, what = self._out.clock.now(), f"no attempt was made: {error}"
        end = self._back_off(request, stage, now, what, asked=error.retry_after)
        return dataclasses.replace(end, reason=Reason.RATE_LIMITED), None

    def _back_off(
        self,
        request: WorkflowResume,
        stage: Stage,
        now: datetime,
        message: str,
        *,
        asked: float | None = None,
    ) -> End:
        """The end of a pass that has to be made again, after the wait of the stage's strategy.

        Args:
            request: The request.
            stage: Its stage.
            now: From when the wait runs.
            message: What happened.
            asked: The seconds of patience that the API server asked for. They are not the policy's
                to shorten.
        """
        wait = backoff.delay(stage.retry, _number(request), None, self._out.clock.random())
        longer = asked is not None and asked > wait
        return End(
            Reason.RATE_LIMITED if longer else Reason.API_UNAVAILABLE,
            message,
            until=now + timedelta(seconds=max(wait, asked or 0.0)),
        )

    def _made(self, request: WorkflowResume, began: datetime, end: End) -> Attempt:
        return Attempt(
            number=_number(request),
            start_time=began,
            end_time=self._out.clock.now(),
            outcome=end.reason.outcome,
            reason=str(end.reason),
            message=base.truncate(end.message, MAX_ATTEMPT_MESSAGE),
        )

    def _assume(self, facts: Facts, order: ResumeOrder) -> None:
        """Lets other requests see at once what the watch will show in a moment."""
        if facts.workflow is not None:
            view = orders.applied(facts.workflow, order)
            self._index.assume(view, self._out.clock.now())


def _number(request: WorkflowResume) -> int:
    """The number of the attempt that is under way: 1 for the first one."""
    return status.attempts_made(request.status) + 1


def _failed(request: WorkflowResume, stage: Stage, why: str) -> str:
    return f"attempt {_number(request)} of {stage.retry.max_attempts} failed: {why}"


def refusal(error: errors.PermanentError) -> Reason:
    """Why the API server will not have it, now and later."""
    return Reason.FORBIDDEN if error.status in (401, 403) else Reason.API_REFUSED
