"""Semantics 3 to 5, 7 and 11, sentence by sentence."""

from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import msgspec
import pytest

from portward.model import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Action,
    CoveredPort,
    Direction,
    Group,
    InvalidValue,
    Packet,
    Policy,
    Port,
    PortKind,
    PortRange,
    Rule,
    Stratum,
)
from portward.semantics import Answer, Decision, Field, Reason, Verdict, decide, first_mismatch

PORT = Port(id=str(UUID(int=1)), kind=PortKind.ROUTER)
SSH = Packet(
    source=ip_address("10.0.0.1"),
    destination=ip_address("10.0.1.1"),
    protocol=TCP,
    source_port=40000,
    destination_port=22,
)
PING6 = Packet(
    source=ip_address("fd00::1"), destination=ip_address("fd00::2"), protocol=ICMPV6, icmp_type=128, icmp_id=1
)


def rule(name: str, action: Action = Action.ALLOW, **fields: Any) -> Rule:
    return Rule(id=name, action=action, **fields)


def group(name: str, *rules: Rule, stratum: Stratum = Stratum.TENANT, **fields: Any) -> tuple[Group, Policy]:
    """A group with ``rules`` in both directions."""
    policy = Policy(id=f"policy of {name}", version=1, rules=rules)
    return Group(id=name, stratum=stratum, ingress_policy_id=policy.id, egress_policy_id=policy.id, **fields), policy


def verdict(packet: Packet, *groups: tuple[Group, Policy], direction: Direction = Direction.INGRESS) -> Decision:
    covered = CoveredPort(port=PORT, groups=tuple(group for group, _ in groups))
    return decide(packet, direction, covered, {policy.id: policy for _, policy in groups})


def test_the_first_match_decides_and_names_stratum_group_policy_and_rule() -> None:
    decision = verdict(SSH, group("g", rule("udp", protocol=UDP), rule("any"), rule("never", Action.DENY)))
    assert (decision.verdict, decision.reason) == (Verdict.ALLOW, Reason.RULE)
    assert (decision.stratum, decision.group_id, decision.policy_id, decision.rule_id) == (
        Stratum.TENANT,
        "g",
        "policy of g",
        "any",
    )


def test_the_rules_passed_over_are_named_with_the_field_that_failed_first() -> None:
    decision = verdict(SSH, group("g", rule("udp", protocol=UDP), rule("off", enabled=False), rule("any")))
    assert [(passed.rule_id, passed.field) for passed in decision.passed_over] == [
        ("udp", Field.PROTOCOL),
        ("off", Field.ENABLED),
    ]


@pytest.mark.parametrize(
    ("action", "expected"),
    [(Action.ALLOW, Verdict.ALLOW), (Action.DENY, Verdict.DENY), (Action.REJECT, Verdict.REJECT)],
)
def test_the_action_of_the_rule_is_the_verdict(action: Action, expected: Verdict) -> None:
    assert verdict(SSH, group("g", rule("r", action))).verdict is expected


def test_a_disabled_rule_takes_no_part() -> None:
    decision = verdict(SSH, group("g", rule("off", Action.DENY, enabled=False), rule("on")))
    assert decision.rule_id == "on"


def test_no_match_is_denied_when_a_tenant_group_covers_the_port() -> None:
    decision = verdict(SSH, group("g", rule("udp", protocol=UDP)))
    assert (decision.verdict, decision.reason, decision.group_id) == (Verdict.DENY, Reason.NO_RULE, "g")


@pytest.mark.parametrize("stratum", [Stratum.ADMIN, Stratum.BASELINE])
def test_no_match_is_allowed_when_no_tenant_group_covers_the_port(stratum: Stratum) -> None:
    decision = verdict(SSH, group("g", rule("udp", protocol=UDP), stratum=stratum))
    assert (decision.verdict, decision.reason, decision.group_id) == (Verdict.ALLOW, Reason.NO_RULE, None)


def test_a_router_port_that_no_group_covers_is_not_filtered() -> None:
    decision = verdict(SSH)
    assert (decision.verdict, decision.reason) == (Verdict.ALLOW, Reason.NOT_COVERED)


