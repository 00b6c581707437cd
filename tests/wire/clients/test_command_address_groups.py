"""``openstack address group ...`` with Keystone, and firewall rules that name groups as addresses."""

from typing import Any

from demo.client import OpenStackClient
from wire.clients.cloud import GROUP, RULE, Cloud, does, told
from wire.conftest import Api

ADDRESSES = "address_group"


def only(api: Api, kind: str = ADDRESSES) -> dict[str, Any]:
    (found,) = api.index(kind)
    return found


def check_printed(printed: dict[str, Any], held: dict[str, Any]) -> None:
    """The command shows what the API holds."""
    shown = ("id", "name", "description", "project_id", "addresses")
    assert {name: printed[name] for name in shown} == {name: held[name] for name in shown}


def test_an_address_group_is_made_shown_changed_and_deleted(
    member: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    options = "--address 10.0.0.7/24 --address 192.0.2.1 --address 2001:db8::/32 --description hello"
    printed = told(member, f"address group create a1 {options}")
    group = only(held)
    assert group["addresses"] == ["10.0.0.0/24", "192.0.2.1/32", "2001:db8::/32"]
    assert (group["project_id"], group["description"]) == (keystone_cloud.project("p1"), "hello")
    check_printed(printed, group)
    for name in ("a1", group["id"]):
        check_printed(told(member, f"address group show {name}"), group)
    does(member, "address group set a1 --address 198.51.100.0/24 --name a2 --description x")
    does(member, "address group unset a2 --address 192.0.2.1 --address 2001:db8::/32")
    changed = only(held)
    assert (changed["name"], changed["description"]) == ("a2", "x")
    assert changed["addresses"] == ["10.0.0.0/24", "198.51.100.0/24"]
    does(member, "address group delete a2")
    assert held.index(ADDRESSES) == []


def test_address_groups_are_listed(member: OpenStackClient, held: Api, keystone_cloud: Cloud) -> None:
    project = keystone_cloud.project("p1")
    for name in ("a1", "a2"):
        told(member, f"address group create {name} --address 10.0.0.1")
    for options, names in (("", ["a1", "a2"]), ("--name a2", ["a2"]), (f"--project {project} --limit 1", ["a1", "a2"])):
        rows = told(member, f"address group list {options}")
        assert sorted(row["Name"] for row in rows) == names
        assert {(row["Project"], *row["Addresses"]) for row in rows} == {(project, "10.0.0.1/32")}
    assert len(held.index(ADDRESSES)) == 2


def test_what_is_refused_reaches_the_user(
    member: OpenStackClient, reader: OpenStackClient, held: Api, keystone_cloud: Cloud
) -> None:
    told(member, "address group create a1 --address 10.0.0.1")
    before = only(held)
    held.make(RULE, source_address_group_id=before["id"], project_id=keystone_cloud.project("p1"))
    for shell, command, message in (
        (member, "set a1 --address 10.0.0.1", "already exist in the address group"),
        (member, "unset a1 --address 10.0.0.2", "not found in the address group"),
        (member, "delete a1", "is in use on firewall rules"),
        (member, "show nosuch", "No AddressGroup found for nosuch"),
        (reader, "set a1 --address 10.0.0.2", "rule:update_address_group is disallowed by policy"),
        (reader, "create a2", "rule:create_address_group is disallowed by policy"),
    ):
        assert message in shell.run(f"address group {command}")
    assert only(held) == before


def test_a_rule_names_firewall_groups_as_addresses(member: OpenStackClient, held: Api) -> None:
    ids = {name: told(member, f"firewall group create {name}")["ID"] for name in ("web", "db")}
    told(member, "firewall group rule create r1 --source-firewall-group web --destination-firewall-group db")
    rule = only(held, RULE)
    assert (rule["source_firewall_group_id"], rule["destination_firewall_group_id"]) == (ids["web"], ids["db"])
    assert "in use as an address" in member.run("firewall group delete web")
    refusal = member.run("firewall group rule set r1 --source-ip-address 10.0.0.1")
    assert "names its source in one way at most" in refusal
    does(member, "firewall group rule set r1 --no-source-firewall-group --source-ip-address 10.0.0.1")
    does(member, "firewall group rule unset r1 --destination-firewall-group")
    rule = only(held, RULE)
    assert (rule["source_firewall_group_id"], rule["source_ip_address"]) == (None, "10.0.0.1")
    assert rule["destination_firewall_group_id"] is None
    does(member, "firewall group delete web db")
    assert held.index(GROUP, name="web") == []
