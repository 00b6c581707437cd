"""What a rule and its parts admit."""

from ipaddress import ip_network
from typing import Any

import pytest

from portward.model import ICMP, ICMPV6, TCP, UDP, Action, InvalidValue, PortRange, Rule


def rule(**fields: Any) -> Rule:
    return Rule(id="r", action=Action.ALLOW, **fields)


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 5), (0, 65536), (70000, 70000)])
def test_a_port_range_out_of_order_or_bounds_is_refused(first: int, last: int) -> None:
    with pytest.raises(InvalidValue, match=f"{first}:{last}"):
        PortRange(first, last)


def test_a_port_range_includes_both_ends() -> None:
    assert [port in PortRange(22, 23) for port in (21, 22, 23, 24)] == [False, True, True, False]
    assert 0 in PortRange(0, 65535)
    assert 65535 in PortRange(0, 65535)


def test_a_port_range_reads_as_users_write_it() -> None:
    assert (str(PortRange(22, 22)), str(PortRange(0, 1024))) == ("22", "0:1024")


def test_icmp_of_an_ipv6_rule_becomes_icmpv6_and_no_other() -> None:
    assert rule(ip_version=6, protocol=ICMP).protocol == ICMPV6
    assert rule(ip_version=4, protocol=ICMP).protocol == ICMP


@pytest.mark.parametrize("protocol", [-1, 256])
def test_a_protocol_outside_one_octet_is_refused(protocol: int) -> None:
    with pytest.raises(InvalidValue):
        rule(protocol=protocol)


@pytest.mark.parametrize("field", ["source", "destination"])
def test_an_address_of_the_other_ip_version_is_refused(field: str) -> None:
    with pytest.raises(InvalidValue, match="IPv4"):
        rule(ip_version=4, **{field: ip_network("fd00::/64")})


@pytest.mark.parametrize("field", ["source_port", "destination_port"])
@pytest.mark.parametrize("protocol", [None, ICMP, 47])
def test_ports_need_a_protocol_that_has_them(field: str, protocol: int | None) -> None:
    with pytest.raises(InvalidValue, match="ports"):
        rule(protocol=protocol, **{field: PortRange(0, 0)})


@pytest.mark.parametrize("protocol", [TCP, UDP, 33, 132])
def test_tcp_udp_dccp_and_sctp_have_ports(protocol: int) -> None:
    assert rule(protocol=protocol, destination_port=PortRange(22, 22)).protocol == protocol
