"""The rows ``router.packet_cost``, ``new_connection``, ``one_way_udp`` and ``rejudge``: what a packet costs a router.

The packet factory sends; Portward is installed by its dataplane, peers by the texts of ``peers``. Each round measures
everything once, one after the other, so that a machine that gets slower gets slower for all.
"""

import itertools
import os
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.factory import Factory, FactoryError, Traffic
from benchmarks.peers import CONNECTION_TRACKING, IPTABLES, LINEAR, NOTHING, OWN, Peer, firewalls
from benchmarks.row import Figures, Row, Skipped, figures
from benchmarks.workloads import Workload, workload
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.netlink import ACK, NETFILTER, Netlink
from portward.model import TCP, Action, Binding, CoveredPort, Group, HostState, Policy, Port, PortKind, Rule

_ROUNDS = 5
_DESTINATION = IPv4Address("203.0.113.9")
#: Workloads and their numbers of rules.
CASES = [(name, n) for name in ("w1", "w2", "acl") for n in (10, 100, 1000, 3000 if name == "acl" else 10000)]
_FLOWS, _ESTABLISHED, _WARM = 30_000, 200_000, 2_000
#: First packets measured where each costs tens of microseconds.
_SLOW_FLOWS, _SLOW_FROM = 2_000, 1000
_DELETE_CONNECTIONS = 1 << 8 | 2

_Result = TypeVar("_Result")
_numbers = itertools.count()


