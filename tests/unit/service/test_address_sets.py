"""Address groups and firewall groups as addresses: who is a member, who is told, and what that costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portward.channel.messages import fingerprint
from portward.config import DefaultFirewallGroup
from portward.service import address_groups, address_sets, default_group, errors, groups, policies, ports, rules
from portward.service.address_groups import AddressGroupValues
from portward.service.groups import GroupValues
from portward.service.ports import PortValues
from portward.service.rules import RuleValues
from unit.service.test_statements import AT_MOST
from unit.service.world import World, sqlite

#: What more a call may cost by which the members of firewall groups change that rules name.
FOLLOWING = 8


def vm(world: World, address: str, *pairs: str, **values: Any) -> str:
    given = {"fixed_ips": [{"ip_address": address}], "allowed_address_pairs": [{"ip_address": pair} for pair in pairs]}
    return world.port(device_owner="compute:nova", **(given | values))


def move(world: World, port_id: str, **values: Any) -> None:
    world.call(ports.update_port, port_id, PortValues(**values))


def addresses(*given: str, world: World, **values: Any) -> str:
    return str(world.call(address_groups.create_address_group, AddressGroupValues(addresses=given, **values)).row.id)


def members(world: World, set_id: str) -> set[str] | None:
    """``None``: there is no such set. Its fingerprint is always that of its members."""
    with world.store.read() as session:
        found = set(address_sets.members_of(session, [set_id]).get(set_id, ()))
        version = address_sets.versions_of(session, [set_id]).get(set_id)
    if version is None:
        assert not found
        return None
    assert version.fingerprint == fingerprint(found)
    return found


def version(world: World, set_id: str) -> int:
    with world.store.read() as session:
        return address_sets.versions_of(session, [set_id])[set_id].version


def test_a_firewall_group_has_members_as_long_as_a_rule_names_it(world: World) -> None:
    group = world.group(vm(world, "10.0.0.1"))
    assert members(world, group) is None
    first = world.rule(source_firewall_group_id=group)
    second = world.rule(action="allow")
    world.call(rules.update_rule, second, RuleValues(destination_firewall_group_id=group))
    assert members(world, group) == {"10.0.0.1/32"}
    world.call(rules.delete_rule, first)
    assert members(world, group) == {"10.0.0.1/32"}
    world.call(rules.update_rule, second, RuleValues(destination_firewall_group_id=None))
    assert members(world, group) is None
    world.call(rules.delete_rule, world.rule(source_firewall_group_id=group))
    assert members(world, group) is None


def test_a_default_group_that_is_deleted_leaves_no_set_that_its_rules_named(world: World) -> None:
    world.default_group = DefaultFirewallGroup()
    world.call(default_group.ensure, "p")
    home = next(view.row.id for view in world.call(groups.list_groups) if view.row.default_of == "p")
    rule = world.call(rules.list_rules)[0].row.id
    group = world.group(vm(world, "10.0.0.1"))
    world.call(rules.update_rule, rule, RuleValues(source_firewall_group_id=group, source_ip_address=None))
    assert members(world, group) == {"10.0.0.1/32"}
    world.call(groups.delete_group, home)
    assert members(world, group) is None


def test_members_are_addresses_and_narrow_pairs_of_virtual_machines(world: World) -> None:
    wide = ("10.0.0.0/15", "0.0.0.0/0", "2001:db8::/47")
    machine = vm(world, "10.0.0.1", "10.8.0.7/16", "192.0.2.9", "2001:db8:1::/48", *wide)
    both = vm(world, "2001:DB8::1", fixed_ips=[{"ip_address": "2001:DB8::1"}, {"ip_address": "10.0.0.2"}])
    router = world.port(fixed_ips=[{"ip_address": "10.0.0.254"}])
    group = world.group(machine, both, router)
    world.rule(source_firewall_group_id=group)
    narrow = {"10.8.0.0/16", "192.0.2.9/32", "2001:db8:1::/48"}
    assert members(world, group) == narrow | {"10.0.0.1/32", "10.0.0.2/32", "2001:db8::1/128"}


def test_a_virtual_machine_is_followed_wherever_it_goes(world: World) -> None:
    world.default_group = DefaultFirewallGroup()
    first = vm(world, "10.0.0.1", project_id="p")
    home = next(view.row.id for view in world.call(groups.list_groups) if view.row.default_of == "p")
    group, scoped = world.group(), world.group(stratum="baseline", scope="all")
    for named in (home, group, scoped):
        world.rule(source_firewall_group_id=named)

    def held() -> tuple[set[str] | None, ...]:
        return tuple(members(world, id_) for id_ in (home, group, scoped))

    one, two = {"10.0.0.1/32"}, {"10.0.0.2/32"}
    assert held() == (one, set(), one)
    second = vm(world, "10.0.0.2", project_id="p")
    assert held() == (one | two, set(), one | two)
    world.call(groups.update_group, group, GroupValues(ports=(first,)))
    assert held() == (two, one, one | two)
    move(world, first, fixed_ips=[{"ip_address": "10.0.0.3"}])
    assert held() == (two, {"10.0.0.3/32"}, {"10.0.0.3/32"} | two)
    move(world, first, allowed_address_pairs=[{"ip_address": "10.0.0.1"}], fixed_ips=[])
    assert held() == (two, one, one | two)
    world.call(groups.update_group, group, GroupValues(ports=()))
    assert held() == (one | two, set(), one | two)
    world.call(groups.update_group, scoped, GroupValues(scope="projects", project_ids=("elsewhere",)))
    assert held() == (one | two, set(), set())
    move(world, first, device_owner="network:dhcp")
    world.call(ports.delete_port, second)
    assert held() == (set(), set(), set())


def test_an_address_that_two_machines_have_stays_until_both_are_gone(world: World) -> None:
    machines = [vm(world, "10.0.0.1") for _ in range(2)]
    group = world.group(*machines)
    world.rule(source_firewall_group_id=group)
    before = version(world, group)
    world.call(ports.delete_port, machines[0])
    assert (members(world, group), version(world, group)) == ({"10.0.0.1/32"}, before)
    world.call(ports.delete_port, machines[1])
    assert members(world, group) == set()


class Users:
    """A named firewall group and an address group, and for each a policy, audited, applied to a port's group."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = vm(world, "10.0.0.1")
        self.named = world.group(self.machine)
        self.addresses = addresses("10.1.0.0/16", world=world)
        self.rules = [
            world.rule(destination_firewall_group_id=self.named),
            world.rule(source_address_group_id=self.addresses),
        ]
        self.policies = [world.policy(rule) for rule in self.rules]
        self.groups = [
            world.group(world.port(), ingress_firewall_policy_id=self.policies[0]),
            world.group(world.port(), egress_firewall_policy_id=self.policies[1]),
        ]
        for policy in self.policies:
            world.call(policies.update_policy, policy, policies.PolicyValues(audited=True))

    def audited(self) -> list[bool]:
        return [self.world.call(policies.get_policy, policy).row.audited for policy in self.policies]


