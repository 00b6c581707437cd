"""The API as an ASGI application: from a request to ``service`` and back, and every refusal in Neutron's shape.

Database work runs in worker threads, one transaction a request; answers are made inside it. No rule of the domain
lives here.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import uuid4

import anyio.to_thread
import msgspec
import structlog
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portward.api import actions, discovery
from portward.api.body import read_body
from portward.api.errors import (
    HTTPBadRequest,
    HTTPForbidden,
    HTTPInternalServerError,
    HTTPMethodNotAllowed,
    HTTPNotFound,
    HTTPServiceUnavailable,
    Unauthenticated,
    error_response,
    unauthenticated_response,
)
from portward.api.identity import admit, make_identify
from portward.api.news import News
from portward.api.resources import ALL, GROUPS, POLICIES, Resource
from portward.config import Settings
from portward.service.context import Context
from portward.service.errors import ServiceError
from portward.service.rows import Page
from portward.store import Store, StoreError, now

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    store: Store,
    news: News,
    settings: Settings,
    *,
    clock: Callable[[], datetime] = now,
    unasked: Mapping[str, Handler] = MappingProxyType({}),
) -> ASGIApp:
    """The public API on ``store``; ``news`` hears of each commit. ``unasked``: paths read by anybody, and often."""
    server = _Server(store, news, settings, clock)
    routes = [
        server.route("/", GET=server.root),
        server.route("/v2.0", GET=server.version),
        server.route("/v2.0/extensions", GET=server.extensions),
        server.route("/v2.0/extensions/{alias}", GET=server.extension),
        *(server.route(path, GET=server.no_tenants) for path in _TENANTS),
        *(server.route(path, GET=handler) for path, handler in unasked.items()),
    ]
    for resource in ALL:
        routes += server.resource_routes(resource)
    item = f"/v2.0{POLICIES.path}/{{id}}"
    routes += [
        server.route(f"{item}/insert_rule", PUT=server.action(actions.insert_rule)),
        server.route(f"{item}/remove_rule", PUT=server.action(actions.remove_rule)),
        server.route(f"/v2.0{GROUPS.path}/{{id}}/realisation", GET=server.query(actions.realisation)),
        server.route("/v2.0/fwaas/explain", POST=server.query(actions.explain)),
    ]
    return _Envelope(Router(routes, redirect_slashes=False, default=_not_found), settings, frozenset(unasked))


#: What openstackclient asks when `--project ID` is given and it takes us for its identity service: told that it may
#: not look projects up, it uses the id as it is.
_TENANTS = ("/tenants", "/tenants/{id}", "/v2.0/tenants", "/v2.0/tenants/{id}")


class _Server:
    """The handlers, and what they all need."""

    def __init__(self, store: Store, news: News, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._news = news
        self._settings = settings
        self._clock = clock
        self._identify = make_identify(settings)

    def route(self, path: str, **handlers: Handler) -> Route:
        """A route that answers 405 to any other method."""
        return Route(path, _Methods(handlers))

    def resource_routes(self, resource: Resource) -> list[Route]:
        """The collection and the items of ``resource``."""
        schema = resource.schema

        async def index(request: Request) -> Response:
            context = await self._context(request)
            filters = schema.parse_filters(request.query_params)
            fields = request.query_params.getlist("fields")

            def call(session: Session) -> bytes:
                views = resource.list(session, context, Page(where=schema.where(filters)))
                shown = [schema.show(view, fields) for view in views if schema.matches(view, filters)]
                return msgspec.json.encode({schema.plural: shown})

            return _json(await self._read(call))

        async def create(request: Request) -> Response:
            context = await self._context(request)
            values = schema.parse_create(await self._body(request))

            def call(session: Session) -> bytes:
                return msgspec.json.encode({schema.singular: schema.show(resource.create(session, context, values))})

            return _json(await self._write(call), 201)

        async def show(request: Request) -> Response:
            context = await self._context(request)
            fields = request.query_params.getlist("fields")

            def call(session: Session) -> bytes:
                view = resource.get(session, context, request.path_params["id"])
                return msgspec.json.encode({schema.singular: schema.show(view, fields)})

            return _json(await self._read(call))

        async def update(request: Request) -> Response:
            context = await self._context(request)
            values = schema.parse_update(await self._body(request))

            def call(session: Session) -> bytes:
                view = resource.update(session, context, request.path_params["id"], values)
                return msgspec.json.encode({schema.singular: schema.show(view)})

            return _json(await self._write(call))

        async def delete(request: Request) -> Response:
            context = await self._context(request)
            if await self._body(request):
                raise HTTPBadRequest("Request body is not supported in DELETE.")
            await self._write(lambda session: resource.delete(session, context, request.path_params["id"]))
            return Response(status_code=204)

        path = f"/v2.0{resource.path}"
        return [
            self.route(path, GET=index, POST=create),
            self.route(f"{path}/{{id}}", GET=show, PUT=update, DELETE=delete),
        ]

    def action(self, perform: Callable[[Session, Context, str, bytes], Any]) -> Handler:
        """A handler that changes the item of its path as the body says."""

        async def handler(request: Request) -> Response:
            context = await self._context(request)
            body = await self._body(request)
            id_ = request.path_params["id"]
            return _json(await self._write(lambda session: msgspec.json.encode(perform(session, context, id_, body))))

        return handler

    def query(self, ask: Callable[[Session, Context, str, bytes], Any]) -> Handler:
        """A handler that tells something, about the item of its path or what the body asks."""

        async def handler(request: Request) -> Response:
            context = await self._context(request)
            body = await self._body(request)
            id_ = request.path_params.get("id", "")
            return _json(await self._read(lambda session: msgspec.json.encode(ask(session, context, id_, body))))

        return handler

    async def root(self, request: Request) -> Response:
        """Which versions there are."""
        return _json(msgspec.json.encode(discovery.root(request.url)))

    async def version(self, request: Request) -> Response:
        """What there is in version 2.0."""
        collections = [(resource.schema.singular, resource.path) for resource in ALL]
        return _json(msgspec.json.encode(discovery.version(request.url, collections)))

    async def extensions(self, request: Request) -> Response:
        """What is implemented."""
        await self._context(request)
        return _json(msgspec.json.encode({"extensions": discovery.extensions()}))

    async def extension(self, request: Request) -> Response:
        """Whether one extension is implemented."""
        await self._context(request)
        for extension in discovery.extensions():
            if extension["alias"] == request.path_params["alias"]:
                return _json(msgspec.json.encode({"extension": extension}))
        raise HTTPNotFound

    async def no_tenants(self, _request: Request) -> Response:
        """Refuse to be the identity service."""
        raise HTTPForbidden("Projects are not looked up here; give the project's id")

    async def _context(self, request: Request) -> Context:
        caller = await self._identify(request.headers)
        request.scope["portward.caller"] = caller
        return Context(
            project_id=caller.project_id,
            is_admin="admin" in caller.roles,
            roles=caller.roles,
            request_id=request.scope["portward.request_id"],
            now=self._clock(),
            default_group=self._settings.default_firewall_group,
            quotas=self._settings.quotas,
        )

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._settings.api.max_body)

    async def _read(self, call: Callable[[Session], bytes]) -> bytes:
        return await anyio.to_thread.run_sync(self._store.reading, call)

    async def _write(self, call: Callable[[Session], _Result]) -> _Result:
        result = await anyio.to_thread.run_sync(self._store.writing, call)
        self._news.announce()
        return result


@dataclass(frozen=True)
class _Methods:
    """An endpoint: a handler a method, 405 for all other methods."""

    handlers: Mapping[str, Handler]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        handler = self.handlers.get(request.method)
        if handler is None:
            response = error_response(HTTPMethodNotAllowed(request.method))
            response.headers["Allow"] = ", ".join(self.handlers)
        else:
            response = await handler(request)
        await response(scope, receive, send)


@dataclass(frozen=True)
class _Envelope:
    """What every answer has: a request id, one line in the log, and an error in Neutron's shape if it fails."""

    app: ASGIApp
    settings: Settings
    quiet: frozenset[str]  # paths that the log mentions at level debug only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = f"req-{uuid4()}"
        began = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-openstack-request-id", request_id.encode())]
            await send(message)

        path = scope["path"]
        inner = {**scope, "path": path.rstrip("/") or "/", "portward.request_id": request_id}
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                admit(self.settings, Headers(scope=scope))
                await self.app(inner, receive, send_with_id)
            except Unauthenticated as error:
                await unauthenticated_response(error)(scope, receive, send_with_id)
            except ClientDisconnect:
                pass  # in the middle of its body: nobody is there to read an answer, and status 0 stands in the log
            except Exception as error:
                if status:  # the answer has begun: nothing better can be said
                    raise
                await error_response(_refusal(error))(scope, receive, send_with_id)
            milliseconds = round((time.monotonic() - began) * 1000, 1)
            scope["route"] = inner.get("route")  # for those around us
            caller = inner.get("portward.caller")
            who = {"user": caller.user, "project": caller.project_id} if caller else {}
            log = _log.debug if path in self.quiet else _log.info
            log("request", method=scope["method"], path=path, status=status, ms=milliseconds, **who)


def _refusal(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, StoreError) or type(error) in (OperationalError, DatabaseError):
        _log.error("database_failed", error=str(error))
        return HTTPServiceUnavailable()
    _log.exception("request_failed", exc_info=error)
    return HTTPInternalServerError()


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise HTTPNotFound


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, {"Content-Type": "application/json"})
