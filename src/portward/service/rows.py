"""What all resources have in common: to be seen, found, listed, made, changed, deleted, and counted as changed.

Whose objects a caller sees is decided here and nowhere else: all of them an admin, else those of the caller's own
project and those that are shared. What is not seen is not there (404). Refused here: what a caller may do with what
is seen; that is decided by whoever lets callers in.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, Select, delete, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from portward.model import InvalidValue, check_id
from portward.service.context import Context
from portward.service.errors import NotFound
from portward.store import among
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule, Port, ResourceTag

AnyRow = FirewallRule | FirewallPolicy | FirewallGroup | AddressGroup | Port
Row = TypeVar("Row", FirewallRule, FirewallPolicy, FirewallGroup, AddressGroup, Port)
#: Ids in one statement; databases bound the number of its parameters (SQLite: 32,766).
BATCH = 10_000


@dataclass(frozen=True)
class Page:
    """Which of the rows that the caller sees, in what order, and how many at most. Ties are broken by id."""

    where: Sequence[ColumnElement[bool]] = ()  # all must hold
    order_by: Sequence[ColumnElement[Any]] = ()
    limit: int | None = None


class Narrow(Protocol):
    """What a caller sees less of than the service says, by the operator's wish: conditions on a table."""

    def __call__(
        self, table: type[FirewallRule] | type[FirewallPolicy] | type[FirewallGroup] | type[AddressGroup]
    ) -> Sequence[ColumnElement[bool]]:
        """All of them must hold."""


#: Everything that the caller sees.
ALL = Page()


def may_see(context: Context, project_id: str, *, shared: bool) -> bool:
    """Whether the caller sees an object of this project."""
    return context.is_admin or (context.project_id != "" and (shared or project_id == context.project_id))


def find(session: Session, context: Context, table: type[Row], id_: str, missing: type[NotFound]) -> Row:
    """The row ``id_`` of ``table``.

    Raises:
        NotFound: an error of class ``missing``; also for an id that is no UUID, and for a row that the caller does
            not see.
    """
    try:
        row = session.get(table, check_id(id_))
    except InvalidValue:
        row = None
    if row is None or not may_see(context, row.project_id, shared=getattr(row, "shared", False)):
        raise missing(id_)
    return row


def listed(session: Session, context: Context, table: type[Row], page: Page) -> Sequence[Row]:
    """The rows of ``table`` on the page, in one statement."""
    query = select(table).where(*visible(context, table), *page.where).order_by(*page.order_by, table.id)
    return session.scalars(query.limit(page.limit)).all()


def project_of(context: Context, values: msgspec.Struct) -> str:
    """The project of a new object with ``values``: the one they name, else the caller's."""
    named = getattr(values, "project_id", msgspec.UNSET)
    return context.project_id if named is msgspec.UNSET else str(named)


def add(session: Session, context: Context, table: type[Row], values: msgspec.Struct) -> Row:
    """A new row with ``values``, the tables' defaults for what they leave out, and the standard attributes."""
    row = table(id=str(uuid4()), project_id=context.project_id, created_at=context.now, updated_at=context.now)
    if isinstance(row, FirewallGroup):
        row.changed_at = context.now
    assign(row, values)
    session.add(row)
    session.flush()
    return row


def assign(row: AnyRow, values: msgspec.Struct) -> set[str]:
    """Set the columns that ``values`` holds; returns the names of those that were different."""
    changed = set()
    columns = row.__table__.columns
    for name in given(values):
        value = getattr(values, name)
        if name in columns and getattr(row, name) != value:
            setattr(row, name, value)
            changed.add(name)
    return changed


def given(values: msgspec.Struct) -> set[str]:
    """The names of what ``values`` holds."""
    return {name for name in values.__struct_fields__ if getattr(values, name) is not msgspec.UNSET}


def touch(row: AnyRow, context: Context) -> None:
    """Count a change of the row's attributes that its users see."""
    row.revision_number += 1
    row.updated_at = context.now


def delete_rows(session: Session, table: type[Row], ids: Collection[str]) -> None:
    """Delete these rows and their tags; what refers to them must be gone."""
    for batch in batches(ids):
        session.execute(delete(ResourceTag).where(ResourceTag.resource_id.in_(batch)))
        session.execute(delete(table).where(table.id.in_(batch)))


def select_in(
    session: Session, query: Select[*tuple[Any, ...]], key: InstrumentedAttribute[Any], ids: Iterable[str]
) -> list[Any]:
    """What ``query`` finds where ``key`` is one of ``ids``; one statement for each 10,000 ids, none for none."""
    rows: list[Any] = []
    for batch in batches(ids):
        rows += session.execute(query.where(among(session, key, batch))).all()
    return rows


def batches(ids: Iterable[str]) -> Iterable[Sequence[str]]:
    """``ids`` in parts that a statement can take."""
    ids = list(ids)
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def visible(context: Context, table: type[Row]) -> list[ColumnElement[bool]]:
    """``may_see`` as a condition on ``table``."""
    if context.is_admin:
        return []
    if context.project_id == "":
        return [false()]
    own: ColumnElement[bool] = table.project_id == context.project_id
    return [own if issubclass(table, Port) else or_(own, table.shared)]
