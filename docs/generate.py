#!/usr/bin/env python3
"""Writes the tables of the user's pages from the code and the definitions that they describe.

    python docs/generate.py            writes them
    python docs/generate.py --check    says which pages are not current, and fails if any is

A table stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`; what is around
them is written by hand.
"""

from __future__ import annotations

import ast
import enum
import inspect
import pathlib
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence

import reference
import yaml
from reference import table
from typer.models import OptionInfo

from resumer import settings
from resumer.api import breaker, constants, outcomes, policy, resume
from resumer.cli import options, run
from resumer.core import decision, extraction
from resumer.telemetry import catalog

_ROOT = pathlib.Path(__file__).parents[1]
_PAGES = (
    "README.md",
    "docs/concepts.md",
    "docs/workflowresume.md",
    "docs/workflowresumepolicy.md",
    "docs/operating.md",
    "docs/events.md",
    "docs/workflowresumebreaker.md",
    "docs/reference.md",
)
_BLOCK = re.compile(r"(<!-- generated: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def members(of: type[enum.StrEnum]) -> Mapping[str, str]:
    """What the docstring below each member of an enumeration says, by the member's value."""
    body = ast.parse(textwrap.dedent(inspect.getsource(of))).body[0]
    assert isinstance(body, ast.ClassDef)
    said: dict[str, str] = {}
    name = ""
    for statement in body.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                said[of[name].value] = inspect.cleandoc(text)
                name = ""
            case _:
                name = ""
    return said


def _outcomes() -> str:
    said = members(outcomes.Outcome)
    return table(
        ("Outcome", "Final", "Phase", "Means"),
        (
            (f"`{one}`", "yes" if one.terminal else "no", str(one.phase), said[one])
            for one in outcomes.Outcome
        ),
    )


def _reasons() -> str:
    return table(
        ("Outcome", "Reason", "Means"),
        ((f"`{one.outcome}`", f"`{one}`", one.meaning) for one in outcomes.Reason),
    )


def _enumeration(of: type[enum.StrEnum], head: str) -> str:
    return table((head, "Means"), ((f"`{value}`", text) for value, text in members(of).items()))


def _types() -> str:
    return table(
        ("Type", "Event", "Action", "And"),
        (
            (f"`{rule.type}`", f"`{rule.event}`", f"`{rule.action}`" if rule.action else "", more)
            for rule, more in ((rule, _conditions(rule)) for rule in extraction.DEFAULT.types)
        ),
    )


def _conditions(rule: extraction.TypeRule) -> str:
    said = []
    if rule.label:
        said.append(f"the label is `{rule.label}`")
    if rule.review_state:
        said.append(f"the review is `{rule.review_state}`")
    if rule.merged is not None:
        said.append("it was merged" if rule.merged else "it was not merged")
    if rule.conclusion:
        said.append(f"the conclusion is `{rule.conclusion}`")
    return ", ".join(said)


def _metrics() -> str:
    return table(
        ("Metric", "Type", "Labels", "Measures"),
        (
            (f"`{row.name}`", row.kind, ", ".join(f"`{label}`" for label in row.labels), row.help)
            for row in catalog.METRICS
        ),
    )


def _options() -> str:
    defaults = settings.Settings()
    rows = []
    for name, annotation in typing.get_type_hints(run.run, include_extras=True).items():
        for option in getattr(annotation, "__metadata__", ()):
            if isinstance(option, OptionInfo):
                variables = option.envvar if isinstance(option.envvar, list) else [option.envvar]
                rows.append(
                    (
                        f"`{options.flag(name)}`",
                        ", ".join(f"`{variable}`" for variable in variables),
                        _default(getattr(defaults, name)),
                        option.help or "",
                    )
                )
    return table(("Option", "Environment", "Default", "Does"), rows)


def _default(value: object) -> str:
    match value:
        case "" | ():
            return ""
        case bool():
            return "on" if value else "off"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _chain() -> str:
    return table(
        ("Check", "Holds if"),
        (
            (f"`{check.__name__}`", (inspect.getdoc(check) or "").split("\n\n")[0])
            for check in decision.CHAIN
        ),
    )


def _kind(plural: str) -> str:
    definition = _ROOT / "crds" / f"{plural}.{constants.GROUP}.yaml"
    return reference.kind(yaml.safe_load(definition.read_text()))


_TABLES: Mapping[str, Callable[[], str]] = {
    "outcomes": _outcomes,
    "reasons": _reasons,
    "operators": lambda: _enumeration(resume.RuleOperator, "Operator"),
    "strategies": lambda: _enumeration(policy.RetryStrategy, "Strategy"),
    "jitters": lambda: _enumeration(policy.Jitter, "Jitter"),
    "ambiguities": lambda: _enumeration(policy.Ambiguity, "Ambiguity"),
    "breakers": lambda: _enumeration(breaker.BreakerState, "State"),
    "chain": _chain,
    "places": lambda: _enumeration(policy.TaskIdPlace, "`from`"),
    "types": _types,
    "metrics": _metrics,
    "options": _options,
    "workflowresumes": lambda: _kind("workflowresumes"),
    "workflowresumepolicies": lambda: _kind("workflowresumepolicies"),
    "workflowresumebreakers": lambda: _kind("workflowresumebreakers"),
}


def current(page: str) -> str:
    """The text of a page with its tables as they have to be."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_TABLES[found[2]]()}{found[3]}", page)


def main(arguments: Sequence[str]) -> int:
    """Write the tables, or check them.

    Returns:
        the exit code
    """
    stale = []
    for name in _PAGES:
        page = _ROOT / name
        text = page.read_text()
        if (wanted := current(text)) != text:
            stale.append(name)
            if "--check" not in arguments:
                page.write_text(wanted)
    if stale and "--check" in arguments:
        sys.stderr.write(f"not current: {', '.join(stale)}; run python docs/generate.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
