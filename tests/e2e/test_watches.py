"""What the operator hears of breaks off, falls silent, is refused or is not there yet.

In all cases it goes on by itself as soon as it can, and does not restart for it.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from resumer.adapters import kube
from resumer.api import constants
from resumer.api.outcomes import Outcome, Reason
from resumer.core import backoff
from tests.controlplane import client, launcher
from tests.controlplane.plugin import KubeconfigFor
from tests.e2e.support import faults, manifests, process, rig, rights, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home
from tests.e2e.support.rig import Rig

STALE = 10
"""Seconds, the least that is allowed."""
OUTLIVED = backoff.LONGEST_PAUSE + 2
"""Seconds, more than the longest pause between two tries."""
STAGE = "watched"
OF_REQUESTS = "/workflowresumes$"
RESTRICTED = "restricted-operator"
"""The user that has only what a RoleBinding gives."""


@pytest.fixture(scope="module")
def plant(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The operator behind the proxy; its health soon tells of silence."""
    options = ["--stale-seconds", str(STALE)]
    with rig.running(home, tmp_path_factory.mktemp("watches"), options=options) as started:
        started.policy(STAGE)
        yield started


class ReadingOn(faults.Hold):
    """Stops the pages in which an operator reads all workflows after it has listed them."""

    async def __call__(self, call: faults.Call) -> faults.Reply | None:
        selector = call.request.query.get("labelSelector", "")
        listed = kube.Accept.METADATA_LIST in call.request.headers["Accept"]
        of_a_task = "task-id=" in selector
        return await (call.forward() if listed or of_a_task else super().__call__(call))


@contextlib.contextmanager
def again_and_again(work: Callable[[], object], seconds: float) -> Iterator[None]:
    """Does something every so many seconds while the block runs, in a thread."""
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(seconds):
            work()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)


def _grows(found: Sequence[object], beyond: int) -> bool:
    return len(found) > beyond


def health(operator: process.Operator, plural: str) -> bool:
    """Whether the operator says that it hears of this kind."""
    _, body = operator.get("/healthz")
    found = {check["name"]: check["ok"] for check in _checks(body)}
    return bool(found[f"watch of {plural}"])


def tries_on(operator: process.Operator) -> None:
    """Returns once it has heard nothing for long enough, and counts as alive all the same."""
    waiting.eventually(
        lambda: (
            operator.metric("resumer_watch_age_seconds", resource="workflowresumepolicies")
            > OUTLIVED
        ),
        operator.tail,
    )
    # On a slow machine a try may take its time; what is taken for dead stays so.
    waiting.eventually(
        lambda: operator.get("/healthz")[0] == 200, lambda: operator.get("/healthz")[1]
    )


def _checks(body: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body)["checks"]
    return found


def test_requests_are_served_before_all_workflows_are_read_after_a_start(plant: Rig) -> None:
    plant.home.ask(plant.request("unread-waits", STAGE))
    plant.came_to("unread-waits", Reason.WORKFLOW_NOT_FOUND)
    plant.stop()
    for name in ("unread-new", "unread-waits", "unread-other"):
        plant.home.submit(plant.workflow(name, STAGE))
    hold = ReadingOn()
    with plant.proxy.on("GET", "/workflows$", hold, times=None):
        operator = plant.start()
        hold.wait()
        unread = operator.metric("resumer_known_objects", kind="unread")
        assert unread >= 3
        began = len(plant.proxy.log("GET", "/workflows$"))
        plant.home.ask(plant.request("unread-new", STAGE))
        plant.resumed_once("unread-new")
        looks = plant.proxy.log("GET", "/workflows$")[began:]
        assert len(looks) == 1, "one read for the decision"
        plant.untouched("unread-waits")
    hold.release()
    plant.resumed_once("unread-waits")
    waiting.eventually(
        lambda: operator.metric("resumer_known_objects", kind="unread") == 0, operator.tail
    )
    plant.untouched("unread-other")


