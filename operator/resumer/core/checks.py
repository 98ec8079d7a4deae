"""The checks of the decision chain, one function each; `decision.CHAIN` has their order and why.

A check either adds to what is known or stops the chain. Messages are for a person who reads
``kubectl describe``: they name the field or the object, what was found and what is wanted, and hold
no times, so that they do not flap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from resumer.api import base
from resumer.api.outcomes import Reason
from resumer.api.policy import Ambiguity
from resumer.core import (
    agreement,
    backoff,
    breaker,
    correlation,
    extraction,
    gates,
    instants,
    orders,
    policies,
    rules,
    selectors,
    suspended,
    values,
    wording,
    workflows,
)
from resumer.core.agreement import Disagreement
from resumer.core.case import Case, Stop
from resumer.core.correlation import Candidate, Mismatch, Standing
from resumer.core.extraction import EventFacts
from resumer.core.gates import Misfit, Wanted
from resumer.core.observation import End
from resumer.core.patterns import Effort
from resumer.core.policies import Stage
from resumer.core.suspended import Gate
from resumer.core.workflows import NodeStorage, WorkflowView
from resumer.errors import InvalidError


def recorded(case: Case) -> Case | Stop:
    """This request has not opened a gate already.

    In a life of the operator that ended before it could say so.
    """
    uid = case.seen.request.metadata.uid
    for workflow in case.seen.workflows:
        key, marker = next(
            ((key, item) for key, item in workflow.markers.items() if item.uid == uid), ("", None)
        )
        opened = tuple(gate for gate in workflow.gates if orders.is_signed_by(gate, uid))
        if marker is not None or opened:
            policy = (
                policies.choose(case.seen.policies, case.spec.policy_name, workflow.labels)
                or case.policy
            )
            stages = correlation.target_stages(case.spec, policy, case.label_selector)
            event_type = case.spec.correlation_data.event_type
            own = (name for name in stages if correlation.marker_key(name, event_type) == key)
            stage = policy.stage(next(own, stages[0]))
            mine = Candidate(workflow, policy, stage, Standing.RESUMED, marker)
            found = case.chosen(mine)
            failed = (marker is not None and marker.failed) or any(
                gate.phase == suspended.FAILED for gate in opened
            )
            if stage.ambiguity is Ambiguity.NEWEST_CANCEL_OTHERS and not failed:
                if not case.seen.fresh:
                    return found.look("older workflows of the task may be left to terminate")
                found = found.but(superseded=_older_than(mine, case))
            whole = marker is not None and marker.is_whole_workflow
            return Stop(
                found.but(gates=opened, validated=True),
                done(workflow.key.name, opened, whole=whole, failed=failed),
            )
    return case


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
        return case.but(validated=False).end(Reason.INVALID_SELECTOR, str(error))
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
    return _ungoverned(case) if case.spec.policy_name and policy.problem else case


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
    return case.but(validated=False).end(verdict.reason, verdict.message)


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
        return case.but(validated=False).end(Reason.INVALID_RULE, str(error))
    return _judged(case.but(checks=checks))


def correlated(case: Case) -> Case | Stop:
    """Exactly one live workflow is meant, and it is in the stage.

    `correlation` has the picture.
    """
    case = case.but(from_watch=True)
    found = list(
        correlation.candidates(
            case.spec, case.label_selector, case.seen.workflows, case.seen.policies
        )
    )
    groups = _by_standing(item for item in found if isinstance(item, Candidate))
    mismatch = next((item for item in found if isinstance(item, Mismatch)), None)
    if mismatch is not None and not any(groups.values()):
        return case.but(validated=False).end(mismatch.reason, mismatch.message)
    unusable = next((item for item in groups[Standing.THERE] if item.policy.problem), None)
    if unusable is not None:
        return _ungoverned(case.chosen(unusable))
    if groups[Standing.THERE]:
        return _one_of(case, groups[Standing.THERE], groups[Standing.RESUMED])
    if groups[Standing.AHEAD]:
        return _early(case, groups[Standing.AHEAD])
    if not case.seen.fresh:
        return case.look(
            "no live workflow of this task is left to wait for; a finished one may match"
        )
    if groups[Standing.RESUMED]:
        return _resumed_before(case.chosen(groups[Standing.RESUMED][0]))
    if groups[Standing.PASSED]:
        return _late(case.chosen(groups[Standing.PASSED][0]))
    return case.end(Reason.WORKFLOW_NOT_FOUND, f"there is no workflow {_description(case)}")


def event_fits_policy(case: Case) -> Case | Stop:
    """The event is of that task and type by the rules of the workflow's own policy."""
    event_type = case.spec.correlation_data.event_type
    failing = case.policy.stages_failing_on(event_type)
    if failing and not case.fails:
        return case.but(validated=False).end(
            Reason.EVENT_TYPE_MISMATCH,
            f"events of type {event_type!r} fail the gates of {wording.names(failing)} by policy "
            f"{case.policy.name!r}, and open none; the request is for stage {case.stage.name!r}",
        )
    if not case.stage.name and event_type in extraction.UNWELCOME:
        # A request without a stage opens whatever gate is open: not on such news.
        return case.but(validated=False).end(
            Reason.EVENT_TYPE_MISMATCH,
            f"events of type {event_type!r} open no gate by themselves, and no stage of "
            f"{policies.described(case.policy)} lists them under eventTypes or failOn",
        )
    if case.judged == case.policy.extraction:
        return case
    verdict = agreement.judge(case.spec.correlation_data, case.policy.extraction)
    if isinstance(verdict, Disagreement):
        return case.but(validated=False).end(verdict.reason, verdict.message)
    return case


