"""Agents that start, and namespaces, devices and rules that change behind the agent's back."""

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from packets.builders import ALLOW_ALL, Guard, new_id, state_of
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, epoch, nft, ruleset, udp
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.libnftables import Nft
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome
from portward.model import Binding, CoveredPort, HostState, Port, PortKind, Report

PASSED, SILENT = Outcome.PASSED, Outcome.SILENT
GUARDS = {"blue": Guard(ingress=udp(5001)), "red": Guard(egress=ALLOW_ALL)}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def outcomes(lab: Lab) -> list[Outcome]:
    """Of a packet that the guards allow, and of one that they deny."""
    return [lab.red.probe("udp", lab.blue.address(), port).outcome for port in (5001, 5002)]


def comes_to(dataplane: NftablesDataplane, wanted: HostState, until: Callable[[Report], bool]) -> bool:
    """As an agent does: apply whenever something watched changes. False: nothing that did made ``until`` true."""
    poll = select.poll()
    for watched in dataplane.watched():
        poll.register(watched, select.POLLIN)
    deadline = time.monotonic() + 3
    while poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        if until(dataplane.apply(wanted)):
            return True
    return False


def test_a_restart_takes_over_what_is_there_and_raises_the_epoch_once(lab: Lab, enforce: Enforcer) -> None:
    enforce(**GUARDS)
    enforce(**GUARDS, green=Guard())
    enforce(**GUARDS)
    before, rules = epoch(lab.router_netns), ruleset(lab.router_netns)
    with enforcing(lab) as restarted:
        restarted(**GUARDS)
    assert epoch(lab.router_netns) == before + 1
    assert sorted(_without_epoch(ruleset(lab.router_netns))) == sorted(_without_epoch(rules))


def _without_epoch(text: str) -> list[str]:
    return re.sub(r"epoch/\d+|0x[0-9a-f]{8}", "", text).splitlines()


def test_a_connection_of_before_a_flush_is_judged_by_its_rules_not_by_its_mark(lab: Lab, enforce: Enforcer) -> None:
    """Its mark is the number that the new table begins with."""
    enforce(blue=Guard(ingress=ALLOW_ALL))
    assert epoch(lab.router_netns) == 1
    with lab.red.connect("udp", lab.blue.address(), 5002) as cut:
        nft(lab.router_netns, "flush ruleset")
        enforce(**GUARDS)
        assert epoch(lab.router_netns) == 1
        assert not cut.exchange(0.2)


def test_a_base_chain_of_another_shape_is_replaced(lab: Lab, enforce: Enforcer) -> None:
    nft(lab.router_netns, "add table inet portward")
    nft(lab.router_netns, "add chain inet portward forward { type filter hook input priority 5; policy accept; }")
    enforce(**GUARDS)
    assert outcomes(lab) == [PASSED, SILENT]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"qrouter-{new_id()}"
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False)


def bound(netns: str | None, device: str = "qr-1", *, kind: PortKind = PortKind.ROUTER) -> HostState:
    port = Port(id=new_id(), kind=kind, binding=Binding(netns=netns, device=device))
    return HostState(generation=1, ports=(CoveredPort(port=port, groups=(Guard().group(),)),))


def test_namespaces_and_devices_are_enforced_as_they_come_and_come_back(namespace: str) -> None:
    dataplane = NftablesDataplane()
    wanted = bound(namespace)

    def says(error: str | None) -> bool:
        return comes_to(dataplane, wanted, lambda report: report.ports[0].error == error)

    assert dataplane.apply(wanted).ports[0].error == f"namespace {namespace} does not exist"
    for _ in range(2):
        ip("netns", "add", namespace)
        assert says(f"device qr-1 is not in namespace {namespace}")
        assert '"qr-1" : jump' in nft(namespace, "list table inet portward"), "the device would come up unfiltered"
        ip("-n", namespace, "link", "add", "qr-1", "type", "veth", "peer", "name", "p0")
        assert says(None)
        ip("-n", namespace, "link", "del", "qr-1")
        assert says(f"device qr-1 is not in namespace {namespace}")
        ip("netns", "del", namespace)
        assert says(f"namespace {namespace} does not exist")
    dataplane.close()


def test_a_namespace_that_was_replaced_between_two_looks_is_a_new_one(namespace: str) -> None:
    dataplane = NftablesDataplane()
    for _ in range(3):
        ip("netns", "add", namespace)
        dataplane.apply(bound(namespace))
        assert "qr-1" in nft(namespace, "list table inet portward")
        ip("netns", "del", namespace)
    dataplane.close()


def test_a_namespace_that_fails_leaves_the_others_enforced(lab: Lab, enforce: Enforcer) -> None:
    wanted = enforce(**GUARDS)
    missing = bound("pw-missing").ports
    report = enforce.dataplane.apply(HostState(generation=9, ports=(*missing, *wanted.ports), policies=wanted.policies))
    assert [port.error for port in report.ports] == ["namespace pw-missing does not exist", None, None]
    assert outcomes(lab) == [PASSED, SILENT]


def test_two_ports_that_claim_one_device_are_both_told_and_nothing_passes(lab: Lab, enforce: Enforcer) -> None:
    wanted = enforce(blue=Guard(ingress=ALLOW_ALL, egress=ALLOW_ALL))
    twin = bound(lab.router_netns, lab.port("blue").device).ports
    report = enforce.dataplane.apply(HostState(generation=9, ports=(*wanted.ports, *twin), policies=wanted.policies))
    assert [
        port.error is not None and "2 ports are bound to the same device" in port.error for port in report.ports
    ] == [True] * 2
    assert outcomes(lab) == [SILENT, SILENT]


