"""Filters of lists that compare more than a column: members, tags, the status of a group, the addresses of a port."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, not_, or_
from sqlalchemy.orm import InstrumentedAttribute

from portward.api import address_converters as to_address
from portward.api import converters as to
from portward.api.attributes import Filter
from portward.api.converter import Converter, described
from portward.api.errors import HTTPBadRequest
from portward.model import InvalidValue
from portward.service.context import Context
from portward.service.status import Status, with_status
from portward.service.tags import with_tags
from portward.store.tables import Port

_text = to.string(4096)
#: Each is a comparison of its own, and databases bound how deep they nest (SQLite: 1,000).
_MOST_ADDRESSES = 200


def members(condition: Callable[[list[str]], ColumnElement[bool]]) -> Filter:
    """By ids of what belongs to it: one of them does."""
    return Filter(_text, lambda ids, _context: condition(ids))


def holders(condition: Callable[[list[str], Context], ColumnElement[bool]]) -> Filter:
    """By ids of what it belongs to: the caller sees one of them."""
    return Filter(_text, condition)


def tags(table: Any, *, every: bool, negated: bool = False) -> Filter:
    """By tags with commas between: rows of ``table`` that bear ``every`` one, or any; ``negated``: the others."""

    def condition(values: list[list[str]], _context: Context) -> ColumnElement[bool]:
        bears = with_tags(table, [tag for tags in values for tag in tags], every=every)
        return not_(bears) if negated else bears

    return Filter(Converter(lambda value: _text(value).split(","), _text.takes, _text.shows), condition)


def status() -> Filter:
    """By the status of groups."""

    def condition(values: list[str], context: Context) -> ColumnElement[bool]:
        return with_status([Status(value) for value in values if value in Status.__members__], context.now)

    return Filter(_text, condition)


def fixed_ips() -> Filter:
    """By one address or subnet of ports: ``ip_address=A``, ``subnet_id=S``; a repeated filter takes any of them."""

    @described({"type": "string", "pattern": "^(ip_address|subnet_id)=."})
    def convert(value: Any) -> str:
        key, _, wanted = str(value).partition("=")
        if key == "ip_address":
            return _member(key, to_address.fixed_ips([{"ip_address": wanted}])[0][key])
        if key == "subnet_id" and (subnet := to.uuid_or_null(wanted)):
            return _member(key, subnet)
        raise InvalidValue(f"'{value}' is neither ip_address=ADDRESS nor subnet_id=UUID.")

    def condition(values: list[str], _context: Context) -> ColumnElement[bool]:
        if len(values) > _MOST_ADDRESSES:
            raise HTTPBadRequest(f"At most {_MOST_ADDRESSES} values of fixed_ips in one query")
        return or_(*(_holds(Port.fixed_ips, value) for value in values))

    return Filter(convert, condition)


def _member(key: str, value: str) -> str:
    """How the JSON of ``store`` has it; every database keeps that text as it was written."""
    return f'"{key}": "{value}"'


def _holds(column: InstrumentedAttribute[Any], text: str) -> ColumnElement[bool]:
    return cast(column, Text).contains(text, autoescape=True)
