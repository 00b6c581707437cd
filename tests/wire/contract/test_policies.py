"""Firewall policies: their lists, who may use whose rules, sharing, and when a policy counts as audited."""

from collections.abc import Callable

import pytest

from wire.conftest import UNKNOWN, Api, path
from wire.contract.cloud import (
    GROUP,
    POLICY,
    RULE,
    denied,
    listed,
    not_found,
    refused,
    rules,
    unchanged,
)

KEYS = {
    "id", "project_id", "tenant_id", "name", "description", "shared", "audited", "firewall_rules", "revision_number",
    "created_at", "updated_at", "tags",
}  # fmt: skip


def test_a_policy_keeps_the_order_of_its_rules(member: Api) -> None:
    """Behaviour 27."""
    order = sorted(rules(member, 3), reverse=True)
    policy = member.make(POLICY, firewall_rules=order)
    assert policy.keys() == KEYS
    assert policy["firewall_rules"] == order
    assert member.show(POLICY, policy["id"]) == policy
    assert member.index(POLICY) == [policy]
    assert (policy["audited"], policy["shared"], policy["revision_number"], policy["tags"]) == (False, False, 0, [])


def test_no_list_of_rules_is_an_empty_one(member: Api) -> None:
    """Behaviour 28."""
    assert member.make(POLICY)["firewall_rules"] == []
    policy = member.make(POLICY, firewall_rules=None)
    assert policy["firewall_rules"] == []
    member.change(POLICY, policy["id"], firewall_rules=rules(member, 1))
    assert member.change(POLICY, policy["id"], firewall_rules=None)["firewall_rules"] == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([UNKNOWN, UNKNOWN], f"Duplicate items in the list: '{UNKNOWN}, {UNKNOWN}'."),
        (["x"], "'x' is not a valid UUID."),
        ([None], "'None' is not a valid UUID."),
        ("x", "'x' is not a list."),
        (7, "'7' is not a list."),
    ],
)
def test_a_list_that_is_none_of_distinct_ids_is_refused(admin: Api, member: Api, given: object, reason: str) -> None:
    """Behaviour 28."""
    policy = member.make(POLICY)["id"]
    with unchanged(admin):
        for answer in (
            member.post(POLICY, firewall_rules=given),
            member.put(POLICY, policy, name="x", firewall_rules=given),
        ):
            refused(answer, 400, "HTTPBadRequest")
            said = answer.json()["NeutronError"]["message"]
            if not reason.startswith("Duplicate"):
                assert said == f"Invalid input for firewall_rules. Reason: {reason}"
            assert said.startswith(f"Invalid input for firewall_rules. Reason: {reason[:9]}")


def test_a_policy_takes_only_rules_that_its_owner_may_use(admin: Api, member: Api, stranger: Api) -> None:
    """Behaviour 28."""
    unshared = member.make(RULE)["id"]
    shared = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = stranger.make(POLICY)["id"]
    with unchanged(admin):
        for rule in (unshared, UNKNOWN):
            not_found(stranger.post(POLICY, firewall_rules=[rule]), RULE, rule)
            not_found(stranger.put(POLICY, policy, firewall_rules=[rule]), RULE, rule)
            not_found(stranger.insert(policy, firewall_rule_id=rule), RULE, rule)
    assert stranger.make(POLICY, firewall_rules=[shared])["firewall_rules"] == [shared]
    assert stranger.change(POLICY, policy, firewall_rules=[shared])["firewall_rules"] == [shared]


def test_an_admin_mixes_no_projects_either(admin: Api, member: Api) -> None:
    """Behaviours 29, 47."""
    rule = member.make(RULE)["id"]
    policy = admin.make(POLICY, project_id="p2")["id"]
    with unchanged(admin):
        for answer in (
            admin.post(POLICY, project_id="p2", firewall_rules=[rule]),
            admin.put(POLICY, policy, firewall_rules=[rule]),
            admin.insert(policy, firewall_rule_id=rule),
        ):
            refused(answer, 409, "FirewallRuleConflict")
            said = answer.json()["NeutronError"]["message"]
            assert rule in said
            assert said.endswith("is not shared and belongs to another project p1.")
    assert admin.make(POLICY, project_id="p1", firewall_rules=[rule])["project_id"] == "p1"


