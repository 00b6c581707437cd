"""The pipeline frame by frame: who may send what before any rule is asked, and where frames go (semantics 5 and 8)."""

from ipaddress import ip_address, ip_network

import pytest

from fake_switch import Frame
from fake_switch.frame import Fragment
from portward.dataplane.openvswitch.ports import AdmittedPort
from portward.model import AddressPair
from unit.dataplane.openvswitch.cloud import (
    ADMITTED,
    ALL_NODES,
    BROADCAST,
    DHCP,
    UNKNOWN,
    UPLINK,
    Cloud,
    Vm,
    arp,
    icmpv6,
    link_local,
    mac,
    udp,
    v4,
    v6,
)

NO_RULES = Vm(ingress=(), egress=())
NOWHERE: set[int] = set()
DISCOVER = {
    4: udp(1, 2, (68, 67)).with_(
        source=ip_address("0.0.0.0"), destination=ip_address("255.255.255.255"), eth_dst=BROADCAST
    ),
    6: udp(1, 2, (546, 547), 6).with_(source=link_local(1), destination=ip_address("ff02::1:2"), eth_dst=ALL_NODES),
}
OFFER = {4: udp(9, 1, (67, 68)), 6: udp(9, 1, (547, 546), 6)}


@pytest.fixture
def cloud() -> Cloud:
    """Machines 1, 2 and 3 of one network; all rules allow."""
    return Cloud({1: Vm(), 2: Vm(), 3: Vm()})


@pytest.fixture
def mute() -> Cloud:
    """Machines 1 and 2 without a rule."""
    return Cloud({1: NO_RULES, 2: NO_RULES})


@pytest.mark.parametrize("frame", [udp(1, 2), arp(1), udp(1, 2, version=6)])
def test_an_interface_that_nobody_knows_sends_nothing(cloud: Cloud, frame: Frame) -> None:
    assert cloud.ways(frame, UNKNOWN) == NOWHERE


def test_an_interface_that_nobody_knows_gets_nothing(cloud: Cloud) -> None:
    cloud.ways(udp(7, 1), UNKNOWN)
    for frame in (udp(1, 7), arp(1), udp(1, 7).with_(eth_dst=ALL_NODES)):
        assert UNKNOWN not in cloud.ways(frame, 1)


def test_a_bridge_without_ports_passes_nothing() -> None:
    assert Cloud({}, admitted=()).ways(udp(1, 2), 1) == NOWHERE


def test_admitted_ports_reach_each_other_whatever_they_send() -> None:
    cloud = Cloud({}, admitted=(*ADMITTED, AdmittedPort(ofport=60, network=10)))
    assert cloud.ways(udp(8, 9), DHCP) == {60, UPLINK}
    assert cloud.out(udp(8, 9), DHCP)[UPLINK].vlan == 10
    assert cloud.ways(udp(9, 8), 60) == {DHCP}
    assert cloud.ways(Frame(eth_src=mac(8), eth_dst=mac(9), eth_type=0x88CC), DHCP) == {60}


@pytest.mark.parametrize("version", [4, 6])
def test_two_machines_talk_as_their_rules_allow(cloud: Cloud, version: int) -> None:
    assert cloud.out(udp(1, 2, version=version), 1) == {2: udp(1, 2, version=version)}


@pytest.mark.parametrize(
    "frame",
    [
        udp(1, 2).with_(eth_src=mac(9)),
        udp(1, 2).with_(source=v4(9)),
        udp(1, 2).with_(source=v4(2)),
        udp(1, 2).with_(source=ip_address("0.0.0.0")),
        udp(1, 2, version=6).with_(eth_src=mac(9)),
        udp(1, 2, version=6).with_(source=v6(9)),
        udp(1, 2, version=6).with_(source=link_local(2)),
        udp(1, 2, version=6).with_(source=ip_address("::")),
        udp(1, 2).with_(eth_src=mac(2), source=v4(2)),
    ],
)
def test_frames_from_a_source_that_is_not_the_ports_go_nowhere(cloud: Cloud, frame: Frame) -> None:
    assert cloud.ways(frame, 1) == NOWHERE


def test_the_link_local_address_of_its_mac_is_a_ports_own(cloud: Cloud) -> None:
    assert cloud.ways(udp(1, 2, version=6).with_(source=link_local(1)), 1) == {2}


