"""Runs the API: the listener of users and that of agents, in one process and one event loop.

Stops on SIGTERM and SIGINT: waiting polls are let go at once, requests that run are finished. What it refuses: to
start where its settings would let strangers in, on a database it does not know, or on an address that is taken.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import anyio
import structlog
import uvicorn
from starlette.types import ASGIApp

from portward.api.agent_app import create_agent_app
from portward.api.app import create_app
from portward.api.connections import Connection, raise_limit, share
from portward.api.identity import check_settings
from portward.api.news import News
from portward.config import ConfigurationError, Settings
from portward.log import log_to_stderr
from portward.store import Store, upgrade

_log = structlog.get_logger(__name__)
#: Seconds that requests may take to finish once a stop was asked for.
_GRACE = 5
#: Told where the API and the agents' listener really listen: (host, port) each.
OnReady = Callable[[tuple[str, int], tuple[str, int]], None]


def serve(settings: Settings, *, on_ready: OnReady | None = None) -> None:
    """Serve until a signal asks to stop.

    Raises:
        ConfigurationError: the settings let strangers in, an address cannot be listened on, or too few files may be
            open.
        StoreError: the database cannot be used.
    """
    log_to_stderr()
    anyio.run(_serve_until_signal, settings, on_ready)


async def serve_until(stop: anyio.Event, settings: Settings, *, on_ready: OnReady | None = None) -> None:
    """As ``serve``, until ``stop`` is set."""
    check_settings(settings)
    connections, backlog = share(raise_limit())
    upgrade(settings.database.url)
    store = Store(settings.database.url)
    try:
        with _listen(*settings.api.address) as api, _listen(*settings.agent_api.address) as agents:
            addresses = api.getsockname()[:2], agents.getsockname()[:2]
            _log.info("listening", api=_text(addresses[0]), agent_api=_text(addresses[1]), connections=connections)
            if on_ready is not None:
                on_ready(*addresses)
            news = News(store.generation)
            servers = {
                api: _server(create_app(store, news, settings), connections, backlog),
                agents: _server(create_agent_app(store, news), connections, backlog),
            }
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(news.run)
                for listener, server in servers.items():
                    tasks.start_soon(_run, server, listener, stop)
                await stop.wait()
                news.close()
                for server in servers.values():
                    server.should_exit = True
    finally:
        store.close()
    _log.info("stopped")


class _Server(uvicorn.Server):
    """A server whose process listens to signals itself, as two servers cannot both."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, connections: int, backlog: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=Connection,
            limit_concurrency=connections,
            backlog=backlog,
            lifespan="off",
            log_config=None,
            log_level="error",  # warnings are about what strangers send, as often as they like
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )


async def _run(server: _Server, listener: socket.socket, stop: anyio.Event) -> None:
    await server.serve([listener])
    stop.set()  # should one server ever end by itself, the other must not go on alone


async def _serve_until_signal(settings: Settings, on_ready: OnReady | None) -> None:
    stop = anyio.Event()
    loop = asyncio.get_running_loop()
    for asked in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(asked, stop.set)
    await serve_until(stop, settings, on_ready=on_ready)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {_text((host, port))}: {error.strerror or error}") from error
    # Connections inherit it. asyncio sets it only on sockets whose protocol number is given, and without it an
    # answer of two writes waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
