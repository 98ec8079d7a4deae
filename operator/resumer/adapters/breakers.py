"""The circuit breakers as objects: one WorkflowResumeBreaker for each namespace and stage.

Compare-and-swap is the API server's: a write carries the resourceVersion that was read, and a
breaker that is not stored yet is created, which only one can.

People may edit these objects. One that nobody can read counts as closed, which is what deleting it
would make of it, and the next write mends it; one whose name is not that of its stage is nobody's.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import structlog

from resumer import errors, names, ports
from resumer.adapters import kube
from resumer.api import base, constants
from resumer.api import breaker as breaker_api
from resumer.core import breaker as breakers

_PLAIN = re.compile(names.DNS_SUBDOMAIN)
_HASHED = re.compile(r".*-[0-9a-f]{8}")
_UNFIT = re.compile(r"[^a-z0-9]+")
_NO_STAGE = "no-stage"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a WorkflowResumeBreaker says."""

    stage: str
    breaker: breakers.Breaker
    version: str
    problem: str = ""
    """Why its status cannot be read and the breaker is a closed one, in words for a person."""


class KubeBreakers:
    """Implements `resumer.ports.Breakers` on the Kubernetes API."""

    def __init__(self, client: kube.KubeClient) -> None:
        """Reads nothing yet."""
        self._client = client

    async def read(self, namespace: str, stage: str) -> tuple[breakers.Breaker, str]:
        """The breaker and the version to compare with; a closed one and "" where none is stored.

        Raises:
            TransientError: No answer, or one that may be better later.
            PermanentError: Refused, or the object of that name says that it is another stage's.
        """
        try:
            body = await self._client.get(_path(namespace, object_name(stage)))
        except errors.NotFoundError:
            return breakers.Breaker(), ""
        stored = _of_stage(stage, body)
        if stored.problem:
            _log.warning(
                "breaker cannot be read and counts as closed",
                namespace=namespace,
                stage=stage,
                problem=stored.problem,
            )
        return stored.breaker, stored.version

    async def write(
        self, namespace: str, stage: str, breaker: breakers.Breaker, version: str
    ) -> str:
        """Stores the breaker if its version is still the given one, and returns the new version.

        Raises:
            PreconditionError: Somebody else wrote, created or deleted it: read again.
            NotFoundError: The namespace is gone.
            TransientError: It may have been stored, unless `sent` is False.
            PermanentError: Refused, now and later.
        """
        name = object_name(stage)
        if not version:
            created = await self._client.create(
                _path(namespace),
                {
                    "apiVersion": constants.API_VERSION,
                    "kind": constants.BREAKER_KIND,
                    "metadata": {"name": name},
                    "spec": {"stage": stage},
                },
                accept=kube.Accept.METADATA,
            )
            version = _version(created)
        patch = {"metadata": {"resourceVersion": version}, "status": _status(breaker)}
        try:
            stored = await self._client.patch(
                _path(namespace, name, "status"),
                patch,
                kube.PatchType.MERGE,
                accept=kube.Accept.METADATA,
            )
        except errors.NotFoundError as error:
            raise errors.PreconditionError(
                f"the circuit breaker {namespace}/{name} was deleted",
                status=error.status,
                reason=error.reason,
            ) from error
        return _version(stored)


def parse(body: ports.Body) -> Stored:
    """What a WorkflowResumeBreaker says; one that cannot be read is closed.

    Raises:
        InvalidError: It is not the object of its stage: the operator never made it.
    """
    metadata = body["metadata"]
    version, stage = str(metadata["resourceVersion"]), _stage(body)
    if metadata["name"] != object_name(stage):
        raise errors.InvalidError(
            "metadata.name",
            f"the breaker {metadata['name']!r} is not used: that of stage {stage!r} has the name"
            f" {object_name(stage)!r}",
        )
    try:
        status = breaker_api.WorkflowResumeBreaker.from_json(body).status
    except errors.InvalidError as error:
        return Stored(stage, breakers.Breaker(), version, problem=str(error))
    breaker = breakers.Breaker(
        state=status.state,
        consecutive_failures=status.consecutive_failures,
        opened_at=status.opened_time,
        open_until=status.open_until_time,
        probes=tuple(breakers.Probe(probe.holder, probe.claimed_time) for probe in status.probes),
        last_failure_at=status.last_failure_time,
        last_failure_reason=status.last_failure_reason or "",
        last_transition_at=status.last_transition_time,
    )
    return Stored(stage, breaker, version)


def _of_stage(stage: str, body: ports.Body) -> Stored:
    """What the object of a stage's name says, if it is that stage's at all."""
    try:
        return parse(body)
    except errors.InvalidError as error:
        raise errors.PermanentError(
            f"the breaker of stage {stage!r} cannot be stored before the object in its place is"
            f" deleted: {error}",
            reason="OtherStage",
        ) from error


def _stage(body: ports.Body) -> str:
    spec = body.get("spec")
    stage = spec.get("stage") if isinstance(spec, dict) else None
    return stage if isinstance(stage, str) else ""


def object_name(stage: str) -> str:
    """The name of the object of a stage: the stage itself where it can be a name.

    Else, and where the stage looks as if it ended in a hash, a readable rest of it with a hash of
    the whole: no two stages share an object.
    """
    if _PLAIN.fullmatch(stage) and not _HASHED.fullmatch(stage):
        return stage
    readable = _UNFIT.sub("-", stage.lower()).strip("-") or _NO_STAGE
    return f"{readable}-{hashlib.sha256(stage.encode()).hexdigest()[:8]}"


def _status(breaker: breakers.Breaker) -> dict[str, Any]:
    """All fields: a null removes one, as a merge patch would keep what is left out."""
    status = breaker_api.BreakerStatus(
        state=breaker.state,
        consecutive_failures=breaker.consecutive_failures,
        opened_time=breaker.opened_at,
        open_until_time=breaker.open_until,
        probes=tuple(
            breaker_api.Probe(holder=probe.holder, claimed_time=probe.claimed_at)
            for probe in breaker.probes
        ),
        last_failure_time=breaker.last_failure_at,
        last_failure_reason=base.truncate(
            breaker.last_failure_reason, breaker_api.MAX_FAILURE_REASON
        )
        or None,
        last_transition_time=breaker.last_transition_at,
    )
    return status.model_dump(mode="json", by_alias=True)


def _version(body: ports.Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def _path(namespace: str, name: str = "", subresource: str = "") -> kube.Path:
    return kube.path(constants.API_VERSION, constants.BREAKER_PLURAL, namespace, name, subresource)
