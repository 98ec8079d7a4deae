"""The operator as a process: what it costs, what it tells, how it ends, what it may do."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence

import pytest

from resumer.api.outcomes import Reason
from tests.controlplane import client
from tests.controlplane.plugin import KubeconfigFor
from tests.e2e.support import audit, manifests, process, rights, waiting
from tests.e2e.support import home as homes
from tests.e2e.support.audit import Call
from tests.e2e.support.home import Home
from tests.e2e.support.manifests import Json, step
from tests.e2e.support.process import Operator

SWEEP = "1"


@pytest.fixture(scope="module")
def operator_options() -> Sequence[str]:
    return ("--cleanup-interval", SWEEP)


def eventually(look: Callable[[], object], wanted: object) -> None:
    """Return as soon as a look shows what is wanted.

    Raises:
        AssertionError: It does not in time; the message holds what it shows.
    """
    deadline = time.monotonic() + homes.TIMEOUT
    while True:
        late = time.monotonic() > deadline
        found = look()
        if found == wanted:
            return
        assert not late, f"wanted {wanted}, found {found}"
        time.sleep(0.1)


def shown(home: Home, workflow: Json, task: str) -> Json:
    """Submits a Workflow, and returns it once the operator's own watch has shown its gate.

    A request that comes before that waits for it, which costs a write more.
    """
    body, seen = home.submit(workflow), f"{workflow['metadata']['name']}-seen"
    home.ask(manifests.resume(seen, task=task, dryRun=True))
    home.came_to(seen, Reason.WOULD_RESUME)
    return body


def of_two(name: str, calls: Sequence[Call]) -> Sequence[Call]:
    """The calls about the Workflow and the WorkflowResume of this name."""
    return sorted(call for call in calls if call.name == name and call.resource != "events")


def test_a_resume_costs_two_writes_and_no_read(
    home: Home, operator: Operator, audit_log: pathlib.Path
) -> None:
    shown(home, manifests.two_gates("cheap", "111"), "111")
    before = audit.calls(audit_log, home.namespace)
    home.ask(
        manifests.resume(
            "cheap",
            task="111",
            rules=[manifests.rule("current-stage", "equals", manifests.PR_CREATED)],
            setLabels={"moved": "on", manifests.STAGE: manifests.READY_FOR_QA},
        )
    )
    home.resumed("cheap")
    expected = [
        Call("patch", "workflowresumes/status", "cheap", 200),
        Call("patch", "workflows", "cheap", 200),
    ]
    eventually(lambda: of_two("cheap", audit.calls(audit_log, home.namespace)), expected)
    labels = home.at_gate("cheap", "second")["metadata"]["labels"]
    assert labels["moved"] == "on"
    assert labels[manifests.STAGE] == manifests.READY_FOR_QA
    reads = [
        call
        for call in audit.calls(audit_log, home.namespace)[len(before) :]
        if call.verb in ("get", "list") and call.resource == "workflows"
    ]
    assert reads == []


def test_a_finished_request_that_is_seen_again_costs_nothing(
    home: Home, operator: Operator, audit_log: pathlib.Path
) -> None:
    shown(home, manifests.two_gates("settled", "112"), "112")
    home.ask(manifests.resume("settled", task="112"))
    home.resumed("settled")
    note = {"metadata": {"annotations": {"example.com/note": "seen again"}}}
    home.cluster.patch(homes.RESUME, "settled", home.namespace, note)
    home.cluster.patch(homes.WORKFLOW, "settled", home.namespace, note)
    # Whatever those changes set off comes before what a later request sets off.
    home.submit(manifests.workflow("later", task="113"))
    home.ask(manifests.resume("later", task="113"))
    home.resumed("later")
    seen = lambda: [call.verb for call in of_two("settled", audit.calls(audit_log, home.namespace))]  # noqa: E731
    eventually(seen, ["patch", "patch"])


def test_a_request_that_waits_costs_one_write_until_its_gate_opens(
    home: Home, operator: Operator, audit_log: pathlib.Path
) -> None:
    workflow = manifests.workflow(
        "patient",
        manifests.steps(step("before", "gate"), step("wait", "gate")),
        manifests.gate(),
        task="114",
    )
    before = homes.node(shown(home, workflow, "114"), "before")["id"]
    home.ask(manifests.resume("patient", task="114", nodeFieldSelector="displayName=wait"))
    home.came_to("patient", Reason.GATE_NOT_OPEN)
    # Somebody else opens the gate before.
    opened = {"status": {"nodes": {before: {"phase": "Succeeded"}}}}
    home.cluster.patch(homes.WORKFLOW, "patient", home.namespace, opened)
    home.resumed("patient")
    expected = [
        Call("patch", "workflowresumes/status", "patient", 200),
        Call("patch", "workflowresumes/status", "patient", 200),
        Call("patch", "workflows", "patient", 200),
    ]
    eventually(lambda: of_two("patient", audit.calls(audit_log, home.namespace)), expected)


def test_its_probes_answer_and_its_metrics_count(home: Home, operator: Operator) -> None:
    assert operator.get("/healthz")[0] == 200
    assert operator.get("/readyz")[0] == 200
    assert operator.get("/nothing")[0] == 404
    labels = {"stage": manifests.PR_CREATED, "outcome": "Resumed", "reason": "GateOpened"}
    before = operator.metric("resumer_requests_total", **labels)
    home.submit(manifests.two_gates("counted", "115"))
    home.ask(manifests.resume("counted", task="115"))
    home.resumed("counted")
    home.ask(manifests.resume("counted-not", task="115", policyName="none"))
    home.came_to("counted-not", Reason.POLICY_NOT_FOUND)
    count = lambda: operator.metric("resumer_requests_total", **labels)  # noqa: E731
    eventually(count, before + 1)
    assert operator.metric("resumer_requests_total", reason="PolicyNotFound") >= 1
    stage = {"stage": manifests.PR_CREATED}
    assert operator.metric("resumer_attempts_total", result="Done", **stage) >= 1
    assert operator.metric("resumer_resume_latency_seconds_count", **stage) >= 1
    assert operator.metric("resumer_reconcile_errors_total") == 0
    assert operator.metric("resumer_build_info") == 1


def test_its_log_follows_a_request_by_one_correlation_id(home: Home, operator: Operator) -> None:
    home.submit(manifests.two_gates("traced", "116"))
    delivery = {"headers": {"X-GitHub-Delivery": ["72d3162e-cc78-11e3-81ab-4c9367dc0958"]}}
    home.ask(
        manifests.resume("traced", task="116", event={"body": {"action": "opened"}, **delivery})
    )
    status = home.resumed("traced")
    line = operator.wait_logged("decided", workflowresume="traced", outcome="Resumed")
    assert line["correlation_id"] == status["correlationID"]
    assert line["delivery_id"] == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert line["level"] == "info"
    found = (line["namespace"], line["workflow"], line["task"], line["stage"], line["event_type"])
    assert found == (home.namespace, "traced", "116", manifests.PR_CREATED, "pr-created")
    home.ask(manifests.resume("traced-not", task="116", event={"labels": ["task-1"]}))
    home.came_to("traced-not", Reason.TASK_MISMATCH)
    assert operator.wait_logged("decided", workflowresume="traced-not")["level"] == "warning"


def test_kubectl_describe_shows_what_happened_on_both_objects(
    home: Home, operator: Operator
) -> None:
    home.submit(manifests.two_gates("told", "117"))
    home.ask(manifests.resume("told", task="117"))
    home.resumed("told")
    for kind, reason, words in (
        ("workflowresumes", "GateOpened", "opened 'first' of workflow 'told'"),
        ("workflows", "ResumedByRequest", "WorkflowResume told opened 'first'"),
    ):
        describe = ("describe", kind, "told", "-n", home.namespace)
        shown = lambda: reason in home.cluster.kubectl(*describe).partition("Events:")[2]  # noqa: B023, E731
        eventually(shown, True)
        assert words in home.cluster.kubectl(*describe).partition("Events:")[2]


def test_a_finished_request_is_deleted_when_its_time_is_over_and_no_other(
    home: Home, operator: Operator
) -> None:
    home.ask(
        manifests.resume("goes", task="118", deadlineSeconds=0, ttlSecondsAfterFinished=1),
        manifests.resume("stays", task="118", deadlineSeconds=0),
        manifests.resume("waits", task="118", ttlSecondsAfterFinished=0),
    )
    home.cluster.wait_gone(homes.RESUME, "goes", home.namespace, homes.TIMEOUT)
    home.came_to("stays", Reason.DEADLINE_EXCEEDED)
    home.came_to("waits", Reason.WORKFLOW_NOT_FOUND)


def test_what_happened_while_it_was_away_is_made_up_for(
    cluster: client.Cluster, tmp_path: pathlib.Path
) -> None:
    with homes.new(cluster) as home:
        log = tmp_path / "operator.log"
        with process.running(home.account(), log, [home.namespace]):
            home.ask(manifests.resume("waits", task="1"), manifests.resume("gone", task="2"))
            home.came_to("waits", Reason.WORKFLOW_NOT_FOUND)
            home.came_to("gone", Reason.WORKFLOW_NOT_FOUND)
        home.submit(manifests.two_gates("one", "1"))
        home.submit(manifests.two_gates("three", "3"))
        home.ask(manifests.resume("missed", task="3"))
        home.cluster.delete(homes.RESUME, "gone", home.namespace)
        with process.running(home.account(), log, [home.namespace]) as again:
            home.resumed("waits")
            home.resumed("missed")
            assert again.metric("resumer_reconcile_errors_total") == 0


def test_workflows_of_another_argo_controller_are_not_its_business(
    home: Home, operator: Operator
) -> None:
    theirs = {"workflows.argoproj.io/controller-instanceid": "another"}
    home.cluster.create(manifests.workflow("foreign", task="119", labels=theirs), home.namespace)
    home.ask(
        manifests.resume("foreign", task="119"),
        manifests.resume("foreign-by-name", "foreign", task="119"),
    )
    for name in ("foreign", "foreign-by-name"):
        home.came_to(name, Reason.WORKFLOW_NOT_FOUND)


def role(namespace: str, user: str) -> list[Json]:
    """All that the operator needs to watch and to tell, and nothing that lets it resume."""
    watches = ["get", "list", "watch"]
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": user, "namespace": namespace},
            "rules": [
                {"apiGroups": ["argoproj.io"], "resources": ["*"], "verbs": watches},
                {
                    "apiGroups": ["argoproj.io"],
                    "resources": ["workflowresumes/status", "workflowresumepolicies/status"],
                    "verbs": ["patch"],
                },
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user, "namespace": namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": user,
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
    ]


def test_without_the_right_to_patch_workflows_a_request_fails_and_says_so(
    cluster: client.Cluster, kubeconfig_for: KubeconfigFor, tmp_path: pathlib.Path
) -> None:
    with homes.new(cluster) as home:
        user = f"reader-{home.namespace}"
        home.ask(*role(home.namespace, user))
        log = tmp_path / "operator.log"
        before = home.submit(manifests.two_gates("closed", "1"))
        with process.running(kubeconfig_for(user, []), log, [home.namespace]):
            home.ask(manifests.resume("closed", task="1"))
            status = home.came_to("closed", Reason.FORBIDDEN)
            assert "cannot patch" in status["message"]
            assert user in status["message"]
            assert [one["reason"] for one in status["attempts"]] == [Reason.FORBIDDEN]
            assert home.workflow("closed") == before
            breakers = "argoproj.io/v1alpha1/WorkflowResumeBreaker"
            assert cluster.list_all(breakers, home.namespace) == []
            # Once the right is given, the next request needs no restart.
            more = {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["patch"]}
            cluster.patch(
                "rbac.authorization.k8s.io/v1/Role",
                user,
                home.namespace,
                [{"op": "add", "path": "/rules/-", "value": more}],
                content_type=client.JSON_PATCH,
            )
            patching = {"verb": "patch", "resource": "workflows", "namespace": home.namespace}
            waiting.eventually(
                lambda: rights.may(cluster, user, **patching),
                lambda: f"{user} may not patch",
            )
            home.ask(manifests.resume("open", task="1"))
            home.resumed("open")
