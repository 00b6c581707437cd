"""``openstack firewall group rule ...`` with Keystone: what it says, and what the API then holds."""

from typing import Any

import pytest

from demo.client import OpenStackClient
from wire.clients.cloud import RULE, Cloud, check_printed, does, told
from wire.conftest import Api

CREATE = "firewall group rule create"
DEFAULTS = {
    "description": "", "shared": False, "protocol": None, "ip_version": 4, "source_ip_address": None,
    "destination_ip_address": None, "source_port": None, "destination_port": None, "action": "deny", "enabled": True,
    "firewall_policy_id": None,
}  # fmt: skip
#: Options of a creation, and what they make of the rule.
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("--protocol tcp --destination-port 80 --action allow",
     {"protocol": "tcp", "destination_port": "80", "action": "allow"}),
    ("--protocol udp --source-ip-address 10.0.0.0/24 --source-port 1000:2000 --action deny --ip-version 4"
     " --disable-rule --description hello",
     {"protocol": "udp", "source_ip_address": "10.0.0.0/24", "source_port": "1000:2000", "enabled": False,
      "description": "hello"}),
    ("--protocol any --action reject", {"action": "reject"}),
    ("--protocol ICMP --action ALLOW", {"protocol": "icmp", "action": "allow"}),
    ("--protocol ipv6-icmp --ip-version 6 --source-ip-address 2001:db8::/32 --destination-ip-address 2001:db8::1",
     {"protocol": "ipv6-icmp", "ip_version": 6, "source_ip_address": "2001:db8::/32",
      "destination_ip_address": "2001:db8::1"}),
    ("--no-source-ip-address --no-destination-ip-address --no-source-port --no-destination-port --no-share"
     " --enable-rule --no-source-firewall-group --no-destination-firewall-group", {}),
]  # fmt: skip


def only(api: Api, kind: str = RULE) -> dict[str, Any]:
    (found,) = api.index(kind)
    return found


@pytest.mark.parametrize(("options", "given"), OPTIONS)
def test_a_rule_is_made_as_its_options_say(
    member: OpenStackClient, held: Api, keystone_cloud: Cloud, options: str, given: dict[str, Any]
) -> None:
    printed = told(member, f"{CREATE} r1 {options}")
    rule = only(held)
    wanted = DEFAULTS | given | {"name": "r1", "project_id": keystone_cloud.project("p1")}
    assert {key: rule[key] for key in wanted} == wanted
    check_printed(RULE, printed, rule)


def test_a_name_may_be_an_option_too(member: OpenStackClient, held: Api) -> None:
    assert "deprecated" in member.run(f"{CREATE} --name r3")
    assert only(held)["name"] == "r3"


def test_only_an_admin_shares_a_rule(admin: OpenStackClient, member: OpenStackClient, held: Api) -> None:
    refusal = member.run(f"{CREATE} r3 --share")
    assert "ForbiddenException: 403" in refusal
    assert "create_firewall_rule:shared) is disallowed by policy" in refusal
    assert held.index(RULE) == []
    told(admin, f"{CREATE} r3 --share")
    assert only(held)["shared"] is True
    assert told(member, "firewall group rule show r3")["Shared"] is True


