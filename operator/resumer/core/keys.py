"""The key of a namespaced object: what queues, indexes and ports pass around in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Key(NamedTuple):
    """Namespace and name. The kind is known from where the key is used."""

    namespace: str
    name: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Key:
        """The key of an object as the API server gives it."""
        metadata = body["metadata"]
        return cls(metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
