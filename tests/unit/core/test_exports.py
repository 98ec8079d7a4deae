"""Outputs with a globalName are exported to the whole workflow, wherever its outputs stand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resumer.core import exports, workflows
from resumer.core.gates import Fill
from resumer.core.observation import GateOrder, ResumeOrder
from tests.builders import a_request, at_review
from tests.unit.core.scenes import decided, order_of

PARAMETERS = "/status/outputs/parameters"


def an_order(*fills: Fill, outputs: Any) -> ResumeOrder:
    """An order for one gate of a workflow with this ``status.outputs`` (None: it has none)."""
    body = at_review().build()
    if outputs is not None:
        body["status"]["outputs"] = outputs
    view = workflows.view(body)
    order = order_of(decided(a_request(), at_review()))
    gate = GateOrder("id", "start", "gate", "message", fills)
    return dataclasses.replace(
        order, gates=(gate,), has_outputs=view.has_outputs, exported=view.exported
    )


@pytest.mark.parametrize(
    ("outputs", "tests", "changes"),
    [
        (
            None,
            [{"op": "test", "path": "/status/outputs", "value": None}],
            [
                {
                    "op": "add",
                    "path": "/status/outputs",
                    "value": {"parameters": [{"name": "pr", "value": "5"}]},
                }
            ],
        ),
        (
            {"exitCode": "0"},
            [{"op": "test", "path": PARAMETERS, "value": None}],
            [{"op": "add", "path": PARAMETERS, "value": [{"name": "pr", "value": "5"}]}],
        ),
        (
            {"parameters": [{"name": "other", "value": "1"}]},
            [],
            [{"op": "add", "path": f"{PARAMETERS}/-", "value": {"name": "pr", "value": "5"}}],
        ),
        (
            {"parameters": [{"name": "other"}, {"name": "pr", "value": "4"}]},
            [{"op": "test", "path": f"{PARAMETERS}/1/name", "value": "pr"}],
            [{"op": "add", "path": f"{PARAMETERS}/1/value", "value": "5"}],
        ),
    ],
    ids=["no outputs", "outputs without parameters", "other parameters", "the same name"],
)
def test_the_value_goes_where_argo_would_put_it(
    outputs: Any, tests: list[Any], changes: list[Any]
) -> None:
    order = an_order(Fill(0, "number", "5", "pr"), Fill(1, "local", "6"), outputs=outputs)
    assert list(exports.tests(order)) == tests
    assert list(exports.changes(order)) == changes


def test_without_a_global_name_nothing_is_exported() -> None:
    order = an_order(Fill(0, "number", "5"), outputs=None)
    assert [*exports.tests(order), *exports.changes(order)] == []


def test_a_new_name_beside_a_known_one_is_appended() -> None:
    order = an_order(
        Fill(0, "a", "1", "known"),
        Fill(1, "b", "2", "new"),
        outputs={"parameters": [{"name": "known"}]},
    )
    assert list(exports.changes(order)) == [
        {"op": "add", "path": f"{PARAMETERS}/0/value", "value": "1"},
        {"op": "add", "path": f"{PARAMETERS}/-", "value": {"name": "new", "value": "2"}},
    ]
