"""Firewall policies: ordered lists of rules. A policy may be applied by many groups.

``audited`` says that somebody has looked at the policy as it is now; so any change makes it false, unless the same
request says otherwise. Positions are kept with gaps allowed, so that an insertion moves what follows it in one
statement.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Select, delete, insert, or_, select, update
from sqlalchemy.orm import Session

from portward.service.changes import decisions_changed
from portward.service.context import Context
from portward.service.errors import (
    FirewallPolicyInUse,
    FirewallPolicyNotFound,
    FirewallRuleAlreadyAssociated,
    FirewallRuleNotAssociatedWithPolicy,
    FirewallRuleNotFound,
)
from portward.service.rows import Where, add, assign, find, first_missing, select_in, touch
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, PolicyRule


class PolicyValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new policy, or changes of one; what is ``UNSET`` takes its default, or stays."""

    project_id: str | UnsetType = UNSET  # of a new policy only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    audited: bool | UnsetType = UNSET
    firewall_rules: tuple[str, ...] | UnsetType = UNSET  # ids of rules, none twice, the first to decide first


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """A policy, and its rules in order."""

    row: FirewallPolicy
    rule_ids: tuple[str, ...]


def create_policy(session: Session, context: Context, values: PolicyValues) -> PolicyView:
    """Make a policy that no group applies yet.

    Raises:
        FirewallRuleNotFound: one of the rules is not there.
    """
    rule_ids = values.firewall_rules if values.firewall_rules is not UNSET else ()
    _enabled(session, rule_ids)
    row = add(session, context, FirewallPolicy, values)
    _store_rules(session, row.id, rule_ids)
    return PolicyView(row=row, rule_ids=rule_ids)


def get_policy(session: Session, _context: Context, policy_id: str) -> PolicyView:
    """The policy.

    Raises:
        FirewallPolicyNotFound: there is none.
    """
    row = find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)
    return PolicyView(row=row, rule_ids=tuple(rule_id for rule_id, _ in _places(session, row.id)))


def list_policies(session: Session, _context: Context, where: Where = ()) -> list[PolicyView]:
    """The policies that meet ``where``, by id; two statements."""
    rows = session.scalars(select(FirewallPolicy).where(*where).order_by(FirewallPolicy.id)).all()
    rules = _rule_ids(session, select(FirewallPolicy.id).where(*where))
    return [PolicyView(row=row, rule_ids=tuple(rules.get(row.id, ()))) for row in rows]


def update_policy(session: Session, context: Context, policy_id: str, values: PolicyValues) -> PolicyView:
    """Change the policy, or replace its list of rules.

    Raises:
        FirewallPolicyNotFound: there is none.
        FirewallRuleNotFound: one of the rules is not there.
    """
    row = find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)
    old = tuple(rule_id for rule_id, _ in _places(session, row.id))
    new = values.firewall_rules if values.firewall_rules is not UNSET else old
    changed = bool(assign(row, values))
    if new != old:
        changed = True
        enabled = _enabled(session, dict.fromkeys((*new, *old)))
        session.execute(delete(PolicyRule).where(PolicyRule.policy_id == row.id))
        _store_rules(session, row.id, new)
        if [id_ for id_ in new if id_ in enabled] != [id_ for id_ in old if id_ in enabled]:
            decisions_changed(session, context, [row.id])
    if changed:
        touch(row, context)
        if values.audited is UNSET:
            row.audited = False
    return PolicyView(row=row, rule_ids=new)


def delete_policy(session: Session, _context: Context, policy_id: str) -> None:
    """Delete the policy; its rules stay.

    Raises:
        FirewallPolicyNotFound: there is none.
        FirewallPolicyInUse: a group applies it.
    """
    row = find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)
    applied = or_(FirewallGroup.ingress_firewall_policy_id == row.id, FirewallGroup.egress_firewall_policy_id == row.id)
    if session.scalar(select(FirewallGroup.id).where(applied).limit(1)):
        raise FirewallPolicyInUse(policy_id)
    session.execute(delete(FirewallPolicy).where(FirewallPolicy.id == row.id))


