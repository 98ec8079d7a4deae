"""The API server and the models accept and refuse the same objects, and read the same out of them.

The schema admits an object, the model reads it: where they disagree, an object is stored that the
operator cannot read, or one is refused that it could. Objects are created with `dryRun=All`, so
nothing is stored. Every bound in the schemas is tried at its value and just beyond it, every sort
of field with every odd value; Hypothesis looks across the fields.
"""

from __future__ import annotations

import dataclasses
import http

import hypothesis
import pytest

from resumer import errors
from resumer.api import base
from tests.controlplane import client
from tests.e2e import crd_objects
from tests.e2e.crd_objects import Json, Kind, Schema

EXAMPLES = 400


def agreed(cluster: client.Cluster, namespace: str, kind: Kind, spec: object) -> bool:
    """Whether the API server and the model accept an object.

    Raises:
        AssertionError: they do not agree, or read different things out of it.
    """
    manifest = kind.manifest(spec)
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/{kind.plural}"
    answer: Json | None = None
    server = "accepted"
    try:
        answer = cluster.request("POST", path, query={"dryRun": "All"}, body=manifest)
    except client.ApiError as error:
        if error.status != http.HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        server = f"refused: {error.body.get('message')}"
    read: base.ApiModel | None = None
    model = "accepted"
    try:
        read = kind.model.from_json(manifest)
    except errors.InvalidError as error:
        model = f"refused: {error}"
    assert (answer is None) == (read is None), f"server {server}\nmodel {model}\nspec {spec!r}"
    if answer is None or read is None:
        return False
    stored = kind.model.from_json(answer)
    assert stored.model_dump()["spec"] == read.model_dump()["spec"], f"stored {answer['spec']!r}"
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """A bound of a field."""

    kind: Kind
    path: str
    keyword: str
    value: float
    schema: Schema

    def __str__(self) -> str:
        """An id for pytest."""
        return f"{self.kind.name}.spec.{self.path} {self.keyword} {self.value:g}"

    def spec(self, *, beyond: bool) -> Json:
        """A spec whose field is at the bound, or one beyond."""
        step = 1 if self.keyword.startswith("max") else -1
        value = self.value + (step if beyond else 0)
        return crd_objects.plant(self.kind.spec, self.path, self._field(value))

    def _field(self, value: float) -> object:
        match self.keyword:
            case "minLength" | "maxLength":
                return _text(self.schema, int(value))
            case "minimum" | "maximum":
                return int(value)
            case "minItems" | "maxItems":
                return [self._item(number) for number in range(int(value))]
            case "maxProperties":
                return {f"k{number}": "v" for number in range(int(value))}
            case other:
                raise AssertionError(f"{self}: how does one reach {other}?")

    def _item(self, number: int) -> object:
        schema = self.schema["items"]
        if schema["type"] == "object":
            item = dict(crd_objects.SEEDS[f"{self.path}[]"])
            return {**item, "name": f"n{number}"} if "name" in item else item
        return number if schema["type"] == "number" else f"v{number}"


KEYWORDS = (
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
)


BOUNDS = [
    Bound(kind, path, keyword, schema[keyword], schema)
    for kind in (crd_objects.RESUME, crd_objects.POLICY, crd_objects.BREAKER)
    for path, schema in crd_objects.walk(kind.schema)
    for keyword in KEYWORDS
    if keyword in schema
]


def _text(schema: Schema, length: int) -> str:
    """A text of some length that has the grammar of the field."""
    if schema.get("maxLength") == 317 and length > 63:
        return f"{'a' * (length - 64)}/{'a' * 63}"
    return "a" * length


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_field_may_be_as_large_as_its_bound_says_and_no_larger(
    bound: Bound, cluster: client.Cluster
) -> None:
    assert agreed(cluster, "default", bound.kind, bound.spec(beyond=False))
    assert not agreed(cluster, "default", bound.kind, bound.spec(beyond=True))


ODD_VALUES = [*crd_objects.GRAMMAR, *crd_objects.NOT_A_STRING, *crd_objects.WHOLES]


def _sorts_of_fields() -> dict[str, tuple[Kind, str]]:
    """One field for each schema there is; fields that differ in their description only are one."""
    found: dict[str, tuple[Kind, str]] = {}
    for kind in (crd_objects.RESUME, crd_objects.POLICY, crd_objects.BREAKER):
        for path, schema in crd_objects.walk(kind.schema):
            found.setdefault(_without_descriptions(schema), (kind, path))
    return found


def _without_descriptions(schema: object) -> str:
    if isinstance(schema, dict):
        items = (item for item in schema.items() if item[0] not in ("description", "default"))
        return str(sorted((key, _without_descriptions(value)) for key, value in items))
    return str(schema)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param(*sort, id=f"{sort[0].name}.spec.{sort[1]}")
        for sort in _sorts_of_fields().values()
    ],
)
def test_server_and_model_agree_on_odd_values_of_a_field(
    kind: Kind, path: str, cluster: client.Cluster
) -> None:
    for value in ODD_VALUES:
        agreed(cluster, "default", kind, crd_objects.plant(kind.spec, path, value))


@pytest.mark.parametrize(
    "kind",
    [crd_objects.RESUME, crd_objects.POLICY, crd_objects.BREAKER],
    ids=lambda kind: kind.name,
)
def test_server_and_model_agree_on_whatever_is_sent(kind: Kind, cluster: client.Cluster) -> None:
    verdicts: set[bool] = set()

    @hypothesis.settings(max_examples=EXAMPLES)
    @hypothesis.given(crd_objects.specs(kind))
    def agree(spec: object) -> None:
        verdicts.add(agreed(cluster, "default", kind, spec))

    agree()
    assert verdicts == {True, False}, "all examples were accepted, or all were refused"


def _stages_of(**types: int) -> list[Json]:
    """As many stages as there may be, each with so many types in each of these fields."""
    return [
        {
            "name": f"s{stage}",
            **{
                field: [f"{field}-{stage}-{n}" for n in range(count)]
                for field, count in types.items()
            },
        }
        for stage in range(64)
    ]


OPEN_OR_FAIL = [
    ({"stages": [{"name": "a", "eventTypes": ["x"], "failOn": ["y"]}]}, True),
    ({"stages": [{"name": "a", "eventTypes": ["x"], "failOn": ["x"]}]}, False),
    ({"stages": [{"name": "a", "eventTypes": ["x"]}, {"name": "b", "failOn": ["x"]}]}, False),
    ({"stages": [{"name": "a", "eventTypes": ["x"]}], "defaults": {"failOn": ["x"]}}, False),
    ({"stages": [{"name": "a", "failOn": ["x"]}], "defaults": {"failOn": ["x"]}}, True),
    ({"defaults": {"failOn": ["x", "x"]}}, False),
    ({"stages": [{"name": "a", "failOn": ["x"]}, {"name": "b", "failOn": ["x"]}]}, True),
    ({"stages": _stages_of(eventTypes=8, failOn=8)}, True),
    ({"stages": _stages_of(failOn=8), "defaults": {"failOn": ["x"]}}, True),
    ({"stages": _stages_of(failOn=9)}, False),
]


@pytest.mark.parametrize(("spec", "accepted"), OPEN_OR_FAIL)
def test_an_event_type_opens_gates_or_fails_them(
    spec: Json, accepted: bool, cluster: client.Cluster
) -> None:
    assert agreed(cluster, "default", crd_objects.POLICY, spec) is accepted
