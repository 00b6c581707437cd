"""Policies as the model has them, from the database; the text that users wrote becomes canonical on the way.

Refused here: judging, as in ``service.hosts``.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from portward.model import (
    DCCP,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Action,
    InvalidValue,
    IPVersion,
    Policy,
    PortRange,
    Prefix,
    Rule,
)
from portward.store import tables

_PROTOCOLS = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "dccp": DCCP, "ipv6-icmp": ICMPV6, "sctp": SCTP}
#: Addresses, ports and rules whose values are kept: to take them apart costs more than to read them.
_CACHED = 65536


def policies_by_id(session: Session, ids: Collection[str]) -> dict[str, Policy]:
    """The policies with these ``ids``, with all their rules, in one statement. Unknown ids are left out.

    Raises:
        InvalidValue: the database holds a rule that the model does not admit.
    """
    policy, place, rule = tables.FirewallPolicy, tables.PolicyRule, tables.FirewallRule
    query: Select[*tuple[Any, ...]] = (
        select(
            policy.id.label("policy_id"),
            policy.version,
            rule.id,
            rule.action,
            rule.enabled,
            rule.ip_version,
            rule.protocol,
            rule.source_ip_address,
            rule.destination_ip_address,
            rule.source_address_group_id,
            rule.destination_address_group_id,
            rule.source_firewall_group_id,
            rule.destination_firewall_group_id,
            rule.source_port,
            rule.destination_port,
            rule.icmp_type,
            rule.icmp_code,
        )
        .outerjoin(place, place.policy_id == policy.id)
        .outerjoin(rule, rule.id == place.rule_id)
        .where(policy.id.in_(ids))
        .order_by(policy.id, place.position)
    )
    versions: dict[str, int] = {}
    rules: dict[str, list[Rule]] = {}
    for row in session.execute(query):
        versions[row.policy_id] = row.version
        of_policy = rules.setdefault(row.policy_id, [])
        if row.id is not None:
            of_policy.append(_rule(*row[2:]))
    return {id_: Policy(id=id_, version=version, rules=tuple(rules[id_])) for id_, version in versions.items()}


#: A policy is read as a whole whatever changed in it, and nearly all of its rules are what they were.
@lru_cache(maxsize=_CACHED)
def _rule(
    id_: str,
    action: str,
    enabled: bool,
    ip_version: IPVersion,
    protocol: str | None,
    source: str | None,
    destination: str | None,
    source_address_group: str | None,
    destination_address_group: str | None,
    source_firewall_group: str | None,
    destination_firewall_group: str | None,
    source_port: str | None,
    destination_port: str | None,
    icmp_type: int | None,
    icmp_code: int | None,
) -> Rule:
    """The rule whose columns are these, in the order in which ``policies_by_id`` reads them."""
    try:
        return Rule(
            id=id_,
            action=Action(action),
            enabled=enabled,
            ip_version=ip_version,
            protocol=_protocol(protocol),
            source=_prefix(source),
            destination=_prefix(destination),
            source_set=source_address_group or source_firewall_group,
            destination_set=destination_address_group or destination_firewall_group,
            source_port=_port_range(source_port),
            destination_port=_port_range(destination_port),
            icmp_type=icmp_type,
            icmp_code=icmp_code,
        )
    except ValueError as error:
        raise InvalidValue(f"firewall rule {id_} in the database: {error}") from error


def _protocol(text: str | None) -> int | None:
    if text is None:
        return None
    return _PROTOCOLS[text] if text in _PROTOCOLS else int(text)


@lru_cache(maxsize=_CACHED)
def _prefix(text: str | None) -> Prefix | None:
    return None if text is None else ip_network(text, strict=False)


@lru_cache(maxsize=_CACHED)
def _port_range(text: str | None) -> PortRange | None:
    if text is None:
        return None
    bounds: Sequence[str] = text.split(":")
    return PortRange(int(bounds[0]), int(bounds[-1]))
