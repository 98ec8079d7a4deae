"""What the user's pages show is accepted, can be typed, and is enough."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.controlplane import client, toolchain
from tests.controlplane.plugin import KubeconfigFor
from tests.e2e.support import commands, manifests, pages, process
from tests.e2e.support.home import Home

# test_readme.py types these, and compares what they show.
_TYPED_WITH_AN_OPERATOR = ("README.md", "docs/how-to.md")
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


_HELM_OR_KUSTOMIZE = "docs/install.md"
"""tests/charts/test_pages.py hands its values to Helm, and its kustomization to kustomize."""
_OF_HELM = ("tracing",)
"""The first fields of values of the chart on other pages; the same test hands them to Helm."""
_NOT_TAKEN = {"argoWorkflow": "a trigger of which the page says that it cannot work, and why"}
"""What is shown and accepted by nobody, by its first field."""
_OF_CI = {"on": "vendor.github-workflows", "resume": "vendor.gitlab-ci"}
"""Configurations of CI systems by their first field, with the schema that check-jsonschema has."""


def _parts() -> Iterator[tuple[pages.Block, str, Mapping[str, Any]]]:
    """What the YAML blocks hold, with its first field."""
    for page in commands.PAGES:
        for block in pages.blocks(page):
            if block.language == "yaml" and block.page != _HELM_OR_KUSTOMIZE:
                # Other than YAML 1.1, everybody reads `on` as a text.
                body = yaml.safe_load(re.sub(r"^on:", '"on":', block.text))
                yield block, next(iter(body)), body
            elif block.language == "yaml" and block.text.startswith("apiVersion:"):
                yield block, "apiVersion", yaml.safe_load(block.text)


def _objects() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects in the YAML blocks, with where they stand; parts are made whole."""
    for block, first, body in _parts():
        if first not in (*_OF_CI, *_OF_HELM, *_NOT_TAKEN):
            yield str(block), _whole(block, first, body)


def _whole(block: pages.Block, first: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object with a part of one in its place.

    Raises:
        LookupError: nothing is known of such a part
    """
    match first:
        case "apiVersion":
            return body
        case "validationRules":
            return manifests.resume("part", "part", **body)
        case "failOn" | "retry":
            stage = {"name": "part", "eventTypes": ["part"], **body}
            return manifests.policy("part", stage, matches={})
        case "status" if "policy" in body["status"]:
            return {**manifests.resume("part", "part"), **body}
        case "labels":
            request = manifests.resume("part", "part")
            return {**request, "metadata": {**request["metadata"], **body}}
        case "metadata":
            workflow = yaml.safe_load(_WORKFLOW)
            return {**workflow, "metadata": {**workflow["metadata"], **body["metadata"]}}
        case "env":
            container = {"name": "part", "image": "part", **body}
            pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
            spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod}
            kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
            return {**kind, "metadata": {"name": "part"}, "spec": spec}
        case _:
            raise LookupError(f"{block}: say here what {first!r} is a part of")


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
            cluster.kubectl("-n", namespace, *dry_run, input=yaml.safe_dump(dict(body)))
            if "status" in body:
                _accept_status(cluster, namespace, body)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error


def _accept_status(cluster: client.Cluster, namespace: str, body: Mapping[str, Any]) -> None:
    """Asserts that the API server takes the status of an object, which it drops at creation."""
    name = f"{body['kind']}/{body['metadata']['name']}"
    born = cluster.create(body, namespace).get("status", {})
    dry_run = ("--dry-run=server", "--subresource=status", "--type=merge")
    patch = json.dumps({"status": body["status"]})
    told = cluster.kubectl("-n", namespace, "patch", name, *dry_run, "-p", patch, "-o", "json")
    assert json.loads(told)["status"] == {**born, **body["status"]}
    cluster.kubectl("-n", namespace, "delete", name)


@pytest.mark.parametrize("first", _OF_CI)
def test_every_configuration_of_a_ci_system_follows_its_schema(
    first: str, tmp_path: pathlib.Path
) -> None:
    (shown,) = (body for _, found, body in _parts() if found == first)
    file = tmp_path / "shown.json"
    file.write_text(json.dumps(shown))
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", _OF_CI[first], str(file)]
    told = subprocess.run(check, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


def test_nothing_is_excused_that_no_page_shows_and_every_block_is_of_a_known_language() -> None:
    assert {*_NOT_TAKEN, *_OF_HELM} <= {first for _, first, _ in _parts()}
    found = {one.language for page in commands.PAGES for one in pages.blocks(page)}
    # test_sources.py runs its script.
    scripts = [
        page for page in commands.PAGES for one in pages.blocks(page) if one.language == "sh"
    ]
    assert scripts == ["docs/sources.md"]
    # Pictures are drawn by the site, and what `text` shows is compared where it is printed.
    assert found <= {"bash", "console", "mermaid", "promql", "sh", "text", "yaml"}


def test_every_command_that_the_pages_show_can_be_typed(home: Home) -> None:
    """Those between `bash` fences; what needs a name of the reader's is between `console` ones."""
    path = f"{toolchain.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(home.cluster.kubeconfig)}
    others = [page for page in commands.PAGES if page not in _TYPED_WITH_AN_OPERATOR]
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