def test_the_strata_decide_admin_first_then_tenant_then_baseline() -> None:
    admin = group("admin", rule("a"), stratum=Stratum.ADMIN)
    tenant = group("tenant", rule("t"))
    baseline = group("baseline", rule("b"), stratum=Stratum.BASELINE)
    assert verdict(SSH, baseline, tenant, admin).rule_id == "a"
    assert verdict(SSH, baseline, tenant).rule_id == "t"
    assert verdict(SSH, baseline).rule_id == "b"


@pytest.mark.parametrize("stratum", [Stratum.ADMIN, Stratum.BASELINE])
def test_groups_of_one_stratum_decide_by_position(stratum: Stratum) -> None:
    second = group("second", rule("2"), stratum=stratum, position=2)
    first = group("first", rule("1"), stratum=stratum, position=1)
    assert verdict(SSH, second, first).rule_id == "1"


def test_what_the_tenant_group_does_not_match_the_baseline_decides() -> None:
    tenant = group("tenant", rule("udp", protocol=UDP))
    assert verdict(SSH, tenant, group("baseline", rule("b"), stratum=Stratum.BASELINE)).rule_id == "b"


def test_pass_jumps_over_the_rest_of_the_admin_stratum() -> None:
    first = group("first", rule("p", Action.PASS), rule("d", Action.DENY), stratum=Stratum.ADMIN, position=1)
    second = group("second", rule("d2", Action.DENY), stratum=Stratum.ADMIN, position=2)
    decision = verdict(SSH, first, second, group("tenant", rule("t")))
    assert decision.rule_id == "t"
    assert [(passed.rule_id, passed.field) for passed in decision.passed_over] == [("p", None)]


def test_pass_outside_an_admin_policy_is_refused() -> None:
    with pytest.raises(InvalidValue, match="admin"):
        verdict(SSH, group("tenant", rule("p", Action.PASS)))


def test_a_policy_that_is_not_given_is_an_error_and_no_verdict() -> None:
    covered = CoveredPort(port=PORT, groups=(Group(id="g", ingress_policy_id="lost"),))
    with pytest.raises(InvalidValue, match="lost"):
        decide(SSH, Direction.INGRESS, covered, {})


def test_each_direction_has_a_policy_of_its_own() -> None:
    only_ingress = msgspec.structs.replace(group("g")[0], egress_policy_id=None)
    pair = only_ingress, Policy(id="policy of g", version=1, rules=(rule("r"),))
    assert verdict(SSH, pair, direction=Direction.INGRESS).verdict is Verdict.ALLOW
    assert verdict(SSH, pair, direction=Direction.EGRESS).reason is Reason.NO_POLICY


def test_no_policy_is_denied_in_the_tenant_stratum_unless_a_baseline_rule_allows() -> None:
    bare = Group(id="g"), Policy(id="unused", version=1)
    assert verdict(SSH, bare).verdict is Verdict.DENY
    assert verdict(SSH, bare, group("baseline", rule("b"), stratum=Stratum.BASELINE)).verdict is Verdict.ALLOW


def test_a_tenant_group_that_is_down_denies_everything_in_its_place() -> None:
    down = group("g", rule("allow"), admin_state_up=False)
    decision = verdict(SSH, down, group("baseline", rule("b"), stratum=Stratum.BASELINE))
    assert (decision.verdict, decision.reason, decision.group_id) == (Verdict.DENY, Reason.GROUP_DOWN, "g")
    assert verdict(SSH, down, group("admin", rule("a"), stratum=Stratum.ADMIN)).rule_id == "a"


@pytest.mark.parametrize("stratum", [Stratum.ADMIN, Stratum.BASELINE])
def test_an_admin_or_baseline_group_that_is_down_takes_no_part(stratum: Stratum) -> None:
    down = group("g", rule("d", Action.DENY), stratum=stratum, admin_state_up=False)
    assert verdict(SSH, down).verdict is Verdict.ALLOW
    assert verdict(SSH, down, group("tenant", rule("t"))).rule_id == "t"


def test_a_rule_matches_its_own_ip_version_only() -> None:
    assert first_mismatch(rule("r"), PING6) is Field.IP_VERSION
    assert first_mismatch(rule("r", ip_version=6), PING6) is None
    assert first_mismatch(rule("r", ip_version=6), SSH) is Field.IP_VERSION