OWN = """
import sys
from packets.test_nftables_restart import bound
from portward.dataplane.nftables import NftablesDataplane
dataplane = NftablesDataplane(allow_root_namespace=sys.argv[2] == "allowed")
for name in (None, sys.argv[1]):
    print(dataplane.apply(bound(name, "lo")).ports[0].error)
print(dataplane.cleanup())
"""


def own_namespace(netns: str, allowed: str) -> list[str]:
    """What an agent says whose own namespace is ``netns``, so that the tests' own is out of reach."""
    command = [sys.executable, "-c", OWN, netns, allowed]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return in_namespace(
        netns, lambda: subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ).stdout.splitlines()


def test_the_agents_own_namespace_is_refused_by_any_name(namespace: str) -> None:
    ip("netns", "add", namespace)
    *errors, cleaned = own_namespace(namespace, "refused")
    assert ["allow_root_namespace" in error for error in errors] == [True, True]
    assert "portward" not in nft(namespace, "list ruleset")
    assert cleaned == "()"


def test_the_own_namespace_is_enforced_when_that_is_allowed(namespace: str) -> None:
    ip("netns", "add", namespace)
    *errors, cleaned = own_namespace(namespace, "allowed")
    assert errors == ["None", "None"]
    assert "the agent's own namespace" in cleaned
    assert "portward" not in nft(namespace, "list ruleset")


@pytest.mark.parametrize("kind", [PortKind.VM, PortKind.DISTRIBUTED_ROUTER])
def test_a_port_that_is_none_of_this_driver_says_so(kind: PortKind) -> None:
    dataplane = NftablesDataplane()
    (port,) = dataplane.apply(bound("pw-missing", kind=kind)).ports
    assert port.error is not None
    assert "not enforced" in port.error
    dataplane.close()


def test_a_refusal_of_the_kernel_is_reported_and_enforced_once_it_is_over(lab: Lab, enforce: Enforcer) -> None:
    """A table that another process owns can be changed by no one else."""
    owner = in_namespace(lab.router_netns, Nft)
    owner.run("add table inet portward { flags owner; }\n")
    wanted = state_of(lab.ports, GUARDS, HostState(generation=0))
    for report in (enforce.dataplane.apply(wanted), enforce.dataplane.apply(wanted)):
        assert ["Operation not permitted" in (port.error or "") for port in report.ports] == [True, True]
    assert not select.select(enforce.dataplane.watched(), [], [], 0)[0], "the agent would try without a pause"
    owner.close()
    assert [port.error for port in enforce.dataplane.apply(wanted).ports] == [None, None]
    assert outcomes(lab) == [PASSED, SILENT]


def test_an_older_ruleset_put_back_revives_no_connection_that_was_denied_since(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard(ingress=udp(5001)))
    saved = nft(lab.router_netns, "list ruleset")
    enforce(blue=Guard(ingress=udp(5001, 5002)))
    with lab.red.connect("udp", lab.blue.address(), 5002) as old:
        assert old.exchange()
        enforce(blue=Guard(ingress=udp(5001)))
        assert not old.exchange(timeout=0.2)
        restore = ["ip", "netns", "exec", lab.router_netns, "nft", "-f", "-"]
        subprocess.run(restore, input=f"flush ruleset\n{saved}", text=True, check=True)
        for _ in range(3):  # whatever number the repair begins with, the connection's own comes round
            enforce.dataplane.apply(enforce.state)
            assert not old.exchange(timeout=0.2)
            enforce(blue=Guard(ingress=udp(5001, 5003)))
            assert not old.exchange(timeout=0.2)
            enforce(blue=Guard(ingress=udp(5001)))


class Killed(BaseException):
    """Stands for kill -9 at a step."""


def test_killed_before_the_marks_of_an_earlier_life_are_cleared_the_next_agent_clears_them(lab: Lab) -> None:
    def die(step: Step) -> None:
        if step is Step.SWITCHED:
            raise Killed

    allowed, denied = Guard(ingress=udp(5001, 5002)), Guard(ingress=udp(5001))
    with enforcing(lab) as agent:
        agent(blue=denied)
        agent(blue=Guard(ingress=udp(5002)))
        state = agent(blue=allowed)
    with lab.red.connect("udp", lab.blue.address(), 5002) as old:
        assert old.exchange()
        nft(lab.router_netns, "flush chain inet portward forward")
        dying = NftablesDataplane(on_step=die)
        with pytest.raises(Killed):
            dying.apply(state)
        dying.close()
        with enforcing(lab) as agent:
            agent(blue=allowed)
            for _ in range(3):
                agent(blue=denied)
                assert not old.exchange(timeout=0.2)
                agent(blue=Guard(ingress=udp(5001, 5003)))
                assert not old.exchange(timeout=0.2)


def test_a_device_in_a_bridge_is_never_called_enforced(lab: Lab, enforce: Enforcer) -> None:
    device = lab.port("blue").device
    ip("-n", lab.router_netns, "link", "add", "pw-bridge", "type", "bridge")
    ip("-n", lab.router_netns, "link", "set", device, "master", "pw-bridge")
    enforce.state = state_of(lab.ports, {"blue": Guard()}, enforce.state)
    (report,) = enforce.dataplane.apply(enforce.state).ports
    assert "part of a bridge" in (report.error or "")