def test_arp_passes_both_ways_without_any_rule(mute: Cloud) -> None:
    assert mute.ways(arp(1), 1) == {2, UPLINK, DHCP}
    assert mute.ways(arp(9, 1), DHCP) == {1}


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, arp_spa=v4(2)),
        arp(1, arp_spa=ip_address("0.0.0.0")),
        arp(1, arp_sha=mac(2)),
        arp(1, eth_src=mac(2)),
        arp(1, eth_src=mac(2), arp_sha=mac(2)),
        arp(1, arp_op=2, arp_spa=v4(2)),
    ],
)
def test_arp_tells_of_the_ports_own_address_and_mac_alone(cloud: Cloud, frame: Frame) -> None:
    assert cloud.ways(frame, 1) == NOWHERE


@pytest.mark.parametrize("kind", [131, 132, 133, 135, 143])
@pytest.mark.parametrize("source", [v6(1), link_local(1), ip_address("::")])
def test_discovery_of_ipv6_passes_from_a_machine_without_any_rule(mute: Cloud, kind: int, source: object) -> None:
    frame = icmpv6(1, 9, kind, source=source, eth_dst=ALL_NODES, nd_target=v6(9) if kind == 135 else None)
    assert mute.ways(frame, 1) >= {UPLINK, DHCP}


@pytest.mark.parametrize("kind", [131, 135, 143])
def test_discovery_of_ipv6_is_sent_from_a_ports_own_source_alone(cloud: Cloud, kind: int) -> None:
    assert cloud.ways(icmpv6(1, 9, kind, source=v6(2)), 1) == NOWHERE
    assert cloud.ways(icmpv6(1, 9, kind, source=ip_address("::"), eth_src=mac(2)), 1) == NOWHERE


@pytest.mark.parametrize("source", [v6(1), link_local(1), ip_address("::")])
def test_an_advertisement_names_an_address_of_the_port(mute: Cloud, source: object) -> None:
    for target in (v6(1), link_local(1)):
        assert mute.ways(icmpv6(1, 9, 136, source=source, nd_target=target), 1) == {UPLINK, DHCP}
    for target in (v6(2), link_local(2), None):
        assert mute.ways(icmpv6(1, 9, 136, source=source, nd_target=target), 1) == NOWHERE
    assert mute.ways(icmpv6(1, 9, 136, source=source, nd_target=v6(1), icmp_code=1), 1) == NOWHERE


@pytest.mark.parametrize("kind", [130, 131, 132, 134, 135, 136])
def test_discovery_of_ipv6_comes_to_a_machine_without_any_rule(mute: Cloud, kind: int) -> None:
    assert mute.ways(icmpv6(9, 1, kind), DHCP) == {1}


@pytest.mark.parametrize("kind", [133, 137, 143, 128])
def test_other_messages_of_icmpv6_do_not(mute: Cloud, kind: int) -> None:
    assert mute.ways(icmpv6(9, 1, kind), DHCP) == NOWHERE


@pytest.mark.parametrize("kind", [134, 137])
@pytest.mark.parametrize("groups", [None, ()])
def test_what_routers_say_never_leaves_a_machine(groups: tuple[()] | None, kind: int) -> None:
    cloud = Cloud({1: Vm(groups=groups), 2: Vm(groups=groups)})
    assert cloud.ways(icmpv6(1, 2, kind, source=link_local(1)), 1) == NOWHERE


@pytest.mark.parametrize("version", [4, 6])
def test_a_machine_asks_for_addresses_and_gets_them_without_any_rule(mute: Cloud, version: int) -> None:
    assert mute.ways(DISCOVER[version], 1) == {UPLINK, DHCP}
    assert mute.ways(DISCOVER[version].with_(source=v4(1) if version == 4 else v6(1)), 1) == {UPLINK, DHCP}
    assert mute.ways(OFFER[version], DHCP) == {1}


@pytest.mark.parametrize("version", [4, 6])
def test_a_request_for_addresses_is_sent_from_a_ports_own_source_alone(cloud: Cloud, version: int) -> None:
    assert cloud.ways(DISCOVER[version].with_(eth_src=mac(2)), 1) == NOWHERE
    assert cloud.ways(DISCOVER[version].with_(source=v4(2) if version == 4 else v6(2)), 1) == NOWHERE


@pytest.mark.parametrize("version", [4, 6])
def test_answers_of_a_dhcp_server_never_leave_a_machine(cloud: Cloud, version: int) -> None:
    offer = udp(1, 2, (67, 68), 4) if version == 4 else udp(1, 2, (547, 546), 6)
    assert cloud.ways(offer, 1) == NOWHERE
    request = offer.reply()
    assert cloud.ways(request, 2) == {1}  # nor as answers within a connection
    assert cloud.ways(offer, 1) == NOWHERE


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("asked_before", [False, True])
def test_nor_do_they_in_fragments_which_show_no_ports(cloud: Cloud, version: int, asked_before: bool) -> None:
    offer = udp(1, 2, (67, 68), 4) if version == 4 else udp(1, 2, (547, 546), 6)
    if asked_before:
        cloud.ways(offer.reply(), 2)
    assert Fragment.FIRST not in _fragments_sent(cloud, offer)
    assert _fragments_sent(cloud, udp(1, 2, (69, 68), version)) == {Fragment.FIRST, Fragment.LATER}


