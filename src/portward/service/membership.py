"""Which groups cover a port: one tenant group at most, a VM's port exactly one while there are default groups, and any
number of the groups that admins assign.

Tenant groups that are no default exclude each other. A port of a default group moves to the tenant group that names
it, and a VM's port that leaves a tenant group goes to its project's default group, in the same transaction; so that a
VM is never open between two calls. Both groups are changed by it. Groups of the other strata take no port from
anybody.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, delete, insert, join, or_, select
from sqlalchemy.orm import Session

from portward.model import PortKind, Stratum, port_kind
from portward.service.changes import ports_moved
from portward.service.context import Context
from portward.service.default_group import enter, in_no_tenant_group
from portward.service.errors import FirewallGroupPortInUse, FirewallGroupPortInvalid, PortNotFound
from portward.service.rows import batches, may_see, select_in
from portward.service.scopes import Scope, groups_over
from portward.store.tables import FirewallGroup, GroupPort, Port

_of_tenants = FirewallGroup.stratum == Stratum.TENANT.value


def ports_of(
    session: Session, group_ids: Iterable[str], *, project_id: str | None = None
) -> dict[str, tuple[str, ...]]:
    """The ports, or those of one project, of each of the groups that covers any, as the user ordered them.

    One statement.
    """
    ports: dict[str, list[str]] = {}
    query = select(GroupPort.group_id, GroupPort.port_id).order_by(GroupPort.position, GroupPort.port_id)
    if project_id is not None:
        query = query.join(Port, Port.id == GroupPort.port_id).where(Port.project_id == project_id)
    for group_id, port_id in select_in(session, query, GroupPort.group_id, group_ids):
        ports.setdefault(group_id, []).append(port_id)
    return {group_id: tuple(port_ids) for group_id, port_ids in ports.items()}


def replace_ports(
    session: Session,
    context: Context,
    group: FirewallGroup,
    old: Sequence[str],
    new: Sequence[str],
    *,
    was_tenant: bool,
) -> tuple[str, ...]:
    """Let the group, which covers ``old``, cover ``new`` instead; returns what it covers then.

    That is more than ``new`` where VM ports would leave their own project's default group. Other groups that gain or
    lose ports are marked as changed, this one is left to the caller. ``was_tenant``: it was a tenant group as long as
    it covered ``old``; what it is now must be flushed.

    Raises:
        PortNotFound: one of the new ports is not there, or the caller does not see it.
        FirewallGroupPortInvalid: one is neither a router's nor a VM's.
        FirewallGroupPortInUse: it is a tenant group, and another one, that is no default, covers some.
    """
    is_tenant = group.stratum == Stratum.TENANT
    before, after = set(old), set(new)
    entering = [port_id for port_id in new if port_id not in before]
    claimed = [port_id for port_id in new if is_tenant and not (was_tenant and port_id in before)]
    freed = [port_id for port_id in old if was_tenant and not (is_tenant and port_id in after)]
    ports = _facts(session, group, dict.fromkeys([*entering, *claimed, *freed]))
    _check(context, entering, claimed, ports)
    returning = {id_: ports[id_].project_id for id_ in freed if port_kind(ports[id_].device_owner) is PortKind.VM}
    if not context.default_group.enabled:
        returning = {}
    staying = [port_id for port_id, project_id in returning.items() if project_id == group.default_of]
    final = (*new, *staying)
    if final == tuple(old) and is_tenant == was_tenant:
        return final
    moving = [port_id for port_id in claimed if ports[port_id].group_id is not None]
    if moving or final != tuple(old):
        _store(session, group.id, final, moving)
    home = {port_id: project_id for port_id, project_id in returning.items() if port_id not in set(staying)}
    others = {ports[port_id].group_id for port_id in moving} | enter(session, context, home)
    ports_moved(session, context, others, also=[group.id])
    return final


def settle(session: Session, context: Context, port: Port, was: PortKind | None) -> set[str]:
    """Let the port, new or changed, be in the groups in which it belongs as what it is now.

    It leaves all groups if it is no router's or VM's, or, as ``was`` says, a VM's no more; it enters and leaves groups
    as their scope says; and a VM's port that is in no tenant group enters its project's default group. Returns the
    groups that covered it before and still do; the others are marked as changed.
    """
    kind, wanted = port_kind(port.device_owner), groups_over(session, port)
    query = (
        select(FirewallGroup.id, FirewallGroup.stratum, FirewallGroup.scope)
        .join(GroupPort, GroupPort.group_id == FirewallGroup.id)
        .where(GroupPort.port_id == port.id)
    )
    held = session.execute(query).all()
    all_left = kind is None or (was is PortKind.VM and kind is not PortKind.VM)
    staying = [group for group in held if not all_left and (group.scope == Scope.PORTS or group.id in wanted)]
    remaining = {group.id for group in staying}
    leaving, entering = {group.id for group in held} - remaining, wanted - remaining
    if leaving:
        session.execute(delete(GroupPort).where(GroupPort.port_id == port.id, GroupPort.group_id.in_(leaving)))
    if entering:
        members = [{"group_id": id_, "port_id": port.id, "position": 0} for id_ in sorted(entering)]
        session.execute(insert(GroupPort), members)
    home = set[str]()
    if kind is PortKind.VM and not any(group.stratum == Stratum.TENANT for group in staying):
        home = enter(session, context, {port.id: port.project_id})
    ports_moved(session, context, leaving | entering | home)
    return remaining


def leave_all(session: Session, context: Context, port_id: str) -> None:
    """Take the port, which is to be forgotten, out of its groups."""
    group_ids = session.scalars(select(GroupPort.group_id).where(GroupPort.port_id == port_id)).all()
    if group_ids:
        session.execute(delete(GroupPort).where(GroupPort.port_id == port_id))
        ports_moved(session, context, group_ids)


def adopt(session: Session, context: Context) -> None:
    """Put every VM port that no tenant group covers into its project's default group.

    Such ports are from a time without default groups: an earlier release, or the operator's wish.
    """
    uncovered = select(Port.id, Port.project_id, Port.device_owner).where(in_no_tenant_group())
    ports = session.execute(uncovered.order_by(Port.id)).all()
    found = {port.id: port.project_id for port in ports if port_kind(port.device_owner) is PortKind.VM}
    ports_moved(session, context, enter(session, context, found))


def _store(session: Session, group_id: str, port_ids: Sequence[str], moving: Sequence[str]) -> None:
    """Have the group cover these ports and no others, and no other tenant group cover those that are moving."""
    tenants = select(FirewallGroup.id).where(_of_tenants)
    for batch in [*batches(moving)] or [[]]:
        moved = and_(GroupPort.port_id.in_(batch), GroupPort.group_id.in_(tenants))
        session.execute(delete(GroupPort).where(or_(GroupPort.group_id == group_id, moved)))
    if port_ids:
        members = [{"group_id": group_id, "port_id": id_, "position": place} for place, id_ in enumerate(port_ids)]
        session.execute(insert(GroupPort), members)


def _facts(session: Session, group: FirewallGroup, port_ids: Iterable[str]) -> dict[str, Any]:
    """What decides whether each of the ports, if it is there, may enter the group, and where it goes.

    ``group_id`` is another tenant group that covers it, ``default_of`` whose default that is.
    """
    others = join(GroupPort, FirewallGroup, and_(FirewallGroup.id == GroupPort.group_id, _of_tenants))
    query = select(Port.id, Port.project_id, Port.device_owner, GroupPort.group_id, FirewallGroup.default_of).outerjoin(
        others, and_(GroupPort.port_id == Port.id, GroupPort.group_id != group.id)
    )
    return {row.id: row for row in select_in(session, query, Port.id, port_ids)}


def _check(context: Context, entering: Sequence[str], claimed: Sequence[str], ports: dict[str, Any]) -> None:
    for port_id in entering:
        port = ports.get(port_id)
        if port is None or not may_see(context, port.project_id, shared=False):
            raise PortNotFound(port_id)
    for port_id in entering:
        if port_kind(ports[port_id].device_owner) is None:
            raise FirewallGroupPortInvalid(port_id)
    taken = [id_ for id_ in claimed if ports[id_].group_id is not None and ports[id_].default_of is None]
    if taken:
        raise FirewallGroupPortInUse(taken)
