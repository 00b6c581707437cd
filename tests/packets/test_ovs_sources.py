"""What leaves a machine is from its own MACs and addresses, and it is no router and no DHCP server."""

import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from fake_switch import Frame
from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.machines import BROADCAST, Machine, Machines, machines_on_a_bridge
from portward.model import ICMPV6, UDP, AddressPair

PAIR_MAC = "fa:16:3e:aa:00:01"
PAIRS = (
    AddressPair(prefix=ip_network("192.0.2.0/28"), mac=PAIR_MAC),
    AddressPair(prefix=ip_network("2001:db8:7::/64")),
)
#: As many as Neutron lets a port have and more, no two alike, of both families, every other with a MAC of its own.
MANY_PAIRS = tuple(
    AddressPair(
        prefix=ip_network(f"172.16.{number}.0/24" if number % 4 < 2 else f"2001:db8:{number:x}::/64"),
        mac=f"fa:16:3e:ab:00:{number:02x}" if number % 2 else None,
    )
    for number in range(64)
)
RED, BLUE = Machine("red", 11), Machine("blue", 12)
PAIRED, MANY = Machine("paired", 13, pairs=PAIRS), Machine("many", 14, pairs=MANY_PAIRS)
WILD = Machine("wild", 15, is_secured=False)
ALONE = Machine("alone", 16)  # of no group
ROUTER = Machine("router", 1)
MACHINES = (RED, BLUE, PAIRED, MANY, WILD, ALONE)
PORT, DENIED = 9001, 9002
NOBODY = "fa:16:3e:ff:ff:ff"
V4, V6 = ip_address("10.0.0.99"), ip_address("fd00::99")
NOWHERE = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    guard = Guard(ingress=ALLOW_ALL, egress=policy(both("deny", "udp", DENIED), both("allow")))
    with machines_on_a_bridge() as made:
        made.admit(ROUTER)
        made.add(*MACHINES)
        made.plug(*MACHINES)
        made.enforce({**dict.fromkeys(MACHINES, guard), ALONE: None})
        yield made


def link_local(machine: Machine) -> object:
    """The address that an interface makes of its MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(machine.mac.replace(":", ""))
    return ip_address(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:])


def forged(machine: Machine) -> dict[str, Frame]:
    """Frames of which one thing is not the machine's own, to a router."""
    four, six = machine.udp(ROUTER, PORT), machine.udp(ROUTER, PORT, 6)
    arp, advertisement = machine.arp(ROUTER), machine.icmpv6(ROUTER, 136)
    solicitation = machine.icmpv6(ROUTER, 135)
    frames = {
        "the MAC, IPv4": four.with_(eth_src=NOBODY),
        "the MAC, IPv6": six.with_(eth_src=NOBODY),
        "the MAC of the router": four.with_(eth_src=ROUTER.mac),
        "the address": four.with_(source=V4),
        "the address, IPv6": six.with_(source=V6),
        "the address of the router": four.with_(source=ROUTER.address()),
        "no address": four.with_(source=NOWHERE[4]),
        "no address, IPv6": six.with_(source=NOWHERE[6]),
        "both, of another machine": four.with_(eth_src=BLUE.mac, source=BLUE.address()),
        "the link-local address of another": six.with_(source=link_local(BLUE)),
        "the frame's MAC of an ARP request": arp.with_(eth_src=NOBODY),
        "the MAC in an ARP request": arp.with_(arp_sha=NOBODY),
        "the address in an ARP request": arp.with_(arp_spa=V4),
        "the address in an ARP answer": arp.with_(arp_op=2, eth_dst=ROUTER.mac, arp_spa=ROUTER.address()),
        "the MAC in an ARP answer": arp.with_(arp_op=2, eth_dst=ROUTER.mac, arp_sha=ROUTER.mac),
        "the target of an advertisement": advertisement.with_(nd_target=ROUTER.address(6)),
        "the source of an advertisement": advertisement.with_(source=V6),
        "the MAC of an advertisement": advertisement.with_(eth_src=NOBODY),
        "the target of an advertisement from nowhere": advertisement.with_(source=NOWHERE[6], nd_target=V6),
        "the source of a solicitation": solicitation.with_(source=V6),
        "the MAC of a solicitation from nowhere": solicitation.with_(source=NOWHERE[6], eth_src=NOBODY),
        "the MAC of a DHCP discovery": machine.udp(
            ROUTER, 67, source_port=68, source=NOWHERE[4], eth_src=NOBODY, eth_dst=BROADCAST
        ),
        "the address of a DHCP request": machine.udp(ROUTER, 67, source_port=68, source=V4),
    }
    return frames | {f"{what}, to all": frame.with_(eth_dst=BROADCAST) for what, frame in frames.items()}


