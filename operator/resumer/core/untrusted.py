"""Reading JSON that anybody may have written: what has the wrong type reads as absent.

Under Argo's minimal CRDs every field of a Workflow can hold any JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The list, or an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [item for item in items(value) if isinstance(item, dict)]


def text(value: Any) -> str:
    """The text, or an empty one."""
    return value if isinstance(value, str) else ""


def strings(value: Any) -> Mapping[str, str]:
    """The entries of an object that are text."""
    return {key: item for key, item in mapping(value).items() if isinstance(item, str)}


def any_string(value: Any) -> str:
    """The value of a parameter, which Argo reads from any JSON (``AnyString``)."""
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        return ""


def kind(value: Any) -> str:
    """What a value is, in words for a person."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")
