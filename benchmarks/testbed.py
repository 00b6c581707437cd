"""A router to measure, in a namespace of its own: the packet factory sends through it, and Portward protects it.

What it refuses: to touch anything outside of its namespace, and to outlive its block.
"""

import itertools
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.factory import Factory, FactoryError, Traffic
from benchmarks.row import Skipped
from benchmarks.workloads import Workload
from portward.dataplane.netns import in_namespace
from portward.dataplane.nftables.driver import NftablesDataplane
from portward.dataplane.nftables.netlink import ACK, NETFILTER, Netlink
from portward.model import TCP, Action, Binding, CoveredPort, Group, HostState, Policy, Port, PortKind, Rule

_DESTINATION = IPv4Address("203.0.113.9")
_DELETE_CONNECTIONS = 1 << 8 | 2
#: Of /proc/net/dev: packets sent; an ifb counts what it is given to send as received.
_COLUMN = {"in0": 10, "out0": 2}
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

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
        _command(["ip", "netns", "exec", self.netns, *command], text)

    def first_packets(self, case: Workload, flows: int) -> float:
        """What the first packet of a connection costs; every one must get through."""
        self.forget_connections()
        return self.again(case, flows)

    def again(self, case: Workload, flows: int) -> float:
        """What one more packet of each connection costs."""
        before = self._left("out0")
        cost = self._send("in0", Traffic(case.source, _DESTINATION, case.port, flows=flows), flows)
        left = self._left("out0") - before
        if left != flows:
            raise RuntimeError(f"{left} of {flows} packets left the router")
        return cost

    def one_flow(self, case: Workload, packets: int) -> float:
        """What a further packet of one connection costs."""
        traffic = Traffic(case.source, _DESTINATION, case.port)
        self._send("in0", traffic, max(packets // 100, 1))
        return self._send("in0", traffic, packets)

    def answer(self, case: Workload) -> None:
        """One connection, both of whose directions get through."""
        self.forget_connections()
        before = self._left("in0")
        traffic = Traffic(case.source, _DESTINATION, case.port)
        self._send("in0", traffic, 1)
        self._send("back0", Traffic(_DESTINATION, case.source, traffic.source_port, case.port), 1)
        if self._left("in0") - before != 1:
            raise RuntimeError("the answer did not leave the router")

    def forget_connections(self) -> None:
        """Empty the connection table."""

        def delete() -> None:
            with Netlink(NETFILTER) as netlink:
                netlink.request(_DELETE_CONNECTIONS, bytes(4), ACK)

        self._inside(delete)

    def _left(self, device: str) -> int:
        """How many packets left the router by ``device``."""

        def read() -> int:
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            column = _COLUMN[device]
            return int(next(line.split()[column] for line in lines if line.strip().startswith(f"{device}:")))

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
    try:
        _command(["ip", "netns", "add", netns])
    except RuntimeError as error:
        raise Skipped(f"no network namespace: {error}") from error
    try:
        in_namespace(netns, _prepare)
        made = [
            "link add in0 type veth peer name in1",
            "link add back0 type veth peer name back1",
            "link add out0 type ifb",
            "address add 10.255.255.254/8 dev in0",
            "address add 203.0.113.1/24 dev out0",
            *(f"link set {device} up" for device in ("lo", "in0", "in1", "back0", "back1", "out0")),
            "neighbour add 10.255.0.7 lladdr 02:00:00:00:00:09 dev in0",
        ]
        try:
            _command(["ip", "-n", netns, "-batch", "-"], "\n".join(made))
        except RuntimeError as error:
            raise Skipped(f"this kernel lacks veth or ifb: {error}") from error
        try:
            made_router = Router(netns)
        except FactoryError as error:
            raise Skipped(f"no packet factory: {error}") from error
        with closing(made_router):
            yield made_router
    finally:
        _command(["ip", "netns", "delete", netns])


def _prepare() -> None:
    """Forward IPv4, and let no packet of IPv6's own be counted."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")


def _command(command: list[str], text: str = "") -> None:
    environment = os.environ | {"PATH": _PATH}
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[:500]}")
