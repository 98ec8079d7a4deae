"""The reference of a kind, from its CustomResourceDefinition: what the API server itself enforces.

One table for each object in the schema, with every field, its type, its default and its bounds; the
rules in CEL below it; and the columns of `kubectl get`. `generate.py` puts it between the marks in
`docs/reference.md`. It knows the keywords of a schema that the definitions in `crds/` use, and
fails at any other, so that nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

Schema = Mapping[str, Any]

_KNOWN: Final = {
    *("type", "description", "default", "enum", "format", "pattern", "nullable", "required"),
    *("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties"),
    *("properties", "additionalProperties", "items"),
    *("x-kubernetes-validations", "x-kubernetes-int-or-string", "x-kubernetes-list-type"),
    *("x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields"),
}
_BOUNDS: Final = (
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "item"),
    ("minProperties", "maxProperties", "entry"),
    ("minimum", "maximum", ""),
)
_PLURALS: Final = {"entry": "entries"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )


def kind(definition: Mapping[str, Any]) -> str:
    """The reference of one kind.

    Args:
        definition: The CustomResourceDefinition.

    Raises:
        ValueError: The schema has a keyword that this module does not know.
    """
    spec = definition["spec"]
    (version,) = spec["versions"]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        f"{root['description']}\n",
        _names(spec, version),
        f"### {spec['names']['kind']} columns\n",
        f"`kubectl get {spec['names']['shortNames'][0]}` shows them, *wide* ones with `-o wide`.\n",
        _columns(version["additionalPrinterColumns"]),
    ]
    for name in ("spec", "status"):
        schema = root["properties"][name]
        required = name in root["required"]
        parts += _object(spec["names"]["kind"], name, schema, required=required)
    return "\n" + "\n".join(parts) + "\n"


def _names(spec: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    names = spec["names"]
    selectable = [field["jsonPath"][1:] for field in version.get("selectableFields", ())]
    rows = [
        ("API version", _code(f"{spec['group']}/{version['name']}")),
        ("Scope", spec["scope"]),
        ("Names for kubectl", ", ".join(map(_code, (names["plural"], *names["shortNames"])))),
        ("Categories", ", ".join(map(_code, names["categories"]))),
        ("Subresources", ", ".join(map(_code, version["subresources"]))),
    ]
    if selectable:
        rows.append(("For `--field-selector`", ", ".join(map(_code, selectable))))
    return table(("Kind", spec["names"]["kind"]), rows)


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("Column", "From", "Shows"),
        (
            (
                one["name"] + (" *(wide)*" if one.get("priority") else ""),
                _code(one["jsonPath"]),
                one["description"] + ".",
            )
            for one in columns
        ),
    )


def _object(of: str, path: str, schema: Schema, *, required: bool) -> Iterator[str]:
    """The parts that tell about an object of the schema, and about the objects in it."""
    needed = "" if required else " It may be left out."
    yield f"### {of} {path}\n\n{_sentence(schema)}{needed}\n"
    fields = schema["properties"]
    yield table(
        ("Field", "Type", "Allowed", "Means"),
        (
            (
                _code(name) + (" *required*" if name in schema.get("required", ()) else ""),
                _type(of, f"{path}.{name}", field) + _default(field),
                _allowed(field),
                _sentence(field),
            )
            for name, field in fields.items()
        ),
    )
    own = [*_rules("", schema)]
    for name, field in fields.items():
        own += _rules(name, field)
        element = _element(field)
        if element is not None and "properties" not in element[1]:
            own += _rules(name + element[0], element[1])
    if own:
        yield table(("Rule in CEL", "on", "else refused with"), own)
    for name, field in fields.items():
        element = _element(field)
        if "properties" in field:
            yield from _object(of, f"{path}.{name}", field, required=True)
        elif element is not None and "properties" in element[1]:
            yield from _object(of, f"{path}.{name}{element[0]}", element[1], required=True)


def _rules(name: str, schema: Schema) -> Iterator[tuple[str, str, str]]:
    """The rules on a field; without a name, on the object itself."""
    for rule in schema.get("x-kubernetes-validations", ()):
        at = rule.get("fieldPath", "")[1:]
        on = _code(name or at) if name or at else "all of it"
        yield _code(" ".join(rule["rule"].split())), on, " ".join(rule["message"].split())


def _element(schema: Schema) -> tuple[str, Schema] | None:
    """What a list or a map holds, and how a path says so."""
    if "items" in schema:
        return "[]", schema["items"]
    if "additionalProperties" in schema:
        return ".*", schema["additionalProperties"]
    return None


def _type(of: str, path: str, schema: Schema) -> str:
    unknown = set(schema) - _KNOWN
    if unknown:
        raise ValueError(f"{of} {path}: {sorted(unknown)} of the schema would not be shown")
    if schema.get("x-kubernetes-int-or-string"):
        return "string or integer"
    if "properties" in schema:
        return f"[object](#{_anchor(f'{of} {path}')})"
    element = _element(schema)
    if element is not None:
        inner = _type(of, path + element[0], element[1])
        if "items" not in schema:
            return f"map of {inner}"
        keys = schema.get("x-kubernetes-list-map-keys")
        return f"list of {inner}" + (f", one for each {_code(keys[0])}" if keys else "")
    if "type" not in schema:
        return "anything"
    if schema.get("format") == "date-time":
        return "time"
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return "free object"
    return str(schema["type"])


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    return f", {_code(_literal(schema['default']))} by default"


def _allowed(schema: Schema) -> str:
    said = []
    if "enum" in schema:
        said.append(", ".join(_code(str(value)) for value in schema["enum"]))
    # Times have a bound that no time reaches.
    if schema.get("format") != "date-time":
        said += [text for bound in _BOUNDS if (text := _bound(schema, *bound))]
    if "pattern" in schema:
        said.append(_code(schema["pattern"]))
    element = _element(schema)
    if element is not None and (inner := _allowed(element[1])):
        said.append(f"each: {inner}")
    return "; ".join(said)


def _bound(schema: Schema, least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    count = high if high is not None else low
    noun = "" if not unit else " " + (unit if count == 1 else _PLURALS.get(unit, unit + "s"))
    if high is None:
        return f"at least {low}{noun}"
    if low is None:
        return f"at most {high}{noun}"
    return f"{low} to {high}{noun}" if low != high else f"{low}{noun}"


def _sentence(schema: Schema) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _literal(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case "":
            return '""'
        case _:
            return str(value)


def _code(text: str) -> str:
    """Code in a cell of a table: a bar would end the cell, or show its backslash."""
    if "|" not in text:
        return f"`{text}`"
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(character, name)
    # Nor may Markdown find emphasis or links in it.
    for character in "*_[]\\`":
        text = text.replace(character, f"&#{ord(character)};")
    return f"<code>{text}</code>"


def _anchor(heading: str) -> str:
    """The name by which a heading is linked to."""
    kept = "".join(one for one in heading.lower() if one.isalnum() or one in "-_ ")
    return kept.replace(" ", "-")
