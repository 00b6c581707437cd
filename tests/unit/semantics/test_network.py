"""Semantics 1, 2 and 6, sentence by sentence: one router with ports A and B, and a third, C, without a group."""

from ipaddress import ip_address
from uuid import UUID

import msgspec
import pytest

from portward.model import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Action,
    CoveredPort,
    Direction,
    Group,
    HostState,
    Packet,
    Policy,
    Port,
    PortKind,
    PortRange,
    Rule,
)
from portward.semantics import Answer, Crossing, Network, Reason, Verdict

A, B, C, UNKNOWN = (str(UUID(int=number)) for number in (1, 2, 3, 4))
MAC = "02:00:00:00:00:01"
IN, OUT = Direction.INGRESS, Direction.EGRESS
THERE = (Crossing(A, OUT), Crossing(B, IN))
BACK = (Crossing(B, OUT), Crossing(A, IN))

ALLOW = Rule(id="allow", action=Action.ALLOW)
ALLOW6 = Rule(id="allow6", action=Action.ALLOW, ip_version=6)
REJECT = Rule(id="reject", action=Action.REJECT)
SSH_ONLY = Rule(id="ssh", action=Action.ALLOW, protocol=TCP, destination_port=PortRange(22, 22))
SSH = Packet(
    source=ip_address("10.0.0.1"),
    destination=ip_address("10.0.1.1"),
    protocol=TCP,
    source_port=40000,
    destination_port=22,
)
DNS = msgspec.structs.replace(SSH, protocol=UDP, destination_port=53)
PING = Packet(source=SSH.source, destination=SSH.destination, protocol=ICMP, icmp_type=8, icmp_code=0, icmp_id=7)
GRE = Packet(source=SSH.source, destination=SSH.destination, protocol=47)


def state(a_out: tuple[Rule, ...] = (), b_in: tuple[Rule, ...] = (), **others: tuple[Rule, ...]) -> HostState:
    """A's group with ``a_out`` for what enters by A, B's with ``b_in`` for what leaves by B; the rest denies."""
    rules = {"a_out": a_out, "b_in": b_in, "a_in": (), "b_out": ()} | others
    groups = {
        A: Group(id="a", ingress_policy_id="a_in", egress_policy_id="a_out"),
        B: Group(id="b", ingress_policy_id="b_in", egress_policy_id="b_out"),
    }
    ports = [CoveredPort(port=Port(id=port, kind=PortKind.ROUTER), groups=(group,)) for port, group in groups.items()]
    return HostState(
        generation=1,
        ports=(*ports, CoveredPort(port=Port(id=C, kind=PortKind.ROUTER))),
        policies=tuple(Policy(id=name, version=1, rules=given) for name, given in rules.items()),
    )


OPEN = state((ALLOW, ALLOW6), (ALLOW, ALLOW6))
CLOSED = state()


def error(about: Packet) -> Packet:
    """A port unreachable in answer to ``about``."""
    return Packet(
        source=about.destination, destination=about.source, protocol=ICMP, icmp_type=3, icmp_code=3, about=about
    )


def test_all_ports_on_the_way_must_allow() -> None:
    assert Network(OPEN).forward(SSH, THERE).verdict is Verdict.ALLOW
    assert Network(state(b_in=(ALLOW,))).forward(SSH, THERE).verdict is Verdict.DENY
    assert Network(state(a_out=(ALLOW,))).forward(SSH, THERE).verdict is Verdict.DENY


def test_the_ports_are_asked_in_order_and_the_first_refusal_is_the_last_word() -> None:
    both = Network(state((REJECT,), ())).forward(SSH, THERE)
    assert (both.verdict, [decision.group_id for decision in both.decisions]) == (Verdict.REJECT, ["a"])
    second = Network(state((ALLOW,), ())).forward(SSH, THERE)
    assert (second.verdict, [decision.group_id for decision in second.decisions]) == (Verdict.DENY, ["a", "b"])


def test_ports_without_a_group_and_ports_that_the_state_lacks_decide_nothing() -> None:
    network = Network(CLOSED)
    assert network.forward(SSH, (Crossing(C, OUT), Crossing(UNKNOWN, IN))).verdict is Verdict.ALLOW
    assert network.forward(DNS, (Crossing(C, OUT), Crossing(B, IN))).verdict is Verdict.DENY


def test_traffic_of_the_router_itself_is_not_filtered() -> None:
    assert Network(CLOSED).forward(SSH, ()).verdict is Verdict.ALLOW


@pytest.mark.parametrize("packet", [SSH, DNS, PING, GRE], ids=["tcp", "udp", "ping", "gre"])
def test_later_packets_and_replies_follow_the_connection(packet: Packet) -> None:
    network = Network(OPEN)
    assert not network.forward(packet, THERE).by_connection
    for later, path in ((packet, THERE), (packet.reply(), BACK)):
        outcome = network.forward(later, path)
        assert (outcome.verdict, outcome.by_connection) == (Verdict.ALLOW, True)


