"""What the three transactions of a change carry."""

import re
from uuid import UUID

import pytest

from portward.dataplane.lists import Part
from portward.dataplane.nftables.change import Change, Installed, Planner
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.wanted import DeviceLists, Wanted
from portward.model import Action, Rule, Stratum

PLANNER = Planner(owner="host", epochs=Epochs(0xFFFF), reverse_path="strict")


def part(*actions: str) -> tuple[Part, ...]:
    rules = tuple(Rule(id=str(UUID(int=n)), action=Action(action)) for n, action in enumerate(actions))
    return (Part(Stratum.TENANT, None, rules),)


def wanted(*devices: str, key: str = "a", **lists: tuple[Part, ...]) -> Wanted:
    lists = lists or {"a": part("allow")}
    return Wanted(dict.fromkeys(devices, DeviceLists(key, key)), lists)


def built(state: Wanted) -> Installed:
    return PLANNER.build(state, serial=1, epoch=1).result


def changed(before: Wanted, after: Wanted) -> Change:
    return PLANNER.change(built(before), after, epoch=2)


def switched(change: Change) -> list[str]:
    """The chains whose rules the switch replaces."""
    return [line.split()[-1] for line in change.switch.splitlines() if line.startswith("flush chain")]


@pytest.mark.parametrize("ports", [1, 500])
def test_an_edit_switches_two_rules_however_many_ports_share_the_policy(ports: int) -> None:
    devices = [f"qr-{number}" for number in range(ports)]
    change = changed(wanted(*devices), wanted(*devices, a=part("deny")))
    assert switched(change) == ["forward", "v1/list/a"]
    assert len(change.prepare) + len(change.switch) + len(change.remove) < 6000


def test_a_switch_touches_no_elements() -> None:
    for before, after in (
        (wanted("qr-1"), wanted("qr-1", "qr-2")),
        (wanted("qr-1", "qr-2"), wanted("qr-2")),
        (wanted("qr-1"), wanted("qr-2", a=part("deny"))),
    ):
        assert "element" not in changed(before, after).switch


def test_a_new_device_decides_nothing_before_the_switch() -> None:
    change = changed(wanted("qr-1"), wanted("qr-1", "qr-2"))
    assert "chain v1/ingress/qr-2 {\n}" in change.prepare
    assert switched(change) == ["forward", "v1/egress/qr-2", "v1/ingress/qr-2"]


def test_an_uncovered_device_is_let_go_in_the_switch_and_its_objects_after_it() -> None:
    change = changed(wanted("qr-1", "qr-2"), wanted("qr-2"))
    assert "add rule inet portward v1/ingress/qr-1" not in change.switch
    assert "flush chain inet portward v1/ingress/qr-1" in change.switch
    assert 'delete element inet portward v1/covered { "qr-1" }' in change.remove
    assert "delete chain inet portward v1/ingress/qr-1" in change.remove


def test_a_move_between_policies_switches_the_ports_chains() -> None:
    lists = {"a": part("allow"), "b": part("deny")}
    before = Wanted({"qr-1": DeviceLists("a", "a"), "qr-2": DeviceLists("b", "b")}, lists)
    after = Wanted({"qr-1": DeviceLists("a", "b"), "qr-2": DeviceLists("b", "b")}, lists)
    change = changed(before, after)
    assert set(switched(change)) == {"forward", "v1/ingress/qr-1", "v1/egress/qr-1"}
    assert "add rule inet portward v1/ingress/qr-1 goto v1/list/b" in change.switch


def test_what_is_removed_is_what_was_put_there() -> None:
    """Through a few changes, every object that is deleted was created, and in the end none but the last is left."""
    standing: set[str] = set()

    def carry_out(change: Change) -> Installed:
        created = set(re.findall(r"^(?:chain|map) (\S+)", change.prepare, re.M))
        assert not (created & standing) - {"forward"}
        standing.update(created)
        deleted = re.findall(r"^delete (?:chain|map) inet portward (\S+)", change.remove, re.M)
        assert set(deleted) <= standing
        standing.difference_update(deleted)
        return change.result

    first = wanted("qr-1", a=part("allow"))
    installed = carry_out(PLANNER.build(first, serial=1, epoch=1))
    once = len(standing)
    for epoch, state in enumerate(
        (wanted("qr-1", "qr-2", key="b", b=part("deny")), wanted("qr-2", a=part("allow", "deny")), first), start=2
    ):
        installed = carry_out(PLANNER.change(installed, state, epoch=epoch))
    assert len(standing) == once


def test_an_earlier_life_is_replaced_whole() -> None:
    leftovers = [("chain", "v1/epoch/1/ffff"), ("map", "v1/egress"), ("set", "v1/covered")]
    change = PLANNER.build(wanted("qr-1"), serial=2, epoch=2, leftovers=leftovers)
    assert change.switch.splitlines() == [
        "flush chain inet portward forward",
        "add rule inet portward forward ct state established,new ct mark and 0xffff == 0x2 "
        "fib saddr . iif oif exists accept",
        "add rule inet portward forward goto v2/epoch/2/ffff",
    ]
    for kind, title in leftovers:
        assert f"delete {kind} inet portward {title}" in change.remove