def within_reach(case: Case) -> Case | Stop:
    """The node status of the workflow can be read."""
    workflow = case.workflow
    if workflow.storage is NodeStorage.OFFLOADED:
        return case.end(
            Reason.NODE_STATUS_OFFLOADED,
            f"the node status of workflow {workflow.key.name!r} is offloaded to the database "
            "of Argo's controller; resume it through the Argo Server",
        )
    if workflow.problem:
        return case.end(
            Reason.MALFORMED_WORKFLOW, f"workflow {workflow.key.name!r}: {workflow.problem}"
        )
    if not workflow.unpacked:
        return case.look("the node status is compressed")
    return case


def at_gate(case: Case) -> Case | Stop:
    """A gate is open, it is the one meant, and it opened in time."""
    wanted = Wanted(case.node_selector, case.stage, case.policy)
    found = gates.open_gates(case.workflow, wanted)
    if not found:
        if case.workflow.suspended and not wanted.named and not case.workflow.shutdown:
            return _no_gate_to_fail(case) if case.fails else case.but(lift_suspend=True)
        return _no_gate(case, wanted)
    if len(found) > 1 and not case.spec.all_gates:
        return case.end(
            Reason.SEVERAL_GATES,
            f"{len(found)} open gates of workflow {case.workflow.key.name!r} match: "
            f"{wording.names(gate.display_name for gate in found)}; "
            "name one with nodeFieldSelector, or say allGates: true",
        )
    late = next((gate for gate in found if _opened_after(gate, case.deadline, case.now)), None)
    if late is not None:
        return case.end(
            Reason.DEADLINE_EXCEEDED,
            f"gate {late.display_name!r} of workflow {case.workflow.key.name!r} "
            "opened only after the deadline",
        )
    lifts = case.spec.all_gates and case.workflow.suspended and not case.fails
    return case.but(gates=found, lift_suspend=lifts)


def workflow_rules_pass(case: Case) -> Case | Stop:
    """The rules on the workflow hold, now that its gate is open."""
    wanted = [
        rule for rule in case.spec.validation_rules if rules.scope(rule) is not rules.Scope.EVENT
    ]
    body = case.seen.bodies.get(case.workflow.uid)
    if body is None and any(rules.scope(rule) is rules.Scope.WORKFLOW for rule in wanted):
        return case.look("a rule asks for more of the workflow than its labels")
    checks = tuple(
        rules.evaluate(
            rule,
            event={},
            labels=case.workflow.labels,
            workflow=body or {},
            effort=case.effort,
        )
        for rule in wanted
    )
    return _judged(case.but(checks=(*case.checks, *checks)))


