"""Address groups over HTTP, in Neutron's shape, and what rules name as an address."""

from collections.abc import Iterator
from typing import Any

import pytest

from portward.config import Quotas
from wire.conftest import UNKNOWN, Api, path, running, settings
from wire.contract.cloud import Personas, denied, refused, write_users

GROUP, RULE, FIREWALL_GROUP, POLICY = "address_group", "firewall_rule", "firewall_group", "firewall_policy"
BAD = "HTTPBadRequest"
KEYS = {
    "id", "project_id", "tenant_id", "name", "description", "shared", "addresses", "revision_number", "created_at",
    "updated_at", "tags",
}  # fmt: skip


def told(answer: Any, status: int, kind: str) -> str:
    """The message of a refusal of that status and type."""
    refused(answer, status, kind)
    return str(answer.json()["NeutronError"]["message"])


def change(api: Api, group: str, action: str, body: Any) -> Any:
    return api.request("PUT", f"{path(GROUP)}/{group}/{action}", json=body)


def test_an_address_group_of_which_nothing_is_said_has_no_addresses(api: Api) -> None:
    group = api.make(GROUP)
    assert group.keys() == KEYS
    assert (group["name"], group["description"], group["shared"], group["addresses"]) == ("", "", False, [])
    assert api.show(GROUP, group["id"]) == group
    assert api.index(GROUP) == [group]


def test_addresses_of_both_versions_come_back_in_their_canonical_form_none_twice(api: Api) -> None:
    given = ["10.0.0.1", "10.1.2.3/16", "2001:DB8::1/32", "10.1.0.0/16", "2001:db8::/32", "::1"]
    group = api.make(GROUP, name="g", addresses=given)
    assert group["addresses"] == ["10.0.0.1/32", "10.1.0.0/16", "2001:db8::/32", "::1/128"]
    assert api.make(GROUP, addresses=None)["addresses"] == []


def test_addresses_are_added_and_removed_in_any_form(api: Api) -> None:
    group = api.make(GROUP, addresses=["10.0.0.0/8"])
    added = change(api, group["id"], "add_addresses", {"addresses": ["192.0.2.1", "192.0.2.1/32", "2001:db8::1/64"]})
    assert added.status_code == 200
    wanted = ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/64"]
    assert added.json()[GROUP]["addresses"] == wanted
    assert added.json()[GROUP] == api.show(GROUP, group["id"])
    assert added.json()[GROUP]["revision_number"] == group["revision_number"] + 1
    removed = change(api, group["id"], "remove_addresses", {"addresses": ["10.9.9.9/8", "192.0.2.1"]})
    assert (removed.status_code, removed.json()[GROUP]["addresses"]) == (200, ["2001:db8::/64"])


def test_what_is_no_change_of_addresses_is_refused_whole(api: Api) -> None:
    group = api.make(GROUP, addresses=["10.0.0.0/8"])
    for action, body, status, kind, message in (
        ("add_addresses", {"addresses": ["11.0.0.1", "10.0.0.0/8"]}, 400, "AddressesAlreadyExist", "10.0.0.0/8"),
        ("remove_addresses", {"addresses": ["10.0.0.0/8", "11.0.0.1"]}, 404, "AddressesNotFound", "11.0.0.1/32"),
        ("add_addresses", {"addresses": ["10.0.0.300"]}, 400, BAD, "10.0.0.300"),
        ("add_addresses", {"addresses": "10.0.0.1"}, 400, BAD, "is not a list"),
        ("add_addresses", {"addresses": [""]}, 400, BAD, "Invalid input for addresses"),
        ("add_addresses", {}, 400, BAD, "Unable to find 'addresses' in request body"),
        ("add_addresses", {"addresses": [], "name": "x"}, 400, BAD, "name"),
        ("add_addresses", [], 400, BAD, "JSON object"),
    ):
        assert message in told(change(api, group["id"], action, body), status, kind)
    told(change(api, UNKNOWN, "add_addresses", {"addresses": []}), 404, "AddressGroupNotFound")
    assert api.show(GROUP, group["id"]) == group


def test_to_add_or_remove_nothing_is_no_change(api: Api) -> None:
    group = api.make(GROUP, addresses=["10.0.0.0/8"])
    for action in ("add_addresses", "remove_addresses"):
        answer = change(api, group["id"], action, {"addresses": []})
        assert (answer.status_code, answer.json()[GROUP]) == (200, group)


