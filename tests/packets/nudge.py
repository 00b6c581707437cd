"""Just enough OpenFlow 1.4 to change flows of a bare switch from within a test, and to fill its cache."""

import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

_VERSION, _HELLO, _FLOW_MOD, _BARRIER, _BARRIER_REPLY = 5, 0, 14, 20, 21
_HEADER = struct.Struct("!BBHI")
_ANY = 0xFFFFFFFF


class Flows:
    """A connection to the management socket of a bridge."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._socket.sendall(_HEADER.pack(_VERSION, _HELLO, 8, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def drop(self, table: int, priority: int = 0) -> None:
        """Add a flow that matches all and drops it; the same flow again changes nothing."""
        match = struct.pack("!HHI", 1, 4, 0)
        body = struct.pack("!QQBBHHHIIIHH", 0, 0, table, 0, 0, 0, priority, _ANY, _ANY, _ANY, 0, 0) + match
        self._socket.sendall(_HEADER.pack(_VERSION, _FLOW_MOD, 8 + len(body), 1) + body)

    def barrier(self) -> None:
        """Return when all that was sent is done."""
        self._socket.sendall(_HEADER.pack(_VERSION, _BARRIER, 8, 2))
        while True:
            _, kind, length, _ = _HEADER.unpack(self._exactly(8))
            self._exactly(length - 8)
            if kind == _BARRIER_REPLY:
                return

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "the switch closed the connection"
            data += more
        return data
