"""How a setting is spelled on the command line and in the environment: one rule for all of them.

A field ``metrics_port`` of `resumer.settings.Settings` is the option ``--metrics-port`` and the
variable ``RESUMER_METRICS_PORT``. A field that holds several values is an option in the singular,
given once for each.
"""

from __future__ import annotations

PREFIX = "RESUMER_"
"""What the name of each environment variable starts with."""

_SINGULAR = {"namespaces": "namespace"}


def flag(field: str) -> str:
    """The option that sets a field."""
    return "--" + _SINGULAR.get(field, field).replace("_", "-")


def negated(field: str) -> str:
    """The option that switches a field off."""
    return flag(field).replace("--", "--no-", 1)


def variable(field: str) -> str:
    """The environment variable that sets a field, where the option is not given."""
    return PREFIX + _SINGULAR.get(field, field).upper()


def spelled(field: str) -> str:
    """Both names, for a message to whoever set the field."""
    return f"{flag(field)} ({variable(field)})"
