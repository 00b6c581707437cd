"""What holds of live traffic for any states, changes and packets."""

from hypothesis import assume, given
from hypothesis import strategies as st

from portward.model import Direction, HostState, Packet
from portward.semantics import Crossing, Network, Verdict, decide
from properties.strategies import SETS, host_states, ident, packets, rules_of, states_and_packet

_THERE = (Crossing(ident(1), Direction.EGRESS), Crossing(ident(2), Direction.INGRESS))
_BACK = (Crossing(ident(2), Direction.EGRESS), Crossing(ident(1), Direction.INGRESS))


def _verdict(state: HostState, packet: Packet) -> Verdict:
    """By the definition: each port of the way there in order, all must allow."""
    by_id = {policy.id: policy for policy in state.policies}
    for covered, crossing in zip(state.ports, _THERE, strict=True):
        decision = decide(packet, crossing.direction, covered, by_id, SETS)
        if decision.verdict is not Verdict.ALLOW:
            return decision.verdict
    return Verdict.ALLOW


@given(given_=states_and_packet())
def test_a_first_packet_passes_exactly_when_every_port_on_its_way_allows_it(
    given_: tuple[HostState, Packet],
) -> None:
    state, packet = given_
    assert Network(state).forward(packet, _THERE).verdict is _verdict(state, packet)


@given(given_=states_and_packet())
def test_while_nothing_changes_later_packets_and_replies_follow_the_first(
    given_: tuple[HostState, Packet],
) -> None:
    state, packet = given_
    assume(packet.reply() != packet)
    network = Network(state)
    first = network.forward(packet, _THERE).verdict
    if first is not Verdict.ALLOW:
        assert network.forward(packet, _THERE).verdict is first
        return
    for later, path in ((packet, _THERE), (packet.reply(), _BACK), (packet, _THERE)):
        outcome = network.forward(later, path)
        assert outcome.verdict is Verdict.ALLOW
        assert outcome.by_connection


@given(data=st.data())
def test_after_any_changes_an_old_connection_is_as_its_original_direction_would_be(data: st.DataObject) -> None:
    states = data.draw(st.lists(host_states(), min_size=1, max_size=4))
    packet = data.draw(packets(near=[rule for state in states for rule in rules_of(state)]))
    assume(packet.reply() != packet)
    network = Network(HostState(generation=0))
    assert network.forward(packet, _THERE).verdict is Verdict.ALLOW
    for state in states:
        network.change(state)
        for _ in range(data.draw(st.integers(0, 2))):
            is_reply = data.draw(st.booleans())
            outcome = network.forward(packet.reply(), _BACK) if is_reply else network.forward(packet, _THERE)
            assert outcome.verdict is _verdict(state, packet)


@given(given_=states_and_packet(), others=st.lists(st.integers(0, 3), max_size=3))
def test_connections_of_others_make_no_difference_to_a_new_one(
    given_: tuple[HostState, Packet], others: list[int]
) -> None:
    state, packet = given_
    network = Network(state)
    for octet in others:
        network.forward(_elsewhere(packet, octet), _THERE)
    assert network.forward(packet, _THERE).verdict is _verdict(state, packet)


def _elsewhere(packet: Packet, octet: int) -> Packet:
    address = type(packet.source)
    other = address(f"198.51.100.{octet}") if packet.ip_version == 4 else address(f"2001:db8:1::{octet}")
    return Packet(source=other, destination=packet.destination, protocol=253)
