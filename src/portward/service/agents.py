"""Hosts, their agents' tokens, and what the agents say.

A token has 256 random bits, is shown once and stored as SHA-256 only. A host reads its own state and reports about
its own ports; a report about a port that is bound elsewhere is refused. Reports take no lock of the service: they
write rows of their own host only. All times are UTC without a zone, as the database keeps them.
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
import structlog
from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.orm import Session

from portward.model import PortwardError, Report
from portward.service.rows import select_in
from portward.service.status import note_realised
from portward.store import tables

#: A host whose agent has not asked for this long is called silent.
SILENCE = timedelta(seconds=75)
_MAX_REASON = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}")
_log = structlog.get_logger()


class InvalidHostName(PortwardError):
    """A name that no ``binding:host_id`` should have."""


class HostExists(PortwardError):
    """The host has a token that works."""


class UnknownHost(PortwardError):
    """There is no host of this name."""


class InvalidToken(PortwardError):
    """The token belongs to no host, or was revoked."""


class ForeignPorts(PortwardError):
    """A host reported about ports that are bound to another."""


class HostInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A host as its operator sees it."""

    name: str
    created_at: datetime
    revoked_at: datetime | None
    last_poll_at: datetime | None
    realised_generation: int  # of the last report
    silent: bool  # its agent has not asked for 75 s, or never


def add_host(session: Session, name: str, now: datetime) -> str:
    """Register host ``name`` (as in ``binding:host_id``) and return its agent's token, which nobody can read again.

    A revoked host gets a new token.

    Raises:
        InvalidHostName: not 1 to 255 of ``A-Z a-z 0-9 _ . : -``, beginning with a letter or digit.
        HostExists: it has a token; revoke that first.
    """
    host = session.get(tables.Host, name)
    if host is not None and host.revoked_at is None:
        raise HostExists(f"host {name} has a token; to replace it, first run `portward host revoke {name}`")
    return renew_token(session, name, now)


def renew_token(session: Session, name: str, now: datetime) -> str:
    """A new token for host ``name``, registered if need be; the one it had is worthless from now on.

    Raises:
        InvalidHostName: as for ``add_host``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidHostName(f"{name[:64]!r} is no host name: give 1 to 255 of A-Z a-z 0-9 _ . : -")
    token = secrets.token_urlsafe(32)
    host = session.get(tables.Host, name)
    if host is None:
        session.add(tables.Host(name=name, token_hash=_hash(token), created_at=now, realised_generation=0))
    else:
        host.token_hash, host.created_at, host.revoked_at = _hash(token), now, None
    session.flush()
    return token


def revoke(session: Session, name: str, now: datetime) -> None:
    """Make the token of host ``name`` worthless from now on. What the host enforces stays enforced.

    Raises:
        UnknownHost: there is none of this name.
    """
    host = session.get(tables.Host, name)
    if host is None:
        raise UnknownHost(f"host {name} is not registered; see `portward host list`")
    host.revoked_at = host.revoked_at or now
    session.flush()


def list_hosts(session: Session, now: datetime) -> tuple[HostInfo, ...]:
    """All hosts, the revoked ones too, by name."""
    return tuple(
        HostInfo(
            name=host.name,
            created_at=host.created_at,
            revoked_at=host.revoked_at,
            last_poll_at=host.last_poll_at,
            realised_generation=host.realised_generation,
            silent=host.last_poll_at is None or now - host.last_poll_at > SILENCE,
        )
        for host in session.scalars(select(tables.Host).order_by(tables.Host.name))
    )


def authenticate(session: Session, token: str) -> str:
    """The name of the host whose token this is.

    Raises:
        InvalidToken: no host's, or revoked.
    """
    name = session.scalar(
        select(tables.Host.name).where(tables.Host.token_hash == _hash(token), tables.Host.revoked_at.is_(None))
    )
    if name is None:
        raise InvalidToken("the token is unknown or revoked; `portward host add NAME` prints a new one")
    return name


def record_poll(session: Session, host: str, now: datetime) -> None:
    """Note that the agent of ``host`` asked for its state at ``now``."""
    session.execute(update(tables.Host).where(tables.Host.name == host).values(last_poll_at=now))


def record_report(session: Session, host: str, report: Report) -> None:
    """Store what ``host`` says became of ``report.generation``, in place of all that it said before.

    Passed over in silence are ports that are gone or no longer bound; a report below the one stored, which can only
    be late, because a host never goes back. Passed over and logged is one above the database's own generation: the
    database was restored from a backup, and the agent gets everything anew when it asks next.

    Raises:
        ForeignPorts: a port is bound to another host; nothing is stored.
    """
    own = set(session.scalars(select(tables.Port.id).where(tables.Port.host == host)))
    _refuse_foreign(session, host, {port.port_id for port in report.ports} - own)
    generation = session.scalar(select(tables.State.generation)) or 0
    if report.generation > generation:
        _log.warning("report_from_the_future", host=host, reported=report.generation, generation=generation)
        return
    updated = session.execute(
        update(tables.Host)
        .where(tables.Host.name == host, tables.Host.realised_generation <= report.generation)
        .values(realised_generation=report.generation)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[*tuple[Any, ...]]", updated).rowcount == 0:
        return
    errors = {port.port_id: _clean(port.error) for port in report.ports if port.error is not None}
    session.execute(delete(tables.PortError).where(tables.PortError.host == host))
    if kept := _keep_ports(session, host, errors):
        session.execute(
            insert(tables.PortError),
            [
                {"host": host, "port_id": port_id, "generation": report.generation, "reason": errors[port_id]}
                for port_id in kept
            ],
        )
    note_realised(session, host)


def _refuse_foreign(session: Session, host: str, not_own: Collection[str]) -> None:
    bound = select(tables.Port.id).where(tables.Port.host != "")
    foreign = [port_id for (port_id,) in select_in(session, bound, tables.Port.id, sorted(not_own))]
    if foreign:
        raise ForeignPorts(f"host {host} reported about ports of other hosts: {', '.join(foreign[:5])}")


def _keep_ports(session: Session, host: str, port_ids: Collection[str]) -> list[str]:
    """Those of the ports that are bound to ``host``; until this transaction ends, nobody can delete them.

    Without that, a port deleted since it was looked up would leave its error behind, which the database refuses.
    """
    locked = select(tables.Port.id).where(tables.Port.host == host).order_by(tables.Port.id)
    locked = locked.with_for_update(read=True, key_share=True)
    return [port_id for (port_id,) in select_in(session, locked, tables.Port.id, sorted(port_ids))]


def _clean(reason: str) -> str:
    return reason.replace("\0", "")[:_MAX_REASON]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
