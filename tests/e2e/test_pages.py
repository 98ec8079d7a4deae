"""What the user's pages show is accepted, can be typed, and is enough."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.controlplane import client, toolchain
from tests.controlplane.plugin import KubeconfigFor
from tests.e2e.support import pages, process
from tests.e2e.support.home import Home

_PAGES = sorted(f"docs/{page.name}" for page in (pages.ROOT / "docs").glob("*.md"))
# test_readme.py types this one, and compares what it shows.
_TYPED_WITH_AN_OPERATOR = "docs/how-to.md"
_TIMEOUT = 60.0

_WORKFLOW = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata:
  name: rights
  labels: {task-id: "71", current-stage: waiting-pr-created}
spec:
  entrypoint: main
  templates:
    - name: main
      steps: [[{name: gate, template: gate}]]
    - {name: gate, suspend: {}}
"""
_REQUEST = """
apiVersion: argoproj.io/v1alpha1
kind: WorkflowResume
metadata: {name: rights}
spec:
  workflowName: rights
  correlationData: {taskId: "71", eventType: pr-created}
  ttlSecondsAfterFinished: 5
"""


def _objects() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The whole objects in the YAML blocks, with where they stand; parts are left out."""
    for page in _PAGES:
        for block in pages.blocks(page):
            if block.language == "yaml" and block.text.startswith("apiVersion:"):
                yield str(block), yaml.safe_load(block.text)


def _role(name: str) -> Mapping[str, Any]:
    found = [one for _, one in _objects() if one["kind"] == "Role"]
    return next(one for one in found if one["metadata"]["name"] == name)


def test_every_object_that_the_pages_show_is_accepted_by_the_api_server(
    cluster: client.Cluster, namespace: str
) -> None:
    shown = list(_objects())
    assert shown
    for where, body in shown:
        dry_run = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
        try:
            cluster.kubectl("-n", namespace, *dry_run, input=yaml.safe_dump(body))
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error


def test_every_command_that_the_pages_show_can_be_typed(home: Home) -> None:
    """Those between `bash` fences; what needs a name of the reader's is between `console` ones."""
    path = f"{toolchain.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(home.cluster.kubeconfig)}
    others = [page for page in _PAGES if page != _TYPED_WITH_AN_OPERATOR]
    typed = [block for page in others for block in pages.blocks(page) if block.language == "bash"]
    assert typed
    for block in typed:
        block.typed(environment)


def test_the_rights_on_the_page_are_enough_to_resume_to_tell_and_to_clean_up(
    home: Home, kubeconfig_for: KubeconfigFor, tmp_path: pathlib.Path
) -> None:
    """The operator may do what its Role says, the caller only create, and both need no more."""
    operator_user, caller = f"operator-of-{home.namespace}", f"caller-of-{home.namespace}"
    _allow(home, _role("resumer"), operator_user)
    _allow(home, _role("resumer-leader-election"), operator_user)
    _allow(home, _role("resume-workflows"), caller)
    home.cluster.create(_WORKFLOW, home.namespace)
    options = (
        *("--cleanup-interval", "1"),
        *("--leader-elect", "--leader-elect-namespace", home.namespace),
    )
    kubeconfig = kubeconfig_for(operator_user, ())
    log = tmp_path / "operator.log"
    with process.running(kubeconfig, log, [home.namespace], options=options) as operator:
        as_caller = client.Cluster(kubeconfig_for(caller, ()))
        as_caller.create(_REQUEST, home.namespace)
        with pytest.raises(client.ApiError, match="forbidden"):
            as_caller.list_all("Workflow", home.namespace)
        as_caller.close()
        operator.wait_logged("decided", outcome="Resumed", workflowresume="rights")
        home.cluster.wait_for(
            "Workflow",
            "rights",
            home.namespace,
            lambda workflow: workflow["status"].get("phase") == "Succeeded",
            _TIMEOUT,
            describe="Succeeded",
        )
        home.cluster.wait_gone("WorkflowResume", "rights", home.namespace, _TIMEOUT)
        home.told("rights", "GateOpened", "ResumedByRequest")
        refused = [line for line in operator.log() if "forbidden" in str(line).lower()]
        assert refused == []


def _allow(home: Home, role: Mapping[str, Any], user: str) -> None:
    home.cluster.create(dict(role), home.namespace)
    home.cluster.create(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": role["metadata"]["name"]},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": role["metadata"]["name"],
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        },
        home.namespace,
    )
