"""What the three transactions of a change carry."""

import re
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest

from portward.dataplane.addresses import members_of
from portward.dataplane.lists import Part
from portward.dataplane.nftables.change import Change, Installed, Planner
from portward.dataplane.nftables.epochs import Epochs
from portward.dataplane.nftables.wanted import DeviceLists, Wanted
from portward.model import Action, AddressSet, Rule, Stratum

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


SET, OTHER = str(UUID(int=90)), str(UUID(int=91))


def by_sets(*ids: str, action: str = "allow") -> tuple[Part, ...]:
    rules = tuple(
        Rule(id=str(UUID(int=n)), action=Action(action), protocol=6, source_set=id_) for n, id_ in enumerate(ids)
    )
    return (Part(Stratum.TENANT, None, rules),)


def with_sets(lists: dict[str, tuple[Part, ...]], devices: dict[str, str], **members: str) -> Wanted:
    sets = {
        id_: members_of(AddressSet(id=id_, version=1, members=tuple(map(ip_network, members[name].split()))))
        for name, id_ in (("one", SET), ("other", OTHER))
        if name in members
    }
    return Wanted({device: DeviceLists(key, key) for device, key in devices.items()}, lists, sets)


def test_a_member_that_comes_is_one_element_in_place_and_the_epoch_rises_behind_it() -> None:
    lists, devices = {"a": by_sets(SET), "b": by_sets(SET, OTHER)}, {"qr-1": "a", "qr-2": "b"}
    before = with_sets(lists, devices, one="10.0.0.1/32 10.0.0.3/32", other="")
    change = changed(before, with_sets(lists, devices, one="10.0.0.1/32 10.0.0.2/32 10.0.0.3/32", other=""))
    (message,) = change.edit
    assert f"v1/set/{SET}/4".encode() in message[1]
    assert [ip_address(key) for key in re.findall(rb"\x08\x00\x01\x00(....)", message[1], re.S)] == [
        ip_address("10.0.0.2"),
        ip_address("10.0.0.3"),
    ]
    assert switched(change) == ["forward"]
    assert "set" not in change.remove


@pytest.mark.parametrize(
    ("lists", "devices", "why"),
    [
        ({"a": by_sets(SET, OTHER, action="deny")}, {"qr-1": "a"}, "the list is written anew"),
        ({"a": by_sets(SET, OTHER), "b": part("allow")}, {"qr-1": "b", "qr-2": "a"}, "a device leaves the list"),
    ],
)
def test_a_set_is_made_anew_with_the_lists_that_use_it_when(
    lists: dict[str, tuple[Part, ...]], devices: dict[str, str], why: str
) -> None:
    first = {"a": by_sets(SET, OTHER), "b": part("allow")}
    before = with_sets(first, {"qr-1": "a", "qr-2": "a"}, one="10.0.0.1/32", other="10.0.0.9/32")
    change = changed(before, with_sets(lists, devices, one="10.0.0.2/32", other="10.0.0.9/32"))
    assert f"set v2/set/{SET}/4" in change.prepare, why
    assert not change.edit, why
    assert "v1/list/a" in switched(change), why
    assert change.remove.endswith(
        f"delete set inet portward v1/set/{SET}/4\ndelete set inet portward v1/set/{SET}/6\n"
    ), why


def by_set(action: str, **named: str) -> Rule:
    return Rule(id=str(UUID(int=7)), action=Action(action), **named)  # type: ignore[arg-type]


def listed(*rules: Rule) -> tuple[Part, ...]:
    return (Part(Stratum.TENANT, None, rules),)


FROM, TO, NOT_FROM = (
    by_set("allow", source_set=SET),
    by_set("allow", destination_set=SET),
    by_set("deny", source_set=SET),
)


@pytest.mark.parametrize(
    ("lists", "after", "in_place"),
    [
        ([listed(FROM, FROM)], "10.0.0.9", True),
        ([listed(NOT_FROM), listed(NOT_FROM)], "10.0.0.9", True),
        ([listed(FROM, TO)], "10.0.0.1 10.0.0.9", True),
        ([listed(FROM, TO)], "", True),
        ([listed(FROM, TO)], "10.0.0.9", False),
        ([listed(NOT_FROM, FROM)], "10.0.0.1 10.0.0.9", False),
        ([listed(NOT_FROM), listed(FROM)], "10.0.0.1 10.0.0.9", False),
        ([listed(FROM)], "10.0.0.0 10.0.0.2/31", True),
        ([listed(FROM)], "10.0.0.0/31", False),
        ([listed(FROM)], "0.0.0.0/0", False),
        ([listed(FROM)], "2001:db8::/32", True),
    ],
)
def test_a_set_is_edited_in_place_only_where_no_packet_can_tell_half_an_edit(
    lists: list[tuple[Part, ...]], after: str, in_place: bool
) -> None:
    named = dict(zip("ab", lists, strict=False))
    devices = {f"qr-{key}": key for key in named}
    change = changed(with_sets(named, devices, one="10.0.0.1"), with_sets(named, devices, one=after))
    assert bool(change.edit) == in_place
    assert (f"set v2/set/{SET}/4" in change.prepare) != in_place


def test_two_sets_that_change_at_once_are_both_made_anew() -> None:
    lists, devices = {"a": by_sets(SET, OTHER)}, {"qr-1": "a"}
    before = with_sets(lists, devices, one="10.0.0.1/32", other="10.0.0.9/32")
    change = changed(before, with_sets(lists, devices, one="10.0.0.2/32", other="10.0.0.8/32"))
    assert {id_ for id_ in (SET, OTHER) if f"set v2/set/{id_}/4" in change.prepare} == {SET, OTHER}
    assert not change.edit


def test_a_set_that_no_rule_names_any_more_goes_behind_the_rules() -> None:
    before = with_sets({"a": by_sets(SET)}, {"qr-1": "a"}, one="10.0.0.1/32")
    change = changed(before, wanted("qr-1", a=part("allow")))
    assert change.remove.index("delete chain") < change.remove.index(f"delete set inet portward v1/set/{SET}/4")


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
