"""Which lists of rules decide for a port: the values that every driver lays out. Pure.

A list is what decides for a port and a direction: the parts of its groups, in their order. Ports with the same
policies share one list, whatever their groups.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple, Self

from portward.model import CoveredPort, Direction, Policy, Rule, Stratum, check_id


class Part(NamedTuple):
    """What one group puts into a list: the enabled rules of its policy, or, when ``closed``, that all is denied."""

    stratum: Stratum
    policy_id: str | None = None
    rules: tuple[Rule, ...] = ()
    closed: bool = False

    def __str__(self) -> str:
        return f"{self.stratum} {'closed' if self.closed else self.policy_id or 'empty'}"


#: The identity of a rule list, a digest of what its content comes from: strata and states of groups, ids of policies.
ListKey = str


class RuleList(NamedTuple):
    """The list that decides for a port and a direction: parts of one stratum after those of the one before."""

    key: ListKey
    parts: tuple[Part, ...]
    sets: frozenset[str]  # ids of the address sets that its rules name


class Policies:
    """The policies of a host, as far as they take part. Each is looked at once, until it changes."""

    def __init__(self) -> None:
        self._policies: dict[str, Policy] = {}
        self._known: dict[str, tuple[Policy, tuple[Rule, ...], frozenset[str]]] = {}

    def update(self, policies: Iterable[Policy]) -> Self:
        """Forget all policies but these."""
        self._policies = {policy.id: policy for policy in policies}
        self._known = {id_: known for id_, known in self._known.items() if self._policies.get(id_) is known[0]}
        return self

    def rules(self, policy_id: str) -> tuple[Rule, ...]:
        """The enabled rules of a policy, in order.

        Raises:
            InvalidValue: its id, or that of a rule, is no UUID.
        """
        return self._look(policy_id)[1]

    def sets(self, policy_id: str) -> frozenset[str]:
        """Ids of the address sets that the enabled rules of a policy name.

        Raises:
            InvalidValue: its id, or that of a rule, is no UUID.
        """
        return self._look(policy_id)[2]

    def _look(self, policy_id: str) -> tuple[Policy, tuple[Rule, ...], frozenset[str]]:
        known = self._known.get(check_id(policy_id))
        if known is None:
            policy = self._policies[policy_id]
            rules = tuple(rule for rule in policy.rules if rule.enabled)
            for rule in rules:
                check_id(rule.id)
            named = {id_ for rule in rules for id_ in (rule.source_set, rule.destination_set) if id_ is not None}
            known = self._known[policy_id] = policy, rules, frozenset(named)
        return known


def rule_list(covered: CoveredPort, direction: Direction, policies: Policies) -> RuleList:
    """The list that decides for packets in ``direction`` at the port (design, 2.3 and 2.4).

    Raises:
        InvalidValue: the id of a policy or of a rule is no UUID.
    """
    parts = []
    sets = frozenset[str]()
    strata = list(Stratum)
    for group in sorted(covered.groups, key=lambda group: (strata.index(group.stratum), group.position)):
        policy_id = group.policy_id(direction)
        if not group.admin_state_up:
            if group.stratum is not Stratum.TENANT:
                continue
            policy_id = None
        elif policy_id is None and group.stratum is not Stratum.TENANT:
            continue
        rules: tuple[Rule, ...] = ()
        if policy_id is not None:
            rules = policies.rules(policy_id)
            sets |= policies.sets(policy_id)
        parts.append(Part(group.stratum, policy_id, rules, closed=not group.admin_state_up))
    return _rule_list(*parts, sets=sets)


def deny_all() -> RuleList:
    """The list of a device that two ports claim: nobody can say which of them is right, so nothing passes."""
    return _rule_list(Part(Stratum.TENANT, closed=True))


def _rule_list(*parts: Part, sets: frozenset[str] = frozenset()) -> RuleList:
    return RuleList(hashlib.sha256(", ".join(map(str, parts)).encode()).hexdigest()[:16], parts, sets)
