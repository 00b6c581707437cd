"""A machine that forwards: what it sends on has the addresses and ports it came with, and meets the egress list."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from fake_switch.frame import Frame
from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, both, edited, policy
from packets.machines import BROADCAST, Machine, Machines, machines_on_a_bridge
from portward.model import AddressPair, IPVersion

PAIRS = tuple(AddressPair(prefix=ip_network(prefix)) for prefix in ("0.0.0.0/0", "::/0"))
CLIENT, SERVER, GATEWAY = Machine("client", 1), Machine("server", 2), Machine("gateway", 11, pairs=PAIRS)
PORT, DENIED_IN, DENIED_OUT = 9001, 9002, 9003
INGRESS = policy(both("deny", "udp", DENIED_IN), both("allow"))
EGRESS = policy(both("deny", "udp", DENIED_OUT), both("allow"))
GUARD = Guard(ingress=INGRESS, egress=EGRESS)


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(CLIENT, SERVER)
        made.add(GATEWAY)
        made.plug(GATEWAY)
        made.enforce({GATEWAY: GUARD})
        made.send(CLIENT, CLIENT.arp(GATEWAY))
        made.send(SERVER, SERVER.arp(GATEWAY))
        yield made


def comes(lab: Machines, frame: Frame) -> bool:
    """Whether ``frame`` of the client's comes to the gateway."""
    return lab.send(CLIENT, frame.with_(eth_dst=GATEWAY.mac)).keys() == {GATEWAY.name}


def goes_on(lab: Machines, frame: Frame) -> bool:
    """Whether ``frame``, sent on by the gateway, comes to whom it is for."""
    return bool(lab.send(GATEWAY, frame.with_(eth_src=GATEWAY.mac)))


@pytest.mark.parametrize("version", [4, 6])
def test_what_came_in_goes_on_only_if_it_may_leave_too(lab: Machines, version: IPVersion) -> None:
    for port, passes in ((PORT, True), (DENIED_OUT, False)):
        frame = CLIENT.udp(SERVER, port, version, source_port=41000 + version)
        for _ in range(2):
            assert comes(lab, frame)
            assert goes_on(lab, frame) == passes


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_sent_is_let_in_only_if_it_may_come_too(lab: Machines, version: IPVersion) -> None:
    for port, passes in ((PORT, True), (DENIED_IN, False)):
        frame = CLIENT.udp(SERVER, port, version, source_port=42000 + version)
        for _ in range(2):
            assert goes_on(lab, frame)
            assert comes(lab, frame) == passes


@pytest.mark.parametrize("version", [4, 6])
def test_answers_that_are_forwarded_follow_the_connection_both_ways_until_a_change(
    lab: Machines, version: IPVersion
) -> None:
    asked = CLIENT.udp(SERVER, PORT, version, source_port=43000 + version)
    answer = asked.reply()

    def passes() -> list[bool]:
        came = lab.send(SERVER, answer.with_(eth_dst=GATEWAY.mac)).keys() == {GATEWAY.name}
        return [came, bool(lab.send(GATEWAY, answer.with_(eth_src=GATEWAY.mac)))]

    assert comes(lab, asked)
    assert goes_on(lab, asked)
    assert passes() == [True, True]
    try:
        out = edited(EGRESS, both("deny", "udp", PORT), both("allow"))
        lab.enforce({GATEWAY: Guard(ingress=INGRESS, egress=out)})
        assert passes() == [False, True]  # what comes answers what was let out, what goes answers what came
        assert [comes(lab, asked), goes_on(lab, asked)] == [True, False]
    finally:
        lab.enforce({GATEWAY: GUARD})
    assert [comes(lab, asked), goes_on(lab, asked)] == [True, True]
    assert passes() == [True, True]


def test_no_rule_counts_a_machines_own_broadcasts_as_sent_to_it(lab: Machines) -> None:
    denies = policy(both("deny"))
    lab.enforce({GATEWAY: Guard(ingress=denies, egress=ALLOW_ALL)})
    frame = GATEWAY.udp(CLIENT, PORT, eth_dst=BROADCAST)
    got = lab.send(GATEWAY, *(frame.with_(source_port=port) for port in range(44000, 44004)))
    assert got.keys() == {CLIENT.name, SERVER.name}
    assert encode(frame.with_(source_port=44000)) in got[CLIENT.name]
    lab.appctl("revalidator/purge")  # what its caches have counted is the flows' from then on
    counts = {id_: count.packets for reading in lab.dataplane.counters() for id_, count in reading.counts.items()}
    assert [counts[rule.id] for rule in denies.rules] == [0, 0]
    assert counts[ALLOW_ALL.rules[0].id] == 4
    lab.enforce({GATEWAY: GUARD})
