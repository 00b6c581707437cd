"""A bridge with virtual machines, described in a few words.

Machine ``n`` is on port ``n``, and on network 10 if nothing else is said.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple

import msgspec

from fake_switch import FakeSwitch, Frame
from fake_switch.bridge import REFLECTOR, Bridge, Place
from fake_switch.frame import ACK, ARP, IPV4, IPV6, SYN
from portward.dataplane.openvswitch.ports import AdmittedPort
from portward.model import (
    ICMPV6,
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
    Rule,
)
from properties.strategies import ident

__all__ = ["REFLECTOR"]

UPLINK, DHCP, UNKNOWN = 51, 52, 53
ADMITTED = (AdmittedPort(ofport=UPLINK, network=None), AdmittedPort(ofport=DHCP, network=10))
BROADCAST, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
ANY = (Rule(id=ident(901), action=Action.ALLOW), Rule(id=ident(902), action=Action.ALLOW, ip_version=6))


class Vm(NamedTuple):
    """What is special about a machine. ``groups`` replaces the tenant group that the other words make."""

    ingress: tuple[Rule, ...] | None = ANY
    egress: tuple[Rule, ...] | None = ANY
    up: bool = True
    network: int = 10
    secured: bool = True
    pairs: tuple[AddressPair, ...] = ()
    double_of: int | None = None  # has the MAC and the addresses of this machine
    groups: tuple[Group, ...] | None = None


class Cloud:
    """Machines by their number on one bridge, over changes; ``policies`` are those that ``Vm.groups`` name."""

    def __init__(
        self,
        vms: Mapping[int, Vm],
        *,
        policies: tuple[Policy, ...] = (),
        admitted: tuple[AdmittedPort, ...] = ADMITTED,
        beside: bool = False,
    ) -> None:
        self._bridge = Bridge(beside=beside)
        self._admitted = admitted
        self.switch = FakeSwitch([])
        self.change(vms, policies=policies)

    def change(self, vms: Mapping[int, Vm], *, policies: tuple[Policy, ...] = ()) -> None:
        """Have other machines, or other rules; connections live on."""
        made = list(policies)
        ports = tuple(_covered(number, vm, made) for number, vm in vms.items())
        places = {ident(number): Place(number, vm.network) for number, vm in vms.items()}
        state = HostState(generation=1, ports=ports, policies=tuple(made))
        self.switch.replace(self._bridge.flows(state, places, self._admitted))

    def ways(self, frame: Frame, in_port: int) -> set[int]:
        """By which ports ``frame`` leaves that comes in by ``in_port``."""
        return {port for port, _ in self.switch.send(in_port, frame)}

    def out(self, frame: Frame, in_port: int) -> dict[int, Frame]:
        """As what, and by which port, it leaves: at most once by each."""
        sent = self.switch.send(in_port, frame)
        assert len({port for port, _ in sent}) == len(sent)
        return dict(sent)


def _covered(number: int, vm: Vm, policies: list[Policy]) -> CoveredPort:
    like = vm.double_of or number
    port = Port(
        id=ident(number),
        kind=PortKind.VM,
        mac_address=mac(like),
        fixed_ips=(v4(like), v6(like)),
        allowed_address_pairs=vm.pairs,
        port_security_enabled=vm.secured,
    )
    if vm.groups is not None:
        return CoveredPort(port=port, groups=vm.groups)
    ids: list[str | None] = []
    for place, rules in enumerate((vm.ingress, vm.egress)):
        if rules is None:
            ids.append(None)
            continue
        policies.append(Policy(id=ident(1000 + 2 * number + place), version=1, rules=rules))
        ids.append(policies[-1].id)
    group = Group(id=ident(500 + number), ingress_policy_id=ids[0], egress_policy_id=ids[1], admin_state_up=vm.up)
    return CoveredPort(port=port, groups=(group,))


def mac(number: int) -> str:
    return f"fa:16:3e:00:{number >> 8:02x}:{number & 0xFF:02x}"


def v4(number: int) -> Address:
    return ip_address(f"10.0.{number >> 8}.{number & 0xFF}")


def v6(number: int) -> Address:
    return ip_address(f"2001:db8::{number:x}")


def link_local(number: int) -> Address:
    return ip_address(f"fe80::f816:3eff:fe00:{number:x}")


def udp(source: int, destination: int, ports: tuple[int, int] = (1000, 2000), version: int = 4) -> Frame:
    """A datagram from one machine to another."""
    address = v4 if version == 4 else v6
    return Frame(
        eth_src=mac(source),
        eth_dst=mac(destination),
        eth_type=IPV4 if version == 4 else IPV6,
        source=address(source),
        destination=address(destination),
        protocol=UDP,
        source_port=ports[0],
        destination_port=ports[1],
    )


def tcp(
    source: int, destination: int, ports: tuple[int, int] = (1000, 2000), version: int = 4, flags: int = SYN
) -> Frame:
    """A segment, the first of a connection if ``flags`` does not say otherwise."""
    return udp(source, destination, ports, version).with_(protocol=TCP, tcp_flags=flags)


def icmpv6(sender: int, receiver: int, kind: int, **fields: object) -> Frame:
    """A message of ICMPv6."""
    frame = udp(sender, receiver, (0, 0), 6).with_(protocol=ICMPV6, icmp_type=kind)
    return msgspec.structs.replace(frame, **fields)


def arp(sender: int, receiver: int | None = None, **fields: object) -> Frame:
    """A request; to all, if it is not said to whom."""
    frame = Frame(
        eth_src=mac(sender),
        eth_dst=BROADCAST if receiver is None else mac(receiver),
        eth_type=ARP,
        arp_op=1,
        arp_sha=mac(sender),
        arp_spa=v4(sender),
    )
    return msgspec.structs.replace(frame, **fields)


def error_about(frame: Frame, sender: int | None = None) -> Frame:
    """That the port of ``frame`` is not reachable, said by its destination or by ``sender``."""
    is_v4 = frame.eth_type == IPV4
    address = v4 if is_v4 else v6
    return Frame(
        eth_src=frame.eth_dst if sender is None else mac(sender),
        eth_dst=frame.eth_src,
        eth_type=frame.eth_type,
        source=frame.destination if sender is None else address(sender),
        destination=frame.source,
        protocol=1 if is_v4 else ICMPV6,
        icmp_type=3 if is_v4 else 1,
        about=frame,
    )


def answer(frame: Frame) -> Frame:
    """What the other side sends back, in the middle of a connection."""
    back = frame.reply()
    return back.with_(tcp_flags=ACK | (SYN if frame.tcp_flags & SYN else 0)) if frame.protocol == TCP else back