def parameters_fit(case: Case) -> Case | Stop:
    """The values are data, not templates (Argo evaluates them again), and the gates take them."""
    given = {parameter.name: parameter.value for parameter in case.spec.resume_parameters}
    refused = case.but(validated=False)
    for name, value in given.items():
        if values.is_template(value) and not case.stage.allow_templates:
            return refused.end(
                Reason.TEMPLATE_IN_PARAMETER,
                f"resumeParameters {name!r} contains `{{{{` or ends in `{{`, which Argo would "
                "evaluate as a template; take it out, or let the stage's policy say "
                "allowTemplates: true",
            )
        unfit = values.unfit_character(value)
        if unfit is not None:
            return refused.end(
                Reason.VALUE_NOT_ALLOWED,
                f"resumeParameters {name!r} contains {unfit!r}, a character that Argo cannot hand "
                "on: the workflow would end in an error",
            )
    # A failed gate hands on what it can: its branch of the workflow may do without.
    filled = gates.fill(case.gates, given, complete=not case.fails)
    if isinstance(filled, Misfit):
        return refused.end(filled.reason, filled.message)
    return case.but(fills=filled, validated=True)


def meant(case: Case) -> Case | Stop:
    """The request is no dry run."""
    if case.spec.dry_run:
        target = wording.names(gate.display_name for gate in case.gates) or "spec.suspend"
        verb = "fail" if case.fails else "resume"
        return case.end(
            Reason.WOULD_FAIL if case.fails else Reason.WOULD_RESUME,
            f"would {verb} {target} of workflow {case.workflow.key.name!r}; nothing was written",
        )
    return case


def attempt_due(case: Case) -> Case | Stop:
    """The next attempt is due, after the ones that failed."""
    status = case.seen.request.status
    if status.retry is None:
        return case
    last = status.attempts[-1] if status.attempts else None
    count, allowed = status.retry.count, case.stage.retry.max_attempts
    if count >= allowed:
        return case.end(
            Reason.RETRIES_EXHAUSTED,
            f"{count} attempts have failed, and the policy now allows {allowed}"
            + (f"; {last.message}" if last else ""),
        )
    if last is not None and instants.is_ahead(last.end_time, case.now):
        return case
    limited = status.reason == Reason.RATE_LIMITED
    due = status.retry.next_attempt_time
    if due is not None and last is not None and last.end_time is not None and not limited:
        # The policy may have changed since: a shorter wait holds for the wait under way, too.
        longest = backoff.delay(case.stage.retry, count, None, 1.0)
        due = min(due, last.end_time + timedelta(seconds=longest))
    if due is None or due <= case.now:
        return case
    if limited:
        return case.end(Reason.RATE_LIMITED, status.message or "", until=due)
    # Without an attempt: a look that was cut off has told why.
    told = status.message if status.reason == Reason.API_UNAVAILABLE else None
    message = last.message if last else told or "the next attempt is not due yet"
    return case.end(Reason.API_UNAVAILABLE, message, until=due)


def circuit_closed(case: Case) -> Case | Stop:
    """The circuit breaker of the stage lets an attempt through."""
    current = case.seen.breakers.get(case.stage.name)
    if current is None:
        return case
    verdict = breaker.admit(current, case.stage.breaker, case.seen.request.metadata.uid, case.now)
    if isinstance(verdict, breaker.Refused):
        return Stop(case, held(case.stage, verdict))
    return case


def held(stage: Stage, refused: breaker.Refused) -> End:
    """The end of a request that the circuit breaker of its stage holds back."""
    return End(
        Reason.BREAKER_OPEN,
        f"too many attempts in stage {stage.name!r} failed in a row; the request is held, "
        "and no attempt of it is used up",
        until=refused.until,
    )


