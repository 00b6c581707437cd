"""What the descriptions of all calls are built of: answers, errors, parameters.

What it refuses to know: any particular call.
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

#: What any call that asks who calls may answer besides what it is for; see ``handlers``.
_ALWAYS = (400, 401, 403, 413, 500, 503)
_ERRORS = {
    400: "The request makes no sense, whatever is stored",
    401: "Nobody known",
    403: "The caller may not do this",
    404: "Not there, or not for this caller",
    409: "Contradicts what is stored",
    412: "If-Match names another revision than the present one",
    413: "The body is larger than `[api] max_body`",
    500: "A fault of the server; its log says more under the request's id",
    503: "The database could not serve it; try again",
}
_REQUEST_ID = {
    "X-Openstack-Request-Id": {
        "description": "Under which the log speaks of the request",
        "schema": {"type": "string", "pattern": "^req-[0-9a-f-]{36}$"},
    }
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "`revision_number=N`: 412 unless that is the item's revision",
    "schema": {"type": "string", "pattern": r'^("?revision_number="?[0-9]{1,18}"?|\*)$'},
}

#: What stands in ``components``.
SCHEMAS: Json = {
    "NeutronError": {
        "type": "object",
        "properties": {
            "NeutronError": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "The error's name"},
                    "message": {"type": "string"},
                    "detail": {"const": ""},
                },
                "required": ["type", "message", "detail"],
                "additionalProperties": False,
            }
        },
        "required": ["NeutronError"],
        "additionalProperties": False,
    },
    "Unauthenticated": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {"const": 401},
                    "title": {"const": "Unauthorized"},
                    "message": {"type": "string"},
                },
                "required": ["code", "title", "message"],
                "additionalProperties": False,
            }
        },
        "required": ["error"],
        "additionalProperties": False,
    },
}


def ref(name: str) -> Json:
    """A reference to a schema of ``components``."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(required: Json, optional: Json | None = None) -> Json:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def answer(description: str, schema: Json | None) -> Json:
    """An answer: JSON of ``schema``, or nothing."""
    shown: Json = {"description": description, "headers": _REQUEST_ID}
    return shown if schema is None else shown | {"content": {"application/json": {"schema": schema}}}


def errors(statuses: Sequence[int]) -> Json:
    """Answers that refuse, each in the shape in which clients read it."""
    shown = {
        str(status): answer(_ERRORS[status], ref("Unauthenticated" if status == 401 else "NeutronError"))
        for status in sorted(set(statuses))
    }
    if "401" in shown:
        shown["401"]["headers"] = _REQUEST_ID | {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    if "503" in shown:
        shown["503"]["headers"] = _REQUEST_ID | {"Retry-After": {"schema": {"type": "string"}}}
    return shown


def operation(
    operation_id: str,
    tag: str,
    summary: str,
    status: int,
    schema: Json | None,
    *,
    body: Json | None = None,
    parameters: Sequence[Json] = (),
    refusals: Sequence[int] = (),
) -> Json:
    """A call that asks who calls; it may answer ``refusals`` beside what all such calls may."""
    item = 412 in refusals
    shown: Json = {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        "parameters": [*parameters, *([_IF_MATCH] if item else [])],
        "responses": {str(status): answer("Done", schema)} | errors([*_ALWAYS, *refusals]),
    }
    if body is not None:
        shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return shown


def unasked(operation_id: str, summary: str, schema: Json) -> Json:
    """A call that anybody may make."""
    return {
        "operationId": operation_id,
        "tags": ["discovery"],
        "summary": summary,
        "security": [],
        "responses": {"200": answer("Done", schema)} | errors((403, 500)),
    }


def in_path(name: str, description: str, schema: Json | None = None) -> Json:
    """A variable part of the path."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema or {"type": "string", "minLength": 1},
    }


def in_query(name: str, description: str, schema: Json) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": schema}
