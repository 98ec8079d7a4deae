"""`Turns`: namespaces take turns, the keys of each keep their order, and none waits for many."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from resumer.core.keys import Key
from resumer.services.turns import Turns

NAMESPACES = ("team-a", "team-b", "team-c")
KEYS = strategies.builds(Key, strategies.sampled_from(NAMESPACES), strategies.sampled_from("abcde"))
STEPS = strategies.lists(
    strategies.tuples(strategies.just("add"), KEYS)
    | strategies.tuples(strategies.just("discard"), KEYS)
    | strategies.just(("take", None)),
    max_size=60,
)


def all_of(turns: Turns) -> list[Key]:
    return [turns.take() for _ in range(len(turns))]


def test_namespaces_take_turns_and_the_keys_of_each_keep_their_order() -> None:
    turns = Turns()
    for key in ("a/1", "a/2", "a/3", "b/1", "c/1", "c/2"):
        turns.add(Key(*key.split("/")))
    assert [str(key) for key in all_of(turns)] == ["a/1", "b/1", "c/1", "a/2", "c/2", "a/3"]


def test_a_namespace_that_comes_back_gets_the_last_place() -> None:
    turns = Turns()
    for key in ("a/1", "b/1", "b/2", "c/1"):
        turns.add(Key(*key.split("/")))
    assert str(turns.take()) == "a/1"
    turns.add(Key("a", "2"))
    assert [str(key) for key in all_of(turns)] == ["b/1", "c/1", "a/2", "b/2"]


def test_nothing_can_be_taken_from_an_empty_line() -> None:
    turns = Turns()
    turns.add(Key("a", "1"))
    turns.discard(Key("a", "1"))
    turns.discard(Key("a", "2"))
    with pytest.raises(KeyError):
        turns.take()
    assert len(turns) == 0


class Lines:
    """A model: the keys of each namespace, and who was taken from while one had keys."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Key]] = {name: [] for name in NAMESPACES}
        self.passed: dict[str, set[str]] = {name: set() for name in NAMESPACES}

    def add(self, key: Key) -> None:
        if key not in self.keys[key.namespace]:
            self.keys[key.namespace].append(key)

    def discard(self, key: Key) -> None:
        if key in self.keys[key.namespace]:
            self.keys[key.namespace].remove(key)
        self.forget_passes()

    def taken(self, key: Key) -> None:
        """Asserts that it was this key's turn."""
        assert key == self.keys[key.namespace].pop(0), "not the first of its namespace"
        self.passed[key.namespace].clear()
        self.forget_passes()
        for other in NAMESPACES:
            if other != key.namespace and self.keys[other]:
                assert key.namespace not in self.passed[other], f"twice while {other} waits"
                self.passed[other].add(key.namespace)

    def forget_passes(self) -> None:
        for name, keys in self.keys.items():
            if not keys:
                self.passed[name].clear()


@hypothesis.given(STEPS)
def test_no_namespace_comes_twice_while_another_one_waits_whatever_is_put_in_and_taken_out(
    steps: list[tuple[str, Key | None]],
) -> None:
    turns, lines = Turns(), Lines()
    for step, key in steps:
        if key is not None:
            getattr(turns, step)(key)
            getattr(lines, step)(key)
            assert (key in turns) == (key in lines.keys[key.namespace])
        elif len(turns):
            lines.taken(turns.take())
        assert len(turns) == sum(map(len, lines.keys.values()))
    for key in all_of(turns):
        lines.taken(key)
