"""openstacksdk's cloud layer, which looks everything up by name, in all three auth modes."""

from collections.abc import Iterator

import pytest
from openstack.connection import Connection
from openstack.exceptions import NotFoundException

from wire.clients.cloud import GROUP, POLICY, RULE, Cloud
from wire.conftest import Api

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture
def held(cloud: Cloud) -> Iterator[Api]:
    """What the API holds, without a client in between."""
    with cloud.api() as api:
        yield api


def test_rules_by_name(sdk: Connection, held: Api) -> None:
    made = sdk.create_firewall_rule(name="r1", protocol="tcp", destination_port="80", source_firewall_group_id=None)
    assert held.show(RULE, made.id)["destination_port"] == "80"
    assert sdk.get_firewall_rule("r1").id == made.id
    assert sdk.get_firewall_rule("nosuch") is None
    assert [rule.id for rule in sdk.list_firewall_rules(filters={"protocol": "tcp"})] == [made.id]
    assert sdk.list_firewall_rules(filters={"protocol": "udp"}) == []
    assert sdk.update_firewall_rule("r1", name="r2", destination_port=None).destination_port is None
    assert held.show(RULE, made.id)["name"] == "r2"
    with pytest.raises(NotFoundException):
        sdk.update_firewall_rule("r1", name="r3")
    assert [sdk.delete_firewall_rule("r1"), sdk.delete_firewall_rule("r2")] == [False, True]
    assert held.index(RULE) == []


def test_policies_by_name(sdk: Connection, held: Api) -> None:
    ids = {name: sdk.create_firewall_rule(name=name).id for name in ("r1", "r2", "r3")}
    policy = sdk.create_firewall_policy(name="p1", firewall_rules=["r1", ids["r2"]]).id

    def order() -> list[str]:
        inside = held.show(POLICY, policy)["firewall_rules"]
        return [name for id_ in inside for name, known in ids.items() if known == id_]

    assert order() == ["r1", "r2"]
    assert sdk.insert_rule_into_policy("p1", "r3", insert_after="r1").firewall_rules[1] == ids["r3"]
    assert order() == ["r1", "r3", "r2"]
    sdk.insert_rule_into_policy("p1", "r3")  # is there already, so nothing is sent
    sdk.remove_rule_from_policy("p1", "r3")
    sdk.remove_rule_from_policy("p1", "r3")
    sdk.insert_rule_into_policy("p1", "r3", insert_before="r1")
    assert order() == ["r3", "r1", "r2"]
    sdk.update_firewall_policy("p1", firewall_rules=["r2", "r1"], audited=True)
    assert (order(), sdk.get_firewall_policy("p1").audited) == (["r2", "r1"], True)
    assert [found.name for found in sdk.list_firewall_policies(filters={"audited": True})] == ["p1"]
    with pytest.raises(NotFoundException):
        sdk.create_firewall_policy(name="p2", firewall_rules=["nosuch"])
    assert [sdk.delete_firewall_policy("p1"), sdk.delete_firewall_policy("p1")] == [True, False]
    assert held.index(POLICY) == []


def test_groups_by_name(sdk: Connection, held: Api) -> None:
    policy = sdk.create_firewall_policy(name="p1")
    port = held.router_port(name="lan", project_id=policy.project_id)["id"]
    group = sdk.create_firewall_group(name="g1", ports=["lan"], ingress_firewall_policy="p1").id
    shown = held.show(GROUP, group)
    assert (shown["ports"], shown["ingress_firewall_policy_id"]) == ([port], policy.id)
    sdk.update_firewall_group("g1", ingress_firewall_policy=None, egress_firewall_policy="p1", admin_state_up=False)
    shown = held.show(GROUP, group)
    assert (shown["ingress_firewall_policy_id"], shown["egress_firewall_policy_id"]) == (None, policy.id)
    assert sdk.get_firewall_group("g1").admin_state_up is False
    assert [found.id for found in sdk.list_firewall_groups(filters={"name": "g1"})] == [group]
    sdk.update_firewall_group("g1", ports=[])
    assert [sdk.delete_firewall_group("g1"), sdk.delete_firewall_group("g1")] == [True, False]
    assert held.index(GROUP) == []