class Router:
    """A router between ``in0``, where the factory's packets come from, and ``out0``, which drops them."""

    def __init__(self, netns: str) -> None:
        self.netns = netns
        self._stack = ExitStack()
        self._generation = 0
        self._covered = 1
        self._policy: Policy | None = None
        self._dataplane = self._stack.enter_context(closing(NftablesDataplane()))
        self._factories = {
            device: self._stack.enter_context(self._inside(lambda device=device: Factory(device)))  # type: ignore[misc]
            for device in ("in0", "back0")
        }

    def close(self) -> None:
        """Let go of what is open."""
        self._stack.close()

    def protect(self, policy: Policy | None, covered: int = 1) -> None:
        """Cover ``in0``, or both, by ``policy``; ``None``: neither."""
        self._generation += 1
        self._policy, self._covered = policy, covered
        devices = ("in0", "out0")[: covered if policy else 0]
        ports = tuple(
            CoveredPort(
                port=Port(
                    id=str(uuid.UUID(int=number)),
                    kind=PortKind.ROUTER,
                    binding=Binding(netns=self.netns, device=device),
                ),
                groups=(Group(id=str(uuid.UUID(int=9)), ingress_policy_id=policy.id, egress_policy_id=policy.id),),
            )
            for number, device in enumerate(devices)
            if policy is not None
        )
        policies = () if policy is None else (msgspec.structs.replace(policy, version=self._generation),)
        report = self._dataplane.apply(HostState(generation=self._generation, ports=ports, policies=policies))
        errors = [port.error for port in report.ports if port.error]
        if errors:
            raise RuntimeError(f"the policy is not enforced: {errors[0]}")

    def touch(self) -> None:
        """Change the policy in force by one rule that decides nothing here."""
        if self._policy is not None:
            rule = Rule(id=str(uuid.UUID(int=self._generation)), action=Action.DENY, protocol=TCP)
            more = msgspec.structs.replace(self._policy, rules=(*self._policy.rules, rule))
            self.protect(more, self._covered)

    def run(self, command: list[str], text: str) -> None:
        """``command`` in the router, with ``text`` as input."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.netns, *command], input=text, text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr[:500]}")

    def first_packets(self, case: Workload, flows: int) -> float:
        """What the first packet of a connection costs; every one must get through."""
        self.forget_connections()
        return self.again(case, flows)

    def again(self, case: Workload, flows: int) -> float:
        """What one more packet of each connection costs."""
        before = self._left()
        cost = self._send("in0", Traffic(case.source, _DESTINATION, case.port, flows=flows), flows)
        if self._left() - before != flows:
            raise RuntimeError(f"{self._left() - before} of {flows} packets left the router")
        return cost

    def one_flow(self, case: Workload, packets: int) -> float:
        """What a further packet of one connection costs."""
        traffic = Traffic(case.source, _DESTINATION, case.port)
        self._send("in0", traffic, _WARM)
        return self._send("in0", traffic, packets)

    def answer(self, case: Workload) -> None:
        """One connection, answered. Connections are tracked, and nothing is refused."""
        self.forget_connections()
        traffic = Traffic(case.source, _DESTINATION, case.port)
        self._send("in0", traffic, 1)
        self._send("back0", Traffic(_DESTINATION, case.source, traffic.source_port, case.port), 1)

    def forget_connections(self) -> None:
        """Empty the connection table."""

        def delete() -> None:
            with Netlink(NETFILTER) as netlink:
                netlink.request(_DELETE_CONNECTIONS, bytes(4), ACK)

        self._inside(delete)

    def _left(self) -> int:
        def read() -> int:
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            return int(next(line.split()[2] for line in lines if line.strip().startswith("out0:")))

        return self._inside(read)

    def _send(self, device: str, traffic: Traffic, packets: int) -> float:
        return self._inside(lambda: self._factories[device].run(traffic, packets))

    def _inside(self, function: Callable[[], _Result]) -> _Result:
        return in_namespace(self.netns, function)


@contextmanager
def router() -> Iterator[Router]:
    """A router in a namespace of its own.

    Raises:
        Skipped: this machine has no packet factory.
    """
    if os.geteuid() != 0:
        raise Skipped("the packet factory needs root")
    netns = f"pw-bench-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    try:
        made = [
            "link add in0 type veth peer name in1",
            "link add back0 type veth peer name back1",
            "link add out0 type ifb",
            "address add 10.255.255.254/8 dev in0",
            "address add 203.0.113.1/24 dev out0",
            *(f"link set {device} up" for device in ("lo", "in0", "in1", "back0", "back1", "out0")),
            "neighbour add 10.255.0.7 lladdr 02:00:00:00:00:09 dev in0",
        ]
        subprocess.run(["ip", "-n", netns, "-batch", "-"], input="\n".join(made), text=True, check=True)
        in_namespace(netns, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        try:
            made_router = Router(netns)
        except FactoryError as error:
            raise Skipped(f"no packet factory: {error}") from error
        with closing(made_router):
            yield made_router
    finally:
        subprocess.run(["ip", "netns", "delete", netns], check=True)


def rows(wanted: Callable[[str], bool], tell: Callable[[str], None]) -> Iterator[Row]:
    """Measure the rows whose keys are ``wanted``; ``tell`` hears what is measured just now.

    Raises:
        Skipped: this machine has no packet factory.
    """
    measures = {key: measure for key, measure in _MEASURES.items() if wanted(key)}
    if not measures:
        return
    with router() as made:
        for name, n in CASES:
            case = workload(name, n)
            peers = firewalls(made, case.policy)
            for key, measure in measures.items():
                tell(f"{key} {name} n={n}")
                own = {covered: _portward(made, case.policy, covered) for covered in (1, 2)}
                shown = interleaved(
                    {name: partial(measure, made, case, peer, name) for name, peer in peers.items()}
                    | {f"{OWN} {covered}": partial(measure, made, case, own[covered], OWN) for covered in own}
                )
                for covered in own:
                    yield Row(
                        key=key,
                        unit="ns",
                        params={"workload": name, "n": n, "covered": covered},
                        portward=shown[f"{OWN} {covered}"],
                        peers={name: shown[name] for name in peers},
                    )


def interleaved(measures: Mapping[str, Callable[[], float]]) -> dict[str, Figures]:
    """What each of ``measures`` gives, in rounds of one of each."""
    values = defaultdict(list)
    for _ in range(_ROUNDS):
        for name, measure in measures.items():
            values[name].append(measure())
    return {name: figures(shown) for name, shown in values.items()}


def _portward(made: Router, policy: Policy, covered: int) -> Peer:
    @contextmanager
    def installed() -> Iterator[None]:
        made.protect(policy, covered)
        try:
            yield
        finally:
            made.protect(None)

    return installed


def _flows(case: Workload, name: str) -> int:
    slow = name in (IPTABLES, LINEAR) and len(case.policy.rules) >= _SLOW_FROM
    return _SLOW_FLOWS if slow else _FLOWS


def _new_connection(made: Router, case: Workload, peer: Peer, name: str) -> float:
    with peer():
        return made.first_packets(case, _flows(case, name))


def _one_way(made: Router, case: Workload, peer: Peer, _name: str) -> float:
    made.forget_connections()
    with peer():
        return made.one_flow(case, _ESTABLISHED)


def _packet_cost(made: Router, case: Workload, peer: Peer, name: str) -> float:
    with ExitStack() as tracked:
        if name != NOTHING:
            tracked.enter_context(firewalls(made, case.policy)[CONNECTION_TRACKING]())
            made.answer(case)
        with peer():
            tracked.close()
            return made.one_flow(case, _ESTABLISHED)


def _rejudge(made: Router, case: Workload, peer: Peer, name: str) -> float:
    """The first packet of each connection after a change; peers have no changes, so theirs is a further packet."""
    flows = _flows(case, name)
    with peer():
        made.first_packets(case, flows)
        if name == OWN:
            made.touch()
        return made.again(case, flows)


_Measure = Callable[[Router, Workload, Peer, str], float]
_MEASURES: dict[str, _Measure] = {
    "router.packet_cost": _packet_cost,
    "router.new_connection": _new_connection,
    "router.one_way_udp": _one_way,
    "router.rejudge": _rejudge,
}
