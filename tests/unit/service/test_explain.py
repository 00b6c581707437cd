"""Why a packet passes or does not, in the names that users gave."""

from ipaddress import ip_address

import pytest
from sqlalchemy.orm import Session

from portward.model import TCP, UDP, Direction, Packet
from portward.semantics import Answer, Field, Verdict
from portward.service.context import Context
from portward.service.errors import InvalidInput, PortNotFound
from portward.service.explain import Explanation, PassedRule, explain
from portward.store import tables
from unit.service.database import (
    NOW,
    add_group,
    add_policy,
    add_port,
    add_rule,
    counted_statements,
    empty_database,
    uuid,
)

SSH = Packet(
    source=ip_address("10.0.0.1"),
    destination=ip_address("10.0.1.1"),
    protocol=TCP,
    source_port=40000,
    destination_port=22,
)
ADMIN = Context(project_id="p", is_admin=True, roles=frozenset({"admin"}), request_id="req-1", now=NOW)
PORT, RULE, POLICY, GROUP = 1, 10, 20, 30


def protected(*rules: str, session: Session, **group: object) -> Explanation:
    """What is said of ``SSH`` at a port whose ingress policy "web" in group "front" has ``rules``."""
    policy = add_policy(session, POLICY, rules=rules)
    session.get_one(tables.FirewallPolicy, policy).name = "web"
    port = add_port(session, PORT)
    values = {"ingress_firewall_policy_id": policy, "name": "front", **group}
    add_group(session, GROUP, ports=(port,), **values)
    return explain(session, ADMIN, port, Direction.INGRESS, SSH)


def test_the_one_who_decides_is_named() -> None:
    session = empty_database()
    found = protected(add_rule(session, RULE, name="let in"), session=session)
    assert (found.verdict, found.stratum, found.answer) == (Verdict.ALLOW, "tenant", None)
    assert (found.group_id, found.group_name) == (uuid(GROUP), "front")
    assert (found.policy_id, found.policy_name) == (uuid(POLICY), "web")
    assert (found.rule_id, found.rule_name) == (uuid(RULE), "let in")
    assert found.reason == (f"rule 'let in' ({uuid(RULE)}) of policy 'web' ({uuid(POLICY)}) is the first that matches.")


def test_a_nameless_rule_goes_by_its_id() -> None:
    session = empty_database()
    found = protected(add_rule(session, RULE), session=session)
    assert found.reason.startswith(f"rule {uuid(RULE)} of")


@pytest.mark.parametrize(
    ("attributes", "field", "says", "has"),
    [
        ({"enabled": False}, Field.ENABLED, "false", None),
        ({"ip_version": 6}, Field.IP_VERSION, "6", "4"),
        ({"protocol": "udp"}, Field.PROTOCOL, "udp", "tcp"),
        ({"protocol": "47"}, Field.PROTOCOL, "47", "tcp"),
        ({"source_ip_address": "10.9.0.1/16"}, Field.SOURCE, "10.9.0.0/16", "10.0.0.1"),
        ({"destination_ip_address": "10.9.0.1"}, Field.DESTINATION, "10.9.0.1/32", "10.0.1.1"),
        ({"protocol": "tcp", "source_port": "0:1024"}, Field.SOURCE_PORT, "0:1024", "40000"),
        ({"protocol": "tcp", "destination_port": "80"}, Field.DESTINATION_PORT, "80", "22"),
    ],
)
def test_a_rule_passed_over_says_what_it_wants_and_what_the_packet_has(
    attributes: dict[str, object], field: Field, says: str, has: str | None
) -> None:
    session = empty_database()
    other = add_rule(session, RULE, name="other", **attributes)
    found = protected(other, add_rule(session, RULE + 1), session=session)
    assert found.rule_id == uuid(RULE + 1)
    assert found.passed_over == (
        PassedRule(
            rule_id=other,
            rule_name="other",
            policy_id=uuid(POLICY),
            policy_name="web",
            field=field,
            rule_says=says,
            packet_has=has,
        ),
    )


def test_a_packet_without_ports_has_none() -> None:
    session = empty_database()
    add_policy(session, POLICY, rules=(add_rule(session, RULE, protocol="tcp", destination_port="22"),))
    add_group(session, GROUP, ports=(add_port(session, PORT),), ingress_firewall_policy_id=uuid(POLICY))
    fragment = Packet(source=SSH.source, destination=SSH.destination, protocol=TCP, is_later_fragment=True)
    assert explain(session, ADMIN, uuid(PORT), Direction.INGRESS, fragment).passed_over[0].packet_has == "none"


