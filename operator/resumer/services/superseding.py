"""Ending the older workflows of a task once the newest is resumed (``NewestCancelOthers``).

After the resume, never before: a resume that is refused, or that somebody else was quicker with,
must not have cost a workflow. Before the status: a request is not done until they are ended, and a
pass that is broken off in between finds its own trace on the newest workflow and ends them then.
"""

from __future__ import annotations

import dataclasses

import structlog

from resumer import errors, ports
from resumer.api.outcomes import Outcome
from resumer.api.resume import WorkflowResume
from resumer.core import wording
from resumer.core.observation import End, Facts
from resumer.services.reporting import Reporter

_log = structlog.get_logger(__name__)


class Superseder:
    """Terminates what a request has superseded."""

    def __init__(self, workflows: ports.Workflows, reporter: Reporter) -> None:
        self._workflows = workflows
        self._reporter = reporter

    async def end_older(self, request: WorkflowResume, facts: Facts, end: End) -> End:
        """Terminates the older workflows, if there are any and the newest was resumed.

        Args:
            request: The one that was looked at.
            facts: With the older workflows, and the newest.
            end: What the request came to.

        Returns:
            The same, with what was terminated and what could not be in its message.

        Raises:
            TransientError: One may or may not be terminated; the pass has to be made again.
        """
        if not facts.superseded or end.reason.outcome is not Outcome.RESUMED:
            return end
        newest = facts.workflow.key.name if facts.workflow else ""
        ended, refused = [], []
        for older in facts.superseded:
            try:
                await self._workflows.terminate(older.key, older.uid)
            except errors.PermanentError as error:
                _log.warning(
                    "superseded workflow not terminated", workflow=older.key.name, error=str(error)
                )
                refused.append(older.key.name)
            else:
                self._reporter.superseded(request, older, by=newest)
                ended.append(older.key.name)
        message = end.message
        if ended:
            message += f"; terminated the older {wording.names(ended)}"
        if refused:
            message += f"; not allowed to terminate the older {wording.names(refused)}"
        return dataclasses.replace(end, message=message)
