"""The schemas in `crds/` as texts: every field is described, bounded, and one of a model's."""

from __future__ import annotations

import enum
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_camel

from resumer.api import base, breaker, conditions, constants, outcomes, policy, resume

CRDS = pathlib.Path(__file__).parents[3] / "crds"
Schema = Mapping[str, Any]

MODELS: Mapping[str, type[base.ApiModel]] = {
    constants.RESUME_PLURAL: resume.WorkflowResume,
    constants.POLICY_PLURAL: policy.WorkflowResumePolicy,
    constants.BREAKER_PLURAL: breaker.WorkflowResumeBreaker,
}


@functools.cache
def definition(plural: str) -> dict[str, Any]:
    """A CustomResourceDefinition."""
    path = CRDS / f"{plural}.{constants.GROUP}.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def schema(plural: str) -> Schema:
    """The schema of a kind."""
    (version,) = definition(plural)["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def fields(above: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below one, by its path; those of the wrapper object are left out."""
    for name, field in above.get("properties", {}).items():
        below = f"{path}.{name}"
        yield below, field
        yield from fields(field, below)
    for name in ("items", "additionalProperties"):
        if name in above:
            yield f"{path}[]", above[name]
            yield from fields(above[name], f"{path}[]")


FIELDS = [
    pytest.param(field, id=f"{plural}{path}")
    for plural in MODELS
    for path, field in fields(schema(plural))
    if path not in (".apiVersion", ".kind", ".metadata")
]


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_described(field: Schema) -> None:
    description = field["description"]
    assert description[0].isupper()
    assert description.endswith(".")
    assert "  " not in description


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_bounded(field: Schema) -> None:
    if "enum" in field:
        return
    if field.get("x-kubernetes-int-or-string"):
        needed = {"maxLength", "minimum", "maximum"}
    else:
        needed = {
            "string": {"maxLength"},
            "integer": {"minimum", "maximum"},
            "number": {"minimum", "maximum"},
            "array": {"maxItems", "x-kubernetes-list-type"},
        }.get(field.get("type", ""), set())
    if "additionalProperties" in field:
        needed = needed | {"maxProperties"}
    assert needed <= field.keys()


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_takes_a_null_but_the_values_of_the_free_form_event(field: Schema) -> None:
    assert field.get("nullable", False) is field.get("x-kubernetes-preserve-unknown-fields", False)


@pytest.mark.parametrize("plural", MODELS)
def test_schema_and_model_have_the_same_fields_with_the_same_defaults(plural: str) -> None:
    whole = schema(plural)
    for part in ("spec", "status"):
        (model,) = _models(MODELS[plural].model_fields[part].annotation)
        _same(model, whole["properties"][part], part)


def _same(model: type[base.ApiModel], shape: Schema, path: str) -> None:
    by_alias = {field.alias or to_camel(name): field for name, field in model.model_fields.items()}
    assert by_alias.keys() == shape["properties"].keys(), path
    for alias, field in by_alias.items():
        below = shape["properties"][alias]
        if "default" in below and below["default"] != {}:
            assert field.get_default() == below["default"], f"{path}.{alias}"
        for inner in _models(field.annotation):
            _same(inner, below.get("items", below), f"{path}.{alias}")


def _models(annotation: Any) -> Iterator[type[base.ApiModel]]:
    """The models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, base.ApiModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


ENUMS: list[tuple[str, str, type[enum.StrEnum]]] = [
    (constants.RESUME_PLURAL, ".spec.validationRules[].operator", resume.RuleOperator),
    (constants.RESUME_PLURAL, ".status.phase", outcomes.Phase),
    (constants.RESUME_PLURAL, ".status.outcome", outcomes.Outcome),
    (constants.RESUME_PLURAL, ".status.conditions[].status", conditions.ConditionStatus),
    (constants.POLICY_PLURAL, ".spec.stages[].retry.strategy", policy.RetryStrategy),
    (constants.POLICY_PLURAL, ".spec.stages[].retry.jitter", policy.Jitter),
    (constants.POLICY_PLURAL, ".spec.stages[].ambiguity", policy.Ambiguity),
    (constants.POLICY_PLURAL, ".spec.events.taskIdSources[].from", policy.TaskIdPlace),
    (
        constants.POLICY_PLURAL,
        ".spec.workflowSelector.matchExpressions[].operator",
        policy.SelectorOperator,
    ),
    (constants.BREAKER_PLURAL, ".status.state", breaker.BreakerState),
]


@pytest.mark.parametrize(("plural", "path", "values"), ENUMS, ids=str)
def test_schema_and_model_list_the_same_values(
    plural: str, path: str, values: type[enum.StrEnum]
) -> None:
    assert dict(fields(schema(plural)))[path]["enum"] == [str(value) for value in values]


LIMITS = [
    (constants.RESUME_PLURAL, ".status.message", "maxLength", conditions.MAX_MESSAGE),
    (constants.RESUME_PLURAL, ".status.conditions[].message", "maxLength", conditions.MAX_MESSAGE),
    (constants.RESUME_PLURAL, ".status.attempts", "maxItems", resume.MAX_ATTEMPTS_KEPT),
    (
        constants.RESUME_PLURAL,
        ".status.attempts[].message",
        "maxLength",
        resume.MAX_ATTEMPT_MESSAGE,
    ),
    (constants.RESUME_PLURAL, ".status.checks", "maxItems", resume.MAX_CHECKS),
    (constants.RESUME_PLURAL, ".status.checks[].actual", "maxLength", resume.MAX_CHECK_TEXT),
    (constants.RESUME_PLURAL, ".status.checks[].expected", "maxLength", resume.MAX_CHECK_TEXT),
    (constants.RESUME_PLURAL, ".status.workflow.nodes", "maxItems", resume.MAX_NODES),
    (
        constants.RESUME_PLURAL,
        ".status.policy.alsoMatching",
        "maxItems",
        resume.MAX_OTHER_POLICIES,
    ),
    (constants.BREAKER_PLURAL, ".status.probes", "maxItems", breaker.MAX_PROBES),
    (
        constants.BREAKER_PLURAL,
        ".status.lastFailureReason",
        "maxLength",
        breaker.MAX_FAILURE_REASON,
    ),
]


@pytest.mark.parametrize(("plural", "path", "keyword", "limit"), LIMITS, ids=str)
def test_the_operator_cuts_status_at_the_limits_of_the_schema(
    plural: str, path: str, keyword: str, limit: int
) -> None:
    assert dict(fields(schema(plural)))[path][keyword] == limit


def test_stages_and_defaults_of_a_policy_have_the_same_settings() -> None:
    spec = schema(constants.POLICY_PLURAL)["properties"]["spec"]["properties"]
    stage = dict(spec["stages"]["items"]["properties"])
    del stage["name"], stage["eventTypes"]
    assert stage == spec["defaults"]["properties"]


@pytest.mark.parametrize("plural", MODELS)
def test_names_are_those_of_the_code(plural: str) -> None:
    found = definition(plural)
    kind = MODELS[plural].model_fields["kind"].default
    assert found["metadata"]["name"] == f"{plural}.{constants.GROUP}"
    assert found["spec"]["group"] == constants.GROUP
    assert found["spec"]["names"]["kind"] == kind
    assert found["spec"]["names"]["listKind"] == f"{kind}List"
    assert [version["name"] for version in found["spec"]["versions"]] == [constants.VERSION]
