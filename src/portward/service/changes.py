"""How a change reaches the hosts: the generation rises, and whom it concerns is marked with it.

A policy's ``version`` says which body of it a host must hold; a group's ``generation`` and ``changed_at`` say from
when on its hosts owe a report. Names, descriptions, ``shared`` and ``audited`` never come here.
"""

from collections.abc import Collection

from sqlalchemy import case, exists, or_, update
from sqlalchemy.orm import Session

from portward.service.address_sets import follow_ports
from portward.service.context import Context
from portward.store import raise_generation
from portward.store.tables import FirewallGroup, FirewallPolicy, GroupPort


def decisions_changed(session: Session, context: Context, policy_ids: Collection[str]) -> None:
    """These policies decide differently from now on; so do the groups that apply them."""
    generation = raise_generation(session)
    session.execute(update(FirewallPolicy).where(FirewallPolicy.id.in_(policy_ids)).values(version=generation))
    session.execute(
        update(FirewallGroup)
        .where(
            or_(
                FirewallGroup.ingress_firewall_policy_id.in_(policy_ids),
                FirewallGroup.egress_firewall_policy_id.in_(policy_ids),
            )
        )
        .values(generation=generation, changed_at=context.now)
    )


def ports_moved(session: Session, context: Context, group_ids: Collection[str], *, also: Collection[str] = ()) -> None:
    """These groups cover other ports from now on, without having been changed themselves; none is no change.

    For their users that is a change too. One that covers none any more starts anew when it gets one again. ``also`` are
    groups that cover other ports and are marked by the caller.
    """
    if group_ids:
        covering = exists().where(GroupPort.group_id == FirewallGroup.id)
        session.execute(
            update(FirewallGroup)
            .where(FirewallGroup.id.in_(group_ids))
            .values(
                generation=raise_generation(session),
                changed_at=context.now,
                revision_number=FirewallGroup.revision_number + 1,
                updated_at=context.now,
                realised_once=case((covering, FirewallGroup.realised_once), else_=False),
            )
        )
    follow_ports(session, context, [*group_ids, *also])


def group_changed(session: Session, context: Context, group: FirewallGroup) -> None:
    """As ``groups_changed``, for one that is at hand."""
    group.generation = raise_generation(session)
    group.changed_at = context.now


def groups_changed(session: Session, context: Context, group_ids: Collection[str]) -> None:
    """These groups enforce something else from now on."""
    generation = raise_generation(session)
    session.execute(
        update(FirewallGroup)
        .where(FirewallGroup.id.in_(group_ids))
        .values(generation=generation, changed_at=context.now)
    )