def of_servers(machine: Machine) -> dict[str, Frame]:
    """What routers and DHCP servers send, from the machine's own addresses."""
    frames = {
        "DHCP answer": machine.udp(BLUE, 68, source_port=67),
        "DHCPv6 answer": machine.udp(BLUE, 546, 6, source_port=547),
        "router advertisement": machine.icmpv6(BLUE, 134, source=link_local(machine)),
        "redirect": machine.icmpv6(BLUE, 137, source=link_local(machine)),
    }
    return frames | {f"{what}, to all": frame.with_(eth_dst=BROADCAST) for what, frame in frames.items()}


def its_own(machine: Machine) -> dict[str, Frame]:
    """What a machine sends as itself, before it has an address and after."""
    return {
        "IPv4": machine.udp(ROUTER, PORT),
        "IPv6": machine.udp(ROUTER, PORT, 6),
        "link-local": machine.udp(ROUTER, PORT, 6, source=link_local(machine)),
        "ARP": machine.arp(ROUTER),
        "solicitation": machine.icmpv6(ROUTER, 135),
        "detection of doubles": machine.icmpv6(machine, 135, source=NOWHERE[6], eth_dst="33:33:ff:00:00:01"),
        "advertisement": machine.icmpv6(ROUTER, 136),
        "router solicitation": machine.icmpv6(ROUTER, 133, source=link_local(machine), eth_dst="33:33:00:00:00:02"),
        "listener report": machine.icmpv6(ROUTER, 143, source=NOWHERE[6], eth_dst="33:33:00:00:00:16"),
        "DHCP discovery": machine.udp(ROUTER, 67, source_port=68, source=NOWHERE[4], eth_dst=BROADCAST),
        "DHCPv6 solicitation": machine.udp(
            ROUTER, 547, 6, source_port=546, source=link_local(machine), eth_dst="33:33:00:01:00:02"
        ),
    }


def of_pairs(pairs: tuple[AddressPair, ...], machine: Machine) -> list[Frame]:
    """From the first and the last address of each pair, with its MAC."""
    frames = []
    for pair in pairs:
        version = 4 if pair.prefix.version == 4 else 6
        frame = machine.udp(ROUTER, PORT, version, eth_src=pair.mac or machine.mac)
        frames += [frame.with_(source=pair.prefix[0]), frame.with_(source=pair.prefix[-1])]
        if version == 4:
            mac = pair.mac or machine.mac
            frames.append(machine.arp(ROUTER, eth_src=mac, arp_sha=mac, arp_spa=pair.prefix[-1]))
        else:
            frames.append(machine.icmpv6(ROUTER, 136, eth_src=pair.mac or machine.mac, nd_target=pair.prefix[-1],
                                         source=pair.prefix[0]))  # fmt: skip
    return frames


def beside_pairs(pairs: tuple[AddressPair, ...], machine: Machine) -> list[Frame]:
    """From addresses just outside of pairs, and from those of pairs with another MAC than theirs."""
    frames = []
    for pair in pairs:
        version = 4 if pair.prefix.version == 4 else 6
        frame = machine.udp(ROUTER, PORT, version, eth_src=pair.mac or machine.mac)
        others = [other.prefix for other in pairs if other.mac == pair.mac]
        outside = [it for it in (pair.prefix[0] - 1, pair.prefix[-1] + 1) if not any(it in other for other in others)]
        frames += [frame.with_(source=address) for address in outside]
        frames.append(frame.with_(source=pair.prefix[1], eth_src=machine.mac if pair.mac else PAIR_MAC))
    return frames


def passed(lab: Machines, machine: Machine, frames: dict[str, Frame]) -> list[str]:
    """Which of ``frames``, sent by ``machine`` one by one, came to anybody."""
    return [what for what, frame in frames.items() if lab.send(machine, frame)]


