"""Groups, policies and ports come and go; after every step every port is as the golden model says."""

import pytest

from packets.builders import ALLOW_ALL, Guard, address_set, both, edited, new_id, policy, rule
from packets.enforcer import KINDS, Enforcer
from portward.lab import Lab, Outcome
from portward.lab.namespaces import ip

pytestmark = pytest.mark.parametrize("kind", KINDS)

SSH, WEB, DNS = 22, 80, 53
PORTS = [SSH, WEB, DNS]


def check(enforce: Enforcer) -> None:
    enforce.check(enforce.requests(PORTS))


def test_a_group_without_rules_lets_nothing_pass_in_either_direction(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard())
    check(enforce)
    assert lab.red.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.SILENT
    assert lab.blue.probe("tcp", lab.red.address(), SSH).outcome is Outcome.SILENT


def test_ports_of_the_router_that_no_group_covers_stay_open(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard())
    for version in (4, 6):
        for protocol, port in (("tcp", SSH), ("udp", DNS), ("icmp", None)):
            assert lab.red.probe(protocol, lab.green.address(version), port).outcome is Outcome.PASSED
            assert lab.outside.probe(protocol, lab.red.address(version), port).outcome is Outcome.PASSED


def test_two_groups_on_one_router_each_decide_for_their_own_port(enforce: Enforcer) -> None:
    web, ssh = policy(both("allow", "tcp", WEB)), policy(both("allow", "tcp", SSH), both("allow", "icmp"))
    enforce(red=Guard(ingress=web, egress=ssh), blue=Guard(ingress=ssh, egress=web))
    check(enforce)


def test_a_disabled_rule_takes_no_part(lab: Lab, enforce: Enforcer) -> None:
    off = policy(both("deny", "tcp", SSH, enabled=False), both("allow", "tcp"), both("allow", "udp", enabled=False))
    enforce(blue=Guard(ingress=off, egress=ALLOW_ALL))
    check(enforce)
    assert lab.red.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.PASSED
    assert lab.red.probe("udp", lab.blue.address(), DNS).outcome is Outcome.SILENT


def test_ports_join_leave_and_swap_groups(enforce: Enforcer) -> None:
    first = Guard(ingress=policy(both("allow", "tcp", SSH)), egress=policy(both("allow", "udp")))
    second = Guard(ingress=policy(both("allow", "udp", DNS), both("allow", "icmp")), egress=ALLOW_ALL)
    steps = [
        {"red": first},
        {"red": first, "blue": first},
        {"red": first, "blue": first, "green": first},
        {"blue": first, "green": first},
        {"red": second, "blue": first, "green": first},
        {"red": first, "blue": second, "green": second},
        {"red": second, "green": first},
        {},
    ]
    for step in steps:
        enforce(**step)
        check(enforce)


def test_policies_of_a_group_with_several_ports_are_set_swapped_edited_and_unset(enforce: Enforcer) -> None:
    web, rest = policy(both("allow", "tcp", WEB)), policy(both("reject", "tcp", WEB), both("allow"))
    group_id = Guard().id

    def step(ingress: object, egress: object) -> None:
        guard = Guard(ingress, egress, id=group_id)
        enforce(red=guard, blue=guard)
        check(enforce)

    step(None, None)
    step(web, None)
    step(web, rest)
    step(rest, web)
    step(rest, rest)
    step(None, rest)
    step(edited(rest, both("deny", "udp"), both("allow")), edited(rest, both("deny", "udp"), both("allow")))
    step(edited(web), rest)
    step(None, None)


def test_admin_state_down_denies_everything_and_up_again_brings_the_rules_back(enforce: Enforcer) -> None:
    rules = policy(both("allow", "tcp", SSH), both("allow", "icmp"))
    for up in (True, False, True):
        guard = Guard(ingress=rules, egress=ALLOW_ALL, up=up)
        enforce(red=guard, blue=guard)
        check(enforce)


def test_a_port_deleted_while_bound_is_open_and_the_rest_of_its_group_stays_protected(enforce: Enforcer) -> None:
    guard = Guard(ingress=policy(both("allow", "tcp", WEB)), egress=ALLOW_ALL)
    enforce(red=guard, blue=guard)
    check(enforce)
    enforce(red=guard)
    check(enforce)


def test_a_device_that_vanishes_is_reported_and_the_others_stay_protected(
    kind: str, lab: Lab, enforce: Enforcer
) -> None:
    guard = Guard(ingress=policy(both("allow", "tcp", WEB)), egress=ALLOW_ALL)
    enforce(red=guard, blue=guard)
    red = enforce.ports["red"]
    if kind == "vm":
        lab.switch.unplug(red)
    else:
        ip(red.netns, [f"link delete {red.device}"])
    assert enforce.errors_soon() == [red.port_id]
    assert lab.green.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.SILENT
    assert lab.green.probe("tcp", lab.blue.address(), WEB).outcome is Outcome.PASSED


def test_an_edit_of_a_policy_reaches_both_groups_that_use_it(enforce: Enforcer) -> None:
    shared = policy(both("allow", "tcp", SSH))
    one, other = Guard(ingress=shared, egress=ALLOW_ALL), Guard(ingress=ALLOW_ALL, egress=shared)
    for rules in (both("allow", "tcp", SSH), both("allow", "tcp", WEB), both("allow", "udp") + both("allow", "icmp")):
        now = edited(shared, rules)
        enforce(red=Guard(now, ALLOW_ALL, id=one.id), blue=Guard(ALLOW_ALL, now, id=other.id))
        check(enforce)


def test_the_first_rule_that_matches_decides(lab: Lab, enforce: Enforcer) -> None:
    blue = lab.blue.address()
    for first, then, outcome in (("allow", "deny", Outcome.PASSED), ("deny", "allow", Outcome.SILENT)):
        enforce(blue=Guard(ingress=policy(rule(first, "icmp"), rule(then, "icmp")), egress=ALLOW_ALL))
        assert lab.red.probe("icmp", blue).outcome is outcome
        check(enforce)


def test_rules_of_a_policy_decide_in_order_however_many_address_sets_they_name(lab: Lab, enforce: Enforcer) -> None:
    """More than a switch can look up at once: a policy is asked in parts there, and pass and deny must span them."""
    ids = [new_id() for _ in range(300)]
    places = (0, 126, 127, 128, 255, 256, 299)
    sets = [address_set(id_, lab.red.address() if place in places else "10.99.0.1") for place, id_ in enumerate(ids)]
    many = [rule("allow", "udp", 1000 + place, source_set=id_) for place, id_ in enumerate(ids)]
    denied = rule("deny", "udp", 1255, source_set=ids[126])
    enforce(sets=sets, blue=Guard(policy(many[:200], denied, many[200:]), ALLOW_ALL))
    outcomes = {place: lab.red.probe("udp", lab.blue.address(), 1000 + place).outcome for place in (*places, 1, 298)}
    assert {place for place, outcome in outcomes.items() if outcome is Outcome.PASSED} == {*places} - {255}
