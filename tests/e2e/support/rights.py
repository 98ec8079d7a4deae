"""What the operator may do in tests: what its ServiceAccount may, and no more.

The rights are those of the manifests in `deploy/`, which `tests/charts/test_manifests.py` compares
with the chart's. Whatever else the operator asks for is refused, and `none_refused` tells of it.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import yaml

from resumer.api import constants
from tests.charts import people
from tests.controlplane import client
from tests.e2e.support import waiting
from tests.e2e.support.manifests import Json

NAME = "resumer"
"""Of the account and of the lease."""

_DEPLOY = pathlib.Path(__file__).parents[3] / "deploy"
_ACCOUNT = _DEPLOY / "base" / "serviceaccount.yaml"
_LEASES = _DEPLOY / "base" / "leader-election.yaml"
_IN_ONE = _DEPLOY / "components" / "namespace-rights" / "rbac.yaml"
_IN_ALL = _DEPLOY / "components" / "cluster-rights" / "rbac.yaml"
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def account(
    cluster: client.Cluster, namespace: str, others: Sequence[str] = (), *, name: str = NAME
) -> pathlib.Path:
    """A kubeconfig of the account of an operator that works in namespaces of its own.

    Arguments:
        cluster: as an administrator
        namespace: where the account is; the operator works there
        others: that it works in as well
        name: of the account and of its lease
    """
    kubeconfig, subject = _account(cluster, namespace, name)
    allow(cluster, subject, namespace, [namespace, *others])
    return kubeconfig


def everywhere(cluster: client.Cluster, namespace: str, *, name: str = NAME) -> pathlib.Path:
    """A kubeconfig of the account of an operator that works in all namespaces.

    The arguments are those of `account`.
    """
    kubeconfig, subject = _account(cluster, namespace, name)
    allow(cluster, subject, namespace, None)
    return kubeconfig


def allow(
    cluster: client.Cluster,
    subject: Mapping[str, str],
    leases: str,
    namespaces: Sequence[str] | None,
) -> None:
    """Gives the operator's rights to a user or an account; returns as soon as they are in force.

    Arguments:
        cluster: as an administrator
        subject: as in a RoleBinding
        leases: namespace of its lease, which has the subject's name
        namespaces: that it works in; None for all
    """
    files = [(_LEASES, leases)]
    files += [(_IN_ALL, "")] if namespaces is None else [(_IN_ONE, one) for one in namespaces]
    for file, namespace in files:
        role, binding = _read(file)
        for one in (role, binding):
            # There may be several accounts, and all share what is of no namespace.
            one["metadata"]["name"] += f"-{leases}-{subject['name']}"
        binding["roleRef"]["name"] = role["metadata"]["name"]
        binding["subjects"] = [dict(subject)]
        for rule in role["rules"]:
            if "resourceNames" in rule:
                rule["resourceNames"] = [subject["name"]]
        cluster.apply(role, namespace)
        cluster.apply(binding, namespace)
        _await(cluster, subject, namespace, role)


def may(cluster: client.Cluster, user: str, **asked: str) -> bool:
    """Whether a user may do something, as the API server knows it by now: some time after a change.

    Arguments:
        cluster: as an administrator
        user: as the API server knows it
        **asked: verb, resource, namespace and the like, of Argo's group unless they say another
    """
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {"group": constants.GROUP, **asked}},
    }
    return bool(cluster.request("POST", _REVIEWS, body=review)["status"]["allowed"])


@contextlib.contextmanager
def none_refused(log: pathlib.Path | None, user: str) -> Iterator[None]:
    """Fails if a user was refused anything while the block lasted.

    Arguments:
        log: the audit log; without one, that is with a cluster that is not of this machine, nothing
            is seen
        user: see `refused`
    """
    before = log.stat().st_size if log is not None else 0
    yield
    if log is not None:
        found = refused(log, user, before)
        assert not found, f"the rights of the operator do not cover {', '.join(sorted(found))}"


def refused(log: pathlib.Path, user: str, start: int = 0) -> set[str]:
    """What a user was refused: verbs, each with its path.

    Arguments:
        log: the audit log
        user: the name, as the API server knows it; with a `:` at its end, all users whose names
            begin like this
        start: the byte of the log to begin at
    """
    named = f'"username":"{user}'.encode() + (b"" if user.endswith(":") else b'"')
    with log.open("rb") as lines:
        lines.seek(start)
        found = [json.loads(line) for line in lines if named in line and b'"forbid"' in line]
    return {f"{one['verb']} {one['requestURI'].partition('?')[0]}" for one in found}


def user_of(namespace: str, name: str = NAME) -> str:
    """The user name of an account; for no name, what all accounts of the namespace begin with."""
    return f"system:serviceaccount:{namespace}:{name}"


def _account(
    cluster: client.Cluster, namespace: str, name: str
) -> tuple[pathlib.Path, Mapping[str, str]]:
    (manifest,) = _read(_ACCOUNT)
    manifest["metadata"]["name"] = name
    cluster.apply(manifest, namespace)
    folder = cluster.kubeconfig.parent
    kubeconfig = people.account_kubeconfig(cluster, namespace, name, folder)
    return kubeconfig, {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _await(cluster: client.Cluster, subject: Mapping[str, str], namespace: str, role: Json) -> None:
    """Returns as soon as the API server goes by a Role that a subject was bound to."""
    user, rule = subject["name"], role["rules"][-1]
    if subject["kind"] == "ServiceAccount":
        user = user_of(subject["namespace"], user)
    asked = {
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
        "name": rule.get("resourceNames", [""])[0],
        "namespace": namespace,
    }
    waiting.eventually(
        lambda: may(cluster, user, **asked), lambda: f"{role['metadata']['name']} is not in force"
    )


def _read(file: pathlib.Path) -> list[Json]:
    return list(yaml.safe_load_all(file.read_text()))
