"""Firewall policies: ordered lists of rules. A policy may be applied by many groups.

``audited`` says that somebody has looked at the policy as it is now; so any change makes it false, unless the same
request says otherwise. Positions are kept with gaps between them, so that an insertion moves no other rule, but
once in a while all that follow it, in one statement.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.orm import Session

from portward.service.changes import decisions_changed
from portward.service.context import Context
from portward.service.default_group import check_name, protect, protect_values
from portward.service.errors import (
    FirewallPolicyInUse,
    FirewallPolicyNotFound,
    FirewallRuleAlreadyAssociated,
    FirewallRuleNotAssociatedWithPolicy,
    FirewallRuleNotFound,
)
from portward.service.quota import check_quota
from portward.service.rows import ALL, Page, add, assign, delete_rows, find, listed, project_of, select_in, touch
from portward.service.sharing import check_policy_unsharing, check_rule, check_rules, check_sharing
from portward.service.strata import applying, check_strata, refuse_guarded
from portward.service.tags import tags_of
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, PolicyRule

#: Between the positions of two neighbours in a list that is stored as a whole.
_GAP = 1024


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
    tags: tuple[str, ...] = ()


def create_policy(session: Session, context: Context, values: PolicyValues) -> PolicyView:
    """Make a policy that no group applies yet.

    Raises:
        FirewallDefaultParameterExists: its name is reserved.
        OverQuota: the project has as many as it may have.
        FirewallRuleNotFound, FirewallRuleSharingConflict, FirewallRuleConflict: a rule that it may not have.
    """
    check_name(FirewallPolicy, values)
    check_quota(session, context, FirewallPolicy, project_of(context, values))
    rule_ids = values.firewall_rules if values.firewall_rules is not UNSET else ()
    row = add(session, context, FirewallPolicy, values)
    check_rules(session, context, row, rule_ids)
    _store_rules(session, row.id, rule_ids)
    return PolicyView(row=row, rule_ids=rule_ids)


def find_policy(session: Session, context: Context, policy_id: str) -> FirewallPolicy:
    """The policy as it is stored.

    Raises:
        FirewallPolicyNotFound: there is none that the caller sees.
    """
    return find(session, context, FirewallPolicy, policy_id, FirewallPolicyNotFound)


def get_policy(session: Session, context: Context, policy_id: str) -> PolicyView:
    """The policy.

    Raises:
        FirewallPolicyNotFound: there is none that the caller sees.
    """
    return _views(session, [find_policy(session, context, policy_id)])[0]


def list_policies(session: Session, context: Context, page: Page = ALL) -> list[PolicyView]:
    """The policies on the page; three statements."""
    return _views(session, listed(session, context, FirewallPolicy, page))


def update_policy(session: Session, context: Context, policy_id: str, values: PolicyValues) -> PolicyView:
    """Change the policy, or replace its list of rules.

    Raises:
        FirewallPolicyNotFound: there is none that the caller sees.
        FirewallDefaultObjectUpdateRestricted: a default policy, and the caller is no admin.
        FirewallDefaultParameterExists: its new name is reserved.
        FirewallRuleNotFound, FirewallRuleSharingConflict, FirewallRuleConflict: a rule that it may not have.
        FirewallPolicySharingConflict: it is to be shared, and one of the rules it has is not.
        FirewallPolicyInUse: it would no longer be shared, and another project's group applies it.
        FirewallObjectGuarded: an admin or baseline group applies it, and the caller is no admin.
        FirewallGroupUsesForeign, FirewallRulePassMisplaced: groups that apply it may not apply such rules.
    """
    row = find_policy(session, context, policy_id)
    refuse_guarded(session, context, row)
    protect_values(row, context, values)
    check_name(FirewallPolicy, values, row)
    old = tuple(rule_id for rule_id, _ in _places(session, row.id))
    new = values.firewall_rules if values.firewall_rules is not UNSET else old
    with session.no_autoflush:  # what is refused is not sent, what is stored is sent once
        changed = assign(row, values)
        if "shared" in changed and not row.shared:
            check_policy_unsharing(session, row)
        if values.firewall_rules is not UNSET:
            check_rules(session, context, row, new)
        elif "shared" in changed and row.shared:
            check_sharing(session, row, old)
        if new == old and not changed:
            return _view(session, row, old)
        touch(row, context)
        if values.audited is UNSET:
            row.audited = False
    session.flush()
    if new != old:
        _replace_rules(session, context, row.id, old, new)
        check_strata(session, applying([row.id]))
    return _view(session, row, new)


def delete_policy(session: Session, context: Context, policy_id: str) -> None:
    """Delete the policy; its rules stay.

    Raises:
        FirewallPolicyNotFound: there is none that the caller sees.
        FirewallPolicyInUse: a group applies it.
        FirewallDefaultObjectUpdateRestricted: a default policy, and the caller is no admin.
        FirewallObjectGuarded: an admin or baseline group applies it, and the caller is no admin.
    """
    row = find_policy(session, context, policy_id)
    refuse_guarded(session, context, row)
    protect(row, context)
    if session.scalar(select(FirewallGroup.id).where(applying([row.id])).limit(1)):
        raise FirewallPolicyInUse(policy_id)
    delete_rows(session, FirewallPolicy, [row.id])


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
        FirewallPolicyNotFound, FirewallRuleNotFound: there is none that the caller sees.
        FirewallDefaultObjectUpdateRestricted: a default policy, and the caller is no admin.
        FirewallRuleAlreadyAssociated: it stands in the policy.
        FirewallRuleNotAssociatedWithPolicy: ``before`` or ``after`` does not.
        FirewallRuleConflict: it is another project's and not shared.
        FirewallPolicySharingConflict: the policy is shared and the rule is not.
        FirewallObjectGuarded: an admin or baseline group applies the policy, and the caller is no admin.
        FirewallGroupUsesForeign, FirewallRulePassMisplaced: groups that apply the policy may not apply such a rule.
    """
    policy = find_policy(session, context, policy_id)
    refuse_guarded(session, context, policy)
    protect(policy, context)
    rule = find(session, context, FirewallRule, rule_id, FirewallRuleNotFound)
    places = _places(session, policy.id)
    rule_ids = [id_ for id_, _ in places]
    if rule.id in rule_ids:
        raise FirewallRuleAlreadyAssociated(rule_id, policy_id)
    check_rule(policy, rule)
    neighbour = before or after
    if neighbour and neighbour not in rule_ids:
        raise FirewallRuleNotAssociatedWithPolicy(neighbour, policy_id)
    index = 0 if not neighbour else rule_ids.index(neighbour) + (0 if before else 1)
    position = _make_room(session, policy.id, [position for _, position in places], index)
    session.add(PolicyRule(policy_id=policy.id, rule_id=rule.id, position=position))
    _list_changed(session, context, policy, takes_part=rule.enabled)
    check_strata(session, applying([policy.id]))
    return _view(session, policy, (*rule_ids[:index], rule.id, *rule_ids[index:]))


