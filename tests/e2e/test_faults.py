"""A sick API server between decision and record: each request ends as if it had been well.

The operator sees the API server through a proxy that breaks single calls. Each test has a policy
with a stage of its own, so that no breaker of another test gets in its way. The state asserted is
the cluster's, the history of the statuses is a watch's, the calls are those that the proxy saw.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.e2e.support import faults, rig, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

REQUEST_TIMEOUT = 15


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy; its calls time out sooner than by default."""
    options = ["--request-timeout", str(REQUEST_TIMEOUT)]
    with rig.running(home, tmp_path_factory.mktemp("faults"), options=options) as started:
        yield started


def patches(name: str) -> str:
    """The path of the writes to a Workflow."""
    return rf"/workflows/{name}$"


def statuses(name: str) -> str:
    """The path of the writes to the status of a WorkflowResume."""
    return rf"/workflowresumes/{name}/status$"


def instant(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def ready(plant: Rig, name: str, *, attempts: int = 3, **stage: object) -> None:
    """A policy, and a Workflow of its stage that is known to be at its first gate."""
    retry = stage.pop("retry", {})
    assert isinstance(retry, dict)
    plant.policy(name, retry={"maxAttempts": attempts, **retry}, **stage)
    plant.shown(name, name)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_write_that_the_api_server_fails_is_tried_again_and_each_try_is_listed(
    plant: Rig, failures: int
) -> None:
    name = f"fails-{failures}"
    ready(plant, name)
    plant.proxy.on("PATCH", patches(name), faults.answer(503), times=failures)
    plant.home.ask(plant.request(name, name))
    final = plant.resumed_once(name)
    assert [one["number"] for one in final["attempts"]] == list(range(1, failures + 2))
    assert [one["reason"] for one in final["attempts"]] == ["ApiUnavailable"] * failures + [
        "GateOpened"
    ]
    assert final["retry"] == {"count": failures}
    backing_off = [one for one in plant.history.of(name) if one["outcome"] == "BackingOff"]
    assert [one["retry"]["count"] for one in backing_off] == list(range(1, failures + 1))
    for number, told in enumerate(backing_off, 1):
        assert len(told["attempts"]) == number
        due = instant(told["retry"]["nextAttemptTime"])
        assert plant.writes(name)[number].began >= due
    assert plant.history.reasons(name) == ["ApiUnavailable", "GateOpened"]


def test_when_every_attempt_failed_the_request_has_failed_and_the_gate_is_closed(
    plant: Rig,
) -> None:
    ready(plant, "exhausted")
    with plant.proxy.on("PATCH", patches("exhausted"), faults.answer(503), times=None) as rule:
        plant.home.ask(plant.request("exhausted", "exhausted"))
        status = plant.came_to("exhausted", Reason.RETRIES_EXHAUSTED)
        assert rule.hits == 3
    assert [one["number"] for one in status["attempts"]] == [1, 2, 3]
    assert "attempt 3 of 3 failed" in status["message"]
    plant.untouched("exhausted")


@pytest.mark.parametrize("how", ["status 500", "status 504", "drop", "reset"])
def test_a_call_that_broke_before_it_arrived_is_made_again(plant: Rig, how: str) -> None:
    name = f"before-{how.replace(' ', '-')}"
    ready(plant, name)
    breaks = {
        "status 500": faults.answer(500),
        "status 504": faults.answer(504),
        "drop": faults.drop_before,
        "reset": faults.reset_before,
    }
    plant.proxy.on("PATCH", patches(name), breaks[how])
    plant.home.ask(plant.request(name, name))
    assert plant.resumed_once(name)["retry"] == {"count": 1}


def test_while_workflows_cannot_be_read_the_request_says_so_and_uses_up_no_attempt(
    plant: Rig,
) -> None:
    name = "unread"
    plant.policy(name)
    with plant.proxy.on("GET", patches(name), faults.answer(503), times=None):
        plant.home.ask(plant.request(name, name, workflowName=name))
        status = plant.came_to(name, Reason.API_UNAVAILABLE)
    assert status["message"].startswith("no attempt was made: cannot read workflows: ")
    assert "attempts" not in status
    assert status["retry"]["count"] == 0
    assert status["retry"]["nextAttemptTime"]
    assert plant.breaker(name) is None
    plant.home.submit(plant.workflow(name, name))
    assert [one["number"] for one in plant.resumed_once(name)["attempts"]] == [1]


def test_while_no_tls_handshake_succeeds_nothing_is_given_up_and_all_goes_on_afterwards(
    plant: Rig,
) -> None:
    """All connections break at the write; neither it nor a watch finds the way back for a while."""
    name = "handshake"
    ready(plant, name, attempts=20)
    hold = faults.Hold()
    plant.proxy.on("PATCH", patches(name), hold)
    plant.home.ask(plant.request(name, name))
    hold.wait()
    with plant.proxy.without_handshakes() as failed:
        hold.drop()
        waiting.eventually(lambda: failed() >= 10, lambda: f"{failed()} handshakes failed")
    plant.resumed_once(name)


@pytest.mark.parametrize("how", ["drop", "reset", "garbage", "status 500", "status 504"])
def test_a_write_that_was_done_and_whose_answer_was_lost_is_ours_and_is_not_made_again(
    plant: Rig, how: str
) -> None:
    name = f"after-{how.replace(' ', '-')}"
    ready(plant, name)
    breaks: dict[str, faults.Fault] = {
        "drop": faults.drop_after,
        "reset": faults.reset_after,
        "garbage": faults.garble_after,
        "status 500": faults.answer_after(500),
        "status 504": faults.answer_after(504),
    }
    plant.proxy.on("PATCH", patches(name), breaks[how])
    plant.home.ask(plant.request(name, name))
    status = plant.resumed_once(name)
    assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]
    assert plant.history.reasons(name) == ["GateOpened"]
    assert len(plant.writes(name)) == 1


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_lost_answer_that_cannot_be_looked_up_is_looked_up_later_and_never_called_a_failure(
    plant: Rig, attempts: int
) -> None:
    name = f"blind-{attempts}"
    ready(plant, name, attempts=attempts)
    plant.proxy.on("PATCH", patches(name), faults.drop_after)
    plant.proxy.on("GET", r"/workflows$", faults.answer(503), times=2)
    plant.home.ask(plant.request(name, name))
    plant.resumed_once(name)
    assert len(plant.writes(name)) == 1
    assert "RetriesExhausted" not in plant.history.reasons(name)


