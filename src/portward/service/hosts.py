"""From the database to the values of the model: what one host must enforce.

Text as the user wrote it becomes canonical here and in ``policy_values``, nowhere else. Every function reads with a
constant number of SQL statements, however many ports and groups there are; call them in one snapshot when their
answers must agree. Refused here: judging. Who may see or change what, and whether a change is admissible, is decided
before it is stored; a stored value that the model does not admit is an error of the whole answer, because half a
state must not be enforced. The one exception is a device name that no Linux device can have: that port's binding is
``None``, its host reports it, and the rest of the host is enforced.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from portward.channel.messages import Index
from portward.model import (
    AddressPair,
    Binding,
    CoveredPort,
    Group,
    InvalidValue,
    Port,
    PortKind,
    PortwardError,
    Stratum,
    port_kind,
)
from portward.service.strata import ORDER
from portward.store import tables

#: How the owners of the network's own ports begin: DHCP, routers, gateways.
_NETWORK = "network:"
_Ingress = aliased(tables.FirewallPolicy)
_Egress = aliased(tables.FirewallPolicy)


class NotCoverable(PortwardError):
    """There is no such port, or it is of a kind that no firewall group may hold."""


class Mark(NamedTuple):
    """Differs after a change, if that concerns the host: one that takes a port away, or changes it, or raises a group.

    ``places`` are the ports of the host in groups, ``changed`` is the highest generation of these groups. ``ports`` are
    all of its ports that it must know, ``touched`` is when one of them was last changed.
    """

    places: int
    changed: int
    ports: int
    touched: datetime | None


#: That of a host that must know no port.
NO_MARK = Mark(0, 0, 0, None)


@dataclass(frozen=True, kw_only=True)
class HostIndex:
    """What a host must enforce at ``generation`` of the database.

    ``changed`` is the highest generation of the groups that cover its ports, never above ``generation``. A host that
    is below it owes a report, even where its index is the same as before: a group may have changed on another host,
    or there and back.
    """

    generation: int
    changed: int
    mark: Mark
    index: Index


def host_index(session: Session, host: str) -> HostIndex:
    """The index of ``host``, in two statements.

    Part of it are ports that are in at least one group, and those of virtual machines that are in none: a switch must
    know whom it lets pass unfiltered.

    Raises:
        InvalidValue: the database holds a value that the model does not admit.
    """
    generation = session.scalar(select(tables.State.generation)) or 0
    rows = session.execute(_covered(and_(tables.Port.host == host, _concerns_host()), outer=True)).all()
    policies = {row.ingress_firewall_policy_id: row.ingress_version for row in rows}
    policies |= {row.egress_firewall_policy_id: row.egress_version for row in rows}
    policies.pop(None, None)
    mark = _mark(rows)
    return HostIndex(
        generation=generation,
        changed=min(generation, mark.changed),
        mark=mark,
        index=Index(ports=_covered_ports(rows), policies=policies, admitted=_admitted(rows)),
    )


def marks(session: Session) -> tuple[int, dict[str, Mark]]:
    """The generation, and the mark of every host that has not ``NO_MARK``; two statements, however many there are."""
    generation = session.scalar(select(tables.State.generation)) or 0
    port, member, group = tables.Port, tables.GroupPort, tables.FirewallGroup
    query = (
        select(
            port.host,
            func.count(member.port_id),
            func.coalesce(func.max(group.generation), 0),
            func.count(port.id.distinct()),
            func.max(port.updated_at),
        )
        .outerjoin(member, member.port_id == port.id)
        .outerjoin(group, group.id == member.group_id)
        .where(_concerns_host())
        .group_by(port.host)
    )
    found = session.execute(query)
    return generation, {host: Mark(places, changed, ports, touched) for host, places, changed, ports, touched in found}


def _mark(rows: Collection[Row[*tuple[Any, ...]]]) -> Mark:
    if not rows:
        return NO_MARK
    groups = [row.group_generation for row in rows if row.group_id is not None]
    return Mark(len(groups), max(groups, default=0), len({row.id for row in rows}), max(row.updated_at for row in rows))


def _concerns_host() -> ColumnElement[bool]:
    """Ports that the host they are bound to must know: in a group, a virtual machine's, or the network's own."""
    owner = tables.Port.device_owner
    return or_(
        tables.GroupPort.port_id.is_not(None),
        owner == "trunk:subport",
        *(owner.startswith(prefix) for prefix in ("compute:", "baremetal:", _NETWORK)),
    )


def _admitted(rows: Iterable[Row[*tuple[Any, ...]]]) -> tuple[str, ...]:
    """The network's own ports: a switch lets them pass unfiltered."""
    return tuple(dict.fromkeys(row.id for row in rows if row.device_owner.startswith(_NETWORK)))


