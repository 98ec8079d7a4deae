"""Where Argo keeps the template of a node (``resolveTemplateReference``), and what it says.

Only one thing is asked of a template here: whether Argo ends a Suspend node by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from resumer.core import untrusted

_MAX_INLINE = 8
"""How deep inline templates within inline templates are followed."""
_INPUT_REFERENCE = re.compile(r"\{\{\s*inputs\.parameters\.([A-Za-z0-9_-]+)\s*\}\}")


def duration(
    body: Mapping[str, Any],
    raw_nodes: Mapping[str, Any],
    node: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> str:
    """The ``duration`` of a Suspend node's template, inputs filled in; empty where it has none."""
    template = _template(body, raw_nodes, node)
    found = untrusted.any_string(untrusted.mapping(template.get("suspend")).get("duration") or "")
    return _INPUT_REFERENCE.sub(lambda match: inputs.get(match[1], ""), found)


def _template(
    body: Mapping[str, Any],
    raw_nodes: Mapping[str, Any],
    node: Mapping[str, Any],
    depth: int = _MAX_INLINE,
) -> Mapping[str, Any]:
    """Finds a node's template where Argo keeps it; an empty mapping where it is not to be found."""
    status = untrusted.mapping(body.get("status"))
    scope = untrusted.text(node.get("templateScope"))
    reference = untrusted.mapping(node.get("templateRef"))
    name = untrusted.text(node.get("templateName"))
    stored = untrusted.mapping(status.get("storedTemplates"))
    if reference:
        kind = "cluster" if reference.get("clusterScope") else "namespaced"
        return untrusted.mapping(
            stored.get(
                f"{kind}/{untrusted.text(reference.get('name'))}/{untrusted.text(reference.get('template'))}"
            )
        )
    if name and scope and not scope.startswith("local/"):
        return untrusted.mapping(stored.get(f"{scope}/{name}"))
    if not name:
        return _inline(body, raw_nodes, node, depth)
    local = [  # with a workflowTemplateRef, what is stored is spec and template put together
        *untrusted.mappings(
            untrusted.mapping(status.get("storedWorkflowTemplateSpec")).get("templates")
        ),
        *untrusted.mappings(untrusted.mapping(body.get("spec")).get("templates")),
    ]
    return next((item for item in local if item.get("name") == name), {})


def _inline(
    body: Mapping[str, Any], raw_nodes: Mapping[str, Any], node: Mapping[str, Any], depth: int
) -> Mapping[str, Any]:
    """An inline template: in the step or task of the boundary's template with its name."""
    step = untrusted.text(node.get("displayName")).split("(", 1)[0]
    scope = untrusted.text(node.get("templateScope"))
    if scope and not scope.startswith("local/"):
        stored = untrusted.mapping(untrusted.mapping(body.get("status")).get("storedTemplates"))
        return untrusted.mapping(stored.get(f"{scope}/inline/{step}"))
    boundary = untrusted.mapping(raw_nodes.get(untrusted.text(node.get("boundaryID"))))
    if not boundary or not depth:
        return {}
    parent = _template(body, raw_nodes, boundary, depth - 1)
    groups = [
        item for group in untrusted.items(parent.get("steps")) for item in untrusted.mappings(group)
    ]
    for item in [*untrusted.mappings(untrusted.mapping(parent.get("dag")).get("tasks")), *groups]:
        if item.get("name") == step:
            return untrusted.mapping(item.get("inline"))
    return {}
