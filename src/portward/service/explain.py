"""Why a packet passes a port or does not, for its owner to read.

The verdict is ``semantics.decide``'s; here it gets the names that users gave and words for what did not match.
Whoever sees the port may ask. A group, policy or rule that the caller may not see is called "admin", without its id
and contents. It is about the first packet of a connection, at one port; nothing is asked of any host.
"""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_network

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from portward.model import (
    DCCP,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    AddressSet,
    Direction,
    Packet,
    Rule,
    Stratum,
)
from portward.semantics import Answer, Decision, Field, PassedOver, Reason, Verdict, decide
from portward.service.address_sets import members_of, versions_of
from portward.service.context import Context
from portward.service.effective import HIDDEN_NAME
from portward.service.errors import InvalidInput
from portward.service.hosts import NotCoverable, covered_port
from portward.service.policy_values import policies_by_id
from portward.service.ports import find_port
from portward.service.rows import Narrow, visible
from portward.store import tables

_PROTOCOLS = {ICMP: "icmp", TCP: "tcp", UDP: "udp", DCCP: "dccp", ICMPV6: "ipv6-icmp", SCTP: "sctp"}
_ANSWERS = {
    Answer.TCP_RESET: "the sender gets a TCP reset",
    Answer.ADMIN_PROHIBITED: "the sender gets ICMP 'administratively prohibited'",
    Answer.SILENCE: "the sender hears nothing, because such a packet is never answered",
}


class PassedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that stood before the deciding one, and the first field that kept it from deciding.

    ``field`` ``None``: it matched, and its action ``pass`` left the matter to the next stratum; or, where ``rule_id``
    is ``None`` too, it stands for one rule or several of one policy, one after the other, that the caller may not see.
    """

    rule_id: str | None
    rule_name: str
    policy_id: str | None
    policy_name: str
    field: Field | None = None
    rule_says: str | None = None
    packet_has: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one port for one packet, who took it, and who did not.

    ``reason`` is a sentence for people; programs read ``verdict`` and the ids.
    ``answer`` says what the sender of a rejected packet gets. Ids and names are ``None`` where no group, policy or
    rule had a part in the verdict; where one had and the caller may not see it, its id is, and its name is "admin".
    """

    port_id: str
    direction: Direction
    verdict: Verdict
    reason: str
    answer: Answer | None = None
    stratum: Stratum | None = None
    group_id: str | None = None
    group_name: str | None = None
    policy_id: str | None = None
    policy_name: str | None = None
    rule_id: str | None = None
    rule_name: str | None = None
    passed_over: tuple[PassedRule, ...] = ()


def explain(
    session: Session,
    context: Context,
    port_id: str,
    direction: Direction,
    packet: Packet,
    narrow: Narrow = lambda _table: (),
) -> Explanation:
    """Decide ``packet`` at port ``port_id`` as the database has it now, and say why, in names that the caller may see.

    Call it in one snapshot; it writes nothing. A constant number of SQL statements, whatever the number of rules.

    Raises:
        PortNotFound: there is no such port that the caller sees.
        InvalidInput: the port is neither a router's nor a VM's, so no firewall group decides there.
        InvalidValue: the database holds a value that the model does not admit.
    """
    find_port(session, context, port_id)
    try:
        covered = covered_port(session, port_id)
    except NotCoverable:
        raise InvalidInput(f"port {port_id} is neither a router's nor a VM's, so no firewall decides there") from None
    used = {group.policy_id(direction) for group in covered.groups} - {None}
    policies = policies_by_id(session, [id_ for id_ in used if id_ is not None])
    rules = {rule.id: rule for policy in policies.values() for rule in policy.rules}
    sets = _sets(session, rules.values())
    decision = decide(packet, direction, covered, policies, sets)
    names = _names(session, context, narrow, [*sets, *(group.id for group in covered.groups)], list(policies))
    return Explanation(
        port_id=port_id,
        direction=direction,
        verdict=decision.verdict,
        reason=_sentence(decision, direction, names),
        answer=decision.answer,
        stratum=decision.stratum,
        group_id=names.id(decision.group_id),
        group_name=names.name(decision.group_id),
        policy_id=names.id(decision.policy_id),
        policy_name=names.name(decision.policy_id),
        rule_id=names.id(decision.rule_id),
        rule_name=names.name(decision.rule_id),
        passed_over=_passed_over(decision, rules, packet, names),
    )


class _Names(dict[str, str]):
    """The name of every group, policy, rule and address group concerned that the caller may see, by id."""

    def id(self, id_: str | None) -> str | None:
        """``id_``, if the caller may see what it is the id of."""
        return id_ if id_ in self else None

    def name(self, id_: str | None) -> str | None:
        """The name of what has this id, as the caller may see it."""
        return None if id_ is None else self.get(id_, HIDDEN_NAME)

    def called(self, kind: str, id_: str | None) -> str:
        """What has this id, in a sentence."""
        if id_ is not None and id_ not in self:
            return f"{kind} {HIDDEN_NAME}"
        name = self.name(id_)
        return f"{kind} '{name}' ({id_})" if name else f"{kind} {id_}"


