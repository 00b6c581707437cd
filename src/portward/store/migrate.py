"""Brings a database to the tables that this release knows.

Run by ``portward db upgrade``, and by the server at its start. What it refuses: a database of a newer release, or
one that is damaged or cannot be written; each is a ``StoreError`` that says so, and the file is left as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, create_engine, select
from sqlalchemy.exc import DatabaseError

from portward.store.engine import make_engine, sqlite_url
from portward.store.errors import StoreError
from portward.store.tables import State


def upgrade(url: str) -> str:
    """Build or change the tables of the database ``url``, all or nothing; returns the revision it has then.

    Raises:
        ConfigurationError: ``url`` is none.
        StoreError: no such database can be used; the message says why.
    """
    with _writing(url) as connection:
        config = _config(connection)
        scripts = ScriptDirectory.from_config(config)
        current = _revision(connection, url)
        if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreError(
                f"the database {url} has revision {current}, which this release does not know: "
                "a newer Portward made it. Install that one, or restore a backup"
            )
        command.upgrade(config, "head")
        _check_state(connection, url)
        return str(scripts.get_current_head())


def check_revision(url: str) -> None:
    """Make sure, without changing anything, that the database ``url`` is there with the tables of this release.

    Raises:
        ConfigurationError: ``url`` is none.
        StoreError: it is not; the message says what to do.
    """
    file = sqlite_url(url).database
    if not Path(str(file)).exists():
        raise StoreError(f"the database {url} is not there yet")
    engine = create_engine(URL.create("sqlite", database=f"file:{quote(str(file))}", query={"uri": "1", "mode": "ro"}))
    try:
        with engine.connect() as connection:
            current = _revision(connection, url)
            head = ScriptDirectory.from_config(_config(connection)).get_current_head()
            if current != head:
                raise StoreError(f"the database {url} has revision {current}, this release has {head}")
            _check_state(connection, url)
    except DatabaseError as error:
        raise StoreError(f"the database {url} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()


def _revision(connection: Connection, url: str) -> str | None:
    try:
        return MigrationContext.configure(connection).get_current_revision()
    except CommandError as error:
        raise StoreError(f"the database {url} is damaged, restore a backup: {error}") from error


def _check_state(connection: Connection, url: str) -> None:
    """Without its one row of ``state`` no change could ever be stored."""
    if connection.scalar(select(State.id).where(State.id == 1)) is None:
        raise StoreError(f"the database {url} is damaged, restore a backup: its table state is empty")


@contextmanager
def _writing(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with engine.execution_options(writes=True).begin() as connection:
            yield connection
    except DatabaseError as error:
        raise StoreError(
            f"the database {url} cannot be used: {error.orig}. Is it a SQLite file, whole, and writable with its "
            "directory by this user? If it is damaged, restore a backup; hosts keep enforcing what they have"
        ) from error
    finally:
        engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
