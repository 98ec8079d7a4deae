"""What is known at one point of the decision chain, and how the chain stops there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from resumer.api.outcomes import Reason
from resumer.api.resume import WorkflowResumeSpec
from resumer.core import policies, selectors
from resumer.core.correlation import Candidate
from resumer.core.extraction import Extraction
from resumer.core.gates import Fill
from resumer.core.observation import End, Facts, Look, Observation
from resumer.core.patterns import Effort
from resumer.core.policies import Policy, Stage
from resumer.core.rules import Check
from resumer.core.suspended import Gate
from resumer.core.workflows import WorkflowView

_NO_LABELS = selectors.LabelSelector()


@dataclass(frozen=True, slots=True)
class Case:
    """One request in the middle of its decision; every check that passes adds to it."""

    seen: Observation
    now: datetime
    policy: Policy = policies.BUILT_IN
    stage: Stage = policies.BUILT_IN.fallback
    label_selector: selectors.LabelSelector = _NO_LABELS
    node_selector: selectors.NodeFieldSelector | None = None
    sender: str | None = None
    judged: Extraction | None = None
    """The rules by which the event was found to agree with the request."""
    candidate: Candidate | None = None
    superseded: tuple[WorkflowView, ...] = ()
    gates: tuple[Gate, ...] = ()
    fills: tuple[tuple[Fill, ...], ...] = ()
    """One item for each gate."""
    lift_suspend: bool = False
    checks: tuple[Check, ...] = ()
    effort: Effort = field(default_factory=Effort)
    """What is left for the patterns of all rules; it is used up as they are tried."""
    validated: bool = False
    """True once every check on event, workflow and rules has passed."""
    resumed_by: str = ""
    from_watch: bool = False
    """True once something was concluded from workflows as the watch showed them."""

    @property
    def spec(self) -> WorkflowResumeSpec:
        """What the request asks for."""
        return self.seen.request.spec

    @property
    def fails(self) -> bool:
        """Whether the event fails the gate instead of opening it."""
        return self.spec.correlation_data.event_type in self.stage.fail_on

    @property
    def workflow(self) -> WorkflowView:
        """The one workflow.

        Raises:
            LookupError: It is asked for before correlation, which would be a defect of the chain.
        """
        if self.candidate is None:
            raise LookupError("no workflow is known at this point of the chain")
        return self.candidate.workflow

    @property
    def deadline(self) -> datetime:
        """Until when the gate has to open."""
        created = self.seen.request.metadata.creation_timestamp or self.now
        own = self.spec.deadline_seconds
        return created + timedelta(seconds=self.stage.deadline_seconds if own is None else own)

    @property
    def facts(self) -> Facts:
        """What goes into the status."""
        others: tuple[str, ...] = ()
        if self.candidate is not None and not self.spec.policy_name:
            labels = self.candidate.workflow.labels
            others = policies.also_matching(self.seen.policies, self.policy, labels)
        return Facts(
            policy=self.policy,
            stage=self.stage,
            also_matching=others,
            workflow=self.candidate.workflow if self.candidate else None,
            gates=self.gates,
            checks=self.checks,
            validated=self.validated,
            resumed_by=self.resumed_by,
            deadline=self.deadline,
            superseded=self.superseded,
        )

    def but(self, **changes: Any) -> Case:
        """The same with more known."""
        return dataclasses.replace(self, **changes)

    def chosen(self, candidate: Candidate) -> Case:
        """The same with the workflow known, and with it the policy and the stage that apply."""
        return self.but(candidate=candidate, policy=candidate.policy, stage=candidate.stage)

    def end(self, reason: Reason, message: str, *, until: datetime | None = None) -> Stop:
        """Stops here for this reason."""
        return Stop(self, End(reason, message, until))

    def look(self, why: str) -> Stop:
        """Stops here because the watch shows too little."""
        return Stop(self, Look(why))


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of the chain, with what was known by then."""

    case: Case
    what: End | Look
