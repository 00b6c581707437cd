"""Fixtures that give a test real databases; tests/conftest.py makes them known to all tests.

A test, or a fixture, that takes ``database_url`` runs three times, on SQLite, PostgreSQL and MariaDB, on a database of
its module with all tables made. Tests of a module that write call ``empty(url)`` first, in a fixture of their own.
``blank_url`` is a new database without tables, for each test. The servers start when a test first asks for one, and
end with the session. A module that wants fewer: ``@pytest.mark.parametrize("database_url", ["postgresql"],
indirect=True)``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from portward.store import Store, upgrade
from portward.store.tables import Base, State
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL

DATABASES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The session's PostgreSQL server."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """The session's MariaDB server."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="module", params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database of this module, with all tables."""
    url = _new(request, tmp_path_factory.mktemp("database"))
    upgrade(url)
    return url


@pytest.fixture(params=DATABASES)
def blank_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of this test, without tables."""
    return _new(request, tmp_path / "database")


def _new(request: pytest.FixtureRequest, directory: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{directory}/portward.db"
    server: PostgreSQL | MariaDB = request.getfixturevalue(request.param)
    return server.create()


def empty(url: str) -> None:
    """Delete all rows of the database ``url``; the generation is 0 again."""
    store = Store(url)
    try:
        with store.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table is not State.__table__:
                    session.execute(delete(table))
            session.execute(update(State).values(generation=0))
    finally:
        store.close()
