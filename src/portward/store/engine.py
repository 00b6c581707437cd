"""From a database URL to an engine whose transactions are what the rest of Portward counts on.

SQLite: write-ahead log, foreign keys enforced, writers begin with BEGIN IMMEDIATE (so a transaction that will
write never finds out late that it may not) and readers with a plain BEGIN, which is one consistent snapshot that
no writer disturbs. What it refuses: any other database, until one is supported and tested.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from portward.config import ConfigurationError
from portward.store.errors import StoreError

#: Milliseconds that a statement waits for another process's lock.
BUSY_TIMEOUT_MS = 5000
#: Connections kept open, and how many more under load: together above the API's number of worker threads.
_POOL_SIZE, _POOL_OVERFLOW = 10, 50


def make_engine(url: str) -> Engine:
    """An engine for the SQLite database ``url``, whose directory is made (0700) if it is missing.

    Transactions of a connection with execution option ``writes`` true begin as writers.

    Raises:
        ConfigurationError: no SQLite file URL.
        StoreError: its directory cannot be made.
    """
    parsed = sqlite_url(url)
    _make_directory(Path(str(parsed.database)).parent)
    engine = create_engine(parsed, pool_size=_POOL_SIZE, max_overflow=_POOL_OVERFLOW)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def sqlite_url(url: str) -> URL:
    """``[database] url``, taken apart.

    Raises:
        ConfigurationError: no SQLite file URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"[database] url {url!r} is no SQLAlchemy URL: give sqlite:////PATH/portward.db"
        ) from error
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite") or parsed.database in (None, "", ":memory:"):
        safe = parsed.render_as_string(hide_password=True)
        raise ConfigurationError(
            f"[database] url {safe}: the database is a SQLite file; give sqlite:////PATH/portward.db"
        )
    return parsed


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the database's directory {directory} cannot be made: {error.strerror}") from error


def _configure(connection: Any, _record: Any) -> None:
    """Leave transactions to us (the driver would begin them too late), and set what SQLite keeps a connection."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = NORMAL",  # with WAL: a power cut may lose the last commits, and never damages the file
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
