"""Which groups decide for a port, in their order, with what of them the caller may see.

What the caller may not see is there all the same, and only that is said of it. An admin or baseline group that is down
takes no part, and is left out. A constant number of SQL statements, however many groups and rules there are.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import and_, or_, select, true
from sqlalchemy.orm import Session

from portward.model import Direction, Stratum
from portward.service.context import Context
from portward.service.ports import find_port
from portward.service.rows import Narrow, Page, visible
from portward.service.rules import RuleView, list_rules
from portward.service.strata import ORDER
from portward.store.tables import FirewallGroup, FirewallPolicy, FirewallRule, GroupPort, PolicyRule

#: What what is hidden is called.
HIDDEN_NAME = "admin"


class Decider(msgspec.Struct, frozen=True, kw_only=True):
    """A group that decides. ``row`` ``None``: the caller may not see it, and so none of its rules.

    In place of rules that the caller may not see stands ``None``, once for a policy that the caller may not see.
    """

    stratum: Stratum
    row: FirewallGroup | None
    rules: Mapping[Direction, Sequence[RuleView | None]]


def effective_groups(session: Session, context: Context, port_id: str, narrow: Narrow) -> tuple[Decider, ...]:
    """The groups that decide for the port, in their order; of what the caller may see, what ``narrow`` leaves.

    Raises:
        PortNotFound: there is no such port that the caller sees.
    """
    find_port(session, context, port_id)
    seen = and_(true(), *visible(context, FirewallGroup), *narrow(FirewallGroup)).label("seen")
    taking_part = or_(FirewallGroup.admin_state_up, FirewallGroup.stratum == Stratum.TENANT.value)
    query = select(FirewallGroup, seen).join(GroupPort, GroupPort.group_id == FirewallGroup.id)
    groups = session.execute(query.where(GroupPort.port_id == port_id, taking_part).order_by(*ORDER)).all()
    applied = {id_ for row, is_seen in groups if is_seen for id_ in _policies(row).values() if id_ is not None}
    rules = _rules(session, context, applied, narrow)
    return tuple(
        Decider(
            stratum=Stratum(row.stratum),
            row=row if is_seen else None,
            rules={
                direction: rules.get(policy_id or "", ()) if is_seen else ()
                for direction, policy_id in _policies(row).items()
            },
        )
        for row, is_seen in groups
    )


def _policies(group: FirewallGroup) -> dict[Direction, str | None]:
    return {
        Direction.INGRESS: group.ingress_firewall_policy_id,
        Direction.EGRESS: group.egress_firewall_policy_id,
    }


def _rules(
    session: Session, context: Context, policy_ids: Collection[str], narrow: Narrow
) -> dict[str, list[RuleView | None]]:
    """The rules of each policy that has any, in order."""
    seen = and_(true(), *visible(context, FirewallPolicy), *narrow(FirewallPolicy)).label("seen")
    query = (
        select(PolicyRule.policy_id, PolicyRule.rule_id, seen)
        .join(FirewallPolicy, FirewallPolicy.id == PolicyRule.policy_id)
        .where(PolicyRule.policy_id.in_(policy_ids))
        .order_by(PolicyRule.position)
    )
    standing = select(PolicyRule.rule_id).where(PolicyRule.policy_id.in_(policy_ids))
    page = Page(where=[FirewallRule.id.in_(standing), *narrow(FirewallRule)])
    views = {view.row.id: view for view in list_rules(session, context, page)}
    found: dict[str, list[RuleView | None]] = {}
    for policy_id, rule_id, is_seen in session.execute(query):
        if is_seen:
            found.setdefault(policy_id, []).append(views.get(rule_id))
        else:
            found[policy_id] = [None]
    return found
