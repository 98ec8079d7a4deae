"""``resumer replay`` in a cluster: the request a delivery becomes, ready to be created."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest
import yaml

from tests.e2e.support import deliveries, plays, process
from tests.e2e.support import manifests as m
from tests.e2e.support.deliveries import Delivery
from tests.e2e.support.home import RESUME, Home

pytestmark = pytest.mark.usefixtures("operator")


def run(
    home: Home, folder: pathlib.Path, delivery: Delivery, *arguments: str
) -> subprocess.CompletedProcess[str]:
    headers = {"X-GitHub-Event": delivery.event, "X-GitHub-Delivery": delivery.id}
    file = folder / "delivery.json"
    file.write_text(json.dumps({"headers": headers, "payload": delivery.payload}))
    return subprocess.run(
        process.command("replay", str(file), "-n", home.namespace, *arguments),
        env={**os.environ, "KUBECONFIG": str(home.cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_delivery_is_explained_and_its_manifest_resumes(
    home: Home, tmp_path: pathlib.Path
) -> None:
    home.govern(m.policy("play", *plays.STAGES, matches=plays.PLAY))
    home.submit(plays.play("4711", "created"))
    before = home.workflow("play-4711")
    delivery = deliveries.opened("4711")
    done = run(home, tmp_path, delivery)
    assert done.returncode == 0, done.stderr
    assert "It would resume now: created of workflow play-4711." in done.stderr
    assert "Policy    play\n" in done.stderr
    assert home.workflow("play-4711") == before
    name = yaml.safe_load(done.stdout)["metadata"]["name"]
    assert name == f"resume-{delivery.id}-replay"
    stored = [one["metadata"]["name"] for one in home.cluster.list_all(RESUME, home.namespace)]
    assert name not in stored
    home.cluster.kubectl("-n", home.namespace, "create", "-f", "-", input=done.stdout)
    home.resumed(name)
    home.ended("play-4711")
    # A second time nothing is done, and the replay says so before.
    told = json.loads(run(home, tmp_path, delivery, "-o", "json").stdout)
    assert (told["outcome"], told["reason"]) == ("AlreadyResumed", "StageAlreadyResumed")


def test_a_policy_is_tried_on_the_workflows_of_the_cluster(
    home: Home, tmp_path: pathlib.Path
) -> None:
    home.submit(m.workflow("reworked", task="4712", labels={"team": "replay"}))
    failing = m.policy(
        "trial",
        {"name": m.PR_CREATED, "eventTypes": ["pr-created"], "failOn": ["pr-closed"]},
        matches={"team": "replay"},
    )
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(failing))
    closed = deliveries.closed("4712", merged=False)
    without = run(home, tmp_path, closed)
    assert without.returncode == 1
    assert "no request becomes of it" in without.stderr
    told = json.loads(run(home, tmp_path, closed, "--policy", str(file), "-o", "json").stdout)
    assert (told["policy"], told["wouldFail"], told["gates"]) == ("trial", True, ["wait"])
    assert told["request"]["spec"]["labelSelector"] == "team=replay,task-id=4712"


def test_a_cluster_that_cannot_be_reached_is_a_line_and_an_exit_code(
    home: Home, tmp_path: pathlib.Path
) -> None:
    done = run(home, tmp_path, deliveries.opened("1"), "--kubeconfig", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "--kubeconfig (RESUMER_KUBECONFIG)" in done.stderr