def _fragments_sent(cloud: Cloud, frame: Frame) -> set[Fragment]:
    """Which parts of ``frame`` leave, when machine 1 sends it in two."""
    halves = [frame.with_(fragment=half) for half in (Fragment.FIRST, Fragment.LATER)]
    return {sent.fragment for half in halves for _, sent in cloud.switch.send(1, half)}


def test_without_port_security_sources_are_not_checked_and_rules_are_asked() -> None:
    cloud = Cloud({1: Vm(secured=False), 2: Vm(), 3: Vm(secured=False, egress=())})
    assert cloud.ways(udp(1, 2).with_(eth_src=mac(9), source=v4(9)), 1) == {2}
    assert cloud.ways(arp(1, 2, arp_spa=v4(9), arp_sha=mac(9), eth_src=mac(9)), 1) == {2}
    assert cloud.ways(icmpv6(1, 2, 136, nd_target=v6(9)), 1) == {2}
    assert cloud.ways(udp(1, 2, (67, 68)), 1) == {2}
    assert cloud.ways(udp(3, 2), 3) == NOWHERE
    assert cloud.ways(udp(3, 2, (67, 68)), 3) == NOWHERE
    assert cloud.ways(arp(3, 2), 3) == {2}


def test_a_machine_without_port_security_is_reached_by_the_macs_that_it_sent_from() -> None:
    cloud = Cloud({1: Vm(secured=False, ingress=()), 2: Vm(), 3: Vm(secured=False)})
    to_nine = udp(2, 9)
    assert cloud.ways(to_nine, 2) == {UPLINK, DHCP}
    cloud.ways(udp(9, 2), 3)
    assert cloud.ways(to_nine, 2) == {3}
    cloud.ways(udp(8, 2), 1)
    assert cloud.ways(udp(2, 8, (1, 1)), 2) == NOWHERE  # 1's rules allow nothing in


def test_address_pairs_are_sources_of_a_port_with_their_own_mac_or_the_ports() -> None:
    net = ip_network("192.0.2.0/24")
    other = AddressPair(prefix=ip_network("198.51.100.1/32"), mac=mac(0x77))
    cloud = Cloud({1: Vm(pairs=(AddressPair(prefix=net), other)), 2: Vm()})
    inside, outside, of_other = ip_address("192.0.2.200"), ip_address("192.0.3.0"), ip_address("198.51.100.1")
    assert cloud.ways(udp(1, 2).with_(source=inside), 1) == {2}
    assert cloud.ways(udp(1, 2).with_(source=outside), 1) == NOWHERE
    assert cloud.ways(udp(1, 2).with_(source=of_other), 1) == NOWHERE
    assert cloud.ways(udp(1, 2).with_(eth_src=mac(0x77), source=of_other), 1) == {2}
    assert cloud.ways(udp(1, 2).with_(eth_src=mac(0x77)), 1) == NOWHERE
    assert cloud.ways(udp(1, 2, version=6).with_(eth_src=mac(0x77), source=link_local(0x77)), 1) == {2}
    assert cloud.ways(arp(1, 2, arp_spa=inside), 1) == {2}
    assert cloud.ways(arp(1, 2, arp_spa=of_other), 1) == NOWHERE
    assert cloud.ways(udp(2, 1).with_(eth_dst=mac(0x77)), 2) == {1}


def test_a_pair_of_all_addresses_leaves_the_mac_to_be_checked() -> None:
    everything = tuple(AddressPair(prefix=ip_network(text)) for text in ("0.0.0.0/0", "::/0"))
    cloud = Cloud({1: Vm(pairs=everything), 2: Vm()})
    for version in (4, 6):
        frame = udp(1, 2, version=version).with_(source=v4(9) if version == 4 else v6(9))
        assert cloud.ways(frame, 1) == {2}
        assert cloud.ways(frame.with_(eth_src=mac(9)), 1) == NOWHERE


def test_a_machine_sends_no_tagged_frames(cloud: Cloud) -> None:
    for vlan in (0, 10, 20):
        assert cloud.ways(udp(1, 2).with_(vlan=vlan), 1) == NOWHERE


def test_an_admitted_port_of_one_network_sends_no_tagged_frames(cloud: Cloud) -> None:
    assert cloud.ways(udp(9, 1).with_(vlan=10), DHCP) == NOWHERE


