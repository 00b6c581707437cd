"""The ends of a lab's networks, as places where any packet is sent and all that arrives is seen, at thousands a second.

``RouterWire`` is for router ports: beyond the hosts of a lab lie wide networks, which the router routes to them, so
every address of these can send. Packets are frames; nobody answers them, and nothing but the router decides.
``SwitchWire`` is the same for hosts that are virtual machines on a switch, with the router between their networks.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from typing import NamedTuple, Self

import msgspec

from packets.frames import encode, ident_of
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.netlink import ACK, NETFILTER, Netlink
from portward.lab import Host, Lab, LabPort
from portward.lab.namespaces import ip, nft
from portward.model import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, Address, IPVersion, Packet

#: Networks beyond each end. Neighbours but for the gateway's, so that prefixes can lie across the borders of both.
_BEYOND = {
    "red": ("172.16.0.0/13", "fd80::/12"),
    "blue": ("172.24.0.0/13", "fd90::/12"),
    "outside": ("198.18.0.0/15", "2001:2::/48"),
}
_FIRST_FLOATING = IPv4Address("203.0.113.50")
_DEAF = "table inet deaf { chain everything { type filter hook prerouting priority raw - 10; policy drop; }; }"
_ALL_PROTOCOLS, _ARP, _SO_RCVBUFFORCE = 3, 0x0806, 33
_ARP_REQUEST = 1
_RECEIVE_BUFFER = 16 << 20
#: How often a frame comes to the switch, at most, from its sender to where it, or the answer to it, is seen.
_PASSES = 6
_DEADLINE = 10.0
_CONNTRACK_DELETE = 1 << 8 | 2

#: The first and the last number of something.
Span = tuple[int, int]


@dataclass(frozen=True)
class End:
    """A network behind a port: its name, the port's id, and the addresses that can be there, as numbers."""

    name: str
    port_id: str
    spaces: Mapping[IPVersion, tuple[Span, ...]]
    lowest_port: int = 0  # of TCP and UDP


class Frame(NamedTuple):
    """An IP packet, and the end at which it is sent or was seen."""

    end: str
    data: bytes


