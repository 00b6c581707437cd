"""Packets of the model as bytes, each with an id by which it, its reply and what rejects it are known wherever seen.

Every protocol number has packets: what connection tracking looks into (TCP, UDP, UDP-Lite, ICMP, SCTP, DCCP) is
valid in its eyes, the rest are a few bytes. What an IPv6 packet cannot have as its upper layer is ``NO_UPPER_LAYER``;
some have an extension header before it.
"""

import struct
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from portward.model import DCCP, ICMP, ICMPV6, PROTOCOLS_WITH_PORTS, SCTP, TCP, UDP, Address, IPVersion, Packet
from portward.semantics import Answer

#: By version, protocols that are extension headers, the other version's ICMP, or no header at all.
NO_UPPER_LAYER: dict[IPVersion, frozenset[int]] = {4: frozenset({ICMPV6}), 6: frozenset({0, ICMP, 43, 44, 51, 59, 60})}
_UDP_LITE = 136
_HOP_LIMIT = 64
_SYN, _RST, _ACK = 2, 4, 16
_TAG = b"\xb7pwd"
_DESTINATION_OPTIONS = 60
_EXTENDED = 8  # of so many IPv6 packets one has an extension header
_CHECKSUM_AT = {UDP: 6, _UDP_LITE: 6, TCP: 16, ICMP: 2, ICMPV6: 2, DCCP: 6}
_PROHIBITED = {ICMP: b"\x03\x0d", ICMPV6: b"\x01\x01"}


def encode(packet: Packet, ident: int, *, is_reply: bool = False) -> bytes:
    """``packet`` as bytes, IP header first; ``ident`` (31 bits) is that of its connection."""
    upper = _upper(packet, ident, is_reply)
    source, destination = packet.source.packed, packet.destination.packed
    at = _CHECKSUM_AT.get(packet.protocol)
    if at is not None:
        # Linux' connection tracking takes the checksum of UDP-Lite for that of UDP, and every other one for invalid.
        checked = UDP if packet.protocol == _UDP_LITE else packet.protocol
        pseudo = source + destination + struct.pack(">II", len(upper), checked)
        checksum = _checksum(upper if packet.protocol == ICMP else pseudo + upper) or 0xFFFF
        upper = upper[:at] + checksum.to_bytes(2, "big") + upper[at + 2 :]
    if packet.ip_version == 6:
        following = packet.protocol
        if ident % _EXTENDED == 0:
            following, upper = _DESTINATION_OPTIONS, bytes([packet.protocol, 0, 1, 4, 0, 0, 0, 0]) + upper  # padding
        return struct.pack(">IHBB", 6 << 28, len(upper), following, _HOP_LIMIT) + source + destination + upper
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(upper), 0, 0, _HOP_LIMIT, packet.protocol, 0)
    checksum = _checksum(head + source + destination)
    return head[:10] + checksum.to_bytes(2, "big") + source + destination + upper


def ident_of(data: bytes) -> int | None:
    """The id in a packet that left the router: in it, or in what it answers; ``None``: it is none of ours."""
    protocol, upper = _split(data)
    if protocol == TCP:
        sequence, acknowledged, _, flags = struct.unpack(">IIBB", upper[4:14])
        number: int = acknowledged - 1 if flags & _ACK else sequence - bool(flags & _RST)
        return number
    at = upper.find(_TAG)
    return None if at < 0 else int.from_bytes(upper[at + 4 : at + 8], "big")


def answer_of(data: bytes) -> Answer | None:
    """Which answer to a rejected packet this is, if it is one."""
    protocol, upper = _split(data)
    if protocol == TCP and upper[13] & _RST:
        return Answer.TCP_RESET
    return Answer.ADMIN_PROHIBITED if upper[:2] == _PROHIBITED.get(protocol) else None


def packet_of(data: bytes) -> Packet:
    """The addresses and ports, or the ICMP query, of a packet that left the router."""
    protocol, upper = _split(data)
    source, destination = _addresses(data)
    first, second, third = struct.unpack(">HHH", upper[:6])
    ports, query = protocol in PROTOCOLS_WITH_PORTS, protocol in (ICMP, ICMPV6)
    return Packet(
        source=source,
        destination=destination,
        protocol=protocol,
        source_port=first if ports else None,
        destination_port=second if ports else None,
        icmp_type=first >> 8 if query else None,
        icmp_code=first & 0xFF if query else None,
        icmp_id=third if query else None,
    )


def _split(data: bytes) -> tuple[int, bytes]:
    if data[0] >> 4 == 4:
        return data[9], data[20:]
    return (data[40], data[48:]) if data[6] == _DESTINATION_OPTIONS else (data[6], data[40:])


def _addresses(data: bytes) -> tuple[Address, Address]:
    if data[0] >> 4 == 4:
        return IPv4Address(data[12:16]), IPv4Address(data[16:20])
    return IPv6Address(data[8:24]), IPv6Address(data[24:40])


def _upper(packet: Packet, ident: int, is_reply: bool) -> bytes:
    tag = _TAG + ident.to_bytes(4, "big")
    ports = struct.pack(">HH", packet.source_port or 0, packet.destination_port or 0)
    if packet.protocol == TCP:
        flags = _SYN | _ACK if is_reply else _SYN
        sequence, acknowledged = (ident + 1, ident + 1) if is_reply else (ident, 0)
        return ports + struct.pack(">IIBBHHH", sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    if packet.protocol == UDP:
        return ports + struct.pack(">HH", 8 + len(tag), 0) + tag
    if packet.protocol == _UDP_LITE:
        return struct.pack(">HHHH", 7, 7, 0, 0) + tag
    if packet.protocol in (ICMP, ICMPV6):
        return struct.pack(">BBHHH", packet.icmp_type or 0, 0, 0, packet.icmp_id or 0, 1) + tag
    if packet.protocol == SCTP:  # INIT, or the INIT ACK that answers it, with a parameter that holds the tag
        chunk = struct.pack(">BBHIIHHIHH", 1 + is_reply, 0, 32, 1, 65535, 1, 1, 1, 0xC0DE, 12) + tag
        head = ports + struct.pack(">I", int(is_reply))
        return head + _crc32c(head + bytes(4) + chunk).to_bytes(4, "little") + chunk
    if packet.protocol == DCCP:  # Request or Response, with long sequence numbers
        body = bytes(8 * is_reply + 4)
        return ports + struct.pack(">BBHBBHI", 4 + len(body) // 4, 0, 0, is_reply << 1 | 1, 0, 0, 1) + body + tag
    return bytes(8) + tag


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc_table()[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
        table.append(value)
    return tuple(table)
