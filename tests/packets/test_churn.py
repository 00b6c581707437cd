"""Many changes of every kind under load, each of which turns the verdict of some packets.

Lost: allowed before and after a change, and not arrived. Leaked: denied before and after, and arrived. Late: sent after
the change was realised, and let through by the old policy; what it stopped is lost. All are counted by nft, at both
ends. What a busy machine keeps from a switch in userspace is no loss of ours, and counted by the kernel.
"""

import random
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import cycle, permutations
from types import TracebackType
from typing import Self

import msgspec
import pytest

from packets.builders import (
    ALLOW_ALL,
    Guard,
    address_set,
    both,
    expected,
    guarded_ports,
    new_id,
    policy,
    rule,
    state_of,
)
from packets.enforcer import KINDS, Enforcer
from packets.soak import rounds, seed
from portward.dataplane.netns import in_namespace
from portward.lab import Datagram, Host, Lab, Outcome, ProbeRequest, Stream, probe_all
from portward.lab.counters import Counters, Place
from portward.model import UDP, AddressSet, HostState, Policy, Rule

CHANGES = {"router": 1000, "vm": 400}
DENIED, DENIED_FRESH, ALLOWED, ALLOWED_FRESH = 9, 11, 10, 12
TOGGLED = range(100, 106)
#: Packets a second that are denied and allowed throughout: what a switch in userspace takes without losing any as well.
RATES = {"router": (50_000, 2_000), "vm": (2_000, 300)}
#: Seconds that a probe waits when an answer would be wrong, and when it must come; it takes less than a thousandth.
SHORT, LONG = 0.01, 1.0
#: Packets of new connections that follow a change on each flow that it turns; one more is of an old connection.
FRESH = 5
#: Ways to make a change of one kind that are tried before another kind is taken, to find one that turns a flow.
_WAYS = 3
#: Source ports of these packets: what counts them tells them from probes.
OLD_PORTS, NEW_PORTS = range(20_000, 20_100), range(20_100, 30_000)

#: Rules that decide nothing here and make the compiler lay a policy out in another shape, by the shape.
FILLERS: dict[str, list[Rule]] = {
    "linear": [],
    "hash": [rule("deny", "udp", number, source=f"10.200.0.{number}/32") for number in range(100)],
    "buckets": [rule("deny", "udp", f"{number}:{number + 9}", source=f"10.200.{number}.0/24") for number in range(20)],
    "intervals": [
        rule("deny", "udp", f"{number}:{number + 9}", source=f"10.200.{number}.0/{24 + number % 3}")
        for number in range(200)
    ]
    + [
        rule("deny", "udp", f"{number}:{number + 9}", source=f"fd00:200:{number}::/{48 + number % 3}", version=6)
        for number in range(100)
    ],
}


@dataclass(frozen=True)
class Rules:
    """A policy in the making: rules that give it its shape, rules that change, then the few that decide the streams."""

    id: str
    loose: tuple[Rule, ...] = ()
    shape: str = "linear"

    def policy(self) -> Policy:
        """Denied ports first, all other low ports allowed last: the order decides."""
        denied = [item for port in (DENIED, DENIED_FRESH) for item in both("deny", "udp", port)]
        return policy(FILLERS[self.shape], denied, list(self.loose), both("allow", "udp", "1:99"), id=self.id)


#: Address sets that rules may name, of senders and of receivers.
_SET_IDS = SENDERS, MORE_SENDERS, RECEIVERS = new_id(), new_id(), new_id()
#: Members that change nothing for anybody here, so that a set is large and an address has many neighbours.
_CROWD = tuple(f"10.201.{number >> 8}.{number & 255}/32" for number in range(0, 100, 2))


@dataclass(frozen=True)
class World:
    """What is enforced: blue is always guarded, red and green at times."""

    first: Rules
    second: Rules
    blue: Guard
    uses_second: bool = False
    crossed: bool = False  # whether green is guarded by the policy that blue is not
    red: Guard | None = None
    green: Guard | None = None
    members: tuple[tuple[str, frozenset[str]], ...] = tuple((id_, frozenset()) for id_ in _SET_IDS)

    @property
    def used(self) -> Rules:
        return self.second if self.uses_second else self.first

    def sets(self) -> list[AddressSet]:
        return [address_set(id_, *_CROWD, *sorted(members)) for id_, members in self.members]

    def guards(self) -> dict[str, Guard]:
        used = self.used.policy()
        guards = {"blue": replace(self.blue, ingress=used)}
        if self.red is not None:
            guards["red"] = replace(self.red, egress=used)
        if self.green is not None:
            other = (self.first if self.uses_second else self.second).policy()
            guards["green"] = replace(self.green, ingress=other if self.crossed else used)
        return guards