def test_a_reject_says_what_the_sender_gets() -> None:
    session = empty_database()
    found = protected(add_rule(session, RULE, action="reject"), session=session)
    assert (found.verdict, found.answer) == (Verdict.REJECT, Answer.TCP_RESET)
    assert "the sender gets a TCP reset" in found.reason


def test_when_no_rule_matches_the_group_denies() -> None:
    session = empty_database()
    found = protected(session=session)
    assert (found.verdict, found.rule_id, found.rule_name) == (Verdict.DENY, None, None)
    assert found.reason == (
        f"no rule of policy 'web' ({uuid(POLICY)}) matches, and group 'front' ({uuid(GROUP)}) "
        "denies what no rule allows."
    )


def test_a_direction_without_a_policy_is_told_apart() -> None:
    session = empty_database()
    found = protected(session=session, ingress_firewall_policy_id=None)
    assert (found.verdict, found.policy_id) == (Verdict.DENY, None)
    assert "has no ingress policy" in found.reason


def test_a_group_that_is_down_denies_whatever_its_rules_say() -> None:
    session = empty_database()
    found = protected(add_rule(session, RULE), session=session, admin_state_up=False)
    assert found.verdict is Verdict.DENY
    assert "admin_state_up" in found.reason


def test_a_port_of_no_group_is_not_filtered() -> None:
    session = empty_database()
    found = explain(session, ADMIN, add_port(session, PORT), Direction.EGRESS, SSH)
    assert (found.verdict, found.group_id) == (Verdict.ALLOW, None)
    assert "no group covers" in found.reason


def test_only_the_policy_of_the_direction_is_asked() -> None:
    session = empty_database()
    ingress = add_policy(session, POLICY, rules=(add_rule(session, RULE, action="deny"),))
    egress = add_policy(session, POLICY + 1, rules=(add_rule(session, RULE + 1),))
    port = add_port(session, PORT)
    add_group(session, GROUP, ports=(port,), ingress_firewall_policy_id=ingress, egress_firewall_policy_id=egress)
    assert explain(session, ADMIN, port, Direction.INGRESS, SSH).rule_id == uuid(RULE)
    assert explain(session, ADMIN, port, Direction.EGRESS, SSH).rule_id == uuid(RULE + 1)


def test_base_traffic_and_spoofing_of_a_vm_port_are_said_so() -> None:
    session = empty_database()
    port = add_port(session, PORT, device_owner="compute:nova", fixed_ips=[{"ip_address": "10.0.0.9"}])
    add_group(session, GROUP, ports=(port,))
    assert "allowed_address_pairs" in explain(session, ADMIN, port, Direction.EGRESS, SSH).reason
    offer = Packet(source=SSH.source, destination=SSH.destination, protocol=UDP, source_port=67, destination_port=68)
    assert explain(session, ADMIN, port, Direction.INGRESS, offer).reason == "base traffic of a VM port."


def test_an_unknown_port_and_a_port_that_no_group_may_hold_are_two_errors() -> None:
    session = empty_database()
    with pytest.raises(PortNotFound):
        explain(session, ADMIN, uuid(404), Direction.INGRESS, SSH)
    with pytest.raises(InvalidInput, match="neither"):
        explain(session, ADMIN, add_port(session, PORT, device_owner="network:dhcp"), Direction.INGRESS, SSH)


def test_a_member_is_told_of_ports_of_the_own_project_alone() -> None:
    session = empty_database()
    port = add_port(session, PORT)
    own, foreign = (
        Context(project_id=project, is_admin=False, roles=frozenset({"member"}), request_id="req-1", now=NOW)
        for project in ("p", "q")
    )
    assert explain(session, own, port, Direction.INGRESS, SSH).verdict is Verdict.ALLOW
    with pytest.raises(PortNotFound):
        explain(session, foreign, port, Direction.INGRESS, SSH)


def test_the_number_of_statements_does_not_grow_with_rules_and_ports() -> None:
    def statements(rules: int, ports: int) -> int:
        session = empty_database()
        policy = add_policy(session, POLICY, rules=tuple(add_rule(session, 100 + n) for n in range(rules)))
        covered = tuple(add_port(session, 1000 + n) for n in range(ports))
        add_group(session, GROUP, ports=covered, ingress_firewall_policy_id=policy)
        session.expire_all()
        with counted_statements(session) as sent:
            explain(session, ADMIN, covered[0], Direction.INGRESS, SSH)
        return len(sent)

    assert statements(1, 1) == statements(50, 20) <= 7
