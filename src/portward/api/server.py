"""Runs the API: the listener of users and that of agents, in one process and one event loop.

Stops on SIGTERM, SIGINT and SIGHUP: waiting polls are let go at once, requests that run are finished; a second signal
ends it where it is. What it refuses: to start where its settings would let strangers in, on a database it does not
know, with a certificate that cannot be used, or on an address that is taken.
"""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from datetime import datetime

import anyio
import structlog
from sqlalchemy.exc import DatabaseError

from portward.api import unix_socket
from portward.api.access import Access, make_access
from portward.api.agent_app import create_agent_app
from portward.api.app import create_app
from portward.api.connections import MOST_USERS, Listener, raise_limit, share
from portward.api.health import Monitor
from portward.api.http_server import Server
from portward.api.metrics import Metrics
from portward.api.news import News
from portward.api.tls import Certificate, certificate
from portward.config import ConfigurationError, Settings, host_port, is_loopback
from portward.config import Listener as ListenerSettings
from portward.log import log_to_stderr
from portward.service.context import Context
from portward.service.membership import adopt
from portward.store import Store, StoreError, now, upgrade
from portward.systemd import notify

_log = structlog.get_logger(__name__)
#: What asks to stop; SIGHUP too, which a terminal sends when it closes.
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Told where the API and the agents' listener really listen: (host, port) each; of a Unix socket ("unix:PATH", 0).
OnReady = Callable[[tuple[str, int], tuple[str, int]], None]


def serve(settings: Settings, *, on_ready: OnReady | None = None) -> None:
    """Serve until a signal asks to stop.

    Raises:
        ConfigurationError: the settings let strangers in, an address cannot be listened on, a certificate cannot be
            used, or too few files may be open.
        StoreError: the database cannot be used.
    """
    log_to_stderr(settings.log.level)
    anyio.run(_serve_until_signal, settings, on_ready)


def check(settings: Settings) -> tuple[Access, tuple[Certificate | None, Certificate | None]]:
    """All that ``settings`` name, if it can be used: who has access, and the certificates of the two listeners.

    Neither the database nor the network is asked.

    Raises:
        ConfigurationError: the settings let strangers in, or a file that they name cannot be used.
    """
    access = make_access(settings)
    return access, (certificate("api", settings.api), certificate("agent_api", settings.agent_api))


async def serve_until(
    stop: anyio.Event, settings: Settings, *, on_ready: OnReady | None = None, clock: Callable[[], datetime] = now
) -> None:
    """As ``serve``, until ``stop`` is set; ``clock`` tells the time, in UTC without a zone."""
    access, certificates = check(settings)
    connections, backlog = share(raise_limit())
    upgrade(settings.database.url)
    store = Store(settings.database.url)
    try:
        _adopt_ports(store, settings, clock())
        with (
            Listener(_listen(settings.api), min(connections, MOST_USERS)) as api,
            unix_socket.removed_at_end(settings.api.socket_path),
            Listener(_listen(settings.agent_api), connections) as agents,
        ):
            addresses = _address(api), _address(agents)
            _log.info("listening", api=_text(addresses[0]), agent_api=_text(addresses[1]), connections=connections)
            _warn_of_plain_text(settings)
            if on_ready is not None:
                on_ready(*addresses)
            news, metrics = News(store.generation), Metrics()
            monitor = Monitor(store, news, metrics, clock)
            users = create_app(
                store, news, settings, access, clock=clock, unasked=monitor.handlers(metrics=settings.api.metrics)
            )
            hosts = create_agent_app(store, news, now=clock, unasked=monitor.handlers(metrics=True))
            servers = {
                api: Server(metrics.measured(users, "api"), certificates[0], backlog),
                agents: Server(metrics.measured(hosts, "agent_api"), certificates[1], backlog),
            }
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(news.run)
                async with anyio.create_task_group() as renewals:
                    for served in filter(None, certificates):
                        renewals.start_soon(served.renew)
                    for listener, server in servers.items():
                        tasks.start_soon(_run, server, listener, stop)
                    notify("READY=1")
                    await stop.wait()
                    renewals.cancel_scope.cancel()
                notify("STOPPING=1")
                news.close()
                for server in servers.values():
                    server.should_exit = True
    finally:
        store.close()
    _log.info("stopped")


async def _run(server: Server, listener: socket.socket, stop: anyio.Event) -> None:
    await server.serve([listener])
    stop.set()  # should one server ever end by itself, the other must not go on alone


def _adopt_ports(store: Store, settings: Settings, when: datetime) -> None:
    """VM ports of a time without default groups must not stay open because nobody touches them."""
    if settings.default_firewall_group.enabled:
        nobody = Context(
            project_id="",
            is_admin=True,
            roles=frozenset(),
            request_id="start",
            now=when,
            default_group=settings.default_firewall_group,
        )
        try:
            store.writing(lambda session: adopt(session, nobody))
        except DatabaseError as error:
            raise StoreError(f"the database cannot be used, see to it or restore a backup: {error.orig}") from error


async def _serve_until_signal(settings: Settings, on_ready: OnReady | None) -> None:
    stop = anyio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        stop.set()
        for number in _STOPS:  # asked again, the process ends where it is
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _STOPS:
        loop.add_signal_handler(number, ask)
    await serve_until(stop, settings, on_ready=on_ready)


def _warn_of_plain_text(settings: Settings) -> None:
    for section, listener in (("api", settings.api), ("agent_api", settings.agent_api)):
        if listener.tls_cert is None and not is_loopback(listener.address[0]):
            _log.warning(
                "no_tls",
                listen=listener.listen,
                consequence="whoever is between reads the tokens and passwords of those who connect",
                remedy=f"give [{section}] tls_cert and tls_key, or end TLS in front of it",
            )


def _listen(section: ListenerSettings) -> socket.socket:
    if section.socket_path is not None:
        return unix_socket.listen(section.socket_path)
    host, port = section.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = "another process does" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise ConfigurationError(f"cannot listen on {host_port(host, port)}: {reason}") from error
    # Connections inherit it. asyncio sets it only on sockets whose protocol number is given, and without it an
    # answer of two writes waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _address(listener: socket.socket) -> tuple[str, int]:
    name = listener.getsockname()
    return (f"unix:{name}", 0) if listener.family == socket.AF_UNIX else name[:2]


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return host if host.startswith("unix:") else host_port(host, port)