def test_a_write_that_times_out_and_arrives_late_is_the_one_that_counts(plant: Rig) -> None:
    ready(plant, "slow", retry={"baseSeconds": 10})
    plant.proxy.on("PATCH", patches("slow"), faults.delay(REQUEST_TIMEOUT + 1))
    plant.home.ask(plant.request("slow", "slow"))
    plant.history.wait_reason("slow", "ApiUnavailable")
    status = plant.resumed_once("slow")
    # The second look found what the first call did meanwhile.
    assert len(plant.writes("slow")) == 1
    assert [one["reason"] for one in status["attempts"]][:1] == ["ApiUnavailable"]


@pytest.mark.parametrize("status", [409, 422])
def test_a_conflict_is_looked_at_again_at_once_and_uses_up_nothing(plant: Rig, status: int) -> None:
    name = f"conflict-{status}"
    ready(plant, name, attempts=1)
    plant.proxy.on("PATCH", patches(name), faults.answer(status), times=4)
    plant.home.ask(plant.request(name, name))
    final = plant.resumed_once(name)
    assert "retry" not in final
    assert plant.history.reasons(name) == ["GateOpened"]
    assert len(plant.writes(name)) == 5


def test_conflicts_without_end_in_one_pass_are_taken_up_by_the_next(plant: Rig) -> None:
    ready(plant, "storm", attempts=1)
    plant.proxy.on("PATCH", patches("storm"), faults.answer(409), times=20)
    plant.home.ask(plant.request("storm", "storm"))
    assert "retry" not in plant.resumed_once("storm")


