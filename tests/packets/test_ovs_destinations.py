"""The frame does not say who decides: whatever its destination MAC, a packet meets the decision of whom it comes to."""

from collections.abc import Iterator

import pytest

from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.machines import BROADCAST, UPLINK, Machine, Machines, machines_on_a_bridge

RED, BLUE, GREEN = Machine("red", 11), Machine("blue", 12), Machine("green", 13)
WILD = Machine("wild", 14, is_secured=False)  # its sources are not checked, so there may be others behind it
ELSEWHERE = Machine("elsewhere", 12, network=2)  # the double of blue, in another network
ROUTER, OUTSIDE = Machine("router", 1), Machine("outside", 99, network=None, device=UPLINK)
MACHINES = (RED, BLUE, GREEN, WILD, ELSEWHERE)
FIRST, SECOND, NEITHER = 9001, 9002, 9003
#: The port that each lets in.
LETS_IN = {RED: None, BLUE: FIRST, GREEN: SECOND, WILD: FIRST, ELSEWHERE: FIRST}
BEHIND_WILD, BEHIND_OUTSIDE, NOBODY = (f"fa:16:3e:bb:00:0{number}" for number in (1, 2, 3))
MULTICASTS = ("01:00:5e:00:00:05", "33:33:00:00:00:05", "03:00:00:00:00:01", BROADCAST)


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(ROUTER, OUTSIDE)
        made.add(*MACHINES)
        made.plug(*MACHINES)
        guards = {
            machine: Guard(ingress=policy([] if port is None else both("allow", "udp", port)), egress=ALLOW_ALL)
            for machine, port in LETS_IN.items()
        }
        made.enforce(guards)
        for teacher, mac in ((WILD, BEHIND_WILD), (OUTSIDE, BEHIND_OUTSIDE), (OUTSIDE, BLUE.mac)):
            tag = 1 if teacher is OUTSIDE else None
            made.send(teacher, teacher.arp(RED, eth_src=mac, vlan=tag))
        yield made


def comes_to(mac: str, port: int) -> set[Machine]:
    """Who gets a packet to ``port`` in a frame to ``mac``, of all of network 1."""
    if mac in MULTICASTS:
        return {ROUTER, OUTSIDE, *(it for it, lets_in in LETS_IN.items() if lets_in == port and it is not ELSEWHERE)}
    if mac == NOBODY:
        return {ROUTER, OUTSIDE}
    receiver = {BLUE.mac: BLUE, BEHIND_WILD: WILD, BEHIND_OUTSIDE: OUTSIDE}[mac]
    return {receiver} if LETS_IN.get(receiver, port) == port else set()


@pytest.mark.parametrize("sender", [RED, WILD, ROUTER, OUTSIDE], ids=lambda machine: machine.name)
@pytest.mark.parametrize("mac", [*MULTICASTS, BLUE.mac, NOBODY, BEHIND_WILD, BEHIND_OUTSIDE])
def test_a_packet_to_a_machine_comes_to_those_alone_that_let_it_in_whatever_the_mac(
    lab: Machines, sender: Machine, mac: str
) -> None:
    for port in (FIRST, SECOND, NEITHER):
        for version in (4, 6):
            frame = sender.udp(BLUE, port, version, eth_dst=mac)
            sent = frame.with_(vlan=1) if sender is OUTSIDE else frame
            wanted = {
                machine.name: [encode(frame.with_(vlan=1) if machine is OUTSIDE else frame)]
                for machine in comes_to(mac, port) - {sender}
            }
            assert lab.send(sender, sent) == wanted


def test_what_was_let_in_by_one_mac_is_no_way_in_for_other_ports_by_another(lab: Machines) -> None:
    for mac in (BLUE.mac, BROADCAST, BLUE.mac):
        opened, other = ROUTER.udp(BLUE, FIRST, eth_dst=mac), ROUTER.udp(BLUE, NEITHER, eth_dst=mac)
        assert lab.send(ROUTER, opened, other).get(BLUE.name) == [encode(opened)]


def test_frames_to_the_mac_of_a_machine_come_to_it_though_another_end_has_sent_from_that_mac(lab: Machines) -> None:
    lab.send(OUTSIDE, OUTSIDE.arp(RED, eth_src=BLUE.mac, vlan=1))
    frame = RED.udp(BLUE, FIRST, source_port=40001)
    assert lab.send(RED, frame) == {BLUE.name: [encode(frame)]}