def test_a_machine_that_moves_concerns_the_groups_that_decide_by_it_and_no_policy(world: World) -> None:
    users = Users(world)
    before = world.seen()
    move(world, users.machine, fixed_ips=[{"ip_address": "10.0.0.9"}])
    after = world.seen()
    mark = (before.generation + 1, world.now)
    assert after.groups == before.groups | {users.named: mark, users.groups[0]: mark}
    assert (after.versions, after.generation) == (before.versions, before.generation + 1)
    assert version(world, users.named) == after.generation
    assert users.audited() == [True, True]


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (address_groups.add_addresses, ["10.2.0.0/16"]),
        (address_groups.remove_addresses, ["10.1.0.0/16"]),
        (address_groups.update_address_group, AddressGroupValues(addresses=("10.2.0.0/16",))),
    ],
)
def test_a_change_of_an_address_group_concerns_its_users_and_asks_for_another_audit(
    world: World, function: Any, given: Any
) -> None:
    users = Users(world)
    before = world.seen()
    world.call(function, users.addresses, given)
    after = world.seen()
    assert after.groups == before.groups | {users.groups[1]: (before.generation + 1, world.now)}
    assert after.versions == before.versions
    assert users.audited() == [True, False]


def test_names_and_what_changes_no_member_concern_nobody(world: World) -> None:
    users = Users(world)
    before = world.seen()
    values = AddressGroupValues(name="x", shared=True, addresses=("10.1.0.0/16",))
    world.call(address_groups.update_address_group, users.addresses, values)
    move(world, users.machine, name="x")
    assert world.seen() == before
    assert users.audited() == [True, True]


