"""Frames as bytes, for a real switch to be asked about what the fake was asked.

An ICMP error quotes the header of its packet and 8 bytes more (RFC 792), of IPv6 all of it (RFC 4443): Open vSwitch
takes one that quotes less for invalid. Fragments are those of a packet that is cut in two.
"""

import struct

from fake_switch.frame import ARP, IPV4, IPV6, Fragment, Frame, mac_number
from portward.model import ICMP, ICMPV6, TCP, UDP, Address

_NO_ADDRESS = bytes(4)
_QUERIES = {ICMP: {0, 8, 13, 14, 15, 16, 17, 18}, ICMPV6: {128, 129}}
_ND_TYPES = (135, 136)
#: Bytes in the first of two fragments: Open vSwitch takes shorter ones for invalid (ovs-vswitchd's ipf-set-min-frag).
_CUT = 1408
_FRAGMENT_HEADER = 44


def encode(frame: Frame) -> bytes:
    """``frame`` as it stands on the wire, without padding or checksum of its own."""
    head = mac_number(frame.eth_dst).to_bytes(6, "big") + mac_number(frame.eth_src).to_bytes(6, "big")
    if frame.vlan is not None:
        head += struct.pack(">HH", 0x8100, frame.vlan)
    head += struct.pack(">H", frame.eth_type)
    if frame.eth_type == ARP:
        return head + _arp(frame)
    return head + (_ip(frame) if frame.eth_type in (IPV4, IPV6) else bytes(46))


def _arp(frame: Frame) -> bytes:
    sha = mac_number(frame.arp_sha).to_bytes(6, "big")
    head = struct.pack(">HHBBH", 1, IPV4, 6, 4, frame.arp_op) + sha + _packed(frame.arp_spa)
    return head + bytes(6) + _packed(frame.arp_tpa)


def _packed(address: Address | None) -> bytes:
    return _NO_ADDRESS if address is None else address.packed


def _ip(frame: Frame) -> bytes:
    assert frame.source is not None
    assert frame.destination is not None
    addresses = frame.source.packed + frame.destination.packed
    upper = _checked(frame, _upper(frame), addresses)
    if frame.fragment is not Fragment.NO:
        upper = upper[:_CUT] if frame.fragment is Fragment.FIRST else upper[_CUT:]
    if frame.eth_type == IPV6:
        if frame.fragment is Fragment.NO:
            return struct.pack(">IHBB", 6 << 28, len(upper), frame.protocol, 64) + addresses + upper
        offset = 1 if frame.fragment is Fragment.FIRST else _CUT
        cut = struct.pack(">BBHI", frame.protocol, 0, offset, frame.identification)
        return struct.pack(">IHBB", 6 << 28, len(cut + upper), _FRAGMENT_HEADER, 64) + addresses + cut + upper
    offset = {Fragment.NO: 0, Fragment.FIRST: 0x2000, Fragment.LATER: _CUT // 8}[frame.fragment]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(upper), frame.identification, offset, 64, frame.protocol, 0)
    return head[:10] + _checksum(head + addresses).to_bytes(2, "big") + addresses + upper


def _upper(frame: Frame) -> bytes:
    """What follows the IP header, its checksum 0."""
    ports = struct.pack(">HH", frame.source_port, frame.destination_port)
    if frame.protocol == TCP:
        sequence = struct.pack(">IIBBHHH", 1, 1, 5 << 4, frame.tcp_flags, 65535, 0, 0)
        return ports + sequence
    if frame.protocol == UDP:
        payload = bytes(8 if frame.fragment is Fragment.NO else _CUT)
        return ports + struct.pack(">HH", 8 + len(payload), 0) + payload
    if frame.protocol in (ICMP, ICMPV6):
        return _icmp(frame)
    return ports + bytes(20)


def _icmp(frame: Frame) -> bytes:
    head = struct.pack(">BBH", frame.icmp_type, frame.icmp_code, 0)
    if frame.about is not None:
        quoted = _ip(frame.about)
        return head + bytes(4) + (quoted[: 20 + 8] if frame.about.eth_type == IPV4 else quoted)
    if frame.icmp_type in _QUERIES[frame.protocol]:
        return head + struct.pack(">HH", frame.icmp_id, 1) + bytes(12)
    if frame.protocol == ICMPV6 and frame.icmp_type in _ND_TYPES:
        return head + bytes(4) + (bytes(16) if frame.nd_target is None else frame.nd_target.packed)
    return head + bytes(20)


def _checked(frame: Frame, upper: bytes, addresses: bytes) -> bytes:
    """``upper`` with its checksum; of a damaged frame, a wrong one."""
    at = {TCP: 16, UDP: 6, ICMPV6: 2, ICMP: 2}.get(frame.protocol)
    if at is None:
        return upper
    pseudo = b"" if frame.protocol == ICMP else addresses + struct.pack(">II", len(upper), frame.protocol)
    right = _checksum(pseudo + upper) or 0xFFFF
    return upper[:at] + (right ^ (0x0101 if frame.is_damaged else 0)).to_bytes(2, "big") + upper[at + 2 :]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
