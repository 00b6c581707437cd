"""The inventory of ports, in Neutron's shape: what firewall groups may cover, and where it is realised.

A VM's port is in a group from the transaction that makes it one; a port that stops being a VM's, or a router's, or
is deleted leaves its groups in the same transaction. Names of devices and namespaces that a host would have to touch
are judged here, before they are stored.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy.orm import Session

from portward.model import Binding, InvalidValue, PortKind, check_namespace_name, port_kind
from portward.service.address_sets import follow_ports
from portward.service.changes import groups_changed
from portward.service.context import Context
from portward.service.errors import InvalidInput, PortNotFound
from portward.service.membership import leave_all, settle
from portward.service.rows import ALL, Page, add, assign, delete_rows, find, listed, touch
from portward.service.tags import tags_of
from portward.store import raise_generation
from portward.store.tables import Port

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
    tags: tuple[str, ...] = ()


def create_port(session: Session, context: Context, values: PortValues) -> PortView:
    """Register a port; a VM's enters its project's default group, and any port the groups whose scope it is in.

    Raises:
        InvalidInput: it names a device or namespace that cannot be.
    """
    row = add(session, context, Port, values)
    _check_binding(row)
    settle(session, context, row, None)
    _tell_switch(session, row)
    return PortView(row=row)


def find_port(session: Session, context: Context, port_id: str) -> Port:
    """The port as it is stored.

    Raises:
        PortNotFound: there is none that the caller sees.
    """
    return find(session, context, Port, port_id, PortNotFound)


def get_port(session: Session, context: Context, port_id: str) -> PortView:
    """The port.

    Raises:
        PortNotFound: there is none that the caller sees.
    """
    return _view(session, find_port(session, context, port_id))


def list_ports(session: Session, context: Context, page: Page = ALL) -> list[PortView]:
    """The ports on the page; two statements."""
    rows = listed(session, context, Port, page)
    tags = tags_of(session, [row.id for row in rows])
    return [PortView(row=row, tags=tags.get(row.id, ())) for row in rows]


def update_port(session: Session, context: Context, port_id: str, values: PortValues) -> PortView:
    """Change the port; its groups, if it has any, are realised anew where that matters.

    Raises:
        PortNotFound: there is none that the caller sees.
        InvalidInput: it would name a device or namespace that cannot be.
    """
    row = find_port(session, context, port_id)
    was = port_kind(row.device_owner)
    changed = assign(row, values)
    if not changed:
        return _view(session, row)
    _check_binding(row)
    touch(row, context)
    session.flush()
    staying, kind = settle(session, context, row, was), port_kind(row.device_owner)
    if staying and changed & _REALISED:
        groups_changed(session, context, staying)
        follow_ports(session, context, staying)
    if (changed & _REALISED and PortKind.VM in (was, kind)) or changed & {"host", "device_owner"}:
        _tell_switch(session, row)
    return _view(session, row)


def delete_port(session: Session, context: Context, port_id: str) -> None:
    """Forget the port; it leaves its groups.

    Raises:
        PortNotFound: there is none that the caller sees.
    """
    row = find_port(session, context, port_id)
    leave_all(session, context, row.id)
    _tell_switch(session, row)
    delete_rows(session, Port, [row.id])


def _tell_switch(session: Session, row: Port) -> None:
    """Have a host that must know the port, in a group or not, learn that it came, went or changed."""
    is_vm = port_kind(row.device_owner) is PortKind.VM
    if row.host and (is_vm or row.device_owner.startswith("network:")):
        raise_generation(session)


def _view(session: Session, row: Port) -> PortView:
    return PortView(row=row, tags=tags_of(session, [row.id]).get(row.id, ()))


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
