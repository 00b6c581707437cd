"""One packet, one port, one direction: the first rule that matches decides (semantics 3 to 5, 7, 8 and 11).

Refuses to know of connections and of other ports; that is ``network``. Written to be read against the text,
not to be fast.
"""

from collections.abc import Mapping
from types import MappingProxyType

from portward.model import (
    TCP,
    Action,
    Address,
    AddressSet,
    CoveredPort,
    Direction,
    Group,
    InvalidValue,
    Packet,
    Policy,
    PortKind,
    PortRange,
    Prefix,
    Rule,
    Stratum,
)
from portward.semantics.base_traffic import decide_base_traffic
from portward.semantics.decision import Answer, Decision, Field, PassedOver, Reason, Verdict

Sets = Mapping[str, AddressSet]


def decide(
    packet: Packet,
    direction: Direction,
    covered: CoveredPort,
    policies: Mapping[str, Policy],
    sets: Sets = MappingProxyType({}),
) -> Decision:
    """The verdict of ``covered`` for ``packet`` in ``direction``, as if it were the first of its connection.

    ``policies`` maps ids to at least the policies that the port's groups use, ``sets`` to the address sets that their
    rules name. The order of ``covered.groups`` does not matter here: strata and positions do.

    Raises:
        InvalidValue: a policy or a set is missing, or ``pass`` stands in a policy that is not an admin group's.
    """
    if covered.port.kind is PortKind.VM:
        base = decide_base_traffic(packet, direction, covered.port)
        if base is not None:
            return base
    if not covered.groups:
        return Decision(verdict=Verdict.ALLOW, reason=Reason.NOT_COVERED)
    passed_over: list[PassedOver] = []
    for stratum in Stratum:
        groups = sorted((group for group in covered.groups if group.stratum is stratum), key=lambda it: it.position)
        for group in groups:
            if not group.admin_state_up:
                if stratum is Stratum.TENANT:
                    return _no_match(group, direction, Reason.GROUP_DOWN, passed_over)
                continue
            rule = _first_match(packet, group, direction, policies, sets, passed_over)
            if rule is None:
                continue
            if rule.action is Action.PASS:
                break
            return Decision(
                verdict=Verdict(rule.action.value),
                reason=Reason.RULE,
                stratum=stratum,
                group_id=group.id,
                policy_id=group.policy_id(direction),
                rule_id=rule.id,
                answer=_answer(packet) if rule.action is Action.REJECT else None,
                passed_over=tuple(passed_over),
            )
    for group in covered.groups:
        if group.stratum is Stratum.TENANT:
            reason = Reason.NO_RULE if group.policy_id(direction) else Reason.NO_POLICY
            return _no_match(group, direction, reason, passed_over)
    return Decision(verdict=Verdict.ALLOW, reason=Reason.NO_RULE, passed_over=tuple(passed_over))


def first_mismatch(rule: Rule, packet: Packet, sets: Sets = MappingProxyType({})) -> Field | None:
    """The first field in which ``rule`` fails to match ``packet``; ``None``: it matches.

    Raises:
        InvalidValue: the rule names an address set that ``sets`` lacks.
    """
    if not rule.enabled:
        return Field.ENABLED
    if rule.ip_version != packet.ip_version:
        return Field.IP_VERSION
    if rule.protocol is not None and rule.protocol != packet.protocol:
        return Field.PROTOCOL
    if not _address_matches(rule.source, rule.source_set, packet.source, sets):
        return Field.SOURCE
    if not _address_matches(rule.destination, rule.destination_set, packet.destination, sets):
        return Field.DESTINATION
    if not _ports_match(rule.source_port, packet.source_port):
        return Field.SOURCE_PORT
    if not _ports_match(rule.destination_port, packet.destination_port):
        return Field.DESTINATION_PORT
    if rule.icmp_type is not None and rule.icmp_type != packet.icmp_type:
        return Field.ICMP_TYPE
    if rule.icmp_code is not None and rule.icmp_code != packet.icmp_code:
        return Field.ICMP_CODE
    return None


def _address_matches(prefix: Prefix | None, set_id: str | None, address: Address, sets: Sets) -> bool:
    if set_id is None:
        return prefix is None or address in prefix
    if set_id not in sets:
        raise InvalidValue(f"address set {set_id} is not given")
    return address in sets[set_id]


def _ports_match(ports: PortRange | None, port: int | None) -> bool:
    # A later fragment has no ports: what names ports does not match it.
    return ports is None or (port is not None and port in ports)


def _first_match(
    packet: Packet,
    group: Group,
    direction: Direction,
    policies: Mapping[str, Policy],
    sets: Sets,
    passed_over: list[PassedOver],
) -> Rule | None:
    """The first rule of ``group`` that matches; those before it are added to ``passed_over``."""
    policy_id = group.policy_id(direction)
    if policy_id is None:
        return None
    if policy_id not in policies:
        raise InvalidValue(f"group {group.id}: policy {policy_id} is not given")
    for rule in policies[policy_id].rules:
        if rule.action is Action.PASS and group.stratum is not Stratum.ADMIN:
            raise InvalidValue(f"rule {rule.id}: 'pass' stands in admin policies only")
        mismatch = first_mismatch(rule, packet, sets)
        if mismatch is None and rule.action is not Action.PASS:
            return rule
        passed_over.append(
            PassedOver(stratum=group.stratum, group_id=group.id, policy_id=policy_id, rule_id=rule.id, field=mismatch)
        )
        if mismatch is None:
            return rule
    return None


def _no_match(group: Group, direction: Direction, reason: Reason, passed_over: list[PassedOver]) -> Decision:
    """The tenant group's own last word: deny."""
    return Decision(
        verdict=Verdict.DENY,
        reason=reason,
        stratum=Stratum.TENANT,
        group_id=group.id,
        policy_id=group.policy_id(direction),
        passed_over=tuple(passed_over),
    )


def _answer(packet: Packet) -> Answer:
    """What the sender of ``packet`` gets when it is rejected (RFC 1122 3.2.2, RFC 4443 2.4)."""
    to_many = (
        packet.destination.is_multicast
        or str(packet.destination) == "255.255.255.255"
        or (packet.destination_mac is not None and int(packet.destination_mac[:2], 16) & 1 == 1)
    )
    if packet.is_reset or packet.is_icmp_error or packet.is_later_fragment or to_many:
        return Answer.SILENCE
    return Answer.TCP_RESET if packet.protocol == TCP else Answer.ADMIN_PROHIBITED
