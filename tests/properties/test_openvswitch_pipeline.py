"""The flows of a bridge, read by a switch at packet level, against the golden model."""

import random
from ipaddress import ip_network

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_switch import FakeSwitch, Frame, frame_of
from fake_switch.bridge import REFLECTOR, Bridge, Place
from fake_switch.frame import ACK
from portward.model import (
    DCCP,
    ICMP,
    ICMPV6,
    PROTOCOLS_WITH_PORTS,
    SCTP,
    TCP,
    AddressPair,
    CoveredPort,
    Direction,
    Group,
    HostState,
    Packet,
    Policy,
    Port,
    PortKind,
    Rule,
    Stratum,
)
from portward.semantics import Answer, Crossing, Decision, Network, Verdict, decide
from properties.seeded import SEEDED_SETS, border_packet, random_rule
from properties.strategies import host_states, ident, packets, rules_of

#: The switch keeps no addresses of protocol 0, and in userspace no ports of SCTP: where a policy is asked, both are
#: denied whatever it says.
_DENIED = (0, SCTP)
_MACS = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02")
_IDS = (ident(1), ident(2))
_PLACES = {_IDS[0]: Place(1, 10), _IDS[1]: Place(2, 10)}
_EVERYTHING = tuple(AddressPair(prefix=ip_network(text)) for text in ("0.0.0.0/0", "::/0"))


def _with_vms(state: HostState) -> HostState:
    """``state`` with its two ports turned into those of VMs that may send from any address, of their MACs."""
    ports = tuple(
        CoveredPort(
            port=Port(id=id_, kind=PortKind.VM, mac_address=mac, allowed_address_pairs=_EVERYTHING),
            groups=covered.groups if any(map(_takes_part, covered.groups)) else (),
        )
        for id_, mac, covered in zip(_IDS, _MACS, state.ports, strict=True)
    )
    return msgspec.structs.replace(state, ports=ports)


def _takes_part(group: Group) -> bool:
    """A port whose groups all take no part is to the switch one that nobody covers."""
    has_policy = group.ingress_policy_id is not None or group.egress_policy_id is not None
    return group.stratum is Stratum.TENANT or (group.admin_state_up and has_policy)


def _without_ports_of_dccp(rule: Rule) -> Rule:
    """A switch knows none; such a rule is an error of its port, and not what these tests are about."""
    if rule.protocol != DCCP:
        return rule
    return msgspec.structs.replace(rule, source_port=None, destination_port=None)


@st.composite
def _states(draw: st.DrawFn) -> HostState:
    state = draw(host_states())
    policies = tuple(
        msgspec.structs.replace(policy, rules=tuple(map(_without_ports_of_dccp, policy.rules)))
        for policy in state.policies
    )
    return _with_vms(msgspec.structs.replace(state, policies=policies))


def _from_first_to_second(packet: Packet) -> Packet:
    return msgspec.structs.replace(_tracked(packet), source_mac=_MACS[0], destination_mac=_MACS[1])


def _tracked(packet: Packet) -> Packet:
    """ICMP queries as the switch tracks them: of code 0, and none for the mask of an address."""
    if packet.icmp_type is None:
        return packet
    icmp_type = 13 if packet.icmp_type == 17 else packet.icmp_type
    return msgspec.structs.replace(packet, icmp_type=icmp_type, icmp_code=0)


def _as_query(packet: Packet) -> Packet:
    """ICMP without a type becomes an echo request; what answers, or is neither, begins no connection."""
    echo = {(4, ICMP): 8, (6, ICMPV6): 128}.get((packet.ip_version, packet.protocol))
    if echo is None:
        return packet
    icmp_type = packet.icmp_type if packet.icmp_type in (8, 13) and echo == 8 else echo
    return msgspec.structs.replace(packet, icmp_type=icmp_type, icmp_code=0, icmp_id=1)


def _decisions(state: HostState, packet: Packet) -> list[Decision]:
    """Those of the ports that are asked, the last of which is decisive."""
    policies = {policy.id: policy for policy in state.policies}
    asked = []
    for covered, direction in zip(state.ports, (Direction.EGRESS, Direction.INGRESS), strict=True):
        asked.append(decide(packet, direction, covered, policies, {one.id: one for one in state.sets}))
        if asked[-1].verdict is not Verdict.ALLOW:
            break
    return asked


def _expected(decision: Decision) -> list[int]:
    """By which ports a packet from the first VM to the second leaves."""
    if decision.verdict is Verdict.ALLOW:
        return [2]
    return [REFLECTOR] if decision.verdict is Verdict.REJECT and decision.answer is not Answer.SILENCE else []


def _ways_out(switch: FakeSwitch, in_port: int, frame: Frame) -> list[int]:
    return [port for port, _ in switch.send(in_port, frame)]


@given(_states(), st.data())
def test_a_first_packet_between_two_vms_goes_where_both_ports_decisions_send_it(
    state: HostState, data: st.DataObject
) -> None:
    flows = Bridge().flows(state, _PLACES)
    for _ in range(5):
        packet = _from_first_to_second(data.draw(packets(near=rules_of(state))))
        if packet.protocol in _DENIED:
            continue
        decision = _decisions(state, packet)[-1]
        assert _ways_out(FakeSwitch(flows), 1, frame_of(packet)) == _expected(decision), decision


