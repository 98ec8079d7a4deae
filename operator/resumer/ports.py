"""What services need from the outside, as small Protocols; adapters and telemetry implement them.

Every method that talks to the API server raises the classes of `resumer.errors` and nothing else.
The write that resumes stands alone behind `ResumeBackend`, so that another way to resume (an Argo
Server, Argo's proposed WorkflowAction kind) is a second implementation and not a change of the
services.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from resumer.api.base import ObjectMeta
from resumer.core.breaker import Breaker
from resumer.core.keys import Key
from resumer.core.leadership import Record
from resumer.core.observation import End, Facts, ResumeOrder

Body = Mapping[str, Any]
"""A Kubernetes object as plain JSON; never modified by who receives it."""


class Clock(Protocol):
    """Time and chance, so that everything that depends on them is repeatable in a test."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps; only differences mean something."""

    def random(self) -> float:
        """A number in [0, 1)."""


class WorkflowReader(Protocol):
    """Reading Workflows."""

    async def read(self, key: Key) -> Body | None:
        """The Workflow as it is now, or None where there is none."""

    def find(
        self, namespace: str, label: str, value: str, *, live: bool = False
    ) -> AsyncGenerator[Sequence[Body], None]:
        """The Workflows of a namespace with this label, page by page.

        Args:
            namespace: The namespace.
            label: The label's key.
            value: The label's value.
            live: Leave out the finished ones.
        """


class Workflows(WorkflowReader, Protocol):
    """Reading Workflows, and stopping a superseded one."""

    async def terminate(self, key: Key, uid: str) -> None:
        """Sets ``spec.shutdown: Terminate`` on exactly this Workflow (seed 000, scenario 2)."""


class ResumeBackend(Protocol):
    """The one write to a Workflow that resumes it."""

    async def resume(self, order: ResumeOrder) -> None:
        """Opens exactly the gates of the order, atomically, or nothing.

        Raises:
            PreconditionError: The Workflow is no longer as the order expects; nothing was written.
            NotFoundError: There is no such Workflow any more.
            TransientError: The write may or may not have been carried out; read to know.
            PermanentError: The API server refuses the write, now and later.
        """


class Requests(Protocol):
    """Writing to WorkflowResume objects."""

    async def write_status(
        self, key: Key, uid: str, before: str | None, status: Mapping[str, Any]
    ) -> Body:
        """Replaces the whole status of exactly this WorkflowResume and returns the new object.

        Args:
            key: The object.
            uid: Its uid.
            before: The outcome that its status must still have; None: it must have none yet.
            status: The status as it shall be.

        Raises:
            NotFoundError: The object is gone.
            PreconditionError: It was recreated, or somebody else decided on it meanwhile.
        """

    async def delete(self, key: Key, uid: str, resource_version: str) -> None:
        """Deletes exactly this version of this WorkflowResume; gone already is success."""

    def finished(self) -> AsyncIterator[Body]:
        """All WorkflowResumes with a terminal outcome, page by page, in all watched namespaces."""


class Policies(Protocol):
    """Writing to WorkflowResumePolicy objects."""

    async def write_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> Body:
        """Replaces the whole status of exactly this policy and returns the new object."""


class Breakers(Protocol):
    """The persisted circuit breakers, one object per namespace and stage."""

    async def read(self, namespace: str, stage: str) -> tuple[Breaker, str]:
        """The breaker and its version to compare with; closed and ``""`` where none is stored.

        One into which somebody wrote what nobody can read counts as closed: the next write mends
        it.

        Raises:
            PermanentError: Something is in its place that is not this stage's breaker.
        """

    async def write(self, namespace: str, stage: str, breaker: Breaker, version: str) -> str:
        """Stores the breaker if its version is still the given one, and returns the new version.

        Raises:
            PreconditionError: Somebody else wrote it first: read again.
        """


class Leases(Protocol):
    """The one record that says who leads."""

    async def read(self) -> Record | None:
        """The record as it is now, or None where there is none."""

    async def write(self, record: Record) -> Record:
        """Stores the record if its version is still the given one; "" creates it.

        Returns:
            The record as it is stored, with its new version.

        Raises:
            PreconditionError: Somebody else wrote, created or deleted it: read again.
        """


class Reader(Protocol):
    """Reading our own kinds once, where no watch tells of them, or not all."""

    async def request(self, key: Key) -> Body | None:
        """The WorkflowResume as it is now, or None where there is none."""

    async def policies(self, namespace: str) -> Sequence[Body]:
        """The policies of a namespace, or with ``""`` of all."""

    async def breakers(self, namespace: str) -> Sequence[tuple[str, str, Breaker, str]]:
        """The stored breakers of a namespace, or with ``""`` of all.

        Returns:
            Namespace, stage, breaker, version; one that nobody can read is left out.
        """


class Events(Protocol):
    """Kubernetes Events: best effort, never waited for, never the record of truth."""

    def publish(self, regarding: Body, *, warning: bool, reason: str, message: str) -> None:
        """Queues an Event about an object; under a flood it is dropped and counted."""


class Telemetry(Protocol):
    """What is measured. Stage names are those of policies, or ``other``: no user's free text."""

    def decided(self, stage: str, outcome: str, reason: str) -> None:
        """A WorkflowResume got a new outcome or a new reason."""

    def attempted(self, stage: str, result: str) -> None:
        """A write to a Workflow ended.

        Args:
            stage: Of the request.
            result: ``Done``, ``Conflict``, ``Transient``, ``RateLimited`` or ``Permanent``.
        """

    def resumed(self, stage: str, since_created: float, since_open: float) -> None:
        """A gate was opened, so many seconds after the request came and after the gate began."""

    def breaker_changed(self, namespace: str, stage: str, before: str, after: str) -> None:
        """This process brought a circuit breaker from one state to another."""

    def breaker_in_force(self, namespace: str, stage: str, state: str | None) -> None:
        """A circuit breaker is in this state, whoever brought it there; None: it was deleted."""

    def queue_changed(self, ready: int, delayed: int, running: int) -> None:
        """The reconcile queue's depth."""

    def reconciled(self, seconds: float, error: str) -> None:
        """One pass over a WorkflowResume took so long; ``error`` is the class raised, or ``""``."""


class Tracing(Protocol):
    """The trace of each WorkflowResume, where traces are switched on."""

    def reconcile(
        self, metadata: ObjectMeta, created: datetime | None, *, first: bool
    ) -> AbstractContextManager[Mapping[str, str]]:
        """One pass over a WorkflowResume; what happens inside of it becomes a part of its trace.

        Args:
            metadata: Of the WorkflowResume.
            created: When it was created, as finely as it is known.
            first: Whether none has ended with a status yet, so that the way to it is told as well.

        Returns:
            Enters to what log lines of the pass carry: the ids of the trace and of the pass.
        """

    def found(self, facts: Facts, end: End) -> None:
        """What the pass under way came to, whether that is news or not."""

    def ended(self) -> None:
        """That was the last one, and it is recorded: the trace is complete."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The ports that one pass over a request uses."""

    workflows: Workflows
    backend: ResumeBackend
    requests: Requests
    reader: Reader
    clock: Clock
    telemetry: Telemetry
    tracing: Tracing
