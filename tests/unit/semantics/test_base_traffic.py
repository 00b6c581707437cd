"""Semantics 8, sentence by sentence."""

from ipaddress import ip_address, ip_network
from uuid import UUID

import msgspec
import pytest

from portward.model import (
    ICMPV6,
    TCP,
    UDP,
    AddressPair,
    Arp,
    CoveredPort,
    Direction,
    Group,
    Packet,
    Port,
    PortKind,
)
from portward.semantics import Decision, Reason, Verdict, decide, decide_arp

MAC, OTHER_MAC, PAIR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:99", "02:00:00:00:00:02"
LINK_LOCAL, PAIR_LINK_LOCAL = "fe80::ff:fe00:1", "fe80::ff:fe00:2"
PORT = Port(
    id=str(UUID(int=1)),
    kind=PortKind.VM,
    mac_address=MAC,
    fixed_ips=(ip_address("10.0.0.5"), ip_address("fd00::5")),
    allowed_address_pairs=(
        AddressPair(prefix=ip_network("10.9.0.0/24")),
        AddressPair(prefix=ip_network("10.8.0.0/24"), mac=PAIR_MAC),
    ),
)
INSECURE = msgspec.structs.replace(PORT, port_security_enabled=False)


def verdict(packet: Packet, direction: Direction, port: Port = PORT) -> Decision:
    """Of a port whose tenant group has no rules: whatever is allowed is base traffic."""
    return decide(packet, direction, CoveredPort(port=port, groups=(Group(id="g"),)), {})


def sent(source: str, *, mac: str | None = MAC, protocol: int = TCP) -> Packet:
    destination = "10.0.1.1" if "." in source else "fd00::1"
    return Packet(source=ip_address(source), destination=ip_address(destination), protocol=protocol, source_mac=mac)


def icmpv6(kind: int, source: str = LINK_LOCAL, target: str | None = None) -> Packet:
    return Packet(
        source=ip_address(source),
        destination=ip_address("ff02::1"),
        protocol=ICMPV6,
        icmp_type=kind,
        source_mac=MAC,
        neighbour_target=None if target is None else ip_address(target),
    )


def dhcp(source: str, source_port: int, destination_port: int) -> Packet:
    return msgspec.structs.replace(
        sent(source, protocol=UDP), source_port=source_port, destination_port=destination_port
    )


@pytest.mark.parametrize("kind", [131, 132, 133, 135, 143])
def test_a_vm_may_send_solicitations_and_listener_reports(kind: int) -> None:
    assert verdict(icmpv6(kind), Direction.EGRESS).reason is Reason.BASE_TRAFFIC


@pytest.mark.parametrize("kind", [130, 138, 139, 128])
def test_other_icmpv6_from_a_vm_is_left_to_the_rules(kind: int) -> None:
    assert verdict(icmpv6(kind), Direction.EGRESS).reason is Reason.NO_POLICY


@pytest.mark.parametrize("kind", [130, 131, 132, 134, 135, 136])
def test_neighbour_discovery_and_listener_queries_reach_a_vm(kind: int) -> None:
    assert verdict(icmpv6(kind, source="fe80::1"), Direction.INGRESS).reason is Reason.BASE_TRAFFIC


@pytest.mark.parametrize("kind", [133, 137, 143, 128])
def test_other_icmpv6_to_a_vm_is_left_to_the_rules(kind: int) -> None:
    assert verdict(icmpv6(kind, source="fe80::1"), Direction.INGRESS).reason is Reason.NO_POLICY


@pytest.mark.parametrize("target", ["fd00::5", LINK_LOCAL])
def test_a_vm_may_advertise_its_own_addresses(target: str) -> None:
    assert verdict(icmpv6(136, target=target), Direction.EGRESS).verdict is Verdict.ALLOW


@pytest.mark.parametrize("target", ["fd00::1", "fe80::1", None])
def test_a_vm_may_not_advertise_the_addresses_of_others(target: str | None) -> None:
    assert verdict(icmpv6(136, target=target), Direction.EGRESS).reason is Reason.SPOOFED
    assert verdict(icmpv6(136, target=target), Direction.EGRESS, INSECURE).reason is Reason.BASE_TRAFFIC


@pytest.mark.parametrize("kind", [134, 137])
def test_router_advertisements_and_redirects_never_leave_a_vm(kind: int) -> None:
    assert verdict(icmpv6(kind), Direction.EGRESS).reason is Reason.SERVER_TRAFFIC


@pytest.mark.parametrize("packet", [dhcp("10.0.0.5", 67, 68), dhcp("fd00::5", 547, 546)])
def test_dhcp_answers_never_leave_a_vm_and_always_reach_one(packet: Packet) -> None:
    assert verdict(packet, Direction.EGRESS).reason is Reason.SERVER_TRAFFIC
    assert verdict(packet, Direction.INGRESS).reason is Reason.BASE_TRAFFIC


