"""The default group: made once and whole, kept from members, and never without its project's VM ports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from portward.config import DefaultFirewallGroup, Quotas
from portward.service import default_group, errors, groups, policies, ports, rules, tags
from portward.service.groups import GroupValues
from portward.service.policies import PolicyValues
from portward.service.ports import PortValues
from portward.service.rules import RuleValues
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, GroupPort, PolicyRule
from servers.fixtures import empty
from unit.service.world import ROUTER, World, sqlite

VM = "compute:nova"
Restricted = errors.FirewallDefaultObjectUpdateRestricted


class Cloud(World):
    """A world with default groups; its projects are p1 and p2."""

    def __init__(self, url: str, **section: Any) -> None:
        super().__init__(url, default_group=DefaultFirewallGroup(**section))

    def vm(self, project_id: str = "p1") -> str:
        return self.port(device_owner=VM, project_id=project_id)

    def default(self, project_id: str = "p1") -> Any:
        self.call(default_group.ensure, project_id)
        named = [view for view in self.call(groups.list_groups) if view.row.default_of == project_id]
        assert len(named) == 1
        return named[0]

    def policy_of(self, direction: str) -> Any:
        return self.call(policies.get_policy, getattr(self.default().row, f"{direction}_firewall_policy_id"))

    def covering(self, port_id: str) -> list[str]:
        return [view.row.id for view in self.call(groups.list_groups) if port_id in view.port_ids]


@pytest.fixture
def cloud(database_url: str) -> Iterator[Cloud]:
    empty(database_url)
    made = Cloud(database_url)
    yield made
    made.store.close()


def put(group_id: str, **values: Any) -> tuple[Any, ...]:
    return groups.update_group, group_id, GroupValues(**values)


def test_a_project_gets_a_group_two_policies_and_four_rules(cloud: Cloud) -> None:
    assert cloud.member("p1", default_group.missing)
    group = cloud.default()
    assert not cloud.member("p1", default_group.missing)
    assert (group.row.name, group.row.project_id, group.row.admin_state_up) == ("default", "p1", True)
    for direction, action in (("ingress", "deny"), ("egress", "allow")):
        policy = cloud.policy_of(direction)
        assert (policy.row.name, policy.row.project_id) == (f"default {direction}", "p1")
        found = [cloud.call(rules.get_rule, rule_id).row for rule_id in policy.rule_ids]
        assert [(rule.name, rule.ip_version, rule.action, rule.enabled) for rule in found] == [
            (f"default {direction} ipv{version}", version, action, True) for version in (4, 6)
        ]
    assert len(cloud.member("p1", rules.list_rules)) == 4
    assert cloud.member("p2", rules.list_rules) == []


def test_it_is_made_once(cloud: Cloud) -> None:
    first = cloud.default()
    assert cloud.default().row.id == first.row.id
    assert [len(cloud.call(listed)) for listed in (rules.list_rules, policies.list_policies)] == [4, 2]
    with pytest.raises(IntegrityError):
        cloud.call(_another, "p1")


def _another(session: Any, context: Any, project_id: str) -> None:
    row = {"id": "x", "project_id": project_id, "default_of": project_id}
    session.add(FirewallGroup(**row, created_at=context.now, updated_at=context.now, changed_at=context.now))


def test_no_project_and_an_operator_who_wants_none_get_none(cloud: Cloud) -> None:
    assert not cloud.member("", default_group.missing)
    cloud.default_group = DefaultFirewallGroup(enabled=False)
    assert not cloud.member("p1", default_group.missing)
    cloud.call(default_group.ensure, "p1")
    vm = cloud.vm()
    assert cloud.call(groups.list_groups) == []
    group = cloud.group(vm, project_id="p1")
    assert cloud.member("p1", *put(group, ports=())).port_ids == ()
    assert cloud.covering(vm) == []


def test_the_rules_are_as_the_operator_says(tmp_path: Path) -> None:
    cloud = Cloud(
        sqlite(tmp_path),
        ingress_enabled=False,
        ingress_action="reject",
        egress_action="deny",
        protocol="tcp",
        ingress_source_ipv4_address="10.0.0.0/8",
        ingress_destination_ipv6_address="2001:db8::/32",
        ingress_destination_port="443",
        egress_source_port="1024:2048",
    )
    try:
        cloud.default()
        found = {view.row.name: view.row for view in cloud.call(rules.list_rules)}
    finally:
        cloud.store.close()
    v4, v6, out = (found[f"default {name}"] for name in ("ingress ipv4", "ingress ipv6", "egress ipv4"))
    assert (v4.enabled, v4.action, v4.protocol) == (False, "reject", "tcp")
    assert (v4.source_ip_address, v4.destination_ip_address, v4.destination_port) == ("10.0.0.0/8", None, "443")
    assert (v6.source_ip_address, v6.destination_ip_address) == (None, "2001:db8::/32")
    assert (out.enabled, out.action, out.source_port, out.destination_port) == (True, "deny", "1024:2048", None)


def test_the_names_are_reserved_for_new_and_for_old_objects(cloud: Cloud) -> None:
    policy, group = cloud.policy(), cloud.group()
    for name in ("default ingress", "default egress"):
        for call in (
            (policies.create_policy, PolicyValues(name=name)),
            (policies.update_policy, policy, PolicyValues(name=name)),
        ):
            with pytest.raises(errors.FirewallDefaultParameterExists, match="Firewall Policy"):
                cloud.call(*call)
    for call in ((groups.create_group, GroupValues(name="default")), put(group, name="default")):
        with pytest.raises(errors.FirewallDefaultParameterExists, match="Firewall Group"):
            cloud.call(*call)
    cloud.group(name="Default")


@pytest.mark.parametrize(
    "values",
    [
        {"name": "default"},
        {"description": "x"},
        {"admin_state_up": False},
        {"ingress_firewall_policy_id": None},
        {"egress_firewall_policy_id": None},
        {"ports": (), "description": "x"},
    ],
)
def test_members_change_nothing_of_the_group_but_its_ports(cloud: Cloud, values: dict[str, Any]) -> None:
    group = cloud.default().row.id
    with pytest.raises(Restricted, match="Firewall Group"):
        cloud.member("p1", *put(group, **values))
    assert cloud.member("p1", *put(group)).row.revision_number == 0


def test_admins_change_all_of_the_group_but_its_name(cloud: Cloud) -> None:
    group = cloud.default().row.id
    with pytest.raises(Restricted):
        cloud.call(*put(group, name="mine"))
    changed = cloud.call(*put(group, description="x", admin_state_up=False, ingress_firewall_policy_id=None))
    assert (changed.row.description, changed.row.admin_state_up) == ("x", False)


def ways_in(cloud: Cloud) -> list[tuple[Any, ...]]:
    """Whatever would change a default policy or rule of p1."""
    policy, own = cloud.policy_of("ingress"), cloud.rule(project_id="p1")
    rule = policy.rule_ids[0]
    return [
        (policies.insert_rule, policy.row.id, own),
        (rules.update_rule, own, RuleValues(action="allow")),  # by then it decides in the default policy
        (policies.remove_rule, policy.row.id, rule),
        (rules.update_rule, rule, RuleValues(action="allow")),
        (rules.update_rule, rule, RuleValues(enabled=False)),
        (policies.update_policy, policy.row.id, PolicyValues(name="x")),
        (policies.update_policy, policy.row.id, PolicyValues(audited=True)),
        (policies.update_policy, policy.row.id, PolicyValues(firewall_rules=())),
        (rules.delete_rule, rule),
    ]


def test_members_change_default_policies_and_rules_in_no_way_and_admins_in_all(cloud: Cloud) -> None:
    for number, call in enumerate(ways_in(cloud)):
        if number != 1:
            with pytest.raises(Restricted):
                cloud.member("p1", *call)
        cloud.call(*call)
        if number == 0:
            with pytest.raises(Restricted, match="Firewall Policy"):
                cloud.member("p1", rules.update_rule, call[2], RuleValues(action="allow"))
    empty = cloud.policy_of("ingress").row.id
    with pytest.raises(Restricted):
        cloud.member("p1", policies.delete_policy, empty)
    cloud.call(*put(cloud.default().row.id, ingress_firewall_policy_id=None))
    cloud.call(policies.delete_policy, empty)


def test_members_do_not_tag_default_objects(cloud: Cloud) -> None:
    def tag(session: Any, context: Any) -> Any:
        row = groups.find_group(session, context, group)
        return tags.replace_tags(session, context, row, ["x"])

    group = cloud.default().row.id
    with pytest.raises(Restricted):
        cloud.member("p1", tag)
    assert cloud.call(tag) == ("x",)


def test_an_admin_deletes_it_with_its_policies_and_rules_and_it_comes_back_whole(cloud: Cloud) -> None:
    group = cloud.default().row
    with pytest.raises(errors.FirewallGroupCannotRemoveDefault):
        cloud.member("p1", groups.delete_group, group.id)
    stranger = cloud.rule(project_id="p1")
    cloud.call(policies.insert_rule, group.egress_firewall_policy_id, stranger)
    cloud.call(*put(group.id, ingress_firewall_policy_id=None))
    cloud.call(groups.delete_group, group.id)
    assert cloud.call(groups.list_groups) == cloud.call(policies.list_policies) == []
    assert [view.row.id for view in cloud.call(rules.list_rules)] == [stranger]
    cloud.default()
    assert len(cloud.call(policies.list_policies)) == 2
    assert len([view for view in cloud.call(rules.list_rules) if view.row.default_of]) == 4


def test_what_is_used_elsewhere_keeps_the_default_group(cloud: Cloud) -> None:
    group, policy = cloud.default().row, cloud.policy_of("ingress")
    user = cloud.group(project_id="p1", egress_firewall_policy_id=policy.row.id)
    with pytest.raises(errors.FirewallPolicyInUse, match=policy.row.id):
        cloud.call(groups.delete_group, group.id)
    cloud.call(groups.delete_group, user)
    user = cloud.policy(policy.rule_ids[1], project_id="p1")
    with pytest.raises(errors.FirewallRuleInUse, match=policy.rule_ids[1]):
        cloud.call(groups.delete_group, group.id)
    cloud.call(policies.delete_policy, user)
    vm = cloud.vm()
    with pytest.raises(errors.FirewallGroupInUse):
        cloud.call(groups.delete_group, group.id)
    cloud.call(ports.delete_port, vm)
    cloud.call(groups.delete_group, group.id)


def test_a_vm_port_is_in_a_group_from_its_first_transaction(cloud: Cloud) -> None:
    before = cloud.seen().generation
    vm = cloud.vm()
    group = cloud.default()
    assert group.port_ids == (vm,)
    assert cloud.seen().generation == before + 1 == group.row.generation
    second = cloud.vm()
    assert cloud.default().port_ids == (vm, second)
    assert cloud.default().row.generation == before + 2
    assert cloud.port(project_id="p1") not in cloud.default().port_ids


def test_a_port_becomes_a_vm_port_and_stops_being_one(cloud: Cloud) -> None:
    port = cloud.port(project_id="p1")
    cloud.call(ports.update_port, port, PortValues(device_owner=VM))
    assert cloud.covering(port) == [cloud.default().row.id]
    for owner in (ROUTER, "network:dhcp"):
        before = cloud.seen().generation
        cloud.call(ports.update_port, port, PortValues(device_owner=owner))
        assert cloud.covering(port) == []
        assert cloud.seen().generation == before + 1
        cloud.call(ports.update_port, port, PortValues(device_owner=VM))
    group = cloud.group(port, project_id="p1")
    cloud.call(ports.update_port, port, PortValues(device_owner=ROUTER))
    assert cloud.covering(port) == []
    cloud.call(*put(group, ports=(port,)))
    cloud.call(ports.update_port, port, PortValues(device_owner=VM))
    assert cloud.covering(port) == [group]


def test_a_vm_port_moves_at_once_and_returns_and_both_groups_change(cloud: Cloud) -> None:
    vm, stays = cloud.vm(), cloud.vm()
    home = cloud.default().row.id
    group = cloud.group(project_id="p1")
    before = cloud.seen()
    assert cloud.member("p1", *put(group, ports=(vm,))).port_ids == (vm,)
    moved = cloud.seen()
    assert moved.generation == before.generation + 1
    assert moved.groups == dict.fromkeys((home, group), (moved.generation, cloud.now))
    assert cloud.default().port_ids == (stays,)
    assert cloud.member("p1", *put(group, ports=())).port_ids == ()
    returned = cloud.seen()
    assert returned.generation == moved.generation + 1
    assert returned.groups == dict.fromkeys((home, group), (returned.generation, cloud.now))
    assert cloud.default().port_ids == (stays, vm)
    made = cloud.member("p1", groups.create_group, GroupValues(ports=(vm, stays)))
    assert made.port_ids == (vm, stays)
    assert cloud.default().port_ids == ()


def test_a_default_group_that_loses_its_last_port_starts_anew(cloud: Cloud) -> None:
    def note(session: Any, _context: Any) -> None:
        session.get_one(FirewallGroup, home).realised_once = True

    vm, other = cloud.vm(), cloud.vm()
    home = cloud.default().row.id
    cloud.call(note)
    cloud.group(vm, project_id="p1")
    assert cloud.group_row(home).realised_once
    cloud.group(other, project_id="p1")
    assert not cloud.group_row(home).realised_once


def test_a_vm_port_stays_in_its_own_default_group_whatever_a_put_says(cloud: Cloud) -> None:
    first, second, router = cloud.vm(), cloud.vm(), cloud.port(project_id="p1")
    group = cloud.default().row.id
    before = cloud.seen()
    assert cloud.member("p1", *put(group, ports=())).port_ids == (first, second)
    assert cloud.seen() == before
    assert cloud.default().row.revision_number == 1  # of the second port, which came by itself
    assert cloud.member("p1", *put(group, ports=(router, second))).port_ids == (router, second, first)
    assert cloud.member("p1", *put(group, ports=())).port_ids == (second, first)
    assert cloud.covering(router) == []


def test_a_vm_port_in_another_projects_default_group_goes_home_from_there(cloud: Cloud) -> None:
    vm, group = cloud.vm("p2"), cloud.default("p1").row.id
    cloud.call(*put(group, ports=(vm,)))
    assert cloud.covering(vm) == [group]
    cloud.member("p1", *put(group, ports=()))
    assert cloud.covering(vm) == [cloud.default("p2").row.id]


def test_two_groups_that_are_no_default_exclude_each_other(cloud: Cloud) -> None:
    vm = cloud.vm()
    owner = cloud.group(vm, project_id="p1")
    for call in (
        (groups.create_group, GroupValues(ports=(vm,))),
        put(cloud.group(project_id="p1"), ports=(vm,)),
        put(cloud.default().row.id, ports=(vm,)),
    ):
        with pytest.raises(errors.FirewallGroupPortInUse, match=vm):
            cloud.member("p1", *call)
    assert cloud.covering(vm) == [owner]


@pytest.mark.parametrize("owner", ["network:dhcp", "network:router_gateway", "network:floatingip", "Octavia", ""])
def test_a_port_that_is_neither_a_routers_nor_a_vms_is_refused(cloud: Cloud, owner: str) -> None:
    port = cloud.port(device_owner=owner, project_id="p1")
    assert cloud.covering(port) == []
    with pytest.raises(errors.FirewallGroupPortInvalid, match=port):
        cloud.member("p1", groups.create_group, GroupValues(ports=(port,)))


def test_an_unbound_vm_port_is_fine(cloud: Cloud) -> None:
    vm = cloud.port(device_owner=VM, host="", project_id="p1")
    assert cloud.member("p1", groups.create_group, GroupValues(ports=(vm,))).status == "ACTIVE"


def test_a_default_group_made_late_takes_in_the_vm_ports_that_are_in_none(cloud: Cloud) -> None:
    cloud.default_group = DefaultFirewallGroup(enabled=False)
    first, elsewhere, router = cloud.vm(), cloud.vm(), cloud.port(project_id="p1")
    cloud.group(elsewhere, project_id="p1")
    cloud.default_group = DefaultFirewallGroup()
    before = cloud.seen().generation
    group = cloud.default()
    assert group.port_ids == (first,)
    assert (group.row.generation, cloud.covering(router)) == (before + 1, [])


def test_a_vm_port_comes_home_to_a_default_group_that_has_to_be_made(cloud: Cloud) -> None:
    vm = cloud.vm()
    group = cloud.group(vm, project_id="p1")
    cloud.call(groups.delete_group, cloud.default().row.id)
    cloud.member("p1", *put(group, ports=()))
    assert cloud.covering(vm) == [cloud.default().row.id]


def test_a_default_group_that_has_to_be_made_takes_no_port_that_stays_where_it_is(cloud: Cloud) -> None:
    cloud.default_group = DefaultFirewallGroup(enabled=False)
    leaving, staying = cloud.vm(), cloud.vm()
    group = cloud.group(leaving, staying)
    cloud.default_group = DefaultFirewallGroup()
    cloud.call(*put(group, ports=(staying,)))
    assert cloud.covering(staying) == [group]
    assert cloud.covering(leaving) == [cloud.default().row.id]


def test_a_deleted_vm_port_leaves_nothing(cloud: Cloud) -> None:
    vm = cloud.vm()
    before = cloud.seen().generation
    cloud.call(ports.delete_port, vm)
    assert (cloud.default().port_ids, cloud.seen().generation) == ((), before + 1)


def test_the_default_group_counts_for_the_quota_and_is_never_refused(cloud: Cloud) -> None:
    cloud.quotas = Quotas(firewall_group=2, firewall_policy=1, firewall_rule=0)
    cloud.default()
    cloud.group(project_id="p1")
    with pytest.raises(errors.OverQuota, match=r"\['firewall_group'\]"):
        cloud.group(project_id="p1")


def test_nothing_of_it_outlives_it(cloud: Cloud) -> None:
    cloud.call(groups.delete_group, cloud.default().row.id)
    with cloud.store.read() as session:
        for table in (FirewallRule, FirewallPolicy, PolicyRule, FirewallGroup, GroupPort):
            assert session.scalar(select(func.count()).select_from(table)) == 0
