"""How far the hosts are with what each firewall group asks for.

A status is computed when it is read, from the group's ``generation`` and what the hosts last reported; only the bit
``realised_once`` is stored. Nothing here changes ``revision_number`` or ``updated_at``: a report is no edit. All
times are UTC without a zone, as the database keeps them.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, or_, select, update
from sqlalchemy.orm import Session

from portward.model import PortwardError
from portward.service.rows import select_in
from portward.store import tables

#: How long the hosts have to realise a change before its group is in ERROR.
DEADLINE = timedelta(seconds=60)
#: What a port's owner reads once it has passed; why the host is silent is for an admin to see.
_LATE = f"its host has not realised the last change within {DEADLINE.seconds} seconds; ask an admin about the host"

_group, _member, _port = tables.FirewallGroup, tables.GroupPort, tables.Port
_host, _error = tables.Host, tables.PortError
#: The host reported this error about this state of the group or a later one.
_failed = and_(_error.port_id.is_not(None), _error.generation >= _group.generation)
#: A port bound on no host has nobody who could realise it; one on an unknown host waits for it.
_waits = and_(_port.host != "", or_(_host.name.is_(None), _host.realised_generation < _group.generation))


class Status(StrEnum):
    """Status of a group. The first in this order that holds is the group's."""

    INACTIVE = "INACTIVE"  # it covers no port
    ERROR = "ERROR"  # a host reported an error for a port at its generation, or missed the deadline
    PENDING_CREATE = "PENDING_CREATE"  # since it last covered none, its bound ports have not all been realised
    PENDING_UPDATE = "PENDING_UPDATE"  # they have been, but one is not yet at its generation
    DOWN = "DOWN"  # realised, and ``admin_state_up`` is false
    ACTIVE = "ACTIVE"


class UnknownGroup(PortwardError):
    """There is no firewall group with this id."""


class PortRealisation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one port of a group. ``generation`` is what its host last reported, ``None``: nothing yet."""

    port_id: str
    host: str | None  # "": bound nowhere; ``None``: not for this reader
    generation: int | None
    realised: bool
    error: str | None


class Realisation(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a group, and port by port why; ports in the order in which the user named them."""

    status: Status
    ports: tuple[PortRealisation, ...]


def status_of(now: datetime) -> ColumnElement[str]:
    """The status of a group at ``now``, to select, order or compare by in a query of groups."""
    return case(
        (~_covers(), Status.INACTIVE.value),
        (or_(_covers(_failed), and_(_late(now), _covers(_waits))), Status.ERROR.value),
        (and_(_covers(_waits), _group.realised_once), Status.PENDING_UPDATE.value),
        (_covers(_waits), Status.PENDING_CREATE.value),
        (_group.admin_state_up, Status.ACTIVE.value),
        else_=Status.DOWN.value,
    )


def _late(now: datetime) -> ColumnElement[bool]:
    return _group.changed_at < now - DEADLINE


def with_status(statuses: Collection[str], now: datetime) -> ColumnElement[bool]:
    """Condition on groups: to have one of these statuses at ``now``."""
    return status_of(now).in_(statuses)


def group_statuses(session: Session, group_ids: Collection[str], now: datetime) -> dict[str, Status]:
    """The status of each of these groups, in one statement for each 10,000. Unknown ids are left out."""
    query = select(_group.id, status_of(now).label("status"))
    return {row.id: Status(row.status) for row in select_in(session, query, _group.id, group_ids)}


def realisation(session: Session, group_id: str, now: datetime) -> Realisation:
    """Who has realised the group and who has not, and why, in two statements.

    Raises:
        UnknownGroup: there is none with this id.
    """
    statuses = group_statuses(session, [group_id], now)
    if group_id not in statuses:
        raise UnknownGroup(f"firewall group {group_id} is not there")
    rows = session.execute(
        _joined(
            select(
                _port.id,
                _port.host,
                _host.realised_generation,
                case((_failed, _error.reason), (and_(_waits, _late(now)), _LATE)).label("error"),
                _waits.label("waits"),
            )
            .select_from(_group)
            .join(_member, _member.group_id == _group.id)
        )
        .where(_group.id == group_id)
        .order_by(_member.position, _member.port_id)
    )
    return Realisation(
        status=statuses[group_id],
        ports=tuple(
            PortRealisation(
                port_id=row.id,
                host=row.host,
                generation=row.realised_generation,
                realised=not row.waits and row.error is None,
                error=row.error,
            )
            for row in rows
        ),
    )


def note_realised(session: Session, host: str) -> None:
    """Set ``realised_once`` of the groups with ports on ``host`` whose bound ports are by now all realised.

    A group that changes at the same time is left alone: its generation is no longer the one that was judged. Hosts
    that report at the same time judge one after the other, or each would see the other one waiting.
    """
    here = select(_member.group_id).join(_port, _port.id == _member.port_id).where(_port.host == host)
    waiting = (_group.realised_once.is_(False), _group.id.in_(here))
    session.execute(select(_group.id).where(*waiting).order_by(_group.id).with_for_update(of=_group)).all()
    candidates = select(_group.id, _group.generation).where(*waiting, ~_covers(or_(_failed, _waits)))
    for row in session.execute(candidates).all():
        session.execute(
            update(_group)
            .where(_group.id == row.id, _group.generation == row.generation)
            .values(realised_once=True)
            .execution_options(synchronize_session=False)
        )


def _joined(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Ports of groups to their hosts, if these are known, and what those said of them."""
    return (
        query.join(_port, _port.id == _member.port_id)
        .outerjoin(_host, _host.name == _port.host)
        .outerjoin(_error, and_(_error.host == _port.host, _error.port_id == _port.id))
    )


def _covers(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the group of the query around it covers a port of which these hold."""
    ports = select(_member.port_id).select_from(_member)
    found = (_joined(ports) if conditions else ports).where(_member.group_id == _group.id, *conditions)
    return found.correlate(_group).exists()
