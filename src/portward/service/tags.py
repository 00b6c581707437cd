"""Tags: words that users put on resources of any kind, to find them by.

They decide no packet and say nothing of a policy's content: a change of tags counts as a change of the resource, but
concerns no host and leaves ``audited`` alone. Refused here: what a tag may look like.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from portward.service.context import Context
from portward.service.default_group import protect
from portward.service.errors import TagNotFound
from portward.service.rows import AnyRow, Row, select_in, touch
from portward.store.tables import ResourceTag


def tags_of(session: Session, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The tags of each of the resources ``ids`` that bears any, sorted; one statement."""
    found: dict[str, list[str]] = {}
    query = select(ResourceTag.resource_id, ResourceTag.tag)
    for id_, tag in select_in(session, query, ResourceTag.resource_id, ids):
        found.setdefault(id_, []).append(tag)
    return {id_: tuple(sorted(tags)) for id_, tags in found.items()}


def list_tags(session: Session, row: AnyRow) -> tuple[str, ...]:
    """The tags of the resource, sorted."""
    return tags_of(session, [row.id]).get(row.id, ())


def replace_tags(session: Session, context: Context, row: AnyRow, tags: Iterable[str]) -> tuple[str, ...]:
    """Let the resource bear these tags and no others; returns them, sorted.

    Raises:
        FirewallDefaultObjectUpdateRestricted: a default object, and the caller is no admin.
    """
    protect(row, context)
    old, new = set(list_tags(session, row)), set(tags)
    if old != new:
        if gone := old - new:
            of_row = ResourceTag.resource_id == row.id
            session.execute(delete(ResourceTag).where(of_row, ResourceTag.tag.in_(gone)))
        if came := sorted(new - old):
            session.execute(insert(ResourceTag), [{"resource_id": row.id, "tag": tag} for tag in came])
        touch(row, context)
    return tuple(sorted(new))


def add_tags(session: Session, context: Context, row: AnyRow, tags: Iterable[str]) -> tuple[str, ...]:
    """Let the resource bear these tags too; returns all that it bears, sorted.

    Raises:
        FirewallDefaultObjectUpdateRestricted: a default object, and the caller is no admin.
    """
    return replace_tags(session, context, row, {*list_tags(session, row), *tags})


def remove_tag(session: Session, context: Context, row: AnyRow, tag: str) -> None:
    """Take the tag off the resource.

    Raises:
        TagNotFound: it does not bear it.
        FirewallDefaultObjectUpdateRestricted: a default object, and the caller is no admin.
    """
    old = list_tags(session, row)
    if tag not in old:
        raise TagNotFound(tag)
    replace_tags(session, context, row, [one for one in old if one != tag])


def remove_tags(session: Session, context: Context, row: AnyRow) -> None:
    """Take all tags off the resource.

    Raises:
        FirewallDefaultObjectUpdateRestricted: a default object, and the caller is no admin.
    """
    replace_tags(session, context, row, ())


def with_tags(table: type[Row], tags: Collection[str], *, every: bool) -> ColumnElement[bool]:
    """Condition on ``table``: to bear every one of these tags, else any one of them."""
    wanted = set(tags)
    bearers = select(ResourceTag.resource_id).where(ResourceTag.tag.in_(wanted))
    if every:
        bearers = bearers.group_by(ResourceTag.resource_id).having(func.count() == len(wanted))
    return table.id.in_(bearers)
