"""Bounds what a stranger's connections can take: a number of them, and the time of each to ask and to hear the answer.

uvicorn bounds none of it. Both listeners share the file descriptors of one process, and whoever reaches that of the
agents must not be able to stop the users' API. Connections are counted as sockets, from accept to close, because one
whose TLS handshake never ends is not known to uvicorn. What it refuses: to answer; a connection too many or too slow
is cut.
"""

import asyncio
import resource
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from portward.config import ConfigurationError

#: Seconds from the first byte of a request, or of a connection, to the last byte of the request.
REQUEST_TIME = 20.0
#: Seconds from an answer to when its last byte has left this process: who reads more slowly is cut, as the answer
#: stays in memory meanwhile.
ANSWER_TIME = 60.0
#: Connections to the users' listener at most, whatever could be open: each may wait for an answer of megabytes.
MOST_USERS = 1024
#: Seconds that an idle connection is kept. Our agents let go after 5, so that they never write into one that ends.
KEEP_ALIVE = 15
#: Bytes of a request's line and headers.
MAX_HEADERS = 64 * 1024
_PIECE = 16 * 1024
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


class Listener(socket.socket):
    """``listener``, which it takes over, with at most ``limit`` connections open at a time."""

    def __init__(self, listener: socket.socket, limit: int) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self.limit = limit
        self.open: set[_Accepted] = set()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection.

        Raises:
            ConnectionAbortedError: there was one too many, which is cut.
        """
        connection, address = super().accept()
        if len(self.open) >= self.limit:
            connection.close()
            raise ConnectionAbortedError
        return _Accepted(connection, self.open), address


class _Accepted(socket.socket):
    """A connection that is in ``among`` until it is closed."""

    def __init__(self, connection: socket.socket, among: "set[_Accepted]") -> None:
        super().__init__(connection.family, connection.type, connection.proto, fileno=connection.detach())
        self._among = among
        among.add(self)

    def close(self) -> None:
        """Close it."""
        self._among.discard(self)
        super().close()


class Connection(H11Protocol):
    """A connection that is cut when its request is not there, or its answer not read, in time.

    It is refused when its headers are too long.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in a piece of a request, or of several.

        In small pieces, because h11 bounds what it has not understood yet, and not what comes all at once.
        """
        if not self.flow.write_paused:  # who asks again has read what it asked before
            self._was_read()
        for start in range(0, len(data), _PIECE):
            if not self.transport.is_closing():
                super().data_received(data[start : start + _PIECE])
        self._watch()

    def on_response_complete(self) -> None:
        """Go on to the next request, which may have begun to come already."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_reader()
        if self.conn.trailing_data[0]:
            self._watch()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as we write."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._was_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._forget()
        self._was_read()

    def _watch(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(REQUEST_TIME, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_reader(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(ANSWER_TIME, self._cut_unread)

    def _cut_unread(self) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size():
            # The kernel throws away what it holds, too, and the client is told.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def _was_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