class Changes:
    """Random changes of every kind that exists, from one world to the next."""

    def __init__(self, chance: random.Random, candidates: dict[str, list[str]]) -> None:
        self._chance = chance
        self._candidates = candidates  # for membership, by set
        self.kinds = {
            "rule inserted": self._insert,
            "rule removed": self._remove,
            "rule edited": self._edit,
            "rule disabled or enabled": self._switch,
            "rules reordered": self._reorder,
            "policy swapped": lambda world: replace(world, uses_second=not world.uses_second),
            "group made or deleted": self._group,
            "admin state": self._admin_state,
            "port in or out of its group": self._port,
            "port into another group": lambda world: replace(
                world, blue=Guard(egress=ALLOW_ALL), uses_second=not world.uses_second
            ),
            "ports exchange their policies": lambda world: replace(
                world, green=world.green or Guard(egress=ALLOW_ALL), crossed=True, uses_second=not world.uses_second
            ),
            "shape of the policy": self._shape,
            "member of an address set": lambda world: self._member(world, 1),
            "members of several sets": lambda world: self._member(self._member(world, 1), 2),
            "rule and member at once": lambda world: self._insert(self._member(world, 1)),
        }

    def next(self, world: World) -> Iterator[tuple[str, World]]:
        """A few ways to make one kind of change."""
        kind = self._chance.choice(list(self.kinds))
        for _ in range(_WAYS):
            yield kind, self.kinds[kind](world)

    def _rule(self) -> Rule:
        action = self._chance.choices(["allow", "deny", "reject"], [5, 4, 1])[0]
        first = self._chance.choice(TOGGLED)
        last = self._chance.choice((first, first, TOGGLED[-1]))
        fields = self._chance.choice(
            (
                {},
                {"source_set": SENDERS},
                {"source_set": MORE_SENDERS},
                {"destination_set": RECEIVERS},
                {"source_set": SENDERS, "destination_set": RECEIVERS},
            )
        )
        return self._chance.choice(both(action, "udp", f"{first}:{last}", **fields))

    def _member(self, world: World, count: int) -> World:
        members = dict(world.members)
        for id_ in self._chance.sample(_SET_IDS, count):
            members[id_] ^= {self._chance.choice(self._candidates[id_])}
        return replace(world, members=tuple(members.items()))

    def _shape(self, world: World) -> World:
        edited = self._edit(world)
        used = replace(edited.used, shape=self._chance.choice(list(FILLERS)))
        return replace(edited, second=used) if edited.uses_second else replace(edited, first=used)

    def _loose(self, world: World, rules: list[Rule]) -> World:
        used = replace(world.used, loose=tuple(rules))
        return replace(world, second=used) if world.uses_second else replace(world, first=used)

    def _used(self, world: World) -> list[Rule]:
        return list(world.used.loose)

    def _insert(self, world: World) -> World:
        rules = self._used(world)
        rules.insert(self._chance.randint(0, len(rules)), self._rule())
        return self._loose(world, rules[:20])

    def _remove(self, world: World) -> World:
        rules = self._used(world)
        if rules:
            rules.pop(self._chance.randrange(len(rules)))
        return self._loose(world, rules)

    def _edit(self, world: World) -> World:
        rules = self._used(world)
        if rules:
            rules[self._chance.randrange(len(rules))] = self._rule()
        return self._loose(world, rules)

    def _switch(self, world: World) -> World:
        rules = self._used(world)
        if rules:
            at = self._chance.randrange(len(rules))
            old = rules[at]
            rules[at] = msgspec.structs.replace(old, id=new_id(), enabled=not old.enabled)
        return self._loose(world, rules)

    def _reorder(self, world: World) -> World:
        rules = self._used(world)
        self._chance.shuffle(rules)
        return self._loose(world, rules)

    def _group(self, world: World) -> World:
        return replace(world, green=Guard(egress=ALLOW_ALL) if world.green is None else None, crossed=False)

    def _admin_state(self, world: World) -> World:
        return world if world.green is None else replace(world, green=replace(world.green, up=not world.green.up))

    def _port(self, world: World) -> World:
        return replace(world, red=Guard(ingress=ALLOW_ALL) if world.red is None else None)


