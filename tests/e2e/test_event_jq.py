"""The Sensor's program and the operator's own cut make the same of every payload.

The program is run by gojq, which Argo Events has built in, without the rest of Argo Events.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from resumer.core import github
from tests import github as recorded
from tests.controlplane import build, components

pytestmark = pytest.mark.usefixtures("built_events")

PROGRAM = pathlib.Path(__file__).parents[2] / "deploy/argo-events/github/event.jq"
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"

ODD: Mapping[str, Any] = {
    "long": {"pull_request__title": "t" * 5000, "pull_request__body": "wörd\u00a0\v" * 900},
    "on the edge": {
        "pull_request__title": "x" * 4095 + " task-1",
        "pull_request__body": " " * 4097,
    },
    "beyond the plane": {
        "pull_request__title": "\U0001f600" * 300,
        "pull_request__body": "é\n" * 3000,
    },
    "many": {"pull_request__labels": recorded.labels(*map(str, range(150)))},
    "no labels": {"pull_request__labels": []},
    "labels that are none": {"pull_request__labels": [{}, None, 1, "x", {"name": 2}]},
    "no objects": {"pull_request__head": [], "pull_request__user": "x", "sender": None},
    "no texts": {"pull_request__title": {}, "pull_request__state": 5, "action": ["opened"]},
    "numbers": {"number": 2.5, "pull_request__number": -(2**40), "pull_request__merged": None},
    "nothing": {"pull_request": {}},
    "strings": {"pull_request": "x", "repository": "y"},
}


def gojq(documents: Sequence[Any]) -> list[Any]:
    """What the program makes of each document, in one run."""
    binary = build.ensure(components.EVENTS)[components.GOJQ.name].binary
    done = subprocess.run(
        [str(binary), "--compact-output", "--from-file", str(PROGRAM)],
        input="\n".join(map(json.dumps, documents)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_cut_of_each_recorded_payload_is_the_same() -> None:
    events = [recorded.event(name, DELIVERY) for name in recorded.NAMES]
    made = [one["githubEvent"] for one in gojq([{"body": event} for event in events])]
    for name, event, by_sensor in zip(recorded.NAMES, events, made, strict=True):
        assert github.cut(event) == by_sensor, name


def test_the_cut_of_an_odd_payload_is_the_same() -> None:
    events = [recorded.event("pull_request.opened", DELIVERY, **odd) for odd in ODD.values()]
    made = [one["githubEvent"] for one in gojq([{"body": event} for event in events])]
    for name, event, by_sensor in zip(ODD, events, made, strict=True):
        assert github.cut(event) == by_sensor, name


@pytest.mark.parametrize("module", ["gojq", "argo-events"])
def test_it_is_the_gojq_of_argo_events(module: str) -> None:
    pins = (components.MODULES / module / "go.mod").read_text()
    assert re.search(r"github\.com/itchyny/gojq v0\.12\.17\b", pins)
