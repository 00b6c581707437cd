"""A database of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portward.store import Store, upgrade


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/portward.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    upgrade(url)
    store = Store(url)
    yield store
    store.close()
