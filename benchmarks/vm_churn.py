"""The row ``vm.wrong_packets``: as ``router.wrong_packets``, at the port of a virtual machine.

A switch in userspace stops for any change of its flows; so the peer is the same switch, given as many flows that have
nothing to do with the packets.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from benchmarks.cached import cached_flows
from benchmarks.churn import CHANGES, ID, RULES, Enforce, Wrong, count_wrong
from benchmarks.row import Row, Skipped, figures
from portward.dataplane.openvswitch.codec import Command
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.dataplane.openvswitch.flows import Field, Load
from portward.dataplane.openvswitch.openflow import FlowChange, OpenflowConnection
from portward.dataplane.openvswitch.tables import flow
from portward.lab import Lab
from portward.lab.errors import LabError
from portward.model import CoveredPort, Group, HostState, Policy, Rule

_KEY, _PEER = "vm.wrong_packets", "unrelated bundle"
_RATE, _CACHED = 20_000, (0, 20_000)
#: Of a bundle that has nothing to do with the packets: a table that none comes to, and as many flows as a change has.
_ELSEWHERE, _FLOWS = 250, 14


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the row if it is ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: no root, or no Open vSwitch.
    """
    if not wanted(_KEY):
        return
    if os.geteuid() != 0:
        raise Skipped("switches and packets need root")
    for cached in _CACHED:
        found: dict[str, Wrong] = {}
        for name, firewall in (("portward", portward), (_PEER, _unrelated)):
            tell(f"{_KEY} cached={cached} {name}")
            try:
                with Lab.create("bench", switch=True) as lab, firewall(lab) as enforce:
                    full = partial(cached_flows, lab, cached)
                    found[name] = count_wrong(lab, enforce, _RATE, beside=full)
            except LabError as error:
                raise Skipped(str(error)) from error
        for what in Wrong._fields:
            yield Row(
                key=_KEY,
                unit="packets",
                params={"n": RULES, "changes": CHANGES, "rate": _RATE, "cached": cached, "what": what},
                portward=figures([getattr(found["portward"], what)]),
                peers={_PEER: figures([found[_PEER].lost])} if what == "lost" else {},
            )


@contextmanager
def portward(lab: Lab) -> Iterator[Enforce]:
    """Our dataplane on the lab's switch; the rules hold at blue's port, for packets to it."""
    generations = itertools.count(1)
    group = Group(id=ID, ingress_policy_id=ID)
    ports = tuple(
        CoveredPort(port=port.to_model(), groups=(group,) if name == "blue" else ())
        for name, port in lab.vm_ports.items()
    )
    admitted = tuple(port.port_id for port in lab.state.plugged_ports)
    with closing(OpenvswitchDataplane(run_dir=lab.switch.run_dir, netns=lab.switch.netns)) as dataplane:

        def enforce(rules: tuple[Rule, ...]) -> None:
            generation = next(generations)
            policy = Policy(id=ID, version=generation, rules=rules)
            state = HostState(generation=generation, ports=ports, policies=(policy,), admitted=admitted)
            for report in dataplane.apply(state).ports:
                if report.error:
                    raise RuntimeError(report.error)

        try:
            yield enforce
        finally:
            dataplane.cleanup()


@contextmanager
def _unrelated(lab: Lab) -> Iterator[Enforce]:
    """Portward with the first rules for ever; each change is as many flows that no packet comes to."""
    switch = lab.switch
    with (
        portward(lab) as first,
        closing(OpenflowConnection(switch.run_dir / f"{switch.bridge}.mgmt")) as connection,
    ):
        calls = itertools.count()

        def enforce(rules: tuple[Rule, ...]) -> None:
            number = next(calls)
            if not number:
                first(rules)
                return
            flows = [flow(_ELSEWHERE, 1 + place, [], Load(Field.REG0, number)) for place in range(_FLOWS)]
            connection.commit([FlowChange(Command.ADD, one, 1) for one in flows])

        yield enforce
