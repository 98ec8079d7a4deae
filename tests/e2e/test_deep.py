"""Objects that are nested deeper than Python's JSON goes: they stop neither a watch nor a start.

The API server takes 10,000 levels, in a request's free-form event as in a Workflow; ten kilobytes
are enough. There is no Argo here, so that what is seen is the operator's own doing.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.support import home as homes
from tests.e2e.support import process, written
from tests.e2e.support.home import Home


@pytest.fixture(scope="module")
def home(built_components: None) -> Iterator[Home]:
    """A namespace of a cluster without Argo's controller, where a Workflow may have any shape."""
    with homes.without_argo() as made:
        yield made


@pytest.fixture(autouse=True)
def deep_reader() -> Iterator[None]:
    """The test reads these objects too."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


def create_deep(home: Home, body: Mapping[str, Any], levels: int) -> None:
    """Creates an object with so many levels where it says DEEP, by a client in Go."""
    nested = '{"a":' * levels + "1" + "}" * levels
    text = json.dumps(body).replace('"DEEP"', nested)
    home.cluster.kubectl("create", "-n", home.namespace, "-f", "-", input=text)


@pytest.mark.parametrize("levels", [1200, 5000, 9000])
@pytest.mark.parametrize("what", ["request", "workflow"])
def test_an_object_of_any_depth_stops_nobody(
    home: Home, tmp_path: pathlib.Path, what: str, levels: int
) -> None:
    name = f"{what}-{levels}"
    workflow = written.standing(name)
    request = written.asks(name, event={"a": "DEEP"} if what == "request" else {})
    log = tmp_path / "operator.log"
    with process.running(home.account(), log, [home.namespace]):
        if what == "workflow":
            workflow["spec"]["anything"] = "DEEP"
            create_deep(home, workflow, levels)
        else:
            create_deep(home, request, levels)
        written.still_works(home, f"{name}-watched")
    # The next process finds it in its first list.
    with process.running(home.account(), log, [home.namespace]):
        written.still_works(home, f"{name}-listed")
        if what == "workflow":
            home.ask(request)
        else:
            home.ask(workflow)
        home.resumed(name)
