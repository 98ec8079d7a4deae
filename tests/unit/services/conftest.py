"""What most tests of a pass begin with."""

from __future__ import annotations

import pytest

from tests.unit.services.world import World, at_its_gate


@pytest.fixture
def world() -> World:
    """A workflow at its gate, and a request for it; a module may have a `world` of its own."""
    return at_its_gate()
