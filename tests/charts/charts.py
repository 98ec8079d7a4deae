"""The chart as its users have it: rendered by Helm, linted by Helm, with values of theirs."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.controlplane import build, components

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "charts" / "workflow-resumer"

RELEASE = "events"
NAMESPACE = "resumer-system"
FULL_NAME = "events-workflow-resumer"
"""What all objects of the release are called."""

KUBERNETES = "1.36.3"

_TIMEOUT = 120.0
_TELL = """
import dataclasses, json, sys
from resumer.cli import app

def tell(settings):
    print(json.dumps(dataclasses.asdict(settings)))
    return 0

sys.exit(app.main(sys.argv[1:], tell))
"""

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Helm:
    """A Helm of some version.

    Attributes:
        binary: its program
        kubeconfig: of the cluster that it talks to; None for what needs none
    """

    binary: pathlib.Path
    kubeconfig: pathlib.Path | None = None

    def run(self, *args: str, timeout: float = _TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Helm's answer, whatever its exit code; its caches and settings are nobody else's."""
        with tempfile.TemporaryDirectory() as home:
            environment = {
                **{name: value for name, value in os.environ.items() if "HELM" not in name},
                "HOME": home,
                "XDG_CACHE_HOME": home,
                "XDG_CONFIG_HOME": home,
                "XDG_DATA_HOME": home,
                "KUBECONFIG": str(self.kubeconfig or os.devnull),
            }
            return subprocess.run(
                [str(self.binary), *args],
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )

    def __call__(self, *args: str, timeout: float = _TIMEOUT) -> str:
        """What Helm prints.

        Raises:
            AssertionError: it failed; the message holds what it said
        """
        answer = self.run(*args, timeout=timeout)
        assert answer.returncode == 0, f"helm {' '.join(args)}: {answer.stderr}{answer.stdout}"
        return answer.stdout


def helm(component: components.Component = components.HELM_4) -> Helm:
    """A Helm without a cluster, built if it never was."""
    return Helm(build.ensure((component,))[component.name].binary)


def values_file(folder: pathlib.Path, values: Mapping[str, Any]) -> pathlib.Path:
    """A file with values."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)))
    return file


def template(
    values: Mapping[str, Any] | None = None,
    *,
    apis: Sequence[str] = (),
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> subprocess.CompletedProcess[str]:
    """What `helm template` answers.

    Arguments:
        values: that differ from the chart's
        apis: served in addition, as `group/version/Kind`
        release: its name
        namespace: to install into
    """
    served = [part for api in apis for part in ("--api-versions", api)]
    with tempfile.TemporaryDirectory() as folder:
        file = values_file(pathlib.Path(folder), values or {})
        return helm().run(
            *("template", release, str(CHART), "--namespace", namespace, "--values", str(file)),
            *("--kube-version", KUBERNETES, *served),
        )


def render(
    values: Mapping[str, Any] | None = None,
    *,
    apis: Sequence[str] = (),
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> list[Json]:
    """The objects of a release.

    Arguments:
        values: that differ from the chart's
        apis: served in addition, as `group/version/Kind`
        release: its name
        namespace: to install into

    Raises:
        AssertionError: Helm refuses; the message holds why
    """
    answer = template(values, apis=apis, release=release, namespace=namespace)
    assert answer.returncode == 0, answer.stderr
    return list(documents(answer.stdout))


def documents(text: str) -> Iterator[Json]:
    """The objects in YAML of several documents."""
    return (one for one in yaml.safe_load_all(text) if one)


def of_kind(objects: Sequence[Json], kind: str) -> list[Json]:
    """Those of a kind."""
    return [one for one in objects if one["kind"] == kind]


def only(objects: Sequence[Json], kind: str, name: str = "") -> Json:
    """The one of a kind, and of this name if one is given."""
    found = [one for one in of_kind(objects, kind) if name in ("", one["metadata"]["name"])]
    assert len(found) == 1, [one["metadata"]["name"] for one in found]
    return found[0]


def pod(objects: Sequence[Json]) -> Json:
    """The spec of the operator's pod."""
    spec: Json = only(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def variables(container: Json, pod_name: str, namespace: str) -> dict[str, str]:
    """The variables of a container, as the kubelet resolves them for a pod."""
    known = {"metadata.name": pod_name, "metadata.namespace": namespace}
    return {
        one["name"]: one["value"]
        if "value" in one
        else known[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container["env"]
    }


def settings(objects: Sequence[Json]) -> Json:
    """What the operator makes of the options and variables of its container.

    Raises:
        AssertionError: it refuses them; the message holds what it said
    """
    container = pod(objects)["containers"][0]
    namespace = only(objects, "Deployment")["metadata"]["namespace"]
    answer = subprocess.run(
        [sys.executable, "-c", _TELL, *container["args"]],
        env={"PATH": os.environ["PATH"], **variables(container, "pod", namespace)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert answer.returncode == 0, answer.stderr
    found: Json = json.loads(answer.stdout)
    # Without a value it is the pod's own.
    found["leader_elect_namespace"] = found["leader_elect_namespace"] or namespace
    return found
