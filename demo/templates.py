"""The manifests beside this file, with their `{{...}}` filled in as a Sensor would do it."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

FOLDER = pathlib.Path(__file__).parent / "manifests"

_PLACEHOLDER = re.compile(r"\{\{([a-z-]+)\}\}")


def manifest(name: str) -> str:
    """A manifest as it stands in its file.

    Arguments:
        name: of the file, without `.yaml`
    """
    return (FOLDER / f"{name}.yaml").read_text()


def filled(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """A manifest with its placeholders filled in.

    Arguments:
        name: of the file, without `.yaml`
        values: by placeholder

    Raises:
        KeyError: the manifest has a placeholder without a value
    """
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], manifest(name))
    document: dict[str, Any] = yaml.safe_load(text)
    return document
