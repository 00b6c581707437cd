"""openstacksdk, unchanged, against a server in auth mode none."""

from collections.abc import Iterator

import openstack
import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException, ConflictException

from wire.conftest import Api

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture(params=["", "/v2.0"])
def cloud(api: Api, request: pytest.FixtureRequest) -> Iterator[Connection]:
    connection = openstack.connect(
        load_yaml_config=False, load_envvars=False, auth_type="none", auth={"endpoint": api.url + request.param}
    )
    yield connection
    connection.close()


def test_the_sdk_makes_finds_changes_and_deletes_everything(cloud: Connection, api: Api) -> None:
    network = cloud.network
    rules = [
        network.create_firewall_rule(
            name=f"r{number}", protocol="tcp", destination_port=number, action="allow", enabled=True
        )
        for number in range(1, 4)
    ]
    assert network.find_firewall_rule("r2").id == rules[1].id
    assert network.find_firewall_rule("nope") is None
    policy = network.create_firewall_policy(name="p", firewall_rules=[rules[0].id])
    network.insert_rule_into_policy(policy, firewall_rule_id=rules[1].id)
    network.insert_rule_into_policy(policy, firewall_rule_id=rules[2].id, insert_after=rules[1].id)
    assert network.get_firewall_policy(policy.id).firewall_rules == [rules[1].id, rules[2].id, rules[0].id]
    network.remove_rule_from_policy(policy, firewall_rule_id=rules[1].id)
    assert [item.id for item in network.firewall_policies(firewall_rules=rules[2].id)] == [policy.id]
    assert network.find_firewall_rule("r1").firewall_policy_id == [policy.id]

    port = network.create_port(name="lan", device_owner="network:router_interface", binding_host_id="h1")
    assert network.find_port("lan").id == port.id
    group = network.create_firewall_group(name="g", ports=[port.id], ingress_firewall_policy_id=policy.id)
    assert network.find_firewall_group("g").status == "PENDING_CREATE"
    assert network.update_firewall_group(group, admin_state_up=False).admin_state_up is False
    assert [item.name for item in network.firewall_groups(name="g", shared=False)] == ["g"]

    with pytest.raises(ConflictException, match="is still active"):
        network.delete_firewall_group(group)
    with pytest.raises(BadRequestException, match="bogus is not in valid_values"):
        network.create_firewall_rule(action="bogus")
    network.update_firewall_group(group, ports=[])
    network.delete_firewall_group(group, ignore_missing=False)
    network.delete_firewall_policy(policy, ignore_missing=False)
    for rule in rules:
        network.delete_firewall_rule(rule, ignore_missing=False)
    network.delete_port(port, ignore_missing=False)
    assert not any(api.everything().values())