def test_after_a_gap_only_the_workflows_that_changed_in_it_are_read(plant: Rig) -> None:
    names = plant.at_gates(STAGE, 15, "gap")
    # What the watch shows last: the operator has heard of all gates before.
    plant.shown("gap-last", STAGE)
    changed, others = names[0], [*names[1:], "gap-last"]
    with plant.proxy.frozen("/workflows$"):
        labels = {"metadata": {"labels": {"seen": "no"}}}
        plant.home.cluster.patch(homes.WORKFLOW, changed, plant.home.namespace, labels)
        known = len(plant.proxy.log("GET", "/workflows/"))
        plant.proxy.expire("/workflows$")

    def read() -> Sequence[str]:
        """The names of the workflows that were read."""
        since = plant.proxy.log("GET", "/workflows/")[known:]
        return [one.path.rpartition("/")[2] for one in since]

    waiting.eventually(lambda: changed in read(), lambda: f"read: {read()}")
    plant.home.ask(plant.request(changed, STAGE))
    plant.resumed_once(changed)
    assert not set(read()) & set(others)
    for name in others:
        plant.untouched(name)


def test_watches_that_break_every_second_cost_nothing(plant: Rig) -> None:
    names = plant.at_gates(STAGE, 20, "cut")
    cuts: list[int] = []
    with again_and_again(lambda: cuts.append(plant.proxy.cut()), 1.0):
        for some in (names[:7], names[7:14], names[14:]):
            waiting.eventually(partial(_grows, cuts, len(cuts)), lambda: "nothing is cut")
            plant.home.ask(*(plant.request(name, STAGE) for name in some))
        for name in names:
            plant.home.resumed(name)
    assert sum(cuts) >= 4
    for name in names:
        plant.opened_once(name)


def test_a_workflow_that_reaches_its_gate_while_nothing_is_heard_is_found_afterwards(
    plant: Rig,
) -> None:
    plant.home.ask(plant.request("unheard", STAGE))
    plant.history.wait_reason("unheard", "WorkflowNotFound")
    with plant.proxy.frozen("/workflows$"):
        plant.home.submit(plant.workflow("unheard", STAGE))
        # The operator cannot know of it, but that it hears nothing it knows, and of which kind.
        waiting.eventually(
            lambda: not health(plant.operator, "workflows"),
            lambda: plant.operator.get("/healthz")[1],
        )
        assert plant.operator.get("/healthz")[0] == 503
        plant.home.ask(manifests.resume("heard", "nothing", event_type=STAGE))
        waiting.eventually(
            lambda: health(plant.operator, "workflowresumes"),
            lambda: plant.operator.get("/healthz")[1],
        )
    plant.resumed_once("unheard")
    waiting.eventually(
        lambda: health(plant.operator, "workflows"), lambda: plant.operator.get("/healthz")[1]
    )


def test_what_is_withdrawn_while_nothing_is_heard_of_requests_opens_no_gate_afterwards(
    plant: Rig,
) -> None:
    """What is heard of Workflows wakes it: while the other watch is silent, and while it lists."""
    silent, listing, kept = names = ("withdrawn-silent", "withdrawn-listing", "not-withdrawn")
    for name in names:
        plant.home.ask(plant.request(name, STAGE))
        plant.history.wait_reason(name, "WorkflowNotFound")
    streams = plant.proxy.opened(OF_REQUESTS)
    with plant.proxy.frozen(OF_REQUESTS):
        plant.proxy.cut(OF_REQUESTS)
        waiting.eventually(
            lambda: plant.proxy.opened(OF_REQUESTS) > streams, lambda: "the watch is not back"
        )
        for name in (silent, listing):
            plant.home.cluster.delete(homes.RESUME, name, plant.home.namespace)

        for name in (silent, kept):
            plant.home.submit(plant.workflow(name, STAGE))
        plant.resumed_once(kept)
        found_gone(plant, silent)
        # The API server will not tell of what was missed (410).
        plant.proxy.expire(OF_REQUESTS)
        # The new list takes its time.
        held = faults.Hold()
        lists = plant.proxy.on("GET", OF_REQUESTS, held, times=None)

    with lists:
        held.wait()
        plant.home.submit(plant.workflow(listing, STAGE))
        found_gone(plant, listing)
    held.release()
    (name,) = plant.at_gates(STAGE, 1, "afterwards")
    plant.home.ask(plant.request(name, STAGE))
    plant.resumed_once(name)
    for name in (silent, listing):
        plant.untouched(name)


