"""Which packets a rule is the first to match, and packets on both sides of each border of a rule.

Found by cutting earlier rules out of what the rule matches, box by box, independently of the compiler. Between two
ends only: what lies outside of their networks no packet can have.
"""

import random
from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from math import prod
from typing import NamedTuple

from packets.frames import NO_UPPER_LAYER
from packets.wire import End, Span
from portward.model import (
    ICMP,
    ICMPV6,
    PROTOCOLS_WITH_PORTS,
    TCP,
    UDP,
    IPVersion,
    Packet,
    PortRange,
    Prefix,
    Rule,
)

#: Addresses and ports, source first. Of protocols without ports these are 0.
Box = tuple[Span, Span, Span, Span]
_EVERY_PORT, _NO_PORT = (0, 65535), (0, 0)
_NOTHING: Span = (1, 0)
#: The only ICMP that is sent: echo requests.
ECHO = {4: 8, 6: 128}
#: Boxes looked at before it is given up to find what a rule decides.
_PATIENCE = 20_000


class Target(NamedTuple):
    """Packets of one protocol that a rule is the first to match; of a disabled one, would be if it were enabled."""

    protocol: int
    box: Box


def first_matched(
    rules: Sequence[Rule], place: int, sender: End, receiver: End, protocols: Collection[int], chance: random.Random
) -> Target | None:
    """Some packets from ``sender`` to ``receiver`` that the rule at ``place`` decides; ``None``: there are none."""
    rule = rules[place]
    for protocol in _candidates(rules, rule, protocols, chance):
        earlier = [
            _box(other, protocol)
            for other in rules[:place]
            if other.enabled and other.ip_version == rule.ip_version and other.protocol in (None, protocol)
        ]
        for region in regions(rule, protocol, sender, receiver):
            found = _uncovered(region, earlier)
            if found is not None:
                return Target(protocol, found)
    return None


def regions(rule: Rule, protocol: int, sender: End, receiver: End) -> list[Box]:
    """What ``rule`` matches of ``protocol`` from ``sender`` to ``receiver``."""
    wanted = _box(rule, protocol)
    spaces = product(sender.spaces[rule.ip_version], receiver.spaces[rule.ip_version])
    ports = (max(sender.lowest_port, receiver.lowest_port) if protocol in (TCP, UDP) else 0, 65535)
    made = (_common(wanted, (source, destination, ports, ports)) for source, destination in spaces)
    return [box for box in made if box is not None]


def packet_in(box: Box, version: IPVersion, protocol: int, chance: random.Random) -> Packet:
    """A packet in a corner of ``box``; of a wide span of source ports anywhere, so that it is a new connection."""
    values = [chance.choice(span) for span in box]
    values[2] = chance.randint(*box[2])
    return _packet(values, version, protocol, chance)


def border_count(rule: Rule) -> int:
    """How many fields of ``rule`` have borders."""
    return sum(field is not None for field in _bounded(rule))


def borders(rule: Rule, target: Target, chance: random.Random) -> Iterator[tuple[Packet | None, bool]]:
    """Packets at each border of ``rule``, other fields as in ``target``, and whether they lie within it there.

    Four for each field that has borders, ``None`` where a border is the end of all addresses or ports.
    """
    tops = (2 ** _bits(rule.ip_version) - 1,) * 2 + (65535,) * 2
    for axis, field in enumerate(_bounded(rule)):
        if field is None:
            continue
        first, last = _span(field)
        for value, inside in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
            values = [chance.choice(span) for span in target.box]
            values[2] = chance.randint(*target.box[2])
            values[axis] = value
            possible = 0 <= value <= tops[axis]
            yield _packet(values, rule.ip_version, target.protocol, chance) if possible else None, inside


def strangers(
    rule: Rule, target: Target, sender: End, receiver: End, protocols: Collection[int], chance: random.Random
) -> Iterator[Packet]:
    """Packets that only the protocol or the version keeps out of ``rule``."""
    if rule.protocol is not None:
        for protocol in (TCP, UDP):
            if protocol != rule.protocol and protocol in protocols:
                ports = target.box[2:] if target.protocol in PROTOCOLS_WITH_PORTS else (_EVERY_PORT, _EVERY_PORT)
                yield packet_in((*target.box[:2], *ports), rule.ip_version, protocol, chance)
    if rule.source is None and rule.destination is None:
        version: IPVersion = 6 if rule.ip_version == 4 else 4
        protocol = ICMPV6 if target.protocol == ICMP else ICMP if target.protocol == ICMPV6 else target.protocol
        if protocol not in NO_UPPER_LAYER[version]:
            source, destination = (chance.choice(end.spaces[version]) for end in (sender, receiver))
            yield packet_in((source, destination, *target.box[2:]), version, protocol, chance)


