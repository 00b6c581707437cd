"""The service on each database."""

from collections.abc import Iterator

import pytest

from servers.fixtures import empty
from unit.service.world import World


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    empty(database_url)
    made = World(database_url)
    yield made
    made.store.close()