def test_what_is_shared_holds_only_what_is_shared(admin: Api) -> None:
    """Behaviour 30."""
    rule = admin.make(RULE, project_id="p1")["id"]
    holder = admin.make(POLICY, project_id="p1", firewall_rules=[rule])["id"]
    empty = admin.make(POLICY, project_id="p1")["id"]
    with unchanged(admin):
        refused(
            admin.post(POLICY, project_id="p1", shared=True, firewall_rules=[rule]), 404, "FirewallRuleSharingConflict"
        )
        refused(
            admin.put(POLICY, holder, shared=True), 409, "FirewallPolicySharingConflict",
            "Operation cannot be performed. "
            f"Before sharing firewall policy {holder}, share associated firewall rule {rule}.",
        )  # fmt: skip
        refused(admin.put(POLICY, empty, shared=True, firewall_rules=[rule]), 404, "FirewallRuleSharingConflict")
    assert admin.change(POLICY, holder, shared=True, firewall_rules=[])["shared"] is True
    admin.change(RULE, rule, shared=True)
    assert admin.make(POLICY, project_id="p1", shared=True, firewall_rules=[rule])["shared"] is True


def test_a_shared_policy_takes_no_unshared_rule_afterwards(admin: Api, member: Api) -> None:
    """Behaviours 30, 47."""
    policy = admin.make(POLICY, shared=True, project_id="p1")["id"]
    rule = member.make(RULE)["id"]
    with unchanged(admin):
        for who in (member, admin):
            refused(who.put(POLICY, policy, firewall_rules=[rule]), 404, "FirewallRuleSharingConflict")
            answer = who.insert(policy, firewall_rule_id=rule)
            refused(answer, 409, "FirewallPolicySharingConflict")


def test_a_change_of_the_list_sets_that_very_order(admin: Api, member: Api) -> None:
    """Behaviour 32."""
    first, second, third = rules(member, 3)
    policy = member.make(POLICY, firewall_rules=[first, second, third])["id"]
    for order in ([third, first, second], [second, third], [first], [third, second, first]):
        assert member.change(POLICY, policy, firewall_rules=order)["firewall_rules"] == order
        assert member.show(POLICY, policy)["firewall_rules"] == order
    with unchanged(admin):
        not_found(member.put(POLICY, policy, name="x", firewall_rules=[first, UNKNOWN]), RULE, UNKNOWN)


CHANGES: dict[str, Callable[[Api, str, str, str], object]] = {
    "its name": lambda api, policy, *_: api.change(POLICY, policy, name="new"),
    "its description": lambda api, policy, *_: api.change(POLICY, policy, description="new"),
    "its order": lambda api, policy, first, second: api.change(POLICY, policy, firewall_rules=[second, first]),
    "a rule's action": lambda api, _policy, first, _second: api.change(RULE, first, action="allow"),
    "a rule's name": lambda api, _policy, first, _second: api.change(RULE, first, name="new"),
    "a rule that takes no part": lambda api, _policy, first, _second: api.change(RULE, first, enabled=False),
    "a rule taken out": lambda api, policy, first, _: api.remove(policy, firewall_rule_id=first).raise_for_status(),
    "a rule put in": lambda api, policy, *_: api.insert(
        policy, firewall_rule_id=api.make(RULE, project_id="p1")["id"]
    ).raise_for_status(),
}


