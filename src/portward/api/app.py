"""The API as an ASGI application: which path means what. No rule of the domain lives here."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from portward.api import actions, collection, counters, discovery, effective, tags
from portward.api.access import Access
from portward.api.envelope import Envelope
from portward.api.errors import HTTPForbidden, HTTPNotFound
from portward.api.handlers import Handler, Handlers, Methods, json_response
from portward.api.news import News
from portward.api.openapi import make_document
from portward.api.resource import Resource
from portward.api.resources import ADDRESS_GROUPS, ALL, GROUPS, POLICIES
from portward.config import Settings
from portward.store import Store, now

#: What openstackclient asks when `--project ID` is given and it takes us for its identity service: told that it may
#: not look projects up, it uses the id as it is.
_TENANTS = ("/tenants", "/tenants/{id}", "/v2.0/tenants", "/v2.0/tenants/{id}")


def create_app(
    store: Store,
    news: News,
    settings: Settings,
    access: Access,
    *,
    clock: Callable[[], datetime] = now,
    unasked: Mapping[str, Handler] = MappingProxyType({}),
) -> ASGIApp:
    """The public API on ``store``; ``news`` hears of each commit. ``unasked``: paths read by anybody, and often."""
    handlers = Handlers(store, news, settings, access, clock)
    routes = [
        *_discovery_routes(handlers),
        _route("/openapi.json", GET=_fixed(msgspec.json.encode(make_document(settings)))),
        *(_route(path, GET=_no_tenants) for path in _TENANTS),
        *(_route(path, GET=handler) for path, handler in unasked.items()),
        *(route for resource in ALL for route in _resource_routes(handlers, resource)),
        _route(f"/v2.0{POLICIES.path}/{{id}}/insert_rule", PUT=handlers.writes(actions.insert_rule)),
        _route(f"/v2.0{POLICIES.path}/{{id}}/remove_rule", PUT=handlers.writes(actions.remove_rule)),
        _route(f"/v2.0{POLICIES.path}/{{id}}/counters", GET=handlers.reads(counters.policy_counters)),
        _route(f"/v2.0{ADDRESS_GROUPS.path}/{{id}}/add_addresses", PUT=handlers.writes(actions.add_addresses)),
        _route(f"/v2.0{ADDRESS_GROUPS.path}/{{id}}/remove_addresses", PUT=handlers.writes(actions.remove_addresses)),
        _route(f"/v2.0{GROUPS.path}/{{id}}/realisation", GET=handlers.reads(actions.realisation)),
        _route("/v2.0/fwaas/effective/{port_id}", GET=handlers.reads(effective.effective)),
        _route("/v2.0/fwaas/explain", POST=handlers.reads(actions.explain)),
        _route("/v2.0/fwaas/hosts", GET=handlers.reads(actions.hosts)),
    ]
    return Envelope(Router(routes, redirect_slashes=False, default=_not_found), settings, frozenset(unasked))


def _route(path: str, **handlers: Handler) -> Route:
    """A route that answers 405 to any other method."""
    return Route(path, Methods(handlers))


def _resource_routes(handlers: Handlers, resource: Resource) -> list[Route]:
    """The collection of ``resource``, its items, and their tags."""
    reads, writes = handlers.reads, handlers.writes
    path = f"/v2.0{resource.path}"
    return [
        _route(path, GET=handlers.lists(resource), POST=writes(partial(collection.create, resource), 201)),
        _route(
            f"{path}/{{id}}",
            GET=reads(partial(collection.show, resource)),
            PUT=writes(partial(collection.update, resource)),
            DELETE=writes(partial(collection.delete, resource), 204),
        ),
        _route(
            f"{path}/{{id}}/tags",
            GET=reads(partial(tags.index, resource)),
            PUT=writes(partial(tags.replace, resource)),
            POST=writes(partial(tags.add, resource)),
            DELETE=writes(partial(tags.clear, resource), 204),
        ),
        _route(
            f"{path}/{{id}}/tags/{{tag}}",
            GET=reads(partial(tags.confirm, resource), 204),
            PUT=writes(partial(tags.add_one, resource), 201),
            DELETE=writes(partial(tags.remove, resource), 204),
        ),
    ]


def _discovery_routes(handlers: Handlers) -> list[Route]:
    """What clients read before they work. The documents of versions are open to everybody."""

    async def root(request: Request) -> Response:
        return json_response(msgspec.json.encode(discovery.root(handlers.base_address(request))))

    async def version(request: Request) -> Response:
        collections = [(resource.schema.singular, resource.path) for resource in ALL]
        return json_response(msgspec.json.encode(discovery.version(handlers.base_address(request), collections)))

    async def extensions(request: Request) -> Response:
        await handlers.identify(request)
        return json_response(msgspec.json.encode({"extensions": discovery.extensions()}))

    async def extension(request: Request) -> Response:
        await handlers.identify(request)
        for found in discovery.extensions():
            if found["alias"] == request.path_params["alias"]:
                return json_response(msgspec.json.encode({"extension": found}))
        raise HTTPNotFound

    return [
        _route("/", GET=root),
        _route("/v2.0", GET=version),
        _route("/v2.0/extensions", GET=extensions),
        _route("/v2.0/extensions/{alias}", GET=extension),
    ]


def _fixed(document: bytes) -> Handler:
    """A handler that answers ``document`` to everybody."""

    async def answer(_request: Request) -> Response:
        return json_response(document)

    return answer


async def _no_tenants(_request: Request) -> Response:
    """Refuse to be the identity service."""
    raise HTTPForbidden("Projects are not looked up here; give the project's id")


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise HTTPNotFound
