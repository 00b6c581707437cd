"""Who calls: the one place where a request becomes a ``Context``.

Mode ``none`` makes every caller an admin of one project. That is for one machine's own users, so it is refused for
a listener that other machines can reach, and for pages in a browser, which reach loopback too.
"""

from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address

from portward.api.errors import HTTPForbidden
from portward.config import ConfigurationError, Settings
from portward.service.context import Context

_ROLES = frozenset({"admin", "member", "reader"})


def check_listener(settings: Settings) -> None:
    """Refuse to let everybody in from everywhere.

    Raises:
        ConfigurationError: the API would listen beyond loopback without asking who calls.
    """
    host, _ = settings.api.address
    if host != "localhost" and not _is_loopback(host):
        raise ConfigurationError(
            f"[auth] mode: none makes every caller an admin, and [api] listen is {settings.api.listen}: "
            "listen on 127.0.0.1 or [::1]"
        )


def authenticate(settings: Settings, headers: Mapping[str, str], request_id: str, now: datetime) -> Context:
    """Who sent ``headers``, and so whose request this is.

    Raises:
        HTTPForbidden: a page in a browser did; none of our clients is one.
    """
    if "origin" in headers:
        raise HTTPForbidden("auth mode none takes no requests from web pages")
    return Context(project_id=settings.auth.project, is_admin=True, roles=_ROLES, request_id=request_id, now=now)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