@pytest.mark.parametrize("packet", [dhcp("0.0.0.0", 68, 67), dhcp("10.0.0.5", 68, 67), dhcp(LINK_LOCAL, 546, 547)])
def test_a_vm_may_ask_for_an_address_and_need_not_answer_others(packet: Packet) -> None:
    assert verdict(packet, Direction.EGRESS).reason is Reason.BASE_TRAFFIC
    assert verdict(packet, Direction.INGRESS).reason is Reason.NO_POLICY


def test_only_base_traffic_may_come_from_no_address() -> None:
    assert verdict(icmpv6(135, source="::"), Direction.EGRESS).reason is Reason.BASE_TRAFFIC
    assert verdict(sent("::"), Direction.EGRESS).reason is Reason.SPOOFED
    assert verdict(sent("0.0.0.0"), Direction.EGRESS).reason is Reason.SPOOFED


@pytest.mark.parametrize(
    ("source", "mac"),
    [
        ("10.0.0.5", MAC),
        ("fd00::5", MAC),
        (LINK_LOCAL, MAC),
        ("10.9.0.7", MAC),
        ("10.8.0.7", PAIR_MAC),
        (PAIR_LINK_LOCAL, PAIR_MAC),
        ("10.8.0.7", None),
    ],
)
def test_the_sources_of_a_port_are_its_own_and_those_of_its_address_pairs(source: str, mac: str | None) -> None:
    assert verdict(sent(source, mac=mac), Direction.EGRESS).reason is Reason.NO_POLICY


@pytest.mark.parametrize(
    ("source", "mac"),
    [
        ("10.0.0.6", MAC),
        ("10.0.0.6", None),
        ("fe80::2", MAC),
        (PAIR_LINK_LOCAL, MAC),
        ("10.0.0.5", OTHER_MAC),
        ("10.0.0.5", PAIR_MAC),
        ("10.8.0.7", MAC),
        ("10.9.0.7", PAIR_MAC),
    ],
)
def test_any_other_source_never_leaves_a_vm(source: str, mac: str | None) -> None:
    assert verdict(sent(source, mac=mac), Direction.EGRESS).reason is Reason.SPOOFED
    assert verdict(sent(source, mac=mac), Direction.INGRESS).reason is Reason.NO_POLICY


def test_without_port_security_sources_and_servers_are_left_to_the_rules() -> None:
    for packet in (sent("10.0.0.6", mac=OTHER_MAC), icmpv6(134), icmpv6(137), dhcp("10.0.0.5", 67, 68)):
        assert verdict(packet, Direction.EGRESS, INSECURE).reason is Reason.NO_POLICY


def test_without_port_security_base_traffic_and_rules_stay() -> None:
    assert verdict(icmpv6(135), Direction.EGRESS, INSECURE).reason is Reason.BASE_TRAFFIC
    assert verdict(sent("10.0.0.5"), Direction.EGRESS, INSECURE).verdict is Verdict.DENY


def test_spoofed_sources_are_dropped_on_a_vm_port_of_no_group_too() -> None:
    uncovered = CoveredPort(port=PORT)
    assert decide(sent("10.0.0.6"), Direction.EGRESS, uncovered, {}).reason is Reason.SPOOFED
    assert decide(sent("10.0.0.5"), Direction.EGRESS, uncovered, {}).reason is Reason.NOT_COVERED


def test_router_ports_know_neither_base_traffic_nor_spoofing() -> None:
    router = msgspec.structs.replace(PORT, kind=PortKind.ROUTER)
    assert verdict(icmpv6(135), Direction.EGRESS, router).reason is Reason.NO_POLICY
    assert verdict(sent("10.0.0.6"), Direction.EGRESS, router).reason is Reason.NO_POLICY


def arp(address: str, *, mac: str = MAC, sender: str = MAC) -> Arp:
    return Arp(source_mac=mac, sender_mac=sender, sender_address=ip_address(address))


@pytest.mark.parametrize("claim", [arp("10.0.0.5"), arp("10.9.0.7"), arp("10.8.0.7", mac=PAIR_MAC, sender=PAIR_MAC)])
def test_a_vm_may_claim_its_own_addresses_by_arp(claim: Arp) -> None:
    assert decide_arp(claim, Direction.EGRESS, PORT).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "claim",
    [
        arp("10.0.0.1"),
        arp("0.0.0.0"),
        arp("10.0.0.5", mac=OTHER_MAC),
        arp("10.0.0.5", sender=OTHER_MAC),
        arp("10.8.0.7"),
    ],
)
def test_a_vm_may_not_claim_the_addresses_of_others_by_arp(claim: Arp) -> None:
    assert decide_arp(claim, Direction.EGRESS, PORT).reason is Reason.SPOOFED
    assert decide_arp(claim, Direction.EGRESS, INSECURE).verdict is Verdict.ALLOW


def test_arp_always_reaches_a_vm() -> None:
    assert decide_arp(arp("10.0.0.1", mac=OTHER_MAC), Direction.INGRESS, PORT).verdict is Verdict.ALLOW
