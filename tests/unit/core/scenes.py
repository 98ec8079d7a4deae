"""A scene: one request, what is known around it, and the decision on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from resumer.api.outcomes import Reason
from resumer.core import decision, workflows
from resumer.core.breaker import Breaker
from resumer.core.observation import (
    Decision,
    End,
    Facts,
    Look,
    Observation,
    Resume,
    ResumeOrder,
)
from tests.builders import (
    NOW,
    PolicyBuilder,
    RequestBuilder,
    WorkflowBuilder,
    a_request,
    at_review,
    three_stages,
)


@dataclass
class Scene:
    """What a test sets; as it is, the request resumes the one gate of the one workflow."""

    request: RequestBuilder = field(default_factory=a_request)
    workflow: WorkflowBuilder = field(default_factory=at_review)
    others: tuple[WorkflowBuilder, ...] = ()
    policy: PolicyBuilder = field(default_factory=three_stages)
    other_policies: tuple[PolicyBuilder, ...] = ()
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    fresh: bool = True
    now: datetime = NOW

    def observed(self) -> Observation:
        """What is gathered: folded from the watch, unpacked and with bodies after a read."""
        bodies = [builder.build() for builder in (self.workflow, *self.others)]
        views = tuple(workflows.view(body, unpack=self.fresh) for body in bodies)
        return Observation(
            request=self.request.model(),
            policies=tuple(
                found.policy
                for builder in (self.policy, *self.other_policies)
                if (found := builder.in_force()).policy is not None
            ),
            workflows=views,
            fresh=self.fresh,
            bodies={view.uid: body for view, body in zip(views, bodies, strict=True)}
            if self.fresh
            else {},
            breakers=self.breakers,
        )

    def decided(self) -> Decision:
        """The decision."""
        return decision.decide(self.observed(), self.now)


def decided(  # a scene in one line
    request: RequestBuilder | None = None,
    *workflow: WorkflowBuilder,
    policy: PolicyBuilder | None = None,
    breakers: Mapping[str, Breaker] | None = None,
    fresh: bool = True,
    now: datetime = NOW,
) -> Decision:
    """The decision on a request and these workflows; what is left out is as in `Scene`."""
    scene = Scene(breakers=breakers or {}, fresh=fresh, now=now)
    scene.request = request or scene.request
    scene.policy = policy or scene.policy
    if workflow:
        scene.workflow, scene.others = workflow[0], workflow[1:]
    return scene.decided()


def end_of(found: Decision) -> tuple[Reason, str]:
    """Reason and message of a decision that ends the pass."""
    assert isinstance(found.what, End), found.what
    return found.what.reason, found.what.message


def order_of(found: Decision) -> ResumeOrder:
    """The order of a decision to resume."""
    assert isinstance(found.what, Resume), found.what
    return found.what.order


def opened_by(found: Decision) -> list[str]:
    """The display names of the gates that a decision opens."""
    return [gate.display_name for gate in order_of(found).gates]


def word(found: Decision) -> str:
    """A decision in a word: what tables compare."""
    match found.what:
        case End(reason):
            return str(reason)
        case Look():
            return "Look"
        case Resume(order):
            return "Resume " + " ".join(gate.display_name for gate in order.gates)


def facts_of(found: Decision) -> Facts:
    """What was found out."""
    return found.facts
