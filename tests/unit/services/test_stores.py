"""The stores: what the watches have shown, without what is older, over, or another's."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from resumer.api.outcomes import Outcome
from resumer.api.resume import WorkflowResume
from resumer.core import workflows
from resumer.core.keys import Key
from resumer.services import requeststore
from resumer.services.circuits import BreakerStore
from resumer.services.requeststore import RequestStore, Unreadable
from resumer.services.stores import PolicyStore, Stores
from resumer.services.workflowindex import WorkflowIndex
from tests import builders
from tests.unit.services.world import key

NOW = builders.NOW
LABELS = frozenset({"task-id"})


def request(version: str = "200", uid: str = "uid-of-wake", **status: Any) -> builders.Json:
    body = builders.a_request("wake").build()
    body["metadata"].update(resourceVersion=version, uid=uid)
    return {**body, "status": status} if status else body


def test_a_request_is_known_as_last_seen() -> None:
    store = RequestStore()
    assert store.put(request("200"), NOW) == key()
    assert store.put(request("201", outcome="Waiting"), NOW) == key()
    known = store.get(key())
    assert known is not None
    assert known.metadata.resource_version == "201"
    assert len(store) == 1
    assert list(store) == [key()]


@pytest.mark.parametrize("stale", ["200", "199", "99"])
def test_an_older_or_equal_event_changes_nothing(stale: str) -> None:
    """Versions are numbers: 99 is older than 200, though its text is greater."""
    store = RequestStore()
    store.put(request("200", outcome="Waiting"), NOW)
    assert store.put(request(stale), NOW) is None
    known = store.get(key())
    assert known is not None
    assert known.metadata.resource_version == "200"


def test_versions_that_are_no_numbers_are_only_told_apart() -> None:
    store = RequestStore()
    store.put(request("abc"), NOW)
    assert store.put(request("abc"), NOW) is None
    assert store.put(request("abb"), NOW) == key()


def test_a_request_recreated_under_its_name_is_another_however_its_version() -> None:
    store = RequestStore()
    store.put(request("200"), NOW)
    assert store.put(request("150", uid="another"), NOW) == key()
    known = store.get(key())
    assert known is not None
    assert known.metadata.uid == "another"


def test_what_has_an_end_already_is_not_kept() -> None:
    store = RequestStore()
    assert store.put(request(outcome="Resumed"), NOW) is None
    assert store.get(key()) is None
    store.put(request("201"), NOW)
    assert store.put(request("202", outcome="Rejected"), NOW) is None
    assert len(store) == 0


def being_deleted(version: str, uid: str = "uid-of-wake") -> builders.Json:
    body = request(version, uid)
    body["metadata"]["deletionTimestamp"] = builders.at(-1)
    return body


def test_a_request_that_is_being_deleted_is_not_taken_in_and_forgotten_if_it_was() -> None:
    store = RequestStore()
    assert store.put(being_deleted("200"), NOW) is None
    assert len(store) == 0
    store.put(request("200"), NOW)
    assert store.put(being_deleted("201"), NOW) is None
    assert len(store) == 0


def test_a_request_that_is_being_deleted_leaves_the_one_alone_that_took_its_name() -> None:
    """The answer to a write of its status may come after the watch has told of the other."""
    store = RequestStore()
    store.put(request("210", uid="another"), NOW)
    assert store.put(being_deleted("205"), NOW) is None
    assert key() in store


def test_a_finished_request_is_not_taken_in_again_by_what_the_watch_still_shows() -> None:
    store = RequestStore()
    store.put(request("200"), NOW)
    store.finish(key())
    assert store.put(request("200"), NOW) is None
    assert store.put(request("201", outcome="Waiting"), NOW) is None
    assert len(store) == 0


def test_after_a_finished_request_one_of_its_name_is_taken_in() -> None:
    store = RequestStore()
    store.put(request("200"), NOW)
    store.finish(key())
    assert store.put(request("210", uid="another"), NOW) == key()


def test_once_the_watch_says_that_a_finished_request_left_it_is_forgotten_altogether() -> None:
    store = RequestStore()
    store.put(request("200"), NOW)
    store.finish(key())
    store.remove(key())
    assert store.put(request("211"), NOW) == key()


def test_no_more_finished_requests_are_remembered_than_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requeststore, "_REMEMBERED", 2)
    store = RequestStore()
    bodies = [builders.a_request(f"wake-{number}").build() for number in range(3)]
    for body in bodies:
        store.put(body, NOW)
        store.finish(key(body["metadata"]["name"]))
    assert [store.put(body, NOW) is None for body in bodies] == [False, True, True]


def test_finishing_what_is_not_known_does_nothing() -> None:
    store = RequestStore()
    store.finish(key())
    assert store.put(request(), NOW) == key()


def test_an_object_that_the_models_do_not_understand_is_kept_with_what_is_wrong() -> None:
    store = RequestStore()
    body = request(outcome="Bogus")
    assert store.put(body, NOW) == key()
    found = store.get(key())
    assert isinstance(found, Unreadable)
    assert found.outcome == "Bogus"
    assert "status.outcome" in found.problem
    assert store.waiting_for(builders.a_workflow().view(), LABELS) == set()
    store.remove(key())
    assert len(store) == 0


def test_what_was_not_looked_at_lately_is_read_again_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only as many as the bound stay parsed, those looked at last; none says anything else."""
    monkeypatch.setattr(requeststore, "_RECENT", 2)
    store, parsed = RequestStore(), []
    for number in range(5):
        body = builders.a_request(f"wake-{number}").saying(title="\ud83d ünï").build()
        store.put(body | {"metadata": body["metadata"] | {"managedFields": [{"a": 1}]}}, NOW)
        parsed.append(WorkflowResume.from_json(body))

    for _ in range(2):
        assert [store.get(key(f"wake-{number}")) for number in range(5)] == parsed
    assert len(store._recent) == 2
    assert store.get(key("wake-4")) is store.get(key("wake-4"))

    changed = builders.a_request("wake-0").build()
    changed["metadata"]["resourceVersion"] = "999"
    changed["status"] = {"outcome": "Waiting"}
    store.put(changed, NOW)
    for number in range(5):
        store.get(key(f"wake-{number}"))
    found = store.get(key("wake-0"))
    assert isinstance(found, WorkflowResume)
    assert found.status.outcome is Outcome.WAITING


