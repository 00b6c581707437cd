"""The pipeline frame by frame: rules, strata, connections, changes and rejects (semantics 1 to 7)."""

from ipaddress import ip_address, ip_network

import pytest

from fake_switch import Frame
from fake_switch.bridge import zone_of
from fake_switch.frame import ACK, FIN, SYN, Fragment
from portward.model import ICMP, SCTP, TCP, UDP, Action, Group, Policy, PortRange, Rule, Stratum
from properties.strategies import ident
from unit.dataplane.openvswitch.cloud import (
    ALL_NODES,
    ANY,
    BROADCAST,
    DHCP,
    REFLECTOR,
    UPLINK,
    Cloud,
    Vm,
    answer,
    error_about,
    icmpv6,
    mac,
    tcp,
    udp,
    v4,
)

NOWHERE: set[int] = set()
PING = udp(1, 2, (0, 0)).with_(protocol=ICMP, icmp_type=8, icmp_id=7)


def rule(number: int, action: Action = Action.ALLOW, **fields: object) -> Rule:
    """A rule of IPv4 if ``fields`` do not say otherwise."""
    return Rule(id=ident(800 + number), action=action, **fields)  # type: ignore[arg-type]


TO_2000 = rule(1, protocol=UDP, destination_port=PortRange(2000, 2000))
TCP_TO_2000 = rule(2, protocol=TCP, destination_port=PortRange(2000, 2000))
DENY, REJECT = rule(3, Action.DENY), rule(4, Action.REJECT)
REJECT6 = rule(5, Action.REJECT, ip_version=6)


def between(ingress: tuple[Rule, ...] = ANY, egress: tuple[Rule, ...] = ANY) -> dict[int, Vm]:
    """Machine 1, whose ``egress`` decides first, and 2, whose ``ingress`` does then."""
    return {1: Vm(egress=egress, ingress=()), 2: Vm(ingress=ingress, egress=())}


@pytest.mark.parametrize("egress", [ANY, ()])
@pytest.mark.parametrize("ingress", [ANY, ()])
def test_both_machines_must_allow(egress: tuple[Rule, ...], ingress: tuple[Rule, ...]) -> None:
    cloud = Cloud(between(ingress, egress))
    assert cloud.ways(udp(1, 2), 1) == ({2} if egress and ingress else NOWHERE)


def test_the_first_rule_that_matches_decides() -> None:
    cloud = Cloud(between((TO_2000, DENY, *ANY)))
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert cloud.ways(udp(1, 2, (1000, 2001)), 1) == NOWHERE
    assert cloud.ways(udp(1, 2, (1000, 2001), version=6), 1) == {2}


def test_a_disabled_rule_takes_no_part() -> None:
    off = rule(9, Action.DENY, enabled=False)
    assert Cloud(between((off, *ANY))).ways(udp(1, 2), 1) == {2}
    assert Cloud(between((rule(9, enabled=False),))).ways(udp(1, 2), 1) == NOWHERE


def test_a_group_that_is_down_denies_everything_but_base_traffic() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(up=False)})
    assert cloud.ways(udp(1, 2), 1) == NOWHERE
    assert cloud.ways(udp(2, 1), 2) == NOWHERE
    assert cloud.ways(icmpv6(1, 2, 135), 1) == {2}


def test_no_policy_is_one_without_rules() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(ingress=None), 3: Vm(egress=None)})
    assert cloud.ways(udp(1, 2), 1) == NOWHERE
    assert cloud.ways(udp(3, 1), 3) == NOWHERE
    assert cloud.ways(udp(1, 3), 1) == {3}


def test_a_port_that_no_group_covers_has_no_filter_but_the_check_of_sources() -> None:
    cloud = Cloud({1: Vm(groups=()), 2: Vm(groups=())})
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert cloud.ways(udp(1, 2).with_(source=v4(9)), 1) == NOWHERE
    assert cloud.ways(tcp(1, 2, flags=SYN | FIN), 1) == {2}
    assert cloud.ways(error_about(udp(1, 2, (5, 5))), 2) == {1}
    assert cloud.ways(icmpv6(1, 2, 200), 1) == {2}


