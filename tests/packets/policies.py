"""Random policies for packets from one end to another, from a seed: narrow and wide, of every protocol, overlapping."""

import random
import uuid
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network

import msgspec

from packets.frames import NO_UPPER_LAYER
from packets.wire import End, Span
from portward.model import (
    DCCP,
    ICMP,
    PROTOCOLS_WITH_PORTS,
    SCTP,
    TCP,
    UDP,
    Action,
    IPVersion,
    Policy,
    PortRange,
    Prefix,
    Rule,
)

#: What rules name and packets have, apart from protocols of which nobody has heard.
COMMON = (*[TCP] * 5, *[UDP] * 4, ICMP, ICMP, SCTP, DCCP)
EVERY = frozenset(range(256))
_HOT = 0x1200  # most prefixes lie in the 128 addresses from here on
_PORTS = (0, 1, 80, 81, 1023, 1024, 65534, 65535)


def random_policy(
    chance: random.Random,
    sender: End,
    receiver: End,
    size: int,
    *,
    narrow: float,
    protocols: Collection[int] = EVERY,
) -> Policy:
    """A policy of ``size`` rules, most of which some packet from ``sender`` to ``receiver`` can meet.

    ``narrow`` (0 to 1) of their fields are named, and as many of these are a single value. Half of the policies end
    by allowing everything.
    """
    rules = [_rule(chance, sender, receiver, narrow, protocols) for _ in range(size)]
    if chance.random() < 0.5:
        rules += [Rule(id=_id(chance), action=Action.ALLOW, ip_version=4)]
        rules += [Rule(id=_id(chance), action=Action.ALLOW, ip_version=6)]
    return Policy(id=_id(chance), version=0, rules=tuple(rules))


def edited(chance: random.Random, policy: Policy) -> Policy:
    """``policy`` after an edit or, of a long one, some that may turn verdicts."""
    rules = list(policy.rules)
    for _ in range(1 + len(rules) // 10):
        if not rules:
            break
        place = chance.randrange(len(rules))
        match chance.randrange(4):
            case 0:
                del rules[place]
            case 1:
                rules.insert(0, rules.pop(place))
            case 2:
                rules[place] = _changed(rules[place], enabled=not rules[place].enabled)
            case _:
                action = Action.DENY if rules[place].action is Action.ALLOW else Action.ALLOW
                rules[place] = _changed(rules[place], action=action)
    return Policy(id=policy.id, version=policy.version, rules=tuple(rules))


def _changed(rule: Rule, *, enabled: bool | None = None, action: Action | None = None) -> Rule:
    return msgspec.structs.replace(
        rule,
        action=rule.action if action is None else action,
        enabled=rule.enabled if enabled is None else enabled,
    )


def _rule(chance: random.Random, sender: End, receiver: End, narrow: float, protocols: Collection[int]) -> Rule:
    version: IPVersion = chance.choice((4, 4, 6))
    protocol = chance.choice((*COMMON, None, None, chance.randrange(256)))
    if protocol not in protocols or (protocol in NO_UPPER_LAYER[version] and protocol != ICMP):
        protocol = chance.choice((TCP, UDP, ICMP, None))
    ports = protocol in PROTOCOLS_WITH_PORTS
    types = (None, None, 8 if version == 4 else 128, 13)
    return Rule(
        id=_id(chance),
        action=chance.choice((Action.ALLOW, Action.ALLOW, Action.ALLOW, Action.DENY, Action.REJECT)),
        enabled=chance.random() < 0.93,
        ip_version=version,
        protocol=protocol,
        source=_prefix(chance, sender, version, narrow) if chance.random() < narrow else None,
        destination=_prefix(chance, receiver, version, narrow) if chance.random() < max(narrow, 0.5) else None,
        source_port=_port_range(chance, narrow) if ports and chance.random() < narrow / 3 else None,
        destination_port=_port_range(chance, narrow) if ports and chance.random() < narrow else None,
        icmp_type=chance.choice(types) if protocol == ICMP else None,
    )


def _id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _prefix(chance: random.Random, end: End, version: IPVersion, narrow: float) -> Prefix:
    bits = 32 if version == 4 else 128
    number = _near(chance, chance.choice(end.spaces[version]))
    if chance.random() < narrow:
        host = chance.choice((0, 0, 0, 1, 2))
    else:
        host = chance.choice((1, 3, 5, 6, 7, 8, bits // 3, bits - bits // 3, bits - 13, bits - 12, bits))
    first = number >> host << host
    return IPv4Network((first, bits - host)) if version == 4 else IPv6Network((first, bits - host))


def _near(chance: random.Random, span: Span) -> int:
    first, last = span
    return first + _HOT | chance.getrandbits(7) if last - first > 2 * _HOT else chance.randint(first, last)


def _port_range(chance: random.Random, narrow: float) -> PortRange:
    first = chance.choice((*_PORTS, chance.randrange(65536)))
    if chance.random() < narrow:
        return PortRange(first, first)
    return PortRange(first, min(65535, first + chance.choice((1, 7, 8, 1000, 65535))))
