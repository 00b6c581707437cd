"""PostgreSQL, with driver psycopg 3.

Readers: REPEATABLE READ READ ONLY, one snapshot. Writers: READ COMMITTED. Under REPEATABLE READ the first statement,
which locks the row of ``state``, would take the snapshot before it waits, and fail if it had to; under READ COMMITTED
all that is read after the lock sees what the transaction before it committed.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import IsolationLevel
from sqlalchemy import ARRAY, URL, ColumnElement, Connection, Text, any_, literal, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

from portward.config import ConfigurationError
from portward.store.database import CONNECT_TIMEOUT, LOCK_TIMEOUT, UPGRADE_TIMEOUT

#: serialization_failure, deadlock_detected, lock_not_available.
_IN_THE_WAY = frozenset({"40001", "40P01", "55P03"})
#: Any number that no other program in the same database uses.
_UPGRADE_LOCK = 0x706F727477617264


class PostgreSQL:
    """See ``Database``."""

    queues_writers = False

    def check(self, url: URL) -> URL:
        """The driver is psycopg 3, and the database is named."""
        if not url.database:
            raise ConfigurationError("[database] url names no database: give postgresql://USER:PASSWORD@HOST/DATABASE")
        return url.set(drivername="postgresql+psycopg")

    def prepare(self, url: URL) -> None:
        """The operator makes the database."""

    def options(self) -> dict[str, Any]:
        """A connection that a restarted server closed is replaced when it is taken from the pool."""
        return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_TIMEOUT}}

    def configure(self, connection: Any) -> None:
        """Wait for locks no longer than needed."""
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}s'")
        connection.commit()

    def begin(self, connection: Connection, *, writes: bool) -> None:
        """Tell the driver what its BEGIN, sent with the first statement, is to say; this asks the server nothing."""
        driver: Any = connection.connection.dbapi_connection
        driver = getattr(driver, "driver_connection", driver)
        driver.isolation_level = IsolationLevel.READ_COMMITTED if writes else IsolationLevel.REPEATABLE_READ
        driver.read_only = not writes

    def among(self, key: InstrumentedAttribute[Any], values: Sequence[str]) -> ColumnElement[bool]:
        """One parameter: a thousand cost psycopg ten milliseconds before the statement is sent."""
        return key == any_(literal(list(values), ARRAY(Text)))

    def lost(self, error: DBAPIError) -> bool:
        """Serialisation failure, deadlock, or lock timeout."""
        return getattr(error.orig, "sqlstate", None) in _IN_THE_WAY

    def lock_upgrade(self, connection: Connection) -> None:
        """An advisory lock until the end of the transaction."""
        connection.execute(text(f"SET LOCAL lock_timeout = '{UPGRADE_TIMEOUT}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})

    def unlock_upgrade(self, connection: Connection) -> None:
        """The commit did it."""

    def half_upgraded(self, error: DBAPIError) -> bool:  # noqa: ARG002
        """Never: tables are made in the transaction."""
        return False
