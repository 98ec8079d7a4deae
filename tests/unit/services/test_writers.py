"""`Writers`: one request at a time writes to a Workflow."""

from __future__ import annotations

import asyncio

import pytest

from resumer import errors
from resumer.core.keys import Key
from resumer.services import writers
from resumer.services.writers import Writers

ONE, OTHER = Key("team", "one"), Key("team", "other")


async def test_who_comes_to_a_free_workflow_need_not_decide_again() -> None:
    book = Writers()
    with book.turn() as turn:
        assert await turn.take(ONE)
        assert await turn.take(ONE), "it is still its turn"
    with book.turn() as turn:
        assert await turn.take(ONE), "the turn before was given back"


async def test_turns_at_a_workflow_come_one_after_the_other_in_order_and_others_meanwhile() -> None:
    book, done = Writers(), list[str]()

    async def write(name: str, workflow: Key) -> None:
        with book.turn() as turn:
            still_holds = await turn.take(workflow)
            done.append(f"{name} begins" + ("" if still_holds else " after another"))
            for _ in range(3):
                await asyncio.sleep(0)
            done.append(f"{name} ends")

    await asyncio.gather(write("a", ONE), write("b", ONE), write("c", ONE), write("x", OTHER))
    assert [item for item in done if item[0] != "x"] == [
        "a begins",
        "a ends",
        "b begins after another",
        "b ends",
        "c begins after another",
        "c ends",
    ]
    assert done.index("x begins") < done.index("a ends")


async def test_a_turn_is_given_back_when_another_workflow_is_taken() -> None:
    book = Writers()
    with book.turn() as first, book.turn() as second:
        await first.take(ONE)
        await first.take(OTHER)
        assert await asyncio.wait_for(second.take(ONE), 1)


async def test_who_gives_up_waiting_leaves_the_line() -> None:
    book = Writers()
    with book.turn() as first:
        await first.take(ONE)
        with book.turn() as second, pytest.raises(TimeoutError):
            await asyncio.wait_for(second.take(ONE), 0.01)
    with book.turn() as third:
        assert await asyncio.wait_for(third.take(ONE), 1)


async def test_a_crowd_is_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_CROWD", 2)
    book = Writers()

    async def wait() -> None:
        with book.turn() as turn:
            await turn.take(ONE)

    with book.turn() as first, book.turn() as late:
        await first.take(ONE)
        waiting = [asyncio.create_task(wait()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(errors.BusyError, match="'one'"):
            await late.take(ONE)
        assert await late.take(OTHER)
        first.give_back()
        await asyncio.gather(*waiting)
        assert await late.take(ONE)
