"""Two rounds of the revalidators of a real switch: what its cache holds afterwards, and how long they take."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from packets.bare_switch import BareSwitch, bare_switch, until
from packets.nudge import Flows
from portward.dataplane.netns import in_namespace
from portward.dataplane.openvswitch.vswitchd import Vswitchd, VswitchdError

BRIDGE = ("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
IPV4 = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))


@pytest.fixture
def switch() -> Iterator[BareSwitch]:
    with bare_switch() as made:
        made.vsctl(*BRIDGE)
        yield made


@pytest.fixture
def vswitchd(switch: BareSwitch) -> Iterator[Vswitchd]:
    found = Vswitchd(switch.run_dir)
    yield found
    found.close()


@pytest.fixture
def flows(switch: BareSwitch) -> Iterator[Flows]:
    with Flows(switch.run_dir / "br-int.mgmt") as found:
        yield found


def wait(vswitchd: Vswitchd, flows: Flows, *, rounds: int = 2) -> float:
    """How long it took, in seconds."""
    began = time.monotonic()
    vswitchd.wait_for_revalidators(rounds, lambda: flows.drop(173))
    return time.monotonic() - began


def cache_flows(switch: BareSwitch, count: int) -> None:
    """Have the switch cache ``count`` flows that output to vmb, one a source port."""
    switch.ip("link add vma type veth peer name vmax", "link add vmb type veth peer name vmbx")
    switch.ip(*(f"link set {name} up" for name in ("vma", "vmax", "vmb", "vmbx")))
    switch.vsctl("add-port", "br-int", "vma", "--", "add-port", "br-int", "vmb", "--",
                 "set", "interface", "vma", "ofport_request=1", "--",
                 "set", "interface", "vmb", "ofport_request=2")  # fmt: skip
    switch.ofctl("add-flow", "br-int", "udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],resubmit(,1)")
    switch.ofctl("add-flow", "br-int", "table=1,reg0=1,actions=drop")
    switch.ofctl("add-flow", "br-int", "table=1,priority=0,actions=output:2")
    ethernet = bytes.fromhex("0200000000020200000000010800") + IPV4
    with in_namespace(switch.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind(("vmax", 0))
        for port in range(1000, 1000 + count):
            sender.send(ethernet + struct.pack("!HHHH", port, 2000, 8, 0) + bytes(18))
            if port % 50 == 0:
                time.sleep(0.003)  # no faster than the switch takes them
    until(lambda: cached(switch) > 0.9 * count)


def cached(switch: BareSwitch) -> int:
    """How many flows the switch has cached that let packets pass."""
    dump = switch.control("dpctl/dump-flows", "netdev@ovs-netdev").splitlines()
    return sum("udp(src=" in line and "actions:drop" not in line for line in dump)


def test_no_cached_flow_outlives_the_change_that_the_wait_follows(
    switch: BareSwitch, flows: Flows, vswitchd: Vswitchd
) -> None:
    cache_flows(switch, 8000)
    flows.drop(0, priority=60_000)
    flows.barrier()
    wait(vswitchd, flows)
    assert cached(switch) == 0


def test_rounds_are_begun_and_not_waited_for(flows: Flows, vswitchd: Vswitchd) -> None:
    flows.barrier()
    times = sorted(wait(vswitchd, flows) for _ in range(9))
    assert times[4] < 0.1  # a round begins every 500 ms of its own


def test_more_rounds_take_longer(flows: Flows, vswitchd: Vswitchd) -> None:
    flows.barrier()
    assert wait(vswitchd, flows, rounds=20) > 0.09  # the switch begins one every 5 ms at most


def test_without_a_change_of_flows_the_rounds_come_by_themselves(vswitchd: Vswitchd) -> None:
    began = time.monotonic()
    vswitchd.wait_for_revalidators(2, lambda: None)
    assert 0.5 < time.monotonic() - began < 3


def test_a_switch_that_was_started_anew_is_asked_as_well(switch: BareSwitch, vswitchd: Vswitchd) -> None:
    with Flows(switch.run_dir / "br-int.mgmt") as flows:
        wait(vswitchd, flows)
    switch.kill_vswitchd()
    with pytest.raises(VswitchdError, match="is it up"):
        vswitchd.wait_for_revalidators(2, lambda: None)
    # A process of the fixture's would be taken for one that the test leaves behind.
    with bare_switch() as other:
        other.vsctl(*BRIDGE)
        found = Vswitchd(other.run_dir)
        with Flows(other.run_dir / "br-int.mgmt") as flows:
            assert wait(found, flows) < 3
        found.close()


def test_a_switch_that_dies_meanwhile_is_told(switch: BareSwitch, vswitchd: Vswitchd) -> None:
    with pytest.raises(VswitchdError, match="ended"):
        vswitchd.wait_for_revalidators(2, switch.kill_vswitchd)


def test_a_switch_that_hangs_is_told_in_five_seconds(switch: BareSwitch, vswitchd: Vswitchd) -> None:
    with switch.stopped_vswitchd():
        began = time.monotonic()
        with pytest.raises(VswitchdError, match="5 s"):
            vswitchd.wait_for_revalidators(2, lambda: None)
        assert 4.9 < time.monotonic() - began < 7


@pytest.mark.parametrize("text", ["", "x", "../../etc/passwd", "-1"])
def test_a_bad_pid_file_is_told(switch: BareSwitch, vswitchd: Vswitchd, text: str) -> None:
    (switch.run_dir / "ovs-vswitchd.pid").write_text(text)
    with pytest.raises(VswitchdError, match="pidfile"):
        vswitchd.wait_for_revalidators(2, lambda: None)