def _sets(session: Session, rules: Iterable[Rule]) -> dict[str, AddressSet]:
    """The address sets that the rules name; two statements, none if there are none."""
    named = {id_ for rule in rules for id_ in rule.sets}
    members = members_of(session, named)
    return {
        id_: AddressSet(id=id_, version=one.version, members=tuple(map(ip_network, members.get(id_, ()))))
        for id_, one in versions_of(session, named).items()
    }


def _names(
    session: Session, context: Context, narrow: Narrow, group_ids: Collection[str], policy_ids: Collection[str]
) -> _Names:
    """Their names; ``group_ids`` are those of firewall groups and of address groups."""
    names = _Names()
    group, policy, place, rule = tables.FirewallGroup, tables.FirewallPolicy, tables.PolicyRule, tables.FirewallRule
    addresses = tables.AddressGroup
    for query in (
        select(group.id, group.name).where(group.id.in_(group_ids), *visible(context, group), *narrow(group)),
        select(addresses.id, addresses.name).where(
            addresses.id.in_(group_ids), *visible(context, addresses), *narrow(addresses)
        ),
        select(policy.id, policy.name).where(policy.id.in_(policy_ids), *visible(context, policy), *narrow(policy)),
        select(rule.id, rule.name)
        .join(place, place.rule_id == rule.id)
        .where(place.policy_id.in_(policy_ids), *visible(context, rule), *narrow(rule)),
    ):
        names.update((id_, name) for id_, name in session.execute(query))
    return names


def _sentence(decision: Decision, direction: Direction, names: _Names) -> str:
    group, policy = names.called("group", decision.group_id), names.called("policy", decision.policy_id)
    if decision.reason is Reason.RULE:
        matched = f"{names.called('rule', decision.rule_id)} of {policy} is the first that matches"
        return f"{matched}; {_ANSWERS[decision.answer]}." if decision.answer else f"{matched}."
    if decision.reason is Reason.NO_RULE and decision.group_id:
        return f"no rule of {policy} matches, and {group} denies what no rule allows."
    if decision.reason is Reason.NO_RULE:
        return "no rule matches, and no tenant's group covers the port."
    if decision.reason is Reason.NO_POLICY:
        return f"{group} has no {direction} policy, and so denies what no other rule allows."
    if decision.reason is Reason.GROUP_DOWN:
        return f"{group} has admin_state_up false, and so denies everything."
    if decision.reason is Reason.SPOOFED:
        return "the source is not one of the port's: fixed_ips and allowed_address_pairs list those that it may use."
    if decision.reason is Reason.NOT_COVERED:
        return "no group covers the port, so it is not filtered."
    return f"{decision.reason.value}."


def _passed_over(
    decision: Decision, rules: Mapping[str, Rule], packet: Packet, names: _Names
) -> tuple[PassedRule, ...]:
    found: list[PassedRule] = []
    for passed in decision.passed_over:
        told = _passed(passed, rules[passed.rule_id], packet, names)
        if told.rule_id is not None or found[-1:] != [told]:  # how many are hidden is hidden too
            found.append(told)
    return tuple(found)


def _passed(passed: PassedOver, rule: Rule, packet: Packet, names: _Names) -> PassedRule:
    policy_id, policy_name = names.id(passed.policy_id), names.name(passed.policy_id) or HIDDEN_NAME
    if passed.rule_id not in names:
        return PassedRule(rule_id=None, rule_name=HIDDEN_NAME, policy_id=policy_id, policy_name=policy_name)
    says = has = None
    if passed.field is not None:
        says = _text(passed.field, _value(rule, passed.field, names))
        has = None if passed.field is Field.ENABLED else _text(passed.field, getattr(packet, passed.field))
    return PassedRule(
        rule_id=passed.rule_id,
        rule_name=names[passed.rule_id],
        policy_id=policy_id,
        policy_name=policy_name,
        field=passed.field,
        rule_says=says,
        packet_has=has,
    )


def _value(rule: Rule, field: Field, names: _Names) -> object:
    """What ``rule`` asks of ``field``."""
    set_id = {Field.SOURCE: rule.source_set, Field.DESTINATION: rule.destination_set}.get(field)
    return getattr(rule, field) if set_id is None else names.called("group", set_id)


def _text(field: Field, value: object) -> str:
    """``value`` of ``field`` as users write it."""
    if value is None:
        return "none"
    if field is Field.ENABLED:
        return "false"
    return _PROTOCOLS.get(value, str(value)) if isinstance(value, int) and field is Field.PROTOCOL else str(value)
