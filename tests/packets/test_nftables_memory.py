"""What an agent holds for each namespace does not grow with what stands there."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from packets.builders import new_id, policy, rule
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.model import Binding, CoveredPort, Group, HostState, Port, PortKind

NAMESPACES = [f"pw-memory-{number}" for number in range(30)]
#: Of them, after which the process has what it needs once.
FIRST = 10


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    """Namespaces without devices."""
    try:
        ip("netns add", NAMESPACES)
        yield NAMESPACES
    finally:
        ip("netns delete", NAMESPACES)


def ip(command: str, names: list[str]) -> None:
    lines = "".join(f"{command} {name}\n" for name in names)
    subprocess.run(["ip", "-force", "-batch", "-"], input=lines, text=True, check=True)


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def test_a_namespace_costs_an_agent_less_than_half_a_mebibyte(namespaces: list[str]) -> None:
    rules = policy([rule("allow", "tcp", number, source=f"10.0.{number}.0/24") for number in range(200)])
    group = Group(id=new_id(), ingress_policy_id=rules.id, egress_policy_id=rules.id)
    ports = [
        CoveredPort(
            port=Port(id=new_id(), kind=PortKind.ROUTER, binding=Binding(netns=name, device="qr-1")), groups=(group,)
        )
        for name in namespaces
    ]
    with closing(NftablesDataplane()) as dataplane:
        dataplane.apply(HostState(generation=1, ports=tuple(ports[:FIRST]), policies=(rules,)))
        before = resident()
        dataplane.apply(HostState(generation=2, ports=tuple(ports), policies=(rules,)))
        assert resident() - before < 0.5 * (len(ports) - FIRST)