def test_an_event_too_deep_to_be_written_down_again_is_kept_as_it_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requeststore, "_RECENT", 1)
    deep: dict[str, Any] = {}
    for _ in range(30_000):
        deep = {"a": deep}
    body = builders.a_request("wake").saying(title="deep").build()
    body["spec"]["correlationData"]["githubEvent"]["deep"] = deep
    store = RequestStore()
    store.put(body, NOW)
    store.put(builders.a_request("other").build(), NOW)
    found = store.get(key())
    assert isinstance(found, WorkflowResume)
    assert found.spec.correlation_data.github_event["title"] == "deep"


def test_an_event_of_too_many_values_is_refused_and_nothing_of_it_is_kept() -> None:
    body = builders.a_request("wake").build()
    body["spec"]["correlationData"]["githubEvent"] = {"a": [{} for _ in range(430_000)]}
    store = RequestStore()
    assert store.put(body, NOW) == key()
    found = store.get(key())
    assert isinstance(found, Unreadable)
    assert found.problem.startswith("spec.correlationData.githubEvent: has too many values")
    assert "40000 values are allowed" in found.problem
    assert len(store._recent) == 0


def test_a_whole_payload_of_a_quarter_of_a_mebibyte_is_not_too_large() -> None:
    """Denser than any of GitHub's, whose values take 50 bytes each."""
    body = builders.a_request("wake").build()
    commits = [{"id": "0" * 8, "n": number} for number in range(10_000)]
    body["spec"]["correlationData"]["githubEvent"] = {"commits": commits}
    assert len(json.dumps(body)) > 256 * 1024
    store = RequestStore()
    store.put(body, NOW)
    assert isinstance(store.get(key()), WorkflowResume)


def test_large_requests_are_kept_parsed_up_to_a_bound_of_their_memory() -> None:
    store, parsed = RequestStore(), []
    for number in range(20):
        body = builders.a_request(f"wake-{number}").build()
        body["spec"]["correlationData"]["githubEvent"] = {"a": [{} for _ in range(30_000)]}
        store.put(body, NOW)
        parsed.append(WorkflowResume.from_json(body))
    assert 1 < len(store._recent) < 6
    assert sum(len(kept) for kept in store._kept.values() if isinstance(kept, bytes)) < 100_000
    assert [store.get(key(f"wake-{number}")) for number in range(20)] == parsed
    assert 1 < len(store._recent) < 6


