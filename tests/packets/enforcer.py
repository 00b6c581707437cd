"""A hand on the dataplane for packet tests, and the comparison of what packets do with the golden model.

One for both kinds of port: what the lab has between its hosts says which dataplane that is.
"""

import itertools
import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from packets.builders import Guards, expected, guarded_ports, state_of
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.dataplane.protocol import Dataplane
from portward.lab import Lab, ProbeRequest, probe_all
from portward.model import AddressSet, HostState

#: The kinds of ports that one suite is for.
KINDS = ("router", "vm")
_PATIENCE = 10.0


class Enforcer:
    """Tells the dataplane what to enforce in the lab, and compares what packets do with the golden model."""

    def __init__(self, lab: Lab, **options: Any) -> None:
        self.lab = lab
        self.dataplane = dataplane_of(lab, **options)
        self.ports = guarded_ports(lab)
        self.state = HostState(generation=0, admitted=tuple(port.port_id for port in lab.state.plugged_ports))

    def close(self) -> None:
        """End it; what stands outside the lab's own namespaces goes with it."""
        if self.lab.state.switch is not None:
            self.dataplane.cleanup()
        self.dataplane.close()

    def __call__(self, *, sets: Iterable[AddressSet] = (), **guards: Guards) -> HostState:
        """Protect the port of each network named with its guard, all others with none; rules may name ``sets``."""
        self.state = state_of(self.ports, guards, self.state, sets)
        report = self.dataplane.apply(self.state)
        assert report.generation == self.state.generation
        assert [port for port in report.ports if port.error] == []
        assert {port.port_id for port in report.ports} == {covered.port.id for covered in self.state.ports}
        return self.state

    def restart(self) -> None:
        """Another dataplane takes over, as when the agent is started again; nobody tells it anything yet."""
        self.dataplane.close()
        self.dataplane = dataplane_of(self.lab)

    def comes_to(self, holds: Callable[[], bool]) -> None:
        """``holds`` comes true while an agent applies what it did before, whenever something watched changes."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            assert select.select(list(self.dataplane.watched()), [], [], max(deadline - time.monotonic(), 0))[0], (
                "nothing is noticed"
            )
            self.dataplane.apply(self.state)

    def errors_soon(self) -> list[str]:
        """The ids of ports in error, as soon as the dataplane notices that the host changed and finds some."""
        return self._soon(bool, "nothing is in error")

    def heals_soon(self) -> None:
        """No port is in error any more, as soon as the dataplane notices that the host changed."""
        self._soon(lambda failed: not failed, "ports stay in error")

    def _soon(self, holds: Callable[[list[str]], bool], otherwise: str) -> list[str]:
        deadline = time.monotonic() + _PATIENCE
        while True:
            report = self.dataplane.apply(self.state)
            failed = [port.port_id for port in report.ports if port.error]
            if holds(failed):
                return failed
            reasons = {port.error for port in report.ports}
            assert time.monotonic() < deadline, f"{otherwise}: {reasons}"
            select.select(list(self.dataplane.watched()), [], [], 1.0)  # an agent tries again after a second, too

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
            wanted = expected(self.state, probe.request, self.ports[sender], self.ports[receiver])
            if probe.outcome is not wanted:
                wrong.append(f"{sender} -> {receiver} {probe.request}: {probe.outcome}, expected {wanted}")
        assert wrong == []


def dataplane_of(lab: Lab, **options: Any) -> Dataplane:
    """The dataplane of the lab's ports, with ``options``: of its VMs if it has a switch, else its router's."""
    if lab.state.switch is None:
        return NftablesDataplane(**options)
    return OpenvswitchDataplane(run_dir=lab.switch.run_dir, netns=lab.switch.netns, **options)
