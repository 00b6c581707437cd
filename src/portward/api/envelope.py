"""What every answer has: a request id, one line in the log, and an error in Neutron's shape if the request fails.

Also what a path means whichever way it is written: a slash or ``.json`` at its end, and firewall resources without
``/fwaas``, are taken as Neutron takes them.
"""

import time
from dataclasses import dataclass
from uuid import uuid4

import structlog
from sqlalchemy.exc import DatabaseError, OperationalError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portward.api.errors import (
    HTTPInternalServerError,
    HTTPServiceUnavailable,
    Unauthenticated,
    error_response,
    unauthenticated_response,
)
from portward.api.identity import admit
from portward.config import Settings
from portward.service.errors import ServiceError
from portward.store import StoreError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Envelope:
    """``app``, with all of this around it."""

    app: ASGIApp
    settings: Settings
    quiet: frozenset[str]  # paths that the log mentions at level debug only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
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
        inner = {**scope, "path": canonical_path(path), "portward.path": path, "portward.request_id": request_id}
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


def canonical_path(path: str) -> str:
    """The one of our paths that ``path`` means. A tag may end in anything, so it is left as it is."""
    path = path.rstrip("/") or "/"
    if path.startswith("/v2.0/"):
        if "/tags/" not in path:
            path = path.removesuffix(".json")
        if path.startswith("/v2.0/firewall_"):
            path = path.replace("/v2.0/", "/v2.0/fwaas/", 1)
    return path