def test_strata_decide_in_their_order_and_pass_leaves_the_first() -> None:
    policies = (
        Policy(id=ident(701), version=1, rules=(rule(20, Action.PASS, protocol=TCP), rule(21, protocol=ICMP), TO_2000)),
        Policy(id=ident(702), version=1, rules=(rule(22, Action.DENY, protocol=UDP), TCP_TO_2000)),
        Policy(id=ident(703), version=1, rules=(rule(23, Action.DENY, protocol=ICMP), rule(24, protocol=TCP))),
        Policy(id=ident(704), version=1, rules=(rule(25, Action.DENY, protocol=TCP),)),
    )
    groups = (
        Group(id=ident(601), stratum=Stratum.ADMIN, position=0, ingress_policy_id=ident(701)),
        Group(id=ident(604), stratum=Stratum.ADMIN, position=1, ingress_policy_id=ident(704)),
        Group(id=ident(602), stratum=Stratum.TENANT, ingress_policy_id=ident(702)),
        Group(id=ident(603), stratum=Stratum.BASELINE, ingress_policy_id=ident(703)),
    )
    cloud = Cloud({1: Vm(), 2: Vm(groups=groups)}, policies=policies)
    assert cloud.ways(udp(1, 2), 1) == {2}  # admin allows what tenant denies
    assert cloud.ways(udp(1, 2, (1, 1)), 1) == NOWHERE
    assert cloud.ways(tcp(1, 2), 1) == {2}  # pass jumps over the second admin group
    assert cloud.ways(tcp(1, 2, (1, 1)), 1) == {2}  # baseline allows what tenant leaves
    assert cloud.ways(PING, 1) == {2}
    assert cloud.ways(udp(1, 2).with_(protocol=47), 1) == NOWHERE


def test_without_a_tenant_group_what_no_rule_decides_passes() -> None:
    policy = Policy(id=ident(701), version=1, rules=(rule(20, Action.DENY, protocol=TCP),))
    admin = Group(id=ident(601), stratum=Stratum.ADMIN, ingress_policy_id=policy.id)
    cloud = Cloud({1: Vm(), 2: Vm(groups=(admin,))}, policies=(policy,))
    assert cloud.ways(tcp(1, 2), 1) == NOWHERE
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert cloud.ways(udp(2, 1), 2) == {1}


def test_conjunctions_of_port_ranges_match_what_the_ranges_do() -> None:
    ranges = rule(30, protocol=UDP, source_port=PortRange(1, 998), destination_port=PortRange(1025, 65534))
    cloud = Cloud(between((ranges, rule(31, protocol=TCP))))
    for source, destination, passes in ((1, 1025, 1), (998, 65534, 1), (0, 1025, 0), (999, 2000, 0), (5, 1024, 0)):
        assert cloud.ways(udp(1, 2, (source, destination)), 1) == ({2} if passes else NOWHERE)


@pytest.mark.parametrize("version", [4, 6])
def test_answers_pass_where_no_rule_would_let_them(version: int) -> None:
    cloud = Cloud(between())
    assert cloud.ways(udp(2, 1, (2000, 1000), version), 2) == NOWHERE
    assert cloud.ways(udp(1, 2, version=version), 1) == {2}
    assert cloud.ways(udp(2, 1, (2000, 1000), version), 2) == {1}
    assert cloud.ways(udp(2, 1, (2000, 1001), version), 2) == NOWHERE


def test_an_answer_to_a_ping_passes_and_one_that_nobody_asked_for_does_not() -> None:
    cloud = Cloud({1: Vm(), 2: Vm()})
    assert cloud.ways(PING.reply(), 2) == NOWHERE
    assert cloud.ways(PING, 1) == {2}
    assert cloud.ways(PING.reply(), 2) == {1}
    assert cloud.ways(PING.reply().with_(icmp_id=8), 2) == NOWHERE


@pytest.mark.parametrize("frame", [udp(1, 2), udp(1, 2, version=6), tcp(1, 2), PING])
def test_an_error_about_an_accepted_connection_passes_and_no_other(frame: Frame) -> None:
    cloud = Cloud(between())
    error = error_about(frame)
    assert cloud.ways(error, 2) == NOWHERE
    assert cloud.ways(frame, 1) == {2}
    assert cloud.ways(error, 2) == {1}
    assert cloud.ways(error.with_(about=frame.with_(source_port=7, icmp_id=9)), 2) == NOWHERE


def test_an_error_from_a_router_on_the_way_passes() -> None:
    cloud = Cloud(between())
    cloud.ways(udp(1, 9), 1)
    assert cloud.ways(error_about(udp(1, 9), sender=40), DHCP) == {1}


def test_an_error_that_is_not_sent_to_whom_it_quotes_is_invalid() -> None:
    cloud = Cloud({1: Vm(), 2: Vm(), 3: Vm()})
    cloud.ways(udp(1, 2), 1)
    error = error_about(udp(1, 2)).with_(eth_dst=mac(3), destination=v4(3))
    assert cloud.ways(error, 2) == NOWHERE


