"""WorkflowResumeBreaker: the circuit breaker of one stage of one namespace, kept by the operator.

It is created on the first failure and written only when it changes; deleting it closes the circuit.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, Literal

import pydantic

from resumer.api import base

MAX_PROBES: Final = 100
"""How many probes of a half-open circuit status can hold."""

MAX_FAILURE_REASON: Final = 256
"""Characters of the last failure's reason."""


class BreakerState(enum.StrEnum):
    """The state of a circuit."""

    CLOSED = "Closed"
    """Attempts are made."""
    OPEN = "Open"
    """No attempt is made before `openUntilTime`."""
    HALF_OPEN = "HalfOpen"
    """A few attempts, each claimed as a probe, decide whether the circuit closes."""


class WorkflowResumeBreakerSpec(base.ApiModel):
    """Which stage the circuit belongs to. It never changes."""

    stage: Annotated[
        base.Text,
        pydantic.StringConstraints(max_length=63, pattern=rf"^({base.LABEL_VALUE[1:-1]})?$"),
    ] = ""


class Probe(base.ApiModel):
    """One attempt admitted by a half-open circuit."""

    holder: base.Text
    claimed_time: base.Moment


class BreakerStatus(base.ApiModel):
    """The state, and what led to it."""

    state: BreakerState = BreakerState.CLOSED
    consecutive_failures: Annotated[base.Integer, pydantic.Field(ge=0)] = 0
    opened_time: base.Moment | None = None
    open_until_time: base.Moment | None = None
    probes: tuple[Probe, ...] = ()
    last_failure_time: base.Moment | None = None
    last_failure_reason: base.Text | None = None
    last_transition_time: base.Moment | None = None


class WorkflowResumeBreaker(base.ApiModel):
    """The whole object."""

    api_version: Literal["argoproj.io/v1alpha1"] = "argoproj.io/v1alpha1"
    kind: Literal["WorkflowResumeBreaker"] = "WorkflowResumeBreaker"
    metadata: base.ObjectMeta
    spec: WorkflowResumeBreakerSpec
    status: BreakerStatus = pydantic.Field(default_factory=BreakerStatus)
