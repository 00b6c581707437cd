"""Just enough netlink to ask the kernel what libnftables and pyroute2 are too slow or too shy to tell.

Attributes are packed and walked by hand (netlink(7), linux/netlink.h): no schema, no objects, as dumps of a
connection table run to hundreds of thousands of messages.
"""

import errno
import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from portward.dataplane.protocol import DataplaneError

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
NETFILTER = 12  # NETLINK_NETFILTER
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED, _TYPE = 0x8000, 0x3FFF
_RECEIVE = 1 << 18
_SNDBUFFORCE = 32
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 16, 17, 10  # linux/netfilter/nfnetlink.h


class NetlinkError(DataplaneError):
    """The kernel refused a request; ``errno`` says why."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the kernel refused: {os.strerror(number)}")
        self.errno = number


def attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
    """One attribute, padded to 4 bytes."""
    header = _ATTRIBUTE.pack(4 + len(value), kind | (_NESTED if nested else 0))
    return header + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in ``data`` by type; of a repeated one, the last."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & _TYPE] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def elements(data: bytes) -> Iterator[bytes]:
    """The value of each attribute in ``data``, a list in which all have one type, in order."""
    at = 0
    while at + 4 <= len(data):
        length, _ = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and payload of each message in ``data``."""
    at = 0
    while at + 16 <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if length < 16:
            break
        yield kind, sequence, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _batch(kind: int, sequence: int) -> bytes:
    body = struct.pack("!BBH", 0, 0, _NFTABLES)
    return _HEADER.pack(16 + len(body), kind, REQUEST, sequence, 0) + body


class Netlink:
    """A netlink socket in the namespace of the thread that opens it.

    Args:
        protocol: of socket(2), such as ``NETFILTER``.
        groups: multicast groups to listen to, by number.

    Raises:
        NetlinkError: the kernel gives no such socket.
    """

    def __init__(self, protocol: int, *, groups: tuple[int, ...] = ()) -> None:
        self._sequence = itertools.count(1)
        with ExitStack() as undo:
            try:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
                undo.callback(self._socket.close)
                self._socket.bind((0, 0))
                for group in groups:
                    self._socket.setsockopt(270, 1, group)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
            except OSError as error:
                raise NetlinkError(error.errno or 0) from error
            undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, to wait on."""
        return self._socket.fileno()

    def option(self, level: int, name: int) -> int:
        """An option of the socket that is a 64-bit number.

        Raises:
            OSError: the kernel does not know it.
        """
        return int.from_bytes(self._socket.getsockopt(level, name, 8), sys.byteorder)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The payloads that answer one request; with ``flags`` ``ACK`` none, with ``DUMP`` all of them.

        Raises:
            NetlinkError: the kernel's answer is an error.
        """
        sequence = next(self._sequence)
        self._socket.send(_HEADER.pack(16 + len(body), kind, REQUEST | flags, sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            for answer, number, payload in messages(self._socket.recv(_RECEIVE)):
                if number != sequence:
                    continue  # the rest of a dump that failed earlier
                if answer in (_ERROR, _DONE):
                    status = struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                    if status < 0:
                        raise NetlinkError(-status)
                    return answers
                answers.append(payload)
                if not flags & (DUMP | ACK):
                    return answers

    def transaction(self, requests: Sequence[tuple[int, bytes]]) -> None:
        """Have nftables do all of ``requests``, (type, body), at once, or none of them.

        Raises:
            NetlinkError: one was refused, and none is done.
        """
        first = next(self._sequence)
        parts = [_batch(_BATCH_BEGIN, first)]
        for kind, body in requests:
            parts.append(_HEADER.pack(16 + len(body), kind, REQUEST | ACK, next(self._sequence), 0) + body)
        last = next(self._sequence)
        data = b"".join([*parts, _batch(_BATCH_END, last)])
        self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, 2 * len(data) + _RECEIVE)
        self._socket.send(data)
        acknowledged = 0
        while acknowledged < len(requests):
            for answer, number, payload in messages(self._socket.recv(_RECEIVE)):
                if answer == _ERROR and first <= number <= last:
                    status = struct.unpack_from("=i", payload)[0]
                    if status < 0:
                        raise NetlinkError(-status)
                    acknowledged += 1

    def events(self) -> list[tuple[int, bytes]] | None:
        """Type and payload of each event that waits to be read; ``None``: there were more than the kernel keeps."""
        found: list[tuple[int, bytes]] = []
        overflow = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None if overflow else found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overflow = True  # events were dropped; those behind them are still to be read
                continue
            found.extend((kind, payload) for kind, _, payload in messages(data))
