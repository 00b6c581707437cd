"""Firewall rules: one line of a policy each; a rule may stand in many policies.

Any change of a rule makes the policies it stands in unaudited. A change of what it matches or does, unless it is
disabled before and after, reaches the hosts.
"""

from collections.abc import Iterable
from ipaddress import ip_network

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Select, delete, select, update
from sqlalchemy.orm import Session

from portward.service.changes import decisions_changed
from portward.service.context import Context
from portward.service.errors import (
    FirewallIpAddressConflict,
    FirewallRuleInUse,
    FirewallRuleInvalidICMPParameter,
    FirewallRuleNotFound,
    FirewallRuleWithPortWithoutProtocolInvalid,
)
from portward.service.rows import Where, add, assign, find, touch
from portward.store.tables import FirewallPolicy, FirewallRule, PolicyRule

_PROTOCOLS_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "dccp"})
#: What a packet's fate depends on.
_DECIDING = frozenset(
    {
        "action",
        "enabled",
        "ip_version",
        "protocol",
        "source_ip_address",
        "destination_ip_address",
        "source_port",
        "destination_port",
    }
)


class RuleValues(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a new rule, or changes of one; what is ``UNSET`` takes its default, or stays.

    Each is well-formed by itself: ``protocol`` one of the names that ports or ICMP have, or a string of digits;
    addresses as the user wrote them; ports ``"N"`` or ``"A:B"``.
    """

    project_id: str | UnsetType = UNSET  # of a new rule only
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    protocol: str | UnsetType | None = UNSET
    ip_version: int | UnsetType = UNSET
    source_ip_address: str | UnsetType | None = UNSET
    destination_ip_address: str | UnsetType | None = UNSET
    source_port: str | UnsetType | None = UNSET
    destination_port: str | UnsetType | None = UNSET
    action: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and the policies in which it stands."""

    row: FirewallRule
    policy_ids: tuple[str, ...]


def create_rule(session: Session, context: Context, values: RuleValues) -> RuleView:
    """Make a rule that stands in no policy yet.

    Raises:
        BadRequest: the values contradict each other.
    """
    row = add(session, context, FirewallRule, values)
    _check(row)
    return RuleView(row=row, policy_ids=())


def get_rule(session: Session, _context: Context, rule_id: str) -> RuleView:
    """The rule.

    Raises:
        FirewallRuleNotFound: there is none.
    """
    return _view(session, find(session, FirewallRule, rule_id, FirewallRuleNotFound))


def list_rules(session: Session, _context: Context, where: Where = ()) -> list[RuleView]:
    """The rules that meet ``where``, by id; two statements."""
    rows = session.scalars(select(FirewallRule).where(*where).order_by(FirewallRule.id)).all()
    policies = _policy_ids(session, select(FirewallRule.id).where(*where))
    return [RuleView(row=row, policy_ids=tuple(policies.get(row.id, ()))) for row in rows]


def update_rule(session: Session, context: Context, rule_id: str, values: RuleValues) -> RuleView:
    """Change the rule, wherever it stands.

    Raises:
        FirewallRuleNotFound: there is none.
        BadRequest: the values, with those that stay, contradict each other.
    """
    row = find(session, FirewallRule, rule_id, FirewallRuleNotFound)
    was_enabled = row.enabled
    changed = assign(row, values)
    view = _view(session, row)
    if not changed:
        return view
    _check(row)
    touch(row, context)
    if view.policy_ids:
        session.execute(
            update(FirewallPolicy)
            .where(FirewallPolicy.id.in_(view.policy_ids), FirewallPolicy.audited)
            .values(audited=False, revision_number=FirewallPolicy.revision_number + 1, updated_at=context.now)
        )
        if changed & _DECIDING and (was_enabled or row.enabled):
            decisions_changed(session, context, view.policy_ids)
    return view


def delete_rule(session: Session, _context: Context, rule_id: str) -> None:
    """Delete the rule.

    Raises:
        FirewallRuleNotFound: there is none.
        FirewallRuleInUse: it stands in a policy.
    """
    row = find(session, FirewallRule, rule_id, FirewallRuleNotFound)
    if session.scalar(select(PolicyRule.policy_id).where(PolicyRule.rule_id == row.id).limit(1)):
        raise FirewallRuleInUse(rule_id)
    session.execute(delete(FirewallRule).where(FirewallRule.id == row.id))


def in_policies(policy_ids: Iterable[str]) -> ColumnElement[bool]:
    """Condition on rules: to stand in one of these policies."""
    return FirewallRule.id.in_(select(PolicyRule.rule_id).where(PolicyRule.policy_id.in_(policy_ids)))


def _view(session: Session, row: FirewallRule) -> RuleView:
    policies = _policy_ids(session, select(FirewallRule.id).where(FirewallRule.id == row.id))
    return RuleView(row=row, policy_ids=tuple(policies.get(row.id, ())))


def _policy_ids(session: Session, rule_ids: Select[str]) -> dict[str, list[str]]:
    """For each of the rules the policies in which it stands, by id."""
    policies: dict[str, list[str]] = {}
    query = select(PolicyRule.rule_id, PolicyRule.policy_id).where(PolicyRule.rule_id.in_(rule_ids))
    for rule_id, policy_id in session.execute(query.order_by(PolicyRule.policy_id)):
        policies.setdefault(rule_id, []).append(policy_id)
    return policies


def _check(row: FirewallRule) -> None:
    if row.source_port or row.destination_port:
        if row.protocol is None:
            raise FirewallRuleWithPortWithoutProtocolInvalid
        if row.protocol not in _PROTOCOLS_WITH_PORTS:
            raise FirewallRuleInvalidICMPParameter("ICMP" if "icmp" in row.protocol else row.protocol)
    if row.ip_version == 4 and row.protocol == "ipv6-icmp":
        raise FirewallIpAddressConflict
    for address in (row.source_ip_address, row.destination_ip_address):
        if address is not None and ip_network(address, strict=False).version != row.ip_version:
            raise FirewallIpAddressConflict
