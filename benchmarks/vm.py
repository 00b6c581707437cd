"""The rows ``vm.flows`` and ``vm.install``: how many flows a large host has on its bridge, and how long they take.

Ports are given to the bridge as values, below OVSDB: a thousand devices would be measured with them. Everything from
there on is what an agent does, on a real switch.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, ip_address, ip_network
from uuid import UUID

from benchmarks.row import Row, Skipped, figures, recorded
from portward.dataplane.lists import Part
from portward.dataplane.openvswitch.bridge import Bridge, Step
from portward.dataplane.openvswitch.plan import Profile, Wanted
from portward.dataplane.openvswitch.ports import AdmittedPort, FilteredPort
from portward.lab import Lab
from portward.lab.errors import LabError
from portward.model import TCP, UDP, Action, Port, PortKind, PortRange, Rule, Stratum

_PORTS, _POLICIES, _RULES, _NETWORKS = 1000, 10, 100, 20
_REPEATS = 5
_LAYOUT = recorded(200_000, source="ports x rules x 2 x masks, computed")


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: no root, or no Open vSwitch.
    """
    if not (wanted("vm.flows") or wanted("vm.install")):
        return
    if os.geteuid() != 0:
        raise Skipped("switches need root")
    all_ = _wanted()
    committed, realised, flows = [], [], 0
    for number in range(_REPEATS):
        tell(f"vm.install, {number + 1} of {_REPEATS}")
        try:
            with Lab.create("bench", switch=True) as lab:
                times, flows = _installed(lab, all_)
        except LabError as error:
            raise Skipped(str(error)) from error
        committed.append(times[Step.COMMITTED])
        realised.append(times[Step.REALISED])
    params = {"ports": _PORTS, "rules": _RULES, "policies": _POLICIES}
    yield Row(
        key="vm.flows", unit="flows", params=params, portward=figures([flows]), peers={"neutron-fwaas' layout": _LAYOUT}
    )
    for until, values in (("committed", committed), ("realised", realised)):
        yield Row(key="vm.install", unit="ms", params=params | {"until": until}, portward=figures(values))


def _installed(lab: Lab, wanted: Wanted) -> tuple[dict[Step, float], int]:
    times: dict[Step, float] = {}
    bridge = Bridge(
        lab.switch.bridge,
        lab.switch.run_dir,
        ledger=None,
        on_step=lambda step: times.__setitem__(step, (time.perf_counter() - began) * 1000),
    )
    try:
        bridge.connect()
        began = time.perf_counter()
        bridge.enforce(wanted)
        return times, int(lab.switch.ofctl("dump-aggregate", "br-int").partition("flow_count=")[2])
    finally:
        bridge.close()


def _wanted() -> Wanted:
    chance = random.Random(1)
    profiles = {}
    for number in range(1, _POLICIES + 1):
        rules = tuple(_rule(chance, number * 1000 + place) for place in range(_RULES))
        part = Part(Stratum.TENANT, str(UUID(int=number)), rules)
        profiles[number] = Profile((part,), (part,))
    return Wanted(
        filtered=tuple(_port(number) for number in range(_PORTS)),
        admitted=(AdmittedPort(ofport=2000, network=None),),
        profiles=profiles,
        userspace=True,
    )


def _port(number: int) -> FilteredPort:
    addresses = (ip_address(f"10.{number >> 8}.{number & 255}.7"), ip_address(f"fd00::{number:x}"))
    mac = f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}"
    port = Port(id=str(UUID(int=1 << 64 | number)), kind=PortKind.VM, mac_address=mac, fixed_ips=addresses)
    return FilteredPort(
        port=port,
        ofport=number + 100,
        network=1 + number % _NETWORKS,
        zone=4096 + number,
        profile=1 + number % _POLICIES,
    )


def _rule(chance: random.Random, number: int) -> Rule:
    """Half are IPv6; an address in one of two, a range of ports in one of four."""
    version = 6 if number % 2 else 4
    first = chance.randrange(1, 60_000)
    last = chance.randrange(first, 65_536) if chance.random() < 0.25 else first
    source = None
    if chance.random() < 0.5:
        low = chance.getrandbits(24) << 8
        source = ip_network(f"fd00:{number:x}::/64") if version == 6 else IPv4Network((low, 24))
    return Rule(
        id=str(UUID(int=2 << 64 | number)),
        action=chance.choice((Action.ALLOW, Action.ALLOW, Action.DENY)),
        ip_version=version,
        protocol=chance.choice((TCP, UDP)),
        source=source,
        destination_port=PortRange(first, last),
    )
