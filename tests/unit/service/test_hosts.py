"""What one host must enforce, read from the database."""

from ipaddress import ip_address, ip_network

import pytest

from portward.model import AddressPair, Binding, Group, InvalidValue, PortKind, PortRange
from portward.service.hosts import NO_MARK, NotCoverable, covered_port, host_index, marks
from portward.service.policy_values import policies_by_id
from unit.service.database import (
    add_group,
    add_policy,
    add_port,
    add_rule,
    counted_statements,
    empty_database,
    uuid,
)


def test_a_rule_becomes_canonical():
    session = empty_database()
    rule = add_rule(
        session, 1, protocol="tcp", source_ip_address="10.0.0.1/24", source_port="5", destination_port="0:1024"
    )
    policy = add_policy(session, 2, rules=(rule,), version=7)

    found = policies_by_id(session, [policy])[policy]

    assert found.version == 7
    assert found.rules[0].source == ip_network("10.0.0.0/24")
    assert found.rules[0].source_port == PortRange(5, 5)
    assert found.rules[0].destination_port == PortRange(0, 1024)


@pytest.mark.parametrize(
    ("written", "version", "number"),
    [("icmp", 4, 1), ("icmp", 6, 58), ("ipv6-icmp", 6, 58), ("sctp", 4, 132), ("dccp", 4, 33), ("47", 4, 47)],
)
def test_a_protocol_becomes_its_number(written: str, version: int, number: int):
    session = empty_database()
    policy = add_policy(session, 2, rules=(add_rule(session, 1, protocol=written, ip_version=version),))

    assert policies_by_id(session, [policy])[policy].rules[0].protocol == number


def test_rules_keep_the_order_of_the_policy_and_disabled_ones_stay():
    session = empty_database()
    rules = tuple(add_rule(session, number, enabled=number != 2) for number in (3, 1, 2))
    policy = add_policy(session, 9, rules=rules)

    found = policies_by_id(session, [policy])[policy].rules

    assert [rule.id for rule in found] == [uuid(3), uuid(1), uuid(2)]
    assert [rule.enabled for rule in found] == [True, True, False]


def test_a_policy_without_rules_is_there_and_an_unknown_one_is_not():
    session = empty_database()
    policy = add_policy(session, 9)

    found = policies_by_id(session, [policy, uuid(8)])

    assert list(found) == [policy]
    assert found[policy].rules == ()


def test_a_rule_that_the_model_does_not_admit_fails_the_whole_answer():
    session = empty_database()
    policy = add_policy(session, 9, rules=(add_rule(session, 1, source_ip_address="somewhere"),))

    with pytest.raises(InvalidValue, match=uuid(1)):
        policies_by_id(session, [policy])


def test_only_ports_of_the_host_that_a_group_covers_are_in_its_index():
    session = empty_database(generation=12)
    covered, _bare, foreign = add_port(session, 1), add_port(session, 2), add_port(session, 3, host="h2")
    policy, unused = add_policy(session, 5, version=4), add_policy(session, 6)
    add_group(session, 7, ports=(covered, foreign), ingress_firewall_policy_id=policy, generation=11)
    add_group(session, 8, egress_firewall_policy_id=unused)

    found = host_index(session, "h1")

    assert (found.generation, found.changed) == (12, 11)
    assert [port.port.id for port in found.index.ports] == [covered]
    assert found.index.ports[0].groups == (Group(id=uuid(7), ingress_policy_id=policy),)
    assert found.index.policies == {policy: 4}


def test_the_marks_of_all_hosts_are_those_of_their_indices():
    session = empty_database(generation=12)
    one, other, _bare = add_port(session, 1), add_port(session, 2), add_port(session, 3, host="h3")
    add_group(session, 7, ports=(one, add_port(session, 4, host="h2")), generation=11)
    add_group(session, 8, ports=(one, other), generation=9)

    generation, found = marks(session)

    assert generation == 12
    assert {host: mark[:3] for host, mark in found.items()} == {"h1": (3, 11, 2), "h2": (1, 11, 1), "h3": (0, 0, 1)}
    assert {host: host_index(session, host).mark for host in found} == found


def test_the_networks_own_ports_and_virtual_machines_in_no_group_are_in_the_index_of_their_host():
    session = empty_database()
    vm, router = add_port(session, 1, device_owner="compute:nova"), add_port(session, 2)
    dhcp, gateway = add_port(session, 3, device_owner="network:dhcp"), add_port(session, 4, device_owner="network:x")
    add_port(session, 5, device_owner="somebody"), add_port(session, 6, device_owner="network:dhcp", host="h2")

    found = host_index(session, "h1")

    assert [(port.port.id, port.groups) for port in found.index.ports] == [(vm, ())]
    assert sorted(found.index.admitted) == [router, dhcp, gateway]
    assert found.mark.ports == 4
    assert host_index(session, "h3").mark == NO_MARK