def test_the_outline_of_a_request_tells_what_is_asked_often() -> None:
    store = RequestStore()
    assert store.outline(key()) is None
    assert key() not in store
    body = builders.a_request("wake").named("play").build()
    store.put(body, NOW)
    body["metadata"]["resourceVersion"] = "999"
    body["status"] = {"outcome": "CircuitOpen", "workflow": {"name": "play", "stage": "review"}}
    store.put(body, NOW + timedelta(seconds=5))
    outline = store.outline(key())
    assert outline is not None
    assert key() in store
    assert (outline.task, outline.workflow) == ("7", "play")
    assert (outline.outcome, outline.stage) == (Outcome.CIRCUIT_OPEN, "review")
    assert outline.seen == NOW


def test_nothing_is_left_of_requests_that_ended() -> None:
    """Once the watch has told that they left it: until then a uid is remembered."""
    store = RequestStore()
    for number in range(300):
        store.put(builders.a_request(f"wake-{number}").named(f"play-{number}").build(), NOW)
    for number in range(300):
        store.finish(key(f"wake-{number}"))
        store.remove(key(f"wake-{number}"))
    held = {name: len(value) for name, value in vars(store).items()}
    assert set(held.values()) == {0}, held


def test_nothing_is_left_of_workflows_that_ended() -> None:
    index = WorkflowIndex()
    index.use_task_label("ticket")
    for number in range(300):
        opened = builders.a_workflow(f"play-{number}").gate(started=0)
        index.put(opened.with_labels({"ticket": str(number)}).view(), NOW)
    for number in range(300):
        index.remove(key(f"play-{number}"))
    held = {name: len(value) for name, value in vars(index).items() if name != "_task_labels"}
    assert set(held.values()) == {0}, held


def test_a_workflow_concerns_the_requests_of_its_task_and_those_that_name_it() -> None:
    store = RequestStore()
    for body in (
        builders.a_request("by-task"),
        builders.a_request("by-name").of_task("8").named("play"),
        builders.a_request("other-task").of_task("8"),
        builders.a_request("other-name").named("display").of_task("8"),
    ):
        store.put(body.build(), NOW)
    elsewhere = builders.a_request("elsewhere").build()
    elsewhere["metadata"]["namespace"] = "other"
    store.put(elsewhere, NOW)

    found = store.waiting_for(builders.a_workflow("play").view(), LABELS)
    assert found == {key("by-task"), key("by-name")}
    unlabelled = builders.a_bare_workflow("play").view()
    assert store.waiting_for(unlabelled, LABELS) == {key("by-name")}
    ticket = builders.a_bare_workflow("x").with_labels({"ticket": "8"}).view()
    assert store.waiting_for(ticket, {"ticket"}) == {
        key("by-name"),
        key("other-task"),
        key("other-name"),
    }


def test_a_request_that_left_is_woken_by_nothing() -> None:
    store = RequestStore()
    store.put(builders.a_request("wake").named("play").build(), NOW)
    store.remove(key())
    assert store.waiting_for(builders.a_workflow("play").view(), LABELS) == set()


def test_the_requests_of_a_namespace_come_the_oldest_first() -> None:
    store = RequestStore()
    for name, created in (("b", -10), ("a", -30), ("c", -20)):
        store.put(builders.a_request(name).created(created).build(), NOW)
    assert store.in_namespace(builders.NAMESPACE) == [key("a"), key("c"), key("b")]
    assert store.in_namespace("other") == []


@pytest.mark.parametrize(
    ("seen", "expected"),
    [(0.0, 0.0), (0.4, 0.4), (0.999, 0.999), (1.0, 0.0), (60.0, 0.0), (-0.001, 0.0)],
)
def test_a_request_is_created_when_it_was_first_seen_within_the_second_of_its_stamp(
    seen: float, expected: float
) -> None:
    store = RequestStore()
    body = builders.a_request("wake").created(0)
    store.put(body.build(), NOW + timedelta(seconds=seen))
    assert store.created(body.model()) == NOW + timedelta(seconds=expected)


def test_a_change_of_a_request_does_not_move_when_it_was_first_seen() -> None:
    store = RequestStore()
    body = builders.a_request("wake").created(0)
    store.put(body.build(), NOW + timedelta(seconds=0.1))
    later = body.with_status(outcome="Waiting").build()
    later["metadata"]["resourceVersion"] = "201"
    store.put(later, NOW + timedelta(seconds=0.9))
    assert store.created(body.model()) == NOW + timedelta(seconds=0.1)


