"""What a resource of the API is, and the attributes that all of them have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET
from sqlalchemy.orm import InstrumentedAttribute

from portward.api import converters as to
from portward.api import filters
from portward.api.attributes import Attribute, Filter, stored, timestamp
from portward.api.converter import Converter
from portward.api.schema import Schema
from portward.service.errors import NotFound
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule, Port

Table = type[FirewallRule] | type[FirewallPolicy] | type[FirewallGroup] | type[AddressGroup] | type[Port]
TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,]+$"}
#: The calls that set an attribute.
WRITING = frozenset({"create", "update"})


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource at ``path`` below ``/v2.0``; the functions take (session, context, ...) as in ``service``.

    ``find`` finds the row of an id, or raises ``missing``. ``has_defaults``: each project has default ones.
    """

    schema: Schema
    path: str
    table: Table
    missing: type[NotFound]
    has_defaults: bool
    find: Callable[..., Any]
    create: Callable[..., Any]
    get: Callable[..., Any]
    list: Callable[..., Sequence[Any]]
    update: Callable[..., Any]
    delete: Callable[..., None]


def leading(table: Table) -> list[Attribute]:
    """The attributes that every resource begins with."""
    return [
        stored(table.id, "UUID, given by the server"),
        stored(table.project_id, "Project that owns it; the caller's own if left out", to.string(36), default=UNSET,
               update=False),
        stored(table.project_id, "The same as `project_id`", to.string(36), default=UNSET, update=False,
               name="tenant_id"),
        stored(table.name, "Name, not necessarily unique", to.string(255), default=""),
        stored(table.description, "Text for people", to.string(255), default=""),
    ]  # fmt: skip


def trailing(table: Table) -> list[Attribute]:
    """The standard attributes that every resource ends with."""
    return [
        stored(table.revision_number, "Grows with each change; for `If-Match`", convert_filter=to.integer),
        timestamp(table.created_at, "When it was made, in UTC"),
        timestamp(table.updated_at, "When it was last changed, in UTC"),
        Attribute(
            name="tags",
            key="tags",
            description="Words that clients put on it, by the sub-resource `tags`",
            read=lambda view: view.tags,
            schema={"type": "array", "items": TAG},
            filter=filters.tags(table, every=True),
        ),
    ]


def more_filters(table: Table) -> dict[str, Filter]:
    """Filters of every list that are no attributes."""
    return {
        "tags-any": filters.tags(table, every=False),
        "not-tags": filters.tags(table, every=True, negated=True),
        "not-tags-any": filters.tags(table, every=False, negated=True),
    }


def boolean(column: InstrumentedAttribute[bool], description: str, *, default: bool) -> Attribute:
    """A boolean that everybody may set who may set the rest."""
    return stored(column, description, to.boolean, default=default, convert_filter=to.boolean)


def admins(column: InstrumentedAttribute[Any], description: str, convert: Converter[Any], *, default: Any) -> Attribute:
    """An attribute with a rule of its own that says who may set it to anything but ``default``."""
    return stored(column, description, convert, default=default, convert_filter=convert, guards=WRITING)


def shared(column: InstrumentedAttribute[bool]) -> Attribute:
    """``shared``: a rule of its own says who may set it."""
    return admins(column, "Whether all projects may see and use it", to.boolean, default=False)
