"""Policies to measure, and the packet that the last of their rules decides.

``w1``: exact addresses and ports. ``w2``: /24 networks and ranges of ports. ``acl``: narrow first, wide last, with
prefixes of many sizes. 30 % of their rules deny. And policies that are hard on purpose, to compile alone.
"""

import random
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from portward.model import TCP, UDP, Action, Policy, PortRange, Rule

_SOURCES = 0x0A000000  # 10.0.0.0/8
_DECIDED = IPv4Address("10.255.0.7"), 9001  # which no rule but the last one matches


class Workload(NamedTuple):
    """A policy, and source and destination port of UDP packets that its last rule allows."""

    policy: Policy
    source: IPv4Address
    port: int


def workload(name: str, n: int) -> Workload:
    """``n`` rules of ``w1``, ``w2`` or ``acl``; always the same."""
    chance = random.Random(n)
    source, port = _DECIDED
    rules = [_RULES[name](chance, number, n) for number in range(n - 1)]
    width = 32 if name == "w1" else 24
    ports = PortRange(port, port if name == "w1" else port + 100)
    rules.append(_rule(chance, n, Action.ALLOW, UDP, IPv4Network((source, width), strict=False), ports))
    return Workload(Policy(id=str(uuid.UUID(int=n)), version=1, rules=tuple(rules)), source, port)


def _rule(
    chance: random.Random,
    number: int,
    action: Action,
    protocol: int,
    source: IPv4Network | None,
    ports: PortRange,
    destination: IPv4Network | None = None,
) -> Rule:
    return Rule(
        id=str(uuid.UUID(int=chance.getrandbits(96) << 32 | number)),
        action=action,
        protocol=protocol,
        source=source,
        destination=destination,
        destination_port=ports,
    )


def _action(chance: random.Random) -> Action:
    return Action.DENY if chance.random() < 0.3 else Action.ALLOW


def _exact(chance: random.Random, number: int, _n: int) -> Rule:
    port = 1024 + number % 4096
    source = IPv4Network((_SOURCES + 7 * number, 32))
    return _rule(chance, number, _action(chance), UDP, source, PortRange(port, port))


def _networks(chance: random.Random, number: int, _n: int) -> Rule:
    first = chance.randrange(1, 60000)
    source = IPv4Network((_SOURCES + (number << 8), 24))
    return _rule(chance, number, _action(chance), UDP, source, PortRange(first, first + chance.randrange(1, 5000)))


def _acl(chance: random.Random, number: int, n: int) -> Rule:
    place = number / n
    shortest, longest = (20, 32) if place < 0.9 else (12, 20) if place < 0.98 else (9, 12)
    length = chance.randint(shortest, longest)
    bits = chance.randrange(0xFE0000)  # below 10.254.0.0, so that the last rule is not covered
    source = IPv4Network((_SOURCES | bits) >> 32 - length << 32 - length).supernet(new_prefix=length)
    first = chance.choice((22, 53, 80, 443, 8000, chance.randrange(1024, 8000)))
    last = first if chance.random() < 0.7 else first + chance.randrange(1, 1000)
    protocol = chance.choice((TCP, UDP, UDP))
    return _rule(chance, number, _action(chance), protocol, source, PortRange(first, last))


_RULES: dict[str, Callable[[random.Random, int, int], Rule]] = {"w1": _exact, "w2": _networks, "acl": _acl}


def hard(name: str, n: int) -> tuple[Rule, ...]:
    """``n`` rules that are hard to compile: ``wildcards`` that overlap, ``nested`` ranges, ``ranges`` of all ports."""
    chance = random.Random(n)
    return tuple(_HARD[name](chance, number) for number in range(n))


def _wildcard(chance: random.Random, number: int) -> Rule:
    lengths = chance.randint(1, 9), chance.randint(1, 9)
    source, destination = (
        IPv4Network((chance.getrandbits(32) >> 32 - length << 32 - length, length)) for length in lengths
    )
    ports = PortRange(chance.randrange(30000), chance.randrange(30000, 65536))
    return _rule(chance, number, _action(chance), chance.choice((TCP, UDP)), source, ports, destination)


def _nested(chance: random.Random, number: int) -> Rule:
    return _rule(chance, number, _action(chance), TCP, None, PortRange(20000 - number, 20000 + number))


def _staircase(chance: random.Random, number: int) -> Rule:
    return _rule(chance, number, _action(chance), TCP, None, PortRange(number, min(65535, number + 30000)))


_HARD: dict[str, Callable[[random.Random, int], Rule]] = {
    "wildcards": _wildcard,
    "nested": _nested,
    "ranges": _staircase,
}