def test_a_request_recreated_within_the_second_has_a_time_of_its_own() -> None:
    store = RequestStore()
    body = builders.a_request("wake").created(0)
    store.put(body.build(), NOW + timedelta(seconds=0.1))
    again = body.build()
    again["metadata"]["uid"] = "another"
    store.put(again, NOW + timedelta(seconds=0.7))
    assert store.created(body.model()) == NOW
    assert store.get(key()) is not None
    store.remove(key())
    assert store.created(body.model()) == NOW


def test_a_workflow_is_found_by_name_and_by_task() -> None:
    index = WorkflowIndex()
    play = builders.a_workflow("play").view()
    for view in (play, builders.a_workflow("other").labelled(task="8").view()):
        assert index.put(view, NOW)
    assert len(index) == 2
    assert index.matching(builders.NAMESPACE, name=None, task="7") == (play,)
    assert index.matching(builders.NAMESPACE, name="play", task="whatever") == (play,)
    assert index.matching(builders.NAMESPACE, name="nobody", task="7") == ()
    assert index.matching(builders.NAMESPACE, name=None, task="9") == ()
    assert index.matching("elsewhere", name=None, task="7") == ()


def test_a_new_version_without_a_change_that_matters_is_no_news_but_is_kept() -> None:
    index = WorkflowIndex()
    body = builders.a_workflow("play").build()
    index.put(workflows.view(body), NOW)
    body["metadata"]["resourceVersion"] = "101"
    body["status"]["progress"] = "1/2"
    assert not index.put(workflows.view(body), NOW)
    (found,) = index.matching(builders.NAMESPACE, name="play", task="")
    assert found.resource_version == "101"


def test_a_changed_label_moves_a_workflow_to_its_new_task() -> None:
    index = WorkflowIndex()
    index.put(builders.a_workflow("play").view(), NOW)
    changed = builders.a_workflow("play").labelled(task="8").view()
    assert index.put(changed, NOW)
    assert index.matching(builders.NAMESPACE, name=None, task="7") == ()
    assert index.matching(builders.NAMESPACE, name=None, task="8") == (changed,)


def test_a_new_task_label_finds_the_workflows_that_are_known_already() -> None:
    index = WorkflowIndex()
    ticket = builders.a_bare_workflow("play").with_labels({"ticket": "7"}).view()
    both = builders.a_workflow("other").with_labels({"ticket": "7"}).view()
    for view in (ticket, both):
        index.put(view, NOW)
    assert index.matching(builders.NAMESPACE, name=None, task="7") == (both,)

    index.use_task_label("ticket")
    index.use_task_label("ticket")

    assert index.task_labels == {"task-id", "ticket"}
    assert index.matching(builders.NAMESPACE, name=None, task="7") == (both, ticket)
    index.remove(ticket.key)
    index.remove(both.key)
    assert index.matching(builders.NAMESPACE, name=None, task="7") == ()


def test_a_removed_workflow_is_returned_once() -> None:
    index = WorkflowIndex()
    view = builders.a_workflow("play").view()
    index.put(view, NOW)
    assert index.remove(view.key) == view
    assert index.remove(view.key) is None
    assert len(index) == 0


def test_what_a_write_made_of_a_workflow_is_assumed_only_on_what_it_rested_on() -> None:
    """Unless the watch has shown something newer, or another workflow of the name, or its end."""
    before = builders.at_review("play").view()
    after = builders.at_review("play").in_stage("release").view()
    index = WorkflowIndex()
    index.assume(after, NOW)
    assert len(index) == 0

    index.put(before, NOW)
    index.assume(after, NOW)
    assert index.matching(builders.NAMESPACE, name="play", task="") == (after,)

    for other in ("uid", "resourceVersion"):
        body = builders.at_review("play").build()
        body["metadata"][other] = "another"
        newer = workflows.view(body)
        index.put(newer, NOW)
        index.assume(after, NOW)
        assert index.matching(builders.NAMESPACE, name="play", task="") == (newer,)


def test_a_listed_workflow_is_read_unless_this_very_version_of_it_was() -> None:
    index = WorkflowIndex()
    outline = workflows.outline(builders.at_review("play").metadata())
    assert index.expect(outline)
    assert index.expect(outline), "it was listed twice, and not read"
    assert (len(index), index.unread) == (1, 1)
    assert index.matching(builders.NAMESPACE, name=None, task="7") == (outline,)

    whole = builders.at_review("play").view()
    assert index.put(whole, NOW)
    assert not index.expect(outline)
    assert index.matching(builders.NAMESPACE, name="play", task="7") == (whole,)
    for other in ("uid", "resourceVersion"):
        body = builders.at_review("play").metadata()
        body["metadata"][other] = "another"
        assert index.expect(workflows.outline(body))
        assert index.unread == 1
        assert index.put(whole, NOW)
    assert index.unread == 0


