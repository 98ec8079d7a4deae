"""The parts of the cluster end and come back: API server, etcd, Argo's controller.

A control plane of its own, whose parts the tests kill. The operator is not restarted for any of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client, components, launcher
from tests.e2e.support import faults, rig, rights, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STAGE = "restarts"
GATES = 12

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def plane(built_components: None) -> Iterator[launcher.ControlPlane]:
    # With Argo's full schemas each start of the API server takes some ten seconds of a core. Nobody
    # looks at what is refused: an API server that starts refuses all until it knows the Roles.
    with launcher.start(crds="minimal") as started:
        yield started


@pytest.fixture(scope="module")
def plant(plane: launcher.ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy; it may try for as long as an API server needs to start."""
    with contextlib.closing(client.Cluster(plane.kubeconfig)) as cluster:
        home = Home(cluster, "default")
        with rig.running(home, tmp_path_factory.mktemp("restarts")) as started:
            started.policy(
                STAGE,
                nodeFieldSelector="displayName=first",
                retry={"maxAttempts": 20, "baseSeconds": 1},
                circuitBreaker={"failureThreshold": 1000},
            )
            yield started


def asked(plant: Rig, names: Sequence[str]) -> None:
    plant.home.ask(*(plant.request(name, STAGE) for name in names))


def all_resumed_once(plant: Rig, names: Sequence[str]) -> None:
    for name in names:
        plant.home.resumed(name)
    for name in names:
        plant.opened_once(name, answered=False)


@contextlib.contextmanager
def away(plane: launcher.ControlPlane, component: str) -> Iterator[None]:
    """A component is killed for the length of the block; the tests after it find it back."""
    plane.kill(component)
    try:
        yield
    finally:
        plane.start_component(component)


@pytest.mark.parametrize("killed", [components.API_SERVER.name, components.ETCD.name])
def test_what_was_asked_for_before_and_after_an_outage_is_resumed_once(
    plane: launcher.ControlPlane, plant: Rig, killed: str
) -> None:
    """Its first writes meet the outage: they are held until there is nobody to take them."""
    names = plant.at_gates(STAGE, GATES, f"outage-{killed}")
    operator = plant.operator
    hold = faults.Hold()
    with plant.proxy.on("PATCH", "/workflows/", hold, times=None):
        asked(plant, names[: GATES // 2])
        hold.wait()
        with away(plane, killed):
            hold.open()
            waiting.eventually(
                lambda: any(plant.writes(name) for name in names), lambda: "no write ended"
            )
            assert not any(one.took_effect for name in names for one in plant.writes(name))
    asked(plant, names[GATES // 2 :])
    all_resumed_once(plant, names)
    assert plant.operator is operator


def test_what_is_deleted_in_a_gap_that_the_api_server_cannot_fill_is_not_acted_upon(
    plane: launcher.ControlPlane, plant: Rig
) -> None:
    """The watches hear nothing, objects go, and the API server forgets what it was (410)."""
    kept, gone = plant.at_gates(STAGE, 2, "gap")
    operator = plant.operator
    early = [f"gap-{when}" for when in ("withdrawn", "early")]
    asked(plant, early)
    for name in early:
        plant.home.came_to(name, Reason.WORKFLOW_NOT_FOUND)
    with plant.proxy.frozen("/workflow(resume)?s$"):
        plant.home.cluster.delete(homes.RESUME, early[0], plant.home.namespace)
        plant.home.cluster.delete(homes.WORKFLOW, gone, plant.home.namespace)
        asked(plant, [kept, gone])
        plant.home.submit(plant.workflow(early[1], STAGE))
        plane.restart(components.API_SERVER.name)
    operator.wait_logged("watch interrupted", status=410)
    all_resumed_once(plant, [kept, early[1]])
    plant.home.came_to(gone, Reason.WORKFLOW_NOT_FOUND)
    # With what is new in the list, what is missing in it is known.
    plant.home.submit(plant.workflow(early[0], STAGE))
    plant.home.ask(plant.request("gap-probe", STAGE, task=gone))
    plant.home.came_to("gap-probe", Reason.WORKFLOW_NOT_FOUND)
    plant.untouched(early[0])
    assert plant.operator is operator


def test_gates_open_while_argos_controller_is_away_and_the_workflows_go_on_when_it_is_back(
    plane: launcher.ControlPlane, plant: Rig
) -> None:
    names = plant.at_gates(STAGE, GATES, "argo")
    asked(plant, names[: GATES // 2])
    early = "argo-early"
    with away(plane, components.ARGO.name):
        asked(plant, [*names[GATES // 2 :], early])
        plant.home.cluster.create(plant.workflow(early, STAGE), plant.home.namespace)
        for name in names:
            plant.home.resumed(name)
    all_resumed_once(plant, [*names, early])


def test_argos_controller_that_is_killed_again_and_again_undoes_nothing(
    plane: launcher.ControlPlane, plant: Rig
) -> None:
    names = plant.at_gates(STAGE, GATES, "again")
    for number in range(3):
        asked(plant, names[number::3])
        with away(plane, components.ARGO.name):
            pass
    all_resumed_once(plant, names)


def test_a_kind_that_is_removed_and_installed_again_is_heard_of_again(
    plane: launcher.ControlPlane, plant: Rig
) -> None:
    """With the definition all requests go, as nobody asks for anything any more."""
    first, second = plant.at_gates(STAGE, 2, "kind")
    operator, cluster = plant.operator, plant.home.cluster
    asked(plant, ["kind-never"])
    plant.home.came_to("kind-never", Reason.WORKFLOW_NOT_FOUND)
    definition = next(
        one
        for one in client.load_definitions(launcher.PROJECT_CRDS)
        if one["spec"]["names"]["kind"] == "WorkflowResume"
    )
    at = ("CustomResourceDefinition", definition["metadata"]["name"])
    cluster.delete(*at)
    try:
        cluster.wait_gone(*at, None, homes.TIMEOUT)
    finally:
        cluster.establish([definition])
    asked(plant, [first, second])
    all_resumed_once(plant, [first, second])
    plant.home.submit(plant.workflow("kind-never", STAGE))
    asked(plant, ["kind-probe"])
    plant.home.came_to("kind-probe", Reason.WORKFLOW_NOT_FOUND)
    plant.untouched("kind-never")
    assert plant.operator is operator


def test_a_namespace_that_goes_and_comes_back_is_worked_in_again(
    plane: launcher.ControlPlane, plant: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What was in it is forgotten, and the operator of this one namespace lives on."""
    name, cluster = "passing", plant.home.cluster
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.create(namespace)
    # One of its own would go with the namespace.
    account = rights.everywhere(cluster, plant.home.namespace, name="passing")
    folder = tmp_path_factory.mktemp("passing")
    with rig.running(Home(cluster, name), folder, upstream=account) as own:
        own.policy(STAGE)
        own.home.submit(own.workflow("before", STAGE))
        asked(own, ["before", "never"])
        own.home.resumed("before")
        own.home.came_to("never", Reason.WORKFLOW_NOT_FOUND)
        cluster.delete("Namespace", name)
        cluster.wait_gone("Namespace", name, None, 2 * homes.TIMEOUT)
        cluster.create(namespace)
        own.policy(STAGE)
        for workflow in ("after", "never"):
            own.home.submit(own.workflow(workflow, STAGE))
        asked(own, ["after"])
        all_resumed_once(own, ["after"])
        own.untouched("never")
