"""What can be asked of any resource: to list, make, show, change and delete it."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET
from sqlalchemy.orm import Session

from portward.api.attributes import Attribute
from portward.api.authorisation import Authority
from portward.api.call import Call
from portward.api.errors import HTTPBadRequest
from portward.api.listing import page_links, parse_listing
from portward.api.resource import Resource
from portward.api.schema import Given
from portward.service.default_group import ensure

_Work = Callable[[Session], Any]


def index(resource: Resource, call: Call) -> _Work:
    """The list that the query asks for."""
    schema = resource.schema
    listing = parse_listing(schema, call.query)
    asked = {*listing.filters, *(attribute.name for attribute, _ in listing.sorts)}
    for attribute in schema.guarded("get"):
        if attribute.name in asked:  # an order or a filter would tell what the answer hides
            call.authority.require([f"get_{schema.singular}:{attribute.name}"], call.context.project_id)

    def work(session: Session) -> dict[str, Any]:
        page = listing.page(session, call.context, resource, call.authority)
        views = [] if page is None else list(resource.list(session, call.context, page))
        if listing.reverse:
            views.reverse()
        show = shown(resource, call, call.query.getlist("fields"))
        answer: dict[str, Any] = {schema.plural: [show(view) for view in views]}
        if listing.limit:
            ids = [view.row.id for view in views]
            answer[f"{schema.plural}_links"] = page_links(call.address, call.query, listing, ids)
        return answer

    return work


def create(resource: Resource, call: Call) -> _Work:
    """One new item, or many, all or none."""
    schema = resource.schema
    items, is_bulk = schema.parse_create(call.body)
    projects = dict.fromkeys(_authorise_new(resource, call, given) for given in items)

    def work(session: Session) -> dict[str, Any]:
        if resource.has_defaults:
            for project_id in projects:
                ensure(session, call.context, project_id)
        show = shown(resource, call)
        made = [show(resource.create(session, call.context, given.values)) for given in items]
        return {schema.plural: made} if is_bulk else {schema.singular: made[0]}

    return work


def show(resource: Resource, call: Call) -> _Work:
    """One item."""

    def work(session: Session) -> dict[str, Any]:
        row = call.find(session, resource, ())
        view = resource.get(session, call.context, row.id)
        return {resource.schema.singular: shown(resource, call, call.query.getlist("fields"))(view)}

    return work


def update(resource: Resource, call: Call) -> _Work:
    """Change one item."""
    singular = resource.schema.singular
    given = resource.schema.parse_update(call.body)
    rules = [f"update_{singular}", *(f"update_{singular}:{name}" for name in given.guarded)]

    def work(session: Session) -> dict[str, Any]:
        row = call.find(session, resource, rules)
        return {singular: shown(resource, call)(resource.update(session, call.context, row.id, given.values))}

    return work


def delete(resource: Resource, call: Call) -> _Work:
    """Delete one item."""
    refuse_body(call)

    def work(session: Session) -> None:
        row = call.find(session, resource, [f"delete_{resource.schema.singular}"])
        resource.delete(session, call.context, row.id)

    return work


def refuse_body(call: Call) -> None:
    """Make sure that a deletion says nothing but what to delete.

    Raises:
        HTTPBadRequest: it has a body.
    """
    if call.body:
        raise HTTPBadRequest("Request body is not supported in DELETE.")


def shown(resource: Resource, call: Call, fields: Sequence[str] = ()) -> Callable[[Any], dict[str, Any]]:
    """How views of ``resource`` are shown to the caller: ``fields`` alone if any, and none that are not for them."""
    wanted = [attribute for attribute in resource.schema.attributes if not fields or attribute.name in fields]
    guarded = resource.schema.guarded("get")
    if not guarded:
        return lambda view: {attribute.name: attribute.read(view) for attribute in wanted}
    by_owner: dict[str, list[Attribute]] = {}

    def show(view: Any) -> dict[str, Any]:
        owner = view.row.project_id
        if owner not in by_owner:
            hidden = [attribute for attribute in guarded if not _may_read(call.authority, resource, attribute, owner)]
            by_owner[owner] = [attribute for attribute in wanted if attribute not in hidden]
        return {attribute.name: attribute.read(view) for attribute in by_owner[owner]}

    return show


def _may_read(authority: Authority, resource: Resource, attribute: Attribute, owner: str) -> bool:
    return authority.allows(f"get_{resource.schema.singular}:{attribute.name}", owner)


def _authorise_new(resource: Resource, call: Call, given: Given) -> str:
    """The project of a new item, which the caller may make in it."""
    own = call.context.project_id
    project_id: str = own if given.values.project_id is UNSET else given.values.project_id
    if not call.context.is_admin and project_id != own:
        raise HTTPBadRequest(
            "Specifying 'project_id' other than the authenticated project in request is not allowed for the current "
            "user."
        )
    if not project_id:
        raise HTTPBadRequest("Name the project: 'project_id' is missing or empty, and the caller has none.")
    singular = resource.schema.singular
    rules = [f"create_{singular}", *(f"create_{singular}:{name}" for name in given.guarded)]
    call.authority.require(rules, project_id, shared=getattr(given.values, "shared", False) is True)
    return project_id
