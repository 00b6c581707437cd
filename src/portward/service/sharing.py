"""Who may use whose rules and policies.

Two things hold of every policy at any time: each of its rules is of the policy's own project or shared, and where
the policy is shared, each of its rules is. And of every group: each of its policies is of the group's own project or
shared. And of every rule: what it names as an address is of the rule's own project or shared. The project of the rule,
policy or group counts, not the caller's; so nothing that others use can be unshared.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from portward.model import Action
from portward.service.address_sets import NAMES
from portward.service.context import Context
from portward.service.errors import (
    AddressGroupInUse,
    AddressGroupNotFound,
    FirewallGroupNamed,
    FirewallGroupNotFound,
    FirewallPolicyInUse,
    FirewallPolicyNotFound,
    FirewallPolicySharingConflict,
    FirewallRuleConflict,
    FirewallRuleInUse,
    FirewallRuleNotFound,
    FirewallRulePassMisplaced,
    FirewallRuleSharingConflict,
)
from portward.service.rows import may_see, select_in, visible
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule, PolicyRule

#: Users of something that a refusal names.
_TOLD = 20


def check_rules(session: Session, context: Context, policy: FirewallPolicy, rule_ids: Sequence[str]) -> None:
    """Refuse a list of rules that the policy may not have; judges what it is to be, so set its ``shared`` first.

    Raises:
        FirewallRuleNotFound: one is not there, or the caller does not see it.
        FirewallRuleSharingConflict: the policy is shared, and one of the rules is not.
        FirewallRuleConflict: one is another project's and not shared.
    """
    found = _rules(session, rule_ids)
    for rule_id in rule_ids:
        rule = found.get(rule_id)
        if rule is None or not may_see(context, rule.project_id, shared=rule.shared):
            raise FirewallRuleNotFound(rule_id)
        if policy.shared and not rule.shared:
            raise FirewallRuleSharingConflict(policy.id, rule_id)
        _check_owner(policy, rule)


def check_rule(policy: FirewallPolicy, rule: FirewallRule) -> None:
    """Refuse one more rule, which the caller sees, that the policy may not have.

    Raises:
        FirewallRuleConflict: it is another project's and not shared.
        FirewallPolicySharingConflict: the policy is shared and the rule is not.
    """
    _check_owner(policy, rule)
    if policy.shared and not rule.shared:
        raise FirewallPolicySharingConflict(policy.id, rule.id)


def check_sharing(session: Session, policy: FirewallPolicy, rule_ids: Sequence[str]) -> None:
    """Refuse to share the policy, which has these rules, before they are.

    Raises:
        FirewallPolicySharingConflict: one of them is not shared.
    """
    found = _rules(session, rule_ids)
    for rule_id in rule_ids:
        if not found[rule_id].shared:
            raise FirewallPolicySharingConflict(policy.id, rule_id)


def check_policy_unsharing(session: Session, policy: FirewallPolicy) -> None:
    """Refuse to unshare what others use.

    Raises:
        FirewallPolicyInUse: another project's group applies the policy.
    """
    applied = or_(
        FirewallGroup.ingress_firewall_policy_id == policy.id, FirewallGroup.egress_firewall_policy_id == policy.id
    )
    foreign = FirewallGroup.project_id != policy.project_id
    if session.scalar(select(FirewallGroup.id).where(applied, foreign).limit(1)):
        raise FirewallPolicyInUse(policy.id)


def check_rule_unsharing(rule: FirewallRule, policies: Iterable[Any]) -> None:
    """Refuse to unshare what others use; ``policies`` (``project_id``, ``shared``) are all in which the rule stands.

    Raises:
        FirewallRuleInUse: one of them is another project's, or shared.
    """
    if any(policy.shared or policy.project_id != rule.project_id for policy in policies):
        raise FirewallRuleInUse(rule.id)


def check_policies(
    session: Session, context: Context, project_id: str, policy_ids: Iterable[str], *, may_pass: bool
) -> None:
    """Refuse policies that a group of project ``project_id`` may not apply, by an admin's wish either.

    Raises:
        FirewallPolicyNotFound: one is not there, or another project's and not shared.
        FirewallRulePassMisplaced: a rule of one passes, and the group may apply none such.
    """
    policy_ids = list(policy_ids)
    passing = (
        select(func.min(PolicyRule.rule_id))
        .join(FirewallRule, FirewallRule.id == PolicyRule.rule_id)
        .where(PolicyRule.policy_id == FirewallPolicy.id, FirewallRule.action == Action.PASS.value)
        .scalar_subquery()
    )
    query = select(FirewallPolicy.id, FirewallPolicy.project_id, FirewallPolicy.shared, passing.label("passing"))
    found = {row.id: row for row in select_in(session, query, FirewallPolicy.id, policy_ids)}
    for policy_id in policy_ids:
        policy = found.get(policy_id)
        usable = policy is not None and (policy.shared or policy.project_id == project_id)
        if policy is None or not usable or not may_see(context, policy.project_id, shared=policy.shared):
            raise FirewallPolicyNotFound(policy_id)
        if policy.passing is not None and not may_pass:
            raise FirewallRulePassMisplaced(policy.passing)


def check_addresses(session: Session, context: Context, project_id: str, rule: object) -> None:
    """Refuse that a rule of project ``project_id``, stored or new, names as an address what it may not.

    Raises:
        AddressGroupNotFound, FirewallGroupNotFound: what it names is not there, or another project's and not shared.
    """
    for column in NAMES:
        id_ = getattr(rule, column.key)
        if not isinstance(id_, str):
            continue
        of_addresses = column in NAMES[:2]
        group = session.get(AddressGroup, id_) if of_addresses else session.get(FirewallGroup, id_)
        usable = group is not None and (group.shared or group.project_id == project_id)
        if group is None or not usable or not may_see(context, group.project_id, shared=group.shared):
            raise (AddressGroupNotFound if of_addresses else FirewallGroupNotFound)(id_)


def check_address_unsharing(session: Session, context: Context, group: AddressGroup | FirewallGroup) -> None:
    """Refuse to unshare what rules of others name as an address.

    Raises:
        AddressGroupInUse, FirewallGroupNamed: rules of other projects do.
    """
    refuse_named(session, context, group, FirewallRule.project_id != group.project_id)


def refuse_named(
    session: Session, context: Context, group: AddressGroup | FirewallGroup, *which: ColumnElement[bool]
) -> None:
    """Refuse what must not be done as long as rules, of which all of these hold, name the group as an address.

    Raises:
        AddressGroupInUse, FirewallGroupNamed: some do; it names those that the caller sees.
    """
    of_addresses = isinstance(group, AddressGroup)
    named = or_(*(column == group.id for column in (NAMES[:2] if of_addresses else NAMES[2:])))
    users = select(FirewallRule.id).where(named, *which).order_by(FirewallRule.id)
    if session.scalar(users.limit(1)):
        told = session.scalars(users.where(*visible(context, FirewallRule)).limit(_TOLD)).all()
        raise (AddressGroupInUse if of_addresses else FirewallGroupNamed)(group.id, ", ".join(told or ["of others"]))


def _rules(session: Session, rule_ids: Sequence[str]) -> dict[str, Any]:
    query = select(FirewallRule.id, FirewallRule.project_id, FirewallRule.shared)
    return {row.id: row for row in select_in(session, query, FirewallRule.id, rule_ids)}


def _check_owner(policy: FirewallPolicy, rule: Any) -> None:
    if not rule.shared and rule.project_id != policy.project_id:
        raise FirewallRuleConflict(rule.id, rule.project_id)
