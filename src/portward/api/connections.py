"""Bounds what a stranger's connections can take: a number of them, and the time of each to say what it wants.

uvicorn bounds neither. Both listeners share the file descriptors of one process, and whoever reaches that of the
agents must not be able to stop the users' API. What it refuses: to answer; a connection too many or too slow is cut.
"""

import asyncio
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from portward.config import ConfigurationError

#: Seconds from the first byte of a request, or of a connection, to the last byte of the request.
REQUEST_TIME = 20.0
#: File descriptors for everything else: the database's 60 connections with 3 files each, and the process's own.
_RESERVED = 256
_FEWEST, _MOST = 512, 65536


def raise_limit() -> int:
    """Let this process have as many file descriptors as it may, up to 65,536; how many that are.

    Raises:
        ConfigurationError: fewer than 512, which is too few to serve.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < _FEWEST:
        raise ConfigurationError(f"only {limit} open files are allowed to this process (ulimit -n): allow {_FEWEST}")
    return limit


def share(limit: int) -> tuple[int, int]:
    """What one of two listeners may have of ``limit`` file descriptors: connections, and its backlog beside them.

    asyncio accepts a whole backlog before any connection can be refused.
    """
    backlog = min(1024, limit // 8)
    return (limit - _RESERVED) // 2 - backlog, backlog


class Connection(H11Protocol):
    """A connection that is cut when it is above ``limit_concurrency`` or its request not there in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, if there is room."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request, or of several."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(REQUEST_TIME, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