class Bursts:
    """Packets sent by one host right after a change, on flows that it turned, and the count of what arrives.

    A switch in userspace may take a packet some time after it was sent. So one behind them, on the flow ``last`` that
    is always allowed, says when all are decided.
    """

    def __init__(self, sender: Host, receivers: dict[ProbeRequest, Host], *, last: dict[ProbeRequest, Host]) -> None:
        self._last = next(iter(last))
        receivers = receivers | last
        self._stack = ExitStack()
        self._sockets = {
            4: self._stack.enter_context(in_namespace(sender.netns, lambda: _raw(socket.AF_INET))),
            6: self._stack.enter_context(in_namespace(sender.netns, lambda: _raw(socket.AF_INET6))),
        }
        self._old = dict(zip(receivers, OLD_PORTS, strict=False))
        self._new = cycle(NEW_PORTS)
        self._names = {request: f"flow_{number}" for number, request in enumerate(receivers)}
        self._counters = []
        for host in dict.fromkeys(receivers.values()):
            matches = {self._names[request]: _match(request) for request in receivers if receivers[request] is host}
            self._counters.append(Counters(host.netns, Place.ARRIVED, matches, drop=True))
            self._stack.callback(self._counters[-1].remove)
        self._wanted: Counter[ProbeRequest] = Counter()
        self.sent = 0

    def send(self, outcomes: dict[ProbeRequest, Outcome]) -> None:
        """Packets on flows of which the model says ``outcomes``: of a connection that there was, and of new ones."""
        for request, outcome in outcomes.items():
            for source_port in (self._old[request], *(next(self._new) for _ in range(FRESH))):
                self._send(request, source_port)
            self.sent += 1 + FRESH
            self._wanted[request] += (1 + FRESH) * (outcome is Outcome.PASSED)
        self._send(self._last, self._old[self._last])
        self._wanted[self._last] += 1
        self._wait(lambda differs: self._last not in differs)

    def differs(self) -> dict[ProbeRequest, int]:
        """By how many packets what arrived differs from what the model says, for each flow where it does."""
        return self._wait(lambda differs: not differs)

    def _wait(self, until: Callable[[dict[ProbeRequest, int]], bool]) -> dict[ProbeRequest, int]:
        deadline = time.monotonic() + LONG
        while True:
            arrived = {name: count for counters in self._counters for name, count in counters.packets().items()}
            differs = {request: arrived[name] - self._wanted[request] for request, name in self._names.items()}
            differs = {request: number for request, number in differs.items() if number}
            if until(differs) or time.monotonic() > deadline:
                return differs
            time.sleep(0.001)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _send(self, request: ProbeRequest, source_port: int) -> None:
        datagram = Datagram(
            source=request.source,
            destination=request.destination,
            protocol=UDP,
            source_port=source_port,
            destination_port=request.port,
        )
        self._sockets[request.source.version].sendto(datagram.to_bytes(), (str(request.destination), 0))


def _raw(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)


def _match(request: ProbeRequest) -> str:
    family = "ip6" if request.destination.version == 6 else "ip"
    ports = f"udp sport {OLD_PORTS[0]}-{NEW_PORTS[-1]} udp dport {request.port}"
    return f"{family} daddr {request.destination} {ports}"


def untaken(lab: Lab) -> int:
    """How many frames the kernel dropped because a switch in userspace was too busy to take them: it never saw them."""
    if lab.state.switch is None:
        return 0
    sockets = ["ip", "netns", "exec", lab.switch.netns, "ss", "--packet", "--memory", "--no-header"]
    shown = subprocess.run(sockets, capture_output=True, text=True, check=True).stdout
    return sum(map(int, re.findall(r"\bd(\d+)\)", shown)))