def test_a_gate_keeps_its_time_while_its_workflow_is_read_again() -> None:
    index = WorkflowIndex()
    opened = builders.a_workflow().gate(started=0)
    index.put(opened.view(), NOW + timedelta(seconds=0.3))
    body = opened.metadata()
    body["metadata"]["resourceVersion"] = "101"
    index.expect(workflows.outline(body))
    index.put(opened.view(), NOW + timedelta(seconds=0.6))
    assert index.opened(opened.view(), opened.view().gates[0]) == NOW + timedelta(seconds=0.3)


def test_a_gate_opened_when_it_was_first_shown_open_within_the_second_of_its_stamp() -> None:
    index = WorkflowIndex()
    closed = builders.a_workflow().view()
    opened = builders.a_workflow().gate(started=0).view()
    index.put(closed, NOW)
    index.put(opened, NOW + timedelta(seconds=0.3))
    moved = builders.a_workflow().gate(started=0).in_stage("review").view()
    index.put(moved, NOW + timedelta(seconds=0.8))
    assert index.opened(moved, moved.gates[0]) == NOW + timedelta(seconds=0.3)


def test_a_gate_that_is_open_no_more_still_tells_when_it_opened() -> None:
    index = WorkflowIndex()
    index.put(builders.a_workflow().gate(started=0).view(), NOW + timedelta(seconds=0.3))
    ended = builders.a_workflow().gate(started=0, phase="Succeeded").view()
    index.put(ended, NOW + timedelta(seconds=0.4))
    assert index.opened(ended, ended.gates[0]) == NOW + timedelta(seconds=0.3)


def test_a_gate_that_was_first_shown_late_or_ended_has_its_stamp_only() -> None:
    index = WorkflowIndex()
    late = builders.a_workflow("late").gate(started=0).view()
    ended = builders.a_workflow("ended").gate(started=0, phase="Succeeded").view()
    index.put(late, NOW + timedelta(seconds=30))
    index.put(ended, NOW + timedelta(seconds=0.5))
    assert index.opened(late, late.gates[0]) == NOW
    assert index.opened(ended, ended.gates[0]) == NOW


def test_a_gate_started_anew_has_a_time_of_its_own_and_a_removed_workflow_none() -> None:
    index = WorkflowIndex()
    index.put(builders.a_workflow().gate(started=0).view(), NOW + timedelta(seconds=0.3))
    anew = builders.a_workflow().gate(started=5).view()
    index.put(anew, NOW + timedelta(seconds=5.2))
    assert index.opened(anew, anew.gates[0]) == NOW + timedelta(seconds=5.2)
    index.remove(anew.key)
    assert index.opened(anew, anew.gates[0]) == NOW + timedelta(seconds=5)


def test_policies_come_into_force_change_and_go() -> None:
    store = PolicyStore()
    policy = builders.three_stages().resolved()
    assert store.put(key("play"), policy)
    assert not store.put(key("play"), builders.three_stages().resolved())
    assert store.put(key("play"), builders.three_stages(repeatable=True).resolved())
    store.put(Key("other", "play"), policy)
    assert len(store.of(builders.NAMESPACE)) == 1
    assert store.get(key("play")) != policy
    store.remove(key("play"))
    store.remove(key("play"))
    assert store.of(builders.NAMESPACE) == ()


def test_the_sizes_count_what_is_kept_and_nothing_is_kept_of_what_is_over() -> None:
    """A finished request is remembered until the watch says that it left it, and no longer."""
    stores = Stores(RequestStore(), WorkflowIndex(), PolicyStore(), BreakerStore())
    view = workflows.view(builders.a_workflow("play").build())
    assert stores.requests.put(request(), NOW) == key()
    stores.workflows.put(view, NOW)
    assert stores.sizes() == {"workflows": 1, "unread": 0, "requests": 1, "finished": 0}
    stores.requests.finish(key())
    assert stores.sizes() == {"workflows": 1, "unread": 0, "requests": 0, "finished": 1}
    stores.requests.remove(key())
    stores.workflows.remove(view.key)
    assert not any(stores.sizes().values())