def covered_port(session: Session, port_id: str) -> CoveredPort:
    """The port and the groups that cover it, in the order in which they decide; none is a port that none covers.

    Raises:
        NotCoverable: no such port, or its ``device_owner`` makes it neither a router's nor a VM's.
        InvalidValue: the database holds a value that the model does not admit.
    """
    found = _covered_ports(session.execute(_covered(tables.Port.id == port_id, outer=True)).all(), only_covered=False)
    if not found:
        raise NotCoverable(f"port {port_id}: there is no such router port or VM port; see `portward port list`")
    return found[0]


def _covered(which: ColumnElement[bool], *, outer: bool = False) -> Select[*tuple[Any, ...]]:
    """A row for each port and group that covers it, in the order of groups; ``outer``: also for ports in none."""
    port, member, group = tables.Port, tables.GroupPort, tables.FirewallGroup
    return (
        select(
            port.id,
            port.device_owner,
            port.device_id,
            port.binding_profile,
            port.mac_address,
            port.fixed_ips,
            port.allowed_address_pairs,
            port.port_security_enabled,
            port.updated_at,
            group.id.label("group_id"),
            group.stratum,
            group.position,
            group.admin_state_up.label("group_up"),
            group.generation.label("group_generation"),
            group.ingress_firewall_policy_id,
            group.egress_firewall_policy_id,
            _Ingress.version.label("ingress_version"),
            _Egress.version.label("egress_version"),
        )
        .join(member, member.port_id == port.id, isouter=outer)
        .join(group, group.id == member.group_id, isouter=outer)
        .outerjoin(_Ingress, _Ingress.id == group.ingress_firewall_policy_id)
        .outerjoin(_Egress, _Egress.id == group.egress_firewall_policy_id)
        .where(which)
        .order_by(port.id, *ORDER)
    )


def _covered_ports(rows: Iterable[Row[*tuple[Any, ...]]], *, only_covered: bool = True) -> tuple[CoveredPort, ...]:
    ports: dict[str, Port] = {}
    groups: dict[str, Group] = {}
    of_port: dict[str, list[Group]] = {}
    for row in rows:
        kind = port_kind(row.device_owner)
        if kind is None or (only_covered and row.group_id is None and kind is not PortKind.VM):
            continue
        if row.id not in ports:
            ports[row.id] = _port(row, kind)
            of_port[row.id] = []
        if row.group_id is not None:
            if row.group_id not in groups:
                groups[row.group_id] = _group(row)
            of_port[row.id].append(groups[row.group_id])
    return tuple(CoveredPort(port=port, groups=tuple(of_port[port.id])) for port in ports.values())


def _group(row: Row[*tuple[Any, ...]]) -> Group:
    return Group(
        id=row.group_id,
        stratum=Stratum(row.stratum),
        position=row.position,
        admin_state_up=row.group_up,
        ingress_policy_id=row.ingress_firewall_policy_id,
        egress_policy_id=row.egress_firewall_policy_id,
    )


def _port(row: Row[*tuple[Any, ...]], kind: PortKind) -> Port:
    try:
        addresses = tuple(ip_address(fixed["ip_address"]) for fixed in row.fixed_ips)
        pairs = tuple(_pair(pair) for pair in row.allowed_address_pairs)
    except (ValueError, KeyError) as error:
        raise InvalidValue(f"port {row.id}: fixed_ips or allowed_address_pairs in the database: {error}") from error
    return Port(
        id=row.id,
        kind=kind,
        binding=_binding(row, kind),
        mac_address=row.mac_address or None,
        fixed_ips=addresses,
        allowed_address_pairs=pairs,
        port_security_enabled=row.port_security_enabled,
    )


def _pair(pair: dict[str, Any]) -> AddressPair:
    return AddressPair(prefix=ip_network(pair["ip_address"], strict=False), mac=pair.get("mac_address"))


def _binding(row: Row[*tuple[Any, ...]], kind: PortKind) -> Binding | None:
    """What ``binding:profile`` names, else the device that Neutron's L3 agent makes for a router port.

    A virtual machine's port is found on the switch by its id, or by the device that ``binding:profile`` names.
    """
    profile = row.binding_profile
    try:
        if profile.get("device"):
            return Binding(netns=profile.get("netns") or None, device=profile["device"])
        if kind is PortKind.VM:
            return None
        return Binding(netns=f"qrouter-{row.device_id}", device=f"qr-{row.id[:11]}")
    except (InvalidValue, TypeError):
        return None