def test_lists_are_filtered_sorted_paged_and_shortened(api: Api) -> None:
    for name, addresses in (("b", ["10.0.0.1"]), ("a", ["10.0.0.1", "2001:db8::/32"]), ("c", [])):
        api.make(GROUP, name=name, addresses=addresses)

    def names(direction: str = "asc", **query: Any) -> list[str]:
        return [group["name"] for group in api.index(GROUP, sort_key="name", sort_dir=direction, **query)]

    assert names() == ["a", "b", "c"]
    assert names("desc", limit=2) == ["c", "b"]
    assert names(name=["a", "c"]) == ["a", "c"]
    assert names(addresses="10.0.0.1") == ["a", "b"]
    assert names(addresses="2001:DB8::/32") == ["a"]
    assert api.index(GROUP, name="c", fields="addresses") == [{"addresses": []}]


def test_an_address_group_bears_tags(api: Api) -> None:
    group = api.make(GROUP, addresses=["10.0.0.1"])
    assert api.request("PUT", f"{path(GROUP)}/{group['id']}/tags", json={"tags": ["t"]}).status_code == 200
    assert [item["id"] for item in api.index(GROUP, tags="t")] == [group["id"]]
    changed = change(api, group["id"], "add_addresses", {"addresses": ["10.0.0.2"]}).json()[GROUP]
    assert changed["tags"] == api.show(GROUP, group["id"])["tags"] == ["t"]


def test_what_it_brings_is_among_the_extensions(api: Api) -> None:
    aliases = {item["alias"] for item in api.request("GET", "/v2.0/extensions").json()["extensions"]}
    assert {"address-group", "fwaas-address-groups", "fwaas-remote-groups", "fwaas-icmp"} <= aliases


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_rule_names_each_of_its_addresses_in_one_way(api: Api, side: str) -> None:
    address, group = f"{side}_address_group_id", f"{side}_firewall_group_id"
    ways: dict[str, str] = {
        f"{side}_ip_address": "10.0.0.1",
        address: api.make(GROUP)["id"],
        group: api.make(FIREWALL_GROUP)["id"],
    }
    for first in ways:
        rule = api.make(RULE, **{first: ways[first]})
        assert rule[first] == ways[first]
        for second in ways.keys() - {first}:
            both = {first: ways[first], second: ways[second]}
            for answer in (api.post(RULE, **both), api.put(RULE, rule["id"], **{second: ways[second]})):
                message = told(answer, 400, "FirewallRuleAddressConflict")
                assert message.startswith(f"A firewall rule names its {side} in one way at most")
            moved = {first: None, second: ways[second]}
            assert api.change(RULE, rule["id"], **moved).items() >= moved.items()
            api.change(RULE, rule["id"], **{first: ways[first], second: None})
        assert api.show(RULE, rule["id"])[first] == ways[first]
    other = {f"{'source' if side == 'destination' else 'destination'}_ip_address": "10.0.0.1"}
    assert api.make(RULE, **other, **{group: ways[group]}).items() >= other.items()


def test_a_group_that_rules_name_is_found_by_them_and_not_deleted(api: Api) -> None:
    addresses, machines = api.make(GROUP)["id"], api.make(FIREWALL_GROUP)["id"]
    first = api.make(RULE, source_address_group_id=addresses)["id"]
    second = api.make(RULE, destination_firewall_group_id=machines)["id"]
    assert first in told(api.delete(GROUP, addresses), 409, "AddressGroupInUse")
    assert second in told(api.delete(FIREWALL_GROUP, machines), 409, "FirewallGroupNamed")
    assert [rule["id"] for rule in api.index(RULE, source_address_group_id=addresses)] == [first]
    for rule in (first, second):
        assert api.delete(RULE, rule).status_code == 204
    assert api.delete(GROUP, addresses).status_code == api.delete(FIREWALL_GROUP, machines).status_code == 204


def test_a_refusal_names_no_rules_that_the_caller_does_not_see(who: Personas) -> None:
    addresses = who.stranger.make(GROUP)["id"]
    who.admin.change(GROUP, addresses, shared=True)
    foreign = who.member.make(RULE, source_address_group_id=addresses)["id"]
    assert told(who.stranger.delete(GROUP, addresses), 409, "AddressGroupInUse").endswith("firewall rules of others.")
    own = who.stranger.make(RULE, destination_address_group_id=addresses)["id"]
    assert told(who.stranger.delete(GROUP, addresses), 409, "AddressGroupInUse").endswith(f"firewall rules {own}.")
    assert foreign in told(who.admin.delete(GROUP, addresses), 409, "AddressGroupInUse")
    for api, rule in ((who.member, foreign), (who.stranger, own)):
        assert api.delete(RULE, rule).status_code == 204
    assert who.stranger.delete(GROUP, addresses).status_code == 204


