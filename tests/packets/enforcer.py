"""A hand on the dataplane for packet tests, and the comparison of what packets do with the golden model."""

import itertools

from packets.builders import Guard, expected, state_of
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.lab import Lab, ProbeRequest, probe_all
from portward.model import HostState


class Enforcer:
    """Tells the dataplane what to enforce on the lab's router, and compares what packets do with the golden model."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.dataplane = NftablesDataplane()
        self.state = HostState(generation=0)

    def __call__(self, **guards: Guard) -> HostState:
        """Protect the router's port to each network named with its guard, all others with none."""
        self.state = state_of(self.lab.ports, guards, self.state)
        report = self.dataplane.apply(self.state)
        assert report.generation == self.state.generation
        assert [port for port in report.ports if port.error] == []
        assert {port.port_id for port in report.ports} == {covered.port.id for covered in self.state.ports}
        return self.state

    def requests(self, ports: list[int], protocols: tuple[str, ...] = ("tcp", "udp")) -> list[ProbeRequest]:
        """Probes between every two hosts, IPv4 and IPv6, to each of ``ports``, and an echo request."""
        return [
            one.request(protocol, other.address(version), port)
            for one, other in itertools.permutations(self.lab.hosts.values(), 2)
            for version in (4, 6)
            for protocol, port in [(p, n) for p in protocols for n in ports] + [("icmp", None)]
        ]

    def check(self, requests: list[ProbeRequest]) -> None:
        """Every probe ends as the golden model says."""
        by_address = {address: host.name for host in self.lab.hosts.values() for address in host.addresses}
        wrong = []
        for probe in probe_all(requests):
            sender, receiver = (by_address[a] for a in (probe.request.source, probe.request.destination))
            wanted = expected(self.state, probe.request, self.lab.ports[sender], self.lab.ports[receiver])
            if probe.outcome is not wanted:
                wrong.append(f"{sender} -> {receiver} {probe.request}: {probe.outcome}, expected {wanted}")
        assert wrong == []