def within(end: End, address: IPv4Address | IPv6Address) -> bool:
    """Whether ``address`` can be at ``end``."""
    return any(first <= int(address) <= last for first, last in end.spaces[address.version])


def _bits(version: IPVersion) -> int:
    """Of an address."""
    return 32 if version == 4 else 128


def _bounded(rule: Rule) -> tuple[Prefix | PortRange | None, ...]:
    """The fields that have borders, in the order of a box."""
    return rule.source, rule.destination, rule.source_port, rule.destination_port


def _candidates(rules: Sequence[Rule], rule: Rule, protocols: Collection[int], chance: random.Random) -> list[int]:
    """Protocols of packets to try for ``rule``: all that other rules tell from the rest, and one that none names."""
    if rule.protocol is not None:
        found = {rule.protocol}
    else:
        named = {
            other.protocol for other in rules if other.protocol is not None and other.ip_version == rule.ip_version
        }
        icmp = ICMP if rule.ip_version == 4 else ICMPV6
        unnamed = sorted(set(protocols) - named - NO_UPPER_LAYER[rule.ip_version])
        found = named | {TCP, UDP, icmp} | ({chance.choice(unnamed)} if unnamed else set())
    usable = sorted((found & set(protocols)) - NO_UPPER_LAYER[rule.ip_version])
    chance.shuffle(usable)
    return usable


def _span(field: Prefix | PortRange) -> Span:
    if isinstance(field, PortRange):
        return field.first, field.last
    return int(field[0]), int(field[-1])


def _box(rule: Rule, protocol: int) -> Box:
    every = (0, 2 ** _bits(rule.ip_version) - 1)
    source, destination = (every if net is None else _span(net) for net in (rule.source, rule.destination))
    if rule.icmp_type not in (None, ECHO[rule.ip_version]):
        return _NOTHING, _NOTHING, _NO_PORT, _NO_PORT
    if protocol not in PROTOCOLS_WITH_PORTS:
        return source, destination, _NO_PORT, _NO_PORT
    ports = (_EVERY_PORT if it is None else _span(it) for it in (rule.source_port, rule.destination_port))
    source_port, destination_port = ports
    return source, destination, source_port, destination_port


def _common(one: Box, other: Box) -> Box | None:
    source, destination, source_port, destination_port = (
        (max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True)
    )
    box = source, destination, source_port, destination_port
    return box if all(first <= last for first, last in box) else None


def _uncovered(region: Box, others: Sequence[Box]) -> Box | None:
    """A part of ``region`` in none of ``others``."""
    waiting: list[tuple[Box, int]] = [(region, 0)]
    for _ in range(_PATIENCE):
        if not waiting:
            return None
        box, at = waiting.pop()
        while at < len(others) and _common(box, others[at]) is None:
            at += 1
        if at == len(others):
            return box
        # The largest piece first: if anything is left, it is soon found.
        waiting += [(piece, at + 1) for piece in sorted(_minus(box, others[at]), key=_size)]
    raise AssertionError("what this rule decides is too hard to find: make the policy simpler")


def _size(box: Box) -> int:
    return prod(last - first + 1 for first, last in box)


def _minus(box: Box, other: Box) -> Iterator[Box]:
    """``box`` without ``other``, in boxes."""
    rest = list(box)
    for axis, ((first, last), (low, high)) in enumerate(zip(box, other, strict=True)):
        for piece in ((first, low - 1), (high + 1, last)):
            if piece[0] <= piece[1]:
                cut = [*rest]
                cut[axis] = piece
                yield cut[0], cut[1], cut[2], cut[3]
        rest[axis] = (max(first, low), min(last, high))


def _packet(values: Sequence[int], version: IPVersion, protocol: int, chance: random.Random) -> Packet:
    address = IPv4Address if version == 4 else IPv6Address
    ports, query = protocol in PROTOCOLS_WITH_PORTS, protocol in (ICMP, ICMPV6)
    return Packet(
        source=address(values[0]),
        destination=address(values[1]),
        protocol=protocol,
        source_port=values[2] if ports else None,
        destination_port=values[3] if ports else None,
        icmp_type=ECHO[version] if query else None,
        icmp_code=0 if query else None,
        icmp_id=chance.randrange(65536) if query else None,
    )
