"""Where the story happens: in a lab of namespaces with real packets, or, without root, in the golden model.

Both worlds answer the same questions in the same words. The model's world takes its state from the API over
the agents' channel, as an agent does; what it says is marked as the model's by the caller.
"""

import time
from dataclasses import dataclass
from typing import Protocol as Interface

from demo.processes import Portward
from demo.story import CUT, LIVES, PASSED, RESET, SILENT, UNREACHABLE, Kill, Probe
from portward.channel.client import Client
from portward.lab import Connection, Lab, LabHost, LabState, Push
from portward.model import ICMP, ICMPV6, TCP, UDP, Address, Direction, HostState, Packet
from portward.semantics import Crossing, Network, Verdict

RATE = 2000  # packets a second, half of them denied


@dataclass(frozen=True)
class Streams:
    """What was sent and what arrived while the agent was dead and came back."""

    allowed_sent: int
    allowed_received: int
    denied_sent: int
    denied_received: int


class World(Interface):
    """A router with the networks red and blue, and the outside."""

    hosts: dict[str, LabHost]
    port_ids: dict[str, str]  # by host: of its own port, if it is a virtual machine, else the router's to its network
    router_ids: dict[str, str]  # by network: the router's ports, where the others are virtual machines'

    def settle(self) -> None:
        """Wait until what the API was told is enforced."""

    def probe(self, probe: Probe) -> str:
        """What becomes of one attempt, in the story's words."""

    def open(self, name: str, port: int) -> None:
        """Open a TCP connection from red to blue."""

    def held(self, name: str) -> str:
        """Whether that connection still carries data."""

    def kill(self, kill: Kill) -> Streams:
        """Kill the agent under traffic, and start it again."""

    def close(self) -> None:
        """Leave nothing behind."""


class RealWorld:
    """Namespaces, the agent as a process, and real packets."""

    def __init__(self, portward: Portward, lab: Lab, port_ids: dict[str, str], router_ids: dict[str, str]) -> None:
        self._portward = portward
        self._lab = lab
        self.hosts = {host.name: host for host in lab.state.hosts}
        self.port_ids = port_ids
        self.router_ids = router_ids
        self._connections: dict[str, Connection] = {}

    def settle(self) -> None:
        """As ``World`` says."""
        self._portward.wait_until_realised()

    def probe(self, probe: Probe) -> str:
        """As ``World`` says."""
        source, destination = endpoints(self, probe)
        sent = self._lab.hosts[probe.sender].probe(probe.protocol, destination, probe.port, source=source)
        return sent.outcome.value

    def open(self, name: str, port: int) -> None:
        """As ``World`` says."""
        self._connections[name] = self._lab.red.connect("tcp", self._lab.blue.address(4), port, push=Push.CLIENT)

    def held(self, name: str) -> str:
        """As ``World`` says."""
        return LIVES if self._connections[name].exchange() else CUT

    def kill(self, kill: Kill) -> Streams:
        """As ``World`` says."""
        red, blue = self._lab.red, self._lab.blue.address(4)
        flows = [red.flow(blue, port, source_port=40000) for port in (kill.allowed_port, kill.denied_port)]
        with red.stream(flows, rate=RATE) as stream:
            time.sleep(0.5)  # traffic before, between and after, not a wait for anything
            self._portward.kill("agent")
            time.sleep(1)
            self._portward.restart_agent()
            time.sleep(0.5)
            allowed, denied = stream.stop()
        return Streams(allowed.sent, allowed.received, denied.sent, denied.received)

    def close(self) -> None:
        """As ``World`` says."""
        for connection in self._connections.values():
            connection.close()


class ModelWorld:
    """The golden model, with the state that the API gives to the host's agent."""

    def __init__(self, portward: Portward, state: LabState, port_ids: dict[str, str]) -> None:
        self._client = Client(portward.agents_url, portward.token)
        self.port_ids = port_ids
        self.router_ids: dict[str, str] = {}
        self.hosts = {host.name: host for host in state.hosts}
        self._network = Network(HostState(generation=0))
        self._connections: dict[str, tuple[Packet, list[Crossing]]] = {}

    def settle(self) -> None:
        """As ``World`` says."""
        state = self._client.poll(wait=0)
        if state is not None:
            self._network.change(state)

    def probe(self, probe: Probe) -> str:
        """As ``World`` says."""
        return self._forward(packet_of(self, probe), path_of(self, probe))

    def open(self, name: str, port: int) -> None:
        """As ``World`` says."""
        probe = Probe("red", "blue", "tcp", port, PASSED)
        packet = packet_of(self, probe)
        self._connections[name] = packet, path_of(self, probe)
        self._forward(*self._connections[name])

    def held(self, name: str) -> str:
        """As ``World`` says."""
        return LIVES if self._forward(*self._connections[name]) == PASSED else CUT

    def kill(self, kill: Kill) -> Streams:
        """As ``World`` says; the model has no agent that could be killed, so one packet stands for each stream."""
        passed = [
            int(self.probe(Probe("red", "blue", "udp", port, PASSED)) == PASSED)
            for port in (kill.allowed_port, kill.denied_port)
        ]
        return Streams(1, passed[0], 1, passed[1])

    def close(self) -> None:
        """As ``World`` says."""
        self._client.close()

    def _forward(self, packet: Packet, path: list[Crossing]) -> str:
        verdict = self._network.forward(packet, path).verdict
        if verdict is Verdict.ALLOW:
            return PASSED
        if verdict is Verdict.DENY:
            return SILENT
        return RESET if packet.protocol == TCP else UNREACHABLE


def endpoints(world: World, probe: Probe) -> tuple[Address, Address]:
    """The addresses that a probe goes from and to."""
    source = next(
        address
        for address in world.hosts[probe.sender].addresses
        if address.version == probe.version and address.packed[-1] == probe.source
    )
    return source, world.hosts[probe.receiver].address(6 if probe.version == 6 else 4)


def path_of(world: World, probe: Probe) -> list[Crossing]:
    """The ports that a probe crosses, in that order: the sender's, the router's, the receiver's."""
    way = (
        (world.port_ids, probe.sender, Direction.EGRESS),
        (world.router_ids, probe.sender, Direction.EGRESS),
        (world.router_ids, probe.receiver, Direction.INGRESS),
        (world.port_ids, probe.receiver, Direction.INGRESS),
    )
    return [Crossing(ids[name], direction) for ids, name, direction in way if name in ids]


def packet_of(world: World, probe: Probe) -> Packet:
    """The first packet of a probe, as the model sees it."""
    source, destination = endpoints(world, probe)
    if probe.protocol == "icmp":
        request = 8 if probe.version == 4 else 128
        protocol = ICMP if probe.version == 4 else ICMPV6
        return Packet(
            source=source, destination=destination, protocol=protocol, icmp_type=request, icmp_code=0, icmp_id=1
        )
    return Packet(
        source=source,
        destination=destination,
        protocol={"tcp": TCP, "udp": UDP}[probe.protocol],
        source_port=40000,
        destination_port=probe.port,
    )
