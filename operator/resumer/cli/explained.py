"""An explanation in words, or as JSON."""

from __future__ import annotations

import os
from typing import Any, Final

import typer

from resumer.core.observation import End, Facts, Look, Resume
from resumer.core.suspended import FAILED
from resumer.services.explaining import Explanation

_MARKS: Final = {True: "ok ", False: "NO ", None: " - "}
_COLOURS: Final = {True: typer.colors.GREEN, False: typer.colors.RED, None: None}


def as_text(found: Explanation) -> str:
    """The explanation for a person."""
    metadata = found.request.metadata
    lines = [f"WorkflowResume {metadata.namespace}/{metadata.name or '(unnamed)'}", ""]
    width = max(len(step.name) for step in found.steps)
    lines += [f"  {_mark(step.passed)} {step.name:{width}}  {step.asks}" for step in found.steps]
    rules = found.decision.facts.checks
    if rules:
        lines += ["", "Rules"]
        lines += [f"  {_mark(item.passed)} {_rule(item)}" for item in rules]
    lines += ["", *_about(found.decision.facts), "", *_outcome(found)]
    lines += [f"Policy not valid: {problem}" for problem in found.invalid_policies]
    return "\n".join(lines)


def as_json(found: Explanation) -> dict[str, Any]:
    """The explanation for a program."""
    facts, what = found.decision.facts, found.decision.what
    end = what if isinstance(what, End) else None
    return {
        "namespace": found.request.metadata.namespace,
        "name": found.request.metadata.name,
        "wouldResume": isinstance(what, Resume) and what.order.phase != FAILED,
        "wouldFail": isinstance(what, Resume) and what.order.phase == FAILED,
        "outcome": str(end.reason.outcome) if end else None,
        "reason": str(end.reason) if end else None,
        "message": end.message if end else None,
        "policy": facts.policy.name or None,
        "alsoMatching": list(facts.also_matching),
        "stage": facts.stage.name or None,
        "workflow": facts.workflow.key.name if facts.workflow else None,
        "gates": [gate.display_name for gate in facts.gates],
        "checks": [
            {"name": step.name, "asks": step.asks, "passed": step.passed} for step in found.steps
        ],
        "rules": [
            {
                "field": item.field,
                "operator": item.operator,
                "expected": item.expected,
                "actual": item.actual,
                "passed": item.passed,
            }
            for item in facts.checks
        ],
        "invalidPolicies": list(found.invalid_policies),
    }


def _mark(passed: bool | None) -> str:
    # What is not a terminal gets no colours: typer takes them out again.
    plain = "NO_COLOR" in os.environ
    return _MARKS[passed] if plain else typer.style(_MARKS[passed], fg=_COLOURS[passed])


def _rule(item: Any) -> str:
    found = "nothing" if item.actual is None else f'"{item.actual}"'
    return f"{item.field} {item.operator} {item.expected}".rstrip() + f": found {found}"


def _about(facts: Facts) -> list[str]:
    workflow = facts.workflow.key.name if facts.workflow else "none found"
    stage = facts.stage.name or "none"
    also = ", ".join(facts.also_matching)
    others = f" (wins over {also}, which match the workflow as well)" if also else ""
    return [
        f"Policy    {facts.policy.name or 'the built-in one'}{others}",
        f"Stage     {stage}",
        f"Workflow  {workflow}",
    ]


def _outcome(found: Explanation) -> list[str]:
    facts = found.decision.facts
    match found.decision.what:
        case Resume(order):
            gates = ", ".join(gate.display_name for gate in order.gates) or "spec.suspend"
            verb = "fail" if order.phase == FAILED else "resume"
            return [f"It would {verb} now: {gates} of workflow {order.key.name}."]
        case End() as end:
            lines = [f"Outcome   {end.reason.outcome} ({end.reason})", f"          {end.message}"]
            if not end.reason.outcome.terminal and facts.deadline is not None:
                lines.append(
                    f"          It is looked at again; its deadline is {facts.deadline:%F %T} UTC."
                )
            return lines
        case Look() as look:
            return [f"Undecided: {look.why}."]
