"""The switch at packet level: what it does with flows, and which it refuses. The real one is asked in tests/packets."""

import pytest

from fake_switch import FakeSwitch, Frame, PipelineError, RefusedFlow
from fake_switch.frame import IPV4
from portward.dataplane.openvswitch.flows import (
    Action,
    Clone,
    Commit,
    Condition,
    Conjunction,
    CtState,
    Field,
    Flow,
    FlowKey,
    Learn,
    Load,
    Move,
    Output,
    OutputField,
    PopVlan,
    PushVlan,
    Resubmit,
    Track,
    matching,
)
from portward.model import UDP
from unit.dataplane.openvswitch.cloud import udp

DATAGRAM = udp(1, 2)
IP = Condition(Field.ETH_TYPE, IPV4)


def flow(table: int, priority: int, conditions: list[Condition], *actions: Action) -> Flow:
    return Flow(FlowKey(table, priority, matching(conditions)), actions)


def ways(flows: list[Flow], frame: Frame = DATAGRAM, in_port: int = 1) -> list[int]:
    """By which ports ``frame`` leaves, in order."""
    return [port for port, _ in FakeSwitch(flows).send(in_port, frame)]


def test_the_flow_of_highest_priority_decides() -> None:
    assert ways([flow(0, 1, [], Output(2)), flow(0, 2, [IP], Output(3))]) == [3]


def test_what_no_flow_matches_is_dropped() -> None:
    assert ways([flow(0, 1, [Condition(Field.ETH_TYPE, 0x0806)], Output(2))]) == []


def test_two_flows_of_one_priority_that_differ_are_an_error_of_the_pipeline() -> None:
    same = [flow(0, 1, [], Output(2)), flow(0, 1, [IP], Output(2))]
    assert ways(same) == [2]
    with pytest.raises(PipelineError):
        ways([same[0], flow(0, 1, [IP], Output(3))])


def test_nothing_leaves_by_the_port_that_it_came_by() -> None:
    assert ways([flow(0, 1, [], Output(1), Output(2), Load(Field.REG0, 1), OutputField(Field.REG0))]) == [2]


def test_after_a_resubmit_the_next_action_sees_what_it_wrote() -> None:
    flows = [flow(0, 1, [], Resubmit(5), OutputField(Field.REG0)), flow(5, 1, [], Load(Field.REG0, 7), Output(6))]
    assert ways(flows) == [6, 7]


def test_what_a_clone_writes_ends_with_it() -> None:
    inside = (Load(Field.REG0, 7), OutputField(Field.REG0))
    assert ways([flow(0, 1, [], Load(Field.REG0, 6), Clone(inside), OutputField(Field.REG0))]) == [7, 6]


def test_registers_of_128_bits_are_four_of_32() -> None:
    flows = [flow(0, 1, [], Load(Field.XXREG0, 5 << 96 | 8), OutputField(Field.REG0), OutputField(Field.REG3))]
    assert ways(flows) == [5, 8]


def test_bits_are_moved_alone() -> None:
    move = Move(Field.REG0, Field.REG1, bits=4, source_first=4, destination_first=0)
    assert ways([flow(0, 1, [], Load(Field.REG0, 0x795), Load(Field.REG1, 0x30), move, OutputField(Field.REG1))]) == [
        0x39
    ]


def test_a_loop_is_an_error_of_the_pipeline() -> None:
    with pytest.raises(PipelineError):
        ways([flow(0, 1, [], Resubmit(0))])


def test_so_are_more_than_4096_resubmits_but_not_64_nested_ones_and_forward_ones_count_not() -> None:
    many = [flow(table, 1, [], Resubmit(table + 1), Resubmit(table + 1)) for table in range(13)]
    assert ways([*many[:11], flow(11, 1, [], Output(2))]) == [2] * 2**11
    with pytest.raises(PipelineError):
        ways(many)
    assert ways([*(flow(table, 1, [], Resubmit(table + 1)) for table in range(100)), flow(100, 1, [], Output(2))]) == [
        2
    ]


def test_a_conjunction_needs_one_flow_of_each_dimension() -> None:
    def half(field: Field, value: int, clause: int) -> Flow:
        conditions = [IP, Condition(Field.IP_PROTO, UDP), Condition(field, value)]
        return flow(0, 5, conditions, Conjunction(9, clause, 2))

    whole = [
        half(Field.UDP_SRC, 1000, 0),
        half(Field.UDP_DST, 2000, 1),
        flow(0, 5, [Condition(Field.CONJ_ID, 9)], Output(2)),
    ]
    assert ways(whole) == [2]
    assert ways(whole, udp(1, 2, (1000, 2001))) == []
    assert ways([*whole, flow(0, 4, [], Output(3))], udp(1, 2, (1000, 2001))) == [3]
    assert ways([*whole, flow(0, 6, [], Output(3))]) == [3]