def test_the_wait_that_the_api_server_asks_for_is_kept_and_no_attempt_is_used_up(
    plant: Rig,
) -> None:
    ready(plant, "limited", attempts=1, circuitBreaker={"failureThreshold": 1, "openSeconds": 60})
    plant.proxy.on("PATCH", patches("limited"), faults.answer(429, retry_after=2), times=2)
    plant.home.ask(plant.request("limited", "limited"))
    final = plant.resumed_once("limited")
    first, second, third = plant.writes("limited")
    for before, after in ((first, second), (second, third)):
        assert after.began - before.began >= datetime.timedelta(seconds=2)
    assert [one["reason"] for one in final["attempts"]] == ["GateOpened"]
    assert "retry" not in final
    assert plant.breaker("limited") is None
    assert plant.operator.metric("resumer_api_turned_away_total") >= 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.API_REFUSED),  # as an admission webhook may say
        (401, Reason.FORBIDDEN),
        (403, Reason.FORBIDDEN),
        (413, Reason.API_REFUSED),
    ],
)
def test_a_refusal_for_good_ends_the_request_after_one_try(
    plant: Rig, status: int, reason: Reason
) -> None:
    name = f"refused-{status}"
    ready(plant, name, circuitBreaker={"failureThreshold": 1, "openSeconds": 60})
    with plant.proxy.on("PATCH", patches(name), faults.answer(status), times=None) as rule:
        plant.home.ask(plant.request(name, name))
        plant.came_to(name, reason)
        assert rule.hits == 1
    plant.untouched(name)
    assert plant.breaker(name) is None


def test_what_an_api_server_forbids_that_has_just_started_is_tried_again(plant: Rig) -> None:
    """Until it has read the Roles it forbids everything, and is not ready."""
    name = "starting"
    ready(plant, name)
    with (
        plant.proxy.on("PATCH", patches(name), faults.answer(403)),
        plant.proxy.on("GET", "^/readyz$", faults.answer(500)) as asked,
    ):
        plant.home.ask(plant.request(name, name))
        status = plant.resumed_once(name)
    assert asked.hits == 1
    reasons = [one["reason"] for one in status["attempts"]]
    assert reasons == [Reason.API_UNAVAILABLE, Reason.GATE_OPENED]


@pytest.mark.parametrize("how", ["503", "drop before", "drop after", "reset", "garbage"])
def test_a_status_that_cannot_be_written_is_right_in_the_end_and_the_gate_was_opened_once(
    plant: Rig, how: str
) -> None:
    name = f"status-{how.replace(' ', '-')}"
    ready(plant, name)
    breaks: dict[str, faults.Fault] = {
        "503": faults.answer(503),
        "drop before": faults.drop_before,
        "drop after": faults.drop_after,
        "reset": faults.reset_before,
        "garbage": faults.garble_after,
    }
    plant.proxy.on("PATCH", statuses(name), breaks[how], times=3)
    plant.home.ask(plant.request(name, name))
    status = plant.resumed_once(name)
    assert status["resumedBy"] == f"workflowresume/{name}"
    assert [one["reason"] for one in status["attempts"]] == ["GateOpened"]
    assert plant.history.reasons(name) == ["GateOpened"]


def test_a_failed_attempt_that_cannot_be_recorded_counts_all_the_same(plant: Rig) -> None:
    ready(plant, "unrecorded")
    plant.proxy.on("PATCH", patches("unrecorded"), faults.answer(503), times=None)
    plant.proxy.on("PATCH", statuses("unrecorded"), faults.answer(503), times=3)
    plant.home.ask(plant.request("unrecorded", "unrecorded"))
    status = plant.came_to("unrecorded", Reason.RETRIES_EXHAUSTED)
    assert [one["number"] for one in status["attempts"]] == [1, 2, 3]
    assert len(plant.writes("unrecorded")) == 3
    plant.untouched("unrecorded")


