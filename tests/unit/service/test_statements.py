"""A call costs a constant number of SQL statements, however large the lists."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from portward.config import DefaultFirewallGroup, Quotas
from portward.model import TCP, Direction, Packet
from portward.service import default_group, groups, policies, ports, rules, tags
from portward.service.effective import effective_groups
from portward.service.explain import explain
from portward.service.rows import Page
from portward.store.tables import FirewallGroup
from unit.service.world import World, sqlite

#: What a call may cost, the lock of the order of writes included.
AT_MOST = 15
#: What more a call may cost that has to make a default group first: once in a project's life.
MAKING = 3
_PACKET = Packet(source=ip_address("192.0.2.1"), destination=ip_address("192.0.2.2"), protocol=TCP)


class Sized:
    """``size`` rules in each of ``size`` policies' lists, all applied by groups of ``size`` ports, and as many VMs.

    Over some ports stand ``size`` admin groups more, and over those of ``size`` projects one.

    Of project p1 and with default groups throughout; of p2 there are VM ports, and its default group is gone.
    """

    def __init__(self, directory: Path, size: int) -> None:
        many = Quotas(firewall_group=1000, firewall_policy=1000, firewall_rule=1000)
        self.world = World(sqlite(directory), default_group=DefaultFirewallGroup(), quotas=many)
        self.rules = [self.world.rule() for _ in range(size)]
        self.extra = self.world.rule()
        self.policies = [self.world.policy(*self.rules) for _ in range(size)]
        self.ports = [self.world.port() for _ in range(size)]
        self.free = [self.world.port() for _ in range(size)]
        policy = self.policies[0]
        self.group = self.world.group(*self.ports, ingress_firewall_policy_id=policy, egress_firewall_policy_id=policy)
        self.at_home = [self.vm("p") for _ in range(size)]
        self.moved = self.world.group(*(self.vm("p") for _ in range(size)))
        self.home = self.default("p")
        self.away = self.world.group(*(self.vm("p2") for _ in range(size)), project_id="p2")
        self.world.call(groups.delete_group, self.default("p2"))
        self.disused = self.disused_default()
        assigned = {"stratum": "admin", "ingress_firewall_policy_id": policy, "egress_firewall_policy_id": policy}
        self.assigned = [self.world.group(*self.free, **assigned) for _ in range(size)]
        projects = ("p", *(f"none{number}" for number in range(size)))
        self.scoped = self.world.group(scope="projects", project_ids=projects, **assigned)

    def vm(self, project_id: str) -> str:
        return self.world.port(device_owner="compute:nova", project_id=project_id)

    def default(self, project_id: str) -> str:
        page = Page(where=[FirewallGroup.default_of == project_id])
        return str(self.world.call(groups.list_groups, page)[0].row.id)

    def disused_default(self) -> str:
        self.world.call(default_group.ensure, "p3")
        return self.default("p3")


def _tagged(session: Any, context: Any, rule_id: str) -> None:
    tags.replace_tags(session, context, rules.find_rule(session, context, rule_id), ["a", "b"])


def calls(made: Sized) -> list[tuple[Any, ...]]:
    """One call of each kind."""
    return [
        (rules.create_rule, rules.RuleValues()),
        (rules.get_rule, made.rules[0]),
        (rules.list_rules,),
        (rules.update_rule, made.rules[0], rules.RuleValues(action="allow")),
        (rules.delete_rule, made.extra),
        (policies.create_policy, policies.PolicyValues(firewall_rules=tuple(made.rules))),
        (policies.get_policy, made.policies[0]),
        (policies.list_policies,),
        (
            policies.update_policy,
            made.policies[0],
            policies.PolicyValues(name="x", firewall_rules=(made.extra, *made.rules[::-1])),
        ),
        (policies.insert_rule, made.policies[0], made.extra),
        (policies.remove_rule, made.policies[0], made.rules[0]),
        (groups.create_group, groups.GroupValues(ports=tuple(made.free))),
        (groups.get_group, made.group),
        (groups.list_groups,),
        (groups.group_realisation, made.group),
        (
            groups.update_group,
            made.group,
            groups.GroupValues(name="x", ports=tuple(made.free), ingress_firewall_policy_id=made.policies[-1]),
        ),
        (groups.delete_group, made.disused),
        (groups.update_group, made.moved, groups.GroupValues(name="x", admin_state_up=False, ports=())),
        (
            groups.update_group,
            made.moved,
            groups.GroupValues(
                name="x",
                ports=tuple(made.at_home),
                ingress_firewall_policy_id=made.policies[0],
                egress_firewall_policy_id=made.policies[1],
            ),
        ),
        (groups.create_group, groups.GroupValues(ports=tuple(made.at_home))),
        (groups.update_group, made.home, groups.GroupValues(ports=(made.free[0],))),
        (groups.update_group, made.away, groups.GroupValues(ports=())),
        (default_group.missing,),
        (default_group.ensure, "p"),
        (default_group.ensure, "p2"),
        (default_group.ensure, "p4"),
        (rules.update_rule, made.extra, rules.RuleValues(shared=True)),
        (policies.update_policy, made.policies[0], policies.PolicyValues(audited=True)),
        (_tagged, made.rules[0]),
        (ports.create_port, ports.PortValues(device_owner="compute:nova", project_id="p")),
        (ports.create_port, ports.PortValues(device_owner="compute:nova", project_id="p2")),
        (ports.update_port, made.free[0], ports.PortValues(device_owner="compute:nova")),
        (ports.update_port, made.at_home[0], ports.PortValues(device_owner="network:dhcp")),
        (ports.create_port, ports.PortValues()),
        (ports.list_ports,),
        (ports.update_port, made.ports[0], ports.PortValues(host="h2")),
        (ports.update_port, made.ports[0], ports.PortValues(device_owner="")),
        (ports.delete_port, made.ports[0]),
        (groups.create_group, groups.GroupValues(stratum="baseline", scope="all")),
        (groups.update_group, made.scoped, groups.GroupValues(scope="all", position=3, shared=True)),
        (groups.update_group, made.scoped, groups.GroupValues(scope="ports", ports=(), name="x")),
        (groups.update_group, made.moved, groups.GroupValues(stratum="admin")),
        (groups.delete_group, made.scoped),
        (ports.delete_port, made.free[0]),
        (effective_groups, made.free[0], lambda _table: ()),
        (explain, made.free[0], Direction.INGRESS, _PACKET),
    ]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = [Sized(tmp_path_factory.mktemp("size"), size) for size in (2, 40)]
    yield made
    for item in made:
        item.world.store.close()


@pytest.mark.parametrize("number", range(46))
def test_a_call_costs_the_same_on_small_and_large(sizes: list[Sized], number: int) -> None:
    costs = []
    for made in sizes:
        with made.world.statements() as sent, pytest.raises(_Undo):
            made.world.call(_undone, *calls(made)[number])
        costs.append(len(sent))
    allowed = AT_MOST + (MAKING if "INSERT INTO firewall_groups" in " ".join(sent) else 0)
    assert costs[0] == costs[1] <= allowed, sent


class _Undo(Exception):
    """Rolls a call back, so that the next one finds what this one found."""


def _undone(session: Any, context: Any, function: Callable[..., Any], *arguments: Any) -> None:
    function(session, context, *arguments)
    session.flush()
    raise _Undo
