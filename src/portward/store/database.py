"""What a kind of database must say for itself: all that differs between them stands behind this protocol."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import URL, ColumnElement, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

#: Seconds until a connection to a server is given up.
CONNECT_TIMEOUT = 5
#: Seconds that a statement waits for a lock of another transaction.
LOCK_TIMEOUT = 5
#: Seconds that an upgrade waits for another replica's.
UPGRADE_TIMEOUT = 120


class Database(Protocol):
    """SQLite, PostgreSQL, or MariaDB and MySQL."""

    #: Writers of one process wait for each other in the process, as the database itself would let them poll.
    queues_writers: bool

    def check(self, url: URL) -> URL:
        """``url`` with the driver that Portward uses.

        Raises:
            ConfigurationError: it names no database.
        """

    def prepare(self, url: URL) -> None:
        """Make what must be there before a first connection.

        Raises:
            StoreError: it cannot be made.
        """

    def options(self) -> dict[str, Any]:
        """Arguments of ``create_engine``."""

    def configure(self, connection: Any) -> None:
        """Set up a new connection of the driver."""

    def begin(self, connection: Connection, *, writes: bool) -> None:
        """Begin a transaction: one snapshot of all reads, or a writer that sees what is committed when it looks."""

    def among(self, key: InstrumentedAttribute[Any], values: Sequence[str]) -> ColumnElement[bool]:
        """Condition: ``key`` is one of ``values``."""

    def lost(self, error: DBAPIError) -> bool:
        """Whether another transaction was in the way, so that trying again may help."""

    def lock_upgrade(self, connection: Connection) -> None:
        """Wait until no other process upgrades this database, and keep it so until the transaction or ``unlock``.

        Raises:
            StoreError: another does for longer than ``UPGRADE_TIMEOUT``.
        """

    def unlock_upgrade(self, connection: Connection) -> None:
        """Let others upgrade; called after the commit."""

    def half_upgraded(self, error: DBAPIError) -> bool:
        """Whether an upgrade failed since another one had died in its middle."""
