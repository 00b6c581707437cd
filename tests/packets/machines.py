"""Machines on a real bridge, as places that any frame is sent from, and where all that arrives is seen.

The switch is Open vSwitch in userspace, enforced by the dataplane itself; each machine is the far end of a link into
it, with no network stack that would say or answer anything. Frames are values of ``fake_switch``, bytes on the link.
"""

import contextlib
import itertools
import select
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from fake_switch.frame import ARP, IPV4, IPV6, Frame
from fake_switch.wire import encode
from packets.bare_switch import PATIENCE, BareSwitch, until
from packets.builders import Guard
from packets.wire import one_processor
from portward.dataplane.netns import in_namespace
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.model import (
    ICMPV6,
    TCP,
    UDP,
    Address,
    AddressPair,
    CoveredPort,
    HostState,
    IPVersion,
    Policy,
    Port,
    PortKind,
    Report,
)

BROADCAST = "ff:ff:ff:ff:ff:ff"
UPLINK = "uplink"
_ALL, _AUXDATA, _SOL_PACKET, _TAG_VALID, _OUTGOING = 3, 8, 263, 16, 4
#: The network of two ends that are admitted and where nobody else is: what comes from one to the other tells the time.
_CLOCK = 4001
_ZONES = 4096, 65535
#: How often a frame comes to the switch, at most, until all that is made of it has arrived.
_PASSES = 4
#: Frames that the switch takes from a port at once are 32.
_BURST = 16
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Machine:
    """A machine, or another end of the network. Machines of equal ``number`` have equal addresses and MACs."""

    name: str
    number: int
    network: int | None = 1  # VLAN of the bridge; None: an uplink, which carries all of them tagged
    pairs: tuple[AddressPair, ...] = ()
    is_secured: bool = True
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    device: str = field(default_factory=lambda: f"m{next(_numbers)}")

    @property
    def mac(self) -> str:
        return f"fa:16:3e:00:{self.number >> 8:02x}:{self.number & 0xFF:02x}"

    def address(self, version: IPVersion = 4) -> Address:
        return ip_address(f"10.0.{self.number >> 8}.{self.number & 0xFF}" if version == 4 else f"fd00::{self.number:x}")

    def to_model(self) -> Port:
        return Port(
            id=self.id,
            kind=PortKind.VM,
            mac_address=self.mac,
            fixed_ips=(self.address(4), self.address(6)),
            allowed_address_pairs=self.pairs,
            port_security_enabled=self.is_secured,
        )

    def udp(self, to: "Machine", port: int, version: IPVersion = 4, **changes: object) -> Frame:
        """A datagram to ``port`` of another."""
        frame = self._ip(to, version).with_(protocol=UDP, source_port=40000, destination_port=port)
        return frame.with_(**changes)

    def tcp(self, to: "Machine", port: int, version: IPVersion = 4, **changes: object) -> Frame:
        """A segment to ``port`` of another; by default its flags are 0."""
        return self.udp(to, port, version, protocol=TCP, **changes)

    def arp(self, to: "Machine", **changes: object) -> Frame:
        """A request, to all, for the MAC of another."""
        frame = Frame(eth_src=self.mac, eth_dst=BROADCAST, eth_type=ARP, arp_op=1, arp_sha=self.mac)
        return frame.with_(arp_spa=self.address(), arp_tpa=to.address()).with_(**changes)

    def icmpv6(self, to: "Machine", kind: int, **changes: object) -> Frame:
        """A message of the type ``kind``; of neighbour discovery about the address of ``to`` or, answering, its own."""
        target = (self if kind == 136 else to).address(6)
        return self._ip(to, 6).with_(protocol=ICMPV6, icmp_type=kind, nd_target=target).with_(**changes)

    def _ip(self, to: "Machine", version: IPVersion) -> Frame:
        return Frame(
            eth_src=self.mac,
            eth_dst=to.mac,
            eth_type=IPV4 if version == 4 else IPV6,
            source=self.address(version),
            destination=to.address(version),
            identification=next(_numbers) & 0xFFFF,
        )


