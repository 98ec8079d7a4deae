"""The chart as its users have it: rendered by Helm, linted by Helm, with values of theirs."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
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
    values: Mapping[str, Any] | None = None, *, apis: Sequence[str] = (), release: str = RELEASE
) -> subprocess.CompletedProcess[str]:
    """What `helm template` answers.

    Arguments:
        values: that differ from the chart's
        apis: served in addition, as `group/version/Kind`
        release: its name
    """
    served = [part for api in apis for part in ("--api-versions", api)]
    with tempfile.TemporaryDirectory() as folder:
        file = values_file(pathlib.Path(folder), values or {})
        return helm().run(
            *("template", release, str(CHART), "--namespace", NAMESPACE, "--values", str(file)),
            *("--kube-version", KUBERNETES, *served),
        )


def render(
    values: Mapping[str, Any] | None = None, *, apis: Sequence[str] = (), release: str = RELEASE
) -> list[Json]:
    """The objects of a release.

    Arguments:
        values: that differ from the chart's
        apis: served in addition, as `group/version/Kind`
        release: its name

    Raises:
        AssertionError: Helm refuses; the message holds why
    """
    answer = template(values, apis=apis, release=release)
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
