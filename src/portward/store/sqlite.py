"""SQLite: one file, one machine, one server.

Write-ahead log, foreign keys enforced. Writers begin with BEGIN IMMEDIATE, so a transaction that will write never
finds out late that it may not; readers with a plain BEGIN, which is one snapshot that no writer disturbs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

from portward.config import ConfigurationError
from portward.store.database import LOCK_TIMEOUT
from portward.store.errors import StoreError

#: SQLITE_BUSY and SQLITE_LOCKED.
_IN_THE_WAY = frozenset({5, 6})


class SQLite:
    """See ``Database``."""

    queues_writers = True

    def check(self, url: URL) -> URL:
        """A file is needed: each connection to a database in memory would have its own."""
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError("[database] url names no file: give sqlite:////PATH/portward.db")
        return url

    def prepare(self, url: URL) -> None:
        """Make the file's directory, for its owner alone."""
        directory = Path(str(url.database)).parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the database's directory {directory} cannot be made: {error.strerror}") from error

    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    def configure(self, connection: Any) -> None:
        """Leave transactions to us (the driver would begin them too late), and set what SQLite keeps a connection."""
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {LOCK_TIMEOUT * 1000}",
            "journal_mode = WAL",
            "synchronous = NORMAL",  # with WAL: a power cut may lose the last commits, and never damages the file
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(self, connection: Connection, *, writes: bool) -> None:
        """Writers take the write lock at once."""
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def among(self, key: InstrumentedAttribute[Any], values: Sequence[str]) -> ColumnElement[bool]:
        """One parameter a value."""
        return key.in_(values)

    def lost(self, error: DBAPIError) -> bool:
        """SQLITE_BUSY and SQLITE_LOCKED, in any of their extended forms."""
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in _IN_THE_WAY

    def lock_upgrade(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE did it."""

    def unlock_upgrade(self, connection: Connection) -> None:
        """The commit did it."""

    def half_upgraded(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Never: tables are made in the transaction."""
        return False
