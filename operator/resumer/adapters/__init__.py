"""The only input and output of the package: the Kubernetes API, the clock and chance.

Each module implements one of `resumer.ports` or carries the calls for those that do. Foreign
errors become the classes of `resumer.errors` in `kube`, once; nothing above sees another.
"""

from __future__ import annotations