def test_a_packet_of_the_other_direction_that_answers_nothing_is_judged_as_new() -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    other = msgspec.structs.replace(SSH.reply(), destination_port=40001)
    assert network.forward(other, BACK).verdict is Verdict.DENY


def test_an_answer_is_known_by_the_identifier_of_its_query() -> None:
    network = Network(OPEN)
    network.forward(PING, THERE)
    assert network.forward(PING.reply(), BACK).verdict is Verdict.ALLOW
    assert network.forward(msgspec.structs.replace(PING.reply(), icmp_id=8), BACK).verdict is Verdict.DENY


def test_an_answer_to_no_query_is_invalid_even_where_the_rules_allow() -> None:
    network = Network(state((ALLOW,), (ALLOW,), b_out=(ALLOW,), a_in=(ALLOW,)))
    assert network.forward(PING.reply(), BACK).decisions[0].reason is Reason.INVALID


def test_a_denied_first_packet_leaves_no_connection_behind() -> None:
    network = Network(state(a_out=(ALLOW,), b_out=(ALLOW,), a_in=(ALLOW,)))
    assert network.forward(SSH, THERE).verdict is Verdict.DENY
    back = network.forward(SSH.reply(), BACK)
    assert (back.verdict, back.by_connection) == (Verdict.ALLOW, False)
    assert [decision.group_id for decision in back.decisions] == ["b", "a"]


def test_a_tcp_segment_of_no_known_connection_is_judged_as_new_in_the_direction_it_travels() -> None:
    assert Network(OPEN).forward(SSH.reply(), BACK).verdict is Verdict.DENY
    assert Network(state(b_out=(ALLOW,), a_in=(ALLOW,))).forward(SSH.reply(), BACK).verdict is Verdict.ALLOW


@pytest.mark.parametrize(("packet", "path"), [(SSH, THERE), (SSH.reply(), BACK)], ids=["onward", "reply"])
def test_a_change_cuts_what_it_denies_at_once_in_both_directions(packet: Packet, path: tuple[Crossing, ...]) -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    network.change(state((ALLOW,), (Rule(id="no", action=Action.DENY),)))
    assert network.forward(packet, path).decisions[-1].rule_id == "no"


@pytest.mark.parametrize(("packet", "path"), [(SSH, THERE), (SSH.reply(), BACK)], ids=["onward", "reply"])
def test_a_change_keeps_what_stays_allowed(packet: Packet, path: tuple[Crossing, ...]) -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    network.change(state((SSH_ONLY,), (SSH_ONLY,)))
    outcome = network.forward(packet, path)
    assert (outcome.verdict, outcome.by_connection) == (Verdict.ALLOW, False)
    assert network.forward(packet, path).by_connection


def test_a_reply_after_a_change_is_judged_as_its_original_direction() -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    network.change(state((SSH_ONLY,), (SSH_ONLY,), b_out=(REJECT,), a_in=(REJECT,)))
    back = network.forward(SSH.reply(), BACK)
    assert [decision.group_id for decision in back.decisions] == ["a", "b"]
    assert back.verdict is Verdict.ALLOW


def test_a_cut_connection_comes_back_when_a_change_allows_it_again() -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    network.change(CLOSED)
    assert network.forward(SSH.reply(), BACK).verdict is Verdict.DENY
    network.change(OPEN)
    assert network.forward(SSH.reply(), BACK).verdict is Verdict.ALLOW


def test_a_connection_that_was_silent_through_a_change_is_judged_by_the_newest_state() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    network.change(CLOSED)
    network.change(OPEN)
    assert network.forward(DNS.reply(), BACK).verdict is Verdict.ALLOW


def test_a_connection_from_before_its_ports_were_covered_keeps_its_original_direction() -> None:
    network = Network(HostState(generation=0))
    network.forward(SSH, THERE)
    network.change(OPEN)
    assert network.forward(SSH.reply(), BACK).verdict is Verdict.ALLOW


def test_the_answer_to_a_rejected_reply_is_that_of_the_packet_itself() -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    network.change(state((REJECT,)))
    reset = msgspec.structs.replace(SSH.reply(), is_reset=True)
    assert network.forward(SSH.reply(), BACK).decisions[0].answer is Answer.TCP_RESET
    assert network.forward(reset, BACK).decisions[0].answer is Answer.SILENCE


def test_a_port_that_has_not_accepted_a_connection_is_asked_about_it() -> None:
    network = Network(OPEN)
    network.forward(SSH, (Crossing(C, OUT), Crossing(B, IN)))
    assert network.forward(SSH, THERE).decisions[0].group_id == "a"
    network.change(state((), (ALLOW,)))
    assert network.forward(SSH, (Crossing(C, OUT), Crossing(B, IN))).verdict is Verdict.ALLOW
    assert network.forward(SSH, THERE).verdict is Verdict.DENY