class Machines(BareSwitch):
    """The switch, its bridge and the dataplane; machines are added to it, and then plugged."""

    def __init__(self) -> None:
        super().__init__()
        self._far = f"{self.netns}-far"
        self._sockets: dict[str, socket.socket] = {}
        self._clock = [Machine("tick", 0xFFFE, _CLOCK), Machine("tock", 0xFFFF, _CLOCK)]
        self._admitted: list[Machine] = []
        self._ticks = 0
        self.dataplane = self._new_dataplane(_ZONES)
        self.state = HostState(generation=0)

    def __enter__(self) -> Self:
        subprocess.run(["ip", "netns", "add", self._far], check=True)
        super().__enter__()
        self.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        self.admit(*self._clock)
        self.enforce({})
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(super().__exit__)
            undo.callback(subprocess.run, ["ip", "netns", "delete", self._far], check=True)
            undo.callback(self.dataplane.close)
            undo.callback(self.dataplane.cleanup)
            for opened in self._sockets.values():
                opened.close()

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd, whose time can be made to pass (``time/warp``), and wait until it answers."""
        self._vswitchd = self._start("ovs-vswitchd", f"unix:{self._socket}", "--pidfile", "--enable-dummy")
        until(lambda: self._try("ovs-appctl", "version"))

    def add(self, *machines: Machine) -> None:
        """Make the links of ``machines``; they are not plugged yet."""
        commands = []
        for machine in machines:
            device = machine.device
            commands.append(f"link add {device} mtu 1600 type veth peer name {device} mtu 1600 netns {self._far}")
            commands.append(f"link set {device} up")
        self.ip(*commands)
        ends = "\n".join(f"link set {machine.device} up" for machine in machines)
        for netns, names in ((self.netns, machines), (self._far, machines)):
            in_namespace(netns, lambda names=names: _say_nothing(names))
        subprocess.run(["ip", "-netns", self._far, "-batch", "-"], input=ends.encode(), check=True)
        for machine in machines:
            self._sockets[machine.name] = in_namespace(self._far, lambda machine=machine: _open(machine.device))

    def plug(self, *machines: Machine, bridge: str = "br-int") -> None:
        """Plug ``machines`` into the bridge, all at once."""
        arguments: list[str] = []
        for machine in machines:
            tag = [] if machine.network is None else [f"tag={machine.network}"]
            ids = f"external_ids:iface-id={machine.id}"
            arguments += ["--", "add-port", bridge, machine.device, *tag]
            arguments += ["--", "set", "interface", machine.device, ids] if machine.network is not None else []
        self.vsctl(*arguments[1:])

    def unplug(self, machine: Machine) -> None:
        """Take it out of the bridge."""
        self.vsctl("del-port", "br-int", machine.device)

    def admit(self, *ends: Machine) -> None:
        """Add and plug ends of the network itself; they are not filtered, from the next state on."""
        self.add(*ends)
        self.plug(*ends)
        self._admitted += ends

    def enforce(self, guards: Mapping[Machine, Guard | None]) -> Report:
        """Have the machines be protected by their guards, and no others be known."""
        self.state = self.state_of(guards)
        return self.realise()

    def state_of(self, guards: Mapping[Machine, Guard | None]) -> HostState:
        """The next state, in which machines are protected by their guards."""
        generation = self.state.generation + 1
        before = {policy.id: policy for policy in self.state.policies}
        policies: dict[str, Policy] = {}
        for guard in guards.values():
            for policy in (guard.ingress, guard.egress) if guard is not None else ():
                if policy is not None:
                    known = before.get(policy.id)
                    version = known.version if known is not None and known.rules == policy.rules else generation
                    policies[policy.id] = Policy(id=policy.id, version=version, rules=policy.rules)
        return HostState(
            generation=generation,
            ports=tuple(
                CoveredPort(port=machine.to_model(), groups=(guard.group(),) if guard else ())
                for machine, guard in guards.items()
            ),
            admitted=tuple(end.id for end in self._admitted),
            policies=tuple(policies.values()),
        )

    def realise(self) -> Report:
        """Apply the state until no port is in error."""
        deadline = time.monotonic() + PATIENCE
        while True:
            report = self.dataplane.apply(self.state)
            errors = [port.error for port in report.ports if port.error]
            if not errors:
                return report
            assert time.monotonic() < deadline, errors
            select.select(list(self.dataplane.watched()), [], [], 1.0)

    def restart_dataplane(self, zones: tuple[int, int] = _ZONES) -> None:
        """End the dataplane, and begin another life of it, with these ``zones``: nothing is applied."""
        self.dataplane.close()
        self.dataplane = self._new_dataplane(zones)

    def send(self, sender: Machine, *frames: Frame) -> dict[str, list[bytes]]:
        """Send ``frames``; what arrived anywhere because of them, by the names of those who got something."""
        return self.send_bytes(sender, [encode(frame) for frame in frames])

    def send_bytes(self, sender: Machine, frames: Sequence[bytes]) -> dict[str, list[bytes]]:
        """As ``send``, frames of any kind."""
        with one_processor():
            for start in range(0, len(frames), _BURST):
                for data in frames[start : start + _BURST]:
                    self.put(sender, data)
                self.settle()
        return self.arrived()

    def put(self, sender: Machine, data: bytes) -> None:
        """Send a frame, and wait for nothing."""
        self._sockets[sender.name].send(data)

    def settle(self) -> None:
        """Wait until whatever was sent before has arrived."""
        for _ in range(_PASSES):
            self._ticks += 1
            frame = Frame(eth_src=self._clock[0].mac, eth_dst=BROADCAST, eth_type=ARP, arp_op=self._ticks & 0xFFFF)
            data = encode(frame)
            self.put(self._clock[0], data)
            deadline = time.monotonic() + PATIENCE
            while data not in _received(self._sockets[self._clock[1].name]):
                assert time.monotonic() < deadline, "the switch passes nothing on"
                select.select([self._sockets[self._clock[1].name]], [], [], 0.1)

    def arrived(self) -> dict[str, list[bytes]]:
        """What arrived since this was asked last, by the names of those who got something."""
        seen = {name: self.received(name) for name in self._sockets}
        return {name: frames for name, frames in seen.items() if frames}

    def received(self, name: str) -> list[bytes]:
        """What arrived at one machine since this was asked last."""
        ticks = bytes.fromhex(self._clock[0].mac.replace(":", ""))
        return [data for data in _received(self._sockets[name]) if data[6:12] != ticks]

    def _new_dataplane(self, zones: tuple[int, int]) -> OpenvswitchDataplane:
        return OpenvswitchDataplane(run_dir=self.run_dir, netns=self.netns, uplinks=(UPLINK,), zones=zones)


@contextlib.contextmanager
def machines_on_a_bridge() -> Iterator[Machines]:
    """A bridge that is enforced, without machines."""
    with contextlib.ExitStack() as undo:
        made = Machines()
        undo.push(made.__exit__)
        made.__enter__()
        yield made


def _say_nothing(machines: tuple[Machine, ...]) -> None:
    for machine in machines:
        with open(f"/proc/sys/net/ipv6/conf/{machine.device}/disable_ipv6", "w") as file:
            file.write("1")


def _open(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    made.bind((device, _ALL))
    made.setsockopt(_SOL_PACKET, _AUXDATA, 1)
    made.setblocking(False)
    return made


def _received(opened: socket.socket) -> list[bytes]:
    """The frames that wait in a socket, each with the tag that the kernel took off it."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data, ancillary, _, sender = opened.recvmsg(1 << 16, 256)
            if sender[2] == _OUTGOING:
                continue
            for _, _, auxiliary in ancillary:
                status, *_, tag, _ = struct.unpack_from("=IIIHHHH", auxiliary)
                if status & _TAG_VALID:
                    data = data[:12] + struct.pack(">HH", 0x8100, tag) + data[12:]
            found.append(data)
    return found
