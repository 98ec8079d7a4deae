"""What a resume leaves on its Workflow, as an annotation, so that nobody repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resumer.api import constants
from resumer.core import untrusted


@dataclass(frozen=True, slots=True)
class Marker:
    """What a resume leaves on the Workflow: for a stage or event type, the gate and who."""

    workflow_uid: str
    """`argo resubmit` copies annotations to the new Workflow; those do not count."""
    node_id: str
    """The gate, or `constants.WHOLE_WORKFLOW`."""
    started_at: str
    name: str
    """The WorkflowResume that did it."""
    uid: str
    """Its uid."""
    time: str
    """When, RFC3339."""
    failed: bool = False
    """True if the gate was failed instead of resumed."""

    @property
    def is_whole_workflow(self) -> bool:
        """True if it was ``spec.suspend`` that was lifted."""
        return self.node_id == constants.WHOLE_WORKFLOW

    def encode(self) -> str:
        """The value of the annotation."""
        failed = {"failed": True} if self.failed else {}
        return json.dumps(
            {
                "workflow": self.workflow_uid,
                "node": self.node_id,
                "startedAt": self.started_at,
                "by": self.name,
                "uid": self.uid,
                "time": self.time,
                **failed,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def decode(text: str) -> Marker | None:
        """Reads an annotation; None for what is no marker of ours."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(raw, dict):
            return None
        return Marker(
            workflow_uid=untrusted.text(raw.get("workflow")),
            node_id=untrusted.text(raw.get("node")),
            started_at=untrusted.text(raw.get("startedAt")),
            name=untrusted.text(raw.get("by")),
            uid=untrusted.text(raw.get("uid")),
            time=untrusted.text(raw.get("time")),
            failed=raw.get("failed") is True,
        )


def found(annotations: Mapping[str, Any], uid: str) -> Iterator[tuple[str, Marker]]:
    """The markers among the annotations of a Workflow with this uid, by annotation key."""
    for key, value in annotations.items():
        if key.startswith((constants.STAGE_MARKER_PREFIX, constants.EVENT_MARKER_PREFIX)):
            marker = Marker.decode(value) if isinstance(value, str) else None
            if marker is not None and marker.workflow_uid == uid:
                yield key, marker
