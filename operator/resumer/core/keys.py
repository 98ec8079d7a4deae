"""The key of a namespaced object: what queues, indexes and ports pass around in its place."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """Namespace and name. The kind is known from where the key is used."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