class RouterWire:
    """Sends and sees packets at the ends of a lab; a context manager."""

    #: What can be sent, and told apart by what rules name of it.
    PROTOCOLS = frozenset(range(256))
    #: Frames before it is waited until all of them are through: fewer than a processor's queue of the kernel takes.
    CHUNK = 200

    def __init__(self, lab: Lab, names: Sequence[str] = ("red", "blue", "outside")) -> None:
        self._netns = lab.router_netns
        self._ports: dict[str, LabPort] = {name: lab.ports[name] for name in names}
        self._hosts = {name: lab.hosts[name] for name in names}
        self._sockets: dict[str, socket.socket] = {}
        self._waits = 0
        self.guarded: Mapping[str, LabPort] = self._ports  # those that decide
        self.ends = {name: self._open(name) for name in names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._sockets.values():
            opened.close()

    def exchange(self, frames: Sequence[Frame]) -> list[Frame]:
        """Send ``frames``; all that came out of the router because of them, at whichever end."""
        seen: list[Frame] = []
        with one_processor():
            for start in range(0, len(frames), self.CHUNK):
                for frame in frames[start : start + self.CHUNK]:
                    self._send(frame)
                seen += self._wait(frames[start].end)
        for opened in self._sockets.values():
            _, dropped = struct.unpack("II", opened.getsockopt(263, 6, 8))  # SOL_PACKET, PACKET_STATISTICS
            assert dropped == 0, "the test's own socket lost packets"
        return seen

    def before_translation(self, packet: Packet, sender: str) -> Packet:  # noqa: ARG002
        """What ``sender`` sends so that ``packet`` comes to the router's ports."""
        return packet

    def forget_connections(self) -> None:
        """Have the router forget every connection, so that the next packets are the first of theirs."""
        with in_namespace(self._netns, lambda: Netlink(NETFILTER)) as netlink:
            netlink.request(_CONNTRACK_DELETE, bytes(4), ACK)

    def _open(self, name: str) -> End:
        host, port = self._hosts[name], self._ports[name]
        nft(host.netns, _DEAF)
        prefixes = [ip_network(text) for text in _BEYOND[name]]
        ip(
            self._netns,
            [f"route add {prefix} via {host.address(prefix.version)} dev {port.device}" for prefix in prefixes],
        )

        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
            made.bind((host.device, _ALL_PROTOCOLS))
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            made.setblocking(False)
            return made

        self._sockets[name] = in_namespace(host.netns, opened)
        spaces = {prefix.version: ((int(prefix[0]), int(prefix[-1])),) for prefix in prefixes}
        return End(name, port.port_id, spaces)

    def _send(self, frame: Frame) -> None:
        macs = bytes.fromhex((self._ports[frame.end].mac + self._hosts[frame.end].mac).replace(":", ""))
        kind = b"\x08\x00" if frame.data[0] >> 4 == 4 else b"\x86\xdd"
        self._sockets[frame.end].send(macs + kind + frame.data)

    def _wait(self, end: str) -> list[Frame]:
        """All that arrives before the router's own answer to an echo request that is sent last.

        One processor takes frames in the order in which they are sent, those that it forwards among them.
        """
        self._waits += 1
        router: Address = self._ports[end].fixed_ips[0]
        source = self._hosts[end].address(router.version)
        request = Packet(
            source=source, destination=router, protocol=ICMP, icmp_type=8, icmp_code=0, icmp_id=self._waits & 0xFFFF
        )
        mark = 1 << 31 | self._waits
        self._send(Frame(end, encode(request, mark)))
        seen: list[Frame] = []
        deadline = time.monotonic() + _DEADLINE
        while time.monotonic() < deadline:
            select.select(list(self._sockets.values()), [], [], 0.1)
            # The sentinel's socket last: what was forwarded before lies in the others by then.
            for name in sorted(self._sockets, key=lambda name: name == end):
                for data in _received(self._sockets[name]):
                    if name == end and ident_of(data) == mark:
                        return seen + [
                            Frame(other, late) for other in self._sockets for late in _received(self._sockets[other])
                        ]
                    seen.append(Frame(name, data))
        raise AssertionError(f"the router did not answer {end} within {_DEADLINE:.0f} s")


class TranslatingWire(RouterWire):
    """A wire through a router that translates: source NAT towards the outside, floating IPs for some hosts of red.

    Rules see none of it, so neither do the packets that are asked for: what is sent and seen is translated.
    """

    #: What source NAT can tell apart behind one address.
    PROTOCOLS = frozenset({ICMP, TCP, UDP, ICMPV6, SCTP})

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        fixed = [address for address in lab.red.addresses if isinstance(address, IPv4Address)]
        self._floating: dict[Address, IPv4Address] = {}
        for number, address in enumerate(fixed):
            self._floating[address] = _FIRST_FLOATING + number
            lab.floating_ip(_FIRST_FLOATING + number, address)
        lab.masquerade()
        red = self.ends["red"]
        hosts = tuple((int(address), int(address)) for address in fixed)
        self.ends["red"] = End(red.name, red.port_id, {4: hosts + red.spaces[4], 6: red.spaces[6]})

    def before_translation(self, packet: Packet, sender: str) -> Packet:
        """As ``RouterWire.before_translation``: from outside to the floating IP of a host that has one."""
        floating = self._floating.get(packet.destination) if sender == "outside" else None
        return packet if floating is None else msgspec.structs.replace(packet, destination=floating)


class SwitchWire(RouterWire):
    """A wire of a lab whose hosts are virtual machines: their ports decide, and may send from all of their ends."""

    #: A switch knows no ports of DCCP, and no addresses of protocol 0; one in userspace tracks SCTP by addresses alone.
    PROTOCOLS = frozenset(range(256)) - {0, DCCP, SCTP}
    #: Fewer than the switch's own sockets take before they lose some.
    CHUNK = 100

    def __init__(self, lab: Lab, names: Sequence[str] = ("red", "blue", "outside")) -> None:
        super().__init__(lab, names)
        self._switch = lab.switch
        self.guarded = {
            name: msgspec.structs.replace(lab.vm_ports[name], address_pairs=_BEYOND[name])
            for name in names
            if name in lab.vm_ports
        }
        for name, end in self.ends.items():
            port = self.guarded.get(name, lab.ports[name])
            # Port 0 is invalid to the connection tracking of a switch in userspace.
            self.ends[name] = replace(end, port_id=port.port_id, lowest_port=1)
        self._cables = [_Cable(self._hosts[name], self._ports[name]) for name in self.guarded]

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for cable in self._cables:
            cable.close()

    def forget_connections(self) -> None:
        """Have the switch and the router forget every connection."""
        self._switch.appctl("dpctl/flush-conntrack")
        super().forget_connections()

    def _wait(self, end: str) -> list[Frame]:  # noqa: ARG002
        """All that arrives before the last of as many passes of ARP frames as a frame comes to the switch.

        ARP passes whatever the policies are. The switch takes what comes by a port in its order, and sends on all that
        it took at once before it takes more: so when a pass is through, so is one step of every frame.
        """
        for _ in range(_PASSES):
            for cable in self._cables:
                cable.send()
            for cable in self._cables:
                cable.wait()
        return [Frame(name, data) for name in self._sockets for data in _received(self._sockets[name])]


class _Cable:
    """Between a virtual machine and the router's interface, through the switch: ARP frames both ways."""

    def __init__(self, host: Host, port: LabPort) -> None:
        self._ends = [_arp_socket(host.netns, host.device), _arp_socket(port.netns, port.device)]
        macs = [bytes.fromhex(end.mac.replace(":", "")) for end in (host, port)]
        addresses = [host.address(4).packed, next(it for it in port.fixed_ips if it.version == 4).packed]
        self._requests = [
            macs[not way]
            + macs[way]
            + struct.pack(">HHHBBH", _ARP, 1, 0x0800, 6, 4, _ARP_REQUEST)
            + (macs[way] + addresses[way] + bytes(6) + addresses[not way])
            for way in (0, 1)
        ]

    def send(self) -> None:
        """Send a request from each end."""
        for end, request in zip(self._ends, self._requests, strict=True):
            end.send(request)

    def wait(self) -> None:
        """Wait for the requests; what the kernel answers to them is passed over."""
        for end, request in zip(self._ends, reversed(self._requests), strict=True):
            while end.recv(2048)[: len(request)] != request:
                pass

    def close(self) -> None:
        """Close both ends."""
        for end in self._ends:
            end.close()


def _arp_socket(netns: str, device: str) -> socket.socket:
    made = in_namespace(netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)))
    made.bind((device, _ARP))
    made.settimeout(_DEADLINE)
    return made


def _received(opened: socket.socket) -> Iterator[bytes]:
    """The IP packets that wait in a socket."""
    while True:
        try:
            frame = opened.recv(2048)
        except BlockingIOError:
            return
        if frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
            yield frame[14:]


@contextmanager
def one_processor() -> Iterator[None]:
    """What is sent meanwhile is on its way in its order: each processor has a queue of its own."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
