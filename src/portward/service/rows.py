"""What all resources have in common: to be found, made, changed, and counted as changed."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from portward.model import InvalidValue, check_id
from portward.service.context import Context
from portward.service.errors import NotFound
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, Port

_Row = TypeVar("_Row", FirewallRule, FirewallPolicy, FirewallGroup, Port)
#: Conditions that rows must all meet, on columns of ``store.tables``.
Where = Sequence[ColumnElement[bool]]
#: Ids in one statement; databases bound the number of its parameters (SQLite: 32,766).
_BATCH = 10_000


def find(session: Session, table: type[_Row], id_: str, missing: type[NotFound]) -> _Row:
    """The row ``id_`` of ``table``.

    Raises:
        NotFound: an error of class ``missing``; also for an id that is no UUID.
    """
    try:
        row = session.get(table, check_id(id_))
    except InvalidValue:
        row = None
    if row is None:
        raise missing(id_)
    return row


def add(session: Session, context: Context, table: type[_Row], values: msgspec.Struct) -> _Row:
    """A new row with ``values``, the tables' defaults for what they leave out, and the standard attributes."""
    row = table(id=str(uuid4()), project_id=context.project_id, created_at=context.now, updated_at=context.now)
    if isinstance(row, FirewallGroup):
        row.changed_at = context.now
    assign(row, values)
    session.add(row)
    session.flush()
    return row


def assign(row: FirewallRule | FirewallPolicy | FirewallGroup | Port, values: msgspec.Struct) -> set[str]:
    """Set the columns that ``values`` holds; returns the names of those that were different."""
    changed = set()
    columns = row.__table__.columns
    for name in values.__struct_fields__:
        value = getattr(values, name)
        if value is not msgspec.UNSET and name in columns and getattr(row, name) != value:
            setattr(row, name, value)
            changed.add(name)
    return changed


def touch(row: FirewallRule | FirewallPolicy | FirewallGroup | Port, context: Context) -> None:
    """Count a change of the row's attributes that its users see."""
    row.revision_number += 1
    row.updated_at = context.now


def select_in(
    session: Session, columns: Sequence[InstrumentedAttribute[Any]], key: InstrumentedAttribute[str], ids: Iterable[str]
) -> list[Any]:
    """The ``columns`` of the rows whose ``key`` is one of ``ids``; one statement for each 10,000 ids."""
    rows: list[Any] = []
    for batch in _batches(ids):
        rows += session.execute(select(*columns).where(key.in_(batch))).all()
    return rows


def first_missing(wanted: Iterable[str], there: Collection[str]) -> str | None:
    """The first of ``wanted`` that is not ``there``."""
    return next((id_ for id_ in wanted if id_ not in there), None)


def _batches(ids: Iterable[str]) -> Iterable[Sequence[str]]:
    ids = list(ids)
    return (ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
