"""One packet, with the fields that a decision or a connection table looks at, and no others."""

import msgspec

from portward.model.errors import InvalidValue
from portward.model.rule import ICMP, ICMPV6, PROTOCOLS_WITH_PORTS, Address, IPVersion

#: ICMP types (RFC 792, RFC 4443) that report about another packet; they quote its header.
ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
ICMPV6_ERRORS = frozenset({1, 2, 3, 4})
#: Query type -> type of its answer, both ways (RFC 792: echo, timestamp, mask; RFC 4443: echo).
ICMP_INVERSE = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMPV6_INVERSE = {128: 129, 129: 128}


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """An IPv4 or IPv6 packet as the forward path sees it: after destination NAT, before source NAT.

    Raises:
        InvalidValue: addresses of different versions, or ports on a protocol that has none.
    """

    source: Address
    destination: Address
    protocol: int  # IANA number; of IPv6 the upper-layer protocol, behind extension headers
    source_port: int | None = None  # None: the protocol has none, or a later fragment
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None  # identifier of a query and its answers
    is_reset: bool = False  # TCP with RST
    is_later_fragment: bool = False
    is_invalid: bool = False  # what connection tracking calls invalid
    about: "Packet | None" = None  # the packet that this ICMP error quotes
    neighbour_target: Address | None = None  # whose whereabouts a neighbour advertisement (RFC 4861) tells
    source_mac: str | None = None  # None: no layer 2 known, as on a router port
    destination_mac: str | None = None

    def __post_init__(self) -> None:
        if self.source.version != self.destination.version:
            raise InvalidValue(f"{self.source} and {self.destination} are of different IP versions")
        for port in (self.source_port, self.destination_port):
            if port is not None and not (self.protocol in PROTOCOLS_WITH_PORTS and 0 <= port <= 65535):
                raise InvalidValue(f"port {port} on protocol {self.protocol}: only 0 to 65535 of tcp, udp, sctp, dccp")

    @property
    def ip_version(self) -> IPVersion:
        """4 or 6."""
        return self.source.version

    @property
    def is_icmp_error(self) -> bool:
        """Whether it reports about another packet instead of asking or answering."""
        if self.protocol == ICMP:
            return self.icmp_type in ICMP_ERRORS
        return self.protocol == ICMPV6 and self.icmp_type in ICMPV6_ERRORS

    def reply(self) -> "Packet":
        """The answer to this packet: addresses and ports swapped, ICMP query types inverted."""
        inverse = ICMP_INVERSE if self.protocol == ICMP else ICMPV6_INVERSE if self.protocol == ICMPV6 else {}
        return msgspec.structs.replace(
            self,
            source=self.destination,
            destination=self.source,
            source_port=self.destination_port,
            destination_port=self.source_port,
            icmp_type=None if self.icmp_type is None else inverse.get(self.icmp_type, self.icmp_type),
            source_mac=self.destination_mac,
            destination_mac=self.source_mac,
        )


class Arp(msgspec.Struct, frozen=True, kw_only=True):
    """An ARP frame (RFC 826): who claims to be where."""

    source_mac: str
    sender_mac: str
    sender_address: Address
    destination_mac: str | None = None
