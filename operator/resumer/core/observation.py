"""What a decision may see, and what it can be. All frozen; nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from resumer.api.outcomes import Reason
from resumer.api.resume import WorkflowResume
from resumer.core.breaker import Breaker
from resumer.core.gates import Fill
from resumer.core.keys import Key
from resumer.core.markers import Marker
from resumer.core.policies import BUILT_IN, Policy, Stage
from resumer.core.rules import Check
from resumer.core.suspended import Gate
from resumer.core.workflows import NodeStorage, WorkflowView


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything gathered for one look at one request."""

    request: WorkflowResume
    policies: tuple[Policy, ...]
    """The policies of the namespace, also those that say by their problem that they cannot be
    used."""
    workflows: tuple[WorkflowView, ...]
    """Those that may match: the live ones from the watch, the finished ones too from a read."""
    fresh: bool = False
    """True if the workflows were read from the API server for this very look."""
    bodies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By uid, the whole Workflows; only after a fresh read."""
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    """By stage, the breakers of the namespace that are not closed and empty."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out on the way, whatever the decision: it becomes the status."""

    policy: Policy
    stage: Stage
    also_matching: tuple[str, ...] = ()
    """The names of policies that match the workflow as well, and did not win."""
    workflow: WorkflowView | None = None
    """None: which one is meant is not known."""
    gates: tuple[Gate, ...] = ()
    checks: tuple[Check, ...] = ()
    validated: bool = False
    """Whether all checks passed; if not, the outcome says whether one has failed."""
    resumed_by: str = ""
    """Who opened the gate, where somebody did."""
    deadline: datetime | None = None
    """Until when an early event waits."""
    superseded: tuple[WorkflowView, ...] = ()
    """Older workflows of the task, to be terminated once the newest is resumed (ambiguity
    ``NewestCancelOthers``)."""


NOTHING = Facts(BUILT_IN, BUILT_IN.fallback)
"""What is known of a request that could not even be begun with."""


@dataclass(frozen=True, slots=True)
class GateOrder:
    """One gate to open."""

    id: str
    started_at: str
    display_name: str
    message: str
    """The node's new message."""
    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True)
class ResumeOrder:
    """The one write that resumes: what must hold, and what is changed."""

    key: Key
    uid: str
    storage: NodeStorage
    gates: tuple[GateOrder, ...]
    phase: str
    """What the gates become: Succeeded, or Failed where the event fails them."""
    lift_suspend: bool
    """Also, or only, remove ``spec.suspend``."""
    shutdown: str | None
    """The ``spec.shutdown`` that must still be there; None: none."""
    labels: Mapping[str, str]
    stale_labels: tuple[str, ...]
    """Labels of an earlier actor, to be removed."""
    marker_key: str
    marker: Marker
    finished_at: str
    has_annotations: bool
    has_labels: bool
    has_outputs: bool
    exported: tuple[str, ...] | None
    """As in the view: where exported values have to go."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Open the gates, or fail them where the event means that."""

    order: ResumeOrder


@dataclass(frozen=True, slots=True)
class End:
    """Record this reason; its outcome says whether for good."""

    reason: Reason
    message: str
    until: datetime | None = None
    """When to look again at the latest, where the reason is not for good."""


@dataclass(frozen=True, slots=True)
class Look:
    """The watch's view is not enough to decide: read the workflows and decide again."""

    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what was found out."""

    what: Resume | End | Look
    facts: Facts
