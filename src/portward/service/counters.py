"""How often each rule decided, as the hosts say: kept by rule and host, shown by policy.

What a host says is a total since a moment. Another moment means that it had to begin again, and then what it had said
before stays counted; so a sum never goes down while the rule is there. Writing takes no lock of the service: each
host writes rows of its own. Refused, in silence, are rules that the host does not enforce: they may have left it
while the message was under way. All times are UTC without a zone, as the database keeps them.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from portward.channel.messages import MAX_COUNT, Total
from portward.service.rows import select_in
from portward.store.tables import FirewallGroup, FirewallRule, GroupPort, PolicyRule, Port, RuleCounter

_ID = re.compile(r"[0-9a-f-]{36}")


class RuleCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a policy, and how often it decided on all hosts together.

    ``packets`` are connections where it allows. ``last`` is when it was last seen to have decided, to some ten
    seconds, and ``since`` when counting began; both ``None``: no host has counted it yet, or it never decided.
    """

    rule_id: str
    rule_name: str
    project_id: str
    action: str
    packets: int
    bytes: int
    last: datetime | None
    since: datetime | None


def record_counters(session: Session, host: str, totals: Mapping[str, Total]) -> None:
    """Store what ``host`` counted, by rule; those among ``totals`` that it does not enforce are passed over.

    The same totals may come again, and those that come late change nothing.
    """
    enforced = _enforced(session, host, totals)
    query = select(RuleCounter.__table__).where(RuleCounter.host == host)
    known = {row.rule_id: row for row in select_in(session, query, RuleCounter.rule_id, enforced)}
    new, changed = [], []
    for rule_id in sorted(enforced):
        total, row = totals[rule_id], known.get(rule_id)
        values = _added(total, row)
        if row is None:
            new.append({"rule_id": rule_id, "host": host, **values})
        elif any(getattr(row, name) != value for name, value in values.items()):
            changed.append({"rule_id": rule_id, "host": host, **values})
    if new:
        session.execute(insert(RuleCounter), new)
    if changed:
        session.execute(update(RuleCounter), changed)


def policy_counters(session: Session, policy_id: str) -> list[RuleCounts]:
    """The rules of the policy, in order, and what they count; one statement."""
    place, rule, counter = PolicyRule, FirewallRule, RuleCounter
    of_rule = (rule.id, rule.name, rule.project_id, rule.action)
    query = (
        select(
            *of_rule,
            func.sum(counter.packets + counter.earlier_packets).label("packets"),
            func.sum(counter.bytes + counter.earlier_bytes).label("bytes"),
            func.max(counter.last).label("last"),
            func.min(counter.first_since).label("since"),
        )
        .join(place, place.rule_id == rule.id)
        .outerjoin(counter, counter.rule_id == rule.id)
        .where(place.policy_id == policy_id)
        .group_by(*of_rule, place.position)
        .order_by(place.position)
    )
    return [
        RuleCounts(
            rule_id=row.id,
            rule_name=row.name,
            project_id=row.project_id,
            action=row.action,
            packets=int(row.packets or 0),
            bytes=int(row.bytes or 0),
            last=row.last,
            since=row.since,
        )
        for row in session.execute(query)
    ]


def _enforced(session: Session, host: str, totals: Mapping[str, Total]) -> set[str]:
    """Those of the rules that stand in a policy of a group that covers a port of the host."""
    group, member = FirewallGroup, GroupPort
    groups = (
        select(group.ingress_firewall_policy_id, group.egress_firewall_policy_id)
        .join(member, member.group_id == group.id)
        .join(Port, Port.id == member.port_id)
        .where(
            Port.host == host,
            or_(group.ingress_firewall_policy_id.is_not(None), group.egress_firewall_policy_id.is_not(None)),
        )
        .distinct()
    )
    policies = {policy_id for row in session.execute(groups) for policy_id in row} - {None}
    query = select(PolicyRule.rule_id, PolicyRule.policy_id)
    ids = filter(_ID.fullmatch, totals)  # others could not even be asked for: PostgreSQL takes no NUL
    return {row.rule_id for row in select_in(session, query, PolicyRule.rule_id, ids) if row.policy_id in policies}


def _added(total: Total, row: Any) -> dict[str, Any]:
    """The columns of a row, once the host has said ``total``."""
    since, last = _stored(total.since), None if total.last is None else _stored(total.last)
    said = {"since": since, "packets": total.packets, "bytes": total.bytes}
    if row is None:
        return {**said, "first_since": since, "earlier_packets": 0, "earlier_bytes": 0, "last": last}
    values = {"last": max(filter(None, (row.last, last)), default=None)}
    if since == row.since:
        return {**values, "packets": max(row.packets, total.packets), "bytes": max(row.bytes, total.bytes)}
    if since < row.since:
        return values  # of a count that has ended
    return {
        **values,
        **said,
        "earlier_packets": min(MAX_COUNT, row.earlier_packets + row.packets),
        "earlier_bytes": min(MAX_COUNT, row.earlier_bytes + row.bytes),
    }


def _stored(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
