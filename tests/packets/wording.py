"""The same policies in other words: a part of the prefixes that their rules name becomes address sets.

What a rule of the outcome matches is what it matched before, until the members of sets are changed.
"""

import random
import uuid
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import msgspec

from packets.builders import Guard
from portward.model import AddressSet, Policy, Prefix, Rule

#: How many of the prefixes become sets.
_SHARE = 0.15


class Wording:
    """Address sets for rules, each side of a rule the same one for as long as this lives."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._ids: dict[tuple[str, str], str | None] = {}  # by rule and side; ``None``: it stays a prefix
        self._sets: dict[str, AddressSet] = {}

    @property
    def sets(self) -> tuple[AddressSet, ...]:
        """All sets that rules name, and those that they named before."""
        return tuple(self._sets.values())

    def guard(self, guard: Guard) -> Guard:
        """``guard``, with its policies in other words."""
        return replace(
            guard,
            ingress=None if guard.ingress is None else self._policy(guard.ingress),
            egress=None if guard.egress is None else self._policy(guard.egress),
        )

    def turn(self) -> None:
        """Change the members of some sets: other prefixes of the same version, none, or a part of what there was."""
        for id_, set_ in self._sets.items():
            if self._chance.random() < 0.4:
                other = self._chance.choice(list(self._sets.values()))
                half = set_.members[len(set_.members) // 2 :]
                members = self._chance.choice((other.members, half, half, ()))
                self._sets[id_] = AddressSet(id=id_, version=0, members=members)

    def _policy(self, policy: Policy) -> Policy:
        return msgspec.structs.replace(policy, rules=tuple(map(self._rule, policy.rules)))

    def _rule(self, rule: Rule) -> Rule:
        sides: dict[str, Prefix | str | None] = {}
        for side in ("source", "destination"):
            prefix: Prefix | None = getattr(rule, side)
            id_ = None if prefix is None else self._set_id(rule.id, side, prefix)
            sides |= {side: None if id_ else prefix, f"{side}_set": id_}
        return msgspec.structs.replace(rule, **sides)

    def _set_id(self, rule_id: str, side: str, prefix: Prefix) -> str | None:
        if (rule_id, side) not in self._ids:
            id_ = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
            chosen = self._chance.random() < _SHARE
            self._ids[rule_id, side] = id_ if chosen else None
            if chosen:
                self._sets[id_] = AddressSet(id=id_, version=0, members=self._members(prefix))
        return self._ids[rule_id, side]

    def _members(self, prefix: Prefix) -> tuple[Prefix, ...]:
        """Prefixes, some within others, that hold the addresses of ``prefix`` together."""
        assert isinstance(prefix, IPv4Network | IPv6Network)
        if prefix.prefixlen == prefix.max_prefixlen or self._chance.random() < 0.3:
            return (prefix,)
        low, high = prefix.subnets()
        return self._chance.choice(((low, high), (prefix, low), (*self._members(low), high)))
