"""uvicorn as a part of a larger process: its signals, limits and TLS are the process's own.

What it refuses: to configure anything that would differ between the two listeners, their application aside.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from portward.api import connections
from portward.api.tls import Certificate

#: Seconds that requests may take to finish once a stop was asked for.
GRACE = 5
#: Seconds that a client may take to end TLS in good order; then it is cut.
_TLS_GOODBYE = 5.0


class Server(uvicorn.Server):
    """Serves ``app`` on the sockets given to ``serve``, with TLS if there is a ``certificate``."""

    def __init__(self, app: ASGIApp, certificate: Certificate | None, backlog: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=connections.Connection,
                backlog=backlog,
                h11_max_incomplete_event_size=connections.MAX_HEADERS,
                timeout_keep_alive=connections.KEEP_ALIVE,
                lifespan="off",
                log_config=None,
                log_level="error",  # warnings are about what strangers send, as often as they like
                access_log=False,
                server_header=False,
                proxy_headers=False,  # whose word counts is [api] trust_forwarded
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._certificate = certificate

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: the process listens to signals itself, as two servers cannot both."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with a bound on the time of a TLS handshake, which uvicorn leaves at a minute."""
        await self.lifespan.startup()
        tls = None if self._certificate is None else self._certificate.context
        self.servers = [
            await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=listener,
                backlog=self.config.backlog,
                ssl=tls,
                ssl_handshake_timeout=connections.REQUEST_TIME if tls else None,
                ssl_shutdown_timeout=_TLS_GOODBYE if tls else None,
            )
            for listener in sockets or ()
        ]
        self.started = True

    def _protocol(self) -> connections.Connection:
        return connections.Connection(self.config, self.server_state, self.lifespan.state)
