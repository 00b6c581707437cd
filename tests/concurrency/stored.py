"""What must hold of the rows at any time, whatever the API tells of them."""

from typing import Any

from sqlalchemy import Select, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from portward.model import PortKind, port_kind
from portward.store.tables import (
    Base,
    FirewallGroup,
    FirewallPolicy,
    FirewallRule,
    GroupPort,
    Host,
    PolicyRule,
    Port,
    PortError,
    ResourceTag,
    State,
)

_RESOURCES = (FirewallRule, FirewallPolicy, FirewallGroup, Port)


def forget(session: Session) -> None:
    """Delete all that users made; the generation, and which hosts there are, stay."""
    for table in reversed(Base.metadata.sorted_tables):
        if table not in (State.__table__, Host.__table__):
            session.execute(delete(table))


def check_rows(session: Session) -> None:
    """Make sure that no row refers to what is gone, that no place is taken twice, and that ports have one group."""
    refers = [
        (PolicyRule, PolicyRule.policy_id, FirewallPolicy.id),
        (PolicyRule, PolicyRule.rule_id, FirewallRule.id),
        (GroupPort, GroupPort.group_id, FirewallGroup.id),
        (GroupPort, GroupPort.port_id, Port.id),
        (PortError, PortError.port_id, Port.id),
        (PortError, PortError.host, Host.name),
    ]
    for table, column, target in refers:
        assert _count(session, select(table).where(~exists().where(target == column))) == 0, f"orphans: {column}"
    bearers = [exists().where(table.id == ResourceTag.resource_id) for table in _RESOURCES]
    assert _count(session, select(ResourceTag).where(~or_(*bearers))) == 0, "tags of what is gone"
    for table, owner in ((PolicyRule, PolicyRule.policy_id), (GroupPort, GroupPort.group_id)):
        twice = select(owner).group_by(owner, table.position).having(func.count() > 1)
        assert _count(session, twice) == 0, f"places taken twice: {owner}"
    groups: dict[str, int] = dict.fromkeys(session.scalars(select(Port.id)), 0)
    for port_id in session.scalars(select(GroupPort.port_id)):
        groups[port_id] += 1
    for port in session.scalars(select(Port)):
        kind = port_kind(port.device_owner)
        allowed = {PortKind.VM: {1}, None: {0}}.get(kind, {0, 1})
        assert groups[port.id] in allowed, f"{port.device_owner} {port.id} is in {groups[port.id]} groups"


def _count(session: Session, query: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(query.subquery())) or 0
