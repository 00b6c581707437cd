"""Compiled forms against the golden model, on packets at the borders of rules."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from portward.compiler import Hash, Linear, Ranges, compile_rules, evaluate
from portward.compiler.form import Box
from portward.compiler.overlap import reachable, relations
from portward.model import (
    CoveredPort,
    Direction,
    Group,
    Packet,
    Policy,
    Stratum,
)
from portward.semantics import Reason, decide
from properties.seeded import FAVOURS, SEEDED_SETS, border_packet, favoured, random_rule
from properties.strategies import SETS, ident, packets, policies, router_port

_SETS = SETS | SEEDED_SETS


def assert_decides_alike(policy: Policy, tried: list[Packet]) -> int:
    """The form finds the rule that ``decide()`` names, or, as it, none. Returns how many packets met a rule."""
    group = Group(id=ident(1), stratum=Stratum.TENANT, ingress_policy_id=policy.id)
    covered = CoveredPort(port=router_port(1), groups=(group,))
    form = compile_rules(policy.rules)
    met = 0
    for packet in tried:
        decision = decide(packet, Direction.INGRESS, covered, {policy.id: policy}, _SETS)
        place = evaluate(form, packet, _SETS)
        found = None if place is None else policy.rules[place].id
        assert found == decision.rule_id, packet
        assert (found is None) == (decision.reason is Reason.NO_RULE)
        assert place not in form.unreachable
        met += place is not None
    return met


@st.composite
def policy_and_packets(draw: st.DrawFn) -> tuple[Policy, list[Packet]]:
    policy = draw(policies(min_rules=1, max_rules=12))
    return policy, draw(st.lists(packets(near=policy.rules), min_size=8, max_size=16))


@given(policy_and_packets())
@settings(max_examples=200)
def test_a_form_finds_the_first_match(drawn: tuple[Policy, list[Packet]]) -> None:
    assert_decides_alike(*drawn)


@given(policy_and_packets(), st.sampled_from(("hash", "ranges")))
@settings(max_examples=300)
def test_lookups_find_the_first_match_where_nothing_stays_linear_for_its_cost(
    drawn: tuple[Policy, list[Packet]], shape: str
) -> None:
    with favoured(shape):
        assert_decides_alike(*drawn)


@given(st.integers(0, 2**32), st.sampled_from((0.1, 0.5, 0.9)), st.sampled_from(sorted(FAVOURS)))
@settings(max_examples=75)
def test_long_policies_keep_their_first_match(seed: int, narrow: float, shape: str) -> None:
    chance = random.Random(seed)
    rules = tuple(random_rule(chance, number, narrow) for number in range(chance.choice((40, 80, 110))))
    with favoured(shape):
        assert_decides_alike(
            Policy(id=ident(1), version=1, rules=rules), [border_packet(chance, rules) for _ in range(60)]
        )


def test_the_long_policies_fill_every_shape_and_half_of_their_packets_meet_a_rule() -> None:
    chance = random.Random(1)
    met, elements = 0, Counter[type]()
    for shape in FAVOURS:
        rules = tuple(random_rule(chance, number, 0.9) for number in range(110))
        with favoured(shape):
            met += assert_decides_alike(
                Policy(id=ident(1), version=1, rules=rules), [border_packet(chance, rules) for _ in range(100)]
            )
            for table in compile_rules(rules).tables:
                for step in table.steps:
                    elements[type(step)] += len(list(step.elements()))
    assert met >= 150
    assert all(elements[shape] >= 20 for shape in (Hash, Ranges, Linear)), elements


def spans() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda ends: (min(ends), max(ends)))


@given(st.lists(st.tuples(spans(), spans()), min_size=2, max_size=12))
@settings(max_examples=400)
def test_what_is_dropped_is_covered_value_by_value(drawn: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    boxes: list[Box] = [(source, destination, (0, 0), (0, 0), (0, 0)) for source, destination in drawn]
    kept = reachable(boxes, *relations(boxes))
    cells = [
        {(a, b) for a in range(source[0], source[1] + 1) for b in range(destination[0], destination[1] + 1)}
        for source, destination in drawn
    ]
    for place in range(len(boxes)):
        if place not in kept:
            assert cells[place] <= set().union(*cells[:place])
        assert not (place in kept and any(cells[place] <= cells[other] for other in range(place)))
