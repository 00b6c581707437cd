"""Address sets on a bridge: pages and bits, and what an address costs."""

import random
from ipaddress import ip_network
from uuid import UUID

from portward.dataplane.addresses import Members, members_of
from portward.dataplane.lists import Part
from portward.dataplane.openvswitch.flows import Field, Flow, Load
from portward.dataplane.openvswitch.layout import Table
from portward.dataplane.openvswitch.plan import Plan, Profile, Wanted, changes, plan
from portward.dataplane.openvswitch.sets import PAGE_SIZE, allocate, pages_of, parts
from portward.model import Action, AddressSet, Rule, Stratum


def ident(number: int) -> str:
    return str(UUID(int=number))


def members(number: int, *prefixes: str) -> Members:
    return members_of(AddressSet(id=ident(number), version=1, members=tuple(map(ip_network, prefixes))))


def policies(count: int, *sets: int) -> tuple[Part, ...]:
    """One policy a part; each has a rule for each of ``sets``."""
    return tuple(
        Part(
            Stratum.TENANT,
            ident(1000 + policy),
            tuple(
                Rule(id=ident(100 * policy + one), action=Action.ALLOW, protocol=6, source_set=ident(one))
                for one in sets
            ),
        )
        for policy in range(count)
    )


def planned(before: Plan, egress: tuple[Part, ...], *sets: Members, epoch: int = 1) -> Plan:
    return plan(Wanted(profiles={1: Profile(egress, (), sets)}), before, epoch)


def differs(before: Plan, after: Plan) -> list[Flow]:
    """What comes or goes of members and rules."""
    gone, come = changes(before.sections, after.sections)
    rules = [flow for flow in (*gone, *come) if any(asked.field is Field.REG8 for asked in flow.key.match)]
    return rules + [flow for flow in (*gone, *come) if flow.key.table == Table.SOURCE_SETS]


def test_an_address_that_comes_to_a_set_of_ten_thousand_in_fifty_policies_is_one_flow() -> None:
    crowd = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32" for number in range(10_000)]
    lists = policies(50, 1)
    before = planned(Plan(), lists, members(1, *crowd))
    after = planned(before, lists, members(1, *crowd, "10.200.0.1/32"), epoch=2)
    assert len(differs(before, after)) == 1
    assert len(differs(Plan(), after)) == 10_001 + 50


def test_what_the_longest_prefix_says_holds_for_those_around_it_too() -> None:
    found = parts(
        {"a": 0, "b": 1, "c": 2},
        {"a": members(1, "10.0.0.0/8"), "b": members(2, "10.1.0.0/16", "11.0.0.1/32"), "c": members(3, "10.1.1.1/32")},
        4,
    )
    values = {str(prefix): value for part in found.values() for prefix, value in part.items()}
    assert values == {"10.0.0.0/8": 0b001, "10.1.0.0/16": 0b011, "10.1.1.1/32": 0b111, "11.0.0.1/32": 0b010}


def test_members_that_change_are_a_new_epoch_of_every_list_that_names_their_set() -> None:
    before = planned(Plan(), policies(1, 1), members(1, "10.0.0.1/32"))
    after = planned(before, policies(1, 1), members(1, "10.0.0.2/32"), epoch=7)
    assert (before.epochs[1][1], after.epochs[1][1]) == (1, 7)


def test_a_set_keeps_its_bit_while_others_come_and_go() -> None:
    first = allocate({1: frozenset("ab"), 2: frozenset("c")}, {})
    then = allocate({1: frozenset("ab"), 3: frozenset("de")}, first)
    assert then[1] == first[1]
    again = allocate({1: frozenset("b"), 3: frozenset("de")}, then)
    assert again[1].bits["b"] == first[1].bits["b"]


def test_no_two_sets_of_a_page_share_a_bit_and_no_policy_spans_pages() -> None:
    needs = {number: frozenset(f"{number}-{one}" for one in range(50)) for number in range(10)}
    found = allocate(needs, {})
    for number, ids in needs.items():
        assert found[number].bits.keys() == ids
    pages = pages_of(found)
    assert len(pages) == 5  # two policies of fifty sets on each
    for bits in pages.values():
        assert len(set(bits.values())) == len(bits) <= PAGE_SIZE


def test_a_policy_of_more_sets_than_a_page_holds_is_asked_in_stretches_that_are_on_pages_of_their_own() -> None:
    lists, crowd = policies(1, *range(1, 301)), [members(number, f"10.0.0.{number % 250}") for number in range(1, 301)]
    made = planned(Plan(), lists, *crowd)
    in_order = [part for _, parts in made.cuts.values() for part in parts]
    assert tuple(rule for part in in_order for rule in part) == lists[0].rules
    assert [len(part) for part in in_order] == [PAGE_SIZE, PAGE_SIZE, 300 - 2 * PAGE_SIZE]
    assert len({policy.lookups[0].page for policy in made.policies.values()}) == 3


def test_a_member_that_comes_to_a_policy_of_many_sets_is_one_flow() -> None:
    lists, crowd = policies(1, *range(1, 301)), [members(number, f"10.0.0.{number % 250}") for number in range(1, 301)]
    before = planned(Plan(), lists, *crowd)
    after = planned(before, lists, *crowd[:-1], members(300, "10.0.0.50", "10.9.9.9"), epoch=2)
    assert len(differs(before, after)) == 1


def test_a_policy_that_names_no_set_is_asked_without_a_look_at_addresses() -> None:
    rule = Rule(id=ident(9), action=Action.ALLOW)
    made = planned(Plan(), (Part(Stratum.TENANT, ident(1), (rule,)),))
    flows = [flow for section in made.sections.values() for flow in section.flows if flow.key.table == Table.NEXT]
    assert flows
    assert not any(
        isinstance(action, Load) and action.field in (0x00011204, 0x00011804)
        for flow in flows
        for action in flow.actions
    )


def test_after_any_changes_of_members_the_flows_are_those_of_a_bridge_that_begins_with_them() -> None:
    chance = random.Random(7)
    candidates = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "0.0.0.0/0"]
    candidates += [f"10.1.{number >> 4}.{number & 15}/32" for number in range(64)]
    lists, held = policies(2, 1, 2, 3), {number: set(chance.sample(candidates, 20)) for number in (1, 2, 3)}
    before = Plan()
    for epoch in range(1, 200):
        number = chance.choice((1, 2, 3))
        held[number] ^= set(chance.choices(candidates, weights=[1] * 4 + [3] * 64, k=chance.choice((1, 1, 2))))
        sets = [members(number, *sorted(prefixes)) for number, prefixes in held.items()]
        before = planned(before, lists, *sets, epoch=epoch)
        assert _of_sets(before) == _of_sets(planned(Plan(), lists, *sets))


def _of_sets(made: Plan) -> set[Flow]:
    return {flow for section in made.sections.values() for flow in section.flows if flow.key.table == Table.SOURCE_SETS}
