"""``resumer replay`` without a cluster: what it reads, what it prints, and how it refuses."""

from __future__ import annotations

import io
import json
import pathlib
import sys
from typing import Any

import pytest
import yaml

from resumer import settings
from resumer.cli import app, manifests
from tests import github
from tests.builders import a_policy, a_workflow, supplied, three_stages

ID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
OPENED = github.event("pull_request.opened", ID, pull_request__head__ref="task-7-fix")


def _never(_: settings.Settings) -> int:
    raise AssertionError("the operator must not be started")


def saved(folder: pathlib.Path, content: object, name: str = "payload.json") -> str:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(file)


def run(*arguments: str) -> int:
    return app.main(["replay", *arguments, "--offline"], _never)


def waiting() -> dict[str, Any]:
    """A workflow at the gate of the event, and what the gate takes."""
    outputs = {"pr-number": supplied(), "pr-url": supplied()}
    workflow = a_workflow().labelled(**{"task-id": "7"}).gate("created", outputs=outputs)
    body = workflow.build()
    body["metadata"]["labels"] |= {"task-id": "7", "current-stage": "waiting-pr-created"}
    return body


def test_the_manifest_alone_is_on_standard_output(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, workflow = saved(tmp_path, OPENED), saved(tmp_path, waiting(), "workflow.json")
    assert run(file, "--workflow", workflow) == 0
    shown = capsys.readouterr()
    manifest = yaml.safe_load(shown.out)
    assert manifest["metadata"]["name"] == f"resume-{ID}-replay"
    assert manifest["spec"]["correlationData"]["taskId"] == "7"
    assert "It would resume now: created of workflow play." in shown.err
    assert "Offline: the cluster was not looked at." in shown.err


def test_workflows_can_be_in_a_list_as_kubectl_prints_them(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [waiting()]}
    workflows = saved(tmp_path, yaml.safe_dump(listed).encode(), "workflows.yaml")
    assert run(saved(tmp_path, OPENED), "--workflow", workflows) == 0
    assert "It would resume now" in capsys.readouterr().err


def test_both_are_one_object_for_a_program(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(saved(tmp_path, OPENED), "-o", "json") == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["request"]["spec"]["correlationData"]["eventType"] == "pr-created"
    assert (told["outcome"], told["reason"]) == ("Waiting", "WorkflowNotFound")
    assert shown.err == ""


def test_a_delivery_can_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": ID}
    whole = {"headers": headers, "body": github.payload("pull_request.opened")}
    stdin = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + json.dumps(whole).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("-", "--task", "7", "--no-parameters") == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert manifest["metadata"]["name"] == f"resume-{ID}-replay"
    assert "resumeParameters" not in manifest["spec"]


def test_a_policy_can_be_tried_before_it_is_applied(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = three_stages().with_spec(
        workflowSelector={"matchLabels": {"team": "a"}},
        events={"types": [{"name": "reviewed", "event": "pull_request", "action": "opened"}]},
    )
    file = saved(tmp_path, yaml.safe_dump(policy.build()).encode(), "policy.yaml")
    assert run(saved(tmp_path, OPENED), "--policy", file, "-p", "who=sender.login") == 0
    shown = capsys.readouterr()
    spec = yaml.safe_load(shown.out)["spec"]
    assert spec["correlationData"]["eventType"] == "reviewed"
    assert spec["resumeParameters"] == [{"name": "who", "value": "Codertocat"}]
    assert "Policy    play" in shown.err
    assert "Stage     review" in shown.err


def test_an_invalid_policy_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = a_policy("bad").stage("review", "reviewed", nodeFieldSelector="no such")
    file = saved(tmp_path, bad.build(), "policy.json")
    assert run(saved(tmp_path, OPENED), "--policy", file) == 0
    assert "Policy not valid: bad: spec.stages[review].nodeFieldSelector" in capsys.readouterr().err


def test_an_event_that_becomes_nothing_is_a_line_and_an_exit_code(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(saved(tmp_path, github.payload("issues.opened"))) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "resumer: no request becomes of it: the event (issues, action 'opened') "
        "is of no type that the built-in policy knows\n"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"action: opened", "is not JSON"),
        (b'{"action": "\xff"}', "is not JSON: 'utf-8' codec can't decode"),
        (b'{"number": NaN}', "is not JSON: NaN is no number"),
        (b"1" * 5000, "is not JSON"),
        (b"[" * 200_000, "it is nested too deeply"),
        (b" " * 25_000_001, "has more than 25,000,000 bytes"),
    ],
    ids=["empty", "YAML", "no UTF-8", "NaN", "long number", "deep", "large"],
)
def test_a_file_that_is_no_delivery_is_a_wrong_use(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    assert run(saved(tmp_path, content)) == app.USAGE
    assert said in capsys.readouterr().err


def test_json_that_is_no_delivery_is_said(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(saved(tmp_path, [1])) == 1
    assert capsys.readouterr().err == (
        "resumer: a payload of GitHub is a JSON object, this is a list\n"
    )


def test_a_payload_of_many_megabytes_is_cut(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = {**OPENED, "commits": ["x" * 100] * 100_000}
    assert run(saved(tmp_path, event)) == 0
    assert len(capsys.readouterr().out) < 8192


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["FILE", "-p", "number"], "--parameter: 'number' is not NAME=PATH"),
        (["FILE", "-p", "a=b", "--no-parameters"], "either --parameter or --no-parameters"),
        (["FILE", "--policy", "FILE"], "holds something else than WorkflowResumePolicy objects"),
        (["FILE", "--workflow", "BAD"], "BAD cannot be read: while"),
        ([], "FILE"),
    ],
)
def test_a_wrong_use_is_said(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, OPENED, "FILE")
    saved(tmp_path, b"a: [", "BAD")
    assert run(*arguments) == app.USAGE
    assert said in capsys.readouterr().err


def test_saved_workflows_are_for_an_offline_replay(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path, OPENED)
    assert app.main(["replay", file, "--workflow", file], _never) == app.USAGE
    assert "--workflow needs --offline" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["5", "1e3", "12e456", "0x1f", "1_000", "-", "y", "null", "~", "yes", "2019-05-15T15:20:33Z"],
)
def test_a_text_stays_a_text_for_every_reader_of_yaml(text: str) -> None:
    shown = manifests.as_yaml({"value": text})
    assert shown.startswith(("value: '", 'value: "'))
    assert yaml.safe_load(shown) == {"value": text}


@pytest.mark.parametrize("text", ["a\nb\n", "a\r\nb \n c\t", "\u2028\x00\U0001f600", ": {{x}} #"])
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(manifests.as_yaml({"value": text})) == {"value": text}
