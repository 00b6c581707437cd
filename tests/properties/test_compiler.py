"""Compiled forms against the golden model, on packets at the borders of rules."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portward.compiler import Hash, Linear, Ranges, compile_rules, cost, evaluate
from portward.compiler.form import Box
from portward.compiler.overlap import reachable, relations
from portward.model import (
    PROTOCOLS_WITH_PORTS,
    Action,
    CoveredPort,
    Direction,
    Group,
    IPVersion,
    Packet,
    Policy,
    PortRange,
    Prefix,
    Rule,
    Stratum,
)
from portward.semantics import Reason, decide
from properties.strategies import ident, packets, policies, router_port


def assert_decides_alike(policy: Policy, tried: list[Packet]) -> int:
    """The form finds the rule that ``decide()`` names, or, as it, none. Returns how many packets met a rule."""
    group = Group(id=ident(1), stratum=Stratum.TENANT, ingress_policy_id=policy.id)
    covered = CoveredPort(port=router_port(1), groups=(group,))
    form = compile_rules(policy.rules)
    met = 0
    for packet in tried:
        decision = decide(packet, Direction.INGRESS, covered, {policy.id: policy})
        place = evaluate(form, packet)
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


#: Constants of the estimate under which one shape is taken wherever it can be.
FAVOURS: dict[str, dict[str, float]] = {
    "nothing": {},
    "hash": {"_COMPARISON": 1e3, "_MASKED_COMPARISON": 1e3, "_CONCATENATION": 1e7, "_TREE": 1e7},
    "ranges": {"_COMPARISON": 1e3, "_MASKED_COMPARISON": 1e3, "_HASH": 1e7},
}


@contextmanager
def favoured(shape: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for constant, value in FAVOURS[shape].items():
            patched.setattr(cost, constant, value)
        yield


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


def random_rule(chance: random.Random, number: int, narrow: float) -> Rule:
    """A rule of either version in a space so small that rules meet; ``narrow`` of their fields are."""
    version: IPVersion = chance.choice((4, 4, 6))
    protocol = chance.choice((*[6] * 8, *[17] * 5, 1, 47, None))
    ports = protocol in PROTOCOLS_WITH_PORTS
    return Rule(
        id=ident(1000 + number),
        action=chance.choice((Action.ALLOW, Action.DENY, Action.REJECT)),
        enabled=chance.random() < 0.95,
        ip_version=version,
        protocol=protocol,
        source=_prefix(chance, version, narrow) if chance.random() < narrow else None,
        destination=_prefix(chance, version, narrow) if number < 100 else None,
        source_port=_ports(chance, narrow) if ports and chance.random() < narrow / 4 else None,
        destination_port=_ports(chance, narrow) if ports and chance.random() < narrow else None,
    )


def _prefix(chance: random.Random, version: IPVersion, narrow: float) -> Prefix:
    bits = 32 if version == 4 else 128
    host = chance.choice((0, 0, 1)) if chance.random() < narrow else chance.choice((2, 5, 6, 7, 8, bits))
    number = ((10 << bits - 8) | chance.getrandbits(7)) >> host << host
    return IPv4Network((number, bits - host)) if version == 4 else IPv6Network((number, bits - host))


def _ports(chance: random.Random, narrow: float) -> PortRange:
    first = chance.choice((0, 1, 80, 81, 1023, 1024, 65534, 65535, chance.randrange(65536)))
    return PortRange(
        first, first if chance.random() < narrow else min(65535, first + chance.choice((1, 7, 8, 1000, 65535)))
    )


def border_packet(chance: random.Random, rules: tuple[Rule, ...]) -> Packet:
    """A packet on a bound of a rule's fields, or one step outside of one of them."""
    rule = chance.choice(rules)
    bits = 32 if rule.ip_version == 4 else 128
    protocol = rule.protocol if rule.protocol is not None else chance.choice((6, 17, 47, 255))
    if chance.random() < 0.05:
        protocol = 6
    nets = [net or _prefix(chance, rule.ip_version, 0.5) for net in (rule.source, rule.destination)]
    spans = [(int(net[0]), int(net[-1]), 2**bits - 1) for net in nets]
    spans += [
        (it.first, it.last, 65535)
        for it in (rule.source_port or _ports(chance, 0.5), rule.destination_port or _ports(chance, 0.5))
    ]
    outside = chance.randrange(12)
    values = []
    for place, (first, last, top) in enumerate(spans):
        value = chance.choice((first, last))
        if place == outside:
            value = max(0, first - 1) if value == first else min(top, last + 1)
        values.append(value)
    address = IPv4Address if rule.ip_version == 4 else IPv6Address
    if protocol in PROTOCOLS_WITH_PORTS and chance.random() < 0.95:
        return Packet(
            source=address(values[0]),
            destination=address(values[1]),
            protocol=protocol,
            source_port=values[2],
            destination_port=values[3],
        )
    return Packet(source=address(values[0]), destination=address(values[1]), protocol=protocol)


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
