"""Kustomize as its users have it: a folder of theirs, and what is made of it."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import Any

import yaml

from tests.controlplane import toolchain
from tests.e2e.support.manifests import Json

_TIMEOUT = 60.0


def kustomized(folder: pathlib.Path) -> list[Json]:
    """The objects that kustomize makes of a folder.

    Raises:
        AssertionError: it refuses the folder; the message holds why
    """
    answer = subprocess.run(
        [str(toolchain.kubectl()), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert answer.returncode == 0, answer.stderr
    return [one for one in yaml.safe_load_all(answer.stdout) if one]


def on_top(folder: pathlib.Path, resource: pathlib.Path, **fields: Any) -> pathlib.Path:
    """A user's own kustomization on top of another one.

    Arguments:
        folder: the user's
        resource: the folder of the other one
        **fields: what the user sets in it

    Returns:
        The user's folder.
    """
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(resource, folder.resolve())],
        **fields,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return folder
