"""Objects of the project's kinds for tests of the schemas: valid ones, and ones that may not be.

They are made from the schemas in `crds/` themselves, so that a new field is tried without a word
here; only what fields demand of each other has to be said.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from hypothesis import strategies as st

from resumer.api import base, breaker, policy, resume

Json = dict[str, Any]
Schema = Mapping[str, Any]

CRDS = pathlib.Path(__file__).parents[2] / "crds"


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind, its model and an object that is valid and small."""

    name: str
    plural: str
    model: type[base.ApiModel]
    spec: Json

    @property
    def schema(self) -> Schema:
        """The schema of its spec."""
        definition = yaml.safe_load((CRDS / f"{self.plural}.argoproj.io.yaml").read_text())
        whole = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema: Schema = whole["properties"]["spec"]
        return schema

    def manifest(self, spec: object) -> Json:
        """An object with this spec."""
        return {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": self.name,
            "metadata": {"name": "one"},
            "spec": spec,
        }


RESUME = Kind(
    "WorkflowResume",
    "workflowresumes",
    resume.WorkflowResume,
    {
        "workflowName": "play",
        "correlationData": {"taskId": "5", "eventType": "pr-created"},
    },
)
POLICY = Kind("WorkflowResumePolicy", "workflowresumepolicies", policy.WorkflowResumePolicy, {})
BREAKER = Kind("WorkflowResumeBreaker", "workflowresumebreakers", breaker.WorkflowResumeBreaker, {})

# What an array's item must have besides the field that is looked at.
SEEDS: Mapping[str, Json] = {
    "validationRules[]": {"field": "task-id", "operator": "exists"},
    "resumeParameters[]": {"name": "a", "value": "b"},
    "stages[]": {"name": "a"},
    "events.taskIdSources[]": {"from": "Labels", "pattern": "a"},
    "events.types[]": {"name": "a", "event": "push"},
    "workflowSelector.matchExpressions[]": {"key": "a", "operator": "Exists"},
}