FINALIZER = "resumer.example.com/held"


@contextlib.contextmanager
def held_by_a_finalizer(plant: Rig, name: str) -> Iterator[None]:
    """A request that somebody's finalizer keeps after its deletion, until the block is left."""
    request = plant.request(name, STAGE)
    request["metadata"]["finalizers"] = [FINALIZER]
    plant.home.ask(request)
    at = (homes.RESUME, name, plant.home.namespace)
    try:
        yield
    finally:
        plant.home.cluster.patch(*at, {"metadata": {"finalizers": None}})
    plant.home.cluster.wait_gone(*at, homes.TIMEOUT)


def test_a_request_that_is_deleted_and_kept_by_a_finalizer_opens_no_gate(plant: Rig) -> None:
    """Neither when the watch tells of it nor when the list after a start does."""
    name = "withdrawn-held"
    with held_by_a_finalizer(plant, name):
        plant.history.wait_reason(name, "WorkflowNotFound")
        plant.home.cluster.delete(homes.RESUME, name, plant.home.namespace)
        # A watch keeps the order: who has heard of the next request knows of the deletion.
        plant.home.ask(plant.request("withdrawn-next", STAGE))
        plant.came_to("withdrawn-next", Reason.WORKFLOW_NOT_FOUND)
        plant.home.submit(plant.workflow(name, STAGE))
        plant.home.submit(plant.workflow("withdrawn-next", STAGE))
        plant.resumed_once("withdrawn-next")
        plant.untouched(name)
        plant.stop()
        plant.start()
        (after,) = plant.at_gates(STAGE, 1, "withdrawn-after")
        plant.home.ask(plant.request(after, STAGE))
        plant.resumed_once(after)
        plant.untouched(name)


def found_gone(plant: Rig, name: str) -> None:
    """Returns once the operator was told that there is no such request."""
    waiting.eventually(
        lambda: [one.told for one in plant.proxy.log("GET", rf"/workflowresumes/{name}$")] == [404],
        plant.operator.tail,
    )


