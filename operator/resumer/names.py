"""What Kubernetes allows in names and labels, as regular expressions without anchors."""

from __future__ import annotations

from typing import Final

MAX_NAME: Final = 253
"""Characters in the name of an object, at most."""

DNS_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
"""A part of a name between dots; its length, 63 at most, is not checked by this."""

DNS_SUBDOMAIN: Final = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
"""The name of an object."""

LABEL_VALUE: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
"""A label's value that is not empty, and the part after the prefix of a label's key."""
