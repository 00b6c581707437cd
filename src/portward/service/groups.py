"""Firewall groups: which policies decide for which ports.

A port is covered by one group at most. A group without ports concerns no host, so its changes raise nothing; its
bit ``realised_once`` starts anew when its last port leaves.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Select, delete, insert, select
from sqlalchemy.orm import Session

from portward.model import port_kind
from portward.service.changes import groups_changed
from portward.service.context import Context
from portward.service.errors import (
    FirewallGroupInUse,
    FirewallGroupNotFound,
    FirewallGroupPortInUse,
    FirewallGroupPortInvalid,
    FirewallPolicyNotFound,
    PortNotFound,
)
from portward.service.rows import Where, add, assign, find, first_missing, select_in, touch
from portward.service.status import Realisation, Status, group_statuses, realisation
from portward.store.tables import FirewallGroup, FirewallPolicy, GroupPort, Port

#: What decides packets, beside the ports.
_DECIDING = frozenset({"admin_state_up", "ingress_firewall_policy_id", "egress_firewall_policy_id"})


class GroupValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new group, or changes of one; what is ``UNSET`` takes its default, or stays."""

    project_id: str | UnsetType = UNSET  # of a new group only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    ingress_firewall_policy_id: str | UnsetType | None = UNSET
    egress_firewall_policy_id: str | UnsetType | None = UNSET
    ports: tuple[str, ...] | UnsetType = UNSET  # ids of ports, none twice


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group, its ports as the user ordered them, and how far the hosts are."""

    row: FirewallGroup
    port_ids: tuple[str, ...]
    status: Status


def create_group(session: Session, context: Context, values: GroupValues) -> GroupView:
    """Make a group.

    Raises:
        FirewallPolicyNotFound, PortNotFound: what it names is not there.
        FirewallGroupPortInvalid, FirewallGroupPortInUse: a port that it may not have.
    """
    port_ids = values.ports if values.ports is not UNSET else ()
    _check_policies(session, values)
    _check_ports(session, port_ids, None)
    row = add(session, context, FirewallGroup, values)
    _store_ports(session, row.id, port_ids)
    if port_ids:
        groups_changed(session, context, [row.id])
    return _view(session, context, row, port_ids)


def get_group(session: Session, context: Context, group_id: str) -> GroupView:
    """The group.

    Raises:
        FirewallGroupNotFound: there is none.
    """
    row = find(session, FirewallGroup, group_id, FirewallGroupNotFound)
    return _view(session, context, row, _ports_of(session, row))


def list_groups(session: Session, context: Context, where: Where = ()) -> list[GroupView]:
    """The groups that meet ``where``, by id; three statements."""
    rows = session.scalars(select(FirewallGroup).where(*where).order_by(FirewallGroup.id)).all()
    ports = _port_ids(session, select(FirewallGroup.id).where(*where))
    status = group_statuses(session, [row.id for row in rows], context.now)
    return [GroupView(row=row, port_ids=tuple(ports.get(row.id, ())), status=status[row.id]) for row in rows]


def update_group(session: Session, context: Context, group_id: str, values: GroupValues) -> GroupView:
    """Change the group, at any time and whatever its status; what the hosts have not yet done is superseded.

    Raises:
        FirewallGroupNotFound: there is none.
        FirewallPolicyNotFound, PortNotFound: what it names is not there.
        FirewallGroupPortInvalid, FirewallGroupPortInUse: a port that it may not have.
    """
    row = find(session, FirewallGroup, group_id, FirewallGroupNotFound)
    old = _ports_of(session, row)
    new = values.ports if values.ports is not UNSET else old
    _check_policies(session, values)
    covered = set(old)
    _check_ports(session, [port_id for port_id in new if port_id not in covered], row.id)
    changed = assign(row, values)
    if new != old:
        changed.add("ports")
        session.execute(delete(GroupPort).where(GroupPort.group_id == row.id))
        _store_ports(session, row.id, new)
        if not new:
            row.realised_once = False
    if changed:
        touch(row, context)
        session.flush()
    if (changed & _DECIDING and new) or set(new) != covered:
        groups_changed(session, context, [row.id])
    return _view(session, context, row, new)


def delete_group(session: Session, _context: Context, group_id: str) -> None:
    """Delete the group.

    Raises:
        FirewallGroupNotFound: there is none.
        FirewallGroupInUse: it covers ports.
    """
    row = find(session, FirewallGroup, group_id, FirewallGroupNotFound)
    if session.scalar(select(GroupPort.port_id).where(GroupPort.group_id == row.id).limit(1)):
        raise FirewallGroupInUse(group_id)
    session.execute(delete(FirewallGroup).where(FirewallGroup.id == row.id))


def group_realisation(session: Session, context: Context, group_id: str) -> Realisation:
    """Who has realised the group and who has not, and why.

    Raises:
        FirewallGroupNotFound: there is none.
    """
    return realisation(session, find(session, FirewallGroup, group_id, FirewallGroupNotFound).id, context.now)


def with_ports(port_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on groups: to cover one of these ports."""
    return FirewallGroup.id.in_(select(GroupPort.group_id).where(GroupPort.port_id.in_(port_ids)))


def _view(session: Session, context: Context, row: FirewallGroup, port_ids: tuple[str, ...]) -> GroupView:
    status = group_statuses(session, [row.id], context.now)[row.id]
    return GroupView(row=row, port_ids=port_ids, status=status)


def _ports_of(session: Session, row: FirewallGroup) -> tuple[str, ...]:
    return tuple(_port_ids(session, select(FirewallGroup.id).where(FirewallGroup.id == row.id)).get(row.id, ()))


def _port_ids(session: Session, group_ids: Select[str]) -> dict[str, list[str]]:
    ports: dict[str, list[str]] = {}
    query = select(GroupPort.group_id, GroupPort.port_id).where(GroupPort.group_id.in_(group_ids))
    for group_id, port_id in session.execute(query.order_by(GroupPort.position)):
        ports.setdefault(group_id, []).append(port_id)
    return ports


def _check_policies(session: Session, values: GroupValues) -> None:
    for policy_id in (values.ingress_firewall_policy_id, values.egress_firewall_policy_id):
        if policy_id is not UNSET and policy_id is not None:
            find(session, FirewallPolicy, policy_id, FirewallPolicyNotFound)


def _check_ports(session: Session, port_ids: Sequence[str], group_id: str | None) -> None:
    """Refuse new ports that group ``group_id`` (``None``: one not made yet) may not cover."""
    owners = {row.id: row.device_owner for row in select_in(session, (Port.id, Port.device_owner), Port.id, port_ids)}
    missing = first_missing(port_ids, owners)
    if missing is not None:
        raise PortNotFound(missing)
    for port_id in port_ids:
        if port_kind(owners[port_id]) is None:
            raise FirewallGroupPortInvalid(port_id)
    covered = select_in(session, (GroupPort.port_id, GroupPort.group_id), GroupPort.port_id, port_ids)
    taken = {row.port_id for row in covered if row.group_id != group_id}
    if taken:
        raise FirewallGroupPortInUse([port_id for port_id in port_ids if port_id in taken])


def _store_ports(session: Session, group_id: str, port_ids: Sequence[str]) -> None:
    if port_ids:
        session.execute(
            insert(GroupPort),
            [
                {"group_id": group_id, "port_id": port_id, "position": position}
                for position, port_id in enumerate(port_ids)
            ],
        )
