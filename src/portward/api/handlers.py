"""From a request to an ``Operation`` and back: who calls, what they sent, and the transaction in which it is done.

Operations run in worker threads, each in one transaction, and their answers are made inside it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portward.api import collection
from portward.api.access import Access
from portward.api.body import read_body
from portward.api.call import Call, Operation, expected_revision
from portward.api.discovery import base_address
from portward.api.errors import HTTPMethodNotAllowed, error_response
from portward.api.news import News
from portward.api.resource import Resource
from portward.config import Settings
from portward.model import PortwardError
from portward.service import default_group
from portward.service.context import Context
from portward.store import Store

_log = structlog.get_logger(__name__)
_Result = TypeVar("_Result")
Handler = Callable[[Request], Awaitable[Response]]


class Handlers:
    """Makes handlers of operations."""

    def __init__(
        self, store: Store, news: News, settings: Settings, access: Access, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._news = news
        self._settings = settings
        self._clock = clock
        self._access = access

    def reads(self, operation: Operation, status: int = 200) -> Handler:
        """A handler that tells something."""
        return self._handler(lambda call: self._store.reading(_answered(operation, call)), status)

    def writes(self, operation: Operation, status: int = 200) -> Handler:
        """A handler that changes something."""

        def write(call: Call) -> bytes:
            answer = self._store.writing(_answered(operation, call))
            self._news.announce()
            return answer

        return self._handler(write, status)

    def lists(self, resource: Resource) -> Handler:
        """A handler that lists ``resource``. Who may read gets the project's default group with the first list."""

        def read(call: Call) -> bytes:
            answered = _answered(partial(collection.index, resource), call)
            may_have = resource.has_defaults and call.authority.allows_own(f"get_{resource.schema.singular}")

            def unless_missing(session: Session) -> bytes | None:
                return None if may_have and default_group.missing(session, call.context) else answered(session)

            answer = self._store.reading(unless_missing)
            if answer is None:
                self._make_default_group(call.context)
                answer = self._store.reading(answered)
            return answer

        return self._handler(read, 200)

    async def identify(self, request: Request) -> Context:
        """Who calls, and when.

        Raises:
            Unauthenticated: nobody we know.
        """
        caller = await self._access.identify(request.headers)
        request.scope["portward.caller"] = caller
        return Context(
            project_id=caller.project_id,
            is_admin=self._access.authorisation.is_admin(caller),
            roles=caller.roles,
            request_id=request.scope["portward.request_id"],
            now=self._clock(),
            default_group=self._settings.default_firewall_group,
            quotas=self._settings.quotas,
        )

    def base_address(self, request: Request) -> str:
        """Where the client found us."""
        return base_address(request, trust_forwarded=self._settings.api.trust_forwarded)

    def _handler(self, answer: Callable[[Call], bytes], status: int) -> Handler:
        async def handler(request: Request) -> Response:
            context = await self.identify(request)
            call = Call(
                context=context,
                authority=self._access.authorisation.of(context),
                address=self.base_address(request) + request.scope["portward.path"],
                path=request.path_params,
                query=request.query_params,
                body=await read_body(request, self._settings.api.max_body),
                revision=expected_revision(request.headers),
            )
            body = await anyio.to_thread.run_sync(answer, call)
            return json_response(body, status) if body else Response(status_code=status)

        return handler

    def _make_default_group(self, context: Context) -> None:
        """A list never fails because of it; what cannot be made now is made by the next."""
        try:
            self._store.writing(lambda session: default_group.ensure(session, context, context.project_id))
            self._news.announce()
        except (PortwardError, SQLAlchemyError) as error:
            _log.error("default_group_failed", project=context.project_id, error=str(error))


@dataclass(frozen=True)
class Methods:
    """An endpoint: a handler a method, 405 for all other methods."""

    handlers: Mapping[str, Handler]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        request = Request(scope, receive)
        handler = self.handlers.get(request.method)
        if handler is None:
            response = error_response(HTTPMethodNotAllowed(request.method))
            response.headers["Allow"] = ", ".join(self.handlers)
        else:
            response = await handler(request)
        await response(scope, receive, send)


def json_response(body: bytes, status: int = 200) -> Response:
    """An answer whose body is ``body``."""
    return Response(body, status, {"Content-Type": "application/json"})


def _answered(operation: Operation, call: Call) -> Callable[[Session], bytes]:
    work = operation(call)

    def answer(session: Session) -> bytes:
        result: Any = work(session)
        return b"" if result is None else msgspec.json.encode(result)

    return answer
