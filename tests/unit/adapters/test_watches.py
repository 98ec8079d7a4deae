"""What a watch tells of itself: no news is one thing, to do nothing another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from resumer import errors
from resumer.adapters import kube, listwatch, watches
from resumer.api import constants
from tests.unit.services import virtual
from tests.unit.services.test_leading import LoopClock

WORKFLOWS = constants.WORKFLOW_PLURAL
REQUESTS = constants.RESUME_PLURAL


def watched(*namespaces: str) -> watches.WatchActivity:
    return watches.WatchActivity((WORKFLOWS, REQUESTS), namespaces=namespaces, now=0.0)


class Away:
    """A client whose every call fails, after a while where a test says so."""

    def __init__(self, error: errors.ApiError, *, listed: bool = False) -> None:
        self._error = error
        self._listed = listed
        self._events: list[dict[str, Any]] = []
        self.seconds = 0.0

    async def pages_of_list(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        await asyncio.sleep(self.seconds)
        if not self._listed:
            raise self._error
        yield {"metadata": {"resourceVersion": "1"}}

    async def watch(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        await asyncio.sleep(self.seconds)
        for event in self._events:
            yield event
        raise self._error


def follow(client: Away, activity: watches.WatchActivity) -> asyncio.Task[None]:
    """Begins to follow the workflows."""
    followed = listwatch.ListWatch(
        cast(kube.KubeClient, client),
        WORKFLOWS,
        "",
        {},
        LoopClock(),
        listwatch.Listener(
            lambda _: None, lambda _: None, on_try=lambda: activity.tried(WORKFLOWS, "")
        ),
    )
    return asyncio.create_task(followed.run())


async def idlest(activity: watches.WatchActivity, minutes: int) -> float:
    """What a probe that asks every 20 seconds sees at most."""
    most = 0.0
    for _ in range(minutes * 3):
        await asyncio.sleep(20)
        most = max(most, activity.idle(asyncio.get_running_loop().time())[WORKFLOWS])
    return most


def test_a_watch_of_which_nothing_comes_and_for_which_nothing_is_tried_is_idle() -> None:
    activity = watched()
    assert activity.idle(200.0) == {WORKFLOWS: 200.0, REQUESTS: 200.0}


def test_a_try_ends_the_idleness_of_its_watch_and_is_no_news() -> None:
    activity = watched()
    activity.tried(WORKFLOWS, "")
    assert activity.ages(200.0) == {WORKFLOWS: 200.0, REQUESTS: 200.0}
    assert activity.idle(201.0) == {WORKFLOWS: 1.0, REQUESTS: 201.0}


def test_of_several_namespaces_the_idlest_counts() -> None:
    activity = watched("team-a", "team-b")
    activity.tried(WORKFLOWS, "team-a")
    assert activity.idle(200.0)[WORKFLOWS] == 200.0
    activity.tried(WORKFLOWS, "team-b")
    activity.tried(WORKFLOWS, "team-c")
    assert activity.idle(300.0) == {WORKFLOWS: 100.0, REQUESTS: 300.0}


def test_while_somebody_looks_for_what_all_need_none_is_idle() -> None:
    activity = watched("team-a", "team-b")
    activity.awaited()
    assert activity.idle(200.0) == {WORKFLOWS: 0.0, REQUESTS: 0.0}
    assert activity.ages(300.0) == {WORKFLOWS: 300.0, REQUESTS: 300.0}


def test_a_list_that_fails_for_an_hour_is_tried_all_the_time() -> None:
    async def main() -> None:
        for error in (
            errors.TransientError("no answer"),
            errors.TransientError("too many calls wait for their turn", status=429, sent=False),
            errors.PermanentError("forbidden", status=403),
        ):
            activity = watched()
            following = follow(Away(error), activity)
            assert await idlest(activity, 60) <= 30.0
            assert activity.ages(asyncio.get_running_loop().time())[WORKFLOWS] >= 3600.0
            following.cancel()

    virtual.run(main())


def test_a_watch_that_fails_for_an_hour_is_tried_all_the_time() -> None:
    async def main() -> None:
        for error in (
            errors.TransientError("no answer"),
            errors.PermanentError("forbidden", status=403),
            errors.TransientError("too old", status=410),
        ):
            activity = watched()
            following = follow(Away(error, listed=True), activity)
            assert await idlest(activity, 60) <= 30.0
            following.cancel()

    virtual.run(main())


def test_a_watcher_that_hangs_for_an_hour_is_found() -> None:
    async def main() -> None:
        activity, client = watched(), Away(errors.TransientError("no answer"))
        client.seconds = 3600.0
        following = follow(client, activity)
        assert await idlest(activity, 59) > 3000.0
        following.cancel()

    virtual.run(main())
