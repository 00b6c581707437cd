"""The pipeline beside Neutron's security groups (semantics 10): a frame passes when both let it.

Their firewall is imitated: its tables, priorities and registers, with the matches cut down. Where it says NORMAL, the
fake has an output to a port of that name.
"""

from collections.abc import Iterator

import pytest

from fake_switch import Frame
from fake_switch.frame import IPV4
from portward.dataplane.openvswitch.flows import (
    Action,
    Commit,
    Condition,
    CtState,
    Field,
    Flow,
    FlowKey,
    Load,
    Output,
    PopVlan,
    Resubmit,
    Track,
    matching,
)
from portward.model import Action as RuleAction
from portward.model import PortRange, Rule
from properties.strategies import ident
from unit.dataplane.openvswitch.cloud import (
    ANY,
    DHCP,
    REFLECTOR,
    UNKNOWN,
    UPLINK,
    Cloud,
    Vm,
    answer,
    arp,
    error_about,
    mac,
    udp,
    v4,
)

NORMAL = 700
NOWHERE: set[int] = set()
THEIRS_ALLOWS = 7001  # the one port that their groups let through
ALLOWED, REFUSED_BY_THEM = (1000, THEIRS_ALLOWS), (1000, 7002)


def _flow(table: int, priority: int, conditions: list[Condition], *actions: Action) -> Flow:
    return Flow(FlowKey(table, priority, matching(conditions)), actions)


def _theirs(machines: tuple[int, ...]) -> Iterator[Flow]:
    ip, is_arp = Condition(Field.ETH_TYPE, IPV4), Condition(Field.ETH_TYPE, 0x0806)
    untracked = Condition(Field.CT_STATE, 0, CtState.TRK)
    new = Condition(Field.CT_STATE, CtState.TRK | CtState.NEW, CtState.TRK | CtState.NEW)
    known = [
        Condition(Field.CT_STATE, CtState.TRK | state, CtState.TRK | state | CtState.INV | CtState.NEW)
        for state in (CtState.EST, CtState.REL)
    ]
    theirs = [ip, new, Condition(Field.IP_PROTO, 17), Condition(Field.UDP_DST, THEIRS_ALLOWS)]
    yield _flow(0, 0, [], Resubmit(60))
    yield _flow(60, 3, [], Output(NORMAL))
    yield _flow(71, 65, [ip, untracked], Track(72, Field.REG6))
    yield _flow(71, 95, [is_arp], Resubmit(94))
    yield _flow(72, 77, theirs, Resubmit(73))
    for state in known:
        yield _flow(72, 50, [ip, state], Resubmit(91))
    yield _flow(73, 90, [ip, new], Commit(Field.REG6, 0), Resubmit(91))
    yield _flow(91, 1, [], Resubmit(94))
    yield _flow(94, 1, [], Output(NORMAL))
    for number in machines:
        to_it = (Load(Field.REG5, number), Load(Field.REG6, 10))
        yield _flow(60, 100, [Condition(Field.IN_PORT, number)], *to_it, Resubmit(71))
        tagged = [Condition(Field.VLAN_VID, 0x1000 | 10), Condition(Field.ETH_DST, mac_number(number))]
        yield _flow(60, 90, tagged, *to_it, PopVlan(), Resubmit(81))
        local = [Condition(Field.REG6, 10), Condition(Field.ETH_DST, mac_number(number))]
        yield _flow(73, 100, local, *to_it, Resubmit(81))
        it = Condition(Field.REG5, number)
        yield _flow(81, 100, [it, is_arp], Output(number))
        yield _flow(81, 95, [it, ip, untracked], Track(82, Field.REG6))
        yield _flow(82, 77, [it, *theirs], Commit(Field.REG6, 0), Output(number))
        for state in known:
            yield _flow(82, 50, [it, ip, state], Output(number))


def mac_number(number: int) -> int:
    return int(mac(number).replace(":", ""), 16)


class Beside(Cloud):
    """A cloud whose bridge has their flows, too."""

    def change(self, vms: dict[int, Vm], **further: object) -> None:  # type: ignore[override]
        super().change(vms, **further)  # type: ignore[arg-type]
        self.switch.replace([*self.switch.flows.values(), *_theirs(tuple(vms))])


