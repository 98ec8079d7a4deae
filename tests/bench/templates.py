"""What the floor writes: exactly what the operator does, with only names and uids left open.

The patch of the Workflow is made by the operator's own core, the status is one that the operator
wrote. So the floor's writes stay the operator's, whatever becomes of those.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from resumer.api.resume import WorkflowResume
from resumer.core import decision, patches, workflows
from resumer.core.observation import Observation, Resume
from tests.bench import objects, writer


class TemplateFailed(RuntimeError):
    """The operator did something else with the sample than resume it."""


def of_request() -> writer.Templates:
    """Enough to create requests."""
    names = objects.Names(0)
    words = writer.Words(names.workflow, names.request, names.task)
    request = writer.replaced(_text(objects.request(names)), words, writer.WORDS)
    return writer.Templates(request=request, patch="", status="")


def of_sample(
    names: objects.Names, workflow: objects.Json, request: objects.Json
) -> writer.Templates:
    """All three.

    Arguments:
        names: of a sample
        workflow: as it was before it was resumed
        request: as it was after that, with the status that the operator wrote

    Raises:
        TemplateFailed: it was not resumed
    """
    status = request.get("status", {})
    if status.get("outcome") != "Resumed":
        raise TemplateFailed(f"the operator did not resume the sample: {_text(status)}")
    before = {key: value for key, value in request.items() if key != "status"}
    seen = Observation(WorkflowResume.from_json(before), (), (workflows.view(workflow),))
    decided = decision.decide(seen, datetime.now(UTC)).what
    if not isinstance(decided, Resume):
        raise TemplateFailed(f"the operator's core would not resume the sample: {decided}")
    uid = request["metadata"]["uid"]
    words = writer.Words(
        names.workflow, names.request, names.task, workflow["metadata"]["uid"], uid
    )
    recorded = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status},
    ]
    return writer.Templates(
        request=of_request().request,
        patch=writer.replaced(_text(patches.for_plain_nodes(decided.order)), words, writer.WORDS),
        status=writer.replaced(_text(recorded), words, writer.WORDS),
    )


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
