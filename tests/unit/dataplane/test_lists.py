"""Which lists decide for a port."""

from uuid import UUID

import pytest

from portward.dataplane.lists import Part, Policies, RuleList, deny_all, rule_list
from portward.model import (
    Action,
    CoveredPort,
    Direction,
    Group,
    InvalidValue,
    Policy,
    Port,
    PortKind,
    Rule,
    Stratum,
)


def ident(number: int) -> str:
    return str(UUID(int=number))


PING = Rule(id=ident(3), action=Action.DENY, protocol=1)
DISABLED = Rule(id=ident(4), action=Action.ALLOW, enabled=False)
POLICY = Policy(id=ident(10), version=1, rules=(DISABLED, PING))
GROUP = Group(id=ident(20), ingress_policy_id=POLICY.id)


def ingress(*groups: Group, policy: Policy = POLICY) -> RuleList:
    covered = CoveredPort(port=Port(id=ident(1), kind=PortKind.ROUTER), groups=groups)
    return rule_list(covered, Direction.INGRESS, Policies().update([policy]))


def test_disabled_rules_are_not_part_of_a_list() -> None:
    assert ingress(GROUP).parts == (Part(Stratum.TENANT, POLICY.id, (PING,)),)


def test_a_direction_without_policy_is_a_part_without_rules() -> None:
    assert ingress(Group(id=ident(20))).parts == (Part(Stratum.TENANT),)


def test_a_tenant_group_that_is_down_denies_all_in_its_place() -> None:
    down = Group(id=ident(20), ingress_policy_id=POLICY.id, admin_state_up=False)
    assert ingress(down).parts == (Part(Stratum.TENANT, closed=True),)


def test_an_admin_group_that_is_down_takes_no_part() -> None:
    down = Group(id=ident(21), stratum=Stratum.ADMIN, ingress_policy_id=POLICY.id, admin_state_up=False)
    assert ingress(down, GROUP) == ingress(GROUP)


def test_groups_take_part_by_stratum_and_position() -> None:
    groups = [
        Group(id=ident(number), stratum=stratum, position=position, ingress_policy_id=POLICY.id)
        for number, (stratum, position) in enumerate(
            [(Stratum.BASELINE, 1), (Stratum.TENANT, 9), (Stratum.ADMIN, 2), (Stratum.ADMIN, 1)]
        )
    ]
    assert [part.stratum for part in ingress(*groups).parts] == ["admin", "admin", "tenant", "baseline"]


def test_ports_of_different_groups_with_the_same_policy_share_its_list() -> None:
    other = CoveredPort(
        port=Port(id=ident(2), kind=PortKind.ROUTER), groups=(Group(id=ident(21), egress_policy_id=POLICY.id),)
    )
    assert rule_list(other, Direction.EGRESS, Policies().update([POLICY])) == ingress(GROUP)
    assert ingress(GROUP).key != deny_all().key


HOSTILE = 'x" } flush ruleset'


def test_a_policy_whose_id_could_break_the_text_is_refused() -> None:
    with pytest.raises(InvalidValue):
        ingress(Group(id=ident(20), ingress_policy_id=HOSTILE), policy=Policy(id=HOSTILE, version=1))


def test_a_rule_whose_id_could_break_the_text_is_refused() -> None:
    hostile = Rule(id=HOSTILE, action=Action.ALLOW)
    with pytest.raises(InvalidValue):
        ingress(GROUP, policy=Policy(id=POLICY.id, version=1, rules=(hostile,)))
