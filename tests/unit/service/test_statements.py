"""A call costs a constant number of SQL statements, however large the lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portward.service import groups, policies, ports, rules
from unit.service.world import World

#: What a call may cost, the lock of the order of writes included.
AT_MOST = 15


class Sized:
    """``size`` rules in each of ``size`` policies' lists, all applied by groups of ``size`` ports."""

    def __init__(self, directory: Path, size: int) -> None:
        self.world = World(directory)
        self.rules = [self.world.rule() for _ in range(size)]
        self.extra = self.world.rule()
        self.policies = [self.world.policy(*self.rules) for _ in range(size)]
        self.ports = [self.world.port() for _ in range(size)]
        self.free = [self.world.port() for _ in range(size)]
        policy = self.policies[0]
        self.group = self.world.group(*self.ports, ingress_firewall_policy_id=policy, egress_firewall_policy_id=policy)


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
        (ports.create_port, ports.PortValues()),
        (ports.list_ports,),
        (ports.update_port, made.ports[0], ports.PortValues(host="h2")),
        (ports.update_port, made.ports[0], ports.PortValues(device_owner="")),
        (ports.delete_port, made.ports[0]),
    ]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = [Sized(tmp_path_factory.mktemp("size"), size) for size in (2, 40)]
    yield made
    for item in made:
        item.world.store.close()


@pytest.mark.parametrize("number", range(21))
def test_a_call_costs_the_same_on_small_and_large(sizes: list[Sized], number: int) -> None:
    costs = []
    for made in sizes:
        with made.world.statements() as sent, pytest.raises(_Undo):
            made.world.call(_undone, *calls(made)[number])
        costs.append(len(sent))
    assert costs[0] == costs[1] <= AT_MOST, sent


class _Undo(Exception):
    """Rolls a call back, so that the next one finds what this one found."""


def _undone(session: Any, context: Any, function: Callable[..., Any], *arguments: Any) -> None:
    function(session, context, *arguments)
    session.flush()
    raise _Undo