ALL_RIGHTS = [
    {"apiGroups": ["argoproj.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
]
ONLY_READS_WORKFLOWS = [
    {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["argoproj.io"],
        "resources": [
            f"{plural}{part}"
            for plural in (
                constants.RESUME_PLURAL,
                constants.POLICY_PLURAL,
                constants.BREAKER_PLURAL,
            )
            for part in ("", "/status")
        ],
        "verbs": ["*"],
    },
    ALL_RIGHTS[1],
]


@pytest.fixture(scope="module")
def restricted(
    home: Home, kubeconfig_for: KubeconfigFor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """An operator of its own namespace whose user has only what a RoleBinding gives."""
    name = f"{home.namespace}-restricted"
    home.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    own = Home(home.cluster, name)
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": ALL_RIGHTS}
    home.cluster.create({**role, "metadata": {"name": "operator"}}, name)
    home.cluster.create(binding(), name)
    upstream = kubeconfig_for(RESTRICTED, [])
    with rig.running(own, tmp_path_factory.mktemp("restricted"), upstream=upstream) as started:
        started.policy(STAGE)
        yield started
    home.cluster.delete("Namespace", name)


def binding() -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": RESTRICTED}],
    }


def test_rights_that_are_taken_away_and_given_back_are_used_again(restricted: Rig) -> None:
    first, second = restricted.at_gates(STAGE, 2, "rights")
    restricted.home.ask(restricted.request(first, STAGE))
    restricted.resumed_once(first)
    operator, home = restricted.operator, restricted.home
    home.cluster.delete("RoleBinding", "operator", home.namespace)
    # The API server sees it a moment later; streams that are open stay so.
    with again_and_again(restricted.proxy.cut, 0.5):
        waiting.eventually(lambda: 403 in restricted.proxy.refused, lambda: "never refused")
    home.ask(restricted.request(second, STAGE))
    home.cluster.create(binding(), home.namespace)
    restricted.resumed_once(second)
    assert operator.alive


def test_who_asks_while_the_right_to_patch_workflows_is_missing_has_to_ask_again(
    restricted: Rig,
) -> None:
    """A refusal is for good, for nobody knows whether the right was taken away on purpose."""
    home = restricted.home
    (name,) = restricted.at_gates(STAGE, 1, "forbidden")

    def give(rules: Sequence[dict[str, Any]], allowed: bool) -> None:
        home.cluster.patch("Role", "operator", home.namespace, {"rules": rules})
        asked = {"verb": "patch", "resource": "workflows", "namespace": home.namespace}
        waiting.eventually(
            lambda: rights.may(home.cluster, RESTRICTED, **asked) is allowed,
            lambda: f"the right is not {allowed}",
        )

    give(ONLY_READS_WORKFLOWS, False)
    try:
        home.ask(restricted.request(name, STAGE))
        status = restricted.came_to(name, Reason.FORBIDDEN)
        assert status["outcome"] == Outcome.FAILED
        restricted.untouched(name)
    finally:
        give(ALL_RIGHTS, True)
    again = f"{name}-again"
    home.ask(restricted.request(again, STAGE, task=name))
    restricted.came_to(again, Reason.GATE_OPENED)
    restricted.opened_once(name, again)
    assert home.came_to(name, Reason.FORBIDDEN) == status


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("built_components")
def test_the_kinds_are_installed_later_and_the_api_server_goes_away_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(launcher.start(crds="minimal", crd_folders=(), audit=True))
        cluster = stack.enter_context(contextlib.closing(client.Cluster(plane.kubeconfig)))
        home = Home(cluster, "default")
        log = tmp_path_factory.mktemp("late") / "operator.log"
        options = ["--stale-seconds", str(OUTLIVED)]
        account = rights.everywhere(cluster, home.namespace)
        operator = process.start(account, log, [], options=options)
        stack.callback(operator.kill)
        stack.callback(lambda: print(operator.tail()))
        told = operator.wait_logged("waiting for the kinds to watch", process.START_TIMEOUT)
        assert "workflowresumes" in told["problem"]
        assert operator.get("/readyz")[0] == 503
        tries_on(operator)
        definitions = client.load_definitions(launcher.PROJECT_CRDS)
        cluster.establish(definitions)
        operator.wait_logged("ready", process.START_TIMEOUT)
        assert operator.get("/readyz")[0] == 200

        # Many attempts, for an API server needs some seconds to start.
        patient = {"maxAttempts": 20, "strategy": "Fixed", "baseSeconds": 1}
        stage = {"name": "away", "eventTypes": ["away"], "retry": patient}
        never = {"failureThreshold": 1000}
        home.ask(
            manifests.policy("away", {**stage, "circuitBreaker": never}, matches={"policy": "away"})
        )
        names = [f"away-{number}" for number in range(10)]
        for name in names:
            home.submit(
                manifests.workflow(name, task=name, stage="away", labels={"policy": "away"})
            )
        requests = [
            manifests.resume(name, task=name, event_type="away", policyName="away")
            for name in names
        ]
        home.ask(*requests[:5])
        # Not later: an API server that starts refuses everything until it knows the Roles.
        assert plane.audit_log is not None
        assert not rights.refused(plane.audit_log, rights.user_of(home.namespace))
        plane.kill("kube-apiserver")
        known = len(operator.log())
        waiting.eventually(lambda: len(operator.log()) > known, operator.tail)
        tries_on(operator)
        assert operator.get("/readyz")[0] == 200, "it knows what it knew"
        plane.start_component("kube-apiserver")
        home.ask(*requests[5:])
        for name in names:
            home.resumed(name)
            home.ended(name)
        assert operator.alive
        assert operator.stop() == 0
