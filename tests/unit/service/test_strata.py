"""Strata: who may change what admins assign, what such groups may use, and where rules may pass."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from portward.config import DefaultFirewallGroup
from portward.model import Stratum
from portward.service import groups, membership, policies, rules
from portward.service.context import Context
from portward.service.errors import (
    FirewallDefaultObjectUpdateRestricted,
    FirewallGroupInUse,
    FirewallGroupPortInUse,
    FirewallGroupUsesForeign,
    FirewallObjectGuarded,
    FirewallRulePassAdminOnly,
    FirewallRulePassMisplaced,
)
from portward.service.hosts import host_index
from portward.service.rows import Page
from portward.store.tables import FirewallGroup, FirewallRule
from unit.service.world import World, sqlite

ASSIGNED = [Stratum.ADMIN, Stratum.BASELINE]
VM = "compute:nova"


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[World]:
    """With default groups."""
    made = World(sqlite(tmp_path), default_group=DefaultFirewallGroup())
    yield made
    made.store.close()


def change(world: World, group: str, **values: Any) -> groups.GroupView:
    view: groups.GroupView = world.call(groups.update_group, group, groups.GroupValues(**values))
    return view


def default(world: World, project: str = "p") -> groups.GroupView:
    found: list[groups.GroupView] = world.call(groups.list_groups, Page(where=[FirewallGroup.default_of == project]))
    return found[0]


def told(world: World, host: str = "h1") -> dict[str, list[tuple[str, int, str]]]:
    """Of each port of the host, the groups that decide for it, in order."""
    with world.store.read() as session:
        covered = host_index(session, host).index.ports
    return {one.port.id: [(group.stratum, group.position, group.id) for group in one.groups] for one in covered}


def test_hosts_get_the_groups_of_a_port_in_the_order_in_which_they_decide(world: World) -> None:
    port = world.port()
    baseline = world.group(port, stratum="baseline", position=1)
    first_baseline = world.group(port, stratum="baseline")
    tenant = world.group(port, position=9)
    second, first = (world.group(port, stratum="admin", position=place) for place in (7, 3))
    order = [("admin", 3, first), ("admin", 7, second), ("tenant", 9, tenant)]
    assert told(world) == {port: [*order, ("baseline", 0, first_baseline), ("baseline", 1, baseline)]}


@pytest.mark.parametrize("values", [{"stratum": "baseline"}, {"position": 3}])
def test_another_stratum_or_position_reaches_the_hosts(world: World, values: dict[str, Any]) -> None:
    group = world.group(world.port(), stratum="admin")
    before = world.seen()
    view = change(world, group, **values)
    assert world.seen().generation > before.generation
    assert world.seen().groups[group] > before.groups[group]
    assert view.row.revision_number == 1
    assert change(world, group, **values).row.revision_number == 1


def test_a_port_is_in_one_tenant_group_and_in_any_number_of_others(world: World) -> None:
    port = world.port()
    tenant = world.group(port)
    others = [world.group(port, stratum=stratum) for stratum in (*ASSIGNED, *ASSIGNED)]
    with pytest.raises(FirewallGroupPortInUse):
        world.group(port)
    assert {id_ for _, _, id_ in told(world)[port]} == {tenant, *others}


@pytest.mark.parametrize("stratum", ASSIGNED)
def test_a_vm_that_an_assigned_group_takes_or_leaves_stays_in_its_tenant_group(homes: World, stratum: Stratum) -> None:
    port = homes.port(device_owner=VM)
    home = default(homes).row.id
    group = homes.group(port, stratum=stratum)
    assert default(homes).port_ids == (port,)
    before = homes.seen().groups[home]
    change(homes, group, ports=())
    assert default(homes).port_ids == (port,)
    assert homes.seen().groups[home] == before


def test_a_vm_that_moves_between_tenant_groups_stays_in_those_that_admins_assigned(homes: World) -> None:
    port = homes.port(device_owner=VM)
    assigned = homes.group(port, stratum="admin")
    group = homes.member("p", groups.create_group, groups.GroupValues(ports=(port,))).row.id
    assert {id_ for _, _, id_ in told(homes)[port]} == {assigned, group}
    homes.member("p", groups.update_group, group, groups.GroupValues(ports=()))
    assert {id_ for _, _, id_ in told(homes)[port]} == {assigned, default(homes).row.id}


def test_a_default_group_made_late_takes_in_vms_that_only_admins_groups_cover(tmp_path: Path) -> None:
    world = World(sqlite(tmp_path))
    ports = [world.port(device_owner=VM) for _ in range(2)]
    world.group(ports[0], stratum="admin")
    world.default_group = DefaultFirewallGroup()
    world.call(membership.adopt)
    assert set(default(world).port_ids) == set(ports)
    world.store.close()


def test_a_vm_whose_group_becomes_an_admins_goes_home_and_stays_in_the_group_too(homes: World) -> None:
    port = homes.port(device_owner=VM)
    group = homes.group(port)
    assert default(homes).port_ids == ()
    assert change(homes, group, stratum="admin").port_ids == (port,)
    assert default(homes).port_ids == (port,)
    assert change(homes, group, stratum="tenant").port_ids == (port,)
    assert default(homes).port_ids == ()


def test_a_group_becomes_a_tenants_only_if_its_ports_are_in_no_other(world: World) -> None:
    port = world.port()
    world.group(port)
    group = world.group(port, stratum="admin")
    with pytest.raises(FirewallGroupPortInUse):
        change(world, group, stratum="tenant")
    change(world, group, stratum="tenant", ports=())


def test_a_default_group_stays_a_tenants(homes: World) -> None:
    homes.port(device_owner=VM)
    group = default(homes).row.id
    with pytest.raises(FirewallDefaultObjectUpdateRestricted):
        change(homes, group, stratum="admin")


# Who may change it


def _tried(used: dict[str, str]) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Every call of the service that changes or deletes what an assigned group is or uses."""
    policy, rule, group = used["policy"], used["rule"], used["group"]
    return [
        (groups.update_group, (group, groups.GroupValues(name="x"))),
        (groups.update_group, (group, groups.GroupValues(ports=()))),
        (groups.delete_group, (group,)),
        (policies.update_policy, (policy, policies.PolicyValues(name="x"))),
        (policies.update_policy, (policy, policies.PolicyValues(firewall_rules=()))),
        (policies.insert_rule, (policy, used["other"])),
        (policies.remove_rule, (policy, rule)),
        (policies.delete_policy, (policy,)),
        (rules.update_rule, (rule, rules.RuleValues(name="x"))),
        (rules.delete_rule, (rule,)),
    ]