def test_all_marks_are_two_statements():
    session = empty_database()
    for number in range(20):
        add_group(session, 100 + number, ports=(add_port(session, number, host=f"h{number}"),))

    with counted_statements(session) as statements:
        marks(session)

    assert len(statements) == 2


def test_a_host_without_covered_ports_has_an_empty_index():
    found = host_index(empty_database(), "nobody")

    assert (found.changed, found.index.ports, found.index.policies) == (0, (), {})


def test_a_router_port_is_bound_to_the_device_that_neutron_makes():
    session = empty_database()
    port = add_port(session, 1, device_id=uuid(900))

    assert covered_port(session, port).port.binding == Binding(netns=f"qrouter-{uuid(900)}", device="qr-00000000-00")


def test_binding_profile_wins_where_it_names_a_device():
    session = empty_database()
    named = add_port(session, 1, binding_profile={"netns": "red", "device": "eth1"})
    root = add_port(session, 2, binding_profile={"device": "eth1"})
    other = add_port(session, 3, binding_profile={"vif": "x"})

    assert covered_port(session, named).port.binding == Binding(netns="red", device="eth1")
    assert covered_port(session, root).port.binding == Binding(netns=None, device="eth1")
    assert covered_port(session, other).port.binding == Binding(netns=f"qrouter-{uuid(900)}", device="qr-00000000-00")


@pytest.mark.parametrize(
    "attributes",
    [
        {"binding_profile": {"device": 'eth0"; flush ruleset'}},
        {"binding_profile": {"device": 7}},
        {"binding_profile": {"netns": "../../proc/1/ns/net", "device": "eth0"}},
        {"device_id": "../../proc/1/ns/net"},
    ],
)
def test_a_hostile_device_name_leaves_that_port_unbound_and_the_host_served(attributes: dict[str, object]):
    session = empty_database()
    hostile, good = add_port(session, 1, **attributes), add_port(session, 2)
    add_group(session, 7, ports=(hostile, good))

    first, second = host_index(session, "h1").index.ports

    assert first.port.binding is None
    assert second.port.binding is not None


def test_a_vm_port_has_its_addresses_and_no_binding():
    session = empty_database()
    port = add_port(
        session,
        1,
        device_owner="compute:nova",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=[{"subnet_id": "s", "ip_address": "10.0.0.5"}],
        allowed_address_pairs=[{"ip_address": "10.1.0.0/24"}, {"ip_address": "10.2.0.1", "mac_address": "aa"}],
        port_security_enabled=False,
    )

    found = covered_port(session, port).port

    assert (found.kind, found.binding, found.port_security_enabled) == (PortKind.VM, None, False)
    assert found.mac_address == "fa:16:3e:00:00:01"
    assert found.fixed_ips == (ip_address("10.0.0.5"),)
    assert found.allowed_address_pairs == (
        AddressPair(prefix=ip_network("10.1.0.0/24")),
        AddressPair(prefix=ip_network("10.2.0.1/32"), mac="aa"),
    )


def test_a_port_that_no_group_covers_has_no_groups():
    session = empty_database()

    assert covered_port(session, add_port(session, 1)).groups == ()


def test_a_port_that_is_unknown_or_of_another_kind_cannot_be_covered():
    session = empty_database()
    dhcp = add_port(session, 1, device_owner="network:dhcp")

    for port_id in (dhcp, uuid(44)):
        with pytest.raises(NotCoverable, match=port_id):
            covered_port(session, port_id)


def test_reading_a_host_takes_as_many_statements_for_forty_ports_as_for_one():
    session = empty_database()
    policy = add_policy(session, 100, rules=tuple(add_rule(session, 200 + number) for number in range(5)))
    other = add_policy(session, 101)
    for number in range(1, 41):
        port = add_port(session, number)
        add_group(session, 300 + number, ports=(port,), ingress_firewall_policy_id=policy)

    with counted_statements(session) as of_index:
        index = host_index(session, "h1").index
    with counted_statements(session) as of_bodies:
        policies_by_id(session, [policy, other])

    assert len(index.ports) == 40
    assert (len(of_index), len(of_bodies)) == (2, 1)
