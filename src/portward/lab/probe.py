"""Asking the network whether a packet gets through: many questions at once, since silence costs the timeout.

A probe is one connection attempt (TCP), one datagram that should come back (UDP), or one echo request (ICMP). The
sockets are ordinary ones, opened inside the host's namespace, and everything said about the answer is what the
kernel told them (``IP_RECVERR`` for ICMP errors). TCP probes end with a reset, so their ports are free again.
"""

import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby

import msgspec

from portward.dataplane.netns import in_namespace
from portward.lab.errors import LabError
from portward.model import Address

#: Seconds after which no answer is an answer. The lab's links take microseconds.
TIMEOUT = 0.3
_AT_ONCE = 500  # probes in flight; each holds a socket
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ORIGIN_ICMP, _ORIGIN_ICMPV6 = 2, 3  # linux/errqueue.h


class Protocol(StrEnum):
    """What a probe can be made of; ``icmp`` is ICMPv6 between IPv6 addresses."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Outcome(StrEnum):
    """What became of a probe."""

    PASSED = "passed"  # the other side answered
    RESET = "reset"  # TCP: refused by a reset
    UNREACHABLE = "unreachable"  # an ICMP error came back
    SILENT = "silent"  # nothing came back in time


class ProbeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. ``source_port`` of an echo request is its identifier; ``None``: the kernel chooses."""

    netns: str
    protocol: Protocol
    source: Address
    destination: Address
    port: int | None = None
    source_port: int | None = None

    def __post_init__(self) -> None:
        if (self.port is None) != (self.protocol is Protocol.ICMP):
            raise LabError(f"a {self.protocol} probe needs {'no' if self.port is not None else 'a'} port")
        if self.source.version != self.destination.version:
            raise LabError(f"{self.source} cannot send to {self.destination}")


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A request and what became of it. The last three are set when ``outcome`` is ``unreachable``."""

    request: ProbeRequest
    outcome: Outcome
    seconds: float  # until the answer, or until it was given up
    icmp_type: int | None = None
    icmp_code: int | None = None
    reporter: Address | None = None  # who sent the ICMP error


def probe_all(requests: Sequence[ProbeRequest], timeout: float = TIMEOUT) -> list[Probe]:
    """Make all ``requests`` at once; their results, in the same order. ``timeout`` is in seconds.

    Raises:
        LabError: a request cannot be sent (no such address on the host, a source port in use).
    """
    probes: list[Probe] = []
    for first in range(0, len(requests), _AT_ONCE):
        probes += _probe_some(requests[first : first + _AT_ONCE], timeout)
    return probes


def _probe_some(requests: Sequence[ProbeRequest], timeout: float) -> list[Probe]:
    attempts: list[_Attempt] = []
    results: dict[int, Probe] = {}
    try:
        with selectors.EpollSelector() as selector:
            for netns, group in groupby(requests, lambda request: request.netns):
                attempts += in_namespace(netns, partial(_open, list(group)))
            for number, attempt in enumerate(attempts):
                attempt.send()
                selector.register(attempt.socket, attempt.waits_for, number)
            deadline = time.monotonic() + timeout
            while len(results) < len(attempts) and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    result = attempts[key.data].result()
                    if result is not None:
                        results[key.data] = result
                        selector.unregister(key.fileobj)
    finally:
        for attempt in attempts:
            attempt.socket.close()
    return [results.get(number) or attempt.silence() for number, attempt in enumerate(attempts)]


def _open(requests: Sequence[ProbeRequest]) -> "list[_Attempt]":
    return [_Attempt(request) for request in requests]


class _Attempt:
    """One request under way."""

    def __init__(self, request: ProbeRequest) -> None:
        self.request = request
        self._token = os.urandom(8)
        self._is_tcp = request.protocol is Protocol.TCP
        self._ipv6 = request.destination.version == 6
        self.waits_for = selectors.EVENT_WRITE if self._is_tcp else selectors.EVENT_READ
        self.socket = socket.socket(socket.AF_INET6 if self._ipv6 else socket.AF_INET, *self._kind())
        try:
            self._prepare()
        except OSError as error:
            self.socket.close()
            raise LabError(f"cannot probe from {request.source} port {request.source_port}: {error}") from error

    def send(self) -> None:
        request = self.request
        self._started = time.monotonic()
        code = self.socket.connect_ex((str(request.destination), request.port or 0))
        if code not in (0, errno.EINPROGRESS):
            raise LabError(f"cannot send from {request.source} to {request.destination}: {os.strerror(code)}")
        if request.protocol is Protocol.UDP:
            self.socket.send(self._token)
        elif request.protocol is Protocol.ICMP:
            self.socket.send(struct.pack(">BBHHH", 128 if self._ipv6 else 8, 0, 0, 0, 1) + self._token)

    def result(self) -> Probe | None:
        """What the socket's event means; ``None``: nothing yet."""
        report = self._icmp_error()
        if report is not None:
            return report
        if self._is_tcp:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return self._done(Outcome.PASSED if code == 0 else Outcome.RESET)
        try:
            return self._done(Outcome.PASSED) if self.socket.recv(2048).endswith(self._token) else None
        except OSError:
            return None  # the pending error, whose report is on the error queue

    def silence(self) -> Probe:
        return self._done(Outcome.SILENT)

    def _kind(self) -> tuple[int, int]:
        if self.request.protocol is Protocol.ICMP:
            return socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if self._ipv6 else socket.IPPROTO_ICMP
        return (socket.SOCK_STREAM if self._is_tcp else socket.SOCK_DGRAM), 0

    def _prepare(self) -> None:
        level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if self._ipv6 else (socket.IPPROTO_IP, _IP_RECVERR)
        self.socket.setblocking(False)
        self.socket.setsockopt(level, option, 1)
        if self._is_tcp:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.bind((str(self.request.source), self.request.source_port or 0))

    def _icmp_error(self) -> Probe | None:
        try:
            _, ancillary, _, _ = self.socket.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None
        for _, kind, data in ancillary:
            if kind not in (_IP_RECVERR, _IPV6_RECVERR):
                continue
            _, origin, icmp_type, icmp_code, *_ = struct.unpack_from("=IBBBBII", data)
            offender = data[16:]  # a sockaddr behind struct sock_extended_err
            if origin == _ORIGIN_ICMP:
                return self._done(Outcome.UNREACHABLE, icmp_type, icmp_code, IPv4Address(offender[4:8]))
            if origin == _ORIGIN_ICMPV6:
                return self._done(Outcome.UNREACHABLE, icmp_type, icmp_code, IPv6Address(offender[8:24]))
        return None

    def _done(
        self,
        outcome: Outcome,
        icmp_type: int | None = None,
        icmp_code: int | None = None,
        reporter: Address | None = None,
    ) -> Probe:
        return Probe(
            request=self.request,
            outcome=outcome,
            seconds=time.monotonic() - self._started,
            icmp_type=icmp_type,
            icmp_code=icmp_code,
            reporter=reporter,
        )
