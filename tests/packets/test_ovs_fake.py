"""The switch at packet level that tests of the pipeline use does what Open vSwitch does, connection tracking included.

Both get the same flows and the same frames, one after the other; what goes out of them is compared byte by byte.
"""

import random
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from fake_switch import FakeSwitch, Frame
from fake_switch.bridge import REFLECTOR, Bridge, Place
from fake_switch.frame import ACK, ARP, FIN, IPV4, IPV6, RST, SYN, Fragment
from fake_switch.wire import encode
from packets.dummy_switch import DummySwitch, dummy_switch
from portward.dataplane.openvswitch.codec import Command
from portward.dataplane.openvswitch.flows import Flow
from portward.dataplane.openvswitch.openflow import FlowChange, OpenflowConnection, Refused
from portward.dataplane.openvswitch.ports import AdmittedPort
from portward.model import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Action,
    Address,
    AddressPair,
    CoveredPort,
    Group,
    HostState,
    Policy,
    Port,
    PortKind,
    PortRange,
    Rule,
)
from properties.strategies import ident
from unit.dataplane.openvswitch.test_fake_switch import REFUSED, TAKEN

_COOKIE = 1
_UPLINK, _DHCP, _UNKNOWN = 11, 12, 13
_NETWORK, _OTHER_NETWORK = 10, 20
_SECURED, _PAIRED, _UNSECURED, _ELSEWHERE = 1, 2, 3, 4
_PLACES = {
    ident(_SECURED): Place(_SECURED, _NETWORK),
    ident(_PAIRED): Place(_PAIRED, _NETWORK),
    ident(_UNSECURED): Place(_UNSECURED, _NETWORK),
    ident(_ELSEWHERE): Place(_ELSEWHERE, _OTHER_NETWORK),
}
_ADMITTED = (AdmittedPort(ofport=_UPLINK, network=None), AdmittedPort(ofport=_DHCP, network=_NETWORK))
_PORTS = (_SECURED, _PAIRED, _UNSECURED, _ELSEWHERE, _UPLINK, _DHCP, _UNKNOWN, REFLECTOR)
_NOBODYS = "fa:16:3e:00:00:99"


def _mac(number: int) -> str:
    return f"fa:16:3e:00:00:{number:02x}"


def _link_local(number: int) -> Address:
    return ip_address(f"fe80::f816:3eff:fe00:{number:x}")


def _vm(number: int, groups: tuple[Group, ...]) -> CoveredPort:
    pairs = (
        AddressPair(prefix=ip_network("192.0.2.0/28"), mac="fa:16:3e:00:01:00"),
        AddressPair(prefix=ip_network("2001:db8:7::/64")),
    )
    return CoveredPort(
        port=Port(
            id=ident(number),
            kind=PortKind.VM,
            # The machine on the other network is the first one's double.
            mac_address=_mac(number % _ELSEWHERE or _SECURED),
            fixed_ips=(_v4(number % _ELSEWHERE or _SECURED), _v6(number % _ELSEWHERE or _SECURED)),
            allowed_address_pairs=pairs if number == _PAIRED else (),
            port_security_enabled=number != _UNSECURED,
        ),
        groups=groups,
    )


def _v4(number: int) -> Address:
    return ip_address(f"10.0.0.{number}")


def _v6(number: int) -> Address:
    return ip_address(f"2001:db8::{number}")


def _rules(chance: random.Random, start: int) -> tuple[Rule, ...]:
    """Rules that ``_frame``'s packets meet: mostly allowing, of a few ports and addresses."""
    rules = []
    for number in range(start, start + 12):
        version = chance.choice((4, 6))
        protocol = chance.choice((None, TCP, UDP, UDP, ICMP, SCTP, 47))
        space = ip_network("10.0.0.0/30" if version == 4 else "2001:db8::/126")
        ports = protocol in (TCP, UDP, SCTP)
        rules.append(
            Rule(
                id=ident(number),
                action=chance.choice((Action.ALLOW, Action.ALLOW, Action.DENY, Action.REJECT)),
                ip_version=version,
                protocol=protocol,
                source=chance.choice((None, None, space)),
                destination=chance.choice((None, None, space)),
                source_port=chance.choice((None, None, PortRange(1, 4))) if ports else None,
                destination_port=chance.choice((None, PortRange(2, 2), PortRange(1, 3))) if ports else None,
            )
        )
    return tuple(rules)