def test_a_rule_cannot_name_what_is_not_there(api: Api) -> None:
    rule = api.make(RULE)["id"]
    for name, kind in (("address_group", "AddressGroupNotFound"), ("firewall_group", "FirewallGroupNotFound")):
        for side in ("source", "destination"):
            named = {f"{side}_{name}_id": UNKNOWN}
            assert UNKNOWN in told(api.post(RULE, **named), 404, kind)
            assert UNKNOWN in told(api.put(RULE, rule, **named), 404, kind)


def test_types_and_codes_of_icmp_are_whole_numbers_of_rules_about_icmp(api: Api) -> None:
    for protocol, version in (("icmp", 4), ("icmp", 6), ("ipv6-icmp", 6)):
        made = api.make(RULE, protocol=protocol, ip_version=version, icmp_type="8", icmp_code=0)
        assert (made["icmp_type"], made["icmp_code"]) == (8, 0)
    for sent in ({"icmp_type": 8}, {"icmp_type": 8, "protocol": "tcp"}, {"icmp_code": 0, "protocol": "icmp"}):
        told(api.post(RULE, **sent), 400, "FirewallRuleIcmpConflict")
    for value in (-1, 256):
        assert "icmp_type" in told(api.post(RULE, protocol="icmp", icmp_type=value), 400, BAD)
    for value in ("x", 1.5, True):
        assert "not an integer" in told(api.post(RULE, protocol="icmp", icmp_code=value), 400, "InvalidInput")
    rule = api.make(RULE, protocol="icmp", icmp_type=3, icmp_code=4)["id"]
    for values in ({"protocol": None}, {"protocol": "udp"}, {"icmp_type": None}):
        told(api.put(RULE, rule, **values), 400, "FirewallRuleIcmpConflict")
    cleared = api.change(RULE, rule, protocol="udp", icmp_type=None, icmp_code=None)
    assert (cleared["icmp_type"], cleared["icmp_code"]) == (None, None)


def test_an_audit_is_over_when_an_address_group_changes_and_not_when_machines_come(api: Api) -> None:
    addresses, machines = api.make(GROUP)["id"], api.make(FIREWALL_GROUP)["id"]
    rules = [api.make(RULE, source_address_group_id=addresses), api.make(RULE, source_firewall_group_id=machines)]
    made = [api.make(POLICY, firewall_rules=[rule["id"]], audited=True)["id"] for rule in rules]
    machine = api.make("port", device_owner="compute:nova", fixed_ips=[{"ip_address": "10.0.0.1"}])["id"]
    api.change(FIREWALL_GROUP, machines, ports=[machine])
    assert [api.show(POLICY, policy)["audited"] for policy in made] == [True, True]
    change(api, addresses, "add_addresses", {"addresses": ["10.0.0.1"]})
    assert [api.show(POLICY, policy)["audited"] for policy in made] == [False, True]


@pytest.fixture(scope="module")
def who(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Personas]:
    directory = tmp_path_factory.mktemp("addresses")
    chosen = settings(directory).model_copy(update={"auth": write_users(directory), "quotas": Quotas(address_group=2)})
    with running(chosen) as url:
        personas = Personas(url)
        yield personas
        personas.close()


def test_members_have_their_own_and_see_what_is_shared_and_only_admins_share(who: Personas) -> None:
    own = who.member.make(GROUP, name="own", addresses=["10.0.0.1"])
    shared = who.admin.make(GROUP, name="all", project_id="p2", shared=True)
    hidden = who.admin.make(GROUP, name="hidden", project_id="p2")
    assert {group["name"] for group in who.member.index(GROUP)} == {"own", "all"}
    told(who.member.get(GROUP, hidden["id"]), 404, "AddressGroupNotFound")
    told(who.member.post(RULE, source_address_group_id=hidden["id"]), 404, "AddressGroupNotFound")
    assert who.member.make(RULE, source_address_group_id=shared["id"])["source_address_group_id"] == shared["id"]
    denied(who.member.post(GROUP, shared=True), "create_address_group", "create_address_group:shared")
    denied(who.member.put(GROUP, own["id"], shared=True), "update_address_group", "update_address_group:shared")
    for api, group in ((who.reader, own), (who.member, shared)):
        for answer in (
            api.put(GROUP, group["id"], name="x"),
            change(api, group["id"], "add_addresses", {"addresses": ["10.0.0.9"]}),
            change(api, group["id"], "remove_addresses", {"addresses": ["10.0.0.1"]}),
        ):
            denied(answer, "update_address_group")
        denied(api.delete(GROUP, group["id"]), "delete_address_group")
    assert who.admin.show(GROUP, own["id"]) == own
    who.member.make(GROUP)
    told(who.member.post(GROUP), 409, "OverQuota")
