"""What has not finished is counted by stage, outcome and age, whoever looks and whenever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from resumer.services import outstanding
from resumer.services.circuits import BreakerStore
from resumer.services.requeststore import RequestStore
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from tests import builders
from tests.unit.services.world import key

NOW = builders.NOW
BUILT_IN_STAGE = "waiting-pr-created"


def stores() -> Stores:
    return Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())


def ask(into: Stores, name: str, *, age: float = 0, **status: Any) -> None:
    body = builders.a_request(name).created(-age).build()
    into.requests.put({**body, "status": status} if status else body, NOW)


def in_stage(stage: str) -> builders.Json:
    return {"name": "", "uid": "", "stage": stage}


def test_there_is_nothing_where_nobody_asked() -> None:
    assert outstanding.count(stores(), NOW) == {}


def test_requests_of_one_stage_outcome_and_age_are_counted_together() -> None:
    known = stores()
    for name in ("one", "two"):
        ask(known, name, outcome="Waiting", workflow=in_stage(BUILT_IN_STAGE))
    ask(known, "held", outcome="CircuitOpen", workflow=in_stage(BUILT_IN_STAGE))
    assert outstanding.count(known, NOW) == {
        (BUILT_IN_STAGE, "Waiting", "0-1m"): 2,
        (BUILT_IN_STAGE, "CircuitOpen", "0-1m"): 1,
    }


def test_what_was_not_looked_at_yet_is_pending() -> None:
    known = stores()
    ask(known, "new")
    assert outstanding.count(known, NOW) == {("other", "Pending", "0-1m"): 1}


def test_what_has_finished_is_not_counted() -> None:
    known = stores()
    ask(known, "done", outcome="Waiting")
    known.requests.finish(key("done"))
    assert outstanding.count(known, NOW) == {}


def test_a_stage_that_no_policy_of_the_namespace_lists_is_other() -> None:
    """So no user can make series by naming stages."""
    known = stores()
    ask(known, "mine", outcome="Waiting", workflow=in_stage("first"))
    assert set(outstanding.count(known, NOW)) == {("other", "Waiting", "0-1m")}
    policy = builders.three_stages().resolved()
    known.policies.put(key("play"), policy)
    ask(known, "theirs", outcome="Waiting", workflow=in_stage(policy.stages[0].name))
    assert (policy.stages[0].name, "Waiting", "0-1m") in outstanding.count(known, NOW)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-5, "0-1m"),
        (59, "0-1m"),
        (60, "1m-5m"),
        (299, "1m-5m"),
        (300, "5m-15m"),
        (899, "5m-15m"),
        (900, "15m-1h"),
        (3600, "1h-6h"),
        (21600, "6h-1d"),
        (86399, "6h-1d"),
        (86400, "over-1d"),
        (10**8, "over-1d"),
    ],
)
def test_requests_grow_older_without_anything_that_happens(seconds: float, age: str) -> None:
    known = stores()
    ask(known, "waits", outcome="Waiting")
    then = NOW + timedelta(seconds=seconds)
    assert outstanding.count(known, then) == {("other", "Waiting", age): 1}
