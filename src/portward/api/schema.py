"""A resource as the sum of its attributes: what bodies of requests may say about it.

What it refuses to know: what an attribute means. That is ``service``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from portward.api.attributes import Attribute, Filter
from portward.api.body import parse_json, refuse_unknown
from portward.api.converter import Converter
from portward.api.errors import BadRequestBody, HTTPBadRequest
from portward.model import InvalidValue

#: Items of one bulk request; they are made in one transaction, and other writers wait for it.
MAX_BULK = 1000


@dataclass(frozen=True)
class Given:
    """What a client sent: the service's ``values``, and which attributes with a guard are among them."""

    values: Any
    guarded: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """All attributes of a resource, and the class of the service's values for it.

    ``filters`` are those of lists; beside the attributes' own it is given those that are no attribute.
    ``null_only`` are attributes that clients send to clear what we do not have: null is passed over, anything
    else is unknown.
    """

    singular: str
    plural: str
    values: type[msgspec.Struct]
    attributes: Sequence[Attribute]
    filters: dict[str, Filter] = field(default_factory=dict)
    null_only: frozenset[str] = frozenset()
    by_name: Mapping[str, Attribute] = field(init=False)

    def __post_init__(self) -> None:
        own = {attribute.name: attribute.filter for attribute in self.attributes if attribute.filter is not None}
        object.__setattr__(self, "filters", own | self.filters)
        object.__setattr__(self, "by_name", {attribute.name: attribute for attribute in self.attributes})

    def parse_create(self, data: bytes) -> tuple[list[Given], bool]:
        """What is to be made, out of a request's body, and whether that is a list (bulk) rather than one.

        Raises:
            BadRequest: not such a body.
        """
        body = parse_json(data) if data else None
        if not body:
            raise HTTPBadRequest("Resource body required")
        if not isinstance(body, dict) or self.plural not in body:
            return [self._parse_new(self._open(body))], False
        refuse_unknown(body, {self.plural})
        items = body[self.plural]
        if not isinstance(items, list) or not items:
            raise HTTPBadRequest("Resources required")
        if len(items) > MAX_BULK:
            raise HTTPBadRequest(f"More than {MAX_BULK} items in one request")
        return [self._parse_new(self._object(item)) for item in items], True

    def parse_update(self, data: bytes) -> Given:
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
            values[attribute.key] = convert_value(name, attribute.convert_update, value)
        guarded = tuple(name for name in given if "update" in self.by_name[name].guards)
        return Given(self.values(**values), guarded)

    def guarded(self, call: str) -> list[Attribute]:
        """The attributes for which ``call`` (``get``, ...) needs a rule of their own."""
        return [attribute for attribute in self.attributes if call in attribute.guards]

    def _parse_new(self, given: dict[str, Any]) -> Given:
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
                values[attribute.key] = convert_value(attribute.name, attribute.convert, value)
        guarded = [item for item in self.guarded("create") if values[item.key] != _default(item)]
        return Given(self.values(**values), tuple(item.name for item in guarded))

    def _open(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict) or self.singular not in body:
            raise HTTPBadRequest(f"Unable to find '{self.singular}' in request body")
        refuse_unknown(body, {self.singular})
        return self._object(body[self.singular])

    def _object(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise HTTPBadRequest(f"Object '{self.singular}' contains invalid data")
        return {name: value for name, value in given.items() if value is not None or name not in self.null_only}


def _default(attribute: Attribute) -> Any:
    return attribute.convert(attribute.default) if attribute.convert is not None else attribute.default


def convert_value(name: str, convert: Converter[Any], value: Any) -> Any:
    """``value`` as ``convert`` makes it.

    Raises:
        HTTPBadRequest: it is none for ``name``; the message says why.
    """
    try:
        return convert(value)
    except InvalidValue as error:
        raise HTTPBadRequest(f"Invalid input for {name}. Reason: {error}") from error
