"""``openstack firewall group policy ...`` with Keystone: what it says, and what the API then holds."""

from typing import Any

import pytest

from demo.client import OpenStackClient
from wire.clients.cloud import POLICY, RULE, Cloud, check_printed, does, told
from wire.conftest import Api

CREATE = "firewall group policy create"


@pytest.fixture
def rules(held: Api, keystone_cloud: Cloud) -> dict[str, str]:
    """Three shared rules of p1: their ids by name."""
    project = keystone_cloud.project("p1")
    return {name: held.make(RULE, name=name, shared=True, project_id=project)["id"] for name in ("r1", "r2", "r3")}


def policy(api: Api) -> dict[str, Any]:
    (found,) = api.index(POLICY)
    return found


def order(api: Api, rules: dict[str, str]) -> list[str]:
    """The names of the policy's rules."""
    names = {id_: name for name, id_ in rules.items()}
    return [names[id_] for id_ in policy(api)["firewall_rules"]]


@pytest.mark.parametrize(
    ("options", "inside", "given"),
    [
        ("", [], {}),
        ("--no-firewall-rule --no-audited --no-share", [], {}),
        ("--firewall-rule r2 --firewall-rule r1 --description dd --audited", ["r2", "r1"],
         {"description": "dd", "audited": True}),
    ],
)  # fmt: skip
def test_a_policy_is_made_as_its_options_say(
    member: OpenStackClient, held: Api, rules: dict[str, str], keystone_cloud: Cloud, options: str, inside: list[str],
    given: dict[str, Any],
) -> None:  # fmt: skip
    printed = told(member, f"{CREATE} p1 {options}")
    wanted = {"name": "p1", "description": "", "audited": False, "shared": False} | given
    made = policy(held)
    assert {key: made[key] for key in wanted} == wanted
    assert (order(held, rules), made["project_id"]) == (inside, keystone_cloud.project("p1"))
    check_printed(POLICY, printed, made)


@pytest.mark.usefixtures("rules")
def test_only_an_admin_shares_a_policy(admin: OpenStackClient, member: OpenStackClient, held: Api) -> None:
    refusal = member.run(f"{CREATE} p1 --share")
    assert "create_firewall_policy:shared) is disallowed by policy" in refusal
    assert held.index(POLICY) == []
    told(admin, f"{CREATE} p1 --share --project p2 --firewall-rule r1 --audited")
    assert (policy(held)["shared"], told(member, "firewall group policy show p1")["Shared"]) == (True, True)
    does(admin, "firewall group policy set p1 --name p1b --no-audited --no-share")
    assert [policy(held)[key] for key in ("name", "audited", "shared")] == ["p1b", False, False]
    assert member.run("firewall group policy show p1b") == "No FirewallPolicy found for p1b"
    does(admin, "firewall group policy set p1b --share --audited --description d")
    assert [policy(held)[key] for key in ("description", "audited", "shared")] == ["d", True, True]
    does(admin, "firewall group policy unset p1b --audited --share --all-firewall-rule")
    assert [policy(held)[key] for key in ("firewall_rules", "audited", "shared")] == [[], False, False]


def test_a_policy_is_shown_by_name_and_by_id(member: OpenStackClient, held: Api, rules: dict[str, str]) -> None:
    told(member, f"{CREATE} p1 --firewall-rule r1")
    made = policy(held)
    for name in ("p1", made["id"]):
        check_printed(POLICY, told(member, f"firewall group policy show {name}"), made)
    assert made["firewall_rules"] == [rules["r1"]]
    assert member.run("firewall group policy show nosuch") == "No FirewallPolicy found for nosuch"


@pytest.mark.usefixtures("rules")
def test_policies_are_listed_in_short_and_in_full(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} p1 --firewall-rule r1 --firewall-rule r2")
    told(member, f"{CREATE} p2 --audited")
    policies = {made["name"]: made for made in held.index(POLICY)}
    listed = {row["Name"]: row for row in told(member, "firewall group policy list")}
    assert listed == {
        name: {"ID": made["id"], "Name": name, "Firewall Rules": made["firewall_rules"]}
        for name, made in policies.items()
    }
    for row in told(member, "firewall group policy list --long"):
        check_printed(POLICY, row, policies[row["Name"]])


