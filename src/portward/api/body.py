"""From the bytes of a request to JSON that can be judged: bounded, well-formed, and storable in any database.

Refused before anybody looks at the meaning: too many bytes, what is no JSON in UTF-8, strings with NUL, integers
beyond 64 bits, more than 32 levels of nesting, and keys given twice, of which one reader would take the first and
another the last. So are, everywhere, keys that nobody knows.
"""

import json
from collections.abc import Container, Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from portward.api.errors import HTTPBadRequest, HTTPRequestEntityTooLarge, MalformedRequestBody

_MAX_DEPTH = 32
#: How much of a body that is too large is still read (and thrown away), in multiples of the limit: a client that
#: is cut off while it sends may never read why.
_DRAIN = 16


async def read_body(request: Request, limit: int) -> bytes:
    """The body of ``request``, of at most ``limit`` bytes.

    Raises:
        HTTPRequestEntityTooLarge: it is larger.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit * _DRAIN:
            break
        if size <= limit:
            chunks.append(chunk)
    if size > limit:
        raise HTTPRequestEntityTooLarge(limit)
    return b"".join(chunks)


def parse_json(data: bytes) -> Any:
    """The JSON value that ``data`` holds.

    Raises:
        MalformedRequestBody: none, or none that can be stored.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestBody("Cannot understand JSON") from error
    _check(value, _MAX_DEPTH)
    json.loads(data, object_pairs_hook=_refuse_doubles)  # msgspec keeps the last of them and says nothing
    return value


def refuse_unknown(given: Mapping[str, Any], known: Container[str]) -> None:
    """Make sure that ``given`` has only keys that are ``known``: a typing error must not pass in silence.

    Raises:
        HTTPBadRequest: it has others.
    """
    unknown = [name[:255] for name in given if name not in known]
    if unknown:
        raise HTTPBadRequest(f"Unrecognized attribute(s) '{', '.join(unknown)}'")


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise MalformedRequestBody(f"Key '{name[:255]}' is given twice")
        names.add(name)


def _check(value: Any, depth: int) -> None:
    if not depth:
        raise MalformedRequestBody(f"More than {_MAX_DEPTH} levels of nesting")
    match value:
        case str():
            if "\0" in value:
                raise MalformedRequestBody("A string with a NUL character")
        case int():
            if not -(2**63) <= value < 2**63:
                raise MalformedRequestBody("An integer beyond 64 bits")
        case list():
            for item in value:
                _check(item, depth - 1)
        case dict():
            for key, item in value.items():
                _check(key, depth)
                _check(item, depth - 1)