def cloud(ingress: tuple[Rule, ...] = ANY, egress: tuple[Rule, ...] = ANY) -> Beside:
    """Machines 1, whose ``egress`` decides, and 2, whose ``ingress`` does."""
    return Beside({1: Vm(egress=egress), 2: Vm(ingress=ingress)}, beside=True)


def test_a_frame_passes_when_both_let_it() -> None:
    both = cloud()
    assert both.out(udp(1, 2, ALLOWED), 1) == {2: udp(1, 2, ALLOWED)}
    assert both.ways(answer(udp(1, 2, ALLOWED)), 2) == {1}
    assert both.ways(arp(1, 2), 1) == {2}


def test_what_they_refuse_does_not_pass() -> None:
    both = cloud()
    assert both.ways(udp(1, 2, REFUSED_BY_THEM), 1) == NOWHERE
    assert both.ways(udp(9, 2, REFUSED_BY_THEM).with_(vlan=10), UPLINK) == NOWHERE
    assert both.ways(udp(1, 9, REFUSED_BY_THEM), 1) == NOWHERE


@pytest.mark.parametrize("ingress", [ANY, ()])
@pytest.mark.parametrize("egress", [ANY, ()])
def test_what_we_refuse_does_not_pass(ingress: tuple[Rule, ...], egress: tuple[Rule, ...]) -> None:
    both = cloud(ingress, egress)
    assert both.ways(udp(1, 2, ALLOWED), 1) == ({2} if ingress and egress else NOWHERE)
    assert both.ways(udp(9, 2, ALLOWED).with_(vlan=10), UPLINK) == ({2} if ingress else NOWHERE)
    assert both.ways(udp(1, 9, ALLOWED), 1) == ({UPLINK, DHCP} if egress else NOWHERE)


def test_nothing_reaches_their_normal_from_a_port_of_ours() -> None:
    both = cloud()
    for frame, in_port in ((udp(1, 9, ALLOWED), 1), (arp(1), 1), (udp(9, 8).with_(vlan=10), UPLINK), (udp(9, 8), DHCP)):
        assert NORMAL not in both.ways(frame, in_port)


@pytest.mark.parametrize(
    "frame", [udp(1, 2, ALLOWED).with_(source=v4(9)), udp(1, 2, ALLOWED).with_(vlan=10), arp(1, 2, arp_spa=v4(2))]
)
def test_sources_and_tags_are_checked_before_they_see_a_frame(frame: Frame) -> None:
    both = cloud()
    assert both.ways(frame, 1) == NOWHERE
    assert 10 not in both.switch.zones


def test_an_interface_that_nobody_knows_does_not_get_to_them() -> None:
    assert cloud().ways(udp(7, 2, ALLOWED), UNKNOWN) == NOWHERE


def test_broadcasts_come_to_machines_through_both() -> None:
    both = Beside({1: Vm(), 2: Vm(), 3: Vm(ingress=())}, beside=True)
    assert both.ways(arp(1), 1) == {2, 3, UPLINK, DHCP}
    assert both.ways(udp(1, 2, ALLOWED).with_(eth_dst="ff:ff:ff:ff:ff:ff"), 1) == {2, UPLINK, DHCP}


def test_a_change_of_ours_cuts_a_connection_that_theirs_keeps() -> None:
    both = cloud()
    both.ways(udp(1, 2, ALLOWED), 1)
    assert both.ways(answer(udp(1, 2, ALLOWED)), 2) == {1}
    others = Rule(id=ident(950), action=RuleAction.ALLOW, protocol=17, destination_port=PortRange(1, 1000))
    both.change({1: Vm(), 2: Vm(ingress=(others,))})
    assert both.ways(answer(udp(1, 2, ALLOWED)), 2) == NOWHERE
    assert both.ways(udp(1, 2, ALLOWED), 1) == NOWHERE


def test_rejects_and_errors_pass_beside_them() -> None:
    both = cloud(ingress=(Rule(id=ident(951), action=RuleAction.REJECT),))
    reflected = both.out(udp(1, 2, ALLOWED), 1)[REFLECTOR]
    back = error_about(udp(1, 2, ALLOWED)).with_(eth_src=reflected.eth_dst, eth_dst=reflected.eth_src)
    assert both.ways(back, REFLECTOR) == {1}
    both = cloud()
    both.ways(udp(1, 2, ALLOWED), 1)
    assert both.ways(error_about(udp(1, 2, ALLOWED)), 2) == {1}
