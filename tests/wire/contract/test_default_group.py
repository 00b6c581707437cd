"""The default group of each project, and quotas."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from wire.conftest import Api, path, plural
from wire.contract.cloud import (
    GROUP,
    POLICY,
    RULE,
    Cloud,
    Personas,
    listed,
    not_found,
    refused,
    router_port,
    rules,
    unchanged,
    vm_port,
)

KINDS = [GROUP, POLICY, RULE]


def home(api: Api) -> dict[str, Any]:
    """The default group that ``api`` sees in its project."""
    (group,) = api.index(GROUP, name="default", project_id="p1")
    return group


def defaults(api: Api) -> dict[str, list[dict[str, Any]]]:
    return {kind: api.index(kind) for kind in KINDS}


@pytest.mark.parametrize("first", KINDS)
def test_the_first_list_of_a_project_shows_its_default_group_whole(default: Personas, first: str) -> None:
    """Behaviour 67. Difference 4."""
    member = default.member
    shown = {first: member.index(first)} | {kind: member.index(kind) for kind in KINDS if kind != first}
    (group,) = shown[GROUP]
    policies = {policy["name"]: policy for policy in shown[POLICY]}
    assert (group["name"], group["project_id"], group["shared"], group["ports"]) == ("default", "p1", False, [])
    assert (group["status"], group["admin_state_up"]) == ("INACTIVE", True)
    assert policies.keys() == {"default ingress", "default egress"}
    assert group["ingress_firewall_policy_id"] == policies["default ingress"]["id"]
    assert group["egress_firewall_policy_id"] == policies["default egress"]["id"]
    by_id = {rule["id"]: rule for rule in shown[RULE]}
    assert len(shown[RULE]) == 4
    for direction, action in (("ingress", "deny"), ("egress", "allow")):
        inside = [by_id[rule] for rule in policies[f"default {direction}"]["firewall_rules"]]
        assert sorted((rule["name"], rule["ip_version"], rule["action"], rule["enabled"]) for rule in inside) == [
            (f"default {direction} ipv4", 4, action, True),
            (f"default {direction} ipv6", 6, action, True),
        ]
        assert {rule["protocol"] for rule in inside} == {None}
    assert defaults(member) == shown


def test_a_get_of_nothing_makes_no_failure_in_a_new_project(default: Personas) -> None:
    """Difference 4."""
    for kind in KINDS:
        not_found(default.member.get(kind, "nope"), kind, "nope")
        assert len(default.stranger.index(kind, name="x")) == 0


def test_a_reader_lists_first_and_sees_the_same(default: Personas) -> None:
    """Behaviour 67. Difference 4."""
    assert [group["name"] for group in default.reader.index(GROUP)] == ["default"]
    assert defaults(default.reader) == defaults(default.member)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_first_lists_at_once_make_one_default_group(default: Personas, kind: str) -> None:
    """Behaviour 67. Difference 4."""
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: default.member.request("GET", path(kind)), range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    shown = defaults(default.member)
    assert [len(shown[kind]) for kind in KINDS] == [1, 2, 4]
    assert all(sorted(item["id"] for item in answer.json()[plural(kind)]) == sorted(item["id"] for item in shown[kind])
               for answer in answers)  # fmt: skip


def test_the_first_creation_brings_the_default_group_too(default: Personas) -> None:
    """Behaviour 67. Difference 4."""
    default.member.make(RULE)
    assert [len(items) for items in defaults(default.member).values()] == [1, 2, 5]


def restricted(group: str) -> str:
    return f"Operation cannot be performed on default object '{group}' of type Firewall Group."


def test_a_member_changes_nothing_of_the_default_group_but_its_ports(default: Personas) -> None:
    """Behaviour 68. Difference 12."""
    admin, member = default.admin, default.member
    vm = vm_port(admin)
    group = home(member)
    other = member.make(POLICY)["id"]
    assert group["ports"] == [vm]
    assert member.change(GROUP, group["id"]) == group
    with unchanged(admin):
        for change in (
            {"name": "mine"},
            {"description": "mine"},
            {"admin_state_up": False},
            {"ingress_firewall_policy_id": other},
            {"egress_firewall_policy_id": None},
            {"name": "mine", "ports": []},
        ):
            answer = member.put(GROUP, group["id"], **change)
            refused(answer, 409, "FirewallDefaultObjectUpdateRestricted", restricted(group["id"]))
    assert member.change(GROUP, group["id"], ports=[])["ports"] == [vm]
    router = router_port(admin)
    assert sorted(member.change(GROUP, group["id"], ports=[router])["ports"]) == sorted([vm, router])
    assert member.change(GROUP, group["id"], ports=[])["ports"] == [vm]


def test_an_admin_changes_all_of_the_default_group_but_its_name(default: Personas) -> None:
    """Behaviour 68. Difference 12."""
    admin, group = default.admin, home(default.member)["id"]
    policy = admin.make(POLICY, project_id="p1")["id"]
    for change in (
        {"description": "new"},
        {"admin_state_up": False},
        {"ingress_firewall_policy_id": policy},
        {"egress_firewall_policy_id": None},
        {"ports": []},
    ):
        changed = admin.change(GROUP, group, **change)
        assert changed | change == changed
    with unchanged(admin):
        refused(admin.put(GROUP, group, name="mine"), 409, "FirewallDefaultObjectUpdateRestricted", restricted(group))


def test_a_member_does_not_delete_the_default_group(default: Personas) -> None:
    """Behaviour 69."""
    group = home(default.member)["id"]
    with unchanged(default.admin):
        answer = default.member.delete(GROUP, group)
        refused(answer, 409, "FirewallGroupCannotRemoveDefault", "Deleting default firewall group not allowed.")


@pytest.mark.parametrize("nulled", [(), ("ingress",), ("ingress", "egress")])
def test_a_default_group_that_an_admin_deletes_comes_back_whole(
    cloud: Cloud, default: Personas, nulled: tuple[str, ...]
) -> None:
    """Behaviour 69. Difference 12."""
    before = defaults(default.member)
    group = home(default.member)["id"]
    default.admin.change(GROUP, group, **{f"{direction}_firewall_policy_id": None for direction in nulled})
    assert default.admin.delete(GROUP, group).status_code == 204
    plain = cloud.plain.member  # of the server that makes none anew
    assert defaults(plain) == {GROUP: [], POLICY: [], RULE: []}
    after = defaults(default.member)
    assert [len(after[kind]) for kind in KINDS] == [1, 2, 4]
    names = [sorted(rule["name"] for rule in shown[RULE]) for shown in (before, after)]
    assert names[0] == names[1]


def test_a_deleted_default_group_loses_no_vm(default: Personas) -> None:
    """Behaviour 69. Differences 12, 16."""
    admin, member = default.admin, default.member
    vm = vm_port(admin)
    group = home(member)
    answer = admin.delete(GROUP, group["id"])
    assert answer.status_code in (204, 409)
    assert [found["name"] for found in member.index(GROUP, ports=vm)] == ["default"]


def test_a_member_changes_no_default_policy_and_no_default_rule(default: Personas) -> None:
    """Behaviour 70. Difference 12."""
    admin, member = default.admin, default.member
    group = home(member)
    policy = group["egress_firewall_policy_id"]
    rule = member.show(POLICY, policy)["firewall_rules"][0]
    own = member.make(RULE)["id"]
    with unchanged(admin):
        for change in ({"name": "x"}, {"firewall_rules": []}, {"audited": True}, {"description": "x"}):
            refused(member.put(POLICY, policy, **change), 409, "FirewallDefaultObjectUpdateRestricted")
        for answer in (
            member.insert(policy, firewall_rule_id=own),
            member.remove(policy, firewall_rule_id=rule),
            member.put(RULE, rule, action="deny"),
            member.put(RULE, rule, enabled=False),
        ):
            refused(answer, 409, "FirewallDefaultObjectUpdateRestricted")
        assert member.delete(RULE, rule).status_code == 409
        assert member.delete(POLICY, policy).status_code == 409


def test_a_default_rule_in_no_policy_is_protected_still(default: Personas) -> None:
    """Behaviour 70. Difference 12."""
    admin, member = default.admin, default.member
    policy = home(member)["egress_firewall_policy_id"]
    rule = member.show(POLICY, policy)["firewall_rules"][0]
    assert admin.remove(policy, firewall_rule_id=rule).status_code == 200
    with unchanged(admin):
        assert member.delete(RULE, rule).status_code == 409
        assert member.put(RULE, rule, action="deny").status_code == 409
        group = home(member)["id"]
    admin.change(GROUP, group, egress_firewall_policy_id=None)
    with unchanged(admin):
        assert member.delete(POLICY, policy).status_code == 409


def test_a_members_own_rule_in_a_default_policy_is_protected_too(default: Personas) -> None:
    """Behaviour 70. Difference 12."""
    admin, member = default.admin, default.member
    own = member.make(RULE)["id"]
    policy = home(member)["egress_firewall_policy_id"]
    assert admin.insert(policy, firewall_rule_id=own).status_code == 200
    with unchanged(admin):
        assert member.put(RULE, own, action="allow").status_code == 409
        assert member.delete(RULE, own).status_code == 409
    assert admin.change(RULE, own, action="allow")["action"] == "allow"


def test_an_admin_changes_default_policies_and_rules(default: Personas) -> None:
    """Behaviour 70. Difference 12."""
    admin, member = default.admin, default.member
    policy = home(member)["egress_firewall_policy_id"]
    rule, other = member.show(POLICY, policy)["firewall_rules"]
    new = admin.make(RULE, project_id="p1")["id"]
    assert admin.change(RULE, rule, action="reject")["action"] == "reject"
    assert admin.insert(policy, firewall_rule_id=new).json()["firewall_rules"] == [new, rule, other]
    assert admin.remove(policy, firewall_rule_id=other).json()["firewall_rules"] == [new, rule]
    assert admin.delete(RULE, other).status_code == 204
    assert admin.change(POLICY, policy, description="new", firewall_rules=[rule])["firewall_rules"] == [rule]


def test_what_a_member_takes_of_the_default_objects_into_others_is_only_used(default: Personas) -> None:
    """Difference 12."""
    member = default.member
    policy = home(member)["egress_firewall_policy_id"]
    rule = member.show(POLICY, policy)["firewall_rules"][0]
    own = member.make(POLICY, firewall_rules=[rule])
    assert own["firewall_rules"] == [rule]
    assert member.make(GROUP, egress_firewall_policy_id=policy)["egress_firewall_policy_id"] == policy
    assert member.remove(own["id"], firewall_rule_id=rule).status_code == 200


def over(kind: str) -> str:
    return f"Quota exceeded for resources: ['{kind}']."


@pytest.mark.parametrize(("kind", "left"), [(GROUP, 9), (POLICY, 8), (RULE, 96)])
def test_a_project_has_its_quota_and_no_more_defaults_included(default: Personas, kind: str, left: int) -> None:
    """Behaviour 71."""
    admin, member = default.admin, default.member
    many = {plural(kind): [{} for _ in range(left)]}
    assert member.request("POST", path(kind), json=many).status_code == 201
    with unchanged(admin):
        refused(member.post(kind), 409, "OverQuota", over(kind))
        refused(admin.post(kind, project_id="p1"), 409, "OverQuota", over(kind))
        answer = member.request("POST", path(kind), json={plural(kind): [{}]})
        refused(answer, 409, "OverQuota", over(kind))
    assert default.stranger.make(kind)["project_id"] == "p2"
    own = [item["id"] for item in member.index(kind) if not item["name"].startswith("default")]
    assert member.delete(kind, own[0]).status_code == 204
    assert member.make(kind)["project_id"] == "p1"
    refused(member.post(kind), 409, "OverQuota", over(kind))


def test_many_that_are_too_many_together_are_none(default: Personas) -> None:
    """Behaviour 71."""
    listed(default.member, GROUP)
    with unchanged(default.admin):
        answer = default.member.request("POST", path(GROUP), json={"firewall_groups": [{} for _ in range(10)]})
        refused(answer, 409, "OverQuota", over(GROUP))


def test_a_project_that_is_full_has_its_default_group_nonetheless(cloud: Cloud) -> None:
    """Behaviour 71. Difference 4."""
    assert len(rules(cloud.plain.member, 10)) == 10
    many = {"firewall_groups": [{} for _ in range(10)]}
    assert cloud.plain.member.request("POST", path(GROUP), json=many).status_code == 201
    answer = cloud.defaults.member.request("GET", path(GROUP))
    assert answer.status_code == 200
    assert "default" in [group["name"] for group in answer.json()["firewall_groups"]]
