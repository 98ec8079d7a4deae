"""The common ground of the models: the types of their fields, reading and writing JSON.

The models mirror the schemas in ``crds/``. Where the API server is lenient (it drops a null, it
counts code points, it takes 5.0 for an integer) so are they; unknown fields are ignored, as the
server prunes them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import pydantic
from pydantic.alias_generators import to_camel

from resumer import errors, names
from resumer.api import constants

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""

LABEL_VALUE: Final = rf"^{names.LABEL_VALUE}$"
"""A label value that is not empty, 1 to 63 characters."""

DNS_SUBDOMAIN: Final = rf"^{names.DNS_SUBDOMAIN}$"
"""The name of an object."""

QUALIFIED_NAME: Final = (
    rf"^({names.DNS_SUBDOMAIN}/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
"""A label key: an optional DNS prefix with a slash, then at most 63 characters."""

PARAMETER_NAME: Final = r"^[a-zA-Z0-9_-]+$"
"""Argo's grammar of a parameter name."""

_MAX_PREFIX: Final = 253


class ApiModel(pydantic.BaseModel):
    """Base of all objects of the API: frozen, camelCase outside, snake_case inside."""

    model_config = pydantic.ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: object) -> object:
        """The API server treats a null in a field that is not nullable as an absent field."""
        return drop_nulls(data)

    def to_json(self) -> dict[str, Any]:
        """The object as it stands in a manifest; None, empty lists and empty maps are left out."""
        whole = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: value for key, value in whole.items() if value not in ([], {})}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read what the API server sent.

        Args:
            raw: The decoded JSON. It is not kept, but free-form parts of it are.

        Raises:
            errors.InvalidError: A field is missing or out of bounds; it names the first
                such field. Objects admitted by the schema of this release never raise it.
        """
        try:
            return cls.model_validate(raw, by_alias=True, by_name=False)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field = _path(first["loc"])
            rest = error.error_count() - 1
            more = f" (and {rest} more)" if rest else ""
            raise errors.InvalidError(
                field, f"{field}: {first['msg'].removeprefix('Value error, ')}{more}"
            ) from None


def drop_nulls(data: object) -> object:
    """A mapping without its null values, not looking into nested ones; else what was given."""
    if isinstance(data, Mapping):
        return {key: value for key, value in data.items() if value is not None}
    return data


def rfc3339(moment: datetime.datetime) -> str:
    """A moment in UTC with a ``Z``; microseconds stand only where there are any."""
    return moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat() + "Z"


def truncate(text: str, limit: int) -> str:
    """At most `limit` characters of a text; an ellipsis shows where it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def newer(one: str, other: str) -> bool:
    """Whether one resourceVersion is newer; they are ordered integers for Kubernetes itself."""
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other


def _path(location: tuple[int | str, ...]) -> str:
    """``("spec", "rules", 0, "field")`` as a person writes it: ``spec.rules[0].field``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":
            text += f".{part}" if text else part
    return text or "object"


def _whole(value: object) -> object:
    """5.0 is the integer 5 in JSON; true is not 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be an integer")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


def _text(value: object) -> object:
    """An integer stands for the string of its digits; 5.0 is none here."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
        raise ValueError(f"must be a string or an integer up to {MAX_SAFE_INTEGER}")
    return str(value)


def _no_template(value: str) -> str:
    if "{{" in value:
        raise ValueError("may not contain `{{`: a template was not rendered")
    return value


def _label_key(value: str) -> str:
    prefix, slash, _ = value.partition("/")
    if slash and len(prefix) > _MAX_PREFIX:
        raise ValueError(f"the part before the slash may have at most {_MAX_PREFIX} characters")
    return value


def _moment(value: object) -> object:
    """Times are strings on the wire; pydantic would take a number, and a date, too."""
    if not isinstance(value, str | datetime.datetime):
        raise ValueError("must be a time in RFC 3339 form")
    return value


Text = pydantic.StrictStr
"""A string; a number is not one."""

Flag = pydantic.StrictBool
"""true or false; neither 1 nor "true"."""

Integer = Annotated[int, pydantic.BeforeValidator(_whole)]
"""A JSON integer."""

Number = Annotated[float, pydantic.BeforeValidator(_number)]
"""A JSON number."""

IntOrText = Annotated[str, pydantic.BeforeValidator(_text)]
"""A string, or an integer that means the string of its digits."""

LabelValue = Annotated[
    Text,
    pydantic.StringConstraints(min_length=1, max_length=63, pattern=LABEL_VALUE),
]
"""A label value that is not empty."""

LabelKey = Annotated[
    Text,
    pydantic.StringConstraints(min_length=1, max_length=317, pattern=QUALIFIED_NAME),
    pydantic.AfterValidator(_label_key),
]
"""A label key."""

LabelValueOrEmpty = Annotated[
    Text,
    pydantic.StringConstraints(max_length=63, pattern=rf"^({LABEL_VALUE[1:-1]})?$"),
]
"""A label value as Kubernetes allows it: it may be empty."""

ObjectName = Annotated[
    Text,
    pydantic.StringConstraints(min_length=1, max_length=names.MAX_NAME, pattern=DNS_SUBDOMAIN),
]
"""The name of an object."""

ParameterName = Annotated[
    Text,
    pydantic.StringConstraints(min_length=1, max_length=128, pattern=PARAMETER_NAME),
]
"""The name of a parameter of Argo's."""

NoTemplate = pydantic.AfterValidator(_no_template)
"""A marker for `typing.Annotated`: two opening braces are refused."""

Moment = Annotated[
    pydantic.AwareDatetime,
    pydantic.BeforeValidator(_moment),
    pydantic.PlainSerializer(rfc3339, return_type=str),
]
"""A moment with its time zone; on the wire RFC 3339 in UTC."""


class ObjectMeta(ApiModel):
    """The few fields of ``metadata`` that decisions are made on, and the annotations for traces."""

    name: Text = ""
    namespace: Text = ""
    uid: Text = ""
    resource_version: Text = ""
    generation: Integer = 0
    creation_timestamp: Moment | None = None
    deletion_timestamp: Moment | None = None
    annotations: dict[Text, Text] = pydantic.Field(default_factory=dict)
    """Those for traces only: with all of them an object may be 256 KiB larger in memory."""

    @pydantic.field_validator("annotations", mode="before")
    @classmethod
    def _for_traces(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        ours = (constants.TRACEPARENT, constants.TRACESTATE)
        return {name: value[name] for name in ours if name in value}
