"""One table a resource says all about its attributes; validation, defaults, output and filters follow from it.

What it refuses to know: what an attribute means. That is ``service``'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute
from starlette.datastructures import QueryParams

from portward.api.body import parse_json, refuse_unknown
from portward.api.converters import Converter, string
from portward.api.errors import BadRequestBody, HTTPBadRequest
from portward.model import InvalidValue

#: What most lists are filtered by.
_TEXT = string(4096)
Condition = Callable[[list[Any]], ColumnElement[bool]]


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """An attribute on the wire.

    ``convert`` is what a POST goes through (``None``: it takes none), ``convert_update`` what a PUT does.
    ``key`` is its name in the service's values; ``read`` takes it from the service's view of a resource.
    A filter of a list compares the values that ``convert_filter`` makes of the query: by ``condition`` in the
    database, where there is one, else with what ``read`` gives.
    """

    name: str
    key: str
    read: Callable[[Any], Any]
    convert: Converter | None = None
    convert_update: Converter | None = None
    default: Any = None  # of a POST that leaves it out, as a client would send it
    filterable: bool = True
    convert_filter: Converter = _TEXT
    condition: Condition | None = None


def stored(
    column: InstrumentedAttribute[Any],
    convert: Converter | None = None,
    *,
    default: Any = None,
    name: str | None = None,
    update: Converter | bool = True,
    convert_filter: Converter | None = None,
    filterable: bool = True,
) -> Attribute:
    """An attribute that is ``column``; ``update`` false: only a POST takes it, a converter: a PUT's own."""
    key = column.key
    return Attribute(
        name=name or key,
        key=key,
        read=lambda view: getattr(view.row, key),
        convert=convert,
        convert_update=(convert if update else None) if isinstance(update, bool) else update,
        default=default,
        filterable=filterable,
        convert_filter=convert_filter or _TEXT,
        condition=equals(column),
    )


def equals(column: InstrumentedAttribute[Any]) -> Condition:
    """Condition: ``column`` is one of the values, ``None`` among them meaning NULL."""

    def condition(values: list[Any]) -> ColumnElement[bool]:
        among = column.in_([value for value in values if value is not None])
        return or_(among, column.is_(None)) if None in values else among

    return condition


def timestamp(column: InstrumentedAttribute[datetime]) -> Attribute:
    """A time that the service sets, in UTC and whole seconds."""
    key = column.key
    return Attribute(
        name=key,
        key=key,
        read=lambda view: getattr(view.row, key).strftime("%Y-%m-%dT%H:%M:%SZ"),
        filterable=False,
    )


@dataclass(frozen=True, kw_only=True)
class Schema:
    """All attributes of a resource, and the class of the service's values for it.

    ``null_only`` are attributes that clients send to clear what we do not have: null is passed over, anything
    else is unknown.
    """

    singular: str
    plural: str
    values: type[msgspec.Struct]
    attributes: Sequence[Attribute]
    null_only: frozenset[str] = frozenset()
    by_name: Mapping[str, Attribute] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {attribute.name: attribute for attribute in self.attributes})

    def parse_create(self, data: bytes) -> Any:
        """Values of a new resource out of a request's body.

        Raises:
            BadRequest: not such a body.
        """
        body = parse_json(data) if data else None
        if not body:
            raise HTTPBadRequest("Resource body required")
        given = self._open(body)
        refuse_unknown(given, self.by_name)
        for name in given:
            if self.by_name[name].convert is None:
                raise HTTPBadRequest(f"Attribute '{name}' not allowed in POST")
        if {"project_id", "tenant_id"} <= given.keys() and given["project_id"] != given["tenant_id"]:
            raise HTTPBadRequest("'project_id' and 'tenant_id' do not match")
        values = {}
        for attribute in self.attributes:
            if attribute.convert is not None and (attribute.name in given or attribute.default is not msgspec.UNSET):
                value = given.get(attribute.name, attribute.default)
                values[attribute.key] = _convert(attribute.name, attribute.convert, value)
        return self.values(**values)

    def parse_update(self, data: bytes) -> Any:
        """Changes of a resource out of a request's body.

        Raises:
            BadRequest: not such a body.
        """
        if not data:
            raise BadRequestBody("Invalid format: b''")
        given = self._open(parse_json(data))
        refuse_unknown(given, self.by_name)
        values = {}
        for name, value in given.items():
            attribute = self.by_name[name]
            if attribute.convert_update is None:
                shown = "tenant_id" if name == "project_id" else name
                raise HTTPBadRequest(f"Cannot update read-only attribute {shown}")
            values[attribute.key] = _convert(name, attribute.convert_update, value)
        return self.values(**values)

    def show(self, view: Any, fields: Sequence[str] = ()) -> dict[str, Any]:
        """The resource as JSON; of ``fields`` only, if there are any. Unknown fields are passed over."""
        return {
            attribute.name: attribute.read(view)
            for attribute in self.attributes
            if not fields or attribute.name in fields
        }

    def parse_filters(self, query: QueryParams) -> dict[str, list[Any]]:
        """Of each attribute that the query names, the values it may have.

        Raises:
            BadRequest: a key that is no filter, or a value that the attribute cannot have.
        """
        names = [name for name in dict.fromkeys(query.keys()) if name != "fields"]
        unknown = [name for name in names if name not in self.by_name or not self.by_name[name].filterable]
        if unknown:
            raise HTTPBadRequest(f"{unknown} is invalid attribute for filtering")
        if any("\0" in value for _, value in query.multi_items()):
            raise HTTPBadRequest("A filter with a NUL character")
        return {
            name: [_convert(name, self.by_name[name].convert_filter, value) for value in query.getlist(name)]
            for name in names
        }

    def where(self, filters: Mapping[str, list[Any]]) -> list[ColumnElement[bool]]:
        """Those of ``filters`` that the database applies, as conditions that must all hold."""
        conditions = ((self.by_name[name].condition, values) for name, values in filters.items())
        return [condition(values) for condition, values in conditions if condition is not None]

    def matches(self, view: Any, filters: Mapping[str, list[Any]]) -> bool:
        """Whether the resource passes those of ``filters`` that the database cannot apply."""
        return all(
            attribute.read(view) in values
            for attribute, values in ((self.by_name[name], values) for name, values in filters.items())
            if attribute.condition is None
        )

    def _open(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict) or self.singular not in body:
            raise HTTPBadRequest(f"Unable to find '{self.singular}' in request body")
        refuse_unknown(body, {self.singular})
        given = body[self.singular]
        if not isinstance(given, dict):
            raise HTTPBadRequest(f"Object '{self.singular}' contains invalid data")
        return {name: value for name, value in given.items() if value is not None or name not in self.null_only}


def _convert(name: str, convert: Converter, value: Any) -> Any:
    try:
        return convert(value)
    except InvalidValue as error:
        raise HTTPBadRequest(f"Invalid input for {name}. Reason: {error}") from error