def done(workflow: str, touched: Sequence[Gate], *, whole: bool, failed: bool) -> End:
    """The end of a request that has done what it asked for.

    Args:
        workflow: Its name.
        touched: The gates that were opened or failed.
        whole: It was ``spec.suspend`` that was lifted.
        failed: The gates were failed.
    """
    if whole:
        return End(Reason.WORKFLOW_UNSUSPENDED, f"lifted spec.suspend of workflow {workflow!r}")
    which = wording.names(gate.display_name for gate in touched) or "the gate"
    if failed:
        return End(Reason.FAILED_BY_EVENT, f"failed {which} of workflow {workflow!r}")
    return End(Reason.GATE_OPENED, f"opened {which} of workflow {workflow!r}")


def _older_than(mine: Candidate, case: Case) -> tuple[WorkflowView, ...]:
    """The workflows that a request has superseded by resuming a newer one."""
    found = correlation.candidates(
        case.spec, case.label_selector, case.seen.workflows, case.seen.policies
    )
    groups = _by_standing(item for item in found if isinstance(item, Candidate))
    return tuple(item.workflow for item in groups[Standing.THERE] if _age(item) < _age(mine))


def _age(candidate: Candidate) -> tuple[str, str]:
    """Sorts candidates by their creation, the names of two in the same second deciding."""
    return candidate.workflow.created, candidate.workflow.key.name


def _by_standing(found: Iterable[Candidate]) -> dict[Standing, list[Candidate]]:
    """The candidates by how they stand, the newest first."""
    newest_first = sorted(
        found, key=lambda item: (item.workflow.created, item.workflow.key.name), reverse=True
    )
    return {
        standing: [item for item in newest_first if item.standing is standing]
        for standing in Standing
    }


def _ungoverned(case: Case) -> Stop:
    """The policy in charge cannot be used; taking another one would be a guess."""
    return case.end(
        Reason.POLICY_INVALID,
        f"policy {case.policy.name!r} is not valid, and no valid version of it is known: "
        f"{case.policy.problem}",
    )


def _one_of(case: Case, there: Sequence[Candidate], resumed: Sequence[Candidate]) -> Case | Stop:
    """The one that is there; of several, or where the newest is meant, what the policy says."""
    newest = case.chosen(there[0])
    fails = newest.stage.ambiguity is Ambiguity.FAIL
    if len(there) == 1 and fails:
        return newest
    if not case.seen.fresh:
        return case.look("another workflow of the task may be newer, or have gone on")
    if resumed and not fails and _age(resumed[0]) > _age(there[0]):
        # The newest one was meant, and resumed: an older one must not take its event.
        return _resumed_before(case.chosen(resumed[0]))
    if len(there) == 1:
        return newest
    match newest.stage.ambiguity:
        case Ambiguity.NEWEST:
            return newest
        case Ambiguity.NEWEST_CANCEL_OTHERS:
            if newest.fails:
                return newest  # it supersedes nothing: only a resume does
            return newest.but(superseded=tuple(item.workflow for item in there[1:]))
        case _:
            return case.but(policy=newest.policy, stage=newest.stage).end(
                Reason.SEVERAL_WORKFLOWS,
                f"{len(there)} live workflows match {_description(case)}: "
                f"{wording.names(item.workflow.key.name for item in there)}",
            )


def _early(case: Case, ahead: Sequence[Candidate]) -> Stop:
    for candidate in ahead:
        # The stage on an open gate is out of sight where the nodes are.
        if candidate.policy.stage_parameter:
            reached = within_reach(case.chosen(candidate))
            if isinstance(reached, Stop):
                return reached
    case = case.chosen(ahead[0])
    current = wording.names(correlation.stages_of(case.workflow, case.policy))
    place = (
        f"in stage {current}" if current else f"without a stage (label {case.policy.stage_label!r})"
    )
    wanted = f"stage {case.stage.name!r}" if case.stage.name else f"{case.label_selector}"
    return case.end(
        Reason.STAGE_NOT_REACHED,
        f"workflow {case.workflow.key.name!r} is {place}; the request is for {wanted}",
    )


