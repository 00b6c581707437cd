"""A thousand changes of every kind under load: what is denied stays dead, what is allowed loses nothing."""

import random
import time
from collections import Counter
from dataclasses import dataclass, replace

from packets.builders import ALLOW_ALL, Guard, both, expected, policy
from packets.enforcer import Enforcer
from portward.lab import Lab, Outcome, ProbeRequest, Stream, probe_all
from portward.model import HostState, Policy, Rule

CHANGES = 1000
DENIED, DENIED_FRESH, ALLOWED, ALLOWED_FRESH = 9, 11, 10, 12
TOGGLED = range(100, 106)
DENIED_RATE, ALLOWED_RATE = 50_000, 2_000  # packets a second
#: Seconds that a probe waits when an answer would be wrong, and when it must come; it takes less than a thousandth.
SHORT, LONG = 0.01, 1.0
SEED = 2


@dataclass(frozen=True)
class Rules:
    """A policy in the making: rules that change, then the few that decide the streams."""

    id: str
    loose: tuple[Rule, ...] = ()

    def policy(self) -> Policy:
        """Denied ports first, all other low ports allowed last: the order decides."""
        denied = [item for port in (DENIED, DENIED_FRESH) for item in both("deny", "udp", port)]
        return policy(denied, list(self.loose), both("allow", "udp", "1:99"), id=self.id)


@dataclass(frozen=True)
class World:
    """What is enforced: blue is always guarded, red and green at times."""

    first: Rules
    second: Rules
    blue: Guard
    uses_second: bool = False
    red: Guard | None = None
    green: Guard | None = None

    def guards(self) -> dict[str, Guard]:
        used = (self.second if self.uses_second else self.first).policy()
        guards = {"blue": replace(self.blue, ingress=used)}
        if self.red is not None:
            guards["red"] = replace(self.red, egress=used)
        if self.green is not None:
            guards["green"] = replace(self.green, ingress=used)
        return guards


class Changes:
    """Random changes of every kind that exists, from one world to the next."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
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
            "port into another group": lambda world: replace(world, blue=Guard(egress=ALLOW_ALL)),
        }

    def next(self, world: World) -> tuple[str, World]:
        while True:
            kind = self._chance.choice(list(self.kinds))
            changed = self.kinds[kind](world)
            if changed != world:
                return kind, changed

    def _rule(self) -> Rule:
        action = self._chance.choices(["allow", "deny", "reject"], [5, 4, 1])[0]
        return self._chance.choice(both(action, "udp", self._chance.choice(TOGGLED)))

    def _loose(self, world: World, rules: list[Rule]) -> World:
        used = replace(world.second if world.uses_second else world.first, loose=tuple(rules))
        return replace(world, second=used) if world.uses_second else replace(world, first=used)

    def _used(self, world: World) -> list[Rule]:
        return list((world.second if world.uses_second else world.first).loose)

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
            rules[at] = both(old.action, "udp", str(old.destination_port), enabled=not old.enabled)[old.ip_version == 6]
        return self._loose(world, rules)

    def _reorder(self, world: World) -> World:
        rules = self._used(world)
        self._chance.shuffle(rules)
        return self._loose(world, rules)

    def _group(self, world: World) -> World:
        return replace(world, green=Guard(egress=ALLOW_ALL) if world.green is None else None)

    def _admin_state(self, world: World) -> World:
        return world if world.green is None else replace(world, green=replace(world.green, up=not world.green.up))

    def _port(self, world: World) -> World:
        return replace(world, red=Guard(ingress=ALLOW_ALL) if world.red is None else None)


def outcomes(lab: Lab, state: HostState, requests: dict[ProbeRequest, str]) -> dict[ProbeRequest, Outcome]:
    """What the golden model says of each probe from red; the value of ``requests`` is who receives it."""
    return {
        request: expected(state, request, lab.port("red"), lab.port(receiver)) for request, receiver in requests.items()
    }


def test_a_flood_that_is_denied_stays_dead_and_what_is_allowed_loses_nothing_through_a_thousand_changes(
    lab: Lab, enforce: Enforcer
) -> None:
    requests = {
        lab.red.request("udp", receiver.address(version), port): receiver.name
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
    world = World(Rules(policy().id), Rules(policy().id), Guard(egress=ALLOW_ALL))
    with (
        lab.red.stream(denied_flows, rate=DENIED_RATE) as denied,
        lab.red.stream(allowed_flows, rate=ALLOWED_RATE) as allowed,
    ):
        # The flood begins as accepted connections: whatever revives one of those later is seen.
        open_ = policy(both("allow"))
        enforce(blue=Guard(ingress=open_, egress=ALLOW_ALL))
        wait_until_received(denied)
        state = enforce(**world.guards())
        received = [count.received for count in denied.counts()]
        before = outcomes(lab, state, requests)
        changes, made, turned = Changes(random.Random(SEED)), Counter[str](), Counter[str]()
        for _ in range(CHANGES):
            kind, world = changes.next(world)
            state = enforce(**world.guards())
            after = outcomes(lab, state, requests)
            different = [request for request in requests if after[request] is not before[request]]
            made[kind] += 1
            if different:
                # Silence costs time and rejects are rationed, so what passes now is asked first.
                probed = min(different, key=lambda request: after[request] is not Outcome.PASSED)
                patience = SHORT if after[probed] is Outcome.SILENT else LONG
                outcome = probe_all([probed], patience)[0].outcome
                assert outcome is after[probed], f"change {sum(made.values())} ({kind}): {probed}"
                turned[kind] += 1
            before = after
        denied_counts, allowed_counts = denied.stop(), allowed.stop()
    assert [count.received for count in denied_counts] == received, "denied packets passed"
    assert [count.sent - count.received for count in allowed_counts] == [0, 0, 0], "allowed packets were lost"
    assert sum(count.sent for count in denied_counts) > 100 * CHANGES
    assert set(made) == set(changes.kinds)
    print(f"\nchanges made {dict(made)}, of which turned a probe {dict(turned)}, the rest neutral")
    print(f"denied {denied_counts}, allowed {allowed_counts}")
    assert sum(turned.values()) > CHANGES // 4


def wait_until_received(stream: Stream) -> None:
    """Wait until every flow of ``stream`` has got through."""
    deadline = time.monotonic() + 5
    while not all(count.received for count in stream.counts()):
        assert time.monotonic() < deadline, "the flood does not get through while it is allowed"
        time.sleep(0.01)
