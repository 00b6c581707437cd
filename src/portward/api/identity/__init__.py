"""Who calls, by auth mode. What a caller may do is ``api.authorisation``'s."""

from collections.abc import Mapping

from portward.api.identity import http_basic, none
from portward.api.identity.caller import Caller, Identify
from portward.config import Settings

__all__ = ["Caller", "Identify", "admit", "make_identify"]


def make_identify(settings: Settings) -> Identify:
    """How callers are identified in the auth mode of ``settings``.

    Raises:
        ConfigurationError: the mode would let strangers in, or what it needs is missing or cannot be used.
    """
    if settings.auth.mode == "http_basic":
        return http_basic.make_identify(settings.auth.users_file)
    if settings.auth.mode == "keystone":
        from portward.api.identity import keystone  # a second of imports that the other modes do without

        return keystone.make_identify(settings.keystone)
    return none.make_identify(settings)


def admit(settings: Settings, headers: Mapping[str, str]) -> None:
    """Let in no request that the auth mode never takes, on whatever path.

    Raises:
        ServiceError: such a request (403).
    """
    if settings.auth.mode == "none":
        none.refuse_web_pages(headers, named=settings.api.socket_path is None)