def test_an_icmp_error_follows_the_connection_that_it_quotes() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    outcome = network.forward(error(DNS), BACK)
    assert (outcome.verdict, outcome.by_connection, outcome.may_be_lost) == (Verdict.ALLOW, True, False)
    assert network.forward(error(DNS.reply()), THERE).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "forged",
    [
        error(SSH),
        msgspec.structs.replace(error(DNS), about=None),
        msgspec.structs.replace(error(DNS), destination=ip_address("10.0.0.2")),
    ],
    ids=["of no connection", "quoting nothing", "sent to a third"],
)
def test_an_icmp_error_about_nothing_known_is_invalid_even_where_the_rules_allow(forged: Packet) -> None:
    network = Network(state((ALLOW,), (ALLOW,), b_out=(ALLOW,), a_in=(ALLOW,)))
    network.forward(DNS, THERE)
    assert network.forward(forged, BACK).decisions[0].reason is Reason.INVALID


def test_an_icmp_error_about_a_connection_not_yet_judged_anew_may_be_lost() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    network.change(OPEN)
    outcome = network.forward(error(DNS), BACK)
    assert (outcome.verdict, outcome.may_be_lost) == (Verdict.ALLOW, True)
    network.forward(DNS, THERE)
    assert not network.forward(error(DNS), BACK).may_be_lost


def test_an_icmp_error_about_a_reply_is_judged_in_the_original_direction() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    network.change(OPEN)
    assert network.forward(error(DNS.reply()), THERE).may_be_lost


def test_an_icmp_error_by_another_way_follows_the_verdict_of_its_connection() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    by_c = (Crossing(C, OUT), Crossing(A, IN))
    assert network.forward(error(DNS), by_c).verdict is Verdict.ALLOW
    network.change(state((ALLOW,), ()))
    assert network.forward(DNS, THERE).verdict is Verdict.DENY
    assert network.forward(error(DNS), by_c).verdict is Verdict.DENY


@pytest.mark.parametrize("judged", [False, True])
def test_an_icmp_error_about_a_connection_that_a_change_denied_is_dropped(judged: bool) -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    network.change(CLOSED)
    if judged:
        network.forward(DNS, THERE)
    assert network.forward(error(DNS), BACK).decisions[0].reason is Reason.UNACCEPTED


def test_an_icmp_error_never_revives_a_connection() -> None:
    network = Network(OPEN)
    network.forward(DNS, THERE)
    network.change(state(b_out=(ALLOW,), a_in=(ALLOW,)))
    network.forward(error(DNS), BACK)
    assert network.forward(DNS, THERE).verdict is Verdict.DENY


def test_what_connection_tracking_calls_invalid_is_dropped_on_covered_ports_only() -> None:
    network = Network(OPEN)
    network.forward(SSH, THERE)
    invalid = msgspec.structs.replace(SSH, is_invalid=True)
    assert network.forward(invalid, THERE).decisions[0].reason is Reason.INVALID
    assert network.forward(invalid, (Crossing(C, OUT), Crossing(UNKNOWN, IN))).verdict is Verdict.ALLOW
    assert network.forward(SSH, THERE).by_connection


def test_later_fragments_and_neighbour_discovery_are_judged_packet_by_packet() -> None:
    network = Network(OPEN)
    fragment = Packet(source=SSH.source, destination=SSH.destination, protocol=UDP, is_later_fragment=True)
    solicitation = Packet(
        source=ip_address("fd00::1"), destination=ip_address("fd00::2"), protocol=ICMPV6, icmp_type=135
    )
    for packet in (fragment, solicitation):
        assert network.forward(packet, THERE).verdict is Verdict.ALLOW
        assert not network.forward(packet, THERE).by_connection
        assert network.forward(packet.reply(), BACK).verdict is Verdict.DENY


def vm_state(*rules: Rule) -> HostState:
    """VM port A, whose egress policy has ``rules``, on the switch of router port C."""
    vm = Port(id=A, kind=PortKind.VM, mac_address=MAC, fixed_ips=(SSH.source,))
    return HostState(
        generation=1,
        ports=(CoveredPort(port=vm, groups=(Group(id="a", egress_policy_id="out"),)),),
        policies=(Policy(id="out", version=1, rules=rules),),
    )


def test_a_vm_cannot_ride_a_connection_with_another_source_mac() -> None:
    network = Network(vm_state(ALLOW))
    path = (Crossing(A, OUT),)
    honest = msgspec.structs.replace(SSH, source_mac=MAC)
    assert network.forward(honest, path).verdict is Verdict.ALLOW
    forged = msgspec.structs.replace(SSH, source_mac="02:00:00:00:00:99")
    assert network.forward(forged, path).decisions[0].reason is Reason.SPOOFED
    assert network.forward(honest, path).by_connection


def test_base_traffic_of_a_vm_passes_whatever_the_rules_say() -> None:
    discover = Packet(
        source=ip_address("0.0.0.0"),
        destination=ip_address("255.255.255.255"),
        protocol=UDP,
        source_port=68,
        destination_port=67,
        source_mac=MAC,
    )
    outcome = Network(vm_state()).forward(discover, (Crossing(A, OUT),))
    assert [decision.reason for decision in outcome.decisions] == [Reason.BASE_TRAFFIC]
    assert outcome.verdict is Verdict.ALLOW