@pytest.mark.parametrize(
    "frame",
    [
        tcp(1, 2, flags=SYN | FIN),
        tcp(1, 2, flags=0),
        tcp(1, 2, flags=SYN | ACK),
        tcp(1, 2).with_(is_damaged=True),
        PING.with_(icmp_type=17),
        PING.with_(icmp_code=1),
        icmpv6(1, 2, 200),
    ],
)
def test_what_connection_tracking_calls_invalid_is_dropped(frame: Frame) -> None:
    assert Cloud({1: Vm(), 2: Vm()}).ways(frame, 1) == NOWHERE


def test_a_segment_of_no_known_connection_is_judged_as_new() -> None:
    cloud = Cloud(between((TCP_TO_2000,), (TCP_TO_2000,)))
    assert cloud.ways(tcp(1, 2, flags=ACK), 1) == {2}
    assert cloud.ways(tcp(1, 2, (1, 1), flags=ACK), 1) == NOWHERE


@pytest.mark.parametrize("frame", [udp(1, 2), tcp(1, 2), PING, udp(1, 2).with_(protocol=47)])
def test_a_change_cuts_what_it_denies_both_ways_and_nothing_else(frame: Frame) -> None:
    cloud = Cloud(between())
    kept = udp(1, 2, (7, 7), version=6)
    for sent, in_port in ((frame, 1), (answer(frame), 2), (kept, 1)):
        assert cloud.ways(sent, in_port)
    cloud.change(between((rule(40, Action.DENY, protocol=frame.protocol), *ANY)))
    later = answer(answer(frame)).with_(tcp_flags=ACK if frame.protocol == TCP else 0)
    assert cloud.ways(answer(frame), 2) == NOWHERE
    assert cloud.ways(error_about(frame), 2) == NOWHERE
    assert cloud.ways(later, 1) == NOWHERE
    assert cloud.ways(answer(frame), 2) == NOWHERE
    assert cloud.ways(answer(kept), 2) == {1}
    assert cloud.ways(kept, 1) == {2}
    cloud.change(between())
    assert cloud.ways(answer(frame), 2) == {1}
    assert cloud.ways(later, 1) == {2}


def test_after_a_change_the_server_may_speak_first() -> None:
    cloud = Cloud(between((TO_2000,), (TO_2000,)))
    cloud.ways(udp(1, 2), 1)
    cloud.change(between((TO_2000, TCP_TO_2000), (TO_2000, TCP_TO_2000)))
    assert cloud.ways(answer(udp(1, 2)), 2) == {1}


def test_an_error_about_a_connection_that_was_not_judged_since_a_change_marks_nothing() -> None:
    cloud = Cloud(between())
    cloud.ways(udp(1, 2), 1)
    before = [dict(cloud.switch.zone(zone_of(number)).marks) for number in (1, 2)]
    cloud.change(between((rule(50, protocol=ICMP),), (*ANY, TO_2000)))
    assert cloud.ways(error_about(udp(1, 2)), 2) == NOWHERE
    assert [cloud.switch.zone(zone_of(number)).marks for number in (1, 2)] == before


def test_connections_of_a_port_whose_rules_stay_keep_their_mark() -> None:
    vms = between()
    cloud = Cloud(vms)
    cloud.ways(udp(1, 2), 1)
    before = cloud.switch.zone(zone_of(1)).marks
    cloud.change(vms | {2: Vm(ingress=(TO_2000,))})
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert cloud.switch.zone(zone_of(1)).marks == before


def test_what_one_port_accepted_another_in_its_zone_must_accept_anew() -> None:
    cloud = Cloud({1: Vm(), 2: Vm()})
    cloud.ways(udp(1, 2), 1)
    cloud.change({1: Vm(), 2: Vm(ingress=(), egress=())})
    assert cloud.ways(udp(1, 2), 1) == NOWHERE
    cloud.switch.flush(zone_of(2))
    cloud.change({1: Vm(), 2: Vm()})
    assert cloud.ways(udp(1, 2), 1) == {2}


def test_in_userspace_sctp_is_denied_where_a_policy_is_asked_for_its_associations_are_not_tracked() -> None:
    association = udp(1, 2).with_(protocol=SCTP)
    assert Cloud(between()).ways(association, 1) == NOWHERE
    assert Cloud({1: Vm(groups=()), 2: Vm(groups=())}).ways(association, 1) == {2}


