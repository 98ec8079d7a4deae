"""What the README and the how-to page tell a newcomer to type does what they show."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.controlplane import client, toolchain
from tests.e2e.support import home as homes
from tests.e2e.support import pages, process

_OPERATOR = ".venv/bin/resumer run --log-format console"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_AGE = re.compile(r"\b([0-9]+m)?[0-9]+s$")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def environment(cluster: client.Cluster, tmp_path: pathlib.Path) -> Iterator[dict[str, str]]:
    """A newcomer's shell, except that what is called default there is a namespace of its own.

    Each page gets a new one: its lists show all requests there are.
    """
    with homes.new(cluster) as home:
        config = yaml.safe_load(home.cluster.kubeconfig.read_text())
        for context in config["contexts"]:
            context["context"]["namespace"] = home.namespace
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(config))
        folders = (str(toolchain.kubectl().parent), str(pathlib.Path(sys.executable).parent))
        yield {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.pathsep.join((*folders, os.environ["PATH"])),
            # Beside the operators of other tests, this one keeps to its own.
            "RESUMER_NAMESPACE": home.namespace,
            "RESUMER_METRICS_PORT": "0",
        }


@pytest.fixture
def started(environment: dict[str, str], tmp_path: pathlib.Path) -> Iterator[None]:
    """The operator, started with the very command of the README."""
    assert _OPERATOR in _typed(), "the README starts the operator in another way than this test"
    program, *options = shlex.split(_OPERATOR)
    assert program == ".venv/bin/resumer"
    log = tmp_path / "operator.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            process.command(*options),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        while not re.search(r"\bready\b", log.read_text()):
            assert running.poll() is None, f"the operator ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"the operator is not ready: {log.read_text()}"
            time.sleep(0.05)
        yield
        running.terminate()
        assert running.wait(timeout=_STOP_TIMEOUT) == 0, log.read_text()
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("page", ["README.md", "docs/how-to.md"])
def test_what_a_page_tells_to_type_shows_what_the_page_shows(
    page: str, started: None, environment: dict[str, str]
) -> None:
    """The first resume by hand, and each section of the how-to page, typed one after the other."""
    shown = 0
    for block, after in itertools.pairwise([*pages.blocks(page), None]):
        if block is None or block.language != "bash":
            continue
        printed = block.typed(environment)
        assert after is not None, f"{block}: its output is not shown"
        assert after.language == "text", f"{block}: its output is not shown"
        assert _plain(printed) == _plain(after.text), f"{after} shows something else"
        shown += 1
    assert shown


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (pages.ROOT / "Makefile").read_text()
    wanted = {line.split()[1] for line in _typed() if line.startswith("make ")}
    assert wanted
    assert wanted <= set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))


def _typed() -> list[str]:
    """The commands that run until they are stopped, or take long."""
    found = [block for block in pages.blocks("README.md") if block.language == "console"]
    return [line.strip() for block in found for line in block.text.splitlines()]


def _plain(output: str) -> list[str]:
    """Output without what differs from run to run: ages, and the widths of columns."""
    lines = (_AGE.sub("AGE", line.rstrip()) for line in output.strip().splitlines())
    return [re.sub(r" +", " ", line) for line in lines]
