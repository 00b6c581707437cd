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
from sqlalchemy import Row, Select, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from portward.model import PortwardError
from portward.store import tables

#: How long the hosts have to realise a change before its group is in ERROR.
DEADLINE = timedelta(seconds=60)

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
    host: str  # "": bound nowhere
    generation: int | None
    realised: bool
    error: str | None


class Realisation(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a group, and port by port why; ports in the order in which the user named them."""

    status: Status
    ports: tuple[PortRealisation, ...]


def group_statuses(session: Session, group_ids: Collection[str], now: datetime) -> dict[str, Status]:
    """The status of each of these groups, in one statement. Unknown ids are left out."""
    return {row.id: _status(row, now) for row in session.execute(_progress().where(_group.id.in_(group_ids)))}


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
                case((_failed, _error.reason)).label("error"),
                _waits.label("waits"),
            ).select_from(_group)
        )
        .where(_group.id == group_id, _port.id.is_not(None))
        .order_by(_member.position)
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

    A group that changes at the same time is left alone: its generation is no longer the one that was judged.
    """
    here = select(_member.group_id).join(_port, _port.id == _member.port_id).where(_port.host == host)
    candidates = _progress().where(_group.realised_once.is_(False), _group.id.in_(here))
    for row in session.execute(candidates).all():
        if not row.failed and not row.waiting:
            session.execute(
                update(_group)
                .where(_group.id == row.id, _group.generation == row.generation)
                .values(realised_once=True)
                .execution_options(synchronize_session=False)
            )


def _joined(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return (
        query.outerjoin(_member, _member.group_id == _group.id)
        .outerjoin(_port, _port.id == _member.port_id)
        .outerjoin(_host, _host.name == _port.host)
        .outerjoin(_error, and_(_error.host == _port.host, _error.port_id == _port.id))
    )


def _progress() -> Select[*tuple[Any, ...]]:
    """One row a group: how many ports it covers, and how many of them failed or wait."""
    facts = (_group.id, _group.generation, _group.changed_at, _group.admin_state_up, _group.realised_once)
    return _joined(
        select(
            *facts,
            func.count(_port.id).label("covered"),
            func.coalesce(func.sum(case((_failed, 1), else_=0)), 0).label("failed"),
            func.coalesce(func.sum(case((_waits, 1), else_=0)), 0).label("waiting"),
        ).select_from(_group)
    ).group_by(*facts)


def _status(row: Row[*tuple[Any, ...]], now: datetime) -> Status:
    if not row.covered:
        return Status.INACTIVE
    if row.failed or (row.waiting and now - row.changed_at > DEADLINE):
        return Status.ERROR
    if row.waiting:
        return Status.PENDING_UPDATE if row.realised_once else Status.PENDING_CREATE
    return Status.ACTIVE if row.admin_state_up else Status.DOWN
