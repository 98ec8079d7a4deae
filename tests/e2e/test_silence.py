"""Streams on which nothing arrives any more, and nobody says so: the far end is simply gone.

No connection breaks: only that it has been quiet for too long tells the operator, which takes more
than a minute. The other tests of silence, in `test_watches`, break the connections in the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resumer.api.outcomes import Reason
from resumer.handlers import watching
from tests.e2e.support import manifests, rig, waiting
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STAGE, LATER = "hanging", "hanging-later"
LONG = 270.0
"""Seconds for what takes 70."""


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig.running(home, tmp_path_factory.mktemp("silence")) as started:
        started.policy(STAGE)
        yield started


@pytest.mark.timeout(600)
def test_streams_that_hang_are_opened_anew_and_what_they_did_not_tell_is_acted_upon(
    plant: Rig,
) -> None:
    """A Workflow, a request and a policy: of two kinds the streams are ours, of two kopf's."""
    plant.home.submit(plant.workflow("governed", LATER))
    for name, stage, reason in (
        ("awaited", STAGE, Reason.WORKFLOW_NOT_FOUND),
        ("governed", LATER, Reason.POLICY_NOT_FOUND),
    ):
        plant.home.ask(plant.request(name, stage))
        plant.came_to(name, reason)
    before = {plural: opened(plant, plural) for plural in watching.WATCHED}
    assert plant.proxy.hang() == len(before)

    for name in ("awaited", "asked"):
        plant.home.submit(plant.workflow(name, STAGE))
    written = {"name": LATER, "eventTypes": [LATER]}
    plant.home.ask(
        plant.request("asked", STAGE), manifests.policy(LATER, written, matches={"policy": LATER})
    )
    for name in ("awaited", "asked", "governed"):
        plant.history.wait_reason(name, Reason.GATE_OPENED, LONG)
        plant.resumed_once(name)

    def hanging() -> list[str]:
        return [plural for plural in before if opened(plant, plural) == before[plural]]

    waiting.eventually(lambda: not hanging(), lambda: f"still hanging: {hanging()}", LONG)


def opened(plant: Rig, plural: str) -> int:
    """How many streams of a kind there have been."""
    return plant.proxy.opened(f"/{plural}$")
