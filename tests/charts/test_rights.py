"""The rights that the chart gives its ServiceAccount are those that the operator uses, no more.

The operator runs with the arguments of the chart's pod and the token of its ServiceAccount, and
meets all that it has to deal with. The audit log then says what it asked for.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
from collections.abc import Iterator, Sequence

import pytest
import yaml

from resumer.api.outcomes import Reason
from tests.charts import charts, plane
from tests.charts.charts import Json
from tests.e2e.support import commands, faults, manifests, process, proxy, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.commands import Trier
from tests.e2e.support.home import Home

pytestmark = pytest.mark.timeout(400)

Right = tuple[str, str, str]
"""Group, resource and verb."""

_OWN_PORT = ("run", "--metrics-port=", "--log-format=")
STAGE = "sick"
OF_REQUESTS = "/workflowresumes$"


def granted(objects: Sequence[Json]) -> set[Right]:
    """All rights that the Roles of the operator's own account give."""
    bound = [
        one["roleRef"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for one in charts.of_kind(objects, kind)
    ]
    return {
        right
        for kind in ("Role", "ClusterRole")
        for role in charts.of_kind(objects, kind)
        if role["metadata"]["name"] in bound
        for right in rights(role)
    }


def documented(heading: str) -> list[Json]:
    """The Roles that a chapter of the page on operating gives."""
    page = (charts.ROOT / "docs" / "operating.md").read_text()
    chapter = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = [part.split("\n```")[0] for part in chapter.split("```yaml\n")[1:]]
    return [yaml.safe_load(block) for block in blocks]


def rights(role: Json) -> set[Right]:
    """What the rules of a Role give."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def requests(log: pathlib.Path, user: str) -> Iterator[Json]:
    """What a user asked the API server for, so far."""
    text = log.read_bytes()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        if user.encode() in line:
            entry = json.loads(line)
            if entry["user"]["username"] == user:
                yield entry


def used(log: pathlib.Path, user: str) -> set[Right]:
    """The rights that a user has made use of; what is no object needs none of a Role.

    Raises:
        AssertionError: something was forbidden
    """
    found = set()
    for entry in requests(log, user):
        decision = entry["annotations"]["authorization.k8s.io/decision"]
        assert decision == "allow", f"forbidden: {entry['verb']} {entry['requestURI']}"
        if target := entry.get("objectRef"):
            below = f"/{target['subresource']}" if target.get("subresource") else ""
            if "resource" in target:
                found.add(
                    (target.get("apiGroup", ""), f"{target['resource']}{below}", entry["verb"])
                )
    return found


def play(home: Home, between: proxy.Proxy) -> None:
    """All that the operator has to deal with."""
    quick = {"strategy": "Fixed", "baseSeconds": 0.5, "jitter": "None", "maxAttempts": 1}
    stage = {"name": STAGE, "eventTypes": [STAGE], "retry": quick}
    stage["circuitBreaker"] = {"failureThreshold": 1, "openSeconds": 1}
    home.govern(manifests.policy("play", stage, matches={"policy": "play"}))
    # A gate is opened, and the event comes once more.
    home.submit(manifests.two_gates("plain", "1"))
    home.ask(manifests.resume("plain", task="1"))
    home.resumed("plain")
    home.ask(manifests.resume("plain-again", task="1"))
    home.came_to("plain-again", Reason.STAGE_ALREADY_RESUMED)
    # One that waits and is over: its time to live as well.
    home.ask(manifests.resume("never", task="2", deadlineSeconds=0, ttlSecondsAfterFinished=1))
    home.cluster.wait_gone(homes.RESUME, "never", home.namespace, homes.TIMEOUT)
    # The same happens twice to one that waits.
    home.ask(manifests.resume("twice", task="3"))
    home.came_to("twice", Reason.WORKFLOW_NOT_FOUND)
    home.cluster.create(manifests.workflow("late", nap(), task="3"), home.namespace)
    home.came_to("twice", Reason.GATE_NOT_OPEN)
    home.cluster.delete(homes.WORKFLOW, "late", home.namespace)
    home.came_to("twice", Reason.WORKFLOW_NOT_FOUND)
    # The answer to a write is lost: it has to look what became of it.
    home.submit(manifests.two_gates("lost", "4"))
    with between.on("PATCH", "/workflows/lost$", faults.answer_after(503)):
        home.ask(manifests.resume("lost", "lost", task="4"))
        home.resumed("lost")
    # A gate opens while nothing is heard of requests: it asks whether this one still stands.
    home.ask(manifests.resume("gap", task="5"))
    home.came_to("gap", Reason.WORKFLOW_NOT_FOUND)
    streams = between.opened(OF_REQUESTS)
    between.freeze(OF_REQUESTS)
    between.cut(OF_REQUESTS)
    waiting.eventually(
        lambda: between.opened(OF_REQUESTS) > streams,
        lambda: "the watch is not back",
        homes.TIMEOUT,
    )
    home.submit(manifests.two_gates("gap", "5"))
    home.resumed("gap")
    between.thaw()
    # A stage whose writes fail: its breaker opens, and closes by a probe.
    for name in ("sick-fails", "sick-probe"):
        home.submit(manifests.two_gates(name, name, stage=STAGE, labels={"policy": "play"}))
    # Somebody else writes the breaker at the same time: it is read anew.
    with (
        between.on("PATCH", "/workflows/sick-fails$", faults.answer(503)),
        between.on("PATCH", "/workflowresumebreakers/.*/status$", faults.answer(409)),
    ):
        home.ask(sick("sick-fails"))
        home.came_to("sick-fails", Reason.RETRIES_EXHAUSTED)
    home.ask(sick("sick-probe"))
    home.resumed("sick-probe")


def nap() -> Json:
    """A template that runs for long and has no gate."""
    return manifests.gate("main", duration="3600")


def sick(name: str) -> Json:
    """A request for the stage whose writes fail."""
    return manifests.resume(name, task=name, event_type=STAGE, policyName="play")


def run(made: plane.Plane, objects: Sequence[Json], home: Home, folder: pathlib.Path) -> str:
    """Installs, has the operator play its part as the chart's pod, and returns the user it was."""
    made.apply(objects, charts.NAMESPACE)
    container = charts.pod(objects)["containers"][0]
    options = [one for one in container["args"] if not one.startswith(_OWN_PORT)]
    account = charts.pod(objects)["serviceAccountName"]
    kubeconfig = made.account(charts.NAMESPACE, account)
    with (
        proxy.running(kubeconfig, folder) as between,
        process.running(
            between.kubeconfig,
            folder / "operator.log",
            [],
            options=[*options, "--cleanup-interval", "1"],
        ),
    ):
        play(home, between)
    return f"system:serviceaccount:{charts.NAMESPACE}:{account}"


@pytest.fixture(scope="module", autouse=True)
def _system(plane: plane.Plane) -> None:
    plane.cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": charts.NAMESPACE}}
    )


