"""Who may resume: each kind of user with the roles of the chart, asked of a real API server.

Requests are dry runs of the API server: authorization and admission decide as on any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http
import pathlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.charts import charts, people
from tests.charts.charts import Json
from tests.controlplane import client, plugin
from tests.e2e.support import home as homes
from tests.e2e.support import manifests, waiting

pytestmark = pytest.mark.timeout(300)

_PLURALS = {
    "resumes": "workflowresumes",
    "policies": "workflowresumepolicies",
    "breakers": "workflowresumebreakers",
    "workflows": "workflows",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Somebody with some rights."""

    cluster: client.Cluster

    def refused(self, method: str, path: str, body: Json | None = None) -> str:
        """Why a dry run of a request is forbidden; empty where it is allowed."""
        patch = client.MERGE_PATCH if method == "PATCH" else "application/json"
        query = {} if method == "GET" else {"dryRun": "All"}
        try:
            self.cluster.request(method, path, query=query, body=body, content_type=patch)
        except client.ApiError as error:
            if error.status == http.HTTPStatus.FORBIDDEN:
                return str(error.body["message"])
            if error.status != http.HTTPStatus.NOT_FOUND:  # allowed to, but there is none
                raise
        return ""

    def asks(self, namespace: str, workflow_name: str | None = None, **spec: Any) -> str:
        """Why a request to resume is forbidden; empty where it is allowed."""
        body = manifests.resume("asked", workflow_name, **spec)
        return self.refused("POST", path(namespace, "resumes"), body)


def path(namespace: str, what: str, *below: str) -> str:
    """Where the kinds are served."""
    at = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/{_PLURALS[what]}"
    return "/".join([at, *below])


@dataclasses.dataclass(frozen=True, slots=True)
class Team:
    """A namespace with the chart's roles for users, and the people of it."""

    cluster: client.Cluster
    namespace: str
    other: str
    """A namespace of another team."""
    chart: str
    """What the objects of the chart are called."""
    folder: pathlib.Path
    stack: contextlib.ExitStack
    kubeconfig_for: plugin.KubeconfigFor

    def user(self, role: str | None = None, *rules: Json) -> Person:
        """A person, bound to a ClusterRole in the namespace, and to a Role of these rules."""
        name = f"user-{secrets.token_hex(4)}"
        subject = {"kind": "User", "name": name}
        if role:
            self.cluster.apply(people.bound("ClusterRole", role, subject), self.namespace)
        if rules:
            self.cluster.apply(people.role(name, *rules), self.namespace)
            self.cluster.apply(people.bound("Role", name, subject), self.namespace)
        return self._person(self.kubeconfig_for(name, ()))

    def account(self, namespace: str, *rules: Json) -> Person:
        """A ServiceAccount of a namespace that may create requests there, as one of a Sensor."""
        name = f"sensor-{secrets.token_hex(4)}"
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.cluster.apply(people.account(name), namespace)
        requester = f"{self.chart}-requester"
        self.cluster.apply(people.bound("ClusterRole", requester, subject), namespace)
        if rules:
            self.cluster.apply(people.role(name, *rules), namespace)
            self.cluster.apply(people.bound("Role", name, subject), namespace)
        found = people.account_kubeconfig(self.cluster, namespace, name, self.folder)
        return self._person(found)

    def _person(self, kubeconfig: pathlib.Path) -> Person:
        found = client.Cluster(kubeconfig)
        return Person(self.stack.enter_context(contextlib.closing(found)))


Make = Callable[..., contextlib.AbstractContextManager[Team]]
"""Makes a team; keywords are what its chart demands of who asks, in force when it is made."""


