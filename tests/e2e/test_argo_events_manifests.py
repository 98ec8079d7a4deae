"""The shipped manifests of Argo Events themselves: complete, known in every field, as documented.

Argo Events' CRDs let everything pass, and its servers ignore what they do not know, so a misspelt
field would go unnoticed. `test_argo_events` shows that they work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.controlplane import build, components
from tests.e2e.support import argoevents
from tests.e2e.support import manifests as m

pytestmark = pytest.mark.usefixtures("built_events")

KINDS = ("EventBus", "EventSource", "Sensor")
VALUES = {
    "organization": "octo-org",
    "repositories": "^octo-org/(one|two)$",
    "workflows": "team=blue,kind in (a, b)",
}
SUSPENSION_POINTS = {"pr-created", "pr-labeled-ready", "pr-approved", "task-completed"}


@pytest.fixture(scope="module")
def shipped(built_events: None) -> Mapping[str, m.Json]:
    """The manifests by kind and name."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": one
        for one in argoevents.shipped("workflows", VALUES)
    }


@pytest.fixture(scope="module")
def schemas(built_events: None) -> Mapping[str, Any]:
    """Argo Events' JSON schemas by the names of its types."""
    folder = build.ensure(components.EVENTS)[components.ARGO_EVENTS.name].data("schema")
    definitions: Mapping[str, Any] = json.loads((folder / "schema.json").read_text())["definitions"]
    return definitions


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_one_that_argo_events_knows(
    kind: str, shipped: Mapping[str, m.Json], schemas: Mapping[str, Any]
) -> None:
    (manifest,) = (one for one in shipped.values() if one["kind"] == kind)
    schema = {"$ref": f"#/definitions/io.argoproj.events.v1alpha1.{kind}"}
    assert list(unknown(manifest, schema, schemas, kind)) == []


def unknown(
    value: object, schema: Mapping[str, Any], schemas: Mapping[str, Any], path: str
) -> Iterator[str]:
    """The paths of the fields that the schema does not name."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].removeprefix("#/definitions/")]
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown(item, schema.get("items", {}), schemas, f"{path}.{index}")
    elif isinstance(value, dict) and "properties" in schema:
        for key, item in value.items():
            if key in schema["properties"]:
                yield from unknown(item, schema["properties"][key], schemas, f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(value, dict):
        for key, item in value.items():
            further = schema.get("additionalProperties", {})
            yield from unknown(item, further, schemas, f"{path}.{key}")


def test_the_user_s_values_are_in_place_and_nothing_else_is_left_to_fill_in(
    shipped: Mapping[str, m.Json],
) -> None:
    assert {one["metadata"]["namespace"] for one in shipped.values()} == {"workflows"}
    assert shipped["RoleBinding/resumer-sensor"]["subjects"][0]["namespace"] == "workflows"
    source = shipped["EventSource/github-webhook"]["spec"]["github"]["delivery"]
    assert source["organizations"] == [VALUES["organization"]]
    sensor = shipped["Sensor/github-resume"]["spec"]
    for dependency in sensor["dependencies"]:
        filters = {one["path"]: one["value"] for one in dependency["filters"]["data"]}
        assert filters["repository"] == [VALUES["repositories"]]
    for resource in resources(sensor):
        assert resource["spec"]["labelSelector"] == VALUES["workflows"]
    assert not re.search(r"\bVALUE\b|event\.jq\"", json.dumps(list(shipped.values())))
    # The values themselves and the text of event.jq are read by kustomize and not created.
    assert {one["kind"] for one in shipped.values()} == {
        *KINDS,
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }


def test_there_is_a_trigger_for_each_suspension_point(shipped: Mapping[str, m.Json]) -> None:
    sensor = shipped["Sensor/github-resume"]["spec"]
    types = [one["spec"]["correlationData"]["eventType"] for one in resources(sensor)]
    assert sorted(types) == sorted(SUSPENSION_POINTS)


def test_no_trigger_gives_up_at_once_and_none_gives_up_in_silence(
    shipped: Mapping[str, m.Json],
) -> None:
    sensor = shipped["Sensor/github-resume"]["spec"]
    names = {one["name"] for one in sensor["dependencies"]}
    for trigger in sensor["triggers"]:
        assert trigger["template"]["conditions"] in names
        assert trigger["atLeastOnce"] is True
        assert trigger["retryStrategy"]["steps"] >= 5
        assert trigger["dlqTrigger"]["atLeastOnce"] is True
        assert "log" in trigger["dlqTrigger"]["template"]


def test_the_sensor_s_role_is_to_create_requests(shipped: Mapping[str, m.Json]) -> None:
    assert shipped["Role/resumer-sensor"]["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowresumes"], "verbs": ["create"]}
    ]
    pod = shipped["Sensor/github-resume"]["spec"]["template"]
    assert pod["serviceAccountName"] == "resumer-sensor"
    source = shipped["EventSource/github-webhook"]["spec"]["template"]["serviceAccountName"]
    assert shipped[f"ServiceAccount/{source}"]["automountServiceAccountToken"] is False


def test_the_webhook_s_limit_leaves_room_on_the_bus(shipped: Mapping[str, m.Json]) -> None:
    source = shipped["EventSource/github-webhook"]["spec"]["github"]["delivery"]
    assert "maxPayload" not in shipped["EventBus/default"]["spec"]["jetstream"]
    assert source["webhook"]["maxPayloadSize"] <= 0.75 * 1024 * 1024
    assert source["webhookSecret"] == {"name": "github-webhook", "key": "secret"}


def resources(sensor: m.Json) -> Iterator[m.Json]:
    """What the triggers create."""
    for trigger in sensor["triggers"]:
        yield trigger["template"]["k8s"]["source"]["resource"]
