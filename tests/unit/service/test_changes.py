"""Which calls reach the hosts, and whom they concern; which do not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portward.service import groups, policies, ports, rules
from portward.service.errors import ServiceError
from portward.store.tables import FirewallGroup
from unit.service.world import World, sqlite


class Firewall(World):
    """Two groups of one port each; the first policy is the first group's ingress, the second is nobody's."""

    def __init__(self, directory: Path) -> None:
        super().__init__(sqlite(directory))
        self.rules = [self.rule(name=f"r{number}") for number in range(3)]
        self.used = self.policy(*self.rules[:2])
        self.unused = self.policy(self.rules[0])
        self.ports = [self.port() for _ in range(2)]
        self.free = self.port()
        self.covering = self.group(self.ports[0], ingress_firewall_policy_id=self.used)
        self.other = self.group(self.ports[1])
        self.empty = self.group(ingress_firewall_policy_id=self.unused)

    def reaches(self, *policy_ids: str, group_ids: tuple[str, ...], do: Any, **named: Any) -> None:
        """The call ``do`` raises the generation by one, and marks these policies and groups with it."""
        before = self.seen()
        self.call(*do, **named)
        after = self.seen()
        assert after.generation == before.generation + 1
        assert after.versions == before.versions | dict.fromkeys(policy_ids, after.generation)
        assert after.groups == before.groups | dict.fromkeys(group_ids, (after.generation, self.now))

    def reaches_nobody(self, *do: Any, **named: Any) -> None:
        before = self.seen()
        self.call(*do, **named)
        after = self.seen()
        assert after.generation == before.generation
        assert all(before.versions.get(id_, version) == version for id_, version in after.versions.items())
        assert all(before.groups.get(id_, mark) == mark for id_, mark in after.groups.items())


@pytest.fixture
def firewall(tmp_path: Path) -> Iterator[Firewall]:
    world = Firewall(tmp_path)
    yield world
    world.store.close()


def rule_change(rule_id: str, **values: Any) -> tuple[Any, ...]:
    return rules.update_rule, rule_id, rules.RuleValues(**values)


def policy_change(policy_id: str, **values: Any) -> tuple[Any, ...]:
    return policies.update_policy, policy_id, policies.PolicyValues(**values)


def group_change(group_id: str, **values: Any) -> tuple[Any, ...]:
    return groups.update_group, group_id, groups.GroupValues(**values)


def port_change(port_id: str, **values: Any) -> tuple[Any, ...]:
    return ports.update_port, port_id, ports.PortValues(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"action": "allow"},
        {"enabled": False},
        {"protocol": "udp"},
        {"protocol": "udp", "source_port": "1"},
        {"protocol": "udp", "destination_port": "1"},
        {"source_ip_address": "10.0.0.1"},
        {"destination_ip_address": "10.0.0.1"},
        {"ip_version": 6},
    ],
)
def test_a_rule_that_decides_otherwise_concerns_its_policies_and_their_groups(
    firewall: Firewall, values: dict[str, Any]
) -> None:
    do = rule_change(firewall.rules[0], **values)
    firewall.reaches(firewall.used, firewall.unused, group_ids=(firewall.covering, firewall.empty), do=do)
    do = rule_change(firewall.rules[1], **values)
    firewall.reaches(firewall.used, group_ids=(firewall.covering,), do=do)


def test_a_rule_in_no_policy_concerns_nobody(firewall: Firewall) -> None:
    firewall.reaches_nobody(*rule_change(firewall.rules[2], action="allow"))
    firewall.reaches_nobody(rules.create_rule, rules.RuleValues(action="allow"))
    firewall.reaches_nobody(rules.delete_rule, firewall.rules[2])


def test_a_rule_that_stays_disabled_concerns_nobody(firewall: Firewall) -> None:
    firewall.call(*rule_change(firewall.rules[0], enabled=False))
    firewall.reaches_nobody(*rule_change(firewall.rules[0], action="allow"))
    do = rule_change(firewall.rules[0], enabled=True)
    firewall.reaches(firewall.used, firewall.unused, group_ids=(firewall.covering, firewall.empty), do=do)


@pytest.mark.parametrize("values", [{"name": "x"}, {"description": "x"}, {"shared": True}])
def test_names_descriptions_and_sharing_concern_nobody(firewall: Firewall, values: dict[str, Any]) -> None:
    for rule_id in firewall.rules:
        firewall.reaches_nobody(*rule_change(rule_id, **values))
    firewall.reaches_nobody(*policy_change(firewall.used, **values))
    firewall.reaches_nobody(*group_change(firewall.covering, **values))
    firewall.reaches_nobody(*port_change(firewall.ports[0], **{k: v for k, v in values.items() if k != "shared"}))


def test_an_audit_concerns_nobody(firewall: Firewall) -> None:
    firewall.reaches_nobody(*policy_change(firewall.used, audited=True))


def test_a_new_list_of_rules_concerns_the_policys_groups(firewall: Firewall) -> None:
    first, second, third = firewall.rules
    for order in ((second, first), (second,), (), (third, second, first)):
        do = policy_change(firewall.used, firewall_rules=order)
        firewall.reaches(firewall.used, group_ids=(firewall.covering,), do=do)
    firewall.reaches_nobody(*policy_change(firewall.used, firewall_rules=(third, second, first)))


def test_insertion_and_removal_concern_the_policys_groups(firewall: Firewall) -> None:
    third = firewall.rules[2]
    for action in (policies.insert_rule, policies.remove_rule):
        firewall.reaches(firewall.used, group_ids=(firewall.covering,), do=(action, firewall.used, third))


def test_the_place_of_a_disabled_rule_concerns_nobody(firewall: Firewall) -> None:
    first, second, third = firewall.rules
    firewall.call(*rule_change(third, enabled=False))
    firewall.reaches_nobody(policies.insert_rule, firewall.used, third, after=first)
    firewall.reaches_nobody(*policy_change(firewall.used, firewall_rules=(third, first, second)))
    firewall.reaches_nobody(policies.remove_rule, firewall.used, third)


def test_what_a_group_applies_concerns_it_alone(firewall: Firewall) -> None:
    for values in (
        {"admin_state_up": False},
        {"admin_state_up": True},
        {"egress_firewall_policy_id": firewall.unused},
        {"ingress_firewall_policy_id": None},
        {"ports": (firewall.ports[0], firewall.free)},
        {"ports": (firewall.free,)},
        {"ports": ()},
    ):
        firewall.reaches(group_ids=(firewall.covering,), do=group_change(firewall.covering, **values))


def test_a_group_without_ports_concerns_nobody(firewall: Firewall) -> None:
    firewall.reaches_nobody(*group_change(firewall.empty, admin_state_up=False))
    firewall.reaches_nobody(*group_change(firewall.empty, ingress_firewall_policy_id=None))
    firewall.reaches_nobody(groups.create_group, groups.GroupValues())
    firewall.reaches_nobody(groups.delete_group, firewall.empty)


def test_the_order_of_ports_concerns_nobody(firewall: Firewall) -> None:
    firewall.call(*group_change(firewall.covering, ports=(firewall.ports[0], firewall.free)))
    firewall.reaches_nobody(*group_change(firewall.covering, ports=(firewall.free, firewall.ports[0])))


def test_a_new_group_with_ports_carries_its_generation(firewall: Firewall) -> None:
    before = firewall.seen().generation
    made = firewall.group(firewall.free)
    assert firewall.seen().groups[made] == (before + 1, firewall.now)


@pytest.mark.parametrize(
    "values",
    [
        {"host": "h2"},
        {"device_id": "r2"},
        {"binding_profile": {"device": "eth1"}},
        {"device_owner": "compute:nova"},
        {"mac_address": "fa:16:3e:00:00:01"},
        {"fixed_ips": [{"ip_address": "10.0.0.1"}]},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.1"}]},
        {"port_security_enabled": False},
    ],
)
def test_where_and_how_a_port_is_realised_concerns_its_group(firewall: Firewall, values: dict[str, Any]) -> None:
    firewall.reaches(group_ids=(firewall.covering,), do=port_change(firewall.ports[0], **values))
    firewall.reaches_nobody(*port_change(firewall.ports[0], **values))


@pytest.mark.parametrize("values", [{"host": "h2"}, {"device_owner": "compute:nova"}])
def test_which_ports_a_switch_must_know_concerns_its_host_in_a_group_or_not(
    firewall: Firewall, values: dict[str, Any]
) -> None:
    firewall.reaches(group_ids=(), do=port_change(firewall.free, **values))
    firewall.reaches(group_ids=(), do=(ports.delete_port, firewall.free))


@pytest.mark.parametrize("values", [{"device_id": "r2"}, {"fixed_ips": [{"ip_address": "10.0.0.1"}]}])
def test_how_a_routers_port_without_a_group_is_realised_concerns_nobody(
    firewall: Firewall, values: dict[str, Any]
) -> None:
    firewall.reaches_nobody(*port_change(firewall.free, **values))


def test_the_addresses_of_a_virtual_machine_without_a_group_concern_its_host(firewall: Firewall) -> None:
    firewall.reaches(group_ids=(), do=port_change(firewall.free, device_owner="compute:nova"))
    firewall.reaches(group_ids=(), do=port_change(firewall.free, fixed_ips=[{"ip_address": "10.0.0.1"}]))


def test_a_port_that_goes_concerns_its_group(firewall: Firewall) -> None:
    do = port_change(firewall.ports[0], device_owner="network:dhcp")
    firewall.reaches(group_ids=(firewall.covering,), do=do)
    firewall.reaches(group_ids=(firewall.other,), do=(ports.delete_port, firewall.ports[1]))


@pytest.mark.parametrize("way", ["put", "delete", "owner"])
def test_a_group_that_loses_its_last_port_starts_anew(firewall: Firewall, way: str) -> None:
    firewall.call(*group_change(firewall.covering, ports=(firewall.ports[0], firewall.free)))

    def note(session: Any, _context: Any) -> None:
        session.get_one(FirewallGroup, firewall.covering).realised_once = True

    def lose(left: tuple[str, ...], port_id: str) -> bool:
        if way == "put":
            firewall.call(*group_change(firewall.covering, ports=left))
        elif way == "delete":
            firewall.call(ports.delete_port, port_id)
        else:
            firewall.call(*port_change(port_id, device_owner=""))
        return firewall.group_row(firewall.covering).realised_once

    firewall.call(note)
    assert lose((firewall.free,), firewall.ports[0])
    assert not lose((), firewall.free)


def test_what_is_refused_leaves_no_trace(firewall: Firewall) -> None:
    before = firewall.seen()
    for do in (
        rule_change(firewall.rules[0], action="allow", source_port="1"),
        policy_change(firewall.used, firewall_rules=(firewall.rules[0], "x")),
        group_change(firewall.covering, admin_state_up=False, ports=(firewall.ports[1],)),
        port_change(firewall.ports[0], host="h2", device_id="../x"),
        (policies.insert_rule, firewall.used, firewall.rules[0]),
        (policies.delete_policy, firewall.used),
    ):
        with pytest.raises(ServiceError):
            firewall.call(*do)
    assert firewall.seen() == before
