"""Firewall policies, insert_rule and remove_rule over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from wire.conftest import UNKNOWN, Api

RULE, POLICY = "firewall_rule", "firewall_policy"
KEYS = {
    "id",
    "project_id",
    "tenant_id",
    "name",
    "description",
    "shared",
    "audited",
    "firewall_rules",
    "revision_number",
    "created_at",
    "updated_at",
    "tags",
}


def rules(api: Api, count: int) -> list[str]:
    return [api.make(RULE, name=f"r{number}")["id"] for number in range(count)]


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["NeutronError"]["type"]


def test_a_policy_keeps_the_order_of_its_rules(api: Api) -> None:
    ids = rules(api, 4)
    order = [ids[2], ids[0], ids[3], ids[1]]
    policy = api.make(POLICY, name="p", firewall_rules=order, audited=True)
    assert policy.keys() == KEYS
    assert policy["firewall_rules"] == order
    assert policy["audited"] is True
    assert api.show(POLICY, policy["id"]) == policy
    assert api.index(POLICY) == [policy]


def test_no_rules_may_be_said_as_null(api: Api) -> None:
    assert api.make(POLICY, firewall_rules=None)["firewall_rules"] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x", "Invalid input for firewall_rules. Reason: 'x' is not a list."),
        (["x"], "'x' is not a valid UUID."),
        ([7], "'7' is not a valid UUID."),
        ([UNKNOWN, UNKNOWN], f"Duplicate items in the list: '{UNKNOWN}'."),
    ],
)
def test_a_list_of_rules_is_a_list_of_distinct_ids(api: Api, given: Any, message: str) -> None:
    policy = api.make(POLICY)
    for answer in (api.post(POLICY, firewall_rules=given), api.put(POLICY, policy["id"], firewall_rules=given)):
        assert answer.status_code == 400
        assert message in answer.json()["NeutronError"]["message"]
    assert api.index(POLICY) == [policy]


def test_an_unknown_rule_leaves_everything_as_it_was(api: Api) -> None:
    ids = rules(api, 2)
    policy = api.make(POLICY, firewall_rules=ids, audited=True)
    assert error(api.post(POLICY, firewall_rules=[ids[0], UNKNOWN])) == (404, "FirewallRuleNotFound")
    assert error(api.put(POLICY, policy["id"], name="x", firewall_rules=[UNKNOWN, *ids])) == (
        404,
        "FirewallRuleNotFound",
    )
    assert api.index(POLICY) == [policy]


def test_a_change_of_the_list_sets_the_exact_new_order(api: Api) -> None:
    ids = rules(api, 3)
    policy = api.make(POLICY, firewall_rules=ids)
    changed = api.change(POLICY, policy["id"], firewall_rules=ids[::-1])
    assert changed["firewall_rules"] == ids[::-1]
    assert changed["revision_number"] == 1
    assert api.show(POLICY, policy["id"]) == changed
    assert api.change(POLICY, policy["id"], firewall_rules=ids[:1])["firewall_rules"] == ids[:1]
    assert api.change(POLICY, policy["id"], firewall_rules=[])["firewall_rules"] == []


def test_audited_falls_with_any_change_unless_the_change_says_otherwise(api: Api) -> None:
    first, second = rules(api, 2)
    policy = api.make(POLICY, firewall_rules=[first])["id"]

    def audit() -> None:
        assert api.change(POLICY, policy, audited=True)["audited"] is True

    audit()
    assert api.change(POLICY, policy, name="x")["audited"] is False
    audit()
    assert api.change(POLICY, policy, name="x")["audited"] is True, "it was named so already"
    assert api.change(POLICY, policy, name="y", audited=True)["audited"] is True
    api.change(RULE, first, name="renamed")
    assert api.show(POLICY, policy)["audited"] is False
    audit()
    assert api.insert(policy, firewall_rule_id=second).json()["audited"] is False
    audit()
    assert api.remove(policy, firewall_rule_id=second).json()["audited"] is False


def test_the_revision_grows_with_attributes_the_list_and_rules_that_end_an_audit(api: Api) -> None:
    first, second = rules(api, 2)
    policy = api.make(POLICY, firewall_rules=[first], audited=True)["id"]

    def revision() -> int:
        return int(api.show(POLICY, policy)["revision_number"])

    api.change(RULE, first, name="a")
    assert revision() == 1
    api.change(RULE, first, name="b")
    assert revision() == 1, "it was not audited any more"
    api.insert(policy, firewall_rule_id=second)
    assert revision() == 2
    api.remove(policy, firewall_rule_id=second)
    assert revision() == 3
    api.change(POLICY, policy, firewall_rules=[first])
    assert revision() == 3, "nothing changed"
    api.change(POLICY, policy, description="d")
    assert revision() == 4


def test_a_policy_in_a_group_cannot_be_deleted(api: Api) -> None:
    rule = api.make(RULE)["id"]
    policy = api.make(POLICY, firewall_rules=[rule])["id"]
    group = api.make("firewall_group", egress_firewall_policy_id=policy)["id"]
    answer = api.delete(POLICY, policy)
    assert error(answer) == (409, "FirewallPolicyInUse")
    assert answer.json()["NeutronError"]["message"] == f"Firewall policy {policy} is being used."
    api.change("firewall_group", group, egress_firewall_policy_id=None)
    assert api.delete(POLICY, policy).status_code == 204
    assert error(api.delete(POLICY, policy)) == (404, "FirewallPolicyNotFound")
    assert api.show(RULE, rule)["firewall_policy_id"] is None


def test_insertion_puts_a_rule_first_before_or_after(api: Api) -> None:
    first, second, third, fourth, fifth = rules(api, 5)
    policy = api.make(POLICY)["id"]
    answer = api.insert(policy, firewall_rule_id=first)
    assert answer.status_code == 200
    assert answer.json().keys() == KEYS, "no envelope"
    assert answer.json()["firewall_rules"] == [first]
    assert api.insert(policy, firewall_rule_id=second).json()["firewall_rules"] == [second, first]
    after = api.insert(policy, firewall_rule_id=third, insert_after=first, insert_before="")
    assert after.json()["firewall_rules"] == [second, first, third]
    before = api.insert(policy, firewall_rule_id=fourth, insert_before=first, insert_after=None)
    assert before.json()["firewall_rules"] == [second, fourth, first, third]
    both = api.insert(policy, firewall_rule_id=fifth, insert_before=third, insert_after=second)
    assert both.json()["firewall_rules"] == [second, fourth, first, fifth, third]
    assert api.show(POLICY, policy) == both.json()


def test_removal_keeps_the_order_of_the_rest(api: Api) -> None:
    ids = rules(api, 3)
    policy = api.make(POLICY, firewall_rules=ids)["id"]
    answer = api.remove(policy, firewall_rule_id=ids[1])
    assert answer.json()["firewall_rules"] == [ids[0], ids[2]]
    assert api.show(POLICY, policy) == answer.json()
    again = api.insert(policy, firewall_rule_id=ids[1], insert_after=ids[0])
    assert again.json()["firewall_rules"] == ids


def test_what_cannot_be_inserted_or_removed_changes_nothing(api: Api) -> None:
    inside, outside, other = rules(api, 3)
    policy = api.make(POLICY, firewall_rules=[inside], audited=True)
    before = api.everything()
    id_ = policy["id"]
    missing = (400, "FirewallRuleInfoMissing")
    unknown = (404, "FirewallRuleNotFound")
    not_inside = (400, "FirewallRuleNotAssociatedWithPolicy")
    for do in (api.insert, api.remove):
        assert error(do(id_)) == missing
        assert error(do(id_, insert_before=inside)) == missing
        for rule in (None, "x", 7, [], {}, UNKNOWN):
            assert error(do(id_, firewall_rule_id=rule)) == unknown
        assert error(do(UNKNOWN, firewall_rule_id=inside)) == (404, "FirewallPolicyNotFound")
    assert error(api.insert(id_, firewall_rule_id=inside)) == (409, "FirewallRuleAlreadyAssociated")
    for neighbour in (other, outside, "x", 7, [1], UNKNOWN, False, 0, [], {}):
        assert error(api.insert(id_, firewall_rule_id=outside, insert_before=neighbour)) == not_inside
        assert error(api.insert(id_, firewall_rule_id=outside, insert_after=neighbour)) == not_inside
    assert error(api.remove(id_, firewall_rule_id=outside)) == not_inside
    assert api.everything() == before


def test_a_typing_error_in_an_action_puts_no_rule_elsewhere(api: Api) -> None:
    inside, outside = rules(api, 2)
    id_ = api.make(POLICY, firewall_rules=[inside])["id"]
    before = api.everything()
    for answer in (
        api.insert(id_, firewall_rule_id=outside, insert_befor=inside),
        api.remove(id_, firewall_rule_id=inside, insert_befor=inside),
    ):
        assert error(answer) == (400, "HTTPBadRequest")
        assert answer.json()["NeutronError"]["message"] == "Unrecognized attribute(s) 'insert_befor'"
    assert api.everything() == before


def test_an_action_takes_an_object_by_put_alone(api: Api) -> None:
    policy = api.make(POLICY)["id"]
    for action in ("insert_rule", "remove_rule"):
        url = f"/v2.0/fwaas/firewall_policies/{policy}/{action}"
        for body in (b"", b"[]", b"null", b"7", b"{", b'"x"'):
            assert api.request("PUT", url, content=body).status_code == 400
        for method in ("GET", "POST", "DELETE"):
            assert error(api.request(method, url)) == (405, "HTTPMethodNotAllowed")
    assert error(api.request("PUT", f"/v2.0/fwaas/firewall_policies/{policy}/move_rule", json={})) == (
        404,
        "HTTPNotFound",
    )


def test_twenty_concurrent_insertions_all_arrive(api: Api) -> None:
    ids = rules(api, 20)
    policy = api.make(POLICY)["id"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda rule: api.insert(policy, firewall_rule_id=rule), ids))
    assert [answer.status_code for answer in answers] == [200] * 20
    inside = api.show(POLICY, policy)["firewall_rules"]
    assert sorted(inside) == sorted(ids)


def test_reads_never_fail_while_others_write(api: Api) -> None:
    ids = rules(api, 15)
    policy = api.make(POLICY)["id"]
    with ThreadPoolExecutor(16) as pool:
        writes = [pool.submit(api.insert, policy, firewall_rule_id=rule) for rule in ids]
        reads = [pool.submit(api.get, POLICY, policy) for _ in range(100)]
        assert {read.result().status_code for read in reads} == {200}
        assert {write.result().status_code for write in writes} == {200}
