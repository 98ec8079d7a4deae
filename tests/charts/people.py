"""Who asks the API server: accounts with their tokens, users with what RBAC gives them."""

from __future__ import annotations

import pathlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.controlplane import client

Json = dict[str, Any]

_TOKEN_SECONDS = 3600
_RBAC = "rbac.authorization.k8s.io"


def account_kubeconfig(
    cluster: client.Cluster, namespace: str, name: str, folder: pathlib.Path
) -> pathlib.Path:
    """A kubeconfig with the token that a pod of this ServiceAccount would have.

    Arguments:
        cluster: as an administrator
        namespace: of the account
        name: of the account
        folder: to put the file into
    """
    answer = cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        body={
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        },
    )
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": name, "user": {"token": answer["status"]["token"]}}]
    for one in document["contexts"]:
        one["context"]["user"] = name
    file = folder / f"{namespace}-{name}-{secrets.token_hex(4)}.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(document))
    return file


def account(name: str) -> Json:
    """A ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def role(name: str, *rules: Mapping[str, Sequence[str]]) -> Json:
    """A Role on the kinds of `argoproj.io`, from rules without their group."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": name},
        "rules": [{"apiGroups": ["argoproj.io"], **rule} for rule in rules],
    }


def bound(kind: str, role_name: str, subject: Mapping[str, str]) -> Json:
    """A RoleBinding of one subject.

    Arguments:
        kind: Role or ClusterRole
        role_name: of what the subject is bound to
        subject: its kind, its name and, of a ServiceAccount, its namespace
    """
    group = {} if subject["kind"] == "ServiceAccount" else {"apiGroup": _RBAC}
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{subject['name']}-{role_name}"},
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role_name},
        "subjects": [{**group, **subject}],
    }
