"""Daemons of the switch die, flows vanish, interfaces come and go: nothing leaks, and all heals without being told."""

import signal
import time
from collections.abc import Iterator

import pytest

from packets.builders import ALLOW_ALL, Guard, both, policy, state_of
from packets.enforcer import Enforcer
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.lab import Count, Lab, Outcome, Place, Stream
from portward.lab.switch import Switch

pytestmark = pytest.mark.parametrize("kind", ["vm"])

ALLOWED, DENIED = 9001, 9002
RATE = 500
GUARD = Guard(ingress=policy(both("allow", "udp", ALLOWED)), egress=ALLOW_ALL)
DAEMONS = {"the switch": ("ovs-vswitchd",), "its database": ("ovsdb-server",), "both": ("ovs-vswitchd", "ovsdb-server")}
START = {"ovs-vswitchd": Switch.start_vswitchd, "ovsdb-server": Switch.start_database}


@pytest.fixture
def stream(lab: Lab, enforce: Enforcer) -> Iterator[Stream]:
    """Packets from red to blue that are allowed, and that are denied, all the time."""
    enforce(blue=GUARD)
    flows = [lab.red.flow(lab.blue.address(version), port) for port in (ALLOWED, DENIED) for version in (4, 6)]
    with lab.red.stream(flows, rate=RATE) as running:
        passes_again(running)
        yield running


def passes_again(stream: Stream) -> None:
    """Wait until more packets of the allowed flows arrive."""
    before, deadline = received(stream.counts()), time.monotonic() + 10
    while received(stream.counts()) < before + 20:
        assert time.monotonic() < deadline, "what is allowed does not pass"
        time.sleep(0.01)


def received(counts: list[Count]) -> int:
    return sum(count.received for count in counts[:2])


def leaked(stream: Stream) -> int:
    return sum(count.received for count in stream.stop()[2:])


@pytest.mark.parametrize("dies", DAEMONS)
def test_daemons_that_are_killed_leak_nothing_and_what_is_allowed_passes_again_when_they_are_back(
    lab: Lab, enforce: Enforcer, stream: Stream, dies: str
) -> None:
    for daemon in DAEMONS[dies]:
        lab.switch.kill(daemon)
    enforce.dataplane.apply(enforce.state)  # whatever it says now
    for daemon in reversed(DAEMONS[dies]):
        START[daemon](lab.switch)
    enforce.heals_soon()
    passes_again(stream)
    assert leaked(stream) == 0


def test_a_switch_that_does_nothing_is_an_error_and_heals(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=GUARD)
    vswitchd = lab.switch.children["ovs-vswitchd"]
    vswitchd.send_signal(signal.SIGSTOP)
    try:
        enforce.state = state_of(enforce.ports, {"blue": Guard(ingress=policy(both("deny")))}, enforce.state)
        assert len(enforce.errors_soon()) == len(enforce.ports) - 1  # the gateway is not among them
    finally:
        vswitchd.send_signal(signal.SIGCONT)
    enforce.heals_soon()
    assert lab.red.probe("udp", lab.blue.address(), ALLOWED).outcome is Outcome.SILENT


@pytest.mark.parametrize("flow", ["table=157,priority=65534,actions=NORMAL", "table=0,priority=65535,actions=NORMAL"])
def test_flows_of_others_that_go_around_us_are_an_error_until_they_are_gone(
    lab: Lab, enforce: Enforcer, flow: str
) -> None:
    enforce(blue=GUARD)
    lab.switch.ofctl("add-flow", "br-int", flow)
    assert enforce.errors_soon()
    lab.switch.ofctl("--strict", "del-flows", "br-int", flow.partition(",actions")[0])
    enforce.heals_soon()


def test_a_dataplane_that_dies_leaks_nothing_and_the_next_one_goes_on(
    lab: Lab, enforce: Enforcer, stream: Stream
) -> None:
    enforce.dataplane.close()
    enforce.dataplane = OpenvswitchDataplane(run_dir=lab.switch.run_dir, netns=lab.switch.netns)
    before = flows_of_rules(lab)
    enforce.heals_soon()
    assert flows_of_rules(lab) >= before, "what stood is as it should be, and was made anew"
    passes_again(stream)
    assert leaked(stream) == 0


