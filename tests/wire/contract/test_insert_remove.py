"""insert_rule and remove_rule, whose bodies and answers are not enveloped."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from wire.conftest import UNKNOWN, Api, path
from wire.contract.cloud import POLICY, RULE, denied, not_found, refused, rules, unchanged


def test_a_rule_is_put_first_or_beside_another(member: Api) -> None:
    """Behaviour 39."""
    first, second, third, fourth = rules(member, 4)
    policy = member.make(POLICY)["id"]
    answer = member.insert(policy, firewall_rule_id=first)
    assert answer.status_code == 200
    assert answer.json() == member.show(POLICY, policy)
    assert answer.json()["firewall_rules"] == [first]
    assert member.insert(policy, firewall_rule_id=second).json()["firewall_rules"] == [second, first]
    after = member.insert(policy, firewall_rule_id=third, insert_after=first)
    assert after.json()["firewall_rules"] == [second, first, third]
    before = member.insert(policy, firewall_rule_id=fourth, insert_before=first)
    assert before.json()["firewall_rules"] == [second, fourth, first, third]
    assert member.show(POLICY, policy) == before.json()


def test_before_wins_over_after(member: Api) -> None:
    """Behaviour 40."""
    first, second, third = rules(member, 3)
    policy = member.make(POLICY, firewall_rules=[first, second])["id"]
    answer = member.insert(policy, firewall_rule_id=third, insert_before=first, insert_after=second)
    assert answer.json()["firewall_rules"] == [third, first, second]


@pytest.mark.parametrize("absent", [{"insert_before": ""}, {"insert_before": None}, {}])
def test_an_empty_neighbour_is_none(member: Api, absent: dict[str, str | None]) -> None:
    """Behaviour 40."""
    first, second, third = rules(member, 3)
    policy = member.make(POLICY, firewall_rules=[first, second])["id"]
    answer = member.insert(policy, firewall_rule_id=third, insert_after=first, **absent)
    assert answer.json()["firewall_rules"] == [first, third, second]


def test_a_rule_stands_in_a_policy_once(admin: Api, member: Api) -> None:
    """Behaviour 41."""
    first, second = rules(member, 2)
    policy = member.make(POLICY, firewall_rules=[first, second])["id"]
    said = f"firewall rule {first} is already associated with firewall policy {policy}."
    with unchanged(admin):
        for neighbour in ({}, {"insert_after": second}, {"insert_before": second}):
            answer = member.insert(policy, firewall_rule_id=first, **neighbour)
            refused(answer, 409, "FirewallRuleAlreadyAssociated", f"Operation cannot be performed since {said}")


@pytest.mark.parametrize("side", ["insert_before", "insert_after"])
def test_a_neighbour_stands_in_the_policy(admin: Api, member: Api, side: str) -> None:
    """Behaviour 42."""
    inside, outside, moving = rules(member, 3)
    policy = member.make(POLICY, firewall_rules=[inside])["id"]
    with unchanged(admin):
        for neighbour in (outside, moving, UNKNOWN, "nope"):
            answer = member.insert(policy, firewall_rule_id=moving, **{side: neighbour})
            said = f"Firewall rule {neighbour} is not associated with firewall policy {policy}."
            refused(answer, 400, "FirewallRuleNotAssociatedWithPolicy", said)


@pytest.mark.parametrize("action", ["insert_rule", "remove_rule"])
def test_an_action_without_its_rule_is_refused(admin: Api, member: Api, action: str) -> None:
    """Behaviours 43, 45."""
    policy = member.make(POLICY, firewall_rules=rules(member, 1))["id"]
    url = f"{path(POLICY)}/{policy}/{action}"
    said = "Missing rule info argument for insert/remove rule operation."
    with unchanged(admin):
        refused(member.request("PUT", url, json={}), 400, "FirewallRuleInfoMissing", said)
        refused(member.request("PUT", url, json={"insert_before": UNKNOWN}), 400, "FirewallRuleInfoMissing", said)


@pytest.mark.parametrize("action", ["insert_rule", "remove_rule"])
@pytest.mark.parametrize("rule", [None, "nope", UNKNOWN])
def test_an_action_on_an_unknown_rule_finds_nothing(admin: Api, member: Api, action: str, rule: str | None) -> None:
    """Behaviours 43, 45."""
    policy = member.make(POLICY, firewall_rules=rules(member, 1))["id"]
    with unchanged(admin):
        answer = member.request("PUT", f"{path(POLICY)}/{policy}/{action}", json={"firewall_rule_id": rule})
        not_found(answer, RULE, rule)


@pytest.mark.parametrize("policy", ["nope", UNKNOWN])
def test_an_action_on_an_unknown_policy_finds_nothing(admin: Api, member: Api, policy: str) -> None:
    """Behaviour 43."""
    rule = member.make(RULE)["id"]
    with unchanged(admin):
        not_found(member.insert(policy, firewall_rule_id=rule), POLICY, policy)
        not_found(member.remove(policy, firewall_rule_id=rule), POLICY, policy)


@pytest.mark.parametrize("action", ["insert_rule", "remove_rule"])
@pytest.mark.parametrize("body", [b"", b"[]", b"[{}]", b"null", b"7", b'"x"'])
def test_an_action_whose_body_is_no_object_is_refused(admin: Api, member: Api, action: str, body: bytes) -> None:
    """Behaviour 44. Difference 6."""
    policy = member.make(POLICY, firewall_rules=rules(member, 1))["id"]
    with unchanged(admin):
        answer = member.request("PUT", f"{path(POLICY)}/{policy}/{action}", content=body)
        refused(answer, 400, "HTTPBadRequest")


@pytest.mark.parametrize("wrong", [[], {}, 7, True])
def test_an_action_on_something_that_is_no_id_is_refused(admin: Api, member: Api, wrong: object) -> None:
    """Difference 6."""
    inside, outside = rules(member, 2)
    policy = member.make(POLICY, firewall_rules=[inside])["id"]
    with unchanged(admin):
        for answer in (
            member.insert(policy, firewall_rule_id=wrong),
            member.remove(policy, firewall_rule_id=wrong),
            member.insert(policy, firewall_rule_id=outside, insert_after=wrong),
            member.insert(policy, firewall_rule_id=outside, insert_before=wrong),
        ):
            assert answer.status_code in (400, 404)
            assert "NeutronError" in answer.json()


def test_a_rule_is_taken_out_and_the_rest_stays_in_order(admin: Api, member: Api) -> None:
    """Behaviour 45."""
    first, second, third, other = rules(member, 4)
    policy = member.make(POLICY, firewall_rules=[first, second, third])["id"]
    answer = member.remove(policy, firewall_rule_id=second)
    assert answer.status_code == 200
    assert answer.json()["firewall_rules"] == [first, third]
    assert answer.json() == member.show(POLICY, policy)
    with unchanged(admin):
        for absent in (second, other):
            said = f"Firewall rule {absent} is not associated with firewall policy {policy}."
            answer = member.remove(policy, firewall_rule_id=absent)
            refused(answer, 400, "FirewallRuleNotAssociatedWithPolicy", said)


def test_actions_take_a_member_of_the_policys_project(admin: Api, member: Api, reader: Api, stranger: Api) -> None:
    """Behaviour 46."""
    inside, outside = rules(member, 2)
    policy = member.make(POLICY, firewall_rules=[inside])["id"]
    with unchanged(admin):
        denied(reader.insert(policy, firewall_rule_id=outside), "insert_rule")
        denied(reader.remove(policy, firewall_rule_id=inside), "remove_rule")
        not_found(stranger.insert(policy, firewall_rule_id=outside), POLICY, policy)
        not_found(stranger.remove(policy, firewall_rule_id=inside), POLICY, policy)


def test_a_foreign_rule_is_taken_out_by_whoever_owns_the_policy(admin: Api, stranger: Api) -> None:
    """Behaviour 45."""
    rule = admin.make(RULE, shared=True, project_id="p1")["id"]
    policy = stranger.make(POLICY, firewall_rules=[rule])["id"]
    assert stranger.remove(policy, firewall_rule_id=rule).json()["firewall_rules"] == []


@pytest.mark.parametrize("action", ["insert_rule", "remove_rule"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_an_action_is_a_put(admin: Api, member: Api, action: str, method: str) -> None:
    """Behaviour 48."""
    policy = member.make(POLICY)["id"]
    with unchanged(admin):
        answer = member.request(method, f"{path(POLICY)}/{policy}/{action}")
        refused(answer, 405, "HTTPMethodNotAllowed")


@pytest.mark.parametrize("action", ["insert_rules", "move_rule", "add_rule"])
def test_there_are_no_other_actions(member: Api, action: str) -> None:
    """Behaviour 48."""
    policy = member.make(POLICY)["id"]
    answer = member.request("PUT", f"{path(POLICY)}/{policy}/{action}", json={"firewall_rule_id": UNKNOWN})
    refused(answer, 404, "HTTPNotFound")


def test_no_insertion_is_lost_among_twenty_at_once(member: Api) -> None:
    """Behaviour 49."""
    new = rules(member, 20)
    policy = member.make(POLICY)["id"]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda rule: member.insert(policy, firewall_rule_id=rule), new))
    assert [answer.status_code for answer in answers] == [200] * 20
    shown = member.show(POLICY, policy)
    assert sorted(shown["firewall_rules"]) == sorted(new)
    assert shown["revision_number"] == 20
    assert sorted(len(answer.json()["firewall_rules"]) for answer in answers) == list(range(1, 21))
