"""Small values for packet tests: rules, policies and guards by what matters in the test, ids made up."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import msgspec

from portward.lab import Lab, LabPort, Outcome, ProbeRequest, Protocol
from portward.lab.state import VM
from portward.model import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Action,
    Address,
    AddressSet,
    CoveredPort,
    Direction,
    Group,
    HostState,
    IPVersion,
    Packet,
    Policy,
    PortRange,
    Rule,
    Stratum,
)
from portward.semantics import Crossing, Network, Verdict

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, None: None}


def _range(ports: int | str | None) -> PortRange | None:
    if ports is None:
        return None
    first, _, last = str(ports).partition(":")
    return PortRange(int(first), int(last or first))


def new_id() -> str:
    return str(uuid.uuid4())


def rule(
    action: str,
    protocol: str | None = None,
    ports: int | str | None = None,
    *,
    source: str | None = None,
    destination: str | None = None,
    source_set: str | None = None,
    destination_set: str | None = None,
    source_ports: int | str | None = None,
    icmp_type: int | None = None,
    version: IPVersion = 4,
    enabled: bool = True,
) -> Rule:
    """A rule; ``ports`` are destination ports, as ``80`` or ``"80:90"``."""
    return Rule(
        id=new_id(),
        action=Action(action),
        enabled=enabled,
        ip_version=version,
        protocol=_PROTOCOLS[protocol],
        source=None if source is None else ip_network(source),
        destination=None if destination is None else ip_network(destination),
        source_set=source_set,
        destination_set=destination_set,
        source_port=_range(source_ports),
        destination_port=_range(ports),
        icmp_type=icmp_type,
    )


def both(action: str, protocol: str | None = None, ports: int | str | None = None, **fields: Any) -> list[Rule]:
    """The same rule for IPv4 and for IPv6."""
    return [rule(action, protocol, ports, version=4, **fields), rule(action, protocol, ports, version=6, **fields)]


def policy(*rules: Rule | list[Rule], id: str | None = None) -> Policy:
    """A policy of ``rules``; the version is given to it when it is enforced."""
    flat: list[Rule] = []
    for item in rules:
        flat += item if isinstance(item, list) else [item]
    return Policy(id=id or new_id(), version=0, rules=tuple(flat))


def address_set(id: str, *members: str | Address) -> AddressSet:
    """An address set; the version is given to it when it is enforced."""
    return AddressSet(id=id, version=0, members=tuple(ip_network(str(member)) for member in members))


def edited(old: Policy, *rules: Rule | list[Rule]) -> Policy:
    """``old`` with other rules."""
    return policy(*rules, id=old.id)


@dataclass(frozen=True)
class Guard:
    """A firewall group and its policies; ``None``: no policy in that direction."""

    ingress: Policy | None = None
    egress: Policy | None = None
    up: bool = True
    stratum: Stratum = Stratum.TENANT
    position: int = 0
    id: str = field(default_factory=new_id)

    def group(self) -> Group:
        return Group(
            id=self.id,
            stratum=self.stratum,
            position=self.position,
            admin_state_up=self.up,
            ingress_policy_id=None if self.ingress is None else self.ingress.id,
            egress_policy_id=None if self.egress is None else self.egress.id,
        )


#: What protects a port: a group, or groups of several strata.
Guards = Guard | tuple[Guard, ...]

ALLOW_ALL = policy(both("allow"))


def guarded_ports(lab: Lab) -> dict[str, LabPort]:
    """The ports of a lab that packets meet decisions at: those of its virtual machines, else its router's."""
    return lab.ports | lab.vm_ports


def state_of(
    ports: Mapping[str, LabPort], guards: Mapping[str, Guards], old: HostState, sets: Iterable[AddressSet] = ()
) -> HostState:
    """The state after ``old`` in which the port of each network of ``guards`` is protected by its guard, or its guards.

    ``sets`` are those that its rules may name.

    Ports of virtual machines are all part of it, protected or not: a switch has to know them.
    """
    generation = old.generation + 1
    before = {policy.id: policy for policy in old.policies}
    policies: dict[str, Policy] = {}
    of_network = {network: some if isinstance(some, tuple) else (some,) for network, some in guards.items()}
    for guard in (guard for some in of_network.values() for guard in some):
        for item in (guard.ingress, guard.egress):
            if item is not None:
                known = before.get(item.id)
                version = known.version if known is not None and known.rules == item.rules else generation
                policies[item.id] = msgspec.structs.replace(item, version=version)
    known_sets = {set_.id: set_ for set_ in old.sets}
    return HostState(
        generation=generation,
        sets=tuple(
            known
            if (known := known_sets.get(set_.id)) and known.members == set_.members
            else msgspec.structs.replace(set_, version=generation)
            for set_ in sets
        ),
        ports=tuple(
            CoveredPort(port=port.to_model(), groups=tuple(guard.group() for guard in of_network.get(network, ())))
            for network, port in ports.items()
            if network in of_network or port.device_owner == VM
        ),
        admitted=old.admitted,
        policies=tuple(policies.values()),
    )


def packet_of(request: ProbeRequest) -> Packet:
    """The first packet of a probe."""
    version = request.source.version
    if request.protocol is Protocol.ICMP:
        return Packet(
            source=request.source,
            destination=request.destination,
            protocol=ICMP if version == 4 else ICMPV6,
            icmp_type=8 if version == 4 else 128,
            icmp_code=0,
            icmp_id=1,
        )
    return Packet(
        source=request.source,
        destination=request.destination,
        protocol=_PROTOCOLS[request.protocol],
        source_port=request.source_port or 50000,
        destination_port=request.port,
    )


def expected(state: HostState, request: ProbeRequest, sender: LabPort, receiver: LabPort) -> Outcome:
    """What the golden model says of a probe that enters the router by ``sender`` and leaves it by ``receiver``."""
    path = [Crossing(sender.port_id, Direction.EGRESS), Crossing(receiver.port_id, Direction.INGRESS)]
    verdict = Network(state).forward(packet_of(request), path).verdict
    if verdict is Verdict.ALLOW:
        return Outcome.PASSED
    if verdict is Verdict.DENY:
        return Outcome.SILENT
    return Outcome.RESET if request.protocol is Protocol.TCP else Outcome.UNREACHABLE
