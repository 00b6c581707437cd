"""What holds of ``decide`` for any policy and any packet: first match, strata, disabled rules."""

from collections.abc import Sequence

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from portward.model import Action, CoveredPort, Direction, Group, HostState, Packet, Policy, Rule, Stratum
from portward.semantics import Decision, Reason, Verdict, decide, first_mismatch
from properties.strategies import (
    SETS,
    host_states,
    ident,
    packets,
    policies,
    policy_and_packet,
    router_port,
    rules,
    rules_of,
    states_and_packet,
)

_directions = st.sampled_from(list(Direction))


def _decide(state: HostState, packet: Packet, direction: Direction, port: int = 0) -> Decision:
    return decide(packet, direction, state.ports[port], {policy.id: policy for policy in state.policies}, SETS)


def _with_rules(state: HostState, policy_id: str, new: tuple[Rule, ...]) -> HostState:
    return msgspec.structs.replace(
        state,
        policies=tuple(
            msgspec.structs.replace(policy, rules=new) if policy.id == policy_id else policy
            for policy in state.policies
        ),
    )


def _by_tenant(rules: Sequence[Rule], packet: Packet) -> Decision:
    """The decision of a port that one tenant group with these rules covers."""
    group = Group(id=ident(2), ingress_policy_id=ident(1))
    covered = CoveredPort(port=router_port(3), groups=(group,))
    policy = Policy(id=ident(1), version=1, rules=tuple(rules))
    return decide(packet, Direction.INGRESS, covered, {policy.id: policy}, SETS)


def _who(decision: Decision) -> tuple[object, ...]:
    return decision.verdict, decision.reason, decision.group_id, decision.rule_id


@given(given_=states_and_packet(ports=(1,)), direction=_directions)
def test_the_rule_that_decides_matches_and_no_rule_before_it_does(
    given_: tuple[HostState, Packet], direction: Direction
) -> None:
    state, packet = given_
    decision = _decide(state, packet, direction)
    by_id = {rule.id: rule for rule in rules_of(state)}
    if decision.rule_id is not None:
        assert first_mismatch(by_id[decision.rule_id], packet, SETS) is None
        assert decision.verdict == by_id[decision.rule_id].action.value
    for passed in decision.passed_over:
        assert first_mismatch(by_id[passed.rule_id], packet, SETS) == passed.field
        assert passed.field is not None or by_id[passed.rule_id].action is Action.PASS


@given(given_=policy_and_packet())
def test_removing_rules_behind_the_deciding_one_changes_nothing(given_: tuple[Policy, Packet]) -> None:
    policy, packet = given_
    decision = _by_tenant(policy.rules, packet)
    assume(decision.rule_id is not None)
    keep = len(decision.passed_over) + 1
    assert policy.rules[keep - 1].id == decision.rule_id
    assert _by_tenant(policy.rules[:keep], packet) == decision


@given(given_=policy_and_packet(), extra=rules(number=7))
def test_appending_a_rule_never_changes_a_decision_that_a_rule_made(given_: tuple[Policy, Packet], extra: Rule) -> None:
    policy, packet = given_
    decision = _by_tenant(policy.rules, packet)
    assume(decision.rule_id is not None)
    assert _by_tenant((*policy.rules, extra), packet) == decision


@given(
    given_=states_and_packet(ports=(1,)),
    direction=_directions,
    extra=rules(number=7, enabled=st.just(False)),
    data=st.data(),
)
def test_a_disabled_rule_anywhere_changes_nothing(
    given_: tuple[HostState, Packet], direction: Direction, extra: Rule, data: st.DataObject
) -> None:
    state, packet = given_
    policy = data.draw(st.sampled_from(state.policies))
    at = data.draw(st.integers(0, len(policy.rules)))
    changed = _with_rules(state, policy.id, (*policy.rules[:at], extra, *policy.rules[at:]))
    assert _who(_decide(changed, packet, direction)) == _who(_decide(state, packet, direction))


@given(given_=policy_and_packet(min_rules=2), data=st.data())
def test_swapping_two_neighbours_matters_only_to_packets_that_both_match(
    given_: tuple[Policy, Packet], data: st.DataObject
) -> None:
    policy, packet = given_
    at = data.draw(st.integers(0, len(policy.rules) - 2))
    one, other = policy.rules[at], policy.rules[at + 1]
    assume(first_mismatch(one, packet, SETS) or first_mismatch(other, packet, SETS))
    swapped = (*policy.rules[:at], other, one, *policy.rules[at + 2 :])
    assert _who(_by_tenant(swapped, packet)) == _who(_by_tenant(policy.rules, packet))


@given(given_=policy_and_packet(min_rules=3), data=st.data())
def test_rules_of_different_protocols_may_stand_in_any_order(
    given_: tuple[Policy, Packet], data: st.DataObject
) -> None:
    policy, packet = given_
    disjoint = {(rule.ip_version, rule.protocol): rule for rule in policy.rules if rule.protocol is not None}
    permuted = data.draw(st.permutations(list(disjoint.values())))
    assert _who(_by_tenant(permuted, packet)) == _who(_by_tenant(list(disjoint.values()), packet))


@given(given_=policy_and_packet(), other=host_states(ports=(1,), strata=(Stratum.TENANT, Stratum.BASELINE)))
def test_nothing_below_the_admin_stratum_changes_a_decision_of_the_admin_stratum(
    given_: tuple[Policy, Packet], other: HostState
) -> None:
    policy, packet = given_
    admin = Group(id=ident(2), stratum=Stratum.ADMIN, ingress_policy_id=policy.id)
    by_id = {below.id: below for below in other.policies} | {policy.id: policy}
    alone = CoveredPort(port=router_port(1), groups=(admin,))
    decision = decide(packet, Direction.INGRESS, alone, by_id, SETS)
    assume(decision.rule_id is not None)
    with_others = CoveredPort(port=router_port(1), groups=(*other.ports[0].groups, admin))
    assert decide(packet, Direction.INGRESS, with_others, by_id, SETS) == decision


@given(given_=states_and_packet(ports=(1,)), direction=_directions)
def test_what_no_rule_decides_is_denied_exactly_on_ports_of_a_tenant_group(
    given_: tuple[HostState, Packet], direction: Direction
) -> None:
    state, packet = given_
    decision = _decide(state, packet, direction)
    assume(decision.reason is not Reason.RULE)
    tenant = any(group.stratum is Stratum.TENANT for group in state.ports[0].groups)
    assert decision.verdict is (Verdict.DENY if tenant else Verdict.ALLOW)


@given(given_=states_and_packet(ports=(1,)), direction=_directions, data=st.data())
def test_the_order_in_which_groups_are_given_does_not_matter(
    given_: tuple[HostState, Packet], direction: Direction, data: st.DataObject
) -> None:
    state, packet = given_
    covered = state.ports[0]
    shuffled = CoveredPort(port=covered.port, groups=tuple(data.draw(st.permutations(covered.groups))))
    changed = msgspec.structs.replace(state, ports=(shuffled,))
    assert _decide(changed, packet, direction) == _decide(state, packet, direction)


@given(policy=policies(), packet=packets())
def test_a_rule_of_the_other_ip_version_matches_nothing(policy: Policy, packet: Packet) -> None:
    for rule in policy.rules:
        if rule.ip_version != packet.ip_version:
            assert first_mismatch(rule, packet, SETS) is not None