def _resumed_before(case: Case) -> Stop:
    marker = case.candidate.marker if case.candidate else None
    by = f"workflowresume/{marker.name}" if marker else "another request"
    what = (
        f"stage {case.stage.name!r}"
        if case.stage.name
        else f"event {case.spec.correlation_data.event_type!r}"
    )
    if marker is not None and marker.failed:
        return case.end(
            Reason.GATE_ALREADY_FAILED,
            f"the gate of {what} of workflow {case.workflow.key.name!r} was failed by {by}",
        )
    return case.but(resumed_by=by).end(
        Reason.STAGE_ALREADY_RESUMED,
        f"{what} of workflow {case.workflow.key.name!r} was resumed by {by}",
    )


def _no_gate_to_fail(case: Case) -> Stop:
    return case.but(validated=False).end(
        Reason.NO_GATE_TO_FAIL,
        f"workflow {case.workflow.key.name!r} is suspended as a whole (spec.suspend) and has no "
        f"open gate that event {case.spec.correlation_data.event_type!r} could fail; "
        "argo stop ends the workflow",
    )


def _late(case: Case) -> Stop:
    workflow = case.workflow
    if workflow.terminated and not workflow.finished:
        return case.end(
            Reason.WORKFLOW_FINISHED,
            f"workflow {workflow.key.name!r} is being terminated (spec.shutdown)",
        )
    if workflow.finished:
        return case.end(
            Reason.WORKFLOW_FINISHED,
            f"workflow {workflow.key.name!r} has finished ({workflow.phase or 'completed'})",
        )
    current = wording.names(correlation.stages_of(workflow, case.policy))
    return case.end(
        Reason.STAGE_PASSED,
        f"workflow {workflow.key.name!r} is in stage {current} already, "
        f"past stage {case.stage.name!r}",
    )


def _no_gate(case: Case, wanted: Wanted) -> Stop:
    opened = None if case.stage.repeatable else gates.opened_gate(case.workflow, wanted)
    if opened is None:
        which = "matching gate" if wanted.named else "gate"
        name = repr(case.workflow.key.name)
        if case.workflow.shutdown:
            message = (
                f"workflow {name} is being stopped, and no {which} in its exit handler is suspended"
            )
        else:
            message = f"no {which} of workflow {name} is suspended"
        return case.end(Reason.GATE_NOT_OPEN, message)
    by = orders.opener(opened)
    return case.but(resumed_by=by).end(
        Reason.GATE_ALREADY_OPENED,
        f"gate {opened.display_name!r} of workflow {case.workflow.key.name!r} was opened by {by}",
    )


def _judged(case: Case) -> Case | Stop:
    failed = [check for check in case.checks if not check.passed]
    if not failed:
        return case
    first = failed[0]
    wanted = f"{first.operator} {first.expected}".rstrip()
    found = "nothing" if first.actual is None else f'"{first.actual}"'
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return case.but(validated=False).end(
        Reason.RULE_FAILED,
        f"rule on {first.field} ({wanted}): found {found}{more}",
    )


def _opened_after(gate: Gate, deadline: datetime, now: datetime) -> bool:
    # It is open now, even if the clock of Argo's controller is ahead.
    opened = workflows.moment(gate.started_at)
    return opened is not None and min(opened, now) > deadline


def _description(case: Case) -> str:
    """What the request looks for, in words."""
    named = f"named {case.spec.workflow_name!r} " if case.spec.workflow_name else ""
    others, _ = case.label_selector.without(case.policy.stage_label)
    label, task = case.policy.task_label, case.spec.correlation_data.task_id
    labels = [base.truncate(str(others), 200)] if others.requirements else []
    if others.implied().get(label) != task:
        labels.append(f"{label}={task}")
    return f"{named}with labels {','.join(labels)}"
