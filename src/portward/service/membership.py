"""Which group covers a port: one at most, and a VM's port exactly one while there are default groups.

Groups that are no default exclude each other. A port of a default group moves to the group that names it, and a VM's
port that leaves a group goes to its project's default group, in the same transaction; so that a VM is never open
between two calls. Both groups are changed by it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import delete, exists, insert, or_, select
from sqlalchemy.orm import Session

from portward.model import PortKind, port_kind
from portward.service.changes import ports_moved
from portward.service.context import Context
from portward.service.default_group import enter
from portward.service.errors import FirewallGroupPortInUse, FirewallGroupPortInvalid, PortNotFound
from portward.service.rows import batches, may_see, select_in
from portward.store.tables import FirewallGroup, GroupPort, Port


def ports_of(session: Session, group_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The ports of each of the groups that covers any, as the user ordered them; one statement."""
    ports: dict[str, list[str]] = {}
    query = select(GroupPort.group_id, GroupPort.port_id).order_by(GroupPort.position)
    for group_id, port_id in select_in(session, query, GroupPort.group_id, group_ids):
        ports.setdefault(group_id, []).append(port_id)
    return {group_id: tuple(port_ids) for group_id, port_ids in ports.items()}


def replace_ports(
    session: Session, context: Context, group: FirewallGroup, old: Sequence[str], new: Sequence[str]
) -> tuple[str, ...]:
    """Let the group, which covers ``old``, cover ``new`` instead; returns what it covers then.

    That is more than ``new`` where VM ports would leave their own project's default group. Other groups that gain or
    lose ports are marked as changed, this one is left to the caller.

    Raises:
        PortNotFound: one of the new ports is not there, or the caller does not see it.
        FirewallGroupPortInvalid: one is neither a router's nor a VM's.
        FirewallGroupPortInUse: another group, that is no default, covers some.
    """
    entering = [port_id for port_id in new if port_id not in set(old)]
    leaving = [port_id for port_id in old if port_id not in set(new)]
    ports = _facts(session, [*entering, *leaving])
    _check(context, entering, ports)
    returning = {id_: ports[id_].project_id for id_ in leaving if port_kind(ports[id_].device_owner) is PortKind.VM}
    if not context.default_group.enabled:
        returning = {}
    staying = [port_id for port_id, project_id in returning.items() if project_id == group.default_of]
    final = (*new, *staying)
    if final == tuple(old):
        return final
    moving = [port_id for port_id in entering if ports[port_id].group_id is not None]
    for batch in [*batches(moving)] or [[]]:
        session.execute(delete(GroupPort).where(or_(GroupPort.group_id == group.id, GroupPort.port_id.in_(batch))))
    if final:
        members = [{"group_id": group.id, "port_id": id_, "position": place} for place, id_ in enumerate(final)]
        session.execute(insert(GroupPort), members)
    home = {port_id: project_id for port_id, project_id in returning.items() if port_id not in set(staying)}
    ports_moved(session, context, {ports[port_id].group_id for port_id in moving} | enter(session, context, home))
    return final


def groups_of(session: Session, port_id: str) -> Collection[str]:
    """The groups that cover the port."""
    return session.scalars(select(GroupPort.group_id).where(GroupPort.port_id == port_id)).all()


def leave_groups(session: Session, context: Context, port_id: str, group_ids: Collection[str]) -> None:
    """Take the port out of these groups, which cover it, and leave it without any."""
    if group_ids:
        session.execute(delete(GroupPort).where(GroupPort.port_id == port_id))
        ports_moved(session, context, group_ids)


def enter_default(session: Session, context: Context, port: Port) -> None:
    """Put the port, which no group covers, into its project's default group if it is a VM's."""
    if port_kind(port.device_owner) is PortKind.VM:
        ports_moved(session, context, enter(session, context, {port.id: port.project_id}))


def adopt(session: Session, context: Context) -> None:
    """Put every VM port that no group covers into its project's default group.

    Such ports are from a time without default groups: an earlier release, or the operator's wish.
    """
    uncovered = select(Port.id, Port.project_id, Port.device_owner).where(~exists().where(GroupPort.port_id == Port.id))
    ports = session.execute(uncovered.order_by(Port.id)).all()
    found = {port.id: port.project_id for port in ports if port_kind(port.device_owner) is PortKind.VM}
    ports_moved(session, context, enter(session, context, found))


def _facts(session: Session, port_ids: Sequence[str]) -> dict[str, Any]:
    """What decides whether each of the ports, if it is there, may enter a group, and where it goes."""
    query = (
        select(Port.id, Port.project_id, Port.device_owner, GroupPort.group_id, FirewallGroup.default_of)
        .outerjoin(GroupPort, GroupPort.port_id == Port.id)
        .outerjoin(FirewallGroup, FirewallGroup.id == GroupPort.group_id)
    )
    return {row.id: row for row in select_in(session, query, Port.id, port_ids)}


def _check(context: Context, entering: Sequence[str], ports: dict[str, Any]) -> None:
    for port_id in entering:
        port = ports.get(port_id)
        if port is None or not may_see(context, port.project_id, shared=False):
            raise PortNotFound(port_id)
    for port_id in entering:
        if port_kind(ports[port_id].device_owner) is None:
            raise FirewallGroupPortInvalid(port_id)
    taken = [id_ for id_ in entering if ports[id_].group_id is not None and ports[id_].default_of is None]
    if taken:
        raise FirewallGroupPortInUse(taken)
