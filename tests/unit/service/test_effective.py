"""Which groups decide for a port, as the service tells a member; over HTTP the operator's rules narrow it further."""

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from portward.model import TCP, Direction, Packet, Stratum
from portward.service import address_groups
from portward.service.effective import Decider, effective_groups
from portward.service.errors import PortNotFound
from portward.service.explain import explain
from unit.service.world import World

PACKET = Packet(source=ip_address("192.0.2.1"), destination=ip_address("192.0.2.2"), protocol=TCP)


def told(world: World, project: str, port: str) -> tuple[Decider, ...]:
    found: tuple[Decider, ...] = world.member(project, effective_groups, port, lambda _table: ())
    return found


def group(world: World, port: str, *rules: str, shared: bool = False, **values: Any) -> str:
    """An admin's group on the port, with a policy that is nobody else's to see."""
    return world.group(port, stratum="admin", ingress_firewall_policy_id=world.policy(*rules), shared=shared, **values)


def test_a_group_that_is_hidden_is_there_without_its_rules(world: World) -> None:
    port = world.port(project_id="q")
    group(world, port, world.rule(shared=True))
    (decider,) = told(world, "q", port)
    assert (decider.row, decider.stratum, list(decider.rules.values())) == (None, Stratum.ADMIN, [(), ()])


def test_a_policy_that_is_hidden_is_one_hidden_rule_whatever_it_holds(world: World) -> None:
    port = world.port(project_id="q")
    id_ = group(world, port, world.rule(shared=True), world.rule(), shared=True)
    (decider,) = told(world, "q", port)
    assert decider.row is not None
    assert (decider.row.id, list(decider.rules[Direction.INGRESS])) == (id_, [None])


def test_a_group_that_is_down_decides_nothing_unless_it_is_a_tenants(world: World) -> None:
    port = world.port()
    tenants = world.group(port, admin_state_up=False)
    group(world, port, admin_state_up=False)
    (decider,) = told(world, "p", port)
    assert decider.row is not None
    assert decider.row.id == tenants


def test_a_port_of_another_project_is_not_there(world: World) -> None:
    with pytest.raises(PortNotFound):
        told(world, "q", world.port())


def test_an_explanation_names_nothing_that_is_hidden(world: World) -> None:
    port, rule = world.port(project_id="q"), world.rule(name="secret")
    secrets = [group(world, port, world.rule(protocol="udp"), rule, name="secret"), rule, "secret"]
    found = world.member("q", explain, port, Direction.INGRESS, PACKET)
    assert (found.rule_name, found.policy_name, found.group_name) == ("admin", "admin", "admin")
    assert [passed.rule_id for passed in found.passed_over] == [None]
    assert not [secret for secret in secrets if secret in str(found)]


def test_an_explanation_knows_who_is_in_a_group_that_a_rule_names(world: World) -> None:
    values = address_groups.AddressGroupValues(name="friends", addresses=("192.0.2.1/32",))
    friends = world.call(address_groups.create_address_group, values).row.id
    world.port(device_owner="compute:nova", fixed_ips=[{"ip_address": "192.0.2.9"}])
    machines = world.group(stratum="admin", scope="all")
    out = world.rule(destination_firewall_group_id=machines, action="allow")
    into = world.rule(source_address_group_id=friends, action="allow")
    port = world.port()
    world.group(port, ingress_firewall_policy_id=world.policy(out, into))
    found = world.call(explain, port, Direction.INGRESS, PACKET)
    assert (found.verdict, found.rule_id) == ("allow", into)
    (passed,) = found.passed_over
    assert (passed.field, passed.rule_says, passed.packet_has) == ("destination", f"group {machines}", "192.0.2.2")
    other = msgspec.structs.replace(PACKET, source=ip_address("192.0.2.3"))
    told = world.call(explain, port, Direction.INGRESS, other)
    assert (told.verdict, told.passed_over[-1].rule_says) == ("deny", f"group 'friends' ({friends})")