def test_frames_of_other_ether_types_pass_no_machine(cloud: Cloud) -> None:
    frame = Frame(eth_src=mac(1), eth_dst=mac(2), eth_type=0x88CC)
    assert cloud.ways(frame, 1) == NOWHERE
    assert cloud.ways(frame.with_(eth_src=mac(9)), DHCP) == NOWHERE


def test_broadcasts_come_to_those_machines_whose_rules_allow_them() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(ingress=()), 3: Vm()})
    for to_all in (BROADCAST, ALL_NODES):
        assert cloud.ways(udp(1, 2).with_(eth_dst=to_all), 1) == {3, UPLINK, DHCP}
        assert cloud.ways(udp(9, 2, (5, len(to_all))).with_(eth_dst=to_all), DHCP) == {1, 3, UPLINK}


def test_a_thousand_machines_of_one_network_get_a_broadcast() -> None:
    numbers = range(1001, 2001)
    cloud = Cloud({number: Vm() for number in numbers})
    for frame in (arp(1001), udp(1001, 1002).with_(eth_dst=BROADCAST)):
        assert cloud.ways(frame, 1001) == {*numbers, UPLINK, DHCP} - {1001}


def test_networks_do_not_meet() -> None:
    cloud = Cloud(
        {1: Vm(), 2: Vm(), 11: Vm(network=20, double_of=1), 12: Vm(network=20, double_of=2), 13: Vm(network=20)}
    )
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert cloud.ways(udp(1, 2), 11) == {12}
    assert cloud.ways(udp(1, 13), 1) == {UPLINK, DHCP}
    assert cloud.ways(arp(1), 11) == {12, 13, UPLINK}
    tagged = udp(9, 2).with_(vlan=20)
    assert cloud.out(tagged, UPLINK) == {12: tagged.with_(vlan=None)}
    assert cloud.ways(udp(9, 2).with_(vlan=30), UPLINK) == NOWHERE


def test_connections_of_equal_addresses_on_two_networks_are_two() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(ingress=()), 11: Vm(network=20, double_of=1), 12: Vm(network=20, double_of=2)})
    assert cloud.ways(udp(1, 2), 11) == {12}
    assert cloud.ways(udp(1, 2), 1) == NOWHERE
    assert cloud.ways(udp(1, 2), 11) == {12}


def test_frames_leave_by_the_uplink_with_the_tag_of_their_network(cloud: Cloud) -> None:
    sent = cloud.out(udp(1, 9), 1)
    assert sent == {UPLINK: udp(1, 9).with_(vlan=10), DHCP: udp(1, 9)}


def test_untagged_frames_of_the_uplink_reach_the_network_without_a_tag() -> None:
    cloud = Cloud({1: Vm(network=0), 2: Vm()})
    assert cloud.out(udp(1, 9), 1) == {UPLINK: udp(1, 9)}
    assert cloud.ways(udp(9, 1), UPLINK) == {1}


def test_sources_beyond_admitted_ports_are_learnt_a_network_at_a_time(cloud: Cloud) -> None:
    assert cloud.ways(udp(1, 9), 1) == {UPLINK, DHCP}
    cloud.ways(udp(9, 1).with_(vlan=10), UPLINK)
    assert cloud.ways(udp(1, 9), 1) == {UPLINK}
    cloud.ways(udp(9, 1), DHCP)
    assert cloud.ways(udp(1, 9), 1) == {DHCP}
    cloud.ways(udp(9, 1).with_(vlan=20), UPLINK)
    assert cloud.ways(udp(1, 9), 1) == {DHCP}
    cloud.switch.forget_learnt()
    assert cloud.ways(udp(1, 9), 1) == {UPLINK, DHCP}


def test_nobody_learns_a_mac_away_from_a_machine(cloud: Cloud) -> None:
    cloud.ways(udp(2, 9), DHCP)
    cloud.ways(arp(2), UPLINK)
    assert cloud.ways(udp(1, 2), 1) == {2}


def test_the_source_of_a_machine_is_not_learnt_and_no_crowd_is(cloud: Cloud) -> None:
    cloud.ways(udp(1, 9), 1)
    cloud.ways(udp(9, 1).with_(eth_src=ALL_NODES), DHCP)
    assert not cloud.switch.learnt


def test_two_machines_of_one_mac_both_get_its_frames_if_their_rules_allow_them() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(), 3: Vm(double_of=2), 4: Vm(double_of=2, ingress=())})
    assert cloud.ways(udp(1, 2), 1) == {2, 3}


def test_a_frame_is_never_sent_back_by_the_port_that_it_came_by(cloud: Cloud) -> None:
    assert cloud.ways(udp(1, 1), 1) == NOWHERE
    assert cloud.ways(udp(8, 9), DHCP) == {UPLINK}
