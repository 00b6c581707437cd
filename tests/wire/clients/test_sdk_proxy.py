"""openstacksdk's ``network`` proxy in all three auth modes."""

from typing import Any

import pytest
from openstack.connection import Connection
from openstack.exceptions import (
    BadRequestException,
    ConflictException,
    DuplicateResource,
    HttpException,
    NotFoundException,
)

from wire.clients.cloud import GROUP, POLICY, RULE, Cloud

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def names(found: Any) -> list[str]:
    return sorted(item.name for item in found)


def test_everything_is_made_found_changed_and_deleted(sdk: Connection, cloud: Cloud) -> None:
    network = sdk.network
    rules = [
        network.create_firewall_rule(
            name=f"r{number}", protocol="tcp", destination_port=number, action="allow", enabled=True
        )
        for number in range(1, 4)
    ]
    assert network.find_firewall_rule("r2").id == rules[1].id
    assert network.find_firewall_rule(rules[1].id).name == "r2"
    assert network.find_firewall_rule("nope") is None
    policy = network.create_firewall_policy(name="p", firewall_rules=[rules[0].id])
    network.insert_rule_into_policy(policy, firewall_rule_id=rules[1].id)
    network.insert_rule_into_policy(policy, firewall_rule_id=rules[2].id, insert_after=rules[1].id)
    assert policy.firewall_rules == [rules[1].id, rules[2].id, rules[0].id], "the answer is merged into the policy"
    assert network.get_firewall_policy(policy.id).firewall_rules == policy.firewall_rules
    network.remove_rule_from_policy(policy, firewall_rule_id=rules[1].id)
    assert policy.firewall_rules == [rules[2].id, rules[0].id]
    assert network.find_firewall_rule("r1").firewall_policy_id == [policy.id]

    with cloud.api() as held:
        port = held.router_port(name="lan", project_id=policy.project_id)["id"]
    assert network.find_port("lan").id == port
    group = network.create_firewall_group(name="g", ports=[port], ingress_firewall_policy_id=policy.id)
    assert network.find_firewall_group("g").status == "PENDING_CREATE"
    assert network.update_firewall_group(group, admin_state_up=False).admin_state_up is False
    assert network.get_firewall_group(group.id).admin_state_up is False
    assert network.update_firewall_policy(policy.id, audited=True).audited is True
    assert network.update_firewall_rule(rules[0].id, source_ip_address="10.0.0.1").source_ip_address == "10.0.0.1"
    assert network.get_firewall_policy(policy.id).audited is False

    with pytest.raises(ConflictException, match="is still active"):
        network.delete_firewall_group(group)
    network.update_firewall_group(group, ports=[])
    network.delete_firewall_group(group, ignore_missing=False)
    network.delete_firewall_policy(policy, ignore_missing=False)
    for rule in rules:
        network.delete_firewall_rule(rule, ignore_missing=False)
    with cloud.api() as held:
        assert [held.index(kind) for kind in (RULE, POLICY, GROUP)] == [[], [], []]


def test_a_change_that_changes_nothing_is_not_sent_and_counts_nothing(sdk: Connection) -> None:
    rule = sdk.network.create_firewall_rule(name="r", protocol="tcp", ip_version=4)
    same = sdk.network.update_firewall_rule(rule, name="r", protocol="tcp")
    assert sdk.network.get_firewall_rule(same.id).revision_number == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"name": "a"}, ["a"]),
        ({"action": "allow"}, ["a"]),
        ({"description": "second"}, ["b"]),
        ({"enabled": False}, ["b"]),
        ({"enabled": True}, ["a", "c"]),
        ({"shared": False}, ["a", "b", "c"]),
        ({"shared": True}, []),
        ({"ip_version": 6}, ["c"]),
        ({"protocol": "tcp"}, ["a"]),
        ({"source_ip_address": "10.0.0.0/24"}, ["a"]),
        ({"destination_ip_address": "2001:db8::1"}, ["c"]),
        ({"source_port": "1:2"}, ["a"]),
        ({"destination_port": 80}, ["a"]),
        ({"protocol": "udp", "name": "a"}, []),
    ],
)  # fmt: skip
def test_rules_are_filtered(sdk: Connection, query: dict[str, Any], expected: list[str]) -> None:
    sdk.network.create_firewall_rule(
        name="a", action="allow", protocol="tcp", source_ip_address="10.0.0.0/24", source_port="1:2",
        destination_port=80,
    )  # fmt: skip
    sdk.network.create_firewall_rule(name="b", enabled=False, description="second")
    sdk.network.create_firewall_rule(name="c", ip_version=6, destination_ip_address="2001:db8::1")
    assert names(sdk.network.firewall_rules(**query)) == expected