def flows_of_rules(lab: Lab) -> int:
    """The packets that the rules of policies have counted, which those made anew would not know of."""
    listed = lab.switch.ofctl("dump-flows", "br-int", "table=157")
    return sum(int(part[10:-1]) for part in listed.split() if part.startswith("n_packets="))


def test_a_machine_that_nobody_knows_sends_nothing_and_gets_nothing(lab: Lab, enforce: Enforcer) -> None:
    """Plugged before an agent knows it, or while none runs."""
    blue = enforce.ports["blue"]
    lab.switch.unplug(blue)
    enforce.errors_soon()
    lab.switch.plug([blue])  # and nobody tells the dataplane
    arrived = lab.blue.count(Place.ARRIVED, "meta pkttype { host, broadcast, multicast }")
    assert lab.red.probe("udp", lab.blue.address(), ALLOWED).outcome is Outcome.SILENT
    assert lab.blue.probe("icmp", lab.red.address()).outcome is Outcome.SILENT
    assert sum(arrived.packets().values()) == 0
    arrived.remove()
    enforce.heals_soon()
    assert lab.red.probe("udp", lab.blue.address(), ALLOWED).outcome is Outcome.PASSED


def test_two_interfaces_of_one_port_are_both_left_without_and_the_rest_is_enforced(lab: Lab, enforce: Enforcer) -> None:
    red, blue = enforce.ports["red"], enforce.ports["blue"]
    lab.switch.vsctl("set", "interface", red.device, f"external_ids:iface-id={blue.port_id}")
    assert set(enforce.errors_soon()) == {red.port_id, blue.port_id}
    assert lab.green.probe("icmp", lab.blue.address()).outcome is Outcome.SILENT
    assert lab.green.probe("icmp", lab.outside.address()).outcome is Outcome.PASSED
    lab.switch.vsctl("set", "interface", red.device, f"external_ids:iface-id={red.port_id}")
    enforce.heals_soon()
    assert lab.green.probe("icmp", lab.blue.address()).outcome is Outcome.PASSED


@pytest.mark.parametrize("iface_id", ["no uuid at all", "00000000-0000-0000-0000-000000000001", "'; drop"])
def test_an_interface_with_a_strange_id_passes_nothing_and_disturbs_nobody(
    lab: Lab, enforce: Enforcer, iface_id: str
) -> None:
    red = enforce.ports["red"]
    lab.switch.vsctl("set", "interface", red.device, f'external_ids:iface-id="{iface_id}"')
    assert enforce.errors_soon() == [red.port_id]
    assert lab.red.probe("icmp", lab.blue.address()).outcome is Outcome.SILENT
    assert lab.green.probe("icmp", lab.blue.address()).outcome is Outcome.PASSED


def test_a_bridge_that_would_open_when_its_switch_restarts_is_an_error_with_its_remedy(
    lab: Lab, enforce: Enforcer
) -> None:
    lab.switch.vsctl("set-fail-mode", "br-int", "standalone")
    enforce.errors_soon()
    errors = {port.error for port in enforce.dataplane.apply(enforce.state).ports}
    assert all(error is not None and "set-fail-mode br-int secure" in error for error in errors)
    lab.switch.vsctl("set-fail-mode", "br-int", "secure")
    enforce.heals_soon()


def test_a_zone_is_empty_when_another_port_gets_it(lab: Lab, enforce: Enforcer) -> None:
    red, green = enforce.ports["red"], enforce.ports["green"]
    zone = kept_zone(lab, red.device)[0]
    assert lab.red.probe("tcp", lab.blue.address(), 80).outcome is Outcome.PASSED
    assert lab.switch.appctl("dpctl/dump-conntrack", f"zone={zone}")
    lab.switch.unplug(green)
    lab.switch.vsctl("set", "interface", red.device, f"external_ids:iface-id={green.port_id}")
    enforce.dataplane.close()  # nobody remembers what the database does not say
    enforce.dataplane = OpenvswitchDataplane(run_dir=lab.switch.run_dir, netns=lab.switch.netns)
    assert enforce.errors_soon() == [red.port_id]
    again, owner = kept_zone(lab, red.device)
    assert owner == green.port_id
    assert not lab.switch.appctl("dpctl/dump-conntrack", f"zone={again}")


def kept_zone(lab: Lab, device: str) -> tuple[str, str]:
    """The zone of an interface's port, and the port that it is."""
    zone, owner = lab.switch.vsctl("get", "interface", device, "external_ids:portward-zone").strip('"\n').split()
    return zone, owner
