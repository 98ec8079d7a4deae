"""The known circuit breakers: what is newest is in force, and whoever listens is told."""

from __future__ import annotations

import pytest

from resumer.core.breaker import Breaker
from resumer.services import circuits
from resumer.services.circuits import BreakerStore

FAILING = Breaker(consecutive_failures=3)


@pytest.mark.parametrize(
    ("known", "shown", "expected"),
    [
        ("5", "6", "shown"),
        ("5", "5", "known"),
        ("10", "9", "known"),
        ("", "6", "shown"),
    ],
)
def test_a_breaker_is_learned_unless_it_is_older_than_what_is_known(
    known: str, shown: str, expected: str
) -> None:
    store = BreakerStore()
    breakers = {
        "known": Breaker(consecutive_failures=3),
        "shown": Breaker(consecutive_failures=1),
    }
    store.learn("team", "review", breakers["known"], known)
    store.learn("team", "review", breakers["shown"], shown)
    found = store.get("team", "review")
    assert found == (breakers[expected], known if expected == "known" else shown)


def test_a_breaker_that_was_just_created_tells_its_version_and_no_more() -> None:
    """The failure that made us create it could not be written into it."""
    store = BreakerStore()
    failing = Breaker(consecutive_failures=3)
    store.put("team", "review", failing, "")
    store.learn("team", "review", Breaker(), "6")
    assert store.get("team", "review") == (failing, "6")


def test_breakers_are_known_by_namespace_and_stage() -> None:
    store = BreakerStore()
    failing = Breaker(consecutive_failures=2)
    store.put("team", "review", failing, "7")
    store.put("other", "review", Breaker(), "8")
    assert store.get("team", "review") == (failing, "7")
    assert store.of("team") == {"review": failing}
    store.remove("team", "review", "9")
    store.remove("team", "review", "9")
    assert store.get("team", "review") is None


def test_an_answer_that_comes_after_the_deletion_does_not_bring_the_breaker_back() -> None:
    store = BreakerStore()
    store.learn("team", "review", FAILING, "7")
    store.remove("team", "review", "9")
    store.learn("team", "review", FAILING, "8")
    assert store.get("team", "review") is None
    store.learn("team", "review", FAILING, "10")
    assert store.get("team", "review") == (FAILING, "10")


def test_a_deletion_that_is_told_late_does_not_take_away_what_was_created_since() -> None:
    store = BreakerStore()
    store.learn("team", "review", FAILING, "10")
    store.remove("team", "review", "9")
    assert store.get("team", "review") == (FAILING, "10")


def test_a_breaker_that_could_not_be_stored_is_reset_by_a_deletion_all_the_same() -> None:
    store = BreakerStore()
    store.put("team", "review", FAILING, "")
    store.remove("team", "review", "9")
    assert store.get("team", "review") is None


def test_who_listens_is_told_of_each_change_and_of_nothing_else() -> None:
    store, told = BreakerStore(), []
    store.listen(lambda *change: told.append(change))
    store.learn("team", "review", FAILING, "1")
    store.learn("team", "review", FAILING, "2")
    store.put("team", "review", Breaker(), "2")
    store.remove("team", "review", "3")
    store.remove("team", "review", "3")
    assert told == [
        ("team", "review", None, FAILING),
        ("team", "review", FAILING, Breaker()),
        ("team", "review", Breaker(), None),
    ]


def test_of_deleted_breakers_the_last_ones_are_remembered() -> None:
    store = BreakerStore()
    for number in range(2 * circuits._REMEMBERED):
        store.remove(f"team-{number}", "review", "9")
    assert len(store._deleted) == circuits._REMEMBERED