def test_policies_and_groups_are_filtered_by_what_is_in_them(sdk: Connection, cloud: Cloud) -> None:
    network = sdk.network
    rule = network.create_firewall_rule(name="r")
    policy = network.create_firewall_policy(name="p", firewall_rules=[rule.id], audited=True)
    network.create_firewall_policy(name="q", description="d")
    with cloud.api() as held:
        port = held.router_port(project_id=rule.project_id)["id"]
    network.create_firewall_group(name="g", ports=[port], ingress_firewall_policy_id=policy.id)
    network.create_firewall_group(name="h", egress_firewall_policy_id=policy.id)
    for query, expected in (
        ({"firewall_rules": rule.id}, ["p"]), ({"audited": False}, ["q"]), ({"description": "d"}, ["q"]),
        ({"shared": False, "name": "p"}, ["p"]), ({"project_id": rule.project_id}, ["p", "q"]),
        ({"project_id": "nobody"}, []),
    ):  # fmt: skip
        assert names(network.firewall_policies(**query)) == expected, query
    for query, expected in (
        ({"ports": port}, ["g"]), ({"ingress_firewall_policy_id": policy.id}, ["g"]), ({"status": "INACTIVE"}, ["h"]),
        ({"egress_firewall_policy_id": policy.id}, ["h"]), ({"shared": False}, ["g", "h"]), ({"name": "h"}, ["h"]),
    ):  # fmt: skip
        assert names(network.firewall_groups(**query)) == expected, query
    assert names(network.firewall_rules(firewall_policy_id=policy.id)) == ["r"]


@pytest.mark.parametrize("limit", [1, 2, 5, 10])
def test_pages_are_followed_to_their_end(sdk: Connection, limit: int) -> None:
    for number in range(5):
        sdk.network.create_firewall_rule(name=f"r{number}", protocol="tcp")
    listed = list(sdk.network.firewall_rules(limit=limit, protocol="tcp"))
    assert names(listed) == [f"r{number}" for number in range(5)]


def test_fields_are_all_that_a_list_then_shows(sdk: Connection) -> None:
    made = sdk.network.create_firewall_rule(name="r", protocol="tcp")
    (shown,) = sdk.network.firewall_rules(fields=["id", "name"])
    assert (shown.id, shown.name, shown.protocol) == (made.id, "r", None)


def test_refusals_are_the_sdks_exceptions(sdk: Connection) -> None:
    network = sdk.network
    with pytest.raises(BadRequestException, match="bogus is not in valid_values"):
        network.create_firewall_rule(action="bogus")
    for get in (network.get_firewall_rule, network.get_firewall_policy, network.get_firewall_group):
        with pytest.raises(NotFoundException, match=f"{UNKNOWN} could not be found"):
            get(UNKNOWN)
    for delete in (network.delete_firewall_rule, network.delete_firewall_policy, network.delete_firewall_group):
        assert delete(UNKNOWN) is None
        with pytest.raises(NotFoundException):
            delete(UNKNOWN, ignore_missing=False)
    for _ in range(2):
        rule = network.create_firewall_rule(name="twin")
    with pytest.raises(DuplicateResource):
        network.find_firewall_rule("twin")
    policy = network.create_firewall_policy(name="p", firewall_rules=[rule.id])
    with pytest.raises(ConflictException, match="is being used"):
        network.delete_firewall_rule(rule)
    with pytest.raises(
        HttpException, match="already associated"
    ):  # what the SDK raises of these two, whatever the status
        network.insert_rule_into_policy(policy.id, firewall_rule_id=rule.id)
    with pytest.raises(HttpException, match="is not associated"):
        network.remove_rule_from_policy(network.create_firewall_policy(name="q").id, firewall_rule_id=rule.id)
