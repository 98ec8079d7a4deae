"""What the tests of the operator as a process get: a namespace for each module and the operator.

All tests of a module share one namespace and one operator, since its start costs some seconds of
a core; they use workflows and tasks of their own. A module that needs another cluster, another
user or other options overrides `home` or `operator_options`.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Sequence

import pytest

from tests.controlplane import client
from tests.e2e.support import home as homes
from tests.e2e.support import process, rig
from tests.e2e.support.home import Home


@pytest.fixture(scope="module")
def home(cluster: client.Cluster) -> Iterator[Home]:
    """A new namespace for the tests of one module."""
    with homes.new(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def operator_options() -> Sequence[str]:
    """Further command-line options of `operator`."""
    return ()


@pytest.fixture(scope="module")
def operator(
    home: Home, operator_options: Sequence[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[process.Operator]:
    """The operator at work in `home`; in the end it has to leave with exit code 0 in time."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with process.running(
        home.account(), log, [home.namespace], options=operator_options
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def at_work(request: pytest.FixtureRequest) -> None:
    """The operator of a module's `plant` is at work, whatever became of the test before."""
    if "plant" in request.fixturenames:
        plant = request.getfixturevalue("plant")
        if isinstance(plant, rig.Rig):
            plant.revive()


@pytest.fixture
def task() -> str:
    """A task of the test's own."""
    return str(secrets.randbelow(10**12))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Puts the end of an operator's log into the report of a test that failed."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, process.Operator):
                report.sections.append(("operator", value.tail()))
    return report