def _state(chance: random.Random) -> HostState:
    policies = tuple(
        Policy(id=ident(100 + place), version=1, rules=_rules(chance, 200 + 20 * place)) for place in range(6)
    )
    groups = [
        Group(
            id=ident(50 + place),
            ingress_policy_id=chance.choice(policies).id,
            egress_policy_id=chance.choice(policies).id,
        )
        for place in range(3)
    ]
    vms = (_SECURED, _PAIRED, _UNSECURED, _ELSEWHERE)
    return HostState(
        generation=1,
        ports=tuple(_vm(number, chance.choice((groups[:1], groups[1:2], groups[2:], []))) for number in vms),
        policies=policies,
    )


def _frame(chance: random.Random, in_port: int) -> Frame:
    """A frame such as the machine behind ``in_port`` might send, and then one thing or another wrong with it."""
    me = {_SECURED: 1, _PAIRED: 2, _UNSECURED: 3, _ELSEWHERE: 1}.get(in_port, chance.randint(1, 9))
    other = chance.choice((1, 1, 2, 2, 3, 9))
    to_all = chance.random() < 0.1
    base = Frame(
        eth_src=_mac(me),
        eth_dst=chance.choice(("ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01")) if to_all else _mac(other),
        eth_type=chance.choice((IPV4, IPV4, IPV4, IPV6, IPV6, ARP, 0x88CC)),
        vlan=chance.choice((_NETWORK, _NETWORK, _OTHER_NETWORK, None)) if in_port == _UPLINK else None,
    )
    if base.eth_type == ARP:
        mac = chance.choice((base.eth_src, base.eth_src, _NOBODYS))
        frame = base.with_(arp_op=chance.choice((1, 2)), arp_sha=mac, arp_spa=_v4(me), arp_tpa=_v4(other))
        return chance.choice((frame, frame, frame.with_(arp_spa=_v4(9)), frame.with_(arp_spa=ip_address("0.0.0.0"))))
    if base.eth_type == 0x88CC:
        return base
    address = _v4 if base.eth_type == IPV4 else _v6
    frame = _upper(chance, base.with_(source=address(me), destination=address(other)))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        frame = chance.choice(_MISTAKES)(chance, frame)
    return frame


def _upper(chance: random.Random, frame: Frame) -> Frame:
    version = 4 if frame.eth_type == IPV4 else 6
    protocol = chance.choice((TCP, UDP, UDP, UDP, ICMP if version == 4 else ICMPV6, SCTP, 47))
    frame = frame.with_(protocol=protocol)
    if protocol in (TCP, UDP, SCTP):
        client, server = {4: (68, 67), 6: (546, 547)}[version]
        if protocol == UDP and chance.random() < 0.2:
            ports = chance.choice(((client, server), (server, client)))
        else:
            ports = chance.randint(1, 4), chance.randint(1, 4)
        frame = frame.with_(source_port=ports[0], destination_port=ports[1])
    if protocol == TCP:
        return frame.with_(tcp_flags=chance.choice((SYN, SYN, ACK, SYN | ACK, RST, FIN | ACK, SYN | FIN, 0)))
    if protocol == ICMP:
        types = (8, 8, 8, 0, 13, 14, 17, 3, 5, 11)
        return frame.with_(icmp_type=chance.choice(types), icmp_id=chance.randint(1, 2))
    if protocol == ICMPV6:
        kind = chance.choice((128, 128, 129, 1, 130, 131, 132, 133, 134, 135, 136, 136, 137, 143, 200))
        frame = frame.with_(icmp_type=kind, icmp_id=1)
        return frame.with_(nd_target=chance.choice((frame.source, _v6(9)))) if kind in (135, 136) else frame
    return frame


def _a_fragment(chance: random.Random, frame: Frame) -> Frame:
    if frame.protocol != UDP:
        return frame
    return frame.with_(fragment=chance.choice((Fragment.FIRST, Fragment.LATER)))


#: What may be wrong, or only unusual, with a frame.
_MISTAKES = (
    lambda _, frame: frame.with_(eth_src=_NOBODYS),
    lambda _, frame: frame.with_(eth_dst=_NOBODYS),
    lambda chance, frame: frame.with_(source=(_v4 if frame.eth_type == IPV4 else _v6)(chance.randint(1, 9))),
    lambda _, frame: frame.with_(source=ip_address("0.0.0.0" if frame.eth_type == IPV4 else "::")),
    lambda _, frame: frame.with_(source=ip_address("192.0.2.5" if frame.eth_type == IPV4 else "2001:db8:7::5")),
    lambda _, frame: frame.with_(eth_src="fa:16:3e:00:01:00"),
    lambda chance, frame: frame.with_(source=_link_local(chance.randint(1, 3))) if frame.eth_type == IPV6 else frame,
    lambda _, frame: frame.with_(destination=ip_address("224.0.0.5" if frame.eth_type == IPV4 else "ff02::5")),
    lambda chance, frame: frame.with_(vlan=chance.choice((0, _NETWORK, _OTHER_NETWORK))),
    lambda _, frame: frame.with_(is_damaged=True) if frame.protocol in (TCP, UDP, ICMP) else frame,
    lambda _, frame: frame.with_(icmp_code=1) if frame.protocol in (ICMP, ICMPV6) else frame,
    _a_fragment,
)


