"""The commands that the user's pages show between `console` fences, and who tries each of them.

Those between `bash` fences are typed as they stand, by `test_pages` and `test_readme`. A `console`
block has what needs a name of the reader's, runs until it is stopped, or takes long: `tried_by`
says which test tries it all the same, and why one is not tried.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence

import yaml

from tests.controlplane import toolchain
from tests.e2e.support import pages, process
from tests.e2e.support.home import Home
from tests.e2e.support.pages import ROOT, Block

PAGES: Sequence[str] = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    "charts/workflow-resumer/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
"""All pages that a user reads."""

_TIMEOUT = 240.0
"""Seconds. Deleting a definition alone can take two minutes: the API server tries that less and
less often where it could not at first."""
_CONTINUED = re.compile(r"( ?) *\\\n *")
_COMMENT = re.compile(r"\s{2,}#.*$")


class Trier(enum.Enum):
    """Who tries a command."""

    CLUSTER = "tests/e2e/test_commands.py, on a cluster"
    INSTALL = "tests/charts/test_pages.py, where there are Deployments"
    BREAKER = "tests/e2e/test_breaker.py, while a breaker is open"
    UPGRADES = "tests/charts/test_upgrading.py, on operators that come and go"
    CANARIES = "tests/e2e/test_canaries.py, beside an operator at work"
    RUNBOOKS = "tests/charts/test_runbooks.py, on a release"
    POD = "tests/charts/test_rights.py: what runs in the pod, with the rights of its account"
    OPTIONS = "tests/e2e/test_commands.py: the options are understood"
    MAKE = "tests/e2e/test_commands.py: there is such a target, and its arguments are understood"
    TESTS = "tests/e2e/test_commands.py: there are such tests"
    NOBODY = "nobody yet"


_LOGS = (
    "kubectl logs --namespace NAMESPACE --selector app.kubernetes.io/name=workflow-resumer"
    " --prefix --tail=-1"
)

NOT_TRIED: Mapping[str, str] = {
    "docker push registry.example.com/resumer:0.1.0": "there is no Docker and no such registry",
    "make image IMAGE=registry.example.com/resumer:0.1.0": "there is no Docker",
    "make image IMAGE=registry.example.com/resumer:0.1.0"
    " && docker push registry.example.com/resumer:0.1.0": "there is no Docker and no such registry",
    "gh api /repos/acme/widgets/hooks/HOOK/deliveries/ID | resumer replay - -n argo -o json": (
        "asks GitHub; tests/unit/cli/test_replay.py reads such an answer"
    ),
    "kubectl apply -k .": (
        "the kinds of Argo Events are not installed; tests/e2e/test_argo_events_manifests.py"
        " compares what it makes with their schemas, and other tests run it"
    ),
    "kubectl -n argo get eventbus,eventsource,sensor": (
        "the kinds of Argo Events are not installed; its parts run without a controller in tests"
    ),
    "kubectl -n argo port-forward eventbus-default-js-0 8222 &": "there is no pod",
    "curl -s 'localhost:8222/jsz?consumers=true&accounts=true' | jq '.account_details[]"
    ".stream_detail[].consumer_detail[] | {name, num_pending, num_ack_pending}'": (
        "needs the port of the pod; tests/e2e/support/argoevents.py reads the same page"
    ),
    'curl -H "Authorization: Bearer $TOKEN" -d \'{"task": "5", "type": "approved", "by": "jane"}\''
    " https://events.example.com/resume": (
        "there is no such host; tests/e2e/test_sources.py posts the same to the EventSource"
    ),
    "pip install '.[otel]'": (
        "fetches packages, and not the pinned ones; `make init` installs the same from its lock"
    ),
    "export OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318": (
        "there is no such host; the tests of traces start a collector"
    ),
    "kubectl get --raw /api/v1/namespaces/NAMESPACE/services/RELEASE:metrics/proxy/readyz": (
        "there is no pod behind a Service"
    ),
    "kubectl get --raw /api/v1/namespaces/NAMESPACE/services/RELEASE:metrics/proxy/metrics": (
        "there is no pod behind a Service"
    ),
    f"{_LOGS} --since 15m": "there is no kubelet; tests/charts/test_runbooks.py finds the pods",
    f"{_LOGS} --previous --ignore-errors": (
        "there is no kubelet; tests/charts/test_runbooks.py finds the pods"
    ),
    "argo node set WORKFLOW --namespace TEAM --node-field-selector displayName=GATE"
    " --output-parameter name=value": "Argo's program is not there; its controller is",
    "argo resume WORKFLOW --namespace TEAM --node-field-selector displayName=GATE": (
        "Argo's program is not there; tests/e2e/test_races.py calls what it calls"
    ),
}
"""The commands that no test tries, with the reason."""

_BY_PROGRAM: Mapping[str, Trier] = {
    "make": Trier.MAKE,
    ".venv/bin/pytest": Trier.TESTS,
    "helm": Trier.INSTALL,
    "jq": Trier.CLUSTER,
    "kubectl": Trier.CLUSTER,
    "resumer": Trier.CLUSTER,
}
_BY_PAGE: Mapping[str, Trier] = {
    "docs/install.md": Trier.INSTALL,
    "docs/runbooks.md": Trier.RUNBOOKS,
    "docs/upgrading.md": Trier.UPGRADES,
    "docs/workflowresumebreaker.md": Trier.BREAKER,
}
_BY_CHAPTER: Mapping[tuple[str, str], Trier] = {
    ("docs/upgrading.md", "Canary of a Sensor"): Trier.CANARIES,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A command of a page.

    Attributes:
        block: where it stands
        text: what is typed: no prompt, no comment, one line
    """

    block: Block
    text: str

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def commands(page: str) -> list[Command]:
    """The commands between the `console` fences of a page, in order.

    Where a block has prompts, what is behind none is output.
    """
    return [
        Command(block, text)
        for block in pages.blocks(page)
        if block.language == "console"
        for text in lines(block.text)
    ]