def test_what_is_learnt_is_seen_by_the_next_frame_and_no_more_than_the_limit() -> None:
    learn = Learn(table=9, priority=1, timeout=1, limit=1, cookie=1)
    switch = FakeSwitch([flow(0, 1, [], Load(Field.REG14, 4), learn, Resubmit(9), OutputField(Field.REG0))])
    assert switch.send(1, udp(3, 3)) == []
    assert [port for port, _ in switch.send(1, udp(2, 3))] == [4]
    assert switch.send(1, udp(1, 2)) == []
    assert len(switch.learnt) == 1


def test_connections_are_tracked_a_zone_each() -> None:
    def state(value: int) -> Condition:
        return Condition(Field.CT_STATE, CtState.TRK | value, CtState.TRK | value)

    switch = FakeSwitch(
        [
            flow(0, 1, [IP], Move(Field.NXM_IN_PORT, Field.REG11, 16), Track(1, Field.REG11), Output(9)),
            flow(1, 1, [IP, state(CtState.NEW)], Commit(Field.REG11, 7), Output(5)),
            flow(1, 1, [IP, state(CtState.EST | CtState.RPL), Condition(Field.CT_MARK, 7)], Output(6)),
        ]
    )
    assert [port for port, _ in switch.send(1, DATAGRAM)] == [5, 9]
    assert [port for port, _ in switch.send(2, DATAGRAM.reply())] == [5, 9]
    assert [port for port, _ in switch.send(1, DATAGRAM.reply())] == [6, 9]
    switch.flush(1)
    assert [port for port, _ in switch.send(1, DATAGRAM.reply())] == [5, 9]


def test_tags_are_put_on_and_taken_off() -> None:
    tagged = Condition(Field.VLAN_TCI, 0x1000, 0x1000)
    switch = FakeSwitch(
        [
            flow(
                0, 1, [Condition(Field.VLAN_TCI, 0, 0x1000)], PushVlan(), Load(Field.VLAN_VID, 0x1000 | 30), Output(2)
            ),
            flow(0, 1, [tagged], PopVlan(), Output(3)),
        ]
    )
    assert switch.send(1, DATAGRAM) == [(2, DATAGRAM.with_(vlan=30))]
    assert switch.send(1, DATAGRAM.with_(vlan=30)) == [(3, DATAGRAM)]


#: What the switch refuses, and beside it what it takes.
REFUSED = {
    "an address without its protocol": flow(0, 1, [Condition(Field.IPV4_SRC, 1)]),
    "a port without its protocol": flow(0, 1, [IP, Condition(Field.UDP_SRC, 1)]),
    "a target without the message": flow(0, 1, [Condition(Field.ETH_TYPE, 0x86DD), Condition(Field.ND_TARGET, 1)]),
    "an ARP field of IP": flow(0, 1, [IP, Condition(Field.ARP_SPA, 1)]),
    "a fragment of anything": flow(0, 1, [Condition(Field.IP_FRAG, 1, 1)]),
    "an original tuple without a state": flow(0, 1, [IP, Condition(Field.CT_NW_SRC, 1)]),
    "an original tuple of what may be invalid": flow(
        0, 1, [IP, Condition(Field.CT_STATE, CtState.TRK, CtState.TRK), Condition(Field.CT_NW_SRC, 1)]
    ),
    "bits outside of the mask": flow(0, 1, [Condition(Field.REG0, 3, 1)]),
    "tracking of what may not be IP": flow(0, 1, [], Track(1, Field.REG11)),
    "an untagged frame's tag taken off": flow(0, 1, [], PopVlan()),
    "a tag that is not there written": flow(0, 1, [], Load(Field.VLAN_VID, 0x1001)),
    "a move from a field of others": flow(0, 1, [], Move(Field.ARP_SPA, Field.REG0, 32)),
    "a read-only field": flow(0, 1, [], Load(Field.ETH_TYPE, 1)),
    "a value too wide": flow(0, 1, [], Load(Field.REG0, 4, 0, 2)),
    "a conjunction and more": flow(0, 1, [], Conjunction(1, 0, 2), Output(1)),
}
TAKEN = {
    "a mark without a state": flow(0, 1, [Condition(Field.CT_MARK, 1)]),
    "an original tuple of what is valid": flow(
        0,
        1,
        [IP, Condition(Field.CT_STATE, CtState.TRK, CtState.TRK | CtState.INV), Condition(Field.CT_NW_SRC, 1)],
    ),
    "a tag that is put on and written": flow(0, 1, [], PushVlan(), Load(Field.VLAN_VID, 0x1001)),
    "an address of a masked prefix": flow(0, 1, [IP, Condition(Field.IPV4_SRC, 0x0A000000, 0xFF000000)]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_flows_that_the_switch_would_refuse_are_refused(what: str) -> None:
    with pytest.raises(RefusedFlow):
        FakeSwitch([REFUSED[what]])


@pytest.mark.parametrize("what", TAKEN)
def test_flows_that_it_would_take_are_taken(what: str) -> None:
    FakeSwitch([TAKEN[what]])


def test_a_second_flow_with_one_key_is_refused() -> None:
    with pytest.raises(RefusedFlow):
        FakeSwitch([flow(0, 1, [], Output(1)), flow(0, 1, [], Output(2))])
