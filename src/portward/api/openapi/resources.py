"""The calls on resources, from their attribute tables: collections, items and tags."""

from collections.abc import Iterable

from msgspec import UNSET

from portward.api.attributes import Attribute
from portward.api.openapi.parts import Json, in_path, in_query, object_of, operation, ref
from portward.api.resource import TAG, Resource
from portward.api.schema import MAX_BULK, Schema
from portward.api.tags import MAX_TAGS

_ITEM = (404, 412)
_LINKS = {
    "type": "array",
    "items": object_of({"rel": {"enum": ["next", "previous"]}, "href": {"type": "string", "format": "uri"}}),
}
_TAGS = object_of({"tags": {"type": "array", "items": TAG}})
_TAGS_TAKEN = object_of({"tags": {"type": "array", "items": TAG, "maxItems": MAX_TAGS}})


def schemas(resource: Resource) -> Json:
    """What stands in ``components`` for ``resource``: the item as it is shown, as it is made, and as it is changed."""
    schema = resource.schema
    new = {item.name: _taken(item, item.convert.takes) for item in schema.attributes if item.convert is not None}
    changed = {
        item.name: _taken(item, item.convert_update.takes)
        for item in schema.attributes
        if item.convert_update is not None
    }
    for item in schema.attributes:
        if item.convert is not None and item.default is not UNSET:
            new[item.name]["default"] = item.default
    nulls = {name: {"type": "null", "description": "Taken, and passed over"} for name in sorted(schema.null_only)}
    return {
        schema.singular: object_of(
            {}, {item.name: item.schema | {"description": _shown(item)} for item in schema.attributes}
        ),
        f"{schema.singular}_new": object_of({}, new | nulls),
        f"{schema.singular}_changes": object_of({}, changed | nulls),
    }


def paths(resource: Resource) -> Json:
    """The paths of ``resource``, below ``/v2.0``."""
    schema = resource.schema
    path = f"/v2.0{resource.path}"
    one, many = schema.singular, schema.plural
    whole = {"allOf": [ref(one), {"required": whole_names(schema)}]}
    id_ = in_path("id", "The item's id")
    tag = in_path("tag", "One tag", TAG)
    return {
        path: {
            "get": operation(
                f"list_{many}",
                many,
                f"List {many}",
                200,
                object_of({many: {"type": "array", "items": ref(one)}}, {f"{many}_links": _LINKS}),
                parameters=[*_filters(schema), *_controls(schema), _fields(schema)],
            ),
            "post": operation(
                f"create_{one}",
                many,
                f"Make one {one}, or several at once, all or none",
                201,
                {"oneOf": [object_of({one: whole}), object_of({many: {"type": "array", "items": whole}})]},
                body={
                    "oneOf": [
                        object_of({one: ref(f"{one}_new")}),
                        object_of(
                            {
                                many: {
                                    "type": "array",
                                    "items": ref(f"{one}_new"),
                                    "minItems": 1,
                                    "maxItems": MAX_BULK,
                                }
                            }
                        ),
                    ]
                },
                refusals=(404, 409),
            ),
        },
        f"{path}/{{id}}": {
            "parameters": [id_],
            "get": operation(
                f"get_{one}",
                many,
                f"Show one {one}",
                200,
                object_of({one: ref(one)}),
                parameters=[_fields(schema)],
                refusals=_ITEM,
            ),
            "put": operation(
                f"update_{one}",
                many,
                f"Change one {one}; what is left out stays",
                200,
                object_of({one: whole}),
                body=object_of({one: ref(f"{one}_changes")}),
                refusals=(*_ITEM, 409),
            ),
            "delete": operation(f"delete_{one}", many, f"Delete one {one}", 204, None, refusals=(*_ITEM, 409)),
        },
        f"{path}/{{id}}/tags": {
            "parameters": [id_],
            "get": operation(f"get_{one}_tags", many, "The item's tags", 200, _TAGS, refusals=_ITEM),
            "put": operation(
                f"replace_{one}_tags",
                many,
                "Replace the item's tags",
                200,
                _TAGS,
                body=_TAGS_TAKEN,
                refusals=(*_ITEM, 409),
            ),
            "post": operation(
                f"add_{one}_tags",
                many,
                "Add tags to the item's",
                200,
                _TAGS,
                body=_TAGS_TAKEN,
                refusals=(*_ITEM, 409),
            ),
            "delete": operation(
                f"delete_{one}_tags", many, "Take all tags off the item", 204, None, refusals=(*_ITEM, 409)
            ),
        },
        f"{path}/{{id}}/tags/{{tag}}": {
            "parameters": [id_, tag],
            "get": operation(f"confirm_{one}_tag", many, "Whether the item has the tag", 204, None, refusals=_ITEM),
            "put": operation(f"add_{one}_tag", many, "Add one tag", 201, None, refusals=(*_ITEM, 409)),
            "delete": operation(
                f"delete_{one}_tag", many, "Take one tag off the item", 204, None, refusals=(*_ITEM, 409)
            ),
        },
    }


def whole_names(schema: Schema) -> list[str]:
    """The attributes that every caller is shown of an item."""
    return [item.name for item in schema.attributes if "get" not in item.guards]


def _shown(item: Attribute) -> str:
    return f"{item.description}. Not shown to everybody" if "get" in item.guards else item.description


def _taken(item: Attribute, takes: Json) -> Json:
    return takes | {"description": item.description}


def _filters(schema: Schema) -> Iterable[Json]:
    for name, filter_ in schema.filters.items():
        values = {"type": "array", "items": filter_.convert.takes}
        yield in_query(name, f"Filter by `{name}`; given again: any of the values", values)


def _controls(schema: Schema) -> Iterable[Json]:
    sortable = [item.name for item in schema.attributes if item.sortable]
    yield in_query("sort_key", "What to sort by", {"type": "array", "items": {"enum": sortable}})
    yield in_query("sort_dir", "As many directions as sort_key", {"type": "array", "items": {"enum": ["asc", "desc"]}})
    yield in_query("limit", "Items a page; 0: all", {"type": "integer", "minimum": 0})
    yield in_query("marker", "Id of the item after which the page begins", {"type": "string"})
    yield in_query("page_reverse", "`true`: the page before the marker", {"type": "string"})


def _fields(schema: Schema) -> Json:
    names = [item.name for item in schema.attributes]
    return in_query("fields", "Show these only", {"type": "array", "items": {"enum": names}})