def test_set_appends_replaces_and_clears_rules(member: OpenStackClient, held: Api, rules: dict[str, str]) -> None:
    told(member, f"{CREATE} p0 --firewall-rule r3")
    for options, expected in (
        ("--firewall-rule r1", ["r3", "r1"]),
        ("--no-firewall-rule --firewall-rule r2 --firewall-rule r1", ["r2", "r1"]),
        ("--no-firewall-rule", []),
    ):
        does(member, f"firewall group policy set p0 {options}")
        assert order(held, rules) == expected, options
    refusal = member.run("firewall group policy set p0 --firewall-rule nosuch")
    assert refusal == "No FirewallRule found for nosuch"


def test_unset_takes_out_the_rules_that_it_names(member: OpenStackClient, held: Api, rules: dict[str, str]) -> None:
    told(member, f"{CREATE} p0 --firewall-rule r3 --firewall-rule r1 --firewall-rule r2 --audited")
    does(member, "firewall group policy unset p0 --firewall-rule r1")
    assert order(held, rules) in (["r3", "r2"], ["r2", "r3"])  # the command does not keep the order itself
    does(member, "firewall group policy unset p0 --audited")
    assert policy(held)["audited"] is False
    does(member, "firewall group policy unset p0 --all-firewall-rule")
    assert order(held, rules) == []


def test_a_rule_is_added_where_the_options_say(member: OpenStackClient, held: Api, rules: dict[str, str]) -> None:
    told(member, f"{CREATE} p1 --firewall-rule r1")
    for options, expected in (
        ("p1 r2", ["r2", "r1"]),
        ("p1 r3 --insert-before r1", ["r2", "r3", "r1"]),
        ("p1 r3 --insert-after r1", ["r2", "r1", "r3"]),
    ):
        assert member.run(f"firewall group policy add rule {options}") == (
            f"Inserted firewall rule {rules[options.split()[1]]} in firewall policy p1"
        )
        assert order(held, rules) == expected
        if "r3" in expected:
            answer = member.run("firewall group policy remove rule p1 r3")
            assert answer == f"Removed firewall rule {rules['r3']} from firewall policy p1"
            assert order(held, rules) == ["r2", "r1"]


def test_a_rule_is_neither_added_twice_nor_removed_where_it_is_not(
    member: OpenStackClient, held: Api, rules: dict[str, str]
) -> None:
    told(member, f"{CREATE} p1 --firewall-rule r1")
    assert "already associated" in member.run("firewall group policy add rule p1 r1")
    assert "is not associated" in member.run("firewall group policy remove rule p1 r2")
    assert "is not associated" in member.run("firewall group policy add rule p1 r2 --insert-after r3")
    assert order(held, rules) == ["r1"]


@pytest.mark.usefixtures("rules")
def test_policies_are_deleted_by_name_and_by_id(member: OpenStackClient, held: Api) -> None:
    first = told(member, f"{CREATE} p1 --firewall-rule r1")["ID"]
    told(member, f"{CREATE} p2")
    told(member, f"{CREATE} p3")
    told(member, "firewall group create g1 --egress-firewall-policy p3")
    answer = member.run(f"firewall group policy delete {first} p2 nosuch p3")
    assert "No FirewallPolicy found for nosuch" in answer
    assert "is being used" in answer
    assert answer.endswith("2 of 4 firewall policy(s) failed to delete.")
    assert (policy(held)["name"], len(held.index(RULE))) == ("p3", 3)


def test_a_reader_sees_and_changes_nothing(
    member: OpenStackClient, reader: OpenStackClient, held: Api, rules: dict[str, str]
) -> None:
    told(member, f"{CREATE} p1 --firewall-rule r1")
    before = policy(held)
    assert told(reader, "firewall group policy show p1")["Firewall Rules"] == [rules["r1"]]
    for action, command in (
        ("create_firewall_policy", "create p2"),
        ("update_firewall_policy", "set p1 --name x"),
        ("update_firewall_policy", "unset p1 --all-firewall-rule"),
        ("delete_firewall_policy", "delete p1"),
        ("insert_rule", "add rule p1 r2"),
        ("remove_rule", "remove rule p1 r1"),
    ):
        answer = reader.run(f"firewall group policy {command}")
        assert f"rule:{action} is disallowed by policy" in answer, answer
    assert policy(held) == before
