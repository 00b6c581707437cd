"""Auth mode ``none``.

It makes every caller an admin of one project. That is for one machine's own users, so it is refused for
a listener that other machines can reach, and for pages in a browser, which reach loopback too.
"""

import re
from collections.abc import Mapping

from portward.api.errors import HTTPForbidden
from portward.api.identity.caller import Caller, Identify
from portward.config import ConfigurationError, Settings, is_loopback


def refuse_web_pages(headers: Mapping[str, str], *, named: bool) -> None:
    """Let in no page of a browser; none of our clients is one. It applies to all paths.

    A page says its ``Origin`` when it asks another site. Where its own name was made to lead to loopback (DNS
    rebinding) it does not, but then ``Host`` is that name. A Unix socket is not ``named``: its clients say any host.

    Raises:
        HTTPForbidden: such a page, or whoever calls us by a name that is not this machine's own.
    """
    if "origin" in headers:
        raise HTTPForbidden("auth mode none takes no requests from web pages")
    if not named:
        return
    host = re.sub(r":[0-9]{1,5}$", "", headers.get("host", ""))
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if host == "[localhost]" or not is_loopback(bare):
        raise HTTPForbidden("auth mode none takes requests to localhost, 127.0.0.1 or [::1] alone; use such an address")


def make_identify(settings: Settings) -> Identify:
    """Everybody is an admin of the project that ``settings`` name.

    Raises:
        ConfigurationError: the API would listen beyond loopback without asking who calls.
    """
    host, _ = settings.api.address
    if not is_loopback(host):
        raise ConfigurationError(
            f"[auth] mode: none makes every caller an admin, and [api] listen is {settings.api.listen}: "
            "listen on 127.0.0.1, [::1] or unix:/path, or choose http_basic or keystone"
        )
    caller = Caller(project_id=settings.auth.project, roles=frozenset({"admin", "member", "reader"}))

    async def identify(_headers: Mapping[str, str]) -> Caller:
        return caller

    return identify