def test_a_group_that_rules_name_is_not_deleted_and_the_refusal_names_them(world: World) -> None:
    users = Users(world)
    empty = world.group()
    naming = world.rule(source_firewall_group_id=empty)
    for function, id_, refusal, rule in (
        (address_groups.delete_address_group, users.addresses, errors.AddressGroupInUse, users.rules[1]),
        (groups.delete_group, empty, errors.FirewallGroupNamed, naming),
    ):
        with pytest.raises(refusal, match=rule):
            world.call(function, id_)


def test_a_rule_names_what_is_shared_or_its_own_projects_and_others_cannot_lose_it(world: World) -> None:
    own, foreign = addresses(world=world, project_id="p1"), addresses(world=world, project_id="p2")
    shared, group = addresses(world=world, project_id="p2", shared=True), world.group(project_id="p2", shared=True)
    hidden = world.group(project_id="p2")
    for call in (world.call, world.member):
        arguments = ("p1",) if call == world.member else ()
        for values, refusal in (
            (RuleValues(project_id="p1", source_address_group_id=foreign), errors.AddressGroupNotFound),
            (RuleValues(project_id="p1", destination_firewall_group_id=hidden), errors.FirewallGroupNotFound),
            (RuleValues(project_id="p1", source_address_group_id=group), errors.AddressGroupNotFound),
        ):
            with pytest.raises(refusal):
                call(*arguments, rules.create_rule, values)
    world.rule(project_id="p1", source_address_group_id=own)
    world.rule(project_id="p1", source_address_group_id=shared, destination_firewall_group_id=group)
    with pytest.raises(errors.AddressGroupInUse):
        world.call(address_groups.update_address_group, shared, AddressGroupValues(shared=False))
    with pytest.raises(errors.FirewallGroupNamed):
        world.call(groups.update_group, group, GroupValues(shared=False))
    world.call(address_groups.update_address_group, own, AddressGroupValues(shared=True))
    world.call(address_groups.update_address_group, own, AddressGroupValues(shared=False))


def test_addresses_that_are_there_or_not_there_are_refused_whole(world: World) -> None:
    group = addresses("10.0.0.0/8", world=world)
    with pytest.raises(errors.AddressesAlreadyExist, match=r"10\.0\.0\.0/8"):
        world.call(address_groups.add_addresses, group, ["10.0.0.0/8", "11.0.0.0/8"])
    with pytest.raises(errors.AddressesNotFound, match=r"11\.0\.0\.0/8"):
        world.call(address_groups.remove_addresses, group, ["10.0.0.0/8", "11.0.0.0/8"])
    assert members(world, group) == {"10.0.0.0/8"}


def test_a_group_does_not_grow_beyond_what_a_host_can_be_asked_to_hold(world: World) -> None:
    group = addresses(*(f"10.0.{n >> 8}.{n & 255}/32" for n in range(address_groups.MAX_ADDRESSES - 1)), world=world)
    with pytest.raises(errors.AddressGroupFull, match="more than 20000 addresses"):
        world.call(address_groups.add_addresses, group, ["11.0.0.0/8", "12.0.0.0/8"])
    world.call(address_groups.add_addresses, group, ["11.0.0.0/8"])
    assert len(members(world, group)) == address_groups.MAX_ADDRESSES


