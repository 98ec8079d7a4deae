"""Outputs with a ``globalName``: their values belong to the whole workflow, too.

For a pod Argo's controller exports them itself; for a gate that was opened from outside it does
not (measured on 4.0: later steps keep ``{{workflow.outputs.parameters.X}}`` as text). Argo's own
``set`` writes them (``AddParamToGlobalScope``, workflow/util/util.go), and so do we, defaults
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resumer.core.observation import ResumeOrder

_OUTPUTS = "/status/outputs"
_PARAMETERS = f"{_OUTPUTS}/parameters"


def tests(order: ResumeOrder) -> Iterator[dict[str, Any]]:
    """What must hold so that `changes` puts the values in their places."""
    values = _values(order)
    if not values:
        return
    if not order.has_outputs:
        yield {"op": "test", "path": _OUTPUTS, "value": None}
    elif order.exported is None:
        yield {"op": "test", "path": _PARAMETERS, "value": None}
    for index, name in enumerate(order.exported or ()):
        if name in values:
            yield {"op": "test", "path": f"{_PARAMETERS}/{index}/name", "value": name}


def changes(order: ResumeOrder) -> Iterator[dict[str, Any]]:
    """The operations that export the values of the order."""
    values = _values(order)
    added = [
        {"name": name, "value": value}
        for name, value in values.items()
        if name not in (order.exported or ())
    ]
    for index, name in enumerate(order.exported or ()):
        if name in values:
            path = f"{_PARAMETERS}/{index}/value"
            yield {"op": "add", "path": path, "value": values[name]}
    if order.exported is not None:
        for parameter in added:
            yield {"op": "add", "path": f"{_PARAMETERS}/-", "value": parameter}
    elif added and order.has_outputs:
        yield {"op": "add", "path": _PARAMETERS, "value": added}
    elif added:
        yield {"op": "add", "path": _OUTPUTS, "value": {"parameters": added}}


def _values(order: ResumeOrder) -> Mapping[str, str]:
    return {
        fill.global_name: fill.value
        for gate in order.gates
        for fill in gate.fills
        if fill.global_name
    }
