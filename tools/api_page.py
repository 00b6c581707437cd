"""What the page of the API has from the code: the calls, the attribute tables, the errors."""

import inspect
import re
from collections.abc import Iterator

from msgspec import UNSET, json

from portward.api.attributes import Attribute
from portward.api.errors import error_type
from portward.api.identity import keystone as _keystone  # noqa: F401 - loaded in its mode only; has an error
from portward.api.openapi import make_document
from portward.api.resource import Resource
from portward.api.resources import ALL
from portward.config import Settings
from portward.service.errors import ServiceError
from tools.markdown import table

_METHODS = ("get", "post", "put", "delete")


def calls() -> str:
    """All calls, as the OpenAPI document has them."""
    rows = []
    for path, item in make_document(Settings())["paths"].items():
        for method in (name for name in _METHODS if name in item):
            success = next(status for status in item[method]["responses"] if status.startswith("2"))
            rows.append((f"{method.upper()} `{path}`", success, item[method]["summary"]))
    return table(("call", "ok", "what it does"), rows)


def attributes() -> str:
    """A table a resource."""
    return "\n".join(_resource(resource) for resource in ALL)


def errors() -> str:
    """All errors, by status."""
    kinds = sorted(_kinds(ServiceError), key=lambda kind: (kind.status, kind.__name__))
    rows = {}
    for kind in kinds:
        meaning = (inspect.getdoc(kind) or "").partition("\n")[0].replace("``", "`")
        rows[kind] = (str(kind.status), f"`{error_type(kind)}`", meaning)
    return table(("status", "type", "when"), rows.values())


def _resource(resource: Resource) -> str:
    singular = resource.schema.singular
    head = ("attribute", "type", "POST", "PUT", "default", "filter", "sort", "who may", "meaning")
    rows = [_attribute(singular, item) for item in resource.schema.attributes]
    return f"### {singular}\nAt `/v2.0{resource.path}`.\n\n" + table(head, rows)


def _attribute(singular: str, item: Attribute) -> tuple[str, ...]:
    rules = [f"`{call}_{singular}:{item.name}`" for call in sorted(item.guards)]
    has_default = item.convert is not None and item.default is not UNSET
    default = f"`{json.encode(item.default).decode()}`" if has_default else ""
    return (
        f"`{item.name}`", _kind(item), _mark(item.convert), _mark(item.convert_update), default,
        _mark(item.filter), _mark(item.sort), ", ".join(rules), item.description,
    )  # fmt: skip


def _kind(item: Attribute) -> str:
    schemas = item.schema.get("anyOf", [item.schema])
    names: list[str] = []
    for schema in schemas:
        if "enum" in schema:
            names.append(", ".join(str(value) for value in schema["enum"]))
        else:
            found = schema["type"]
            names += [found] if isinstance(found, str) else found
    limit = next((f" to {schema['maxLength']}" for schema in schemas if "maxLength" in schema), "")
    return " or ".join(names) + limit


def _mark(value: object) -> str:
    return "" if value is None else "yes"


def _kinds(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """The errors that are raised: those with a status and without errors of their own kind."""
    found = kind.__subclasses__()
    if not found:
        yield kind
    for each in found:
        if re.match(r"portward\.", each.__module__):
            yield from _kinds(each)