def insert_rule(
    session: Session,
    context: Context,
    policy_id: str,
    rule_id: str,
    *,
    before: str | None = None,
    after: str | None = None,
) -> PolicyView:
    """Put the rule just ``before`` that one, else just ``after`` that one, else first.

    Raises:
        FirewallPolicyNotFound, FirewallRuleNotFound: there is none.
        FirewallRuleAlreadyAssociated: it stands in the policy.
        FirewallRuleNotAssociatedWithPolicy: ``before`` or ``after`` does not.
    """
    policy = find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)
    rule = find(session, FirewallRule, rule_id, FirewallRuleNotFound)
    places = _places(session, policy.id)
    rule_ids = [id_ for id_, _ in places]
    if rule.id in rule_ids:
        raise FirewallRuleAlreadyAssociated(rule_id, policy_id)
    neighbour = before or after
    if neighbour and neighbour not in rule_ids:
        raise FirewallRuleNotAssociatedWithPolicy(neighbour, policy_id)
    index = 0 if not neighbour else rule_ids.index(neighbour) + (0 if before else 1)
    position = places[index][1] if index < len(places) else places[-1][1] + 1 if places else 0
    session.execute(
        update(PolicyRule)
        .where(PolicyRule.policy_id == policy.id, PolicyRule.position >= position)
        .values(position=PolicyRule.position + 1)
    )
    session.add(PolicyRule(policy_id=policy.id, rule_id=rule.id, position=position))
    _list_changed(session, context, policy, rule)
    return PolicyView(row=policy, rule_ids=(*rule_ids[:index], rule.id, *rule_ids[index:]))


def remove_rule(session: Session, context: Context, policy_id: str, rule_id: str) -> PolicyView:
    """Take the rule out of the policy.

    Raises:
        FirewallPolicyNotFound, FirewallRuleNotFound: there is none.
        FirewallRuleNotAssociatedWithPolicy: it does not stand in the policy.
    """
    policy = find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)
    rule = find(session, FirewallRule, rule_id, FirewallRuleNotFound)
    rule_ids = [id_ for id_, _ in _places(session, policy.id)]
    if rule.id not in rule_ids:
        raise FirewallRuleNotAssociatedWithPolicy(rule_id, policy_id)
    session.execute(delete(PolicyRule).where(PolicyRule.policy_id == policy.id, PolicyRule.rule_id == rule.id))
    _list_changed(session, context, policy, rule)
    return PolicyView(row=policy, rule_ids=tuple(id_ for id_ in rule_ids if id_ != rule.id))


def with_rules(rule_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on policies: to hold one of these rules."""
    return FirewallPolicy.id.in_(select(PolicyRule.policy_id).where(PolicyRule.rule_id.in_(rule_ids)))


def _list_changed(session: Session, context: Context, policy: FirewallPolicy, rule: FirewallRule) -> None:
    touch(policy, context)
    policy.audited = False
    session.flush()
    if rule.enabled:
        decisions_changed(session, context, [policy.id])


def _places(session: Session, policy_id: str) -> Sequence[tuple[str, int]]:
    query = select(PolicyRule.rule_id, PolicyRule.position).where(PolicyRule.policy_id == policy_id)
    return [(row.rule_id, row.position) for row in session.execute(query.order_by(PolicyRule.position))]


def _rule_ids(session: Session, policy_ids: Select[str]) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    query = select(PolicyRule.policy_id, PolicyRule.rule_id).where(PolicyRule.policy_id.in_(policy_ids))
    for policy_id, rule_id in session.execute(query.order_by(PolicyRule.position)):
        rules.setdefault(policy_id, []).append(rule_id)
    return rules


def _enabled(session: Session, rule_ids: Iterable[str]) -> set[str]:
    """Those of the rules that are enabled.

    Raises:
        FirewallRuleNotFound: one is not there.
    """
    rows = select_in(session, (FirewallRule.id, FirewallRule.enabled), FirewallRule.id, rule_ids)
    missing = first_missing(rule_ids, {row.id for row in rows})
    if missing is not None:
        raise FirewallRuleNotFound(missing)
    return {row.id for row in rows if row.enabled}


def _store_rules(session: Session, policy_id: str, rule_ids: Sequence[str]) -> None:
    if rule_ids:
        session.execute(
            insert(PolicyRule),
            [
                {"policy_id": policy_id, "rule_id": rule_id, "position": position}
                for position, rule_id in enumerate(rule_ids)
            ],
        )