def test_icmp_in_a_rule_of_version_6_means_icmpv6() -> None:
    assert first_mismatch(rule("r", ip_version=6, protocol=ICMP), PING6) is None


@pytest.mark.parametrize(
    ("fields", "failing"),
    [
        ({}, None),
        ({"enabled": False, "ip_version": 6}, Field.ENABLED),
        ({"ip_version": 6, "protocol": UDP}, Field.IP_VERSION),
        ({"protocol": UDP, "source": ip_network("192.0.2.0/24")}, Field.PROTOCOL),
        ({"source": ip_network("10.0.0.1/32")}, None),
        ({"source": ip_network("10.0.0.2/31"), "destination": ip_network("192.0.2.0/24")}, Field.SOURCE),
        ({"destination": ip_network("10.0.1.0/24")}, None),
        ({"destination": ip_network("10.0.2.0/24")}, Field.DESTINATION),
        ({"protocol": TCP, "source_port": PortRange(40000, 40000)}, None),
        (
            {"protocol": TCP, "source_port": PortRange(1, 2), "destination_port": PortRange(1, 2)},
            Field.SOURCE_PORT,
        ),
        ({"protocol": TCP, "destination_port": PortRange(0, 1024)}, None),
        ({"protocol": TCP, "destination_port": PortRange(22, 22)}, None),
        ({"protocol": TCP, "destination_port": PortRange(23, 65535)}, Field.DESTINATION_PORT),
        ({"protocol": TCP, "destination_port": PortRange(0, 21)}, Field.DESTINATION_PORT),
    ],
)
def test_the_fields_are_compared_in_one_order(fields: dict[str, Any], failing: Field | None) -> None:
    assert first_mismatch(rule("r", **fields), SSH) is failing


def test_a_later_fragment_has_no_ports_and_fails_a_rule_that_names_some() -> None:
    fragment = Packet(source=SSH.source, destination=SSH.destination, protocol=TCP, is_later_fragment=True)
    assert first_mismatch(rule("r", protocol=TCP, destination_port=PortRange(0, 65535)), fragment) is (
        Field.DESTINATION_PORT
    )
    assert first_mismatch(rule("r", protocol=TCP), fragment) is None


def rejected(packet: Packet) -> Answer | None:
    return verdict(packet, group("g", rule("4", Action.REJECT), rule("6", Action.REJECT, ip_version=6))).answer


def test_rejected_tcp_gets_a_reset() -> None:
    assert rejected(SSH) is Answer.TCP_RESET


@pytest.mark.parametrize("packet", [PING6, msgspec.structs.replace(SSH, protocol=UDP)])
def test_everything_else_that_is_rejected_gets_admin_prohibited(packet: Packet) -> None:
    assert rejected(packet) is Answer.ADMIN_PROHIBITED


@pytest.mark.parametrize(
    "packet",
    [
        msgspec.structs.replace(SSH, is_reset=True),
        Packet(source=SSH.source, destination=SSH.destination, protocol=ICMP, icmp_type=3, icmp_code=1, about=SSH),
        msgspec.structs.replace(PING6, icmp_type=1),
        msgspec.structs.replace(SSH, protocol=UDP, destination=ip_address("224.0.0.1")),
        msgspec.structs.replace(PING6, destination=ip_address("ff02::1")),
        msgspec.structs.replace(SSH, protocol=UDP, destination=ip_address("255.255.255.255")),
        msgspec.structs.replace(SSH, protocol=UDP, destination_mac="ff:ff:ff:ff:ff:ff"),
        Packet(source=SSH.source, destination=SSH.destination, protocol=TCP, is_later_fragment=True),
    ],
    ids=["reset", "icmp error", "icmpv6 error", "multicast", "multicast 6", "broadcast", "broadcast frame", "fragment"],
)
def test_reject_is_silent_to_resets_errors_crowds_and_later_fragments(packet: Packet) -> None:
    assert rejected(packet) is Answer.SILENCE


def test_only_a_reject_has_an_answer() -> None:
    assert verdict(SSH, group("g", rule("r"))).answer is None
    assert verdict(SSH, group("g")).answer is None
