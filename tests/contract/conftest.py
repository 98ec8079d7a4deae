"""What the tests of the adapters share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract import faulty_server


@pytest.fixture
async def server() -> AsyncIterator[faulty_server.FaultyServer]:
    """A server that answers as the test plans."""
    async with faulty_server.serve() as made:
        yield made
