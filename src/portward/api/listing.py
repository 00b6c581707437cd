"""Lists as their query asks for them: filtered, sorted and paged by the database, with links to the pages around.

Pages are found by the values of the row that ``marker`` names, not by counting, so that no item is met twice or
missed because others come and go. The last key of every order is the id. NULL comes before everything else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, and_, case, false, literal, or_, select
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from portward.api.attributes import Attribute
from portward.api.authorisation import Authority
from portward.api.errors import BadLimit, HTTPBadRequest
from portward.api.resource import Resource
from portward.api.schema import Schema, convert_value
from portward.service.context import Context
from portward.service.errors import NotFound
from portward.service.rows import Page

_CONTROLS = frozenset({"fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"})
#: What a query may cost: a value of a filter is something to look up.
_MOST_PARAMETERS = 1000
#: No database has more rows, and each takes it for a limit.
_MOST = 2**31 - 1
_Key = tuple[ColumnElement[Any], bool]  # what to sort by, and whether downwards


@dataclass(frozen=True)
class Listing:
    """A list as its query asks for it. ``limit`` 0: all of it, whatever ``marker`` says."""

    filters: dict[str, list[Any]]
    sorts: tuple[tuple[Attribute, bool], ...]  # and whether downwards
    limit: int
    marker: str | None
    reverse: bool

    def page(self, session: Session, context: Context, resource: Resource, authority: Authority) -> Page | None:
        """The part of the list that is asked for; ``None``: the marker names nothing, so nothing comes after it."""
        schema = resource.schema
        where = [schema.filters[name].condition(values, context) for name, values in self.filters.items()]
        where += authority.where(
            f"get_{schema.singular}", resource.table.project_id, getattr(resource.table, "shared", None)
        )
        keys = self._keys(context, resource)
        if self.marker is not None and self.limit:
            values = _values(session, context, resource, authority, self.marker, keys)
            if values is None:
                return None
            where.append(_after(keys, values))
        order = [key.desc() if downwards else key.asc() for key, downwards in keys]
        return Page(where=where, order_by=order, limit=self.limit or None)

    def _keys(self, context: Context, resource: Resource) -> list[_Key]:
        keys: list[_Key] = []
        for attribute, downwards in self.sorts:
            if attribute.key == "id":
                keys.append((resource.table.id.expression, downwards))
                break  # what comes after an id decides nothing
            assert attribute.sort is not None
            value = attribute.sort(context)
            keys += [(case((value.is_(None), 0), else_=1), downwards), (value, downwards)]
        else:
            keys.append((resource.table.id.expression, False))
        return [(key, downwards != self.reverse) for key, downwards in keys]


def parse_listing(schema: Schema, query: QueryParams) -> Listing:
    """What ``query`` asks of a list.

    Raises:
        BadRequest: a key that is no filter, or a value that its attribute cannot have.
    """
    names = [name for name in dict.fromkeys(query.keys()) if name not in _CONTROLS]
    if unknown := [name[:255] for name in names if name not in schema.filters]:
        raise HTTPBadRequest(f"{unknown} is invalid attribute for filtering")
    if len(query.multi_items()) > _MOST_PARAMETERS:
        raise HTTPBadRequest(f"At most {_MOST_PARAMETERS} parameters in one query")
    if any("\0" in value for _, value in query.multi_items()):
        raise HTTPBadRequest("A filter with a NUL character")
    filters = {
        name: [convert_value(name, schema.filters[name].convert, value) for value in query.getlist(name)]
        for name in names
    }
    return Listing(
        filters=filters,
        sorts=_parse_sorts(schema, query),
        limit=_parse_limit(query.get("limit", "0")),
        marker=query.get("marker"),
        reverse=query.get("page_reverse", "").lower() == "true",
    )


def page_links(address: str, query: QueryParams, listing: Listing, ids: Sequence[str]) -> list[dict[str, str]]:
    """Links to the pages after and before the one with ``ids``, which ``query`` got at ``address``, as Neutron's."""
    full = len(ids) >= listing.limit
    rest = [(name, value) for name, value in query.multi_items() if name not in ("marker", "page_reverse")]
    links = []
    if full or listing.reverse:
        links.append(_link("next", address, rest, ids[-1:]))
    if full or not listing.reverse:
        links.append(_link("previous", address, rest, ids[:1], page_reverse="True"))
    return links


def _link(rel: str, address: str, query: list[tuple[str, str]], marker: Sequence[str], **more: str) -> dict[str, str]:
    parameters = [*query, *(("marker", id_) for id_ in marker), *more.items()]
    return {"rel": rel, "href": f"{address}?{urlencode(parameters)}"}


def _parse_sorts(schema: Schema, query: QueryParams) -> tuple[tuple[Attribute, bool], ...]:
    keys, directions = ([value for value in query.getlist(name) if value] for name in ("sort_key", "sort_dir"))
    if len(keys) != len(directions):
        raise HTTPBadRequest("The number of sort_keys and sort_dirs must be same")
    sortable = {attribute.name: attribute for attribute in schema.attributes if attribute.sortable}
    if unknown := [key[:255] for key in keys if key not in sortable]:
        raise HTTPBadRequest(f"{unknown} is invalid attribute for sort_keys")
    if unknown := [direction[:255] for direction in directions if direction not in ("asc", "desc")]:
        raise HTTPBadRequest(f"{unknown} is invalid value for sort_dirs, valid value is 'asc' and 'desc'")
    first: dict[str, tuple[Attribute, bool]] = {}
    for key, direction in zip(keys, directions, strict=True):
        first.setdefault(sortable[key].key, (sortable[key], direction == "desc"))
    return tuple(first.values())


def _parse_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4000}", text):
        raise BadLimit(text[:255])
    return min(int(text), _MOST)


def _values(
    session: Session, context: Context, resource: Resource, authority: Authority, marker: str, keys: Sequence[_Key]
) -> Sequence[Any] | None:
    """What the row ``marker`` is sorted by; ``None``: the caller sees none."""
    try:
        row = resource.find(session, context, marker)
    except NotFound:
        return None
    if not authority.sees(resource.schema.singular, row):
        return None
    return session.execute(select(*(key for key, _ in keys)).where(resource.table.id == row.id)).one()


def _after(keys: Sequence[_Key], values: Sequence[Any]) -> ColumnElement[bool]:
    """Condition: to come after the row that has ``values``. A key that tells NULL from the rest is before each."""
    conditions: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (key, downwards), value in zip(keys, values, strict=True):
        if value is None:
            equal.append(key.is_(None))
            continue
        bound = literal(value, key.type)
        conditions.append(and_(*equal, key < bound if downwards else key > bound))
        equal.append(key == bound)
    return or_(false(), *conditions)