@pytest.mark.parametrize("machine", [RED, PAIRED, MANY, ALONE], ids=lambda machine: machine.name)
def test_what_is_not_from_the_port_never_leaves_it(lab: Machines, machine: Machine) -> None:
    assert passed(lab, machine, forged(machine)) == []


@pytest.mark.parametrize("machine", [RED, PAIRED, MANY, WILD, ALONE], ids=lambda machine: machine.name)
def test_what_is_the_ports_own_leaves_it(lab: Machines, machine: Machine) -> None:
    assert passed(lab, machine, its_own(machine)) == list(its_own(machine))


@pytest.mark.parametrize("machine", [RED, PAIRED, ALONE], ids=lambda machine: machine.name)
def test_router_advertisements_redirects_and_dhcp_answers_never_leave_a_machine(
    lab: Machines, machine: Machine
) -> None:
    assert passed(lab, machine, of_servers(machine)) == []


@pytest.mark.parametrize("machine", [PAIRED, MANY], ids=lambda machine: machine.name)
def test_address_pairs_may_be_sent_from_each_with_its_mac_and_nothing_beside_them(
    lab: Machines, machine: Machine
) -> None:
    own = of_pairs(machine.pairs, machine)
    assert sorted(lab.send(machine, *own)[ROUTER.name]) == sorted(map(encode, own))
    beside = beside_pairs(machine.pairs, machine)
    assert len(beside) > len(machine.pairs)
    assert lab.send(machine, *beside) == {}


def test_frames_to_the_mac_of_a_pair_come_to_the_machine(lab: Machines) -> None:
    for pair in (*PAIRS, *MANY_PAIRS):
        machine = PAIRED if pair in PAIRS else MANY
        frame = ROUTER.udp(machine, PORT, eth_dst=pair.mac or machine.mac)
        assert lab.send(ROUTER, frame) == {machine.name: [encode(frame)]}


def test_the_type_of_a_message_is_not_hidden_by_fragments(lab: Machines) -> None:
    """The first holds a header of options and no more, so no table sees what the rest is (RFC 6980)."""
    for machine in (RED, ALONE):
        for kind, target in ((134, ROUTER), (136, ROUTER), (137, BLUE)):
            packet = encode(machine.icmpv6(target, kind, nd_target=ROUTER.address(6), source=link_local(machine)))
            options = bytes([ICMPV6, 0, 1, 4, 0, 0, 0, 0])
            pieces = (options, 1), (packet[54:], len(options))
            for mac in (target.mac, BROADCAST):
                head = encode(machine.udp(target, PORT, 6, eth_dst=mac))[:14] + packet[14:18]
                frames = [
                    head + struct.pack(">HBB", 8 + len(data), 44, 255) + packet[22:54]
                    + struct.pack(">BBHI", 60, 0, offset, kind) + data
                    for data, offset in pieces
                ]  # fmt: skip
                assert lab.send_bytes(machine, frames) == {}
                assert lab.send_bytes(machine, frames[::-1]) == {}


def test_without_port_security_any_source_leaves_and_dhcp_answers_too(lab: Machines) -> None:
    answers = {what: it for what, it in of_servers(WILD).items() if it.protocol == UDP}
    # The bridge learns where MACs are from such a machine, and would look for the router behind it.
    foreign = {what: it for what, it in forged(WILD).items() if it.eth_src != ROUTER.mac}
    frames = foreign | answers
    assert passed(lab, WILD, frames) == list(frames)


def test_without_port_security_the_group_decides_as_ever(lab: Machines) -> None:
    for version in (4, 6):
        frame = WILD.udp(ROUTER, DENIED, version)
        assert lab.send(WILD, frame, frame.with_(eth_src=NOBODY), frame.with_(source=(V4, V6)[version == 6])) == {}


def test_what_no_connection_tracking_knows_never_leaves_a_machine_without_port_security(lab: Machines) -> None:
    """A limit: routers and their redirects cannot be judged by rules, so a group denies them whatever its rules."""
    frames = {what: it for what, it in of_servers(WILD).items() if it.protocol != UDP}
    assert passed(lab, WILD, frames) == []
