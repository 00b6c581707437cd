"""Fragments: a datagram is decided by its ports however it is cut, and no piece of one that is denied gets anywhere.

A datapath in userspace lets fragments that nobody completed go with whichever packet is at connection tracking when
their time is over; here that time passes at once.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import cast

import pytest

from fake_switch.frame import mac_number
from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, both, edited, policy
from packets.machines import BROADCAST, Machine, Machines, machines_on_a_bridge
from portward.lab.packets import Datagram
from portward.model import UDP, IPVersion

RED, BLUE, GREEN, ROUTER = Machine("red", 11), Machine("blue", 12), Machine("green", 13), Machine("router", 1)
#: Of another tenant.
OTHER, OTHER_ROUTER = Machine("other", 14, network=2), Machine("other-router", 1, network=2)
PORT, DENIED, DENIED_OUT = 9001, 9002, 9003
SIZES = {2: 1600, 3: 3200}  # of datagrams that are cut in so many
PIECE = 1440
EXPIRY = 16  # seconds after which the switch gives up what is incomplete, and one more
_idents = itertools.count(1)

INGRESS = policy(both("allow", "udp", PORT))
GUARDS = {
    RED: Guard(ingress=ALLOW_ALL, egress=policy(both("deny", "udp", DENIED_OUT), both("allow"))),
    BLUE: Guard(ingress=INGRESS, egress=ALLOW_ALL),
    GREEN: Guard(ingress=policy(both("deny", "udp", DENIED), both("allow")), egress=ALLOW_ALL),
    OTHER: Guard(ingress=policy(both("allow", "udp", PORT)), egress=ALLOW_ALL),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(ROUTER, OTHER_ROUTER)
        made.add(*GUARDS)
        made.plug(*GUARDS)
        made.enforce(GUARDS)
        yield made


def pieces(
    sender: Machine, to: Machine, port: int, version: int, count: int, mac: str | None = None, source_port: int = 40000
) -> list[bytes]:
    """A datagram to ``port``, cut in ``count``."""
    ident = next(_idents)
    source, destination = (it.address(cast(IPVersion, version)) for it in (sender, to))
    payload = ident.to_bytes(4, "big") * (SIZES[count] // 4)
    ports = {"source_port": source_port, "destination_port": port}
    packet = Datagram(source=source, destination=destination, protocol=UDP, payload=payload, **ports).to_bytes()
    ethernet = b"".join(mac_number(it).to_bytes(6, "big") for it in (mac or to.mac, sender.mac))
    upper = packet[20 if version == 4 else 40 :]
    cut = [(at, upper[at : at + PIECE], at + PIECE < len(upper)) for at in range(0, len(upper), PIECE)]
    assert len(cut) == count
    if version == 6:
        return [
            ethernet + b"\x86\xdd" + packet[:4] + struct.pack(">HBB", len(data) + 8, 44, 64) + packet[8:40]
            + struct.pack(">BBHI", UDP, 0, at | more, ident) + data
            for at, data, more in cut
        ]  # fmt: skip
    frames = []
    for at, data, more in cut:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), ident, more << 13 | at >> 3, 64, UDP, 0)
        total = sum(struct.unpack(">10H", head + packet[12:20]))
        checksum = ~(total + (total >> 16)) & 0xFFFF
        frames.append(ethernet + b"\x08\x00" + head[:10] + struct.pack(">H", checksum) + packet[12:20] + data)
    return frames


def send(lab: Machines, sender: Machine, frames: list[bytes]) -> dict[str, list[bytes]]:
    """What arrives where of ``frames``, in an order of no meaning."""
    return {name: sorted(got) for name, got in lab.send_bytes(sender, frames).items()}


ORDERS = {"in order": slice(None), "the last first": slice(None, None, -1)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_may_begin_with_fragments_where_a_rule_allows_its_ports(
    lab: Machines, version: int, count: int, order: str
) -> None:
    source_port = 41000 + len(order) + 100 * count
    for sender, receiver in ((RED, BLUE), (ROUTER, BLUE), (RED, GREEN)):
        asked = pieces(sender, receiver, PORT, version, count, source_port=source_port)
        assert send(lab, sender, asked[ORDERS[order]]) == {receiver.name: sorted(asked)}
        again = pieces(sender, receiver, PORT, version, count, source_port=source_port)
        assert send(lab, sender, again[ORDERS[order]]) == {receiver.name: sorted(again)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("version", [4, 6])
def test_fragments_of_what_is_denied_go_nowhere_whatever_other_rules_allow(
    lab: Machines, version: int, count: int, order: str
) -> None:
    for sender, receiver, port in ((RED, BLUE, DENIED), (ROUTER, BLUE, DENIED), (RED, GREEN, DENIED),
                                   (RED, GREEN, DENIED_OUT), (RED, ROUTER, DENIED_OUT)):  # fmt: skip
        assert send(lab, sender, pieces(sender, receiver, port, version, count)[ORDERS[order]]) == {}


@pytest.mark.parametrize("version", [4, 6])
def test_a_piece_alone_goes_nowhere(lab: Machines, version: int) -> None:
    for receiver in (BLUE, GREEN):
        whole = pieces(ROUTER, receiver, PORT, version, 2, source_port=42000)
        assert send(lab, ROUTER, whole) == {receiver.name: sorted(whole)}
        for place in (0, 1):
            assert send(lab, ROUTER, pieces(ROUTER, receiver, PORT, version, 2, source_port=42000)[place:][:1]) == {}


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_to_all_come_to_those_that_let_their_ports_in(lab: Machines, version: int) -> None:
    frames = pieces(ROUTER, BLUE, PORT, version, 2, BROADCAST, source_port=43000)
    assert send(lab, ROUTER, frames) == {name: sorted(frames) for name in ("red", "blue", "green")}
    frames = pieces(ROUTER, BLUE, DENIED, version, 2, BROADCAST, source_port=43000)
    assert send(lab, ROUTER, frames) == {"red": sorted(frames)}


@pytest.mark.parametrize("version", [4, 6])
def test_a_change_cuts_a_connection_of_fragments_and_lets_it_through_again(lab: Machines, version: int) -> None:
    def arrive() -> bool:
        frames = pieces(RED, BLUE, PORT, version, 2, source_port=44000)
        got = send(lab, RED, frames)
        assert got in ({}, {BLUE.name: sorted(frames)})
        return bool(got)

    assert [arrive(), arrive()] == [True, True]
    lab.enforce({**GUARDS, BLUE: Guard(ingress=edited(INGRESS, both("allow", "udp", DENIED)), egress=ALLOW_ALL)})
    assert [arrive(), arrive()] == [False, False]
    lab.enforce(GUARDS)
    assert [arrive(), arrive()] == [True, True]


@pytest.mark.parametrize("version", [4, 6])
def test_fragments_that_waited_in_vain_go_with_nobodys_packets(lab: Machines, version: int) -> None:
    """Neither with the first packet of a connection, nor with others of it, nor with those to all."""
    for number in range(12):
        receiver = (BLUE, GREEN, ROUTER)[number % 3]
        port = DENIED_OUT if receiver is ROUTER else DENIED
        first, later = pieces(RED, receiver, port, version, 2, source_port=45000 + number)
        assert send(lab, RED, [later if number % 2 else first]) == {}
    lab.appctl("time/warp", str(1000 * EXPIRY))
    for number in range(8):
        whole = {"version": cast(IPVersion, version), "source_port": 46000 + number}
        to_all = ROUTER.udp(BLUE, PORT, **whole, eth_dst=BROADCAST)
        other = OTHER_ROUTER.udp(OTHER, PORT, **whole)
        for sender, frame, wanted in (
            (OTHER_ROUTER, other, {OTHER}),
            (OTHER, other.reply(), {OTHER_ROUTER}),
            (RED, RED.udp(ROUTER, PORT, **whole), {ROUTER}),
            (ROUTER, to_all, {RED, BLUE, GREEN}),
            (RED, RED.udp(GREEN, PORT, **whole, eth_dst=BROADCAST), {ROUTER, BLUE, GREEN}),
            (ROUTER, to_all.with_(eth_dst=BLUE.mac), {BLUE}),
        ):
            assert lab.send(sender, frame) == {machine.name: [encode(frame)] for machine in wanted}
