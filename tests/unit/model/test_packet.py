"""What a packet admits, and what its reply is."""

from ipaddress import ip_address
from typing import Any

import pytest

from portward.model import ICMP, ICMPV6, TCP, InvalidValue, Packet


def packet(protocol: int = TCP, version: int = 4, **fields: Any) -> Packet:
    source, destination = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    return Packet(source=ip_address(source), destination=ip_address(destination), protocol=protocol, **fields)


def test_addresses_of_two_ip_versions_are_refused() -> None:
    with pytest.raises(InvalidValue, match="different IP versions"):
        Packet(source=ip_address("10.0.0.1"), destination=ip_address("fd00::1"), protocol=TCP)


@pytest.mark.parametrize(("protocol", "port"), [(ICMP, 1), (47, 0), (TCP, -1), (TCP, 65536)])
def test_a_port_out_of_bounds_or_on_a_protocol_without_ports_is_refused(protocol: int, port: int) -> None:
    with pytest.raises(InvalidValue, match="port"):
        packet(protocol, destination_port=port)


def test_a_reply_has_addresses_ports_and_macs_swapped() -> None:
    reply = packet(source_port=1, destination_port=2, source_mac="a", destination_mac="b").reply()
    assert (str(reply.source), str(reply.destination)) == ("10.0.0.2", "10.0.0.1")
    assert (reply.source_port, reply.destination_port) == (2, 1)
    assert (reply.source_mac, reply.destination_mac) == ("b", "a")


@pytest.mark.parametrize(
    ("protocol", "version", "query", "answer"),
    [(ICMP, 4, 8, 0), (ICMP, 4, 13, 14), (ICMP, 4, 17, 18), (ICMPV6, 6, 128, 129), (ICMP, 4, 3, 3)],
)
def test_the_reply_of_a_query_is_its_answer_with_the_same_identifier(
    protocol: int, version: int, query: int, answer: int
) -> None:
    reply = packet(protocol, version, icmp_type=query, icmp_id=5).reply()
    assert (reply.icmp_type, reply.icmp_id) == (answer, 5)
    assert reply.reply().icmp_type == query


@pytest.mark.parametrize(
    ("protocol", "version", "kind", "expected"),
    [
        (ICMP, 4, 3, True),
        (ICMP, 4, 11, True),
        (ICMP, 4, 8, False),
        (ICMP, 4, 1, False),
        (ICMPV6, 6, 1, True),
        (ICMPV6, 6, 4, True),
        (ICMPV6, 6, 128, False),
        (TCP, 4, 3, False),
    ],
)
def test_icmp_errors_are_told_from_queries(protocol: int, version: int, kind: int, expected: bool) -> None:
    assert packet(protocol, version, icmp_type=kind).is_icmp_error is expected
