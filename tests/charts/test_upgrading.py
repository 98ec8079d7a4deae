"""The page on upgrading, rehearsed: its commands are typed, real operators come and go by them.

`node.Node` runs each pod of the release as an operator's process. Both versions are this one; what
differs is what their charts differ in: definitions, options, rights and values.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence

import pytest
import yaml

from resumer.api import constants
from resumer.api.outcomes import Reason
from tests import builders
from tests.charts import charts, node
from tests.charts.charts import Json
from tests.charts.plane import Plane
from tests.controlplane import build, client, components, toolchain
from tests.e2e.support import commands, manifests, pages, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.home import Home

pytestmark = pytest.mark.timeout(400)

PAGE = "docs/upgrading.md"
SYSTEM, RELEASE, GREEN, CANARY = "resumer", "resumer", "resumer-green", "resumer-canary"
TEAM = "team-a"
BEFORE, NEXT = "0.0.9", "99.0.0"
CRD = "CustomResourceDefinition"
DEPLOYMENT = "apps/v1/Deployment"
LEASE = "coordination.k8s.io/v1/Lease"
STAGE = "review"
PENDING = 4
"""Requests that wait while something is changed."""

_LEASE = re.compile(
    r"^ +\{\{- if \.Values\.leaderElection\.enabled \}\}\n(?: +- --leader.*\n)+ +\{\{- end \}\}\n",
    re.MULTILINE,
)
_TIMEOUT = 200.0


@dataclasses.dataclass(frozen=True, slots=True)
class Desk:
    """Somebody who upgrades: a shell with `helm` and `kubectl`, the node, and a team's namespace.

    Attributes:
        home: of the team whose workflows wait
        node: where the operators run
        folder: with `helm` and `kubectl` in it
        plane: the cluster
        typed: the commands so far, of all tests
    """

    home: Home
    node: node.Node
    folder: pathlib.Path
    plane: Plane
    typed: list[str]

    def type(self, command: str, *, chart: pathlib.Path = charts.CHART) -> str:
        """What a command of the page prints, in the checkout of this project.

        Arguments:
            command: one or several lines of Bash
            chart: of which version, in the place of the checkout's
        """
        environment = {
            **{name: value for name, value in os.environ.items() if "HELM" not in name},
            "HOME": str(self.folder),
            "PATH": os.pathsep.join((str(self.folder), os.environ["PATH"])),
            "KUBECONFIG": str(self.plane.kubeconfig),
        }
        self.typed.extend(commands.lines(command))
        text = command.replace("charts/workflow-resumer ", f"{chart} ")
        return pages.typed(text, environment, folder=charts.ROOT, timeout=_TIMEOUT)

    def install(self, chart: pathlib.Path = charts.CHART) -> None:
        """Installs the first release, with one pod: another one that stands by costs a start."""
        self.type(
            f"helm install {RELEASE} charts/workflow-resumer --namespace {SYSTEM} "
            "--create-namespace --set image.repository=registry.example.com/resumer "
            # Definitions stay from test to test: to change them costs the API server seconds.
            "--set replicaCount=1 --take-ownership --wait",
            chart=chart,
        )

    def leads(self, release: str) -> None:
        """Waits until an operator of this release leads and the others have left or stand by."""
        waiting.eventually(
            lambda: [one.metric("resumer_leader") for one in self.node.of(release)].count(1.0) == 1,
            lambda: f"{release} does not lead: {[one.tail() for one in self.node.of(release)]}",
            homes.TIMEOUT,
        )

    def ask(self, *names: str, instance: str = "") -> None:
        """Asks to resume workflows of these names, whether they exist yet or not."""
        for name in names:
            body = manifests.resume(name, name, task=name, deadlineSeconds=3600)
            body["metadata"]["labels"] = labels(instance)
            self.home.ask(body)

    def waits(self, *names: str) -> None:
        """Waits until the operator has looked at these requests and found no workflow."""
        for name in names:
            self.home.came_to(name, Reason.WORKFLOW_NOT_FOUND)

    def arrive(self, *names: str) -> None:
        """Submits the workflows that are asked for; each stands at a gate, and then at another."""
        for name in names:
            self.home.cluster.create(manifests.two_gates(name, name), self.home.namespace)

    def at_gate(self, *names: str) -> None:
        """Puts workflows of the canary's Argo controller there, which this plane does not have."""
        for name in names:
            written = manifests.workflow(name, task=name)
            written["metadata"]["labels"] |= labels("canary")
            standing = builders.at_review(name).build()["status"]
            self.home.cluster.create({**written, "status": standing}, self.home.namespace)

    def opened_once(self, *names: str, release: str) -> None:
        """Asserts that each request has opened a gate of its workflow, and nobody another one."""
        for name in names:
            self.home.resumed(name)
        account = f"{release}-workflow-resumer"
        waiting.eventually(
            lambda: all(
                node.writers(self.plane.audit_log, self.home.namespace).get(name) == [account]
                for name in names
            ),
            lambda: str(node.writers(self.plane.audit_log, self.home.namespace)),
        )