@given(st.integers(0, 2**32), st.sampled_from((0.1, 0.5, 0.9)))
@settings(max_examples=40)
def test_so_it_does_with_long_policies_of_several_strata(seed: int, narrow: float) -> None:
    chance = random.Random(seed)
    policies = tuple(
        Policy(
            id=ident(100 + place),
            version=1,
            rules=tuple(random_rule(chance, n, narrow) for n in range(chance.choice((30, 80)))),
        )
        for place in range(3)
    )
    groups = [
        Group(
            id=ident(10 + place),
            stratum=stratum,
            ingress_policy_id=chance.choice(policies).id,
            egress_policy_id=chance.choice(policies).id,
        )
        for place, stratum in enumerate(Stratum)
    ]
    covered = [
        CoveredPort(
            port=Port(id=id_, kind=PortKind.ROUTER), groups=tuple(chance.sample(groups, chance.choice((1, 2, 3))))
        )
        for id_ in _IDS
    ]
    state = _with_vms(
        HostState(generation=1, ports=tuple(covered), policies=policies, sets=tuple(SEEDED_SETS.values()))
    )
    flows = Bridge().flows(state, _PLACES)
    rules = tuple(rules_of(state))
    switch = FakeSwitch(flows)
    for _ in range(60):
        packet = _from_first_to_second(_as_query(border_packet(chance, rules)))
        if packet.protocol in PROTOCOLS_WITH_PORTS and packet.source_port is None:
            continue  # a later fragment
        switch.zones.clear()
        if packet.protocol in _DENIED:
            continue
        decision = _decisions(state, packet)[-1]
        assert _ways_out(switch, 1, frame_of(packet)) == _expected(decision), decision


_WAYS = ((_IDS[0], _IDS[1]), (_IDS[1], _IDS[0]))


_KINDS = ("packet", "packet", "answer", "answer", "error", "error about an answer")


class _Path:
    """Two ports in the eyes of the model. Each tracks connections for itself, as two hosts do."""

    def __init__(self, state: HostState) -> None:
        self._ports = {id_: Network(state) for id_ in _IDS}

    def change(self, state: HostState) -> None:
        for network in self._ports.values():
            network.change(state)

    def passes(self, packet: Packet, way: int) -> tuple[bool, bool]:
        """Whether ``packet`` gets through, and whether a loss would be right, too."""
        crossings = zip(_WAYS[way], (Direction.EGRESS, Direction.INGRESS), strict=True)
        may_be_lost = False
        for id_, direction in crossings:
            outcome = self._ports[id_].forward(packet, [Crossing(id_, direction)])
            may_be_lost |= outcome.may_be_lost
            if outcome.verdict is not Verdict.ALLOW:
                return False, may_be_lost
        return True, may_be_lost


def _frame(packet: Packet, way: int) -> Frame:
    """As a segment in the middle of a connection, if it is TCP."""
    frame = frame_of(packet, source_mac=_MACS[way], destination_mac=_MACS[1 - way])
    return frame.with_(tcp_flags=ACK) if packet.protocol == TCP else frame


def _error_about(packet: Packet) -> Packet:
    return Packet(
        source=packet.destination,
        destination=packet.source,
        protocol=ICMP if packet.ip_version == 4 else ICMPV6,
        icmp_type=3 if packet.ip_version == 4 else 1,
        icmp_code=0,
        about=packet,
    )


@given(st.lists(_states(), min_size=1, max_size=3), st.data())
@settings(max_examples=150)
def test_connections_answers_and_errors_live_through_changes_as_the_model_says(
    states: list[HostState], data: st.DataObject
) -> None:
    near = [rule for state in states for rule in rules_of(state) if rule.protocol not in (0, SCTP, DCCP)]
    packets_ = [_tracked(data.draw(packets(near=near))) for _ in range(2)]
    packets_ = [packet for packet in packets_ if packet.protocol not in (0, SCTP, DCCP) and packet.reply() != packet]
    if not packets_:
        return
    # Nothing is filtered at first, so that every connection is known when rules come.
    unfiltered = msgspec.structs.replace(
        states[0], ports=tuple(msgspec.structs.replace(covered, groups=()) for covered in states[0].ports)
    )
    bridge, path, switch = Bridge(), _Path(unfiltered), FakeSwitch([])
    for state in (unfiltered, *states):
        path.change(state)
        switch.replace(bridge.flows(state, _PLACES))
        for _ in range(data.draw(st.integers(1, 5))):
            packet, way = data.draw(st.sampled_from(packets_)), 0
            kind = data.draw(st.sampled_from(_KINDS))
            if "answer" in kind:
                packet, way = packet.reply(), 1
            if "error" in kind:
                packet, way = _error_about(packet), 1 - way
            passes, may_be_lost = path.passes(packet, way)
            out = _ways_out(switch, way + 1, _frame(packet, way))
            assert set(out) <= {2 - way, REFLECTOR}
            if out or not may_be_lost:
                assert ((2 - way) in out) is passes, (kind, packet)
