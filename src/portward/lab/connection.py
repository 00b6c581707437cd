"""Connections that are held open while the firewall changes, with both ends in the hands of the caller.

One end pushes numbered messages, the other says which arrived; nothing else is sent, so a UDP connection that its
client pushes stays unreplied, and one that the server pushes hears its client once, at the beginning. Not for
throughput: see ``stream``.
"""

import contextlib
import select
import socket
import struct
import time
from enum import StrEnum
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from portward.dataplane.netns import in_namespace
from portward.lab.errors import NotConnected
from portward.lab.probe import Protocol
from portward.model import Address

TIMEOUT = 1.0  # seconds
_MESSAGE = struct.Struct(">I")
_TOTAL_RETRANSMITS_AT = 100  # in struct tcp_info, linux/tcp.h


class Push(StrEnum):
    """Which end sends."""

    CLIENT = "client"
    SERVER = "server"


class Connection:
    """An open connection; a context manager that closes it. Make it with ``Host.connect``."""

    def __init__(self, protocol: Protocol, client: socket.socket, server: socket.socket, push: Push) -> None:
        self.protocol = protocol
        self._ends = (client, server)
        self._sender, self._receiver = (client, server) if push is Push.CLIENT else (server, client)
        for end in self._ends:
            end.setblocking(False)
            if protocol is Protocol.TCP:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._rest = b""
        self.sent = 0  # messages pushed so far
        self._arrived = 0
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def arrived(self) -> int:
        """Messages that arrived so far."""
        self._read()
        return self._arrived

    @property
    def last_arrived(self) -> int:
        """The number of the latest message that arrived; the first is 1."""
        self._read()
        return self._last

    @property
    def client_address(self) -> Address:
        """Where the server thinks the client is: the router may have translated it."""
        return ip_address(self._ends[1].getpeername()[0])

    @property
    def retransmitted(self) -> int:
        """TCP segments that the pushing end had to send again: each is a packet that was lost, or late."""
        information = self._sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("=I", information, _TOTAL_RETRANSMITS_AT)[0])

    def push(self) -> None:
        """Send one message, and wait for nothing. That the network refused it shows in ``arrived``."""
        self.sent += 1
        with contextlib.suppress(OSError):
            self._sender.send(_MESSAGE.pack(self.sent))

    def exchange(self, timeout: float = TIMEOUT) -> bool:
        """Whether one more message arrives, in the direction of the push, within ``timeout`` seconds."""
        self.push()
        wanted = self.sent
        deadline = time.monotonic() + timeout
        while self._last < wanted and (left := deadline - time.monotonic()) > 0:
            _ready(self._receiver, select.POLLIN, left)
            if not self._read():
                return False
        return self._last >= wanted

    def close(self) -> None:
        """Close both ends; TCP by a reset, so that the ports are free again."""
        for end in self._ends:
            end.close()

    def _read(self) -> bool:
        """Take what arrived; false when the connection is over."""
        while True:
            try:
                data = self._receiver.recv(65536)
            except BlockingIOError:
                return True
            except OSError:
                return self.protocol is Protocol.UDP  # an ICMP error; UDP may go on after it
            if not data:
                return False
            self._rest += data
            whole = len(self._rest) // _MESSAGE.size * _MESSAGE.size
            for (number,) in _MESSAGE.iter_unpack(self._rest[:whole]):
                self._arrived += 1
                self._last = max(self._last, number)
            self._rest = self._rest[whole:]


def connect(
    protocol: Protocol,
    client: tuple[str, Address, int],
    server: tuple[str, Address, int],
    destination: Address,
    push: Push,
    timeout: float,
) -> Connection:
    """Open a connection between ``client`` and ``server``: namespace, address and port (0 at the client: any).

    ``destination`` is what the client sends to: the server's address, or a floating IP of it.

    Raises:
        NotConnected: it did not come about within ``timeout`` seconds.
    """
    kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
    listener, caller = _bound(kind, *server), _bound(kind, *client)
    try:
        if protocol is Protocol.TCP:
            listener.listen()
            caller.connect_ex((str(destination), server[2]))
            accepted = _wait(listener, timeout).accept()[0]
            _wait_connected(caller, timeout)
            listener.close()
            return Connection(protocol, caller, accepted, push)
        caller.connect((str(destination), server[2]))
        caller.send(b"")
        listener.connect(_wait(listener, timeout).recvfrom(1)[1])
        return Connection(protocol, caller, listener, push)
    except OSError as error:
        listener.close()
        caller.close()
        raise NotConnected(f"{protocol} from {client[1]} to {destination} port {server[2]}: {error}") from error


def _bound(kind: socket.SocketKind, netns: str, address: Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    made = in_namespace(netns, lambda: socket.socket(family, kind))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((str(address), port))
    made.setblocking(False)
    return made


def _ready(waiting: socket.socket, event: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(waiting, event)
    return bool(poll.poll(timeout * 1000))


def _wait(listener: socket.socket, timeout: float) -> socket.socket:
    if not _ready(listener, select.POLLIN, timeout):
        raise TimeoutError("nothing arrived")
    return listener


def _wait_connected(caller: socket.socket, timeout: float) -> None:
    if not _ready(caller, select.POLLOUT, timeout):
        raise TimeoutError("no answer came back")
    code = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, "refused")
