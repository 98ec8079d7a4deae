"""The image: what the Dockerfile copies is there, and the operator runs as its container would.

No image is built here, that would need Docker. The operator runs from this environment in a mount
namespace in which nothing can be written, with the options and variables of the shipped pod, the
files of its ServiceAccount where a pod has them, as a user whom nobody knows, without a home.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from typing import NoReturn

import pytest
import yaml

from tests.charts import charts, people
from tests.charts.charts import Json
from tests.controlplane import client, toolchain
from tests.e2e.support import home as homes
from tests.e2e.support import kustomize, manifests, process
from tests.e2e.support.home import Home

pytestmark = pytest.mark.timeout(300)

DOCKERFILE = charts.ROOT / "Dockerfile"
JAIL = pathlib.Path(__file__).with_name("jail.sh")
ANYBODY = "1000970000"
"""A user as OpenShift gives one to a namespace: none that an image could know."""

POD = "resumer-0"


def instructions() -> Iterator[tuple[str, str]]:
    """The instructions of the Dockerfile and what stands behind each."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        name, _, rest = line.partition(" ")
        if name:
            yield name, rest.strip()


def test_the_dockerfile_copies_what_is_there_and_lets_nothing_else_in() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    sources = {one for group in copied if "--from=build" not in group for one in group}
    for source in sources:
        assert (charts.ROOT / source).exists(), source
    ignored = (charts.ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert "*" in ignored


def test_the_image_is_of_no_root_and_starts_the_operator() -> None:
    found = dict(instructions())
    user, group = found["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(found["ENTRYPOINT"]) == ["resumer"]
    # The pod gives arguments only, which take the place of CMD.
    assert json.loads(found["CMD"]) == ["run"]
    assert charts.pod(charts.render())["containers"][0]["args"][0] == "run"


def test_all_that_runs_in_the_image_is_pinned_by_hash() -> None:
    (install,) = (rest for name, rest in instructions() if name == "RUN" and "install" in rest)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install


def pod_in(cluster: client.Cluster, folder: pathlib.Path, namespace: str) -> Json:
    """Installs for a namespace with kustomize; returns the operator's container."""
    overlay = charts.ROOT / "deploy" / "overlays" / "namespace-install"
    kustomize.on_top(folder, overlay, namespace=namespace)
    cluster.kubectl("apply", "--server-side", "-k", str(folder))
    deployment = cluster.get("apps/v1/Deployment", "resumer", namespace)
    container: Json = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def account_in(cluster: client.Cluster, folder: pathlib.Path, namespace: str) -> dict[str, str]:
    """Writes what a pod finds of its ServiceAccount; returns the variables it finds."""
    file = people.account_kubeconfig(cluster, namespace, "resumer", folder)
    document = yaml.safe_load(file.read_text())
    server = document["clusters"][0]["cluster"]
    authority = (
        base64.b64decode(server["certificate-authority-data"])
        if "certificate-authority-data" in server
        else pathlib.Path(server["certificate-authority"]).read_bytes()
    )
    account = folder / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(authority)
    (account / "token").write_text(document["users"][0]["user"]["token"])
    (account / "namespace").write_text(namespace)
    url = urllib.parse.urlsplit(server["server"])
    return {"KUBERNETES_SERVICE_HOST": str(url.hostname), "KUBERNETES_SERVICE_PORT": str(url.port)}


def unable(reason: str) -> NoReturn:
    """Skips a test, and fails it where tests may not be skipped."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def try_as_root(test: str, cluster: str) -> None:
    """Runs a test as root, with a control plane of its own: nobody else may signal what root runs.

    Arguments:
        test: its id
        cluster: the option of that name
    """
    allowed = ["sudo", "-n", "true"]
    if (
        not shutil.which("sudo")
        or subprocess.run(allowed, capture_output=True, check=False).returncode
    ):
        unable("a read-only root needs root, or a sudo that asks for no password")
    kept = {name: os.environ[name] for name in ("PATH", "KUBECONFIG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(pathlib.Path("~root").expanduser()),
        "XDG_CACHE_HOME": str(toolchain.cache_folder().parents[1]),
        # What root wrote into the checkout, its owner could not remove.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ["-q", "-p", "no:cacheprovider", f"--cluster={cluster}"]
    answer = subprocess.run(
        [
            *("sudo", "-n", "env", "-i"),
            *(f"{name}={text}" for name, text in environment.items()),
            *(sys.executable, "-m", "pytest", *options, test),
        ],
        cwd=charts.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 passed" in answer.stdout, answer.stdout


def test_the_operator_of_a_namespace_needs_no_disk_no_home_and_no_certain_user(
    request: pytest.FixtureRequest, cluster: client.Cluster, tmp_path: pathlib.Path
) -> None:
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        unable("a read-only root needs util-linux's unshare and setpriv")
    if os.geteuid() != 0:
        try_as_root(request.node.nodeid, request.config.getoption("cluster"))
        return
    log = tmp_path / "operator.log"
    with homes.new(cluster) as home:
        container = pod_in(cluster, tmp_path, home.namespace)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            **account_in(cluster, tmp_path, home.namespace),
            **charts.variables(container, POD, home.namespace),
        }
        # The last one wins: the shipped port may be taken on this machine.
        options = [*container["args"], "--metrics-port=0"]
        command = process.command(*options)
        jail = ["unshare", "--mount", str(JAIL), str(tmp_path / "account"), ANYBODY]
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [*jail, *command],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        operator = process.Operator(popen, log)
        try:
            works(home, operator)
        finally:
            operator.kill()


def works(home: Home, operator: process.Operator) -> None:
    """An operator resumes, as the user it is meant to run as, and ends in order."""
    operator.wait_logged("ready", process.START_TIMEOUT)
    status = pathlib.Path(f"/proc/{operator.pid}/status").read_text()
    assert re.search(r"^Uid:\s" + r"\s".join([ANYBODY] * 4), status, re.MULTILINE), status
    home.submit(manifests.workflow("jailed"))
    home.ask(manifests.resume("jailed"))
    home.resumed("jailed")
    lease = home.cluster.get("coordination.k8s.io/v1/Lease", "resumer", home.namespace)
    assert lease["spec"]["holderIdentity"].startswith(POD)
    assert operator.get("/readyz")[0] == 200
    assert operator.stop() == 0
