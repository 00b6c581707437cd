"""Who calls, by auth mode. What a caller may do is ``api.authorisation``'s."""

from collections.abc import Mapping

from portward.api.identity import http_basic, none
from portward.api.identity.caller import Caller, Identify
from portward.config import Settings

__all__ = ["Caller", "Identify", "admit", "check_settings", "make_identify"]


def check_settings(settings: Settings) -> None:
    """Refuse settings that would let strangers in, or nobody.

    Raises:
        ConfigurationError: they would.
    """
    if settings.auth.mode == "none":
        none.check_listener(settings)
    else:
        make_identify(settings)


def make_identify(settings: Settings) -> Identify:
    """How callers are identified in the auth mode of ``settings``.

    Raises:
        ConfigurationError: what the mode needs is missing or cannot be used.
    """
    if settings.auth.mode == "http_basic":
        return http_basic.make_identify(settings.auth.users_file)
    if settings.auth.mode == "keystone":
        from portward.api.identity import keystone  # a second of imports that the other modes do without

        return keystone.make_identify(settings.keystone)
    return none.make_identify(settings.auth.project)


def admit(settings: Settings, headers: Mapping[str, str]) -> None:
    """Let in no request that the auth mode never takes, on whatever path.

    Raises:
        ServiceError: such a request (403).
    """
    if settings.auth.mode == "none":
        none.refuse_web_pages(headers, named=settings.api.socket_path is None)
