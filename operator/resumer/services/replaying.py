"""What would become of an event, and what would be decided about it; nothing is written.

Which policy is in charge, only the workflow tells, and which workflow, only the task. So the rules
of each policy are tried, the one that wins first, until the workflow that is found is under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resumer.core import policies, proposals
from resumer.core.proposals import Dropped, Wish
from resumer.services.explaining import Explainer, Explanation


@dataclass(frozen=True, slots=True)
class Replay:
    """The request that an event becomes, and the decision on it."""

    manifest: Mapping[str, Any]
    explanation: Explanation


async def replay(
    explainer: Explainer, event: Mapping[str, object], wish: Wish, namespace: str
) -> Replay | Dropped:
    """Makes a request of an event, as a Sensor would, and explains it.

    Args:
        explainer: Knows what there is.
        event: The payload, see `resumer.core.deliveries`.
        wish: What is said of the request already.
        namespace: Where it would be created.

    Raises:
        InvalidError: No request can be made of it.
        ApiError: A read failed.
    """
    known = await explainer.known(namespace)
    in_line = sorted(known.stores.policies.of(namespace), key=lambda policy: policy.precedence)
    best: Replay | None = None
    dropped: list[Dropped] = []
    for policy in (*in_line, policies.BUILT_IN):
        made = proposals.propose(event, policy, wish)
        if isinstance(made, Dropped):
            dropped.append(made)
            continue
        found = Replay(made, await explainer.written(made, namespace, known))
        facts = found.explanation.decision.facts
        if facts.workflow is not None and facts.policy.name == policy.name:
            return found
        best = best or found
    return best or dropped[0]
