"""Brings a database to the tables that this release knows.

Run by ``portward db upgrade``, and by the server at its start. What it refuses: a database of a newer release, or
one that is damaged or cannot be written; each is a ``StoreError`` that says so, and the database is left as it is.
Replicas that start at once upgrade one after the other.
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

from portward.store.database import Database
from portward.store.engine import make_engine, parse
from portward.store.errors import StoreError, TablesMissing
from portward.store.sqlite import SQLite
from portward.store.tables import State


def upgrade(url: str, *, to: str = "head") -> str:
    """Build or change the tables of the database ``url`` up to revision ``to``; returns the revision it has then.

    All or nothing, save on MariaDB and MySQL, which cannot take back a table: there a step that died half-way is
    recognised and named.

    Raises:
        ConfigurationError: ``url`` is none.
        StoreError: no such database can be used; the message says why.
    """
    database, parsed = parse(url)
    with _writing(url, database, str(parsed)) as connection:
        config = _config(connection)
        _known_revision(connection, str(parsed))
        command.upgrade(config, to)
        _check_state(connection, str(parsed))
        return str(_revision(connection, str(parsed)))


def check_revision(url: str) -> None:
    """Make sure, without changing anything, that the database ``url`` is there with the tables of this release.

    Raises:
        ConfigurationError: ``url`` is none.
        TablesMissing: an upgrade would make it so.
        StoreError: it is not; the message says why.
    """
    database, parsed = parse(url)
    shown = str(parsed)
    if isinstance(database, SQLite):
        file = str(parsed.database)
        if not Path(file).exists():
            raise TablesMissing(f"the database {shown} is not there yet")
        # Not make_engine: that would make the file's directory, and change how the file is kept.
        looking = URL.create("sqlite", database=f"file:{quote(file)}", query={"uri": "1", "mode": "ro"})
        engine = create_engine(looking)
    else:
        engine = make_engine(url)
    try:
        with engine.connect() as connection:
            current = _known_revision(connection, shown)
            head = ScriptDirectory.from_config(_config(connection)).get_current_head()
            if current is None:
                raise TablesMissing(f"the database {shown} has no tables yet")
            if current != head:
                raise TablesMissing(f"the database {shown} has revision {current}, this release has {head}")
            _check_state(connection, shown)
    except DatabaseError as error:
        raise StoreError(f"the database {shown} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()


def _known_revision(connection: Connection, url: str) -> str | None:
    """The revision, which is one of this release's; ``None``: there are no tables."""
    current = _revision(connection, url)
    scripts = ScriptDirectory.from_config(_config(connection))
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(
            f"the database {url} has revision {current}, which this release does not know: "
            "a newer Portward made it. Install that one, or restore a backup"
        )
    return current


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
def _writing(url: str, database: Database, shown: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with engine.execution_options(writes=True).connect() as connection:
            with connection.begin():
                database.lock_upgrade(connection)
                yield connection
            database.unlock_upgrade(connection)
    except DatabaseError as error:
        if database.half_upgraded(error):
            raise StoreError(
                f"an upgrade of the database {shown} died in its middle, and cannot be resumed ({error.orig}): "
                "restore a backup, or drop and create the database anew if it held nothing"
            ) from error
        advice = (
            "Is it a SQLite file, whole, and writable with its directory by this user?"
            if isinstance(database, SQLite)
            else "Does the server run, is the database there, and may this user make tables in it?"
        )
        raise StoreError(
            f"the database {shown} cannot be used: {error.orig}. {advice} "
            "If it is damaged, restore a backup; hosts keep enforcing what they have"
        ) from error
    finally:
        engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
