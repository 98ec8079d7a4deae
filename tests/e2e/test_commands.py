"""Every command of the pages is tried, or `commands.NOT_TRIED` says why not.

What needs a name of the reader's gets one; what would run until it is stopped, and what would
remove something from the cluster that all tests share, is changed so that it does not.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from resumer import settings
from resumer.api.outcomes import Reason
from resumer.cli import app
from tests import github
from tests.bench import __main__ as bench
from tests.controlplane import build, components
from tests.e2e.support import commands, pages, process
from tests.e2e.support import manifests as m
from tests.e2e.support.commands import Command, Shell, Trier
from tests.e2e.support.home import Home
from tests.e2e.support.pages import ROOT

_NAME = "resume-after-pr-created"
_CHANGES = (
    # A watch has no end.
    (r" --watch$", ""),
    # The cluster is everybody's.
    (r"^kubectl apply --server-side ", "kubectl apply --server-side --dry-run=server "),
    (r"\bNAME\b", _NAME),
    (r"\$\(openssl [^)]*\)", "secret"),
)


@pytest.fixture(scope="module")
def shell(
    home: Home,
    operator: process.Operator,
    built_events: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shell:
    """A shell where there is what the pages speak of: a workflow, its request, and some files."""
    folder = tmp_path_factory.mktemp("shell")
    gojq = build.ensure((components.GOJQ,))[components.GOJQ.name].binary
    made = commands.shell(home, folder, jq=gojq)
    play = m.workflow(
        _NAME,
        m.steps(m.step("wait", "gate")),
        m.gate("gate", "pr-number"),
        task="5",
        stage=m.PR_CREATED,
        labels={"workflow-type": "play-orchestration"},
    )
    home.submit(play)
    request = _shown("docs/workflowresume.md", "WorkflowResume")
    home.ask(request)
    home.came_to(_NAME, Reason.GATE_OPENED)
    # And what the README has made.
    home.submit(
        m.workflow("release", m.steps(m.step("approval", "gate")), m.gate("gate"), task="7")
    )
    other = m.resume("release-of-another-task", "release", task="8", event_type="approved")
    home.ask(other)
    home.came_to("release-of-another-task", Reason.TASK_MISMATCH)
    lease: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    home.ask({**lease, "metadata": {"name": "resumer"}})
    (folder / "resume.yaml").write_text(yaml.safe_dump(request))
    by_hand = _shown("docs/sources.md", "WorkflowResume")
    (folder / "by-hand.yaml").write_text(yaml.safe_dump(by_hand))
    labels = github.labels("task-5")
    saved = github.payload("pull_request.opened", pull_request__labels=labels)
    for name in ("payload.json", "delivery.json"):
        (folder / name).write_text(json.dumps(saved))
    shutil.copy(ROOT / "deploy/argo-events/github/event.jq", folder)
    return made


def _shown(page: str, kind: str) -> dict[str, Any]:
    """The first object of a kind on a page."""
    for block in pages.blocks(page):
        if block.language == "yaml" and f"kind: {kind}\n" in block.text:
            return dict(yaml.safe_load(block.text))
    raise LookupError(f"{page} shows no {kind}")


def _typed(text: str, namespace: str) -> str:
    """A command as it is typed here."""
    for pattern, instead in _CHANGES:
        text = re.sub(pattern, instead, text)
    return re.sub(r"\bNAMESPACE\b|(?<=-n )argo\b", namespace, text)


@pytest.mark.parametrize("command", commands.of(Trier.CLUSTER), ids=str)
def test_a_command_works_where_there_is_what_it_asks_for(
    command: Command, shell: Shell, home: Home
) -> None:
    told = shell.type(_typed(command.text, home.namespace))
    blocks = pages.blocks(command.block.page)
    after = [*blocks, None][blocks.index(command.block) + 1]
    if after is not None and after.language == "text":
        printed = {" ".join(line.split()) for line in told.splitlines()}
        assert {" ".join(line.split()) for line in after.text.splitlines()} <= printed, told


def test_every_command_is_tried_or_excused() -> None:
    """If this fails: give it a trier in `commands`, or say in `NOT_TRIED` why it has none."""
    assert [str(one) for one in commands.of(Trier.NOBODY)] == []


def test_no_command_is_excused_that_no_page_shows() -> None:
    shown = {one.text for page in commands.PAGES for one in commands.commands(page)}
    assert set(commands.NOT_TRIED) <= shown


@pytest.mark.parametrize("command", commands.of(Trier.OPTIONS), ids=str)
def test_the_options_of_the_operator_are_understood(command: Command) -> None:
    taken: list[settings.Settings] = []

    def operate(chosen: settings.Settings) -> int:
        taken.append(chosen)
        return 0

    assert app.main(shlex.split(command.text)[1:], operate) == 0
    assert len(taken) == 1


@pytest.mark.parametrize("command", commands.of(Trier.MAKE), ids=str)
def test_make_knows_the_target_and_the_program_behind_it_the_arguments(command: Command) -> None:
    words = shlex.split(command.text)
    told = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr
    for word in words:
        name, _, value = word.partition("=")
        if name == "BENCH_ARGS":
            assert isinstance(bench._parser().parse_args(shlex.split(value)), argparse.Namespace)


@pytest.mark.parametrize("command", commands.of(Trier.TESTS), ids=str)
def test_there_are_such_tests(command: Command, pytestconfig: pytest.Config) -> None:
    """Without pytest, which would take long to collect them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?", default="tests")
    parser.add_argument("-k", default="")
    parser.add_argument("-m", default="")
    parser.add_argument("-n")
    words = shlex.split(command.text)
    chosen = parser.parse_args(words[words.index(".venv/bin/pytest") + 1 :])
    path = ROOT / chosen.path
    files = [path] if path.is_file() else [*path.rglob("test_*.py")]
    source = "".join(file.read_text() for file in files)
    names = re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    assert [name for name in names if chosen.k in name]
    layers = [line.partition(":")[0] for line in pytestconfig.getini("markers")]
    assert not chosen.m or chosen.m in layers
    # Variables before it are those that the tests look for.
    for variable in words[: words.index(".venv/bin/pytest")]:
        assert f'"{variable.partition("=")[0]}"' in source
