"""MariaDB and MySQL, with driver PyMySQL.

Readers: REPEATABLE READ with the snapshot made at the start, READ ONLY. Writers: READ COMMITTED, so that all that is
read after the lock of ``state`` sees what the transaction before it committed; under REPEATABLE READ one read before
the lock would freeze all reads behind it. Text is utf8mb4 in a binary collation without padding: names are equal when
their characters are, case, accents and trailing spaces included.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

from portward.config import ConfigurationError
from portward.store.database import CONNECT_TIMEOUT, LOCK_TIMEOUT, UPGRADE_TIMEOUT
from portward.store.errors import StoreError

#: Record changed since the snapshot, lock wait timeout, deadlock.
_IN_THE_WAY = frozenset({1020, 1205, 1213})
#: Table exists, duplicate column, duplicate key name.
_THERE_ALREADY = frozenset({1050, 1060, 1061})
_SESSION = (
    f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT}, default_storage_engine = InnoDB, "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
)
_LOCK_NAME = "CONCAT('portward:', MD5(DATABASE()))"


class MariaDB:
    """See ``Database``."""

    queues_writers = False

    def check(self, url: URL) -> URL:
        """The driver is PyMySQL, and the database is named. SQLAlchemy's `mysql` finds out which of the two it is."""
        if not url.database:
            raise ConfigurationError("[database] url names no database: give mariadb://USER:PASSWORD@HOST/DATABASE")
        return url.set(drivername="mysql+pymysql").update_query_dict({"charset": "utf8mb4"})

    def prepare(self, url: URL) -> None:
        """The operator makes the database."""

    def options(self) -> dict[str, Any]:
        """A connection that a restarted server closed is replaced when it is taken from the pool."""
        return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_TIMEOUT}}

    def configure(self, connection: Any) -> None:
        """Nothing is left to the server's defaults: strict types, InnoDB, isolation."""
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def begin(self, connection: Connection, *, writes: bool) -> None:
        """``SET TRANSACTION`` is about the next transaction only."""
        if writes:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            connection.exec_driver_sql("START TRANSACTION READ WRITE")
        else:
            connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def among(self, key: InstrumentedAttribute[Any], values: Sequence[str]) -> ColumnElement[bool]:
        """One parameter a value."""
        return key.in_(values)

    def lost(self, error: DBAPIError) -> bool:
        """Deadlock, lock timeout, or a record that changed since the snapshot."""
        return _code(error) in _IN_THE_WAY

    def lock_upgrade(self, connection: Connection) -> None:
        """A lock of the connection, as making a table ends the transaction; and the collation of new tables."""
        taken = connection.scalar(text(f"SELECT GET_LOCK({_LOCK_NAME}, {UPGRADE_TIMEOUT})"))
        if taken != 1:
            raise StoreError("another process upgrades the database; try again when it is done")
        collation = "utf8mb4_nopad_bin" if connection.dialect.is_mariadb else "utf8mb4_0900_bin"  # type: ignore[attr-defined]
        if connection.scalar(text("SELECT @@collation_database")) != collation:
            connection.execute(text(f"ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {collation}"))

    def unlock_upgrade(self, connection: Connection) -> None:
        """The lock outlives the commit."""
        connection.execute(text(f"DO RELEASE_LOCK({_LOCK_NAME})"))

    def half_upgraded(self, error: DBAPIError) -> bool:
        """Something is there that the failed step was to make."""
        return _code(error) in _THERE_ALREADY


def _code(error: DBAPIError) -> object:
    return error.orig.args[0] if error.orig is not None and error.orig.args else None
