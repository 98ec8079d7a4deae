"""A policy is resolved once: every stage has every setting, and one policy is in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from resumer.api.policy import Ambiguity, Jitter, RetryStrategy, TaskIdPlace
from resumer.core import backoff, breaker, extraction, policies
from resumer.core.policies import Policy
from resumer.errors import InvalidError
from tests.builders import PolicyBuilder, a_policy


def test_the_built_in_policy_is_that_of_the_requirements() -> None:
    policy = policies.BUILT_IN
    assert [stage.name for stage in policy.stages] == [
        "waiting-pr-created",
        "waiting-ready-for-qa",
        "waiting-pr-approved",
        "waiting-task-complete",
    ]
    assert policy.stage_by_event == {
        "pr-created": "waiting-pr-created",
        "pr-labeled-ready": "waiting-ready-for-qa",
        "pr-approved": "waiting-pr-approved",
        "task-completed": "waiting-task-complete",
    }
    assert (policy.task_label, policy.stage_label) == ("task-id", "current-stage")
    for stage in (*policy.stages, policy.fallback):
        assert stage.retry == backoff.RetryStrategy()
        assert stage.breaker == breaker.BreakerSettings()
        assert (stage.ambiguity, stage.deadline_seconds) == (Ambiguity.FAIL, 900)
        assert (stage.repeatable, stage.allow_templates, stage.set_labels) == (False, False, {})
        assert stage.node_selector is None


@pytest.mark.parametrize(
    ("own", "defaults", "field", "value"),
    [
        ({}, {}, "deadline_seconds", 900),
        ({}, {"deadlineSeconds": 5}, "deadline_seconds", 5),
        ({"deadlineSeconds": 0}, {"deadlineSeconds": 5}, "deadline_seconds", 0),
        ({"repeatable": False}, {"repeatable": True}, "repeatable", False),
        ({}, {"repeatable": True}, "repeatable", True),
        ({}, {"ambiguity": "Newest"}, "ambiguity", Ambiguity.NEWEST),
        ({"setLabels": {}}, {"setLabels": {"a": "b"}}, "set_labels", {}),
        ({}, {"allowTemplates": True}, "allow_templates", True),
    ],
)
def test_a_setting_is_the_stages_own_else_the_default_else_built_in(
    own: dict[str, Any], defaults: dict[str, Any], field: str, value: object
) -> None:
    policy = a_policy().stage("review", **own).defaults(**defaults).resolved()
    assert getattr(policy.stage("review"), field) == value


def test_an_empty_node_selector_of_a_stage_takes_that_of_the_defaults_away() -> None:
    policy = (
        a_policy()
        .defaults(nodeFieldSelector="templateName=gate")
        .stage("review", nodeFieldSelector="")
        .stage("draft")
        .resolved()
    )
    assert policy.stage("review").node_selector is None
    assert str(policy.stage("draft").node_selector) == "templateName=gate"


def test_retry_and_breaker_are_taken_as_a_whole_and_completed() -> None:
    retry = {"strategy": "Custom", "delaysSeconds": [30, 60], "jitter": "None"}
    policy = a_policy().stage("review", retry=retry, circuitBreaker={"openSeconds": 5}).resolved()
    stage = policy.stage("review")
    assert stage.retry == backoff.RetryStrategy(
        RetryStrategy.CUSTOM, delays_seconds=(30.0, 60.0), jitter=Jitter.NONE
    )
    assert stage.breaker == breaker.BreakerSettings(open_seconds=5)


def test_a_stage_that_is_not_listed_has_the_defaults_under_its_own_name() -> None:
    policy = a_policy().defaults(deadlineSeconds=5).stage("review", deadlineSeconds=9).resolved()
    stage = policy.stage("elsewhere")
    assert (stage.name, stage.deadline_seconds) == ("elsewhere", 5)
    assert policy.position("elsewhere") is None
    assert policy.position("review") == 0


@pytest.mark.parametrize(
    ("stages", "asked", "owns"),
    [
        ({"review": "templateName=a", "draft": "templateName=b"}, "review", True),
        ({"review": "templateName=a", "draft": "templateName=a"}, "review", False),
        ({"review": ""}, "review", False),
        ({"review": "templateName=a"}, "elsewhere", False),
    ],
    ids=["its own", "another's too", "none", "a stage that is not listed"],
)
def test_a_stage_owns_a_gate_that_it_alone_names(
    stages: Mapping[str, str], asked: str, owns: bool
) -> None:
    builder = a_policy().defaults(nodeFieldSelector="templateName=a")
    for name, selector in stages.items():
        builder.stage(name, nodeFieldSelector=selector)
    policy = builder.resolved()
    assert policy.owns_gate(policy.stage(asked)) is owns


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (None, {}, False),
        ({}, {}, True),
        ({"matchLabels": {"kind": "play"}}, {"kind": "play", "x": "y"}, True),
        ({"matchLabels": {"kind": "play"}}, {}, False),
        (
            {"matchExpressions": [{"key": "kind", "operator": "Exists"}]},
            {"kind": "x"},
            True,
        ),
        (
            {"matchExpressions": [{"key": "kind", "operator": "NotIn", "values": ["x"]}]},
            {"kind": "x"},
            False,
        ),
    ],
)
def test_a_policy_is_for_the_workflows_that_its_selector_matches(
    selector: dict[str, Any] | None, labels: dict[str, str], matches: bool
) -> None:
    assert a_policy().with_spec(workflowSelector=selector).resolved().matches(labels) is matches


OLD = a_policy("old").created(-100).for_workflows({"kind": "play"}).resolved()
ALSO_OLD = a_policy("also-old").created(-100).for_workflows({"kind": "play"}).resolved()
NEW = a_policy("new").created(-50).for_workflows({}).resolved()
OLDEST = a_policy("oldest").created(-900).for_workflows({}).resolved()
TWO = a_policy("two").created(-1).for_workflows({"kind": "play", "team": "a"}).resolved()
REPEATED = (
    a_policy("repeated")
    .with_spec(
        workflowSelector={
            "matchExpressions": [{"key": "kind", "operator": "In", "values": ["play"]}] * 3,
        }
    )
    .created(-1)
    .resolved()
)
OTHER = a_policy("other").created(-200).for_workflows(None).resolved()


@pytest.mark.parametrize(
    ("known", "requested", "labels", "chosen"),
    [
        ([], None, {}, policies.BUILT_IN),
        ([OLDEST, NEW, OLD, TWO], None, {"kind": "play", "team": "a"}, TWO),
        ([OLDEST, NEW, OLD, TWO], None, {"kind": "play", "team": "b"}, OLD),
        ([NEW, OLDEST], None, {}, OLDEST),
        ([REPEATED, TWO], None, {"kind": "play", "team": "a"}, TWO),
        ([NEW, OLD, ALSO_OLD], None, {"kind": "play"}, ALSO_OLD),
        ([NEW, OLD], None, {}, NEW),
        ([OLD, OTHER], None, {}, policies.BUILT_IN),
        ([NEW, OTHER], "other", {}, OTHER),
        ([NEW, OTHER], "missing", {}, None),
    ],
    ids=[
        "none: the built-in one",
        "the one with the most requirements, if it is the youngest",
        "of those that match",
        "of as many requirements the oldest",
        "of which repetitions do not count",
        "of the same age the first by name",
        "one that matches",
        "none that matches: the built-in one",
        "the requested one",
        "the requested one is not there",
    ],
)
def test_one_policy_is_in_force(
    known: list[Policy], requested: str | None, labels: dict[str, str], chosen: Policy | None
) -> None:
    assert policies.choose(known, requested, labels) is chosen
    assert policies.choose(reversed(known), requested, labels) is chosen


@pytest.mark.parametrize(
    ("labels", "others"),
    [
        ({"kind": "play", "team": "a"}, ("also-old", "old", "oldest", "new")),
        ({"kind": "play"}, ("old", "oldest", "new")),
        ({}, ("new",)),
    ],
)
def test_the_policies_that_match_as_well_are_named_in_the_order_of_their_precedence(
    labels: dict[str, str], others: tuple[str, ...]
) -> None:
    known = [OTHER, NEW, OLD, OLDEST, ALSO_OLD, TWO]
    chosen = policies.choose(known, None, labels)
    assert chosen is not None
    assert policies.also_matching(known, chosen, labels) == others


def test_a_selector_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InvalidError, match=r"spec\.stages\[review\]\.nodeFieldSelector") as raised:
        a_policy().stage("review", nodeFieldSelector="bogus=1").resolved()
    assert raised.value.field == "spec.stages[review].nodeFieldSelector"


def test_without_rules_of_its_own_a_policy_reads_events_by_the_built_in_ones() -> None:
    assert a_policy().resolved().extraction == extraction.DEFAULT
    assert policies.BUILT_IN.extraction == extraction.DEFAULT


def test_a_policy_can_say_how_events_are_read() -> None:
    events = {
        "taskIdSources": [{"from": "Title", "pattern": "#([0-9]+)"}],
        "types": [
            {"name": "green", "event": "check_suite", "conclusion": "success"},
            {"name": "closed", "event": "pull_request", "action": "closed", "merged": False},
        ],
    }
    found = a_policy().with_spec(events=events).resolved().extraction
    assert found.sources == (
        extraction.TaskSource(
            TaskIdPlace.TITLE, "#([0-9]+)", "spec.events.taskIdSources[0].pattern"
        ),
    )
    assert found.types == (
        extraction.TypeRule("green", "check_suite", conclusion="success"),
        extraction.TypeRule("closed", "pull_request", "closed", merged=False),
    )


@pytest.mark.parametrize("given", ["taskIdSources", "types"])
def test_each_list_of_rules_is_replaced_by_itself(given: str) -> None:
    events = {
        "taskIdSources": [{"from": "Branch", "pattern": "(.+)"}],
        "types": [{"name": "pushed", "event": "push"}],
    }
    found = a_policy().with_spec(events={given: events[given]}).resolved().extraction
    assert (found.sources == extraction.DEFAULT.sources) is (given == "types")
    assert (found.types == extraction.DEFAULT.types) is (given == "taskIdSources")


def test_a_pattern_that_cannot_be_used_is_named() -> None:
    sources = [{"from": "Labels", "pattern": "(.)"}, {"from": "Title", "pattern": "("}]
    with pytest.raises(InvalidError) as caught:
        a_policy().with_spec(events={"taskIdSources": sources}).resolved()
    assert caught.value.field == "spec.events.taskIdSources[1].pattern"
    assert "spec.events.taskIdSources[1].pattern: '(' is not a pattern RE2 accepts" in str(
        caught.value
    )


def test_the_stages_that_fail_on_a_type_are_known_in_their_order() -> None:
    policy = (
        a_policy()
        .stage("a", failOn=["closed", "rejected"])
        .stage("b", failOn=[])
        .stage("c")
        .defaults(failOn=["closed"])
        .resolved()
    )
    assert policy.stages_failing_on("closed") == ("a", "c")
    assert policy.stages_failing_on("rejected") == ("a",)
    assert policy.stages_failing_on("opened") == ()
    assert policies.BUILT_IN.stages_failing_on("pr-closed") == ()


# --- what is in force ----------------------------------------------------------------------------

BROKEN = "no such field"
VALID = a_policy().stage("review", "reviewed", deadlineSeconds=5)


def version(builder: PolicyBuilder, generation: int = 1) -> policies.Version:
    return policies.Version(generation, builder.build()["spec"])


@pytest.mark.parametrize(
    ("builder", "field"),
    [
        (a_policy().stage("review", setLabels={"task-id": "8"}), "spec.stages[review].setLabels"),
        (a_policy().defaults(setLabels={"task-id": ""}), "spec.defaults.setLabels"),
    ],
)
def test_a_policy_that_would_set_its_task_label_is_not_valid(
    builder: PolicyBuilder, field: str
) -> None:
    found = builder.in_force()
    assert found.policy is not None
    assert found.policy.problem.startswith(f"{field}: 'task-id' is the policy's taskLabel, by ")
    assert found.policy.fallback.set_labels == {}
    other = builder.with_spec(taskLabel="ticket").resolved()
    assert other.problem == ""


def test_a_valid_policy_is_in_force_in_its_newest_version() -> None:
    found = VALID.in_force(last_valid=version(a_policy(), 7))
    assert found == policies.InForce(VALID.resolved(), version(VALID))


def test_the_last_valid_version_is_in_force_while_the_newest_is_not_valid() -> None:
    found = a_policy().stage("review", nodeFieldSelector=BROKEN).in_force(version(VALID, 7))
    assert (found.policy, found.version) == (VALID.resolved(), version(VALID, 7))
    assert found.problem.startswith("spec.stages[review].nodeFieldSelector: the term 'no such")
    assert found.problem.endswith("; generation 7, the last valid one, stays in force")


def test_a_policy_without_a_valid_version_has_all_that_can_be_read_and_says_what_is_wrong() -> None:
    found = (
        a_policy()
        .stage("review", "reviewed", deadlineSeconds=5, nodeFieldSelector=BROKEN)
        .defaults(nodeFieldSelector=BROKEN, repeatable=True)
        .in_force(version(a_policy().with_spec(taskLabel="no label!")))
    )
    policy = found.policy
    assert policy is not None
    assert found.version is None
    stage = policy.stage("review")
    assert (stage.deadline_seconds, stage.repeatable, stage.node_selector) == (5, True, None)
    assert policy.stage_by_event == {"reviewed": "review"}
    assert "nodeFieldSelector" in policy.problem
    assert found.problem == (
        f"{policy.problem}; no earlier version is known, so requests for its workflows wait"
    )


@pytest.mark.parametrize("spec", [{"stages": "none"}, {"stages": [{"name": "no name!"}]}])
def test_of_a_policy_that_the_schema_would_refuse_its_workflows_are_known(
    spec: dict[str, Any],
) -> None:
    builder = a_policy().for_workflows({"kind": "play"}).with_spec(taskLabel="ticket", **spec)
    policy = builder.in_force().policy
    assert policy is not None
    assert policy.problem.startswith("spec.stages")
    assert (policy.task_label, policy.matches({"kind": "play"})) == ("ticket", True)


def test_a_policy_of_which_nothing_can_be_read_is_not_in_force() -> None:
    found = a_policy().with_spec(workflowSelector="all").in_force()
    assert (found.policy, found.version) == (None, None)
    assert found.problem.startswith("spec.workflowSelector: ")
    assert found.problem.endswith("; the policy is not in force")
