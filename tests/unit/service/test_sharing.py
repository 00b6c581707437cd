"""Who sees what, who may use whose rules and policies, and that nothing which others use can be unshared."""

from collections.abc import Callable
from typing import Any

import pytest

from portward.service import errors, groups, policies, ports, rules
from portward.service.groups import GroupValues
from portward.service.policies import PolicyValues
from portward.service.rules import RuleValues
from unit.service.world import World


def made(world: World, kind: str, **values: Any) -> str:
    makers: dict[str, Callable[..., str]] = {
        "rule": world.rule,
        "policy": world.policy,
        "group": world.group,
        "port": world.port,
    }
    return makers[kind](**values)


KINDS: dict[str, tuple[Any, ...]] = {
    "rule": (rules.get_rule, rules.list_rules, rules.delete_rule, errors.FirewallRuleNotFound),
    "policy": (policies.get_policy, policies.list_policies, policies.delete_policy, errors.FirewallPolicyNotFound),
    "group": (groups.get_group, groups.list_groups, groups.delete_group, errors.FirewallGroupNotFound),
    "port": (ports.get_port, ports.list_ports, ports.delete_port, errors.PortNotFound),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_projects_object_is_not_there(world: World, kind: str) -> None:
    get, list_all, delete, missing = KINDS[kind]
    id_ = made(world, kind, project_id="p1")
    for project in ("p2", ""):
        assert world.member(project, list_all) == []
        for call in (get, delete):
            with pytest.raises(missing):
                world.member(project, call, id_)
    for view in (world.member("p1", get, id_), *world.member("p1", list_all), *world.call(list_all)):
        assert view.row.id == id_


@pytest.mark.parametrize("kind", ["rule", "policy", "group"])
def test_what_is_shared_is_seen_by_every_project(world: World, kind: str) -> None:
    get, list_all, _, missing = KINDS[kind]
    id_ = made(world, kind, project_id="p1", shared=True)
    assert world.member("p2", get, id_).row.id == id_
    assert [view.row.id for view in world.member("p2", list_all)] == [id_]
    assert world.member("", list_all) == []
    with pytest.raises(missing):
        world.member("", get, id_)


def test_a_rules_policies_are_told_to_those_who_see_them(world: World) -> None:
    rule = world.rule(project_id="p1", shared=True)
    own = world.policy(rule, project_id="p1")
    foreign = world.policy(rule, project_id="p2")
    assert world.member("p1", rules.get_rule, rule).policy_ids == (own,)
    assert world.member("p2", rules.list_rules)[0].policy_ids == (foreign,)
    assert set(world.call(rules.get_rule, rule).policy_ids) == {own, foreign}
    assert world.member("p1", rules.update_rule, rule, RuleValues(name="x")).policy_ids == (own,)


def ways_in(policy: str, rule: str) -> list[tuple[Any, ...]]:
    """All ways in which ``rule`` could come into a policy of p1."""
    return [
        (policies.create_policy, PolicyValues(project_id="p1", firewall_rules=(rule,))),
        (policies.update_policy, policy, PolicyValues(firewall_rules=(rule,))),
        (policies.insert_rule, policy, rule),
    ]


@pytest.mark.parametrize("way", range(3))
def test_a_foreign_rule_comes_into_no_policy_unless_it_is_shared(world: World, way: int) -> None:
    policy, rule = world.policy(project_id="p1"), world.rule(project_id="p2")
    with pytest.raises(errors.FirewallRuleNotFound):
        world.member("p1", *ways_in(policy, rule)[way])
    with pytest.raises(errors.FirewallRuleConflict, match="another project p2"):
        world.call(*ways_in(policy, rule)[way])
    world.call(rules.update_rule, rule, RuleValues(shared=True))
    assert world.member("p1", *ways_in(policy, rule)[way]).rule_ids == (rule,)


@pytest.mark.parametrize("way", range(3))
def test_the_project_of_the_policy_counts_not_the_admins(world: World, way: int) -> None:
    policy, admins_own, theirs = world.policy(project_id="p1"), world.rule(), world.rule(project_id="p1")
    with pytest.raises(errors.FirewallRuleConflict):
        world.call(*ways_in(policy, admins_own)[way])
    assert world.call(*ways_in(policy, theirs)[way]).rule_ids == (theirs,)


def test_a_shared_policy_has_shared_rules_alone(world: World) -> None:
    rule, shared = world.rule(), world.rule(shared=True)
    policy = world.policy(shared, shared=True)
    for call in (
        (policies.create_policy, PolicyValues(shared=True, firewall_rules=(rule,))),
        (policies.update_policy, policy, PolicyValues(firewall_rules=(shared, rule))),
        (policies.update_policy, policy, PolicyValues(shared=True, firewall_rules=(rule,))),
    ):
        with pytest.raises(errors.FirewallRuleSharingConflict):
            world.call(*call)
    with pytest.raises(errors.FirewallPolicySharingConflict):
        world.call(policies.insert_rule, policy, rule)
    assert world.call(policies.get_policy, policy).rule_ids == (shared,)


def test_a_policy_is_shared_after_its_rules(world: World) -> None:
    rule = world.rule()
    policy = world.policy(rule)
    with pytest.raises(errors.FirewallPolicySharingConflict, match=rule):
        world.call(policies.update_policy, policy, PolicyValues(shared=True))
    world.call(rules.update_rule, rule, RuleValues(shared=True))
    assert world.call(policies.update_policy, policy, PolicyValues(shared=True)).row.shared


def test_sharing_and_a_new_list_in_one_call_are_judged_together(world: World) -> None:
    rule, shared = world.rule(), world.rule(shared=True)
    policy = world.policy(rule)
    with pytest.raises(errors.FirewallRuleSharingConflict):
        world.call(policies.update_policy, policy, PolicyValues(shared=True, firewall_rules=(rule, shared)))
    assert not world.call(policies.get_policy, policy).row.shared
    made = world.call(policies.update_policy, policy, PolicyValues(shared=True, firewall_rules=(shared,)))
    assert made.row.shared
    made = world.call(policies.update_policy, policy, PolicyValues(shared=False, firewall_rules=(rule,)))
    assert made.rule_ids == (rule,)


def test_a_rule_that_others_use_is_not_unshared_by_an_admin_either(world: World) -> None:
    unshare = RuleValues(shared=False)
    used, in_shared, free = (world.rule(project_id="p1", shared=True) for _ in range(3))
    foreign = world.policy(used, project_id="p2")
    world.policy(used, free, project_id="p1")
    world.policy(in_shared, project_id="p1", shared=True)
    for rule in (used, in_shared):
        with pytest.raises(errors.FirewallRuleInUse, match=rule):
            world.call(rules.update_rule, rule, unshare)
    assert not world.call(rules.update_rule, free, unshare).row.shared
    world.call(policies.delete_policy, foreign)
    assert not world.call(rules.update_rule, used, unshare).row.shared


def test_a_policy_that_others_use_is_not_unshared_by_an_admin_either(world: World) -> None:
    unshare = PolicyValues(shared=False)
    for direction in ("ingress_firewall_policy_id", "egress_firewall_policy_id"):
        policy = world.policy(project_id="p1", shared=True)
        world.group(project_id="p1", **{direction: policy})
        foreign = world.group(project_id="p2", **{direction: policy})
        with pytest.raises(errors.FirewallPolicyInUse, match=policy):
            world.call(policies.update_policy, policy, unshare)
        world.call(groups.update_group, foreign, GroupValues(**{direction: None}))
        assert not world.call(policies.update_policy, policy, unshare).row.shared


def test_a_group_applies_own_and_shared_policies_alone(world: World) -> None:
    group = world.group(project_id="p1")
    foreign, own, shared = world.policy(), world.policy(project_id="p1"), world.policy(shared=True)
    for direction in ("ingress_firewall_policy_id", "egress_firewall_policy_id"):
        for call in (
            (groups.create_group, GroupValues(project_id="p1", **{direction: foreign})),
            (groups.update_group, group, GroupValues(**{direction: foreign})),
        ):
            for caller in (world.call, lambda *call: world.member("p1", *call)):
                with pytest.raises(errors.FirewallPolicyNotFound, match=foreign):
                    caller(*call)
        for policy in (own, shared):
            world.member("p1", groups.update_group, group, GroupValues(**{direction: policy}))


def test_a_member_puts_no_port_of_another_project_into_a_group(world: World) -> None:
    group, foreign, own = world.group(project_id="p1"), world.port(project_id="p2"), world.port(project_id="p1")
    for call in (
        (groups.create_group, GroupValues(ports=(own, foreign))),
        (groups.update_group, group, GroupValues(ports=(own, foreign))),
    ):
        with pytest.raises(errors.PortNotFound, match=foreign):
            world.member("p1", *call)
    world.call(groups.update_group, group, GroupValues(ports=(foreign,)))
    both = (foreign, own)  # what an admin put in may stay
    assert world.member("p1", groups.update_group, group, GroupValues(ports=both)).port_ids == both


def test_a_member_hears_of_a_groups_hosts_no_names(world: World) -> None:
    group = world.group(world.port(project_id="p1"), project_id="p1")
    assert world.member("p1", groups.group_realisation, group).ports[0].host is None
    assert world.call(groups.group_realisation, group).ports[0].host == "h1"


def changes(policy: str, rule: str, other: str) -> list[tuple[Any, ...]]:
    """Whatever changes a policy that holds ``rule``."""
    return [
        (rules.update_rule, rule, RuleValues(name="x")),
        (rules.update_rule, rule, RuleValues(enabled=False)),
        (policies.update_policy, policy, PolicyValues(name="x")),
        (policies.update_policy, policy, PolicyValues(shared=True)),
        (policies.update_policy, policy, PolicyValues(firewall_rules=(other, rule))),
        (policies.insert_rule, policy, other),
        (policies.remove_rule, policy, rule),
    ]


@pytest.mark.parametrize("number", range(7))
def test_every_change_of_a_policy_or_a_rule_in_it_ends_its_audit(world: World, number: int) -> None:
    rule, other = world.rule(project_id="p1", shared=True), world.rule(shared=True)
    policy = world.policy(rule, project_id="p2", audited=True)
    before = world.call(policies.get_policy, policy).row
    assert before.audited
    world.call(*changes(policy, rule, other)[number])
    after = world.call(policies.get_policy, policy).row
    assert not after.audited
    assert after.revision_number == before.revision_number + 1


def test_an_audit_in_the_call_that_changes_holds(world: World) -> None:
    rule = world.rule()
    policy = world.policy()
    values = PolicyValues(name="x", firewall_rules=(rule,), audited=True)
    assert world.call(policies.update_policy, policy, values).row.audited


def test_a_change_of_a_rule_counts_for_audited_policies_alone(world: World) -> None:
    rule = world.rule()
    policy = world.policy(rule)
    world.call(rules.update_rule, rule, RuleValues(name="x"))
    assert world.call(policies.get_policy, policy).row.revision_number == 0
