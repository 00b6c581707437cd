"""What admins assign above and below the tenants: groups of the strata admin and baseline, and all that they use.

Two things hold of such a group at any time. Whatever it uses, directly or not, is changed and deleted by admins only,
whoever owns it. And all of it is of the group's own project; a firewall group that it names as an address is besides
of one of these strata itself, or tenants would say what it means. Rules that ``pass`` stand in policies of groups of
the stratum admin and in policies that no group applies. Tags are not guarded: they decide nothing.
"""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, CompoundSelect, case, exists, literal, or_, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from portward.model import Action, Stratum
from portward.service.context import Context
from portward.service.errors import (
    FirewallGroupUsesForeign,
    FirewallObjectGuarded,
    FirewallRulePassAdminOnly,
    FirewallRulePassMisplaced,
)
from portward.store.tables import AddressGroup, FirewallGroup, FirewallPolicy, FirewallRule, PolicyRule

_KINDS = {
    FirewallRule: "Firewall rule",
    FirewallPolicy: "Firewall policy",
    FirewallGroup: "Firewall group",
    AddressGroup: "Address group",
}
_ADDRESS_GROUPS = (FirewallRule.source_address_group_id, FirewallRule.destination_address_group_id)
_FIREWALL_GROUPS = (FirewallRule.source_firewall_group_id, FirewallRule.destination_firewall_group_id)
#: What of a rule ``check_strata`` looks at.
JUDGED = frozenset({"action", *(side.key for side in (*_ADDRESS_GROUPS, *_FIREWALL_GROUPS))})
#: The order in which groups decide.
ORDER = (
    case({stratum.value: place for place, stratum in enumerate(Stratum)}, value=FirewallGroup.stratum),
    FirewallGroup.position,
    FirewallGroup.id,
)
#: Groups of the strata that admins assign.
_assigned = FirewallGroup.stratum != Stratum.TENANT.value


def refuse_guarded(
    session: Session, context: Context, row: FirewallRule | FirewallPolicy | FirewallGroup | AddressGroup
) -> None:
    """Refuse to let a member change or delete the row, if an admin or baseline group is it or uses it.

    Raises:
        FirewallObjectGuarded: it does, and the caller is no admin.
    """
    if context.is_admin:
        return
    if isinstance(row, FirewallGroup):
        guarded = row.stratum != Stratum.TENANT
    else:
        guarded = bool(session.scalar(select(exists().where(_assigned, _uses(row)))))
    if guarded:
        raise FirewallObjectGuarded(_KINDS[type(row)], row.id)


def check_strata(session: Session, groups: ColumnElement[bool]) -> None:
    """Refuse what has become of the groups of which this condition holds; one statement, after the change is flushed.

    Raises:
        FirewallGroupUsesForeign: an admin or baseline group would use what is not its own project's, or as an
            address a group of a tenant.
        FirewallRulePassMisplaced: a group of another stratum than admin would apply a rule that passes.
    """
    foreign: dict[str, list[str]] = {}
    for group_id, kind, id_ in session.execute(_misused(groups)).all():
        if kind == Action.PASS:
            raise FirewallRulePassMisplaced(id_)
        foreign.setdefault(group_id, []).append(f"{kind} {id_}")
    for group_id, named in foreign.items():
        raise FirewallGroupUsesForeign(group_id, ", ".join(sorted(named)))


def check_pass(context: Context, action: object) -> None:
    """Refuse to let a member make a rule that passes, or make one pass.

    Raises:
        FirewallRulePassAdminOnly: ``action`` is ``pass``, and the caller is no admin.
    """
    if action == Action.PASS and not context.is_admin:
        raise FirewallRulePassAdminOnly


def applying(policy_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on groups: to apply one of these policies."""
    ids = list(policy_ids)
    return or_(FirewallGroup.ingress_firewall_policy_id.in_(ids), FirewallGroup.egress_firewall_policy_id.in_(ids))


def naming(group_id: str) -> ColumnElement[bool]:
    """Condition on groups: to apply a policy with a rule that names this group as an address."""
    place, rule = aliased(PolicyRule), aliased(FirewallRule)
    return exists().where(
        _applies(place.policy_id),
        place.rule_id == rule.id,
        or_(rule.source_firewall_group_id == group_id, rule.destination_firewall_group_id == group_id),
    )


def _applies(policy_id: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Whether the group of the query around it applies this policy."""
    return or_(
        FirewallGroup.ingress_firewall_policy_id == policy_id, FirewallGroup.egress_firewall_policy_id == policy_id
    )


def _uses(row: FirewallRule | FirewallPolicy | AddressGroup) -> ColumnElement[bool]:
    """Whether a group uses the row."""
    if isinstance(row, FirewallPolicy):
        return applying([row.id])
    places = select(PolicyRule.policy_id)
    if isinstance(row, FirewallRule):
        places = places.where(PolicyRule.rule_id == row.id)
    else:
        named = or_(*(side == row.id for side in _ADDRESS_GROUPS))
        places = places.join(FirewallRule, FirewallRule.id == PolicyRule.rule_id).where(named)
    return or_(
        FirewallGroup.ingress_firewall_policy_id.in_(places), FirewallGroup.egress_firewall_policy_id.in_(places)
    )


def _misused(groups: ColumnElement[bool]) -> CompoundSelect[str, str, str]:
    """Of such groups: their id, and the kind and id of what they use and may not."""
    group, policy, place, rule = FirewallGroup, FirewallPolicy, PolicyRule, FirewallRule
    foreign_policies = (
        select(group.id, literal("firewall policy"), policy.id)
        .join(policy, _applies(policy.id))
        .where(groups, _assigned, policy.project_id != group.project_id)
    )
    with_rules = (
        select(group.id).join(place, _applies(place.policy_id)).join(rule, rule.id == place.rule_id).where(groups)
    )
    foreign_rules = with_rules.add_columns(literal("firewall rule"), rule.id).where(
        _assigned, rule.project_id != group.project_id
    )
    misplaced = with_rules.add_columns(literal(Action.PASS.value), rule.id).where(
        group.stratum != Stratum.ADMIN.value, rule.action == Action.PASS.value
    )
    named = with_rules.where(_assigned)
    addresses, of_group = AddressGroup, aliased(FirewallGroup)
    foreign_addresses = (
        named.add_columns(literal("address group"), addresses.id)
        .join(addresses, or_(*(addresses.id == side for side in _ADDRESS_GROUPS)))
        .where(addresses.project_id != group.project_id)
    )
    foreign_groups = (
        named.add_columns(literal("firewall group"), of_group.id)
        .join(of_group, or_(*(of_group.id == side for side in _FIREWALL_GROUPS)))
        .where(or_(of_group.project_id != group.project_id, of_group.stratum == Stratum.TENANT.value))
    )
    return union_all(foreign_policies, foreign_rules, foreign_addresses, foreign_groups, misplaced)
