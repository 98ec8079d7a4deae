"""The chain as a whole: its order, its two rules around it, and what holds for every decision.

`SPOILED` has one defect for each check of the chain, in the order of the chain. Each alone is
stopped by its own check, and of any two the earlier one decides: so the order is the specification.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumer.api import constants
from resumer.api.breaker import BreakerState
from resumer.api.outcomes import Outcome, Reason
from resumer.core import decision, workflows
from resumer.core.breaker import Breaker
from resumer.core.case import Case, Stop
from resumer.core.observation import End, Look, Observation, Resume
from resumer.core.workflows import WorkflowView
from tests.builders import (
    NOW,
    STAGE,
    TASK,
    RequestBuilder,
    WorkflowBuilder,
    a_bare_workflow,
    a_request,
    a_workflow,
    at_review,
    three_stages,
)
from tests.unit.core.scenes import Scene, decided, end_of, facts_of, word

# --- the order of the chain ----------------------------------------------------------------------


@dataclass(frozen=True)
class Spoiled:
    """One defect of a scene, and how the check that finds it ends the request."""

    check: str
    spoil: Callable[[Scene], object]
    reason: Reason
    word: str = ""
    """What its message has, where two checks have one reason."""


def _breaker(scene: Scene) -> None:
    scene.breakers = {STAGE: Breaker(BreakerState.OPEN, 5, NOW, NOW + timedelta(seconds=30))}


SPOILED = (
    Spoiled(
        "readable",
        lambda scene: scene.request.at_gate("bogus=1"),
        Reason.INVALID_SELECTOR,
    ),
    Spoiled(
        "recorded",
        lambda scene: scene.workflow.marked("draft", node="wait", uid="uid-of-wake"),
        Reason.GATE_OPENED,
    ),
    Spoiled(
        "under_policy",
        lambda scene: scene.request.with_spec(policyName="missing"),
        Reason.POLICY_NOT_FOUND,
    ),
    Spoiled(
        "event_agrees",
        lambda scene: scene.request.saying(branch="task-8", title="#8"),
        Reason.TASK_MISMATCH,
    ),
    Spoiled(
        "event_rules_pass",
        lambda scene: scene.request.rule("event.never", "exists"),
        Reason.RULE_FAILED,
        "event.never",
    ),
    Spoiled(
        "correlated",
        lambda scene: scene.workflow.in_stage("draft"),
        Reason.STAGE_NOT_REACHED,
    ),
    Spoiled(
        "event_fits_policy",
        lambda scene: (
            scene.policy.with_spec(
                events={"taskIdSources": [{"from": "Title", "pattern": "#([0-9]+)"}]}
            ),
            scene.request.saying(title="#8"),
        ),
        Reason.TASK_MISMATCH,
        "title",
    ),
    Spoiled(
        "within_reach",
        lambda scene: scene.workflow.with_status(offloadNodeStatusVersion="fnv:1"),
        Reason.NODE_STATUS_OFFLOADED,
    ),
    Spoiled(
        "at_gate",
        lambda scene: scene.workflow.gate(phase="Pending"),
        Reason.GATE_NOT_OPEN,
    ),
    Spoiled(
        "workflow_rules_pass",
        lambda scene: scene.request.rule("never", "exists"),
        Reason.RULE_FAILED,
        "rule on never",
    ),
    Spoiled(
        "labels_fit",
        lambda scene: scene.request.with_spec(setLabels={"task-id": "8"}),
        Reason.LABEL_NOT_ALLOWED,
    ),
    Spoiled(
        "parameters_fit",
        lambda scene: scene.request.parameter("a", "{{b}}"),
        Reason.TEMPLATE_IN_PARAMETER,
    ),
    Spoiled(
        "meant",
        lambda scene: scene.request.with_spec(dryRun=True),
        Reason.WOULD_RESUME,
    ),
    Spoiled(
        "attempt_due",
        lambda scene: scene.request.failed_attempt(due=5),
        Reason.API_UNAVAILABLE,
    ),
    Spoiled("circuit_closed", _breaker, Reason.BREAKER_OPEN),
)


def test_there_is_one_defect_for_each_check_in_the_order_of_the_chain() -> None:
    assert [spoiled.check for spoiled in SPOILED] == [check.__name__ for check in decision.CHAIN]


def test_a_scene_without_a_defect_resumes() -> None:
    assert word(Scene().decided()) == "Resume wait"


@pytest.mark.parametrize("index", range(len(SPOILED)), ids=[spoiled.check for spoiled in SPOILED])
def test_each_defect_is_stopped_by_its_own_check(index: int) -> None:
    scene = Scene()
    SPOILED[index].spoil(scene)
    case = Case(scene.observed(), scene.now)
    for check in decision.CHAIN[:index]:
        passed = check(case)
        assert isinstance(passed, Case), check.__name__
        case = passed
    stopped = decision.CHAIN[index](case)
    assert isinstance(stopped, Stop)
    assert isinstance(stopped.what, End)
    assert stopped.what.reason is SPOILED[index].reason


@pytest.mark.parametrize("index", range(len(SPOILED)), ids=[spoiled.check for spoiled in SPOILED])
def test_the_steps_tell_how_far_a_request_came(index: int) -> None:
    scene = Scene()
    SPOILED[index].spoil(scene)
    decided, steps = decision.explain(scene.observed(), scene.now)
    assert decided == scene.decided()
    assert [step.name for step in steps] == [spoiled.check for spoiled in SPOILED]
    assert all(step.asks.endswith(".") and "\n" not in step.asks for step in steps)
    later = len(SPOILED) - index - 1
    assert [step.passed for step in steps] == [True] * index + [False] + [None] * later


def test_all_steps_of_a_request_that_resumes_are_passed() -> None:
    decided, steps = decision.explain(Scene().observed(), NOW)
    assert decided == Scene().decided()
    assert all(step.passed for step in steps)


@pytest.mark.parametrize(
    ("earlier", "later"),
    list(itertools.combinations(SPOILED, 2)),
    ids=lambda spoiled: spoiled.check,
)
def test_of_two_defects_the_check_that_stands_earlier_decides(
    earlier: Spoiled, later: Spoiled
) -> None:
    scene = Scene()
    later.spoil(scene)
    earlier.spoil(scene)
    reason, message = end_of(scene.decided())
    assert reason is earlier.reason
    assert earlier.word in message


# --- nothing for good from the watch -------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "workflows", "read"),
    [
        (a_request(), (a_bare_workflow(),), "WorkflowNotFound"),
        (a_request(), (a_workflow().finished(),), "WorkflowFinished"),
        (a_request(), (a_workflow().in_stage("release"),), "StagePassed"),
        (a_request(), (at_review().marked(),), "StageAlreadyResumed"),
        (a_request().named("play"), (a_workflow().labelled(task="8"),), "TaskMismatch"),
        (a_request(), (at_review("a"), at_review("b")), "SeveralWorkflows"),
        (a_request(), (at_review().offloaded(),), "NodeStatusOffloaded"),
        (a_request(), (at_review().with_status(nodes=[]),), "MalformedWorkflow"),
        (a_request(), (at_review().gate("b"),), "SeveralGates"),
        (
            a_request().at_gate("displayName=wait"),
            (at_review(phase="Succeeded"),),
            "GateAlreadyOpened",
        ),
        (a_request().with_spec(deadlineSeconds=0), (at_review(started=-1),), "DeadlineExceeded"),
        (a_request().with_spec(deadlineSeconds=0), (a_workflow(),), "DeadlineExceeded"),
        (a_request().rule("approved", "exists"), (at_review(),), "RuleFailed"),
        (a_request().parameter("a", "x"), (at_review(),), "UnknownParameter"),
        (a_request(), (at_review().compressed(),), "Resume wait"),
    ],
)
def test_the_workflows_are_read_before_a_request_ends_on_them(
    request_: RequestBuilder, workflows: tuple[WorkflowBuilder, ...], read: str
) -> None:
    assert word(decided(request_, *workflows, fresh=False)) == "Look"
    assert word(decided(request_, *workflows)) == read


@pytest.mark.parametrize(
    ("request_", "workflow", "result"),
    [
        (a_request(), at_review(), "Resume wait"),
        (a_request(), a_workflow().in_stage("draft"), "StageNotReached"),
        (a_request(), at_review(phase="Pending"), "GateNotOpen"),
        (a_request().selecting("a in ("), at_review(), "InvalidSelector"),
        (a_request().with_spec(policyName="later"), at_review(), "PolicyNotFound"),
        (
            a_request().with_spec(policyName="later", deadlineSeconds=0),
            at_review(),
            "DeadlineExceeded",
        ),
        (a_request().saying(branch="task-8"), at_review(), "TaskMismatch"),
        (a_request().rule("event.x", "exists"), at_review(), "RuleFailed"),
        (a_request().with_spec(dryRun=True), at_review(), "WouldResume"),
        (a_request().failed_attempt(due=5), at_review(), "ApiUnavailable"),
        (a_request(), at_review().marked("draft", uid="uid-of-wake"), "WorkflowUnsuspended"),
    ],
)
def test_what_does_not_end_on_the_watch_needs_no_read(
    request_: RequestBuilder, workflow: WorkflowBuilder, result: str
) -> None:
    assert word(decided(request_, workflow, fresh=False)) == result


@pytest.mark.parametrize(
    "request_",
    [a_request(), a_request().for_stage("release"), a_request().selecting("a in (")],
    ids=["at its gate", "early", "wrong"],
)
def test_nothing_is_decided_on_a_workflow_of_which_only_the_metadata_is_known(
    request_: RequestBuilder,
) -> None:
    outline = workflows.outline(at_review().metadata())
    seen = Observation(request_.model(), (), (at_review("other").view(), outline))
    found = decision.decide(seen, NOW)
    assert found.what == Look("a workflow was listed, and is not read yet")


@pytest.mark.parametrize("ambiguity", ["Newest", "NewestCancelOthers"])
def test_workflows_are_read_before_one_is_chosen_or_cancelled(ambiguity: str) -> None:
    policy = three_stages(ambiguity=ambiguity)
    found = decided(None, at_review("a"), at_review("b"), policy=policy, fresh=False)
    assert found.what == Look("another workflow of the task may be newer, or have gone on")


# --- facts ---------------------------------------------------------------------------------------


def test_the_facts_tell_what_was_found_whatever_was_decided() -> None:
    facts = facts_of(decided(a_request().rule("event.action", "absent")))
    assert (facts.policy.name, facts.stage.name) == ("play", STAGE)
    assert facts.workflow is not None
    assert facts.workflow.key.name == "play"
    assert [gate.display_name for gate in facts.gates] == ["wait"]
    assert [check.field for check in facts.checks] == ["event.action"]
    assert (facts.validated, facts.resumed_by) == (True, "")
    assert facts.deadline == NOW + timedelta(seconds=840)


def test_the_facts_of_a_request_that_waits_leave_open_what_is_not_known() -> None:
    facts = facts_of(decided(None, a_bare_workflow()))
    assert (facts.workflow, facts.validated) == (None, False)


def test_every_reason_of_a_decision_is_met_in_the_tests() -> None:
    """The other reasons are given by the services, from what the API server answers."""
    met = {spoiled.reason for spoiled in SPOILED} | {
        end_of(decided(*arguments))[0]
        for arguments in (
            (None, a_workflow().in_stage(STAGE).marked("x", uid="uid-of-wake")),
            (None, at_review().finished()),
            (None, a_workflow().in_stage("release")),
            (None, at_review().marked()),
            (a_request().at_gate("displayName=wait"), at_review(phase="Succeeded")),
            (None, a_bare_workflow()),
            (None, at_review("a"), at_review("b")),
            (None, at_review().gate("b")),
            (None, at_review().with_status(nodes=[])),
            (a_request().with_spec(deadlineSeconds=0), a_workflow()),
            (a_request().saying(labels=[f"task-{number}" for number in range(20_000)]),),
            (a_request().saying(action="opened"),),
            (a_request().rule("event.x", "regex", "("),),
            (a_request().named("play"), a_bare_workflow()),
            (a_request().named("play").selecting("x=y"), a_workflow()),
            (a_request().parameter("a", "x"),),
            (None, at_review(outputs={"a": {"valueFrom": {"supplied": {}}}})),
            (a_request().parameter("a", "x"), at_review(outputs={"a": {"value": "y"}})),
            (
                a_request().parameter("a", "x"),
                a_workflow()
                .in_stage(STAGE)
                .node(
                    "wait",
                    inputs={"parameters": [{"name": "a", "enum": ["y"]}]},
                    outputs={"parameters": [{"name": "a", "valueFrom": {"supplied": {}}}]},
                ),
            ),
            (a_request().failed_attempt(due=5, reason="RateLimited"),),
            (a_request().with_status(retry={"count": 3}),),
        )
    }
    never_valid = three_stages(nodeFieldSelector="no such field")
    met.add(end_of(decided(policy=never_valid))[0])
    met |= {  # all of them in test_failing
        *(Reason.FAILED_BY_EVENT, Reason.WOULD_FAIL, Reason.NO_GATE_TO_FAIL),
        Reason.GATE_ALREADY_FAILED,
    }
    by_services = {
        Reason.FORBIDDEN,
        Reason.API_REFUSED,
        Reason.INTERNAL_ERROR,
    }
    assert met | by_services == set(Reason)
    assert not met & by_services


# --- what holds for every decision ---------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
STAGES = st.sampled_from(["draft", STAGE, "release"])
NODE_SELECTORS = st.sampled_from(
    ["displayName=a", "displayName!=a", "templateName=tb", "inputs.parameters.stage.value=review"]
)


def mostly() -> st.SearchStrategy[bool]:
    """True nine times out of ten: with all at random, hardly a scene would get to a resume."""
    return st.sampled_from([True] * 9 + [False])


@st.composite
def random_workflows(draw: st.DrawFn, name: str) -> WorkflowBuilder:
    workflow = a_bare_workflow(name).created(draw(st.integers(-900, -1)))
    if draw(mostly()):
        workflow.labelled(task=draw(st.sampled_from([TASK, TASK, TASK, TASK, "8"])))
    workflow.in_stage(STAGE if draw(mostly()) else draw(STAGES))
    for gate in draw(st.sets(NAMES, min_size=1)):
        workflow.gate(
            gate,
            template=f"t{gate}",
            phase=draw(st.sampled_from(["Running", "Running", "Running", "Succeeded", "Pending"])),
            started=draw(st.integers(-700, 0)),
            duration=draw(st.sampled_from(["", "", "", "1h"])),
            inputs={"stage": STAGE if draw(mostly()) else draw(STAGES)},
        )
    if not draw(mostly()):
        workflow.suspended()
    if not draw(mostly()):
        workflow.finished()
    if not draw(mostly()):
        workflow.compressed()
    if not draw(mostly()):
        workflow.marked(
            draw(STAGES),
            node=draw(NAMES),
            started=draw(st.integers(-700, 0)),
            uid=draw(st.sampled_from(["uid-of-other", "uid-of-wake"])),
        )
    return workflow


@st.composite
def random_requests(draw: st.DrawFn) -> RequestBuilder:
    request = a_request().for_stage(STAGE if draw(mostly()) else draw(st.none() | STAGES))
    if draw(st.booleans()):
        request.named("one" if draw(mostly()) else "two")
    if draw(st.booleans()):
        request.at_gate(draw(NODE_SELECTORS))
    return request.with_spec(
        allGates=draw(st.booleans()),
        deadlineSeconds=900 if draw(mostly()) else draw(st.sampled_from([0, 60])),
        dryRun=not draw(mostly()),
    )


@st.composite
def random_scenes(draw: st.DrawFn) -> Scene:
    policy = three_stages(
        ambiguity=draw(st.sampled_from(["Fail", "Newest", "NewestCancelOthers"])),
        repeatable=draw(st.booleans()),
        nodeFieldSelector=draw(st.just("") | NODE_SELECTORS),
    )
    if draw(st.booleans()):
        policy.with_spec(stageParameter="stage")
    return Scene(
        request=draw(random_requests()),
        workflow=draw(random_workflows("one")),
        others=() if draw(mostly()) else (draw(random_workflows("two")),),
        policy=policy,
        fresh=draw(mostly()),
        now=NOW if draw(mostly()) else NOW + timedelta(hours=2),
    )


def seen_by_name(seen: Observation, name: str) -> WorkflowView:
    return next(view for view in seen.workflows if view.key.name == name)


@given(random_scenes())
def test_a_resume_opens_what_was_asked_for_and_never_more(scene: Scene) -> None:
    seen = scene.observed()
    found = decision.decide(seen, scene.now)
    if not isinstance(found.what, Resume):
        return
    order, spec = found.what.order, seen.request.spec
    view = seen_by_name(seen, order.key.name)
    assert order.uid == view.uid
    assert view.labels[constants.DEFAULT_TASK_LABEL] == spec.correlation_data.task_id
    assert not view.finished
    assert spec.workflow_name in (None, view.key.name)
    assert order.gates or order.lift_suspend
    assert len(order.gates) <= 1 or spec.all_gates
    assert not order.lift_suspend or view.suspended
    for ordered in order.gates:
        gate = view.gate(ordered.id)
        assert gate is not None
        assert gate.is_open
        assert ordered.started_at == gate.started_at
        assert not gate.delay or spec.node_field_selector is not None
        opened = workflows.moment(gate.started_at)
        assert opened is not None
        assert found.facts.deadline is not None
        assert min(opened, scene.now) <= found.facts.deadline
    assert order.marker.workflow_uid == view.uid
    for older in found.facts.superseded:
        assert scene.fresh
        assert older.labels[constants.DEFAULT_TASK_LABEL] == spec.correlation_data.task_id
        assert (older.created, older.key.name) <= (view.created, view.key.name)
        assert not older.finished
        assert not older.terminated


@given(random_scenes())
def test_every_decision_says_what_comes_next(scene: Scene) -> None:
    seen = scene.observed()
    found = decision.decide(seen, scene.now)
    match found.what:
        case Resume():
            assert found.facts.validated is True
            assert not seen.request.spec.dry_run
        case Look(why):
            assert why
            assert not scene.fresh
        case End(reason, message, until):
            assert message
            assert reason.outcome.terminal is (until is None)
            assert until is None or until > scene.now
            on_the_watch = reason.outcome in (Outcome.RESUMED, Outcome.DRY_RUN)
            assert scene.fresh or on_the_watch or not reason.outcome.terminal
    assert decision.decide(seen, scene.now) == found


@given(random_scenes())
def test_once_resumed_the_same_request_finds_its_trace_and_another_opens_nothing_more(
    scene: Scene,
) -> None:
    seen = scene.observed()
    found = decision.decide(seen, scene.now)
    if not isinstance(found.what, Resume) or found.facts.stage.repeatable:
        return
    order = found.what.order
    after = next(one for one in (scene.workflow, *scene.others) if one.name == order.key.name)
    after.annotated(order.marker_key, order.marker.encode())
    for gate in order.gates:
        name = gate.display_name
        after.gate(name, template=f"t{name}", phase="Succeeded", message=gate.message, started=-700)
    scene.workflow, scene.others, scene.fresh = after, (), True
    same = scene.decided()
    assert end_of(same)[0] in (Reason.GATE_OPENED, Reason.WORKFLOW_UNSUSPENDED)
    scene.request = copy_of(scene.request)
    assert not isinstance(scene.decided().what, Resume)


def copy_of(request: RequestBuilder) -> RequestBuilder:
    """Another request that asks for the same."""
    return a_request("another").with_spec(**request.build()["spec"])


def test_a_request_created_later_waits_longer() -> None:
    assert word(decided(a_request().created(-899), a_workflow())) == "StageNotReached"
    assert word(decided(a_request().created(-900), a_workflow())) == "DeadlineExceeded"
