"""A small synchronous client for tests: objects as plain dicts, waits that tell what they saw.

It uses the official client's configuration and connection pool, so any kubeconfig works, and none
of its models or its dynamic client, which are slow. `kubectl` is there for what a person would do.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import http
import json
import pathlib
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml

from tests.controlplane import toolchain

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"

_FIELD_MANAGER = "resumer-tests"
_APPLY_PATCH = "application/apply-patch+yaml"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_REQUEST_TIMEOUT = 30.0
_POLL = 0.05
_ESTABLISH_TIMEOUT = 30.0
_INITIALIZING = "storage is (re)initializing"
"""What the API server answers for a moment after a definition was changed, with a 429."""


class ApiError(RuntimeError):
    """The API server refused a request.

    Attributes:
        status: HTTP status code
        reason: machine-readable reason, such as AlreadyExists
        body: the whole answer, a Status object where the server sent one
    """

    def __init__(self, method: str, path: str, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{method} {path}: {status} {body.get('message') or body}")
        self.status = status
        self.reason = str(body.get("reason", ""))
        self.body = body


@dataclasses.dataclass(frozen=True, slots=True)
class _Resource:
    """A kind as the API server serves it."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None, subresource: str | None) -> str:
        root = "/apis" if "/" in self.api_version else "/api"
        parts = [root, self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [self.plural, name or "", subresource or ""]
        return "/".join(part for part in parts if part)


class Cluster:
    """A cluster to test against.

    A kind is given as `Workflow`, `workflows`, `workflows.argoproj.io`, or in full as
    `argoproj.io/v1alpha1/Workflow`; the shorter ones must be unambiguous in the cluster's
    discovery, where core and earlier groups win.

    Arguments:
        kubeconfig: how to reach it and as whom
        context: to use of the kubeconfig; None for the current one
    """

    def __init__(self, kubeconfig: pathlib.Path, *, context: str | None = None) -> None:
        self.kubeconfig = kubeconfig
        self._context = context
        self._api = kubernetes.config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), context=context
        )
        self._resources: dict[str, _Resource] = {}

    def close(self) -> None:
        """Close the connections."""
        self._api.rest_client.pool_manager.clear()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return str(self._api.configuration.host)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """One request to the API server, made again where a kind is not served just now.

        Raises:
            ApiError: the status is not 2xx
        """
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": _FIELD_MANAGER}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        deadline = time.monotonic() + _ESTABLISH_TIMEOUT
        while True:
            response = self._api.rest_client.pool_manager.request(
                method,
                f"{self.server}{path}{'?' + urllib.parse.urlencode(query) if query else ''}",
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=_REQUEST_TIMEOUT,
                # A test that provokes a failure wants to see it.
                retries=False,
            )
            answer = _parse(response.data)
            if response.status < http.HTTPStatus.MULTIPLE_CHOICES:
                return answer
            if answer.get("message") != _INITIALIZING or time.monotonic() > deadline:
                raise ApiError(method, path, response.status, answer)
            time.sleep(_POLL)

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """An object.

        Raises:
            ApiError: there is none (404), or it may not be read
        """
        return self.request("GET", self._path(kind, namespace, name))

    def list_all(
        self, kind: str, namespace: str | None = None, *, selector: str | None = None
    ) -> list[dict[str, Any]]:
        """The objects of a kind, of one namespace or of all, with the labels selected."""
        query = {} if selector is None else {"labelSelector": selector}
        answer = self.request("GET", self._path(kind, namespace, None), query=query)
        items: list[dict[str, Any]] = answer["items"]
        return items

    def create(
        self, manifest: Mapping[str, Any] | str, namespace: str | None = None
    ) -> dict[str, Any]:
        """Create one object, from a dict or from YAML.

        Arguments:
            manifest: of the object
            namespace: to create it in, where the manifest names none
        """
        document = _only(_documents(manifest))
        return self.request("POST", self._collection(document, namespace), body=document)

    def apply(
        self, manifest: Mapping[str, Any] | str, namespace: str | None = None
    ) -> list[dict[str, Any]]:
        """Apply objects server-side, from a dict or from YAML of one or more documents.

        Arguments:
            manifest: of the objects
            namespace: to apply them in, where a manifest names none
        """
        return [
            self.request(
                "PATCH",
                f"{self._collection(document, namespace)}/{document['metadata']['name']}",
                query={"fieldManager": _FIELD_MANAGER, "force": "true"},
                body=document,
                content_type=_APPLY_PATCH,
            )
            for document in _documents(manifest)
        ]

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        patch: object,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
    ) -> dict[str, Any]:
        """Patch an object, by default with a JSON merge patch."""
        path = self._path(kind, namespace, name, subresource)
        return self.request("PATCH", path, body=patch, content_type=content_type)

    def delete(
        self, kind: str, name: str, namespace: str | None = None, *, missing_ok: bool = False
    ) -> None:
        """Delete an object, without waiting for it to be gone."""
        try:
            self.request("DELETE", self._path(kind, namespace, name))
        except ApiError as error:
            if not (missing_ok and error.status == http.HTTPStatus.NOT_FOUND):
                raise

    def wait_for(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        predicate: Callable[[dict[str, Any]], object],
        timeout: float,
        *,
        describe: str | None = None,
    ) -> dict[str, Any]:
        """The object, as soon as the predicate is true of it; one that is not there is awaited.

        Arguments:
            kind: of the object
            name: of the object
            namespace: of the object; None where the kind has none
            predicate: what to wait for
            timeout: seconds
            describe: what is waited for, in the words of a person

        Raises:
            AssertionError: it did not come true in time; the message holds the last state seen
        """
        last: dict[str, Any] | None = None

        def satisfied() -> bool:
            nonlocal last
            last = self._find(kind, name, namespace)
            return last is not None and bool(predicate(last))

        if not _poll(satisfied, timeout):
            what = describe or getattr(predicate, "__doc__", None) or "what the predicate says"
            raise AssertionError(
                f"{kind} {_shown(namespace, name)}: not {what} within {timeout:g} s; {_state(last)}"
            )
        assert last is not None
        return last

    def wait_gone(self, kind: str, name: str, namespace: str | None, timeout: float) -> None:
        """Return as soon as there is no such object.

        Raises:
            AssertionError: it is still there after so many seconds
        """
        last: dict[str, Any] | None = None

        def gone() -> bool:
            nonlocal last
            last = self._find(kind, name, namespace)
            return last is None

        if not _poll(gone, timeout):
            raise AssertionError(
                f"{kind} {_shown(namespace, name)}: not gone within {timeout:g} s; {_state(last)}"
            )

    def establish(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create CustomResourceDefinitions, or replace those of the name, and wait for each.

        Raises:
            ApiError: the API server refuses one
            AssertionError: one was not served in time
        """
        # Several at once: the API server takes a second of one core to check a large one.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(self._create_or_replace, definitions))
        for definition in definitions:
            self.wait_for(
                "apiextensions.k8s.io/v1/CustomResourceDefinition",
                definition["metadata"]["name"],
                None,
                _is_established,
                _ESTABLISH_TIMEOUT,
                describe="Established",
            )
        self.await_served(definitions)

    def await_served(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Return as soon as discovery tells of all kinds that are defined.

        Raises:
            AssertionError: it does not in time
        """
        wanted = {
            f"{one['spec']['group']}/{version['name']}/{one['spec']['names']['kind']}"
            for one in definitions
            for version in one["spec"]["versions"]
            if version["served"]
        }

        def served() -> bool:
            self._resources = self._discover()
            return wanted <= self._resources.keys()

        if not _poll(served, _ESTABLISH_TIMEOUT):
            missing = ", ".join(sorted(wanted - self._resources.keys()))
            raise AssertionError(f"not in discovery after {_ESTABLISH_TIMEOUT:g} s: {missing}")

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 -- as subprocess
        """What kubectl prints.

        Raises:
            AssertionError: it failed; the message holds what it said
        """
        context = [] if self._context is None else [f"--context={self._context}"]
        answer = subprocess.run(
            [str(toolchain.kubectl()), f"--kubeconfig={self.kubeconfig}", *context, *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise AssertionError(
                f"kubectl {' '.join(args)}: exit code {answer.returncode}: {answer.stderr.strip()}"
            )
        return answer.stdout

    def _find(self, kind: str, name: str, namespace: str | None) -> dict[str, Any] | None:
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def _create_or_replace(self, definition: Mapping[str, Any]) -> None:
        collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        try:
            self.request("POST", collection, body=definition)
        except ApiError as error:
            if error.status != http.HTTPStatus.CONFLICT:
                raise
            path = f"{collection}/{definition['metadata']['name']}"
            version = self.request("GET", path)["metadata"]["resourceVersion"]
            metadata = {**definition["metadata"], "resourceVersion": version}
            self.request("PUT", path, body={**definition, "metadata": metadata})

    def _collection(self, document: Mapping[str, Any], namespace: str | None) -> str:
        kind = f"{document['apiVersion']}/{document['kind']}"
        return self._path(kind, document.get("metadata", {}).get("namespace", namespace), None)

    def _path(
        self, kind: str, namespace: str | None, name: str | None, subresource: str | None = None
    ) -> str:
        if kind not in self._resources:
            self._resources = self._discover()
        if kind not in self._resources:
            raise ValueError(f"kind {kind!r} is not served by {self.server}")
        resource = self._resources[kind]
        if resource.namespaced and namespace is None and name is not None:
            raise ValueError(f"{kind} {name!r}: a namespace is needed")
        return resource.path(namespace, name, subresource)

    def _discover(self) -> dict[str, _Resource]:
        """All kinds the cluster serves, by each of the ways to name them."""
        resources: dict[str, _Resource] = {}
        for root in ("/api", "/apis"):
            for group in self.request("GET", root, accept=_DISCOVERY)["items"]:
                for version in group["versions"]:
                    _add(resources, group["metadata"].get("name", ""), version)
        return resources


def load_definitions(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The CustomResourceDefinitions in a folder's JSON files, or else in its YAML files."""
    files = sorted(folder.glob("*.json")) or sorted(folder.glob("*.yaml"))
    documents = (
        document
        for file in files
        for document in (
            [json.loads(file.read_text())]
            if file.suffix == ".json"
            else yaml.safe_load_all(file.read_text())
        )
    )
    return [one for one in documents if one and one["kind"] == "CustomResourceDefinition"]


def _add(resources: dict[str, _Resource], group: str, version: Mapping[str, Any]) -> None:
    api_version = f"{group}/{version['version']}" if group else version["version"]
    for served in version.get("resources", ()):
        if "responseKind" not in served:
            continue
        kind, plural = served["responseKind"]["kind"], served["resource"]
        resource = _Resource(api_version, plural, served["scope"] == "Namespaced")
        names = [f"{api_version}/{kind}", f"{api_version}/{plural}", kind, plural]
        if group:
            names.append(f"{plural}.{group}")
        for name in names:
            # The preferred version comes first.
            resources.setdefault(name, resource)


def _poll(satisfied: Callable[[], bool], timeout: float) -> bool:
    """True as soon as it is; False if it is not by the deadline, at which it is asked once more."""
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        if satisfied():
            return True
        if late:
            return False
        time.sleep(_POLL)


def _is_established(definition: Mapping[str, Any]) -> bool:
    # Null, rather than absent, until the first one is set.
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _documents(manifest: Mapping[str, Any] | str) -> list[Mapping[str, Any]]:
    if isinstance(manifest, str):
        return [document for document in yaml.safe_load_all(manifest) if document]
    return [manifest]


def _only(documents: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(documents) != 1:
        raise ValueError(f"one object is to be created; the manifest holds {len(documents)}")
    return documents[0]


def _parse(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        return {"message": data.decode(errors="replace")}
    return answer if isinstance(answer, dict) else {"message": str(answer)}


def _shown(namespace: str | None, name: str) -> str:
    return name if namespace is None else f"{namespace}/{name}"


def _state(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "there was no such object"
    metadata = {name: value for name, value in last["metadata"].items() if name != "managedFields"}
    shown = {**last, "metadata": metadata}
    return f"its last state was:\n{yaml.safe_dump(shown, sort_keys=False)}"