def test_another_projects_address_group_is_not_there(world: World) -> None:
    group = addresses(world=world, project_id="p1")
    assert world.member("p2", address_groups.list_address_groups) == []
    for function, *given in (
        (address_groups.get_address_group,),
        (address_groups.delete_address_group,),
        (address_groups.add_addresses, ["10.0.0.0/8"]),
        (address_groups.remove_addresses, ["10.0.0.0/8"]),
        (address_groups.update_address_group, AddressGroupValues(name="x")),
    ):
        with pytest.raises(errors.AddressGroupNotFound):
            world.member("p2", function, group, *given)


class Sized:
    """``size`` firewall groups that rules name, over ``size`` machines each, and ``size`` address groups of as many."""

    def __init__(self, directory: Path, size: int) -> None:
        self.world = world = World(sqlite(directory))
        self.machines = [vm(world, f"10.0.0.{number}") for number in range(size)]
        self.named = [world.group(*self.machines, stratum="admin") for _ in range(size)]
        self.tenants = [world.group(machine) for machine in self.machines]
        for group in (*self.named, *self.tenants):
            world.rule(source_firewall_group_id=group)
        self.free = world.group()
        world.rule(destination_firewall_group_id=self.free)
        given = [f"10.1.0.{number}/32" for number in range(size)]
        self.addresses = [addresses(*given, world=world) for _ in range(4)]
        for _ in range(size):
            world.policy(world.rule(source_address_group_id=self.addresses[0]))
        move(world, self.machines[0], fixed_ips=[{"ip_address": "10.9.0.9"}])


def calls(made: Sized) -> list[tuple[Any, ...]]:
    group = made.addresses[0]
    return [
        (address_groups.create_address_group, AddressGroupValues(addresses=("10.0.0.0/8",))),
        (address_groups.get_address_group, group),
        (address_groups.list_address_groups,),
        (address_groups.update_address_group, group, AddressGroupValues(name="x", addresses=("10.0.0.0/8",))),
        (address_groups.add_addresses, group, ["10.0.0.0/8"]),
        (address_groups.remove_addresses, group, ["10.1.0.1/32"]),
        (address_groups.delete_address_group, made.addresses[1]),
        (rules.create_rule, RuleValues(source_address_group_id=group, destination_firewall_group_id=made.named[0])),
        (ports.update_port, made.machines[0], PortValues(fixed_ips=[{"ip_address": "10.0.0.0"}])),
        (ports.delete_port, made.machines[0]),
        (groups.update_group, made.named[0], GroupValues(ports=())),
        (groups.update_group, made.free, GroupValues(stratum="baseline", scope="all")),
    ]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sized]]:
    made = [Sized(tmp_path_factory.mktemp("size"), size) for size in (2, 20)]
    yield made
    for item in made:
        item.world.store.close()


@pytest.mark.parametrize("number", range(12))
def test_a_call_about_addresses_costs_the_same_on_small_and_large(sizes: list[Sized], number: int) -> None:
    costs = []
    for made in sizes:
        with made.world.statements() as sent, pytest.raises(_Undo):
            made.world.call(_undone, *calls(made)[number])
        costs.append(len(sent))
    function = calls(sizes[0])[number][0]
    allowed = AT_MOST + (FOLLOWING if function in (ports.update_port, ports.delete_port, groups.update_group) else 0)
    assert costs[0] == costs[1] <= allowed, sent


class _Undo(Exception):
    """Rolls a call back."""


def _undone(session: Any, context: Any, function: Any, *arguments: Any) -> None:
    function(session, context, *arguments)
    session.flush()
    raise _Undo
