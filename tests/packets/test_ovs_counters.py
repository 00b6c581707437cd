"""How often rules of VM ports decided: kept over inserts, other changes, and the death of the agent."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy, rule
from packets.enforcer import Enforcer
from portward.agent.ledger import Ledger
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.lab import Lab
from portward.model import Action, PortRange, Rule

ALLOW, DENY = rule("allow", "udp", 9001), rule("deny", "udp", "9002:9009")
POLICY = policy(ALLOW, DENY)
#: Seconds in which the switch brings the counts of flows up to date, many times over.
_PATIENCE = 5.0


@pytest.fixture
def kind() -> str:
    return "vm"


class Life:
    """One life of a dataplane, with a ledger that outlives it on disk."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.ledger = Ledger(directory)
        self.ledger.load()
        self.enforce = Enforcer(lab)
        self.enforce.dataplane.close()
        self.enforce.dataplane = OpenvswitchDataplane(
            run_dir=lab.switch.run_dir, netns=lab.switch.netns, ledger=self.ledger
        )

    def packets(self, *rules: Rule) -> list[int]:
        self.ledger.add(self.enforce.dataplane.counters())
        assert self.ledger.save()
        totals = self.ledger.totals()
        return [totals[item.id].packets if item.id in totals else 0 for item in rules]

    def comes_to(self, wanted: list[int], *rules: Rule) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (seen := self.packets(*rules)) != wanted:
            assert time.monotonic() < deadline, f"{seen} instead of {wanted}"
            time.sleep(0.05)


@pytest.fixture
def life(lab: Lab, tmp_path: Path) -> Iterator[Life]:
    made = Life(lab, tmp_path)
    yield made
    made.enforce.close()


def send(lab: Lab, port: int, count: int) -> None:
    """As many packets, each of a connection of its own."""
    for number in range(count):
        lab.red.probe("udp", lab.blue.address(), port, source_port=30_000 + port + number, timeout=0.05)


def test_connections_that_a_rule_allows_and_packets_that_one_denies_are_counted(lab: Lab, life: Life) -> None:
    life.enforce(blue=Guard(ingress=POLICY, egress=ALLOW_ALL))
    send(lab, 9001, 3)
    send(lab, 9005, 4)
    life.comes_to([3, 4], ALLOW, DENY)


def test_a_rule_that_is_inserted_before_others_leaves_their_counts_alone(lab: Lab, life: Life) -> None:
    life.enforce(blue=Guard(ingress=POLICY, egress=ALLOW_ALL))
    send(lab, 9001, 3)
    life.comes_to([3], ALLOW)
    first = rule("deny", "udp", 7)
    life.enforce(blue=Guard(ingress=edited(POLICY, first, ALLOW, *both("deny", "tcp", 8), DENY), egress=ALLOW_ALL))
    send(lab, 7, 1)
    send(lab, 9005, 2)
    life.comes_to([1, 3, 2], first, ALLOW, DENY)


def test_counts_go_on_after_the_agent_died(lab: Lab, life: Life, tmp_path: Path) -> None:
    guard = Guard(ingress=POLICY, egress=ALLOW_ALL)
    state = life.enforce(blue=guard)
    send(lab, 9005, 2)
    life.comes_to([2], DENY)
    life.enforce.dataplane.close()
    send(lab, 9006, 3)
    again = Life(lab, tmp_path)
    again.enforce.state = state
    again.enforce.heals_soon()
    again.comes_to([5], DENY)
    life.enforce = again.enforce  # to be ended


def test_what_a_rule_counted_is_kept_when_the_rule_goes(lab: Lab, life: Life) -> None:
    life.enforce(blue=Guard(ingress=POLICY, egress=ALLOW_ALL))
    send(lab, 9005, 2)
    life.comes_to([2], DENY)
    life.enforce(blue=Guard(ingress=edited(POLICY, ALLOW), egress=ALLOW_ALL))
    life.comes_to([2], DENY)


AFTER = {
    "the rule goes": policy(ALLOW),
    "the rule gets another action": policy(msgspec.structs.replace(DENY, action=Action.REJECT), ALLOW),
    "it matches otherwise": policy(ALLOW, msgspec.structs.replace(DENY, destination_port=PortRange(9002, 9008))),
}


@pytest.mark.parametrize("what", AFTER)
def test_what_was_counted_since_it_was_last_asked_for_is_kept_when(lab: Lab, life: Life, what: str) -> None:
    life.enforce(blue=Guard(ingress=POLICY, egress=ALLOW_ALL))
    send(lab, 9005, 3)
    life.enforce(blue=Guard(ingress=edited(POLICY, list(AFTER[what].rules)), egress=ALLOW_ALL))
    life.comes_to([3], DENY)
