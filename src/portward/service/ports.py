"""The inventory of ports, in Neutron's shape: what firewall groups may cover, and where it is realised.

A port that stops being a router's or a VM's, or is deleted, leaves its groups in the same transaction. Names of
devices and namespaces that a host would have to touch are judged here, before they are stored.
"""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from portward.model import Binding, InvalidValue, PortKind, check_namespace_name, port_kind
from portward.service.changes import groups_changed
from portward.service.context import Context
from portward.service.errors import InvalidInput, PortNotFound
from portward.service.rows import Where, add, assign, find, touch
from portward.store.tables import FirewallGroup, GroupPort, Port

#: What a host that enforces the port must know.
_REALISED = frozenset(
    {
        "host",
        "device_id",
        "device_owner",
        "binding_profile",
        "mac_address",
        "fixed_ips",
        "allowed_address_pairs",
        "port_security_enabled",
    }
)


class PortValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new port, or changes of one; what is ``UNSET`` takes its default, or stays.

    ``fixed_ips``, ``allowed_address_pairs`` and ``binding_profile`` are JSON as Neutron has it, addresses valid.
    """

    project_id: str | UnsetType = UNSET  # of a new port only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    network_id: str | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    fixed_ips: list[dict[str, Any]] | UnsetType = UNSET
    device_owner: str | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    binding_profile: dict[str, Any] | UnsetType = UNSET
    allowed_address_pairs: list[dict[str, Any]] | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET


class PortView(msgspec.Struct, frozen=True, kw_only=True):
    """A port."""

    row: Port


def create_port(session: Session, context: Context, values: PortValues) -> PortView:
    """Register a port; it is in no group yet.

    Raises:
        InvalidInput: it names a device or namespace that cannot be.
    """
    row = add(session, context, Port, values)
    _check_binding(row)
    return PortView(row=row)


def get_port(session: Session, _context: Context, port_id: str) -> PortView:
    """The port.

    Raises:
        PortNotFound: there is none.
    """
    return PortView(row=find(session, Port, port_id, PortNotFound))


def list_ports(session: Session, _context: Context, where: Where = ()) -> list[PortView]:
    """The ports that meet ``where``, by id."""
    return [PortView(row=row) for row in session.scalars(select(Port).where(*where).order_by(Port.id))]


def update_port(session: Session, context: Context, port_id: str, values: PortValues) -> PortView:
    """Change the port; its groups, if it has any, are realised anew where that matters.

    Raises:
        PortNotFound: there is none.
        InvalidInput: it would name a device or namespace that cannot be.
    """
    row = find(session, Port, port_id, PortNotFound)
    changed = assign(row, values)
    if not changed:
        return PortView(row=row)
    _check_binding(row)
    touch(row, context)
    session.flush()
    if port_kind(row.device_owner) is None:
        _leave_groups(session, context, row.id)
    elif changed & _REALISED:
        group_ids = _groups_of(session, row.id)
        if group_ids:
            groups_changed(session, context, group_ids)
    return PortView(row=row)


def delete_port(session: Session, context: Context, port_id: str) -> None:
    """Forget the port; it leaves its groups.

    Raises:
        PortNotFound: there is none.
    """
    row = find(session, Port, port_id, PortNotFound)
    _leave_groups(session, context, row.id)
    session.execute(delete(Port).where(Port.id == row.id))


def _groups_of(session: Session, port_id: str) -> Collection[str]:
    return session.scalars(select(GroupPort.group_id).where(GroupPort.port_id == port_id)).all()


def _leave_groups(session: Session, context: Context, port_id: str) -> None:
    group_ids = _groups_of(session, port_id)
    if not group_ids:
        return
    session.execute(delete(GroupPort).where(GroupPort.port_id == port_id))
    left = update(FirewallGroup).where(FirewallGroup.id.in_(group_ids))
    session.execute(left.values(revision_number=FirewallGroup.revision_number + 1, updated_at=context.now))
    empty = ~exists().where(GroupPort.group_id == FirewallGroup.id)
    session.execute(left.where(empty).values(realised_once=False), execution_options={"synchronize_session": False})
    groups_changed(session, context, group_ids)


def _check_binding(row: Port) -> None:
    """Refuse names that no Linux device or namespace has; they would end in nft text or in a path."""
    profile = row.binding_profile
    try:
        if "device" in profile or "netns" in profile:
            _profile_binding(profile)
        elif port_kind(row.device_owner) in (PortKind.ROUTER, PortKind.DISTRIBUTED_ROUTER):
            check_namespace_name(f"qrouter-{row.device_id}")
    except InvalidValue as error:
        raise InvalidInput(error) from error


def _profile_binding(profile: dict[str, Any]) -> Binding:
    device, netns = profile.get("device"), profile.get("netns")
    if not isinstance(device, str) or not isinstance(netns, str | None):
        raise InvalidValue("binding:profile: device and netns are strings, and netns needs a device")
    return Binding(netns=netns, device=device)