@pytest.mark.parametrize("stratum", ASSIGNED)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_what_an_assigned_group_uses_is_changed_by_admins_only_whoever_owns_it(
    world: World, stratum: Stratum, direction: str
) -> None:
    rule, other = world.rule(), world.rule()
    policy = world.policy(rule)
    group = world.group(stratum=stratum, **{f"{direction}_firewall_policy_id": policy})
    used = {"rule": rule, "other": other, "policy": policy, "group": group}
    for call, arguments in _tried(used):
        with pytest.raises(FirewallObjectGuarded, match=r"only admins may change it"):
            world.member("p", call, *arguments)
    world.call(rules.update_rule, rule, rules.RuleValues(name="x"))
    change(world, group, stratum="tenant")
    for call, arguments in _tried(used)[:1] + _tried(used)[3:4] + _tried(used)[8:9]:
        world.member("p", call, *arguments)


# What it may use


def foreign(world: World) -> dict[str, Callable[[], str]]:
    """A policy with something that belongs to project q or, as an address, to a tenant; of each kind."""
    shared = {"project_id": "q", "shared": True}
    return {
        "firewall policy": lambda: world.policy(world.rule(**shared), **shared),
        "firewall rule": lambda: world.policy(world.rule(**shared)),
    }


@pytest.mark.parametrize("stratum", ASSIGNED)
@pytest.mark.parametrize("kind", ["firewall policy", "firewall rule"])
def test_an_assigned_group_uses_nothing_of_another_project(world: World, stratum: Stratum, kind: str) -> None:
    policy = foreign(world)[kind]()
    group = world.group(ingress_firewall_policy_id=policy)
    with pytest.raises(FirewallGroupUsesForeign, match=kind):
        change(world, group, stratum=stratum)
    with pytest.raises(FirewallGroupUsesForeign, match=kind):
        world.group(stratum=stratum, egress_firewall_policy_id=policy)
    with pytest.raises(FirewallGroupUsesForeign, match=kind):
        change(world, world.group(stratum=stratum), egress_firewall_policy_id=policy)
    assert world.group_row(group).stratum == "tenant"