# What a field must have beside it.
NEEDS: Mapping[str, Json] = {
    "validationRules[].value": {"operator": "equals"},
    "validationRules[].values": {"operator": "in"},
    "workflowSelector.matchExpressions[].values": {"operator": "In"},
    "stages[].retry.delaysSeconds": {"strategy": "Custom"},
    "defaults.retry.delaysSeconds": {"strategy": "Custom"},
}


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Each field below a schema, by its path; `[]` stands for an item."""
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield below, field
        yield from walk(field, below)
        if "items" in field:
            yield f"{below}[]", field["items"]
            yield from walk(field["items"], f"{below}[]")


def plant(spec: Json, path: str, value: object) -> Json:
    """A copy of a spec with a field set, and what is needed around it."""
    whole = copy.deepcopy(spec)
    here: Any = whole
    parts = path.replace("[]", ".[]").split(".")
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        walked = ".".join(parts[: number + 1]).replace(".[]", "[]")
        if part == "[]":
            below = value if last else here[0] if here else dict(SEEDS.get(walked, {}))
            here[:1] = [below]
        else:
            here.update(NEEDS.get(walked, {}))
            empty: object = [] if not last and parts[number + 1] == "[]" else {}
            below = value if last else here.get(part, empty)
            here[part] = below
        here = below
    return whole


NOT_A_STRING: list[object] = [None, True, 0, -1, 7, 1.5, 2.0, 2**53, -(2**53), 1e300, [], {}, ["a"]]
GRAMMAR: list[object] = [
    "",
    " ",
    "a",
    "5",
    "a b",
    "-a",
    "a-",
    "a.b",
    "A_b",
    "a/b",
    "a/b/c",
    "/a",
    "a/",
    "a..b",
    "a\n",
    "\x00",
    "\u00e9",
    "\U0001f600" * 63,
    "{{a}}",
    "{a}",
    "{{",
    "workflows.argoproj.io/phase",
    "argoproj.io/a",
    "notargoproj.io/a",
    "a" * 63,
    "a" * 64,
    "a" * 254,
    "b" * 257 + "/a",
    "\U0001f600" * 256,
    "\U0001f600" * 257,
    "e" * 1025,
    "=",
    "a=b",
    "null",
    "true",
    "In",
    "in",
    "Custom",
    "regex",
]
WHOLES: list[object] = [
    {"a": None},
    {"a": "b"},
    {"a/b": ""},
    {"a": 1},
    {"-": "a"},
    {"argoproj.io/a": "b"},
    {"x.argoproj.io/a": "b"},
    {"notargoproj.io/a": "b"},
    {"b" * 254 + "/a": "c"},
    {"a": "-"},
    [None],
    [""],
    ["a", "a"],
    ["a", "b"],
    [{}],
    [{"name": "a"}],
    [{"name": "a", "value": 1}, {"name": "a", "value": "2"}],
    [{"name": "a", "eventTypes": ["e"]}, {"name": "b", "eventTypes": ["e"]}],
    {"strategy": "Custom"},
    {"delaysSeconds": [1]},
    {"strategy": "Custom", "delaysSeconds": [1, 2.5]},
]
anything = st.one_of(
    st.sampled_from(GRAMMAR),
    st.sampled_from(NOT_A_STRING),
    st.sampled_from(WHOLES),
    st.integers(-(2**63), 2**63 - 1),
    # Beyond 2**53 the server writes a float as an integer with other digits.
    st.floats(-1e15, 1e15),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=70),
)


rule = st.fixed_dictionaries({"field": st.sampled_from(["task-id", "a.b[].c"])})
few = st.lists(st.sampled_from(["a", "b"]), min_size=1)

# Objects whose fields depend on each other.
TOGETHER: Mapping[str, st.SearchStrategy[Any]] = {
    "validationRules[]": st.one_of(
        st.builds(dict, rule, operator=st.sampled_from(["in", "notIn"]), values=few),
        st.builds(dict, rule, operator=st.sampled_from(["exists", "absent"])),
        st.builds(
            dict,
            rule,
            operator=st.sampled_from(["equals", "regex", "gt", "startsWith"]),
            value=st.sampled_from(["", "a", 5, "x" * 256]),
        ),
    ),
    "workflowSelector.matchExpressions[]": st.one_of(
        st.builds(dict, key=st.just("a"), operator=st.just("In"), values=few),
        st.builds(dict, key=st.just("b/c"), operator=st.just("Exists")),
    ),
    "stages[].eventTypes": st.lists(st.integers(0, 10**6).map(str), unique=True, max_size=3),
    **dict.fromkeys(
        ("stages[].retry", "defaults.retry"),
        st.one_of(
            st.builds(dict, strategy=st.just("Custom"), delaysSeconds=st.just([1, 2.5])),
            st.builds(dict, strategy=st.just("Linear"), incrementSeconds=st.floats(0, 3600)),
            st.builds(dict, maxAttempts=st.integers(1, 20), jitter=st.just("None")),
        ),
    ),
}


def _identity(item: object) -> str:
    """What may stand only once in a list: the name, where there is one."""
    return str(item.get("name", id(item))) if isinstance(item, dict) else str(item)


def valid(schema: Schema, path: str = "") -> st.SearchStrategy[Any]:
    """Values that the schema alone allows; rules across fields may still refuse them."""
    if path in TOGETHER:
        return TOGETHER[path]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(0, 99), st.sampled_from(["5", "a-b", "a" * 63]))
    match schema.get("type"):
        case "string":
            return st.sampled_from(["a", "b", "a-b", "x" * 63, "5"])
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            limits = st.floats(schema["minimum"], schema["maximum"])
            return st.one_of(limits, st.integers(schema["minimum"], schema["maximum"]))
        case "array":
            items = valid(schema["items"], f"{path}[]")
            least = schema.get("minItems", 0)
            return st.lists(items, min_size=least, max_size=3, unique_by=_identity)
        case "object":
            return _valid_object(schema, path)
        case other:
            raise AssertionError(f"{path}: how does one make a {other}?")


def _valid_object(schema: Schema, path: str) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        values = schema["additionalProperties"]
        of = valid(values) if "type" in values else anything
        return st.dictionaries(st.sampled_from(["a", "b/c", "d.e/f", "x" * 63]), of, max_size=3)
    fields = {
        name: valid(field, f"{path}.{name}".lstrip("."))
        for name, field in schema["properties"].items()
    }
    needed = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional=fields)


def specs(kind: Kind) -> st.SearchStrategy[object]:
    """Specs that are valid but for up to two fields."""
    schema = kind.schema
    paths = [path for path, _ in walk(schema)]
    change = st.tuples(st.sampled_from(paths), anything)
    small = st.just(kind.spec)
    changes = st.one_of(st.lists(change, max_size=1), st.lists(change, max_size=2))
    return st.builds(_changed, st.one_of(small, valid(schema)), changes)


def _changed(spec: Json, changes: list[tuple[str, object]]) -> object:
    for path, value in changes:
        try:
            spec = plant(spec, path, value)
        except (AttributeError, TypeError, KeyError):
            # An earlier change put something there that has no such field.
            continue
    return spec
