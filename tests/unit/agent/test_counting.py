"""When counters are read, and what of them is told."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from portward.agent.counting import EVERY, Counting, Teller
from portward.agent.drivers import Drivers
from portward.agent.ledger import Ledger
from portward.channel.client import Unreachable
from portward.channel.messages import MAX_COUNTERS, Total
from portward.dataplane.protocol import Count, Reading
from portward.model import HostState, Policy, PortKind, Rule
from unit.agent.dataplane import FakeDataplane
from unit.agent.values import uuid

T0 = datetime(2026, 1, 2, tzinfo=UTC)


def total(packets: int) -> Total:
    return Total(packets=packets, bytes=0, since=T0, last=None)


def with_rules(*numbers: int) -> HostState:
    rules = tuple(Rule(id=uuid(number), action="allow") for number in numbers)
    return HostState(generation=1, policies=(Policy(id=uuid(99), version=1, rules=rules),))


def test_counters_are_read_every_ten_seconds_and_of_the_rules_of_the_state_alone(tmp_path: Path):
    now = 100.0
    dataplane = FakeDataplane()
    counting = Counting(Drivers({PortKind.ROUTER: dataplane}), Ledger(tmp_path), clock=lambda: now)
    counting.cover(with_rules(1, 2))
    dataplane.counted = [Reading("x", {uuid(1): Count(3, 30), uuid(3): Count(9, 90)})]
    assert counting.due_in() == EVERY
    now += EVERY
    assert counting.due_in() == 0

    read = counting.read()

    assert read is not None
    assert {rule_id: counted.packets for rule_id, counted in read.items()} == {uuid(1): 3, uuid(2): 0}
    assert counting.due_in() == EVERY
    dataplane.close()


def test_before_the_server_said_what_is_to_be_enforced_no_rule_is_forgotten(tmp_path: Path):
    ledger = Ledger(tmp_path)
    ledger.count([uuid(1)])
    assert (read := Counting(Drivers({}), ledger).read()) is not None
    assert list(read) == [uuid(1)]


def test_what_a_restart_could_not_go_on_from_is_told_to_nobody(tmp_path: Path):
    directory = tmp_path / "state"
    directory.mkdir()
    counting = Counting(Drivers({}), Ledger(directory))
    directory.rmdir()
    assert counting.read() is None


def test_a_dataplane_that_cannot_be_read_leaves_the_others_counted():
    class Broken(FakeDataplane):
        def counters(self) -> list[Reading]:
            raise RuntimeError

    broken, sound = Broken(), FakeDataplane()
    sound.counted = [Reading("x", {uuid(1): Count(3, 30)})]
    assert Drivers({PortKind.VM: broken, PortKind.ROUTER: sound}).counters() == sound.counted
    broken.close()
    sound.close()


class Server:
    """Keeps what it is told; refuses while ``away``."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Total]] = []
        self.away = False

    def count(self, totals: Mapping[str, Total]) -> None:
        if self.away:
            raise Unreachable("away")
        self.told.append(totals)


def test_only_what_changed_is_told():
    server = Server()
    teller = Teller(server.count, clock=lambda: 0.0)
    teller.tell({"a": total(1), "b": total(0)})
    teller.tell({"a": total(2), "b": total(0)})
    teller.tell({"a": total(2), "b": total(0)})
    assert server.told == [{"a": total(1), "b": total(0)}, {"a": total(2)}]


def test_what_could_not_be_told_is_told_with_what_comes_next():
    server = Server()
    teller = Teller(server.count, clock=lambda: 0.0)
    teller.tell({"a": total(1), "b": total(1)})
    server.away = True
    with pytest.raises(Unreachable):
        teller.tell({"a": total(2), "b": total(1)})
    server.away = False
    teller.tell({"a": total(2), "b": total(3)})
    assert server.told[1:] == [{"a": total(2), "b": total(3)}]


def test_all_of_it_is_told_again_every_hour():
    now = 0.0
    server = Server()
    teller = Teller(server.count, clock=lambda: now)
    teller.tell({"a": total(1)})
    now = 3599.0
    teller.tell({"a": total(1)})
    now = 3601.0
    teller.tell({"a": total(1)})
    assert server.told == [{"a": total(1)}] * 2


def test_many_rules_are_told_in_parts():
    server = Server()
    totals = {str(number): total(1) for number in range(MAX_COUNTERS + 1)}
    Teller(server.count, clock=lambda: 0.0).tell(totals)
    assert [len(part) for part in server.told] == [MAX_COUNTERS, 1]
    assert {**server.told[0], **server.told[1]} == totals
