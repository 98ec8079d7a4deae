"""Objects as YAML that kubectl reads as they are meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

_LIKE_A_NUMBER: Final = re.compile(r"[-+.0-9]|[yYnN]\Z")
"""Texts that another reader of YAML than PyYAML may take for no text: ``1e3``, ``y``."""


class _Dumper(yaml.SafeDumper):
    """Quotes what could be misread, and shows several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if "\n" in text:
        style = "|"
    elif _LIKE_A_NUMBER.match(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(body: Mapping[str, Any]) -> str:
    """An object in the order of its fields."""
    return yaml.dump(
        dict(body), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )
