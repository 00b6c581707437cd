"""A host of a lab: probes, connections, streams and forged packets that start there."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from portward.dataplane.netns import in_namespace
from portward.lab.connection import TIMEOUT as CONNECT_TIMEOUT
from portward.lab.connection import Connection, Push, connect
from portward.lab.counters import Counters, Place
from portward.lab.errors import LabError
from portward.lab.namespaces import nft
from portward.lab.packets import Datagram
from portward.lab.probe import TIMEOUT, Probe, ProbeRequest, Protocol, probe_all
from portward.lab.sender import Flow
from portward.lab.state import LabHost
from portward.lab.stream import Stream
from portward.model import TCP, UDP, Address, IPVersion

if TYPE_CHECKING:
    from portward.lab.lab import Lab


class Host:
    """One host. Addresses are given as text or as values; the default source is its first of that version."""

    def __init__(self, lab: "Lab", plan: LabHost) -> None:
        self._lab = lab
        self.name = plan.name
        self.netns = plan.netns
        self.device = plan.device
        self.mac = plan.mac
        self.addresses = plan.addresses
        self._plan = plan

    def __repr__(self) -> str:
        return f"<host {self.name}>"

    def address(self, version: IPVersion = 4) -> Address:
        """Its first address of IP ``version``."""
        return self._plan.address(version)

    def request(
        self,
        protocol: Protocol | str,
        destination: Address | str,
        port: int | None = None,
        *,
        source: Address | str | None = None,
        source_port: int | None = None,
    ) -> ProbeRequest:
        """A probe to be made later, together with others, by ``probe_all``.

        Raises:
            LabError: a port for ICMP or none for the rest, or addresses of two IP versions.
        """
        target = ip_address(destination)
        return ProbeRequest(
            netns=self.netns,
            protocol=Protocol(protocol),
            source=self._source(source, target),
            destination=target,
            port=port,
            source_port=source_port,
        )

    def probe(
        self,
        protocol: Protocol | str,
        destination: Address | str,
        port: int | None = None,
        *,
        source: Address | str | None = None,
        source_port: int | None = None,
        timeout: float = TIMEOUT,
    ) -> Probe:
        """Whether one packet gets through, and back; silence is the outcome after ``timeout`` seconds.

        Raises:
            LabError: it cannot be sent.
        """
        return probe_all([self.request(protocol, destination, port, source=source, source_port=source_port)], timeout)[
            0
        ]

    def connect(
        self,
        protocol: Protocol | str,
        destination: Address | str,
        port: int,
        *,
        source: Address | str | None = None,
        source_port: int = 0,
        push: Push | str = Push.CLIENT,
        timeout: float = CONNECT_TIMEOUT,
    ) -> Connection:
        """Open a TCP or UDP connection to another host of the lab, and hold it open.

        Raises:
            NotConnected: it did not come about within ``timeout`` seconds.
            LabError: ``destination`` is no host's, or the protocol has no connections.
        """
        if Protocol(protocol) is Protocol.ICMP:
            raise LabError("a connection is tcp or udp")
        target = ip_address(destination)
        server, fixed = self._lab.behind(target)
        client = (self.netns, self._source(source, target), source_port)
        return connect(Protocol(protocol), client, (server.netns, fixed, port), target, Push(push), timeout)

    def flow(
        self,
        destination: Address | str,
        port: int,
        *,
        source: Address | str | None = None,
        source_port: int | None = None,
    ) -> Flow:
        """A UDP flow from here, for ``stream``; without ``source_port`` each packet is a new connection."""
        target = ip_address(destination)
        return Flow(source=self._source(source, target), destination=target, port=port, source_port=source_port)

    def stream(self, flows: Sequence[Flow], *, rate: int) -> Stream:
        """Send ``flows`` in turn, ``rate`` packets a second in all, until the stream is stopped or closed.

        Raises:
            LabError: no flows, flows to several hosts, two that cannot be told apart, or the sender ended.
        """
        destinations = {self._lab.behind(flow.destination)[0].netns for flow in flows}
        if len(destinations) != 1:
            raise LabError("the flows of a stream go to one host")
        return Stream(self.netns, destinations.pop(), flows, rate)

    def forge(self, datagram: Datagram, *, count: int = 1) -> None:
        """Send ``count`` copies of a packet as it is, whoever it claims to be from."""
        family = socket.AF_INET6 if datagram.destination.version == 6 else socket.AF_INET
        packet = datagram.to_bytes()
        with in_namespace(self.netns, lambda: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)) as raw:
            for _ in range(count):
                raw.sendto(packet, (str(datagram.destination), 0))

    def count(self, place: Place, match: str, *, drop: bool = False) -> Counters:
        """A counter, named ``match``, of packets that leave or arrive here and that the nft expression matches."""
        return Counters(self.netns, place, {"match": match}, drop=drop)

    def close_port(self, protocol: Protocol | str, port: int) -> None:
        """From now on nothing answers on this port: a reset for TCP, port unreachable for UDP."""
        number = {Protocol.TCP: TCP, Protocol.UDP: UDP}[Protocol(protocol)]
        nft(self.netns, f"add element inet lab closed {{ {number} . {int(port)} }}")

    def _source(self, source: Address | str | None, destination: Address) -> Address:
        return self.address(destination.version) if source is None else ip_address(source)