@pytest.mark.parametrize("by_admin", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_policy_that_changed_is_audited_no_more(admin: Api, member: Api, change: str, by_admin: bool) -> None:
    """Behaviour 33."""
    first, second = rules(member, 2)
    policy = member.make(POLICY, audited=True, firewall_rules=[first, second])
    CHANGES[change](admin if by_admin else member, policy["id"], first, second)
    shown = member.show(POLICY, policy["id"])
    assert (shown["audited"], shown["revision_number"]) == (False, policy["revision_number"] + 1)
    assert listed(member, POLICY, audited=False) == [policy["id"]]


def test_a_policy_falls_with_a_rule_that_another_project_changes(admin: Api, stranger: Api, member: Api) -> None:
    """Behaviour 33."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = stranger.make(POLICY, audited=True, firewall_rules=[rule])["id"]
    member.change(RULE, rule, action="allow")
    assert stranger.show(POLICY, policy)["audited"] is False


def test_an_admin_who_shares_or_unshares_a_policy_ends_its_audit(admin: Api) -> None:
    """Behaviour 33."""
    policy = admin.make(POLICY, audited=True, project_id="p1")["id"]
    assert admin.change(POLICY, policy, shared=True)["audited"] is False


def test_who_says_audited_together_with_other_changes_is_believed(member: Api) -> None:
    """Behaviour 33."""
    policy = member.make(POLICY)["id"]
    assert member.change(POLICY, policy, audited=True)["audited"] is True
    assert member.change(POLICY, policy, audited=True, firewall_rules=rules(member, 1), name="x")["audited"] is True
    assert member.change(POLICY, policy)["audited"] is True
    assert member.change(POLICY, policy, name="x")["audited"] is True, "no change"
    assert listed(member, POLICY, audited=True) == [policy]
    assert member.change(POLICY, policy, name="y")["audited"] is False


def test_every_change_of_the_list_raises_the_revision(member: Api) -> None:
    """Behaviour 34."""
    first, second = rules(member, 2)
    policy = member.make(POLICY)
    assert policy["revision_number"] == 0
    id_ = policy["id"]
    assert member.change(POLICY, id_, firewall_rules=[first])["revision_number"] == 1
    assert member.insert(id_, firewall_rule_id=second).json()["revision_number"] == 2
    assert member.remove(id_, firewall_rule_id=first).json()["revision_number"] == 3
    assert member.change(POLICY, id_, firewall_rules=[second])["revision_number"] == 3, "no change"
    assert member.show(POLICY, id_)["revision_number"] == 3


@pytest.mark.parametrize("kind", [RULE, POLICY, GROUP])
@pytest.mark.parametrize("value", ["revision_number=0", '"revision_number=0"'])
def test_an_old_revision_is_refused_on_every_change(admin: Api, member: Api, kind: str, value: str) -> None:
    """Behaviour 34."""
    made = member.make(kind)
    item = f"{path(kind)}/{made['id']}"
    member.change(kind, made["id"], name="x")
    member.change(kind, made["id"], name="y")
    old = {"If-Match": value}
    told = "Constrained to 0, but current revision is 2"
    with unchanged(admin):
        for body in ({kind: {"name": "z"}}, {kind: {}}):
            refused(member.request("PUT", item, json=body, headers=old), 412, "RevisionNumberConstraintFailed", told)
        refused(member.request("DELETE", item, headers=old), 412, "RevisionNumberConstraintFailed", told)
        for bad in ("0", "revision_number=x", "revision_number=", "revision=2"):
            answer = member.request("PUT", item, json={kind: {"name": "z"}}, headers={"If-Match": bad})
            refused(
                answer, 400, "BadRequest",
                "Bad if-match request: Revision number etag must be in the format of revision_number=<int>.",
            )  # fmt: skip
    current = {"If-Match": "revision_number=2"}
    assert member.request("PUT", item, json={kind: {"name": "z"}}, headers=current).json()[kind]["name"] == "z"
    assert member.request("PUT", item, json={kind: {"name": "a"}}, headers={"If-Match": "*"}).status_code == 200
    assert member.request("DELETE", item, headers={"If-Match": "revision_number=4"}).status_code == 204


@pytest.mark.parametrize("action", ["insert_rule", "remove_rule"])
def test_an_old_revision_is_refused_by_the_actions_too(admin: Api, member: Api, action: str) -> None:
    """Behaviour 34."""
    inside, outside = rules(member, 2)
    policy = member.make(POLICY, firewall_rules=[inside])["id"]
    member.change(POLICY, policy, name="x")
    url = f"{path(POLICY)}/{policy}/{action}"
    body = {"firewall_rule_id": outside if action == "insert_rule" else inside}
    with unchanged(admin):
        answer = member.request("PUT", url, json=body, headers={"If-Match": "revision_number=0"})
        refused(answer, 412, "RevisionNumberConstraintFailed", "Constrained to 0, but current revision is 1")
    answer = member.request("PUT", url, json=body, headers={"If-Match": "revision_number=1"})
    assert (answer.status_code, answer.json()["revision_number"]) == (200, 2)


@pytest.mark.parametrize("name", ["default ingress", "default egress"])
def test_the_names_of_default_policies_are_reserved(admin: Api, member: Api, name: str) -> None:
    """Behaviour 35."""
    policy = member.make(POLICY)["id"]
    said = f"Operation cannot be performed since '{name}' is a reserved name for Firewall Policy."
    with unchanged(admin):
        for who in (member, admin):
            refused(who.post(POLICY, name=name), 409, "FirewallDefaultParameterExists", said)
            refused(who.put(POLICY, policy, name=name), 409, "FirewallDefaultParameterExists", said)
    assert member.change(POLICY, policy, name=name.title())["name"] == name.title()


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_policy_that_a_group_applies_cannot_be_deleted(admin: Api, member: Api, direction: str) -> None:
    """Behaviour 36."""
    inside = rules(member, 2)
    policy = member.make(POLICY, firewall_rules=inside)["id"]
    group = member.make(GROUP, **{f"{direction}_firewall_policy_id": policy})["id"]
    with unchanged(admin):
        for who in (member, admin):
            refused(who.delete(POLICY, policy), 409, "FirewallPolicyInUse", f"Firewall policy {policy} is being used.")
    member.change(GROUP, group, **{f"{direction}_firewall_policy_id": None})
    assert member.delete(POLICY, policy).status_code == 204
    assert sorted(listed(member, RULE)) == sorted(inside)
    assert [rule["firewall_policy_id"] for rule in member.index(RULE)] == [None, None]
    not_found(member.delete(POLICY, policy), POLICY, policy)


def test_a_policy_that_others_apply_stays_shared(admin: Api, member: Api, stranger: Api) -> None:
    """Behaviour 37."""
    policy = admin.make(POLICY, shared=True, project_id="p1")["id"]
    group = stranger.make(GROUP, egress_firewall_policy_id=policy)["id"]
    member.make(GROUP, ingress_firewall_policy_id=policy)
    with unchanged(admin):
        refused(admin.put(POLICY, policy, shared=False), 409, "FirewallPolicyInUse")
    stranger.change(GROUP, group, egress_firewall_policy_id=None)
    assert admin.change(POLICY, policy, shared=False)["shared"] is False


def test_a_policy_in_a_group_that_others_see_stays_shared(admin: Api) -> None:
    """Behaviour 37."""
    policy = admin.make(POLICY, shared=True, project_id="p1")["id"]
    group = admin.make(GROUP, shared=True, project_id="p2", ingress_firewall_policy_id=policy)["id"]
    with unchanged(admin):
        refused(admin.put(POLICY, policy, shared=False), 409, "FirewallPolicyInUse")
    assert admin.delete(GROUP, group).status_code == 204
    assert admin.change(POLICY, policy, shared=False)["shared"] is False


def test_the_list_of_a_shared_policy_is_its_owners(admin: Api, stranger: Api) -> None:
    """Behaviour 38."""
    inside = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = admin.make(POLICY, shared=True, project_id="p1", firewall_rules=[inside])["id"]
    own = stranger.make(RULE)["id"]
    with unchanged(admin):
        assert stranger.show(POLICY, policy)["firewall_rules"] == [inside]
        denied(stranger.put(POLICY, policy, firewall_rules=[]), "update_firewall_policy")
        denied(stranger.insert(policy, firewall_rule_id=own), "insert_rule")
        denied(stranger.remove(policy, firewall_rule_id=inside), "remove_rule")
