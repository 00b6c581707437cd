"""IP packets as bytes, for what no ordinary socket would send: other people's addresses and ports.

Only what the lab needs: IPv4 (RFC 791) and IPv6 (RFC 8200) without options, UDP, TCP without options, and ICMP.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from portward.model import ICMP, ICMPV6, TCP, UDP, Address

_HOP_LIMIT = 64
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@dataclass(frozen=True, kw_only=True)
class Datagram:
    """A packet to be built. For ICMP, ``icmp`` is type, code and the rest of the header (4 bytes)."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = SYN
    icmp: tuple[int, int, bytes] = (8, 0, bytes(4))
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """The packet, IP header first, checksums filled in (but for IPv4's own, which the kernel writes)."""
        upper = self._upper()
        source, destination = self.source.packed, self.destination.packed
        pseudo = source + destination + struct.pack(">II", len(upper), self.protocol)
        checksum_at = {UDP: 6, TCP: 16, ICMP: 2, ICMPV6: 2}[self.protocol]
        checksum = _checksum(upper if self.protocol == ICMP else pseudo + upper)
        upper = upper[:checksum_at] + struct.pack(">H", checksum or 0xFFFF) + upper[checksum_at + 2 :]
        if isinstance(self.source, IPv4Address):
            return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(upper), 0, 0, _HOP_LIMIT, self.protocol, 0) + (
                source + destination + upper
            )
        return struct.pack(">IHBB", 6 << 28, len(upper), self.protocol, _HOP_LIMIT) + source + destination + upper

    def _upper(self) -> bytes:
        if self.protocol == UDP:
            header = struct.pack(">HHHH", self.source_port, self.destination_port, 8 + len(self.payload), 0)
        elif self.protocol == TCP:
            header = struct.pack(
                ">HHIIBBHHH", self.source_port, self.destination_port, 1, 1, 5 << 4, self.tcp_flags, 65535, 0, 0
            )
        else:
            kind, code, rest = self.icmp
            header = struct.pack(">BBH", kind, code, 0) + rest
        return header + self.payload


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
