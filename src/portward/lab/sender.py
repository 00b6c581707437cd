"""A process of its own: sends UDP packets at a constant rate until its standard input is closed.

The plan is the first line of standard input; the process was started inside the namespace that it sends from. The
packets are built once and handed to the kernel many at a time (``sendmmsg``), since no loop over ``send`` in Python
reaches 50,000 packets a second on one core beside anything else.
"""

import ctypes
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

import msgspec

from portward.lab.packets import Datagram
from portward.lab.state import decode_hook
from portward.model import UDP, Address, IPVersion

#: Packets a call; more at once would overrun the queue of a link whose other end has to wait for a processor.
_BATCH = 64
_PAUSE = 0.0005  # seconds between batches, at most
_UDP_HEADER = 8  # bytes
_WORD = struct.Struct(">H")
_FRESH_PORTS = range(1024, 65536)


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of UDP packets from one address to one port; ``source_port`` ``None``: another for each packet."""

    source: Address
    destination: Address
    port: int
    source_port: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` packets a second, the flows in turn."""

    flows: tuple[Flow, ...]
    rate: int


class _IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IOVec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


class Batch:
    """Packets of flows of one IP version, in turn, ready to be sent many at a time."""

    def __init__(self, flows: list[Flow], version: IPVersion) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._socket = socket.socket(
            socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW
        )
        self._port_at = 40 if version == 6 else 20
        self._fresh: list[ctypes.Array[ctypes.c_char] | None] = []  # for each packet, if its port changes
        self._keep: list[object] = []  # what the messages point to
        self._ports = self._next_ports()
        self._messages = (_Message * (len(flows) * -(-_BATCH // len(flows))))()
        self._next = 0
        for number, message in enumerate(self._messages):
            self._fill(message.header, flows[number % len(flows)])

    def send(self, most: int) -> int:
        """Send ``most`` packets or fewer, going on where the last call ended; how many were sent."""
        count = min(most, _BATCH, len(self._messages) - self._next)
        for packet in self._fresh[self._next : self._next + count]:
            if packet is not None:
                port = next(self._ports)
                # The payload's first word takes up the difference, so that the checksum stays right.
                _WORD.pack_into(packet, self._port_at, port)
                _WORD.pack_into(packet, self._port_at + _UDP_HEADER, 0xFFFF - port)
        first = ctypes.byref(self._messages, self._next * ctypes.sizeof(_Message))
        sent = max(int(self._libc.sendmmsg(self._socket.fileno(), first, count, 0)), 1)
        self._next = (self._next + sent) % len(self._messages)
        return sent

    def _fill(self, header: _Header, flow: Flow) -> None:
        datagram = Datagram(
            source=flow.source,
            destination=flow.destination,
            protocol=UDP,
            source_port=flow.source_port or 0,
            destination_port=flow.port,
            payload=bytes(8) if flow.source_port else b"\xff\xff" + bytes(6),
        ).to_bytes()
        packet = ctypes.create_string_buffer(datagram, len(datagram))
        name = ctypes.create_string_buffer(_sockaddr(flow.destination))
        vector = _IOVec(ctypes.addressof(packet), len(datagram))
        header.name, header.name_length = ctypes.addressof(name), len(name) - 1
        header.iov, header.iov_length = ctypes.pointer(vector), 1
        self._keep += [packet, name, vector]
        self._fresh.append(packet if flow.source_port is None else None)

    @staticmethod
    def _next_ports() -> Iterator[int]:
        while True:
            yield from _FRESH_PORTS


def _sockaddr(address: Address) -> bytes:
    if address.version == 6:
        return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", 0, 0) + address.packed + bytes(4)
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", 0) + address.packed + bytes(8)


def run(plan: Plan, stop: int) -> None:
    """Send as ``plan`` says until the file descriptor ``stop`` is readable."""
    versions: tuple[IPVersion, ...] = (4, 6)
    batches = [
        Batch(flows, version)
        for version in versions
        if (flows := [flow for flow in plan.flows if flow.source.version == version])
    ]
    share = [plan.rate * sum(f.source.version == v for f in plan.flows) / len(plan.flows) for v in versions]
    rates = [rate for rate in share if rate]
    sent = [0] * len(batches)
    poll = select.poll()
    poll.register(stop, select.POLLIN | select.POLLHUP)
    start = time.monotonic()
    while not poll.poll(0):
        now = time.monotonic() - start
        behind = False
        for number, batch in enumerate(batches):
            due = int(now * rates[number]) - sent[number]
            if due > 0:
                sent[number] += batch.send(due)
            behind = behind or due > _BATCH
            if due > 20 * _BATCH:  # the machine was busy elsewhere: what was missed is not sent in a burst
                sent[number] += due
        if not behind:
            time.sleep(_PAUSE)


def main() -> None:
    """Read the plan, send."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan, dec_hook=decode_hook)
    print("ready", flush=True)
    run(plan, sys.stdin.fileno())
