"""One pass over one WorkflowResume: gather, decide, act, record. The only writer of its status.

    gather   what the watches know, or after a `Look` what the API server says now   -> Observation
    decide   core.decision.decide                                          -> Resume | End | Look
    act      one conflict-checked write to the Workflow, guarded by the breaker       -> an End
    record   one patch of the status, if anything changed; Event, metrics, log line

What keeps it exactly once: the write tests that the gate is still the one that was decided on, and
carries our uid. A write whose fate is unknown, and a write that was refused by a test, are both
followed by a fresh look, which finds our own trace, somebody else's, or an open gate. Killed
anywhere, the next pass finds the same.

An attempt is a write to the Workflow: only that uses up the retry budget and moves the breaker. A
read or a status write that fails raises, and the queue brings the key back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from resumer import errors, ports
from resumer.api.outcomes import Outcome, Reason
from resumer.api.resume import Attempt, ResumeStatus, WorkflowResume
from resumer.core import backoff, checks, decision, events, orders, policies, status, workflows
from resumer.core.keys import Key
from resumer.core.observation import (
    NOTHING,
    Decision,
    End,
    Facts,
    Look,
    Observation,
    Resume,
    ResumeOrder,
)
from resumer.services.guarding import Guard
from resumer.services.reporting import Origin, Reporter, metric_stage
from resumer.services.stores import (
    BreakerStore,
    PolicyStore,
    RequestStore,
    Unreadable,
    WorkflowIndex,
)

_ROUNDS = 6
"""Looks in one pass: a workflow's state can change between look and write, but not for ever."""
_CONFLICT_DELAY = 0.2
"""Seconds until the next pass when all rounds met a change."""
_FLICKER = 1.0
"""Seconds for which a new reason for waiting has to hold before it is told."""
_MAX_DEFECTS = 5
"""Passes that may meet a defect of ours before the request is given up."""
_HALF_OPEN_SPREAD = 1.0
"""Seconds over which requests held by a breaker come back."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """What is known from the watches."""

    requests: RequestStore
    workflows: WorkflowIndex
    policies: PolicyStore
    breakers: BreakerStore


@dataclass(frozen=True, slots=True)
class Outside:
    """What a pass does outside."""

    workflows: ports.Workflows
    backend: ports.ResumeBackend
    requests: ports.Requests
    clock: ports.Clock
    telemetry: ports.Telemetry


@dataclass(frozen=True, slots=True)
class _Ended:
    """What a pass came to."""

    request: WorkflowResume
    """As it was before."""
    facts: Facts
    end: End
    status: ResumeStatus
    """As it shall be."""


class Reconciler:
    """Brings WorkflowResumes to their outcome."""

    def __init__(self, stores: Stores, outside: Outside, guard: Guard, reporter: Reporter) -> None:
        self._stores = stores
        self._out = outside
        self._guard = guard
        self._reporter = reporter
        self._defects: Counter[Key] = Counter()
        """Passes in a row that met a defect of ours."""
        self._untold: dict[Key, _Ended] = {}
        """What attempts came to whose status could not be written: it goes before all else."""
        self._seen_waiting: dict[Key, tuple[Reason, float]] = {}
        """Reasons for waiting that are not told yet, and since when, see `_flickers`."""

    async def reconcile(self, key: Key) -> float | None:
        """One pass.

        Returns:
            In how many seconds to look again at the latest, or None if only a change can bring
            news.

        Raises:
            ApiError: A read or the status write failed; nothing is lost, the pass has to be made
                again.
        """
        request = self._stores.requests.get(key)
        if request is None:
            self._untold.pop(key, None)
            return None
        if isinstance(request, Unreadable):
            await self._refuse(key, request)
            return None
        delivery = events.delivery_id(request.spec.correlation_data.github_event)
        ids = {"delivery_id": delivery} if delivery else {}
        with structlog.contextvars.bound_contextvars(
            correlation_id=request.metadata.uid,
            namespace=key.namespace,
            workflowresume=key.name,
            **ids,
        ):
            try:
                ended = await self._pass(key, request)
            except errors.ApiError:
                raise
            except Exception as defect:  # noqa: BLE001 - whatever it is, it must not stop the others
                ended = await self._after_defect(key, request, defect)
        self._defects.pop(key, None)
        return ended

    async def _pass(self, key: Key, request: WorkflowResume) -> float | None:
        untold = self._untold.pop(key, None)
        if untold is not None and _same_state(untold.request, request):
            return await self._tell(key, untold, attempted=True)
        # After a failed attempt its fate may be unknown: only a fresh look tells.
        fresh = status.attempts_made(request.status) > 0
        for _ in range(_ROUNDS):
            try:
                seen = await self._gather(key, request, fresh=fresh)
            except errors.PermanentError as error:
                end = End(_refusal(error), f"cannot read workflows: {error}")
                return await self._record(key, request, NOTHING, end)
            now = self._out.clock.now()
            decided = decision.decide(seen, now)
            match decided.what:
                case Look() as look:
                    if fresh:
                        raise errors.TransientError(
                            f"a fresh look was not enough: {look.why}", reason="Look"
                        )
                    fresh = True
                case End() as end:
                    delay = await self._record(key, request, decided.facts, end)
                    if end.reason.outcome.terminal:
                        # A life of the operator that ended may have left the claim of a probe.
                        stage, holder = decided.facts.stage, request.metadata.uid
                        await self._guard.ignored(key.namespace, stage, holder)
                    return delay
                case Resume(order):
                    ended = await self._attempt(key, request, decided, order)
                    if ended is not None:
                        return await self._record(key, request, decided.facts, *ended)
                    fresh = True
        _log.info("workflow keeps changing")
        return _CONFLICT_DELAY * (1 + self._out.clock.random())

    async def _gather(self, key: Key, request: WorkflowResume, *, fresh: bool) -> Observation:
        known = self._stores.policies.of(key.namespace)
        breakers = self._stores.breakers.of(key.namespace)
        if not fresh:
            found = self._stores.workflows.matching(
                key.namespace,
                name=request.spec.workflow_name,
                task=request.spec.correlation_data.task_id,
            )
            return Observation(request, known, found, breakers=breakers)
        bodies = await self._read(key.namespace, request, known)
        views = tuple(workflows.view(body, unpack=True) for body in bodies)
        by_uid = {view.uid: body for view, body in zip(views, bodies, strict=True)}
        return Observation(request, known, views, fresh=True, bodies=by_uid, breakers=breakers)

    async def _read(
        self, namespace: str, request: WorkflowResume, known: Sequence[policies.Policy]
    ) -> Sequence[ports.Body]:
        """The workflows that the request can mean, as they are now: a call per task label."""
        if request.spec.workflow_name:
            body = await self._out.workflows.read(Key(namespace, request.spec.workflow_name))
            return [body] if body is not None else []
        labels = {policy.task_label for policy in (*known, policies.BUILT_IN)}
        if request.spec.policy_name:
            labels = {
                policy.task_label for policy in known if policy.name == request.spec.policy_name
            }
        found = {}
        for label in sorted(labels):
            for body in await self._out.workflows.find(
                namespace, label, request.spec.correlation_data.task_id
            ):
                found[body["metadata"]["name"]] = body
        return list(found.values())

    async def _attempt(
        self, key: Key, request: WorkflowResume, decided: Decision, order: ResumeOrder
    ) -> tuple[End, Attempt | None] | None:
        """Tries the write; None if the workflow is not as expected and needs another look."""
        stage, holder = decided.facts.stage, request.metadata.uid
        began = self._out.clock.now()
        refused = await self._guard.admit(key.namespace, stage, holder, began)
        if refused is not None:
            return checks.held(stage, refused), None
        try:
            for older in order.superseded:
                await self._out.workflows.terminate(older.key, older.uid)
                self._reporter.superseded(request, older, by=order.key.name)
            await self._out.backend.resume(order)
        except (errors.PreconditionError, errors.NotFoundError) as error:
            _log.info(
                "workflow changed before the write", workflow=order.key.name, error=str(error)
            )
            self._out.telemetry.attempted(metric_stage(decided.facts), "Conflict")
            await self._guard.ignored(key.namespace, stage, holder)
            return None
        except errors.TransientError as error:
            self._out.telemetry.attempted(metric_stage(decided.facts), "Transient")
            return await self._after_transient(key, request, decided.facts, error, began)
        except errors.PermanentError as error:
            self._out.telemetry.attempted(metric_stage(decided.facts), "Permanent")
            await self._guard.ignored(key.namespace, stage, holder)
            end = End(
                _refusal(error), f"the write to workflow {order.key.name!r} was refused: {error}"
            )
            return end, self._made(request, began, end)
        self._out.telemetry.attempted(metric_stage(decided.facts), "Done")
        await self._guard.succeeded(key.namespace, stage, holder, self._out.clock.now())
        self._assume(decided.facts, order)
        reason = Reason.GATE_OPENED if order.gates else Reason.WORKFLOW_UNSUSPENDED
        message = checks.opened_message(order.key.name, decided.facts.gates, whole=not order.gates)
        if order.superseded:
            message += (
                f"; terminated the older {checks.names(v.key.name for v in order.superseded)}"
            )
        return (end := End(reason, message)), self._made(request, began, end)

    async def _after_transient(
        self,
        key: Key,
        request: WorkflowResume,
        facts: Facts,
        error: errors.TransientError,
        began: datetime,
    ) -> tuple[End, Attempt | None]:
        """The write failed, or its answer was lost: look if it was done, else plan the next."""
        now = self._out.clock.now()
        stage, holder = facts.stage, request.metadata.uid
        last = status.attempts_made(request.status) + 1 >= stage.retry.max_attempts
        unknown: errors.ApiError | None = None
        if error.sent:
            try:
                after = decision.decide(await self._gather(key, request, fresh=True), now)
            except errors.ApiError as unreadable:
                _log.info("fate of the write unknown", error=str(unreadable))
                unknown = unreadable
            else:
                if isinstance(after.what, End) and after.what.reason.outcome is Outcome.RESUMED:
                    await self._guard.succeeded(key.namespace, stage, holder, now)
                    return after.what, self._made(request, began, after.what)
        rate_limited = error.status == 429
        if rate_limited:
            await self._guard.ignored(key.namespace, stage, holder)
        else:
            await self._guard.failed(key.namespace, stage, holder, error.reason or str(error), now)
        if unknown is not None and last:
            # Giving up now could be untrue: the next pass begins with another look.
            raise error from unknown
        count = status.attempts_made(request.status) + 1
        what = f"attempt {count} of {stage.retry.max_attempts} failed: {error}"
        if last:
            end = End(Reason.RETRIES_EXHAUSTED, what)
            return end, self._made(request, began, end)
        wait = backoff.delay(stage.retry, count, None, self._out.clock.random())
        due = now + timedelta(seconds=max(wait, error.retry_after or 0.0))
        reason = Reason.RATE_LIMITED if rate_limited else Reason.API_UNAVAILABLE
        end = End(reason, what, until=due)
        return end, self._made(request, began, end)

    def _made(self, request: WorkflowResume, began: datetime, end: End) -> Attempt:
        return Attempt(
            number=status.attempts_made(request.status) + 1,
            start_time=began,
            end_time=self._out.clock.now(),
            outcome=end.reason.outcome,
            reason=str(end.reason),
            message=end.message[:512],
        )

    def _assume(self, facts: Facts, order: ResumeOrder) -> None:
        """Lets other requests see at once what the watch will show in a moment."""
        if facts.workflow is not None:
            view = orders.applied(facts.workflow, order)
            self._stores.workflows.assume(view, self._out.clock.now())

    async def _record(
        self,
        key: Key,
        request: WorkflowResume,
        facts: Facts,
        end: End,
        attempt: Attempt | None = None,
    ) -> float | None:
        now = self._out.clock.now()
        untold = self._flickers(key, request, end)
        if untold:
            return untold
        composed = status.compose(
            request.metadata, request.status, end, now, facts=facts, attempt=attempt
        )
        if composed == request.status:
            return self._next_look(key, end, now)
        ended = _Ended(request, facts, end, composed)
        return await self._tell(key, ended, attempted=attempt is not None)

    async def _tell(self, key: Key, ended: _Ended, *, attempted: bool) -> float | None:
        """Writes the status; one that tells of an attempt is kept until it could be written."""
        request, end, now = ended.request, ended.end, self._out.clock.now()
        # Before the write: with it the watch may forget both.
        origin = self._origin(request, ended.facts)
        try:
            body = await self._write(
                key, request.metadata.uid, request.status.outcome, ended.status
            )
        except errors.NotFoundError:
            self._stores.requests.finish(key)
            return None
        except errors.PreconditionError:
            _log.info("decided by somebody else meanwhile")
            return _CONFLICT_DELAY
        except errors.ApiError:
            if attempted:
                self._untold[key] = ended
            raise
        self._reporter.decided(request, ended.facts, end, now, origin)
        if not end.reason.outcome.terminal:
            self._stores.requests.put(body, now)
        return self._next_look(key, end, now)

    def _next_look(self, key: Key, end: End, now: datetime) -> float | None:
        if end.reason.outcome.terminal:
            self._stores.requests.finish(key)
            return None
        if end.until is None:
            return None
        spread = (
            _HALF_OPEN_SPREAD * self._out.clock.random()
            if end.reason is Reason.BREAKER_OPEN
            else 0.0
        )
        return max(0.0, (end.until - now).total_seconds()) + spread

    def _origin(self, request: WorkflowResume, facts: Facts) -> Origin:
        workflow, index = facts.workflow, self._stores.workflows
        found = [index.opened(workflow, gate) for gate in facts.gates] if workflow else []
        return Origin(
            created=self._stores.requests.created(request),
            opened=max((moment for moment in found if moment), default=None),
        )

    async def _write(
        self, key: Key, uid: str, before: Outcome | None, after: ResumeStatus
    ) -> ports.Body:
        told = str(before) if before else None
        return await self._out.requests.write_status(key, uid, told, after.to_json())

    def _flickers(self, key: Key, request: WorkflowResume, end: End) -> float:
        """For how many more seconds a new reason for waiting is not told; 0 if it is to be told.

        On its way to the gate a workflow passes several such reasons within milliseconds. Telling
        them would cost a write each, and delay the one that counts.
        """
        waits = request.status.outcome is end.reason.outcome is Outcome.WAITING
        if not waits or request.status.reason == end.reason:
            self._seen_waiting.pop(key, None)
            return 0.0
        now = self._out.clock.monotonic()
        reason, since = self._seen_waiting.get(key, (None, now))
        if reason is not end.reason:
            since = now
        left = since + _FLICKER - now
        if left > 0:
            self._seen_waiting[key] = (end.reason, since)
            return left
        del self._seen_waiting[key]
        return 0.0

    async def _after_defect(
        self, key: Key, request: WorkflowResume, defect: Exception
    ) -> float | None:
        """A pass met a defect of ours: some more tries, then an end that says so."""
        self._defects[key] += 1
        if self._defects[key] < _MAX_DEFECTS:
            raise defect
        _log.exception("giving up after a defect")
        end = End(Reason.INTERNAL_ERROR, f"a defect in the operator: {type(defect).__name__}")
        return await self._record(key, request, NOTHING, end)

    async def _refuse(self, key: Key, request: Unreadable) -> None:
        """Records that an object is not what its schema says, as an older or edited CRD allows."""
        end = End(Reason.INVALID_OBJECT, request.problem)
        composed = status.compose(
            request.metadata, status.EMPTY, end, self._out.clock.now(), facts=NOTHING
        )
        try:
            await self._out.requests.write_status(
                key, request.metadata.uid, request.outcome, composed.to_json()
            )
        except (errors.NotFoundError, errors.PreconditionError):
            _log.debug("invalid object is gone", namespace=key.namespace, workflowresume=key.name)
        self._stores.requests.finish(key)
        self._reporter.refused(end.reason)


def _same_state(one: WorkflowResume, other: WorkflowResume) -> bool:
    return one.metadata.uid == other.metadata.uid and one.status == other.status


def _refusal(error: errors.PermanentError) -> Reason:
    return Reason.FORBIDDEN if error.status in (401, 403) else Reason.API_REFUSED