def test_an_admin_makes_a_rule_for_a_project_by_its_name_or_id(
    admin: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    for project in ("p2 --project-domain Default", keystone_cloud.project("p2")):
        made = told(admin, f"{CREATE} r --project {project}")
        assert made["Project"] == keystone_cloud.project("p2")
        assert held.show(RULE, made["ID"])["project_id"] == keystone_cloud.project("p2")


def test_a_member_makes_a_rule_for_the_own_project_alone(
    member: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    told(member, f"{CREATE} mine --project {keystone_cloud.project('p1')}")
    refusal = member.run(f"{CREATE} theirs --project {keystone_cloud.project('p2')}")
    assert "'project_id' other than the authenticated project" in refusal
    assert only(held)["name"] == "mine"


def test_a_rule_is_shown_by_name_and_by_id(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} r1 --protocol tcp")
    rule = only(held)
    for name in ("r1", rule["id"]):
        check_printed(RULE, told(member, f"firewall group rule show {name}"), rule)
    assert member.run("firewall group rule show nosuch") == "No FirewallRule found for nosuch"
    told(member, f"{CREATE} r1")
    assert "More than one FirewallRule exists with the name 'r1'" in member.run("firewall group rule show r1")


def test_rules_are_listed_in_short_and_in_full(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} r1 --protocol tcp --source-ip-address 10.0.0.1 --destination-port 80 --action allow")
    told(member, f"{CREATE} r2 --disable-rule")
    told(member, "firewall group policy create p1 --firewall-rule r1")
    rules = {rule["name"]: rule for rule in held.index(RULE)}
    listed = {row["Name"]: row for row in told(member, "firewall group rule list")}
    assert listed.keys() == rules.keys()
    summary = "TCP,\n source(port): 10.0.0.1(none specified),\n dest(port): none specified(80),\n allow"
    assert listed["r1"] == {
        "ID": rules["r1"]["id"], "Name": "r1", "Enabled": True, "Summary": summary,
        "Firewall Policy": rules["r1"]["firewall_policy_id"],
    }  # fmt: skip
    assert listed["r2"]["Summary"].startswith("ANY,")
    for row in told(member, "firewall group rule list --long"):
        check_printed(RULE, row, rules[row["Name"]])


def test_set_changes_what_it_names_and_nothing_else(member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} r1 --protocol tcp --source-ip-address 10.0.0.1 --action allow --disable-rule")
    before = only(held)
    does(member, "firewall group rule set r1 --name r1b --destination-port 443 --description d --enable-rule")
    changed = {"name": "r1b", "destination_port": "443", "description": "d", "enabled": True}
    assert only(held) | {"revision_number": 0, "updated_at": ""} == before | changed | {"updated_at": ""}
    does(member, "firewall group rule set r1b --no-destination-port --no-source-ip-address --protocol any")
    rule = only(held)
    assert [rule[key] for key in ("destination_port", "source_ip_address", "protocol")] == [None, None, None]
    more = "--action REJECT --ip-version 6 --destination-ip-address 2001:db8::1 --protocol udp --source-port 53"
    does(member, f"firewall group rule set {rule['id']} {more} --disable-rule")
    rule = only(held)
    assert (rule["action"], rule["ip_version"], rule["destination_ip_address"]) == ("reject", 6, "2001:db8::1")
    assert (rule["protocol"], rule["source_port"], rule["enabled"]) == ("udp", "53", False)
    does(member, "firewall group rule set r1b --no-source-port --no-destination-ip-address --no-source-firewall-group")
    assert (only(held)["source_port"], only(held)["destination_ip_address"]) == (None, None)


def test_a_member_names_shared_in_no_change(admin: OpenStackClient, member: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} r1")
    before = only(held)
    for option in ("--share", "--no-share"):
        assert "disallowed by policy" in member.run(f"firewall group rule set r1 {option}")
    assert only(held) == before
    does(admin, "firewall group rule set r1 --share")
    assert only(held)["shared"] is True
    does(admin, "firewall group rule set r1 --no-share")
    assert only(held)["shared"] is False


def test_unset_clears_what_it_names(admin: OpenStackClient, member: OpenStackClient, held: Api) -> None:
    full = "--protocol tcp --source-ip-address 10.0.0.1 --destination-ip-address 10.0.0.2 --source-port 1"
    told(admin, f"{CREATE} r1 {full} --destination-port 2 --share --project p1")
    names = ("source-ip-address", "destination-ip-address", "source-port", "destination-port")
    does(member, f"firewall group rule unset r1 {' '.join(f'--{name}' for name in names)}")
    assert {only(held)[name.replace("-", "_")] for name in names} == {None}
    does(member, "firewall group rule unset r1 --enable-rule --source-firewall-group --destination-firewall-group")
    assert (only(held)["enabled"], only(held)["shared"]) == (False, True)
    does(admin, "firewall group rule unset r1 --share")
    assert only(held)["shared"] is False


def test_rules_are_deleted_by_name_and_by_id(member: OpenStackClient, held: Api) -> None:
    first = told(member, f"{CREATE} r1")["ID"]
    told(member, f"{CREATE} r2")
    told(member, f"{CREATE} r3")
    told(member, "firewall group policy create p1 --firewall-rule r3")
    answer = member.run(f"firewall group rule delete {first} r2 nosuch r3")
    assert "No FirewallRule found for nosuch" in answer
    assert "is being used" in answer
    assert answer.endswith("2 of 4 firewall rule(s) failed to delete.")
    assert only(held)["name"] == "r3"


def test_the_answer_to_bad_input_reaches_the_user(member: OpenStackClient, held: Api) -> None:
    for options, message in (
        ("--protocol tcp --source-port 70000", "Invalid port: 70000."),
        ("--source-port 80", "Source/destination port requires a protocol."),
        ("--source-ip-address 2001:db8::1", "IP addresses do not agree with IP Version."),
    ):
        assert message in member.run(f"{CREATE} r1 {options}")
    assert held.index(RULE) == []


def test_a_reader_sees_and_changes_nothing(member: OpenStackClient, reader: OpenStackClient, held: Api) -> None:
    told(member, f"{CREATE} r1")
    before = only(held)
    check_printed(RULE, told(reader, "firewall group rule show r1"), before)
    for action, command in (
        ("create_firewall_rule", "create r2"),
        ("update_firewall_rule", "set r1 --name x"),
        ("update_firewall_rule", "unset r1 --source-port"),
        ("delete_firewall_rule", "delete r1"),
    ):
        answer = reader.run(f"firewall group rule {command}")
        assert f"rule:{action} is disallowed by policy" in answer, answer
    assert only(held) == before
