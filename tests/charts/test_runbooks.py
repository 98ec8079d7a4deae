"""The commands of the runbooks, typed where there is what the alerts are about.

A release is installed and upgraded, its pods are there and ready, a request of it has failed and a
breaker is open. There is no kubelet, so no log can be read: of such a command it is tried that it
finds the pods.
"""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.charts import charts
from tests.charts.charts import Json
from tests.charts.plane import Kubelet, Plane
from tests.controlplane import build, components
from tests.e2e.support import commands, kustomize, manifests, pages
from tests.e2e.support import home as homes
from tests.e2e.support.commands import Shell, Trier
from tests.e2e.support.home import Home

pytestmark = pytest.mark.timeout(400)

PAGE = "docs/runbooks.md"
SYSTEM, RELEASE, TEAM = "resumer", "gates", "team-a"
REQUEST, BREAKER = "asked", "review-1-3ac6e17e"
NAMES = {
    "HELM-RELEASE": RELEASE,
    "RELEASE": f"{RELEASE}-workflow-resumer",
    "NAMESPACE": SYSTEM,
    "TEAM": TEAM,
    "wresbrk NAME": f"wresbrk {BREAKER}",
    "NAME": REQUEST,
}
"""What the reader puts for the names of the page; those that hold another one come first."""

_IN_PROSE = re.compile(r"`(?:argo|curl|helm|kubectl|resumer) [^` ]+ [^`]+`")
_KUBECTL = ("kubectl logs ", "kubectl get pods --output name ")


@pytest.fixture
def shell(plane: Plane, tmp_path: pathlib.Path) -> Shell:
    """A reader's shell with Helm, in a copy of the project."""
    helm = build.ensure((components.HELM_4,))[components.HELM_4.name].binary
    return commands.shell(Home(plane.cluster, TEAM), tmp_path, helm=helm)


def named(text: str) -> str:
    """A command as a reader of this cluster types it."""
    for name, instead in NAMES.items():
        text = re.sub(rf"\b{name}\b", instead, text)
    return text


def in_trouble(plane: Plane) -> None:
    """A request that failed, and a breaker that is open: what an operator would have written."""
    plane.cluster.create(manifests.resume(REQUEST, "release"), TEAM)
    failed = {"status": {"phase": "Failed", "outcome": "Failed", "reason": "Forbidden"}}
    plane.cluster.patch(homes.RESUME, REQUEST, TEAM, failed, subresource="status")
    breaker = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowResumeBreaker",
        "metadata": {"name": BREAKER},
        "spec": {"stage": "Review.1"},
    }
    plane.cluster.create(breaker, TEAM)


def test_the_commands_of_the_runbooks_show_and_mend_what_they_are_for(
    plane: Plane, shell: Shell
) -> None:
    plane.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}})
    told: dict[str, str] = {}
    with Kubelet(plane.cluster):
        wanted = f"charts/workflow-resumer --namespace {SYSTEM} --wait"
        shell.type(f"helm install {RELEASE} {wanted} --create-namespace")
        shell.type(f"helm upgrade {RELEASE} {wanted} --set revisionHistoryLimit=5")
        in_trouble(plane)
        for one in commands.of(Trier.RUNBOOKS):
            told[named(one.text)] = shell.type(named(one.text))
        logs = [text for text in commands.NOT_TRIED if text.startswith(_KUBECTL[0])]
        for text in logs:
            pods = named(re.sub(r" --(?:prefix|tail|since|previous).*", "", text))
            assert len(shell.type(pods.replace(*_KUBECTL)).split()) == 2, text
        assert logs
    (asked,) = [said for text, said in told.items() if "auth can-i" in text]
    assert asked.strip() == "yes"
    (failed,) = [said for text, said in told.items() if "| grep Failed" in text]
    assert REQUEST in failed
    found = plane.cluster.get("apps/v1/Deployment", NAMES["RELEASE"], SYSTEM)
    assert found["spec"]["revisionHistoryLimit"] == 3
    assert plane.cluster.list_all("argoproj.io/v1alpha1/WorkflowResumeBreaker", TEAM) == []


@pytest.mark.parametrize("overlay", ["cluster-install", "namespace-install"])
def test_what_is_found_by_a_label_in_the_runbooks_has_it_with_kustomize_as_well(
    overlay: str,
) -> None:
    objects = kustomize.kustomized(charts.ROOT / "deploy" / "overlays" / overlay)
    template: Json = charts.only(objects, "Deployment")["spec"]["template"]
    page = (charts.ROOT / PAGE).read_text()
    selectors = set(re.findall(r"--selector (\S+)=(\S+)", page))
    assert selectors
    assert selectors <= set(template["metadata"]["labels"].items())
    # As the page says, the Lease is called as the account is: its name is asked for by one word.
    role = charts.only(objects, "Role", "resumer-leader-election")
    assert [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule] == [
        [template["spec"]["serviceAccountName"]]
    ]


def test_every_command_of_the_runbooks_can_be_pasted() -> None:
    """What is between `console` fences is tried; what is in a sentence would be by nobody."""
    prose = (charts.ROOT / PAGE).read_text()
    for block in pages.blocks(PAGE):
        prose = prose.replace(block.text, "")
    assert _IN_PROSE.findall(prose) == []
