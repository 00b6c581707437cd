"""All that the wire knows of an attribute; validation, defaults, output, filters, sorting and guards follow from it.

What it refuses to know: what an attribute means. That is ``service``'s.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

from portward.api.converter import Converter, JsonSchema
from portward.api.converters import string
from portward.service.context import Context

#: What most lists are filtered by.
_TEXT = replace(string(4096), shows={"type": "string"})
#: What an attribute is sorted by: an expression of SQL, as of the caller's time.
Sort = Callable[[Context], ColumnElement[Any]]


@dataclass(frozen=True)
class Filter:
    """How a list is filtered: ``convert`` reads a value of the query, ``condition`` is that one of them matches."""

    convert: Converter[Any]
    condition: Callable[[list[Any], Context], ColumnElement[bool]]


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """An attribute on the wire.

    ``convert`` is what a POST goes through (``None``: it takes none), ``convert_update`` what a PUT does.
    ``key`` is its name in the service's values; ``read`` takes it from the service's view of a resource, and
    ``schema`` is the JSON schema of what it takes from there.
    ``guards`` are the calls (``create``: with another value than the default, ``update``, ``get``) that need a rule
    of their own, ``CALL_RESOURCE:NAME``, beside that of the resource.
    """

    name: str
    key: str
    description: str
    read: Callable[[Any], Any]
    schema: JsonSchema
    convert: Converter[Any] | None = None
    convert_update: Converter[Any] | None = None
    default: Any = None  # of a POST that leaves it out, as a client would send it
    filter: Filter | None = None
    sort: Sort | None = None
    guards: frozenset[str] = frozenset()

    @property
    def sortable(self) -> bool:
        """Whether lists can be sorted by it."""
        return self.sort is not None


def stored(
    column: InstrumentedAttribute[Any],
    description: str,
    convert: Converter[Any] | None = None,
    *,
    default: Any = None,
    name: str | None = None,
    update: Converter[Any] | bool = True,
    convert_filter: Converter[Any] = _TEXT,
    guards: frozenset[str] = frozenset(),
) -> Attribute:
    """An attribute that is ``column``; ``update`` false: only a POST takes it, a converter: a PUT's own."""
    key = column.key
    return Attribute(
        name=name or key,
        key=key,
        description=description,
        read=lambda view: getattr(view.row, key),
        schema=(convert or convert_filter).shows,
        convert=convert,
        convert_update=(convert if update else None) if isinstance(update, bool) else update,
        default=default,
        filter=Filter(convert_filter, equals(column)),
        sort=lambda _context: column.expression,
        guards=guards,
    )


def structure(
    column: InstrumentedAttribute[Any],
    description: str,
    convert: Converter[Any],
    *,
    name: str | None = None,
    filter: Filter | None = None,
    guards: frozenset[str] = frozenset(),
) -> Attribute:
    """An attribute that is ``column`` of JSON, which cannot be compared as a whole."""
    return replace(stored(column, description, convert, name=name, guards=guards), filter=filter, sort=None)


def timestamp(column: InstrumentedAttribute[datetime], description: str) -> Attribute:
    """A time that the service sets, in UTC and whole seconds."""
    key = column.key
    return Attribute(
        name=key,
        key=key,
        description=description,
        read=lambda view: iso(getattr(view.row, key)),
        schema={"type": "string", "format": "date-time"},
        sort=lambda _context: column.expression,
    )


def iso(moment: datetime) -> str:
    """``moment`` (UTC without a zone) as the wire has times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def equals(column: InstrumentedAttribute[Any]) -> Callable[[list[Any], Context], ColumnElement[bool]]:
    """Condition: ``column`` is one of the values, ``None`` among them meaning NULL."""

    def condition(values: list[Any], _context: Context) -> ColumnElement[bool]:
        among = column.in_([value for value in values if value is not None])
        return or_(among, column.is_(None)) if None in values else among

    return condition
