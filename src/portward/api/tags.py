"""The sub-resource ``tags`` of every resource, as Neutron's tag API has it.

A tag is 1 to 255 characters without a comma, since commas separate the tags of filters; an item bears 50 at most.
Reading takes the rule to get the item, writing that to update it.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from portward.api.body import parse_json, refuse_unknown
from portward.api.call import Call
from portward.api.collection import refuse_body
from portward.api.errors import HTTPBadRequest
from portward.api.resource import Resource
from portward.service import tags as service
from portward.service.errors import InvalidInput, TagNotFound

MAX_LENGTH = 255
MAX_TAGS = 50
_Work = Callable[[Session], Any]


def index(resource: Resource, call: Call) -> _Work:
    """The tags of an item."""
    return lambda session: {"tags": service.list_tags(session, call.find(session, resource, ()))}


def replace(resource: Resource, call: Call) -> _Work:
    """Put the tags of the body in the place of those that an item bears."""
    tags = _parse(call.body)

    def work(session: Session) -> dict[str, Any]:
        row = call.find(session, resource, _writing(resource))
        return {"tags": service.replace_tags(session, call.context, row, tags)}

    return work


def add(resource: Resource, call: Call) -> _Work:
    """Put the tags of the body on an item, beside those that it bears."""
    tags = _parse(call.body)
    return lambda session: _add(session, resource, call, tags)


def clear(resource: Resource, call: Call) -> _Work:
    """Take all tags off an item."""
    refuse_body(call)
    return lambda session: service.remove_tags(session, call.context, call.find(session, resource, _writing(resource)))


def confirm(resource: Resource, call: Call) -> _Work:
    """Say whether an item bears the tag of the path: nothing, or 404."""
    tag = _check(call.path["tag"])

    def work(session: Session) -> None:
        if tag not in service.list_tags(session, call.find(session, resource, ())):
            raise TagNotFound(tag)

    return work


def add_one(resource: Resource, call: Call) -> _Work:
    """Put the tag of the path on an item."""
    tag = _check(call.path["tag"])

    def work(session: Session) -> None:
        _add(session, resource, call, [tag])

    return work


def remove(resource: Resource, call: Call) -> _Work:
    """Take the tag of the path off an item."""
    refuse_body(call)
    tag = _check(call.path["tag"])

    def work(session: Session) -> None:
        service.remove_tag(session, call.context, call.find(session, resource, _writing(resource)), tag)

    return work


def _writing(resource: Resource) -> list[str]:
    return [f"update_{resource.schema.singular}"]


def _add(session: Session, resource: Resource, call: Call, tags: list[str]) -> dict[str, Any]:
    row = call.find(session, resource, _writing(resource))
    _check_number({*service.list_tags(session, row), *tags})
    return {"tags": service.add_tags(session, call.context, row, tags)}


def _parse(body: bytes) -> list[str]:
    given = parse_json(body) if body else None
    if not isinstance(given, dict) or not isinstance(given.get("tags"), list):
        raise InvalidInput('Invalid tags body: it is {"tags": ["...", ...]}')
    refuse_unknown(given, {"tags"})
    tags = list(dict.fromkeys(_check(tag) for tag in given["tags"]))
    _check_number(tags)
    return tags


def _check(tag: Any) -> str:
    if not isinstance(tag, str) or not 0 < len(tag) <= MAX_LENGTH or "," in tag or "\0" in tag:
        raise HTTPBadRequest(f"Invalid input for tags. Reason: a tag is 1 to {MAX_LENGTH} characters without a comma.")
    return tag


def _check_number(tags: Any) -> None:
    if len(tags) > MAX_TAGS:
        raise HTTPBadRequest(f"Invalid input for tags. Reason: an item bears {MAX_TAGS} tags at most.")
