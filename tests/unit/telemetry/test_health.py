"""Health: a watch that does nothing is found, and readiness waits for every first list."""

from __future__ import annotations

from resumer.telemetry import health


def test_a_watch_is_alive_up_to_the_limit_and_not_beyond() -> None:
    checks = health.alive({"workflows": 180.0, "workflowresumes": 180.1}, limit=180)
    assert [check.ok for check in checks] == [True, False]


def test_a_watch_that_does_nothing_is_named_with_since_when_and_what_is_allowed() -> None:
    assert health.alive({"workflows": 200.4}, limit=180) == [
        health.Check(
            name="watch of workflows",
            ok=False,
            message="last heard of or tried 200 s ago, 180 s are allowed",
        )
    ]


def test_ready_means_every_first_list_is_complete() -> None:
    checks = health.complete({"workflows": True, "workflowresumes": False})
    assert [(check.name, check.ok, check.message) for check in checks] == [
        ("first list of workflows", True, "complete"),
        ("first list of workflowresumes", False, "awaited"),
    ]


def test_before_any_watch_it_is_healthy_and_not_ready() -> None:
    assert health.alive({}, limit=180) == []
    (check,) = health.complete({})
    assert not check.ok
    assert check.message == "not started yet"


def test_to_stand_by_is_well_unless_it_could_never_lead() -> None:
    assert health.leadership(True, "standing by") == health.Check(
        name="leadership", ok=True, message="standing by"
    )
    assert not health.leadership(False, "the lease cannot be used: forbidden").ok
