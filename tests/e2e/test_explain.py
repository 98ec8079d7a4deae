"""``resumer explain`` says what would be decided, on real workflows, and writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from tests.e2e.support import manifests, process
from tests.e2e.support.home import RESUME, Home


def explain(home: Home, *arguments: str, manifest: Mapping[str, Any] | None = None) -> str:
    """What the command prints; it has to succeed."""
    done = run(home, *arguments, manifest=manifest)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(
    home: Home, *arguments: str, manifest: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    source = ["-f", "-"] if manifest is not None else []
    return subprocess.run(
        process.command("explain", "-n", home.namespace, *source, *arguments),
        env={**os.environ, "KUBECONFIG": str(home.cluster.kubeconfig)},
        input=json.dumps(manifest) if manifest is not None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_manifest_that_would_resume_is_told_so_and_the_gate_stays_closed(home: Home) -> None:
    home.submit(manifests.workflow("would", task="91"))
    before = home.workflow("would")
    request = manifests.resume("would", task="91")
    shown = explain(home, manifest=request)
    assert "It would resume now: wait of workflow would." in shown
    assert home.workflow("would") == before
    stored = [one["metadata"]["name"] for one in home.cluster.list_all(RESUME, home.namespace)]
    assert request["metadata"]["name"] not in stored


def test_each_check_is_shown_up_to_the_one_that_stops(home: Home) -> None:
    home.submit(manifests.workflow("stops", task="92"))
    request = manifests.resume(
        "stops", task="92", rules=[manifests.rule("task-id", "equals", "93")]
    )
    told = json.loads(explain(home, "-o", "json", manifest=request))
    assert (told["outcome"], told["reason"]) == ("Rejected", "RuleFailed")
    passed = {check["name"]: check["passed"] for check in told["checks"]}
    assert passed["at_gate"] is True
    assert passed["workflow_rules_pass"] is False
    assert passed["parameters_fit"] is None
    assert told["rules"] == [
        {
            "field": "task-id",
            "operator": "equals",
            "expected": "93",
            "actual": "92",
            "passed": False,
        }
    ]


def test_the_policy_that_wins_is_named_with_the_one_that_it_wins_over(home: Home) -> None:
    ours = {"explain": "policies"}
    home.ask(
        manifests.policy("broad", matches=ours),
        manifests.policy("narrow", matches={**ours, "team": "a"}),
    )
    home.submit(manifests.workflow("ruled", task="96", labels={**ours, "team": "a"}))
    request = manifests.resume("ruled", task="96")
    shown = explain(home, manifest=request)
    assert "Policy    narrow (wins over broad, which match the workflow as well)" in shown
    told = json.loads(explain(home, "-o", "json", manifest=request))
    assert (told["policy"], told["alsoMatching"]) == ("narrow", ["broad"])


def test_a_request_in_the_cluster_is_explained_by_its_name(home: Home) -> None:
    home.ask(manifests.resume("early", task="94"))
    shown = explain(home, "early")
    assert "Outcome   Waiting (WorkflowNotFound)" in shown
    assert "task-id=94" in shown


def test_what_cannot_be_explained_is_a_clear_line_and_an_exit_code(home: Home) -> None:
    missing = run(home, "nobody")
    assert missing.returncode == 1
    assert f"there is no WorkflowResume {home.namespace}/nobody" in missing.stderr
    wrong = run(home, manifest={**manifests.resume("wrong", task="95"), "spec": {}})
    assert wrong.returncode == 1
    assert "spec.correlationData" in wrong.stderr
    neither = run(home)
    assert neither.returncode == 2
    assert "give either the NAME of a WorkflowResume, or a file" in neither.stderr