def _next(chance: random.Random, seen: Sequence[tuple[int, Frame]]) -> tuple[int, Frame]:
    """A frame and the port that it comes in by: new, or one that answers or reports about a frame that went out."""
    if not seen or chance.random() < 0.55:
        in_port = chance.choice((*_PORTS[:6], *_PORTS[:4], _UNKNOWN))
        return in_port, _frame(chance, in_port)
    port, frame = chance.choice(seen[-12:])
    frame = frame.with_(fragment=Fragment.NO)
    if port == REFLECTOR:
        swapped = frame.reply()
        return port, swapped.with_(tcp_flags=RST | ACK) if frame.protocol == TCP else swapped
    if chance.random() < 0.2 and frame.eth_type in (IPV4, IPV6):
        kind = (ICMP, 3) if frame.eth_type == IPV4 else (ICMPV6, 1)
        back = frame.reply()
        about = frame.with_(is_damaged=False)
        error = Frame(
            eth_src=back.eth_src,
            eth_dst=back.eth_dst,
            eth_type=frame.eth_type,
            vlan=frame.vlan,
            source=back.source,
            destination=chance.choice((back.destination, back.destination, back.source)),
            protocol=kind[0],
            icmp_type=kind[1],
            about=about,
        )
        return port, error
    flags = chance.choice((SYN | ACK, ACK, RST | ACK, SYN)) if frame.protocol == TCP else 0
    return port, frame.reply().with_(tcp_flags=flags)


class Both:
    """The real switch and the fake, with the same flows."""

    def __init__(self, real: DummySwitch) -> None:
        self._real = real
        self._connection = OpenflowConnection(real.run_dir / "br-int.mgmt")
        self._fake = FakeSwitch([])
        self._flows: dict[object, Flow] = {}
        self._sent = 0

    def close(self) -> None:
        self._connection.close()

    def replace(self, flows: Sequence[Flow]) -> None:
        """Have both have ``flows``."""
        self._fake.replace(flows)
        new = {flow.key: flow for flow in flows}
        gone = [FlowChange(Command.DELETE_STRICT, flow, _COOKIE) for key, flow in self._flows.items() if key not in new]
        come = [FlowChange(Command.ADD, flow, _COOKIE) for flow in flows if self._flows.get(flow.key) != flow]
        self._connection.commit([*gone, *come])
        self._flows = dict(new)

    def takes(self, flow: Flow) -> bool:
        """Whether the real one takes ``flow``."""
        try:
            self._connection.commit([FlowChange(Command.ADD, flow, _COOKIE)])
        except Refused:
            return False
        return True

    def send(self, in_port: int, frame: Frame) -> list[tuple[int, Frame]]:
        """What both let out."""
        self._sent += 1
        frame = frame.with_(identification=self._sent)
        halves = [frame]
        if frame.fragment is not Fragment.NO:  # the other one comes, too
            halves = [frame.with_(fragment=half) for half in (Fragment.FIRST, Fragment.LATER)]
        out = [sent for half in halves for sent in self._fake.send(in_port, half)]
        real = self._real.send(in_port, *map(encode, halves))
        assert sorted(real) == sorted((port, encode(sent)) for port, sent in out), f"{in_port} {frame}"
        return out


@pytest.fixture
def both() -> Iterator[Both]:
    with dummy_switch(_PORTS) as real:
        made = Both(real)
        yield made
        made.close()


def test_the_switch_refuses_the_flows_that_the_fake_refuses_and_takes_the_others(both: Both) -> None:
    refused = {what for what, flow in (REFUSED | TAKEN).items() if not both.takes(flow)}
    assert refused == set(REFUSED)


@pytest.mark.parametrize("seed", range(6))
def test_what_goes_out_of_the_fake_goes_out_of_the_switch(both: Both, seed: int) -> None:
    chance = random.Random(seed)
    bridge = Bridge()
    seen: list[tuple[int, Frame]] = []
    for _ in range(3):
        both.replace(bridge.flows(_state(chance), _PLACES, _ADMITTED))
        for _ in range(150):
            seen += both.send(*_next(chance, seen))
    assert {port for port, _ in seen} == set(_PORTS) - {_UNKNOWN}
