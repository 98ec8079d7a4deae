"""What the tests of the chart get: Helm, and control planes of their own.

The cluster that other tests share is not theirs to install into: the definitions of the kinds are
cluster-wide, and an operator for all namespaces would work on everybody's requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.charts import plane as planes


@pytest.fixture(scope="session", autouse=True)
def _helm(built_helm: None) -> None:
    """Every test here renders the chart."""


@pytest.fixture(scope="module")
def plane(
    built_components: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[planes.Plane]:
    """A control plane of the module's own, without the kinds of Resumer."""
    with contextlib.closing(planes.Plane(tmp_path_factory.mktemp("plane"))) as made:
        yield made
