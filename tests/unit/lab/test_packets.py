"""Packets as bytes: checked against the checksum's own definition and against fixed headers."""

import struct
from ipaddress import ip_address

import pytest

from portward.lab.packets import ACK, Datagram
from portward.model import ICMP, ICMPV6, TCP, UDP

ADDRESSES = {4: ("10.1.0.10", "10.2.0.10"), 6: ("fd00:1::a", "fd00:2::a")}
HEADER = {4: 20, 6: 40}


def words(data: bytes) -> int:
    """The one's complement sum of 16-bit words (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def datagram(version: int, protocol: int, payload: bytes) -> Datagram:
    source, destination = map(ip_address, ADDRESSES[version])
    return Datagram(
        source=source,
        destination=destination,
        protocol=protocol,
        source_port=5000,
        destination_port=6000,
        tcp_flags=ACK,
        icmp=(8 if version == 4 else 128, 0, b"\0\1\0\2"),
        payload=payload,
    )


@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
@pytest.mark.parametrize(("version", "protocol"), [(4, UDP), (4, TCP), (6, UDP), (6, TCP), (6, ICMPV6)])
def test_the_checksum_covers_addresses_header_and_payload(version: int, protocol: int, payload: bytes) -> None:
    packet = datagram(version, protocol, payload)
    upper = packet.to_bytes()[HEADER[version] :]
    pseudo = packet.source.packed + packet.destination.packed + struct.pack(">II", len(upper), protocol)
    assert words(pseudo + upper) == 0xFFFF


def test_the_checksum_of_icmp_covers_no_addresses() -> None:
    assert words(datagram(4, ICMP, b"odd").to_bytes()[20:]) == 0xFFFF


def test_the_ipv4_header_says_what_follows() -> None:
    data = datagram(4, UDP, b"1234").to_bytes()
    version_length, _, total, _, _, hops, protocol, _ = struct.unpack(">BBHHHBBH", data[:12])
    assert (version_length, total, hops, protocol) == (0x45, len(data), 64, UDP)
    assert data[12:20] == ip_address("10.1.0.10").packed + ip_address("10.2.0.10").packed
    assert struct.unpack(">HHH", data[20:26]) == (5000, 6000, 12)


def test_the_ipv6_header_says_what_follows() -> None:
    data = datagram(6, TCP, b"").to_bytes()
    first, length, protocol, hops = struct.unpack(">IHBB", data[:8])
    assert (first >> 28, length, protocol, hops) == (6, 20, TCP, 64)
    assert data[8:40] == ip_address("fd00:1::a").packed + ip_address("fd00:2::a").packed
    assert data[40 + 13] == ACK