def lines(text: str) -> list[str]:
    """What is typed of a `console` block: no prompts, no comments, each command in one line."""
    found = [line for line in _CONTINUED.sub(r"\1", text).splitlines() if line.strip()]
    if any(line.startswith("$ ") for line in found):
        found = [line[2:] for line in found if line.startswith("$ ")]
    return [_COMMENT.sub("", line).strip() for line in found]


def tried_by(command: Command) -> Trier | None:
    """Who tries a command; None: it is in `NOT_TRIED`."""
    if command.text in NOT_TRIED:
        return None
    if command.text.startswith("kubectl exec "):
        return Trier.POD
    page, chapter = command.block.page, command.block.chapter
    if found := _BY_CHAPTER.get((page, chapter)) or _BY_PAGE.get(page):
        return found
    program, first, *_ = [*(word for word in command.text.split() if "=" not in word), ""]
    if program == "kubectl" and "helm install" in command.block.text:
        return Trier.INSTALL
    if program.endswith("resumer") and first == "run":
        return Trier.OPTIONS
    return _BY_PROGRAM.get(program, Trier.NOBODY)


def of(trier: Trier) -> list[Command]:
    """The commands of all pages that a test has to try."""
    return [one for page in PAGES for one in commands(page) if tried_by(one) is trier]


@dataclasses.dataclass(frozen=True, slots=True)
class Shell:
    """A reader's shell: kubectl, jq and resumer are there, and the namespace is the home's.

    Attributes:
        folder: that it is in; the project's folders are in it, too
        environment: its variables
    """

    folder: pathlib.Path
    environment: Mapping[str, str]

    def type(self, text: str) -> str:
        """What a command prints.

        Raises:
            AssertionError: it failed; the message holds what it said
        """
        return pages.typed(text, self.environment, folder=self.folder, timeout=_TIMEOUT)


def shell(home: Home, folder: pathlib.Path, **more: pathlib.Path) -> Shell:
    """A shell in an empty folder.

    Arguments:
        home: what it works on
        folder: that it begins in
        **more: further programs, by their names
    """
    for name in ("charts", "crds", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    config = yaml.safe_load(home.cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = home.namespace
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(config))
    tools = folder / "bin"
    tools.mkdir()
    resumer = tools / "resumer"
    resumer.write_text(f'#!/bin/sh\nexec {shlex.join(process.command())} "$@"\n')
    resumer.chmod(0o755)
    for name, program in more.items():
        (tools / name).symlink_to(program)
    path = os.pathsep.join((str(tools), str(toolchain.kubectl().parent), os.environ["PATH"]))
    return Shell(
        folder, {**os.environ, "HOME": str(folder), "PATH": path, "KUBECONFIG": str(kubeconfig)}
    )
