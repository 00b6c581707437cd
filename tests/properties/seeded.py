"""Rules and packets from a seed, for policies longer than hypothesis makes them, and shapes that are forced."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from portward.compiler import cost
from portward.model import ICMP, PROTOCOLS_WITH_PORTS, Action, AddressSet, IPVersion, Packet, PortRange, Prefix, Rule
from properties.strategies import ident

#: Constants of the estimate under which one shape is taken wherever it can be.
FAVOURS: dict[str, dict[str, float]] = {
    "nothing": {},
    "hash": {"_COMPARISON": 1e3, "_MASKED_COMPARISON": 1e3, "_CONCATENATION": 1e7, "_TREE": 1e7},
    "ranges": {"_COMPARISON": 1e3, "_MASKED_COMPARISON": 1e3, "_HASH": 1e7},
}


@contextmanager
def favoured(shape: str) -> Iterator[None]:
    """Have the compiler take ``shape`` wherever it can."""
    with pytest.MonkeyPatch.context() as patched:
        for constant, value in FAVOURS[shape].items():
            patched.setattr(cost, constant, value)
        yield


#: Address sets in the space that random rules and packets lie in.
SEEDED_SETS = {
    ident(0x5E710 + number): AddressSet(
        id=ident(0x5E710 + number),
        version=1,
        members=tuple(ip_network(text) for text in texts),
    )
    for number, texts in enumerate(
        (
            ("10.0.0.0/27", "10.0.0.4/32", "10.0.0.40/30", "a00::/123"),
            ("10.0.0.16/28", "10.0.0.80/31", "a00::10/124", "a00::41/128"),
            ("0.0.0.0/0",),
        )
    )
}


def random_rule(chance: random.Random, number: int, narrow: float) -> Rule:
    """A rule of either version in a space so small that rules meet; ``narrow`` of their fields are."""
    version: IPVersion = chance.choice((4, 4, 6))
    protocol = chance.choice((*[6] * 8, *[17] * 5, 1, 47, None))
    ports = protocol in PROTOCOLS_WITH_PORTS
    source = _prefix(chance, version, narrow) if chance.random() < narrow else None
    destination = _prefix(chance, version, narrow) if number < 100 else None
    from_set, to_set = chance.random() < 0.1, chance.random() < 0.1
    return Rule(
        id=ident(1000 + number),
        action=chance.choice((Action.ALLOW, Action.DENY, Action.REJECT)),
        enabled=chance.random() < 0.95,
        ip_version=version,
        protocol=protocol,
        source=None if from_set else source,
        destination=None if to_set else destination,
        source_set=chance.choice(list(SEEDED_SETS)) if from_set else None,
        destination_set=chance.choice(list(SEEDED_SETS)) if to_set else None,
        source_port=_ports(chance, narrow) if ports and chance.random() < narrow / 4 else None,
        destination_port=_ports(chance, narrow) if ports and chance.random() < narrow else None,
        icmp_type=chance.choice((0, 8, 13, 128)) if protocol == 1 and chance.random() < narrow else None,
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
    icmp_type = (rule.icmp_type or 8) if protocol == ICMP else None
    return Packet(
        source=address(values[0]), destination=address(values[1]), protocol=protocol, icmp_type=icmp_type, icmp_code=0
    )