def test_a_workflow_that_changes_all_the_time_is_resumed(plant: Rig) -> None:
    names = [f"churn-{number}" for number in range(5)]
    plant.policy("churn", retry={"maxAttempts": 1})
    gates = {
        name: homes.node(plant.home.submit(plant.workflow(name, "churn")), "first")["id"]
        for name in names
    }
    stopped, writes = threading.Event(), 0

    def churn() -> None:
        nonlocal writes
        # The pool of connections of the client is one thread's.
        mine = client.Cluster(plant.home.cluster.kubeconfig)
        while not stopped.wait(0.02):
            name = names[writes % len(names)]
            progress = {"status": {"nodes": {name: {"message": f"change {writes}"}}}}
            mine.patch(homes.WORKFLOW, name, plant.home.namespace, progress)
            writes += 1
        mine.close()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        waiting.eventually(lambda: writes > 20, lambda: f"{writes} changes")
        plant.home.ask(*(plant.request(name, "churn") for name in names))
        final = {name: plant.came_to(name, Reason.GATE_OPENED) for name in names}
    finally:
        stopped.set()
        thread.join(10)
    assert set(gates) == {name for name, status in final.items() if "retry" not in status}
    for name in names:
        plant.opened_once(name)


def test_a_workflow_that_is_terminated_between_decision_and_write_makes_the_request_late(
    plant: Rig,
) -> None:
    ready(plant, "terminated")
    hold = faults.Hold()
    plant.proxy.on("PATCH", patches("terminated"), hold)
    plant.home.ask(plant.request("terminated", "terminated"))
    hold.wait()
    plant.home.cluster.patch(
        homes.WORKFLOW, "terminated", plant.home.namespace, {"spec": {"shutdown": "Terminate"}}
    )
    plant.home.ended("terminated", "Failed")
    hold.release()
    plant.came_to("terminated", Reason.WORKFLOW_FINISHED)
    assert plant.history.reasons("terminated") == ["WorkflowFinished"]
    assert not [one for one in plant.writes("terminated") if one.took_effect]


def test_a_workflow_that_is_deleted_between_decision_and_write_is_waited_for(plant: Rig) -> None:
    ready(plant, "deleted")
    hold = faults.Hold()
    plant.proxy.on("PATCH", patches("deleted"), hold)
    plant.home.ask(plant.request("deleted", "deleted"))
    hold.wait()
    plant.home.cluster.delete(homes.WORKFLOW, "deleted", plant.home.namespace)
    plant.home.cluster.wait_gone(homes.WORKFLOW, "deleted", plant.home.namespace, homes.TIMEOUT)
    hold.release()
    plant.came_to("deleted", Reason.WORKFLOW_NOT_FOUND)
    assert plant.history.reasons("deleted") == ["WorkflowNotFound"]


def test_a_workflow_that_took_the_name_of_another_between_decision_and_write_is_not_touched(
    plant: Rig,
) -> None:
    ready(plant, "replaced")
    hold = faults.Hold()
    plant.proxy.on("PATCH", patches("replaced"), hold)
    plant.home.ask(plant.request("replaced", "replaced"))
    hold.wait()
    plant.home.cluster.delete(homes.WORKFLOW, "replaced", plant.home.namespace)
    plant.home.cluster.wait_gone(homes.WORKFLOW, "replaced", plant.home.namespace, homes.TIMEOUT)
    other = plant.workflow("replaced", "replaced")
    other["metadata"]["labels"]["task-id"] = "another"
    plant.home.submit(other)
    hold.release()
    plant.came_to("replaced", Reason.WORKFLOW_NOT_FOUND)
    plant.untouched("replaced")


@pytest.mark.parametrize("seconds", [1, 6])
def test_the_planned_attempt_outlives_the_operator_and_is_neither_early_nor_lost(
    plant: Rig, seconds: int
) -> None:
    name = f"planned-{seconds}"
    ready(plant, name, retry={"baseSeconds": seconds})
    plant.proxy.on("PATCH", patches(name), faults.answer(503))
    plant.home.ask(plant.request(name, name))
    told = plant.history.wait_reason(name, "ApiUnavailable")
    plant.kill()
    plant.start()
    final = plant.resumed_once(name)
    assert [one["reason"] for one in final["attempts"]] == ["ApiUnavailable", "GateOpened"]
    assert [one["number"] for one in final["attempts"]] == [1, 2]
    assert final["retry"] == {"count": 1}
    _, second = plant.writes(name)
    assert second.began >= instant(told["retry"]["nextAttemptTime"])
    assert plant.history.reasons(name) == ["ApiUnavailable", "GateOpened"]
