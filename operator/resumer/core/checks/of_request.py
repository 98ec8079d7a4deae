"""What can be said of a request without its workflow, and once the policy of that is known."""

from __future__ import annotations

from resumer.api.outcomes import Reason
from resumer.core import (
    agreement,
    correlation,
    extraction,
    policies,
    rules,
    selectors,
    wording,
)
from resumer.core.agreement import Disagreement
from resumer.core.case import Case, Stop
from resumer.core.extraction import EventFacts
from resumer.core.patterns import Effort
from resumer.errors import InvalidError


def readable(case: Case) -> Case | Stop:
    """The selectors can be understood."""
    label_text, node_text = case.spec.label_selector, case.spec.node_field_selector
    try:
        labels = (
            selectors.LabelSelector.parse(label_text, field="spec.labelSelector")
            if label_text
            else None
        )
        nodes = (
            selectors.NodeFieldSelector.parse(node_text, field="spec.nodeFieldSelector")
            if node_text
            else None
        )
    except InvalidError as error:
        return case.end(Reason.INVALID_SELECTOR, str(error))
    return case.but(label_selector=labels or selectors.LabelSelector(), node_selector=nodes)


def under_policy(case: Case) -> Case | Stop:
    """The policy is known, as far as the labels that the selector asks for can tell."""
    policy = policies.choose(
        case.seen.policies, case.spec.policy_name, case.label_selector.implied()
    )
    if policy is None:
        return case.end(
            Reason.POLICY_NOT_FOUND,
            f"policyName {case.spec.policy_name!r}: "
            "there is no policy of this name in the namespace",
        )
    stages = correlation.target_stages(case.spec, policy, case.label_selector)
    case = case.but(policy=policy, stage=policy.stage(stages[0]))
    # A policy that was not named is only known to be in charge once the workflow is.
    return ungoverned(case) if case.spec.policy_name and policy.problem else case


def ungoverned(case: Case) -> Stop:
    """The policy in charge cannot be used; taking another one would be a guess."""
    return case.end(
        Reason.POLICY_INVALID,
        f"policy {case.policy.name!r} is not valid, and no valid version of it is known: "
        f"{case.policy.problem}",
    )


def event_agrees(case: Case) -> Case | Stop:
    """The event is of the task and of the type that the request says.

    By the rules of some policy that may be in charge: which one it is, only the workflow tells.
    Where the policies are too many or too heavy to try them all, it is left to that one.
    """
    data, own, effort = case.spec.correlation_data, case.policy.extraction, Effort()
    verdict = agreement.judge(data, own, effort)
    if isinstance(verdict, EventFacts):
        return case.but(sender=verdict.sender, judged=own)
    possible = [case.policy]
    if not case.spec.policy_name:
        possible += [*case.seen.policies, policies.BUILT_IN]
    if any(policy.problem for policy in possible):
        return case  # its own rules are not known
    others = [one for one in dict.fromkeys(item.extraction for item in possible) if one != own]
    for facts in (agreement.judge(data, other, effort) for other in others):
        if isinstance(facts, EventFacts):
            return case.but(sender=facts.sender)
    if others and effort.exceeded:
        return case
    return case.end(verdict.reason, verdict.message)


def event_rules_pass(case: Case) -> Case | Stop:
    """Every rule can be understood, and those on the event hold."""
    of_event = [
        rule for rule in case.spec.validation_rules if rules.scope(rule) is rules.Scope.EVENT
    ]
    try:
        for rule in case.spec.validation_rules:
            rules.validate(rule, case.effort)
        checks = tuple(
            rules.evaluate(rule, event=case.spec.correlation_data.github_event, effort=case.effort)
            for rule in of_event
        )
    except InvalidError as error:
        return case.end(Reason.INVALID_RULE, str(error))
    return unless_failed(case.but(checks=checks))


def event_fits_policy(case: Case) -> Case | Stop:
    """The event is of that task and type by the rules of the workflow's own policy."""
    event_type = case.spec.correlation_data.event_type
    failing = case.policy.stages_failing_on(event_type)
    if failing and not case.fails:
        return case.end(
            Reason.EVENT_TYPE_MISMATCH,
            f"events of type {event_type!r} fail the gates of {wording.names(failing)} by policy "
            f"{case.policy.name!r}, and open none; the request is for stage {case.stage.name!r}",
        )
    if not case.stage.name and event_type in extraction.UNWELCOME:
        # A request without a stage opens whatever gate is open: not on such news.
        return case.end(
            Reason.EVENT_TYPE_MISMATCH,
            f"events of type {event_type!r} open no gate by themselves, and no stage of "
            f"{policies.described(case.policy)} lists them under eventTypes or failOn",
        )
    if case.judged == case.policy.extraction:
        return case
    verdict = agreement.judge(case.spec.correlation_data, case.policy.extraction)
    if isinstance(verdict, Disagreement):
        return case.end(verdict.reason, verdict.message)
    return case


def unless_failed(case: Case) -> Case | Stop:
    """Stops at the first rule that does not hold, if one does not."""
    failed = [check for check in case.checks if not check.passed]
    if not failed:
        return case
    first = failed[0]
    wanted = f"{first.operator} {first.expected}".rstrip()
    found = "nothing" if first.actual is None else f'"{first.actual}"'
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return case.end(
        Reason.RULE_FAILED,
        f"rule on {first.field} ({wanted}): found {found}{more}",
    )