def outcomes(lab: Lab, state: HostState, receivers: dict[ProbeRequest, Host]) -> dict[ProbeRequest, Outcome]:
    """What the golden model says of each probe from red."""
    ports = guarded_ports(lab)
    return {
        request: expected(state, request, ports["red"], ports[receiver.name]) for request, receiver in receivers.items()
    }


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_many_changes_of_every_kind_lose_nothing_leak_nothing_and_decide_the_next_packet(
    kind: str, lab: Lab, enforce: Enforcer
) -> None:
    denied_rate, allowed_rate = RATES[kind]
    receivers = {
        lab.red.request("udp", receiver.address(version), port): receiver
        for receiver in (lab.blue, lab.green)
        for version in (4, 6)
        for port in TOGGLED
    }
    denied_flows, allowed_flows = (
        [
            lab.red.flow(lab.blue.address(4), constant, source_port=4000),
            lab.red.flow(lab.blue.address(6), constant, source_port=4000),
            lab.red.flow(lab.blue.address(4), fresh),
        ]
        for constant, fresh in ((DENIED, DENIED_FRESH), (ALLOWED, ALLOWED_FRESH))
    )
    steady = lab.red.request("udp", lab.blue.address(6), ALLOWED_FRESH)
    chance = random.Random(seed())
    print(f"\nseed {seed()}")
    world = World(Rules(policy().id), Rules(policy().id), Guard(egress=ALLOW_ALL))
    changes, made, shapes = Changes(chance, candidates_of(lab)), Counter[str](), Counter[str]()
    missed = 0  # frames that a probe was among
    both_ways = 0  # changes by which one port lost what it had and another got what it had not
    with (
        lab.red.stream(denied_flows, rate=denied_rate) as denied,
        lab.red.stream(allowed_flows, rate=allowed_rate) as allowed,
        Bursts(lab.red, receivers, last={steady: lab.blue}) as bursts,
    ):
        # The flood begins as accepted connections: whatever revives one of those later is seen.
        enforce(blue=Guard(ingress=policy(both("allow")), egress=ALLOW_ALL))
        wait_until_received(denied)
        enforce(**world.guards(), sets=world.sets())
        received = [count.received for count in denied.counts()]
        before = outcomes(lab, enforce.state, receivers)
        for number in rounds(CHANGES[kind]):
            change, world, turned = turning(lab, enforce, changes, world, receivers, before)
            enforce(**world.guards(), sets=world.sets())
            # Silence costs time, so what passes now is asked first. Rejects are rationed: they may be silent.
            probed = min(turned, key=lambda request: turned[request] is not Outcome.PASSED)
            outcome = probe_all([probed], LONG if turned[probed] is Outcome.PASSED else SHORT)[0].outcome
            allowed_outcomes = {turned[probed]} | ({Outcome.SILENT} if turned[probed] is not Outcome.PASSED else set())
            assert outcome in allowed_outcomes or untaken(lab) > missed, f"change {number} ({change}): {probed}"
            missed = untaken(lab) if outcome not in allowed_outcomes else missed
            bursts.send(turned)
            made[change] += 1
            turns = {(receivers[request], outcome is Outcome.PASSED) for request, outcome in turned.items()}
            both_ways += any(
                turns >= {(one, True), (other, False)} for one, other in permutations((lab.blue, lab.green))
            )
            shapes[world.used.shape] += 1
            before |= turned
        denied_counts, allowed_counts, differs = denied.stop(), allowed.stop(), bursts.differs()
    late = sum(number for number in differs.values() if number > 0)
    lost = sum(count.sent - count.received for count in allowed_counts) - sum(differs.values()) + late
    missed = untaken(lab)
    leaked = sum(now.received for now in denied_counts) - sum(received)
    print(f"{made.total()} changes, each of which turned a flow: {dict(made)}; shapes {dict(shapes)}")
    print(f"{both_ways} of them let one port have what it had not, and took from another what it had")
    print(f"leaked {leaked} of {sum(count.sent for count in denied_counts)} packets that are denied throughout")
    print(f"lost {lost} of {sum(count.sent for count in allowed_counts)} allowed ones; the switch never saw {missed}")
    print(f"late {late} of {bursts.sent} sent after a change on flows that it turned")
    assert (leaked, late) == (0, 0)
    assert lost <= missed
    assert sum(count.sent for count in denied_counts) > denied_rate / 1000 * made.total()
    assert set(made) == set(changes.kinds)
    assert both_ways > 0
    assert set(shapes) == set(FILLERS)


def candidates_of(lab: Lab) -> dict[str, list[str]]:
    """What may come into each address set, or leave it: hosts that are in the game, and prefixes that hold them."""

    def of(*hosts: Host) -> list[str]:
        addresses = [address for host in hosts for address in host.addresses]
        wide = [ip_network((address, address.max_prefixlen - 9), strict=False) for address in addresses]
        return [*map(str, addresses), *dict.fromkeys(map(str, wide))]

    senders, receivers = of(lab.red), of(lab.blue, lab.green)
    return {SENDERS: senders, MORE_SENDERS: senders, RECEIVERS: receivers}


def turning(
    lab: Lab,
    enforce: Enforcer,
    changes: Changes,
    world: World,
    receivers: dict[ProbeRequest, Host],
    before: dict[ProbeRequest, Outcome],
) -> tuple[str, World, dict[ProbeRequest, Outcome]]:
    """A change that turns the outcome of some flows: its kind, the world after it, and those outcomes."""
    while True:
        for kind, changed in changes.next(world):
            after = outcomes(lab, state_of(enforce.ports, changed.guards(), enforce.state, changed.sets()), receivers)
            turned = {request: outcome for request, outcome in after.items() if outcome is not before[request]}
            if turned:
                return kind, changed, turned


def wait_until_received(stream: Stream) -> None:
    """Wait until every flow of ``stream`` has got through."""
    deadline = time.monotonic() + 5
    while not all(count.received for count in stream.counts()):
        assert time.monotonic() < deadline, "the flood does not get through while it is allowed"
        time.sleep(0.01)
