"""Auth mode ``keystone``: tokens, validated by keystonemiddleware, of which this is the ASGI side.

Of a request only its two token headers reach the library, so nothing else that a stranger sends can pass for what
Keystone said. It runs in worker threads of its own: a Keystone that hangs takes none of the threads that serve
requests, and tokens that were validated a short while ago go on meanwhile. It never lets in what Keystone did not
confirm. The library's options live in an object of their own; no file of OpenStack's and no argument is read.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import anyio
import anyio.to_thread
import structlog
import webob  # type: ignore[import-untyped]
from keystoneauth1 import exceptions as keystoneauth_errors
from keystoneauth1 import loading
from keystonemiddleware import auth_token  # type: ignore[import-untyped]
from keystonemiddleware.exceptions import KeystoneMiddlewareException  # type: ignore[import-untyped]
from oslo_config import cfg

from portward.api.errors import Unauthenticated
from portward.api.identity.caller import Caller, Identify, with_implied
from portward.api.identity.verified import Verified
from portward.config import ConfigurationError, Keystone
from portward.service.errors import ServiceError

_log = structlog.get_logger(__name__)
#: How many validated tokens are known.
CACHE_SIZE = 4096
_GROUP = "keystone_authtoken"
_CACHE = "portward.no_cache"
#: Options that would change who is let in, or that have no meaning here.
_FIXED = {
    "delay_auth_decision": "a token that is not confirmed is never let in",
    "cache": "there is no Swift here",
    "auth_section": "all options are in [keystone]",
    "service_type": "tokens that are restricted by access rules are refused",
}
_TIMEOUT = 10  # seconds that Keystone may take, unless http_connect_timeout says another number
_THREADS = 8
_WAITING = 64


class IdentityUnavailable(ServiceError):
    """Keystone cannot say whose the token is."""

    status = 503
    template = "The identity service (Keystone) does not answer; try again in some seconds."


def make_identify(section: Keystone, *, clock: Callable[[], float] = time.time) -> Identify:
    """Callers are who Keystone says they are; ``clock`` tells seconds since 1970.

    Raises:
        ConfigurationError: an option is unknown, wrong or missing.
    """
    return _Tokens(section.options, clock).identify


class _Tokens:
    def __init__(self, options: Mapping[str, Any], clock: Callable[[], float]) -> None:
        conf = _make_conf(options)
        chosen = conf[_GROUP]
        self._clock = clock
        self._challenge = f'Keystone uri="{chosen.www_authenticate_uri}"'
        # With memcached the library remembers tokens there, and a second memory would make revoked ones live longer.
        self._cache_seconds = 0 if chosen.memcached_servers else max(0, chosen.token_cache_time)
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._verified = Verified(CACHE_SIZE)
        try:
            self._protocol = auth_token.AuthProtocol(_let_in, {"oslo_config_config": conf})
        except (KeystoneMiddlewareException, keystoneauth_errors.ClientException, OSError, ValueError) as error:
            raise ConfigurationError(f"[keystone]: {error}") from error

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        token, service_token = headers.get("x-auth-token", ""), headers.get("x-service-token", "")
        if not token or not (token + service_token).isascii() or not (token + service_token).isprintable():
            raise Unauthenticated(self._challenge)
        sent = token.encode(), service_token.encode()
        if caller := self._verified.find(sent, self._clock()):
            return caller
        if self._threads.statistics().tasks_waiting >= _WAITING:
            raise IdentityUnavailable
        environ = await anyio.to_thread.run_sync(self._validate, token, service_token, limiter=self._threads)
        project = environ.get("HTTP_X_PROJECT_ID") or ""
        # A token of a domain, of the system or of nothing: its roles, admin too, are about something else.
        roles = [role for role in (environ.get("HTTP_X_ROLES") or "").split(",") if role] if project else []
        caller = Caller(project_id=project, roles=with_implied(roles), user=environ.get("HTTP_X_USER_ID") or "")
        self._verified.remember(sent, caller, min(self._clock() + self._cache_seconds, _expiry(environ)))
        return caller

    def _validate(self, token: str, service_token: str) -> dict[str, Any]:
        """What the library says of a request with these tokens, as the environment of a WSGI application."""
        request = webob.Request.blank("/", headers={"X-Auth-Token": token})
        if service_token:
            request.headers["X-Service-Token"] = service_token
        request.environ[_CACHE] = _NoCache()
        try:
            status, _, _ = request.call_application(self._protocol)
        except keystoneauth_errors.ClientException as error:
            _log.error("keystone_failed", error=f"{type(error).__name__}: {error}")
            raise IdentityUnavailable from error
        if status.startswith("503"):
            raise IdentityUnavailable
        if not status.startswith("204") or request.environ.get("HTTP_X_IDENTITY_STATUS") != "Confirmed":
            raise Unauthenticated(self._challenge)
        return dict(request.environ)


class _NoCache:
    """In the place of the library's in-process cache, which has no bound."""

    def get(self, _key: str) -> None:
        return None

    def set(self, _key: str, _value: bytes, time: int = 0) -> None:
        pass


def _let_in(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application that the library guards."""
    start_response("204 No Content", [])
    return []


def _expiry(environ: Mapping[str, Any]) -> float:
    text: str = environ["keystone.token_info"]["token"]["expires_at"]
    return datetime.fromisoformat(text).timestamp()


def _make_conf(options: Mapping[str, Any]) -> cfg.ConfigOpts:
    """``options`` as oslo.config holds them, in an object that nobody else uses."""
    conf = cfg.ConfigOpts()
    conf([], project="portward", default_config_files=[], default_config_dirs=[])
    for group, known in auth_token.list_opts():
        conf.register_opts(known, group=group)
    try:
        plugin: Any = loading.get_plugin_loader(str(options.get("auth_type", "password")))
    except keystoneauth_errors.NoMatchingPlugin as error:
        raise ConfigurationError(f"[keystone] auth_type: {error}") from error
    conf.register_opts(loading.get_auth_plugin_conf_options(plugin), group=_GROUP)
    defaults = {
        "auth_type": "password",
        "www_authenticate_uri": options.get("auth_url"),
        "http_connect_timeout": _TIMEOUT,
    }
    for name, value in (defaults | dict(options) | {"cache": _CACHE}).items():
        if name in options and name in _FIXED:
            raise ConfigurationError(f"[keystone] {name}: not taken; {_FIXED[name]}")
        try:
            conf.set_override(name, value, group=_GROUP)
        except cfg.NoSuchOptError:
            raise ConfigurationError(f"[keystone] {name}: keystonemiddleware has no such option") from None
        except ValueError as error:
            raise ConfigurationError(f"[keystone] {name}: {error}") from error
    _require(options)
    return conf


def _require(options: Mapping[str, Any]) -> None:
    """Refuse what the library would only find out at the first request."""
    if not options.get("auth_url"):
        raise ConfigurationError(
            "[keystone] auth_url: give Keystone's URL, for example http://keystone.example:5000/v3"
        )
    if options.get("auth_type", "password") not in ("password", "v3password"):
        return  # each other kind of credentials has rules of its own
    wanted = {"username": ("username", "user_id"), "password": ("password",)}
    if not options.get("user_id"):
        wanted["user_domain_name"] = ("user_domain_name", "user_domain_id", "default_domain_name", "default_domain_id")
    for name, ways in wanted.items():
        if not any(options.get(way) for way in ways):
            raise ConfigurationError(f"[keystone] {name}: give the service's own user, which validates tokens, whole")
