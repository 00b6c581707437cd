"""A database in memory with the tables in it, and rows made in one line, for tests of the services."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from portward.store import tables

#: What ``now`` is in these tests: without a zone, as the database keeps times.
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).replace(tzinfo=None)


def uuid(number: int) -> str:
    """A readable id."""
    return str(UUID(int=number))


def empty_database(generation: int = 10) -> Session:
    """A session on a fresh database whose generation is ``generation``."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    tables.Base.metadata.create_all(engine)
    session = Session(engine)
    session.add(tables.State(id=1, generation=generation))
    session.commit()
    return session


def _standard(id_: str) -> dict[str, Any]:
    return {"id": id_, "project_id": "p", "created_at": NOW, "updated_at": NOW}


def add_rule(session: Session, number: int, **attributes: Any) -> str:
    """A rule, ``allow`` unless told otherwise."""
    session.add(tables.FirewallRule(**_standard(uuid(number)), **{"action": "allow", **attributes}))
    session.flush()
    return uuid(number)


def add_policy(session: Session, number: int, *, rules: tuple[str, ...] = (), version: int = 1) -> str:
    """A policy of these rules, in this order."""
    session.add(tables.FirewallPolicy(**_standard(uuid(number)), version=version))
    session.flush()
    for position, rule in enumerate(rules):
        session.add(tables.PolicyRule(policy_id=uuid(number), rule_id=rule, position=position))
    session.flush()
    return uuid(number)


def add_port(session: Session, number: int, *, host: str = "h1", **attributes: Any) -> str:
    """A router port of ``host``."""
    owned = {"device_owner": "network:router_interface", "device_id": uuid(900), **attributes}
    session.add(tables.Port(**_standard(uuid(number)), host=host, **owned))
    session.flush()
    return uuid(number)


def add_group(session: Session, number: int, *, ports: tuple[str, ...] = (), **attributes: Any) -> str:
    """A group that covers ``ports``, changed last at generation 10 and time ``NOW`` unless told otherwise."""
    values = {"generation": 10, "changed_at": NOW, **attributes}
    session.add(tables.FirewallGroup(**_standard(uuid(number)), **values))
    session.flush()
    for position, port in enumerate(ports):
        session.add(tables.GroupPort(group_id=uuid(number), port_id=port, position=position))
    session.flush()
    return uuid(number)


@contextmanager
def counted_statements(session: Session) -> Iterator[list[str]]:
    """The SQL that is sent inside the block."""
    engine = session.get_bind()
    assert isinstance(engine, Engine)
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)