def test_a_policy_of_an_assigned_group_takes_no_rule_of_another_project(world: World) -> None:
    rule = world.rule(project_id="q", shared=True)
    policy = world.policy()
    world.group(stratum="baseline", ingress_firewall_policy_id=policy)
    with pytest.raises(FirewallGroupUsesForeign, match=rule):
        world.call(policies.insert_rule, policy, rule)
    with pytest.raises(FirewallGroupUsesForeign, match=rule):
        world.call(policies.update_policy, policy, policies.PolicyValues(firewall_rules=(rule,)))


def test_a_firewall_group_that_an_assigned_group_names_is_itself_assigned_and_stays_so(world: World) -> None:
    named = world.group(stratum="baseline")
    rule = world.rule()
    world.call(name_group, rule, named)
    policy = world.policy(rule)
    world.group(stratum="admin", ingress_firewall_policy_id=policy)
    with pytest.raises(FirewallGroupUsesForeign, match=f"firewall group {named}"):
        change(world, named, stratum="tenant")
    tenants, other = world.group(), world.rule()
    world.call(name_group, other, tenants)
    with pytest.raises(FirewallGroupUsesForeign, match=f"firewall group {tenants}"):
        world.call(policies.insert_rule, policy, other)
    change(world, tenants, stratum="admin")
    world.call(policies.insert_rule, policy, other)


def name_group(session: Session, _context: Context, rule: str, group: str) -> None:
    """Let the rule match what comes from the group."""
    session.get_one(FirewallRule, rule).source_firewall_group_id = group


# Rules that pass


def test_only_admins_make_rules_that_pass(world: World) -> None:
    with pytest.raises(FirewallRulePassAdminOnly):
        world.member("p", rules.create_rule, rules.RuleValues(action="pass"))
    rule = world.rule()
    with pytest.raises(FirewallRulePassAdminOnly):
        world.member("p", rules.update_rule, rule, rules.RuleValues(action="pass"))
    world.call(rules.update_rule, rule, rules.RuleValues(action="pass"))


@pytest.mark.parametrize("stratum", [Stratum.TENANT, Stratum.BASELINE])
def test_a_rule_that_passes_stands_in_policies_of_admin_groups_only(world: World, stratum: Stratum) -> None:
    passing, plain, there = world.rule(action="pass"), world.rule(), world.rule()
    policy = world.policy(there)
    group = world.group(stratum=stratum, ingress_firewall_policy_id=policy)
    with_pass = world.policy(passing)
    for call, *arguments in (
        (policies.insert_rule, policy, passing),
        (policies.update_policy, policy, policies.PolicyValues(firewall_rules=(plain, passing))),
        (rules.update_rule, there, rules.RuleValues(action="pass")),
        (groups.update_group, group, groups.GroupValues(egress_firewall_policy_id=with_pass)),
        (groups.create_group, groups.GroupValues(stratum=stratum, ingress_firewall_policy_id=with_pass)),
    ):
        with pytest.raises(FirewallRulePassMisplaced, match=r"pass"):
            world.call(call, *arguments)
    admins = world.group(stratum="admin", ingress_firewall_policy_id=with_pass)
    with pytest.raises(FirewallRulePassMisplaced):
        change(world, admins, stratum=stratum)


def test_a_default_group_passes_nothing(homes: World) -> None:
    homes.port(device_owner=VM)
    policy = default(homes).row.ingress_firewall_policy_id
    rule = homes.rule(action="pass")
    with pytest.raises(FirewallRulePassMisplaced):
        homes.call(policies.insert_rule, policy, rule)


def test_an_assigned_group_that_names_its_ports_is_not_deleted_with_them_in_it(world: World) -> None:
    group = world.group(world.port(), stratum="admin")
    with pytest.raises(FirewallGroupInUse):
        world.call(groups.delete_group, group)
