"""What the wire itself refuses, and the one shape in which clients read any refusal.

The classes are named as Neutron names them, since the name is part of the answer.
"""

import msgspec
from starlette.responses import Response

from portward.model import PortwardError
from portward.service.errors import BadRequest, Forbidden, NotFound, ServiceError


class HTTPBadRequest(BadRequest):
    """Attributes or values that the resource does not take."""


class MalformedRequestBody(BadRequest):
    """A body that is no JSON, or JSON that we do not store."""

    template = "Malformed request body: {}."


class BadRequestBody(BadRequest):
    """A change without a body; Neutron calls it ``BadRequest``."""

    template = "Bad body request: {}."


class HTTPForbidden(Forbidden):
    """A request that is never let in."""


class PolicyNotAuthorized(Forbidden):
    """What the caller's roles do not allow. The rules named are those of ``rbac``."""

    template = "{} is disallowed by policy"


class RevisionNumberConstraintFailed(ServiceError):
    """``If-Match`` names another revision than the present one."""

    status = 412
    template = "Constrained to {}, but current revision is {}"


class BadIfMatch(BadRequest):
    """An ``If-Match`` that is no revision number; Neutron calls it ``BadRequest``."""

    template = "Bad if-match request: Revision number etag must be in the format of revision_number=<int>."


class BadLimit(BadRequest):
    """A ``limit`` that is no number of items; Neutron calls it ``BadRequest``."""

    template = "Bad limit request: Limit must be an integer 0 or greater and not '{}'."


class HTTPNotFound(NotFound):
    """A path that nothing is at."""

    template = "The resource could not be found."


class HTTPMethodNotAllowed(ServiceError):
    """A path that does not take this method."""

    status = 405
    template = "The method {} is not allowed for this resource."


class HTTPRequestEntityTooLarge(ServiceError):
    """A body above ``[api] max_body``."""

    status = 413
    template = "The body of the request is larger than {} bytes ([api] max_body)."


class HTTPServiceUnavailable(ServiceError):
    """The database could not serve the request; the same request may pass later."""

    status = 503
    template = "The database could not serve the request; try again, and see the server's log."


class HTTPInternalServerError(ServiceError):
    """A fault of ours. What it was stands in the log, under the request's id."""

    status = 500
    template = "Request Failed: internal server error while processing your request."


class Unauthenticated(PortwardError):
    """The headers do not show who calls. ``challenge`` is the answer's ``WWW-Authenticate``."""

    def __init__(self, challenge: str) -> None:
        super().__init__("The request you have made requires authentication.")
        self.challenge = challenge


#: Python's names that are not Neutron's.
_NAMES: dict[type[ServiceError], str] = dict.fromkeys((BadRequestBody, BadIfMatch, BadLimit), "BadRequest")


def error_type(kind: type[ServiceError]) -> str:
    """The name that clients read."""
    return _NAMES.get(kind, kind.__name__)


def error_response(error: ServiceError) -> Response:
    """``error`` as Neutron would answer it."""
    kind = type(error)
    body = {"NeutronError": {"type": error_type(kind), "message": str(error), "detail": ""}}
    headers = {"Content-Type": "application/json"}
    if kind.status == 503:
        headers["Retry-After"] = "5"  # seconds
    return Response(msgspec.json.encode(body), kind.status, headers)


def unauthenticated_response(error: Unauthenticated) -> Response:
    """``error`` as keystonemiddleware would answer it; clients know no other shape for it."""
    body = {"error": {"code": 401, "title": "Unauthorized", "message": str(error)}}
    headers = {"Content-Type": "application/json", "WWW-Authenticate": error.challenge}
    return Response(msgspec.json.encode(body), 401, headers)
