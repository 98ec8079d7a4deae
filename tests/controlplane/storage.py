"""For which kinds an API server that is up cannot do its work yet.

It has a cache and a connection to etcd for each kind. `launcher` asks until nothing is lacking, as
it asks each component whether it is ready.
"""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import urllib3

from tests.controlplane import client

# Also Argo's controller needs these, and ends if it cannot read its ConfigMap.
_BUILT_IN = (
    "/api/v1/namespaces",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/events",
)


def collections(definitions: Iterable[Mapping[str, Any]]) -> Sequence[str]:
    """The paths of the collections of some kinds, which have to be namespaced, in `default`."""
    return [
        f"/apis/{one['spec']['group']}/{version['name']}/namespaces/default/"
        f"{one['spec']['names']['plural']}"
        for one in definitions
        for version in one["spec"]["versions"]
        if version["served"]
    ]


def unlisted(cluster: client.Cluster, paths: Iterable[str]) -> str | None:
    """Which collections cannot be listed yet; None if all can.

    Just installed, a kind has to fill its cache, and the API server answers 429 meanwhile.
    """
    for path in paths:
        try:
            cluster.request("GET", path)
        except client.ApiError as error:
            return str(error)
    return None


def cut_off(cluster: client.Cluster, paths: Iterable[str]) -> str | None:
    """For which of these collections, or those of built-in kinds, etcd is away; None if for none.

    When etcd was away, each connection comes back in its own time, up to seconds later, and only
    reads wait for it. One object is always read from etcd itself.
    """
    for path in (*_BUILT_IN, *paths):
        try:
            cluster.request("GET", f"{path}/nothing")
        except client.ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                return str(error)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return f"{path}: {error}"
    return None
