"""Machines that are plugged in: none gets or sends a packet that its group denies, from the first one on."""

import select
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from fake_switch import Frame
from fake_switch.wire import encode
from packets.builders import Guard, both, policy
from packets.machines import BROADCAST, Machine, Machines, machines_on_a_bridge

#: What a default group is.
DEFAULT = Guard(ingress=policy(both("deny")), egress=policy(both("allow")))
COUNT, AT_ONCE, WITHIN = 30, 6, 2.0
PORT = 9001
NOBODY = "fa:16:3e:ff:ff:ff"
PATIENCE = 10.0
ROUTER = Machine("router", 1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(ROUTER)
        yield made


def flood(machine: Machine) -> list[Frame]:
    """Packets for a machine that its group denies, whatever the frame says of whom they are for."""
    frames = [ROUTER.udp(machine, PORT, version) for version in (4, 6)]
    return [frame.with_(eth_dst=mac) for frame in frames for mac in (machine.mac, BROADCAST, NOBODY)]


def from_it(machine: Machine) -> list[Frame]:
    """What a machine with a default group may send."""
    solicitation = machine.icmpv6(ROUTER, 135, eth_dst="33:33:ff:00:00:01")
    discovery = machine.udp(ROUTER, 67, eth_dst=BROADCAST, source_port=68)
    return [machine.udp(ROUTER, PORT), machine.udp(ROUTER, PORT, 6), machine.arp(ROUTER), solicitation, discovery]


def to_it(machine: Machine) -> list[Frame]:
    """What it may get that it never asked for: base traffic."""
    return [
        ROUTER.arp(machine),
        ROUTER.icmpv6(machine, 135),
        ROUTER.icmpv6(machine, 136),
        ROUTER.udp(machine, 68, source_port=67),
    ]


def is_protected_and_connected(lab: Machines, machine: Machine) -> bool:
    got = lab.send(ROUTER, *flood(machine), *to_it(machine)).get(machine.name, [])
    sent = lab.send(machine, *from_it(machine)).get(ROUTER.name, [])
    wanted = [sorted(map(encode, frames)) for frames in (to_it(machine), from_it(machine))]
    return [_anonymous(got), _anonymous(sent)] == [_anonymous(it) for it in wanted]


def _anonymous(frames: list[bytes]) -> list[bytes]:
    """Without what tells the packets of one kind apart: the identification and the checksum of IPv4."""
    return sorted(it[:18] + it[20:24] + it[26:] if it[12:14] == b"\x08\x00" else it for it in frames)


class Agent(threading.Thread):
    """Applies the state of a lab whenever the host changes, as an agent does, and notes since when ports are there."""

    def __init__(self, lab: Machines) -> None:
        super().__init__()
        self._lab = lab
        self._ends = threading.Event()
        self.realised: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    def run(self) -> None:
        while not self._ends.is_set():
            report = self._lab.dataplane.apply(self._lab.state)
            for port in report.ports:
                if port.error is None:
                    self.realised.setdefault(port.port_id, time.monotonic())
            select.select(list(self._lab.dataplane.watched()), [], [], 0.02)


class Traffic(threading.Thread):
    """Floods machines, and has each that is plugged ask the router until it is answered."""

    def __init__(self, lab: Machines, machines: list[Machine]) -> None:
        super().__init__()
        self._lab, self._machines = lab, machines
        self._ends = threading.Event()
        self._flood = [encode(frame) for machine in machines for frame in flood(machine)]
        self._asks = {machine.name: machine.udp(ROUTER, 53) for machine in machines}
        self.asking: list[Machine] = []
        self.connected: dict[str, float] = {}
        self.got: dict[str, list[bytes]] = {machine.name: [] for machine in machines}
        self.sent = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.join()

    def run(self) -> None:
        asks = {encode(frame): frame for frame in self._asks.values()}
        answers = {encode(frame.reply()) for frame in asks.values()}
        at = 0
        while not self._ends.is_set():
            for data in self._flood[at : at + 12]:
                self._lab.put(ROUTER, data)
            self.sent += 12
            at = (at + 12) % len(self._flood)
            for machine in list(self.asking):
                if machine.name not in self.connected:
                    self._lab.put(machine, encode(self._asks[machine.name]))
            for data in self._lab.received(ROUTER.name):
                if data in asks:
                    self._lab.put(ROUTER, encode(asks[data].reply()))
            for machine in self._machines:
                for data in self._lab.received(machine.name):
                    if data in answers:
                        self.connected.setdefault(machine.name, time.monotonic())
                    else:
                        self.got[machine.name].append(data)
            time.sleep(0.002)


def test_thirty_machines_plugged_within_two_seconds_are_protected_from_their_first_packet(lab: Machines) -> None:
    machines = [Machine(f"vm{number}", 100 + number) for number in range(COUNT)]
    lab.add(*machines)
    lab.state = lab.state_of(dict.fromkeys(machines, DEFAULT))
    plugged: dict[str, float] = {}
    with Agent(lab) as agent, Traffic(lab, machines) as traffic:
        began = time.monotonic()
        for start in range(0, COUNT, AT_ONCE):
            these = machines[start : start + AT_ONCE]
            plugged |= dict.fromkeys([machine.name for machine in these], time.monotonic())
            lab.plug(*these)
            traffic.asking += these
        took = time.monotonic() - began
        deadline = time.monotonic() + PATIENCE
        while len(traffic.connected) < COUNT or len(agent.realised) < COUNT:
            assert time.monotonic() < deadline, f"{len(traffic.connected)} of {COUNT} are connected"
            time.sleep(0.01)
    lab.settle()
    lab.arrived()
    assert took < WITHIN
    assert {name: got for name, got in traffic.got.items() if got} == {}
    assert [machine.name for machine in machines if not is_protected_and_connected(lab, machine)] == []
    for what, since in (("protected", {vm.name: agent.realised[vm.id] for vm in machines}),
                        ("connected", traffic.connected)):  # fmt: skip
        times = sorted(1000 * (since[name] - plugged[name]) for name in plugged)
        print(f"plug to {what}: median {statistics.median(times):.0f} ms, max {times[-1]:.0f} ms")
    print(f"{COUNT} plugged in {took:.2f} s, {traffic.sent} packets sent that are denied")


def test_a_machine_plugged_while_no_agent_runs_passes_nothing_until_one_does(lab: Machines) -> None:
    machine = Machine("orphan", 50)
    lab.add(machine)
    state = lab.state_of({machine: DEFAULT})
    lab.restart_dataplane()
    lab.plug(machine)
    assert machine.name not in lab.send(ROUTER, *flood(machine), *to_it(machine))
    assert lab.send(machine, *from_it(machine)) == {}
    lab.state = state
    lab.realise()
    assert is_protected_and_connected(lab, machine)


def test_a_machine_plugged_before_its_policy_is_there_passes_nothing_until_it_is(lab: Machines) -> None:
    machine = Machine("early", 51)
    lab.add(machine)
    lab.plug(machine)
    lab.enforce({})
    assert machine.name not in lab.send(ROUTER, *flood(machine), *to_it(machine))
    assert lab.send(machine, *from_it(machine)) == {}
    lab.enforce({machine: DEFAULT})
    assert is_protected_and_connected(lab, machine)


def test_a_machine_that_is_unplugged_and_plugged_again_is_protected_from_its_first_packet(lab: Machines) -> None:
    machine = Machine("back", 52)
    lab.add(machine)
    lab.plug(machine)
    lab.enforce({machine: DEFAULT})
    with Traffic(lab, [machine]) as traffic:
        for _ in range(3):
            lab.unplug(machine)
            lab.plug(machine)
            lab.realise()
    lab.settle()
    lab.arrived()
    assert traffic.got == {machine.name: []}
    assert traffic.sent > 0
    assert is_protected_and_connected(lab, machine)