def test_protocol_0_is_denied_where_a_policy_is_asked_for_the_switch_does_not_know_its_addresses() -> None:
    packet = udp(1, 2).with_(protocol=0)
    assert Cloud(between()).ways(packet, 1) == NOWHERE
    assert Cloud({1: Vm(groups=()), 2: Vm(groups=())}).ways(packet, 1) == {2}


def test_fragments_are_decided_together_by_the_ports_of_the_first() -> None:
    parts = [udp(1, 2).with_(fragment=half) for half in (Fragment.FIRST, Fragment.LATER)]
    others = [part.with_(destination_port=2001) for part in parts]
    assert Cloud(between()).ways(parts[0], 1) == NOWHERE  # it waits for the others
    for order in (parts, parts[::-1]):
        cloud = Cloud(between((TO_2000,), (TO_2000,)))
        assert [cloud.ways(part, 1) for part in order] == [NOWHERE, {2}]
    cloud = Cloud(between((TO_2000,), (TO_2000,)))
    assert [cloud.ways(part, 1) for part in others] == [NOWHERE, NOWHERE]
    assert cloud.ways(udp(1, 2), 1) == {2}
    assert [cloud.ways(part, 1) for part in (*parts, *others)] == [NOWHERE, {2}, NOWHERE, NOWHERE]


@pytest.mark.parametrize("frame", [tcp(1, 2), udp(1, 2), udp(1, 2, version=6), PING])
@pytest.mark.parametrize("where", ["egress", "ingress"])
def test_a_reject_goes_to_the_reflector_and_its_answer_to_the_sender(frame: Frame, where: str) -> None:
    cloud = Cloud(between(**{where: (REJECT, REJECT6)}))
    sent = cloud.out(frame, 1)
    assert set(sent) == {REFLECTOR}
    reflected = sent[REFLECTOR]
    back = error_about(frame).with_(eth_src=reflected.eth_dst, eth_dst=reflected.eth_src)
    received = cloud.out(back, REFLECTOR)
    assert set(received) == {1}
    assert received[1].eth_dst == frame.eth_src


def test_the_answer_to_a_rejected_frame_of_the_uplink_leaves_by_it_with_its_tag() -> None:
    cloud = Cloud({1: Vm(ingress=(REJECT,)), 2: Vm(network=4094, double_of=1, ingress=(REJECT,))})
    for network in (10, 4094):
        frame = udp(9, 1).with_(vlan=network)
        reflected = cloud.out(frame, UPLINK)[REFLECTOR]
        assert reflected.vlan is None
        back = error_about(udp(9, 1)).with_(eth_src=reflected.eth_dst, eth_dst=reflected.eth_src)
        sent = cloud.out(back, REFLECTOR)
        assert {port: (frame.vlan, frame.eth_dst) for port, frame in sent.items()} == {UPLINK: (network, mac(9))}


@pytest.mark.parametrize(
    "frame",
    [
        udp(1, 2).with_(eth_dst=BROADCAST, destination=ip_address("255.255.255.255")),
        udp(1, 2).with_(destination=ip_address("224.0.0.9")),
        udp(1, 2, version=6).with_(destination=ip_address("ff02::9")),
        udp(1, 2).with_(eth_dst=ALL_NODES),
    ],
)
def test_what_goes_to_many_is_dropped_in_silence_instead(frame: Frame) -> None:
    cloud = Cloud(between(egress=(REJECT, REJECT6)))
    assert cloud.ways(frame, 1) == NOWHERE


def test_an_error_is_never_rejected() -> None:
    cloud = Cloud(between())
    cloud.ways(udp(1, 2), 1)
    cloud.change(between((REJECT,), (REJECT,)))
    assert cloud.ways(error_about(udp(1, 2)), 2) == NOWHERE
    assert cloud.ways(error_about(udp(1, 2, (3, 3))), 2) == NOWHERE


def test_a_prefix_and_a_range_include_both_their_ends() -> None:
    inside = rule(70, protocol=UDP, source=ip_network("10.0.0.0/31"), destination_port=PortRange(10, 13))
    cloud = Cloud(between((inside,)))
    for port, passes in ((9, 0), (10, 1), (13, 1), (14, 0)):
        assert cloud.ways(udp(1, 2, (1, port)), 1) == ({2} if passes else NOWHERE)
    outside = rule(71, source=ip_network("10.0.0.2/31"))
    assert Cloud(between((outside,))).ways(udp(1, 2), 1) == NOWHERE