def remove_rule(session: Session, context: Context, policy_id: str, rule_id: str) -> PolicyView:
    """Take the rule out of the policy.

    Raises:
        FirewallPolicyNotFound, FirewallRuleNotFound: there is none that the caller sees.
        FirewallDefaultObjectUpdateRestricted: a default policy, and the caller is no admin.
        FirewallRuleNotAssociatedWithPolicy: it does not stand in the policy.
        FirewallObjectGuarded: an admin or baseline group applies the policy, and the caller is no admin.
    """
    policy = find_policy(session, context, policy_id)
    refuse_guarded(session, context, policy)
    protect(policy, context)
    rule_ids = [id_ for id_, _ in _places(session, policy.id)]
    if rule_id not in rule_ids:
        find(session, context, FirewallRule, rule_id, FirewallRuleNotFound)
        raise FirewallRuleNotAssociatedWithPolicy(rule_id, policy_id)
    session.execute(delete(PolicyRule).where(PolicyRule.policy_id == policy.id, PolicyRule.rule_id == rule_id))
    _list_changed(session, context, policy, takes_part=bool(_enabled(session, [rule_id])))
    return _view(session, policy, tuple(id_ for id_ in rule_ids if id_ != rule_id))


def with_rules(rule_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on policies: to hold one of these rules."""
    return FirewallPolicy.id.in_(select(PolicyRule.policy_id).where(PolicyRule.rule_id.in_(rule_ids)))


def _list_changed(session: Session, context: Context, policy: FirewallPolicy, *, takes_part: bool) -> None:
    touch(policy, context)
    policy.audited = False
    session.flush()
    if takes_part:
        decisions_changed(session, context, [policy.id])


def _places(session: Session, policy_id: str) -> Sequence[tuple[str, int]]:
    query = select(PolicyRule.rule_id, PolicyRule.position).where(PolicyRule.policy_id == policy_id)
    return [(row.rule_id, row.position) for row in session.execute(query.order_by(PolicyRule.position))]


def _make_room(session: Session, policy_id: str, positions: Sequence[int], index: int) -> int:
    """A free position for the rule that is to be number ``index``; only where the gap is used up do others move."""
    if not positions:
        return 0
    if index == 0:
        return positions[0] - _GAP
    if index == len(positions):
        return positions[-1] + _GAP
    low, high = positions[index - 1], positions[index]
    if high - low < 2:
        follows = (PolicyRule.policy_id == policy_id, PolicyRule.position >= high)
        session.execute(update(PolicyRule).where(*follows).values(position=PolicyRule.position + _GAP))
        high += _GAP
    return (low + high) // 2


def _views(session: Session, rows: Sequence[FirewallPolicy]) -> list[PolicyView]:
    ids = [row.id for row in rows]
    tags = tags_of(session, ids)
    rules: dict[str, list[str]] = {}
    query = select(PolicyRule.policy_id, PolicyRule.rule_id).order_by(PolicyRule.position)
    for policy_id, rule_id in select_in(session, query, PolicyRule.policy_id, ids):
        rules.setdefault(policy_id, []).append(rule_id)
    return [PolicyView(row=row, rule_ids=tuple(rules.get(row.id, ())), tags=tags.get(row.id, ())) for row in rows]


def _view(session: Session, row: FirewallPolicy, rule_ids: tuple[str, ...]) -> PolicyView:
    return PolicyView(row=row, rule_ids=rule_ids, tags=tags_of(session, [row.id]).get(row.id, ()))


def _enabled(session: Session, rule_ids: Iterable[str]) -> set[str]:
    """Those of the rules that take part."""
    query = select(FirewallRule.id).where(FirewallRule.enabled)
    return {row.id for row in select_in(session, query, FirewallRule.id, rule_ids)}


def _replace_rules(session: Session, context: Context, policy_id: str, old: Sequence[str], new: Sequence[str]) -> None:
    enabled = _enabled(session, dict.fromkeys((*new, *old)))
    session.execute(delete(PolicyRule).where(PolicyRule.policy_id == policy_id))
    _store_rules(session, policy_id, new)
    if [id_ for id_ in new if id_ in enabled] != [id_ for id_ in old if id_ in enabled]:
        decisions_changed(session, context, [policy_id])


def _store_rules(session: Session, policy_id: str, rule_ids: Sequence[str]) -> None:
    if rule_ids:
        session.execute(
            insert(PolicyRule),
            [
                {"policy_id": policy_id, "rule_id": rule_id, "position": place * _GAP}
                for place, rule_id in enumerate(rule_ids)
            ],
        )