@pytest.fixture(scope="module")
def make(
    built_helm: None,
    cluster: client.Cluster,
    kubeconfig_for: plugin.KubeconfigFor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """Makes a team whose namespace, and no other, the chart is installed for."""

    @contextlib.contextmanager
    def made(**demands: Json) -> Iterator[Team]:
        chart, folder = f"users-{secrets.token_hex(4)}", tmp_path_factory.mktemp("team")
        with (
            homes.new(cluster) as own,
            homes.new(cluster) as other,
            contextlib.ExitStack() as stack,
        ):
            values = {
                "fullnameOverride": chart,
                "watchNamespaces": [own.namespace],
                "admissionPolicies": demands,
            }
            wide = [
                one
                for one in charts.render(values)
                if one["kind"] in ("ClusterRole", "ClusterRoleBinding")
                or one["kind"].startswith("ValidatingAdmissionPolicy")
            ]
            team = Team(
                cluster, own.namespace, other.namespace, chart, folder, stack, kubeconfig_for
            )
            try:
                for one in wide:
                    cluster.apply(one)
                if demands:
                    in_force(team)
                yield team
            finally:
                for one in wide:
                    kind = f"{one['apiVersion']}/{one['kind']}"
                    cluster.delete(kind, one["metadata"]["name"], missing_ok=True)

    return made


@pytest.fixture(scope="module")
def team(make: Make) -> Iterator[Team]:
    """A team that has the chart as it comes."""
    with make() as made:
        yield made


@pytest.fixture(scope="module")
def guarded(make: Make) -> Iterator[Team]:
    """A team whose chart demands a right on the Workflow."""
    with make(workflowRight={"enabled": True}) as made:
        yield made


@pytest.fixture(scope="module")
def staged(make: Make) -> Iterator[Team]:
    """A team whose chart demands a right on the stage."""
    with make(stageRight={"enabled": True}) as made:
        yield made


def in_force(team: Team) -> None:
    """Returns when the policy refuses: the API server takes it in a moment after it was written.

    Before that, it is RBAC that refuses for a moment, until it knows the new account's role.
    """
    nobody = team.account(team.namespace)
    said = ""

    def refused() -> bool:
        nonlocal said
        said = nobody.asks(team.namespace)
        return bool(said) and "cannot create" not in said

    waiting.eventually(refused, lambda: said or "not refused", homes.TIMEOUT)


def settled(person: Person, namespace: str, **spec: Any) -> None:
    """Returns when a person is allowed: RBAC takes a Role in a moment after it was written."""
    waiting.eventually(
        lambda: not person.asks(namespace, **spec),
        lambda: person.asks(namespace, **spec),
        homes.TIMEOUT,
    )


def reads(person: Person, namespace: str) -> None:
    """Returns when a person may look at requests, as `settled` does for one who may create them."""
    waiting.eventually(
        lambda: not person.refused("GET", path(namespace, "resumes")),
        lambda: person.refused("GET", path(namespace, "resumes")),
        homes.TIMEOUT,
    )


def test_the_account_of_a_sensor_may_create_requests_and_nothing_else(team: Team) -> None:
    sensor = team.account(team.namespace)
    settled(sensor, team.namespace)
    for what in ("policies", "breakers", "workflows"):
        assert "cannot create" in sensor.refused("POST", path(team.namespace, what), {})
    for what in _PLURALS:
        assert "cannot list" in sensor.refused("GET", path(team.namespace, what))
        assert "cannot patch" in sensor.refused("PATCH", path(team.namespace, what, "x"), {})
        assert "cannot delete" in sensor.refused("DELETE", path(team.namespace, what, "x"))


def test_an_account_of_another_namespace_may_ask_for_nothing_in_this_one(team: Team) -> None:
    foreign = team.account(team.other)
    settled(foreign, team.other)
    assert "cannot create" in foreign.asks(team.namespace)


def test_a_stranger_may_do_nothing(team: Team) -> None:
    stranger = team.user()
    assert "cannot create" in stranger.asks(team.namespace)
    for what in _PLURALS:
        assert "cannot list" in stranger.refused("GET", path(team.namespace, what))


def test_a_developer_writes_requests_but_no_policy_and_no_status(team: Team) -> None:
    developer = team.user("edit")
    settled(developer, team.namespace)
    # The right to look is in another role, which `edit` gets in its own time.
    reads(developer, team.namespace)
    assert not developer.refused("DELETE", path(team.namespace, "resumes", "x"))
    # A policy may have workflows terminated, which this developer may not change.
    assert "cannot create" in developer.refused("POST", path(team.namespace, "policies"), {})
    assert "cannot patch" in developer.refused("PATCH", path(team.namespace, "policies", "x"), {})
    assert "cannot delete" in developer.refused("DELETE", path(team.namespace, "policies", "x"))
    # Deleting a breaker closes its circuit; only the operator says what it is.
    assert not developer.refused("DELETE", path(team.namespace, "breakers", "x"))
    assert "cannot create" in developer.refused("POST", path(team.namespace, "breakers"), {})
    for what in ("resumes", "policies", "breakers"):
        assert not developer.refused("GET", path(team.namespace, what))
        forged = path(team.namespace, what, "x", "status")
        assert "cannot patch" in developer.refused("PATCH", forged, {})
    assert "cannot patch" in developer.refused("PATCH", path(team.namespace, "workflows", "x"), {})


def test_who_is_in_charge_of_a_namespace_writes_its_policies_as_well(team: Team) -> None:
    admin = team.user("admin")
    settled(admin, team.namespace)
    stage = {"name": "review", "eventTypes": ["reviewed"]}
    policy = manifests.policy("mine", stage, matches={"a": "b"})
    waiting.eventually(
        lambda: not admin.refused("POST", path(team.namespace, "policies"), policy),
        lambda: admin.refused("POST", path(team.namespace, "policies"), policy),
        homes.TIMEOUT,
    )
    assert not admin.refused("DELETE", path(team.namespace, "policies", "x"))
    forged = path(team.namespace, "policies", "x", "status")
    assert "cannot patch" in admin.refused("PATCH", forged, {})
    assert "cannot patch" in admin.refused("PATCH", path(team.namespace, "workflows", "x"), {})


def test_who_may_view_reads_and_asks_for_nothing(team: Team) -> None:
    viewer = team.user("view")
    reads(viewer, team.namespace)
    for what in ("policies", "breakers"):
        assert not viewer.refused("GET", path(team.namespace, what))
    assert "cannot create" in viewer.asks(team.namespace)
    assert "cannot delete" in viewer.refused("DELETE", path(team.namespace, "resumes", "x"))


def test_a_right_on_one_workflow_lets_ask_for_that_one_only(guarded: Team) -> None:
    only = {"resources": ["workflows"], "verbs": ["update"], "resourceNames": ["release"]}
    sensor = guarded.account(guarded.namespace, only)
    settled(sensor, guarded.namespace, workflow_name="release")
    refused = sensor.asks(guarded.namespace, workflow_name="another")
    assert "spec.workflowName: whoever asks to resume Workflow another" in refused
    assert "needs the right to update it" in refused
    refused = sensor.asks(guarded.namespace)
    assert "whoever asks to resume any Workflow of the namespace" in refused


def test_a_right_on_all_workflows_lets_ask_for_any(guarded: Team) -> None:
    anything = {"resources": ["workflows"], "verbs": ["update"]}
    developer = guarded.user("edit", anything)
    settled(developer, guarded.namespace)
    assert not developer.asks(guarded.namespace, workflow_name="another")


def test_a_developer_without_a_right_on_workflows_is_refused_as_well(guarded: Team) -> None:
    developer = guarded.user("edit")
    reads(developer, guarded.namespace)
    assert "needs the right to update it" in developer.asks(
        guarded.namespace, workflow_name="release"
    )


def test_a_verb_of_its_own_gives_no_power_to_change_workflows(make: Make) -> None:
    with make(workflowRight={"enabled": True, "verb": "resume"}) as made:
        only = {"resources": ["workflows"], "verbs": ["resume"], "resourceNames": ["release"]}
        sensor = made.account(made.namespace, only)
        settled(sensor, made.namespace, workflow_name="release")
        assert "needs the right to resume it" in sensor.asks(made.namespace, "another")
        change = sensor.refused("PATCH", path(made.namespace, "workflows", "release"), {})
        assert "cannot patch" in change


def test_the_policies_of_a_release_leave_other_namespaces_alone(guarded: Team) -> None:
    foreign = guarded.account(guarded.other)
    settled(foreign, guarded.other, workflow_name="release")


def test_a_right_on_one_stage_lets_ask_for_that_one_only(staged: Team) -> None:
    only = {
        "resources": ["workflowresumes/stage"],
        "verbs": ["create"],
        "resourceNames": ["waiting-pr-created"],
    }
    sensor = staged.account(staged.namespace, only)
    settled(sensor, staged.namespace, targetStage="waiting-pr-created")
    refused = sensor.asks(staged.namespace, targetStage="waiting-pr-approved")
    assert "to resume the stage waiting-pr-approved needs the right" in refused
    # What else would come to another stage's gate.
    assert "spec.targetStage: must be given" in sensor.asks(staged.namespace)
    ways: list[Json] = [
        {"nodeFieldSelector": "templateName=other"},
        {"allGates": True},
        {"policyName": "another"},
        {"setLabels": {"current-stage": "waiting-pr-approved"}},
    ]
    for way in ways:
        refused = sensor.asks(staged.namespace, targetStage="waiting-pr-created", **way)
        assert f"spec.{next(iter(way))}" in refused
        assert "not allowed to whoever may create" in refused
    neither: Json = {"allGates": False, "setLabels": {}}
    assert not sensor.asks(staged.namespace, targetStage="waiting-pr-created", **neither)


def test_a_right_on_all_stages_lets_ask_for_any(staged: Team) -> None:
    sensor = staged.account(
        staged.namespace, {"resources": ["workflowresumes/stage"], "verbs": ["create"]}
    )
    settled(sensor, staged.namespace)
    specs: list[Json] = [
        {"targetStage": "waiting-pr-approved"},
        {"allGates": True},
        {"policyName": "another"},
        {"setLabels": {"current-stage": "waiting-pr-approved"}},
    ]
    for spec in specs:
        assert not sensor.asks(staged.namespace, **spec)
