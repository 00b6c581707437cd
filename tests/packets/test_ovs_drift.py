"""What others change on the bridge is noticed by an agent that sleeps until it is woken, however it comes to know."""

import select
import time
from collections.abc import Iterator

import pytest

from fake_switch.wire import encode
from packets.bare_switch import until
from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.machines import Machine, Machines, machines_on_a_bridge
from portward.dataplane.openvswitch import openflow
from portward.dataplane.openvswitch.bridge import Step
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane

RED, BLUE, ROUTER = Machine("red", 11), Machine("blue", 12), Machine("router", 1)
PORT, DENIED = 9001, 9002
GUARD = Guard(ingress=policy(both("deny", "udp", DENIED), both("allow")), egress=ALLOW_ALL)
_QUIET = 0.3


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(ROUTER)
        made.add(RED, BLUE)
        made.plug(RED, BLUE)
        made.enforce({RED: GUARD, BLUE: GUARD})
        yield made


@pytest.fixture(autouse=True)
def asleep(lab: Machines) -> None:
    """Nothing is to be done."""
    wake(lab)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that does nothing is given up soon."""
    monkeypatch.setattr(openflow, "_PATIENCE", 0.3)


def wake(lab: Machines) -> set[str]:
    """Be an agent whom nothing but the dataplane wakes: the errors of the last report, once it is quiet."""
    errors: set[str] = set()
    while select.select(list(lab.dataplane.watched()), [], [], _QUIET)[0]:
        errors = {port.error for port in lab.dataplane.apply(lab.state).ports if port.error}
    return errors


def denials(lab: Machines) -> list[str]:
    """The matches of the flows that deny, as ovs-ofctl takes them."""
    listed = lab.ofctl("--no-stats", "dump-flows", "br-int", "table=157").splitlines()
    found = [line.partition(", ")[2].partition(" actions=") for line in listed if f"ct_tp_dst={DENIED}" in line]
    return [match.replace("send_flow_rem ", "").replace(" ", "") for match, _, actions in found if actions == "drop"]


def turns(lab: Machines, seconds: float = 0.5) -> int:
    """How often an agent has something to do in that time, whom nothing but the dataplane wakes."""
    count, deadline = 0, time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select(list(lab.dataplane.watched()), [], [], left)[0]:
            lab.dataplane.apply(lab.state)
            count += 1
    return count


@pytest.mark.parametrize("guarded", [True, False], ids=["machines", "no machine"])
def test_an_agent_sleeps_whatever_others_do_and_whichever_daemon_is_gone(guarded: bool) -> None:
    machine = Machine("alone", 11)
    with machines_on_a_bridge() as lab:
        if guarded:
            lab.add(machine)
            lab.plug(machine)
            lab.enforce({machine: GUARD})
        changes = [
            lambda: lab.ofctl("add-flow", "br-int", "table=60,priority=5,actions=drop"),
            lab.kill_vswitchd,
            lab.kill_database,
            lab.start_database,
            lab.start_vswitchd,
        ]
        for change in changes:
            change()
            assert turns(lab) < 20
        assert wake(lab) == set()


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
def test_a_flow_of_ours_in_whose_place_another_came_and_went_is_back(lab: Machines, noticed: bool) -> None:
    """It has the cookie of the other, and so has what the switch tells of its end."""
    matches = denials(lab)
    assert len(matches) == 2
    for match in matches:
        lab.ofctl("add-flow", "br-int", f"{match},actions=drop")
    if noticed:
        wake(lab)
    for match in matches:
        lab.ofctl("--strict", "del-flows", "br-int", match)
    assert wake(lab) == set()
    assert denials(lab) == matches
    assert lab.send(BLUE, BLUE.udp(RED, DENIED), BLUE.udp(RED, DENIED, 6)) == {}


def test_flows_that_go_around_ours_are_told_though_nothing_comes_after_them(lab: Machines) -> None:
    lab.ofctl("add-flow", "br-int", "table=0,priority=65535,actions=drop")
    assert any("another program has flows in table 0" in error for error in wake(lab))
    lab.ofctl("--strict", "del-flows", "br-int", "table=0,priority=65535")
    assert wake(lab) == set()


@pytest.mark.parametrize("where", ["set-controller br-int", "set-manager"])
def test_a_bridge_that_is_controlled_in_band_is_an_error_with_its_remedy(lab: Machines, where: str) -> None:
    """The switch then has flows that nobody sees, and that a machine may use."""
    lab.ip("addr add 10.0.0.77/24 dev br-int", "link set br-int up")
    hidden = f"nw_dst={ROUTER.address()},"
    try:
        lab.vsctl(*where.split(), f"tcp:{ROUTER.address()}:6653")
        (error,) = wake(lab)
        until(lambda: hidden in lab.appctl("bridge/dump-flows", "br-int"))
        remedy = error.partition(": ovs-vsctl ")[2]
        lab.vsctl(*remedy.split())
        assert wake(lab) == set()
        assert hidden not in lab.appctl("bridge/dump-flows", "br-int")
    finally:
        lab.vsctl(*where.replace("set-", "del-").split(), "--", "clear", "bridge", "br-int", "other_config")
        lab.ip("link set br-int down", "addr del 10.0.0.77/24 dev br-int")
    wake(lab)


def test_flows_that_vanish_as_counters_are_read_are_put_back(lab: Machines) -> None:
    matches = denials(lab)
    assert matches
    lab.ofctl("del-flows", "br-int", "table=157")
    lab.dataplane.counters()
    assert wake(lab) == set()
    assert denials(lab) == matches


@pytest.mark.usefixtures("impatient")
def test_what_is_no_more_to_be_enforced_is_tried_again_while_the_switch_does_nothing(lab: Machines) -> None:
    guarded, none = lab.state, lab.state_of({})
    lab.enforce({RED: Guard(), BLUE: Guard()})  # no rules, whose counts would be asked for first
    with lab.stopped_vswitchd():
        for _ in range(2):
            assert lab.dataplane.apply(none).ports == ()
            assert lab.dataplane.unfinished()
    lab.dataplane.apply(none)
    assert not lab.dataplane.unfinished()
    assert lab.send(ROUTER, ROUTER.udp(RED, PORT)) == {}
    lab.state = guarded
    lab.realise()


@pytest.mark.parametrize("when", list(Step))
def test_a_machine_that_goes_to_another_network_during_a_change_is_there_after_it(lab: Machines, when: Step) -> None:
    def move(step: Step) -> None:
        if step is when:
            lab.vsctl("set", "port", RED.device, "tag=7")

    lab.dataplane.close()
    lab.dataplane = OpenvswitchDataplane(run_dir=lab.run_dir, netns=lab.netns, on_step=move)
    assert lab.enforce({RED: GUARD, BLUE: GUARD})
    wake(lab)
    assert RED.name not in lab.send(BLUE, BLUE.udp(RED, PORT), BLUE.udp(RED, PORT, 6))
    lab.restart_dataplane()
    lab.vsctl("set", "port", RED.device, f"tag={RED.network}")
    lab.enforce({RED: GUARD, BLUE: GUARD})
    assert lab.send(BLUE, BLUE.udp(RED, PORT)).keys() == {RED.name}


@pytest.mark.usefixtures("impatient")
def test_a_switch_that_is_lost_as_counters_are_read_is_followed_again(lab: Machines) -> None:
    matches = denials(lab)
    assert matches
    with lab.stopped_vswitchd():
        assert lab.dataplane.counters() == ()
    wake(lab)
    lab.ofctl("del-flows", "br-int", "table=157")
    assert wake(lab) == set()
    assert denials(lab) == matches


def test_a_port_that_comes_back_before_it_was_seen_gone_keeps_its_connections_over_a_restart(lab: Machines) -> None:
    lab.send(ROUTER, ROUTER.arp(RED))  # the bridge learns where the router is
    opened = ROUTER.udp(RED, PORT, source_port=44000)
    assert lab.send(ROUTER, opened) == {RED.name: [encode(opened)]}
    ids = f"external_ids:iface-id={RED.id}"
    again = ("add-port", "br-int", RED.device, f"tag={RED.network}", "--", "set", "interface", RED.device, ids)
    lab.vsctl("del-port", "br-int", RED.device, "--", *again)
    wake(lab)
    lab.restart_dataplane()
    lab.enforce({RED: Guard(ingress=GUARD.ingress), BLUE: GUARD})  # what it says itself is denied from now on
    assert lab.send(RED, opened.reply()) == {ROUTER.name: [encode(opened.reply())]}
    lab.enforce({RED: GUARD, BLUE: GUARD})