@pytest.mark.parametrize("mode", ["cluster-wide", "namespaced"])
def test_the_operator_uses_every_right_of_the_chart_and_lacks_none(
    plane: plane.Plane, mode: str, tmp_path: pathlib.Path
) -> None:
    home = Home(plane.cluster, plane.namespace(mode))
    values: Json = {"fullnameOverride": mode}
    if mode == "namespaced":
        values["watchNamespaces"] = [home.namespace]
    objects = charts.render(values)
    user = run(plane, objects, home, tmp_path)
    wanted = granted(objects)
    waiting.eventually(
        lambda: used(plane.audit_log, user) == wanted,
        lambda: (
            f"never used: {sorted(wanted - used(plane.audit_log, user))}; "
            f"not of a Role: {sorted(used(plane.audit_log, user) - wanted)}"
        ),
        homes.TIMEOUT,
    )


def in_pod(kubeconfig: pathlib.Path, arguments: Sequence[str]) -> str:
    """What `resumer` says, on both channels, to somebody in the operator's pod."""
    told = subprocess.run(
        process.command(*arguments),
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return told.stdout + told.stderr


def test_a_request_is_explained_in_the_pod_with_the_rights_of_the_operator(
    plane: plane.Plane, tmp_path: pathlib.Path
) -> None:
    """There is no kubelet: what `kubectl exec` would run there runs here, with the pod's token."""
    (typed,) = {one.text for one in commands.of(Trier.POD)}
    home = Home(plane.cluster, plane.namespace("explain"))
    objects = charts.render({"fullnameOverride": "explain", "watchNamespaces": [home.namespace]})
    plane.apply(objects, charts.NAMESPACE)
    home.submit(manifests.workflow("release", task="1"))
    home.ask(manifests.resume("release", "release", task="1"))
    kubeconfig = plane.account(charts.NAMESPACE, charts.pod(objects)["serviceAccountName"])
    program, *words = shlex.split(typed.partition(" -- ")[2])
    assert program == "resumer"
    names = {"NAME": "release", "TEAM": home.namespace}
    arguments = [names.get(one, one) for one in words]
    # RBAC takes a Role in a moment after it was written.
    waiting.eventually(
        lambda: "It would resume now: wait of workflow release." in in_pod(kubeconfig, arguments),
        lambda: in_pod(kubeconfig, arguments),
        homes.TIMEOUT,
    )


def test_the_page_on_operating_gives_the_same_rights() -> None:
    roles = {role["metadata"]["name"]: rights(role) for role in documented("Rights")}
    operator = roles.pop("resumer") | roles.pop("resumer-leader-election")
    objects = charts.render()
    assert operator == granted(objects)
    requester = charts.only(objects, "ClusterRole", f"{charts.FULL_NAME}-requester")
    assert list(roles.values()) == [rights(requester)]