@dataclasses.dataclass(slots=True)
class Record:
    """What the tests of this module have done.

    Attributes:
        commands: that were typed
        tests: that have passed or failed
    """

    commands: list[str] = dataclasses.field(default_factory=list)
    tests: set[str] = dataclasses.field(default_factory=set)


@pytest.fixture(scope="module")
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    """When all tests of this module are done, they have typed all that the page shows.

    Nothing is said where only some of them were run, or one has failed.
    """
    found, failed = Record(), request.session.testsfailed
    yield found
    tests = {name for name in vars(request.module) if name.startswith("test_")}
    if found.tests == tests and request.session.testsfailed == failed:
        # With one pod less than the page has.
        typed = [text.replace("--replicas 1", "--replicas 2") for text in found.commands]
        missing = [
            str(one)
            for one in commands.of(commands.Trier.UPGRADES)
            if not any(text.startswith(one.text) for text in typed)
        ]
        assert missing == []


@pytest.fixture
def desk(
    plane: Plane, record: Record, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[Desk]:
    """A cluster without a release; what a test leaves is gone afterwards."""
    helm = build.ensure((components.HELM_4,))[components.HELM_4.name].binary
    (tmp_path / "helm").symlink_to(helm)
    (tmp_path / "kubectl").symlink_to(toolchain.kubectl())
    for name in (SYSTEM, TEAM):
        plane.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    with node.Node(plane, SYSTEM, tmp_path) as started:
        found = Desk(Home(plane.cluster, TEAM), started, tmp_path, plane, record.commands)
        try:
            yield found
        finally:
            record.tests.add(request.node.name)
            clean(found)


def clean(desk: Desk) -> None:
    """Uninstalls all releases, and deletes what they and the test have left.

    All of it is tried, whatever fails: the next test begins with this cluster.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(sweep, desk.home.cluster)
        stack.callback(desk.node.settled)
        for release in desk.type(f"helm list --short --namespace {SYSTEM}").split():
            stack.callback(desk.type, f"helm uninstall {release} --namespace {SYSTEM}")


def sweep(cluster: client.Cluster) -> None:
    """Deletes what no release takes along, and the definitions that `kubectl` has changed."""
    # An operator whose rights went before it could not give its Lease back: nobody waits for that.
    for one in cluster.list_all(LEASE, SYSTEM):
        cluster.delete(LEASE, one["metadata"]["name"], SYSTEM)
    for kind in (homes.WORKFLOW, homes.RESUME, homes.POLICY):
        for one in cluster.list_all(kind, TEAM):
            cluster.delete(kind, one["metadata"]["name"], TEAM)
    for one in cluster.list_all(CRD):
        managers = {each["manager"] for each in one["metadata"]["managedFields"]}
        if (name := one["metadata"]["name"]).startswith("workflowresume") and "kubectl" in managers:
            cluster.delete(CRD, name)
            cluster.wait_gone(CRD, name, None, homes.TIMEOUT)


def labels(instance: str) -> dict[str, str]:
    """Of a workflow of an Argo instance, and of a request for it."""
    return {constants.LABEL_INSTANCE_ID: instance} if instance else {}


def names(prefix: str, count: int = PENDING) -> Sequence[str]:
    """So many names."""
    return [f"{prefix}-{number}" for number in range(count)]


def boxes(heading: str, language: str = "console") -> list[str]:
    """The boxes below a heading of the page."""
    return [
        block.text
        for block in pages.blocks(PAGE)
        if block.chapter == heading and block.language == language
    ]


def schema(chart: pathlib.Path, plural: str) -> tuple[pathlib.Path, Json, Json]:
    """The file of a definition of a chart, the definition, and the schema of an object."""
    file = chart / "files" / "crds" / f"{plural}.argoproj.io.yaml"
    definition = yaml.safe_load(file.read_text())
    found: Json = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return file, definition, found["properties"]


def version(folder: pathlib.Path, number: str) -> pathlib.Path:
    """A copy of the chart that says that it is another version."""
    made = folder / number / "workflow-resumer"
    shutil.copytree(charts.CHART, made)
    file = made / "Chart.yaml"
    chart = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**chart, "version": number, "appVersion": number}))
    return made


@pytest.fixture
def previous(tmp_path: pathlib.Path) -> pathlib.Path:
    """A chart as a version before this one might have been.

    Nothing was released before, so this is made. Its definitions lack a field and give new objects
    no status, its values lack a whole part, and its operator knows of no Lease.
    """
    made = version(tmp_path, BEFORE)
    file, definition, properties = schema(made, "workflowresumes")
    del properties["spec"]["properties"]["dryRun"], properties["status"]["default"]
    file.write_text(yaml.safe_dump(definition))
    (made / "templates" / "admissionpolicies.yaml").unlink()
    drop(made / "values.yaml", "admissionPolicies")
    template = made / "templates" / "deployment.yaml"
    text = template.read_text()
    without = _LEASE.sub("", text)
    assert without != text
    template.write_text(without)
    return made


def drop(file: pathlib.Path, name: str) -> None:
    """Takes a value, with all that is below it, out of the values of a chart."""
    values = yaml.safe_load(file.read_text())
    del values[name]
    file.write_text(yaml.safe_dump(values))


@pytest.fixture
def coming(tmp_path: pathlib.Path) -> pathlib.Path:
    """A chart as a later version might be: its kinds have more fields, in spec and in status."""
    made = version(tmp_path, NEXT)
    text: Json = {"type": "string"}
    for plural in ("workflowresumes", "workflowresumepolicies", "workflowresumebreakers"):
        file, definition, properties = schema(made, plural)
        properties["status"]["properties"]["later"] = text
        if plural == "workflowresumepolicies":
            stages = properties["spec"]["properties"]["stages"]
            stages["items"]["properties"]["later"] = text
        if plural == "workflowresumes":
            for field in ("reason", "outcome", "phase"):
                properties["status"]["properties"][field] = text
        file.write_text(yaml.safe_dump(definition))
    return made


def test_requests_that_wait_go_on_when_a_newer_version_takes_over(
    desk: Desk, previous: pathlib.Path
) -> None:
    early, late = names("early"), names("late")
    desk.install(previous)
    (old,) = desk.node.of(RELEASE)
    desk.ask(*early, *late)
    desk.waits(*early, *late)

    look, *then = boxes("In place")
    desk.type(look)
    desk.node.settled()
    assert not old.alive
    (new,) = desk.node.of(RELEASE)
    # The lease may still be that of an operator of another test, who could not release it any more.
    new.wait_logged("leading", homes.TIMEOUT)
    assert "leading" not in {line["event"] for line in old.log()}
    # What the values of the old one lacked is the new one's default.
    told = desk.type(f"helm get values {RELEASE} --namespace {SYSTEM} --all --output yaml")
    assert yaml.safe_load(told)["admissionPolicies"]
    desk.arrive(*early, *late)
    desk.opened_once(*early, *late, release=RELEASE)
    shown = "".join(desk.type(command) for command in then)
    assert all(name in shown for name in (*early, *late))


def test_helm_4_waits_until_a_request_in_the_release_has_opened_its_gate(desk: Desk) -> None:
    desk.install()
    body = manifests.resume("first", "first", task="first", deadlineSeconds=3600)
    body["metadata"]["namespace"] = TEAM
    file = charts.values_file(desk.folder, {"extraObjects": [body]})
    look, *_ = boxes("In place")
    (wait,) = (line for line in look.splitlines() if line.endswith("--wait"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        upgrade = pool.submit(desk.type, f"{wait} --values {file}")
        try:
            desk.waits("first")
            assert not upgrade.done(), upgrade.result()
        finally:
            # Else a failure would last as long as Helm is ready to wait.
            desk.arrive("first")
        assert "STATUS: deployed" in upgrade.result()
    desk.opened_once("first", release=RELEASE)


def test_an_older_version_reads_what_a_newer_one_wrote_and_loses_nothing(
    desk: Desk, coming: pathlib.Path
) -> None:
    pending, cluster = names("pending"), desk.home.cluster
    desk.install()
    look, *_ = boxes("In place")
    desk.type(look, chart=coming)
    stage = {"name": STAGE, "eventTypes": ["reviewed"], "later": "yes"}
    desk.home.ask(manifests.policy("mine", stage, matches={"policy": "mine"}))
    desk.ask(*pending)
    desk.waits(*pending)
    done, *waiting_ones = pending
    desk.arrive(done)
    desk.opened_once(done, release=RELEASE)
    # The newer version knows a reason, a condition and a field more.
    for name in waiting_ones:
        assert written(desk, name)["status"]["later"] == "yes"
    assert cluster.get(homes.POLICY, "mine", TEAM)["spec"]["stages"][0]["later"] == "yes"

    # This code is also an older one under newer definitions, and hears of such objects.
    one, *others = waiting_ones
    desk.arrive(one)
    desk.opened_once(one, release=RELEASE)

    (history,) = boxes("Back")
    assert "superseded" in desk.type(history)
    desk.node.settled()
    image = cluster.get(DEPLOYMENT, f"{RELEASE}-workflow-resumer", SYSTEM)["spec"]["template"]
    assert not image["spec"]["containers"][0]["image"].endswith(NEXT)
    # Nothing is lost but the field that these definitions do not know.
    older = cluster.get(homes.RESUME, others[0], TEAM)
    assert "later" not in older["status"]
    assert older["metadata"]["uid"]
    assert cluster.get(homes.RESUME, done, TEAM)["status"]["reason"] == Reason.GATE_OPENED
    assert cluster.get(homes.POLICY, "mine", TEAM)["status"]["conditions"]
    *most, last = others
    desk.arrive(*most)
    desk.opened_once(*most, release=RELEASE)
    # Under the newer definitions it goes on as well.
    (definitions,) = boxes("Definitions")
    assert desk.type(definitions, chart=coming).count("serverside-applied") == 3
    desk.arrive(last)
    desk.opened_once(last, release=RELEASE)
    # As the page says: Helm 4 does not take them back by itself, and this is how it does.
    with pytest.raises(AssertionError, match="conflict"):
        desk.type(look)
    desk.type(look.replace("helm upgrade ", "helm upgrade --force-conflicts "))


def written(desk: Desk, name: str) -> Json:
    """Gives a request that waits the status that a newer version would give it.

    Returns:
        The request with that status, which the operator soon replaces by its own.
    """
    condition = {
        "type": "Later",
        "status": "True",
        "reason": "LaterReason",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = desk.home.cluster.get(homes.RESUME, name, TEAM)
    conditions = [*body["status"]["conditions"], condition]
    status = {"later": "yes", "reason": "LaterReason", "conditions": conditions}
    return desk.home.cluster.patch(
        homes.RESUME, name, TEAM, {"status": status}, subresource="status"
    )


def test_blue_and_green_share_a_lease_and_the_work_moves_between_them(desk: Desk) -> None:
    install, switch, back, finish = boxes("Blue and green")
    first, second, third = names("first"), names("second"), names("third")
    desk.install()
    desk.ask(*first, *second, *third)
    desk.waits(*first, *second, *third)
    desk.type(f"{install.rstrip()} --set replicaCount=1")
    # Both are there, and one works.
    desk.leads(RELEASE)
    assert [one.metric("resumer_leader") for one in desk.node.of(GREEN)] == [0.0]
    desk.arrive(*first)
    desk.opened_once(*first, release=RELEASE)

    desk.arrive(*second[::2])
    desk.type(switch)
    desk.arrive(*second[1::2])
    desk.leads(GREEN)
    desk.node.settled()
    assert not desk.node.of(RELEASE)
    for name in second:
        desk.home.resumed(name)
    waiting.eventually(lambda: written_once(desk, second), lambda: str(writers(desk)))

    desk.type(back.replace("--replicas 2", "--replicas 1"))
    desk.leads(RELEASE)
    desk.node.settled()
    assert not desk.node.of(GREEN)
    desk.arrive(*third)
    desk.type(finish.replace("--replicas 2", "--replicas 1"))
    desk.opened_once(*third, release=RELEASE)
    told = desk.type(f"helm list --short --namespace {SYSTEM}")
    assert told.split() == [RELEASE]


def writers(desk: Desk) -> dict[str, Sequence[str]]:
    """For each workflow the accounts that wrote to it."""
    return dict(node.writers(desk.plane.audit_log, TEAM))


def written_once(desk: Desk, workflows: Sequence[str]) -> bool:
    """Whether each workflow was written to by exactly one release, once."""
    found = writers(desk)
    return all(len(found.get(name, ())) == 1 for name in workflows)


def test_a_canary_takes_its_own_workflows_until_it_has_all(desk: Desk) -> None:
    install, move, drained, finish = boxes("Canary")
    ours, theirs, moved = names("ours"), names("theirs"), "waits-for-canary"
    desk.install()
    desk.type(f"{install.rstrip()} --set replicaCount=1")
    (shown,) = boxes("Canary", "yaml")
    assert yaml.safe_load(shown)["labels"] == labels("canary")
    desk.ask(*ours, moved)
    desk.ask(*theirs, instance="canary")
    desk.waits(*ours, *theirs, moved)
    # Two leases: both lead, each its own part.
    desk.leads(RELEASE)
    desk.leads(CANARY)
    desk.arrive(*ours)
    desk.at_gate(*theirs, moved)
    desk.opened_once(*ours, release=RELEASE)
    desk.opened_once(*theirs, release=CANARY)
    desk.waits(moved)
    desk.type(move)
    desk.opened_once(moved, release=CANARY)

    assert {name for name in ours if name in desk.type(drained)} == set(ours)
    for name in ours:
        desk.home.cluster.delete(homes.WORKFLOW, name, TEAM)
        desk.home.cluster.delete(homes.RESUME, name, TEAM)
    assert TEAM not in desk.type(drained)
    desk.type(finish)
    assert not desk.node.of(RELEASE)
    desk.leads(CANARY)
    last = names("last")
    desk.ask(*last, instance="canary")
    desk.at_gate(*last)
    desk.opened_once(*last, release=CANARY)
    # The definitions are the canary's now, with all that users have.
    definition = desk.home.cluster.get(CRD, "workflowresumes.argoproj.io")
    assert definition["metadata"]["annotations"]["meta.helm.sh/release-name"] == CANARY
    assert desk.home.cluster.get(homes.RESUME, moved, TEAM)
