"""From a database URL to an engine whose transactions are what the rest of Portward counts on.

What differs between databases is in ``store.{sqlite,postgresql,mariadb}``. What it refuses: any other database, and
any other driver; and to tell a password.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import InstrumentedAttribute, Session

from portward.config import ConfigurationError
from portward.store.database import Database
from portward.store.mariadb import MariaDB
from portward.store.postgresql import PostgreSQL
from portward.store.sqlite import SQLite

#: Connections kept open, and how many more under load: together above the API's number of worker threads.
_POOL_SIZE, _POOL_OVERFLOW = 10, 50
_DATABASES: dict[str, type[Database]] = {
    "sqlite": SQLite,
    "sqlite+pysqlite": SQLite,
    "postgresql": PostgreSQL,
    "postgresql+psycopg": PostgreSQL,
    "mariadb": MariaDB,
    "mariadb+pymysql": MariaDB,
    "mysql": MariaDB,
    "mysql+pymysql": MariaDB,
}
_FORMS = (
    "sqlite:////PATH/portward.db, postgresql://USER:PASSWORD@HOST/DATABASE, or mariadb://USER:PASSWORD@HOST/DATABASE"
)


def make_engine(url: str) -> Engine:
    """An engine for the database ``url``; a SQLite file's directory is made (0700) if it is missing.

    Transactions of a connection with execution option ``writes`` true begin as writers, others as readers.

    Raises:
        ConfigurationError: no URL of a database that Portward can use.
        StoreError: its directory cannot be made.
    """
    database, parsed = parse(url)
    database.prepare(parsed)

    def configure(connection: Any, _record: Any) -> None:
        database.configure(connection)

    def begin(connection: Connection) -> None:
        database.begin(connection, writes=bool(connection.get_execution_options().get("writes", False)))

    engine = create_engine(
        parsed, pool_size=_POOL_SIZE, max_overflow=_POOL_OVERFLOW, hide_parameters=True, **database.options()
    )
    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    return engine


def without_password(url: str) -> str:
    """``[database] url`` as it may be shown.

    Raises:
        ConfigurationError: no URL of a database that Portward can use.
    """
    return str(parse(url)[1])


def parse(url: str) -> tuple[Database, URL]:
    """``[database] url``, taken apart; printed, it hides its password.

    Raises:
        ConfigurationError: no URL of a database that Portward can use.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"[database] url is no URL of a database: give {_FORMS}") from None
    if parsed.drivername not in _DATABASES:
        raise ConfigurationError(f"[database] url: {parsed.drivername} is no database that is known: give {_FORMS}")
    database = _DATABASES[parsed.drivername]()
    return database, database.check(parsed)


def among(session: Session, key: InstrumentedAttribute[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """Condition: ``key`` is one of ``values``, as the database of ``session`` reads it fastest."""
    return _DATABASES[session.get_bind().dialect.name]().among(key, values)
