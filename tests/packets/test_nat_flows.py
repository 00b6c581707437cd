"""Live connections through address translation (IPv4): rules see addresses as in the forward path."""

from ipaddress import ip_address

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy, rule
from packets.enforcer import Enforcer
from packets.flows import Flows
from portward.lab import Lab, Outcome
from portward.model import Rule

KEPT, CUT = 7001, 7002
FLOATING = "203.0.113.50"


def lists(*actions: tuple[str, int | str]) -> list[list[Rule]]:
    return [both(action, protocol, ports) for action, ports in actions for protocol in ("tcp", "udp")]


#: Rules before and after each change.
CHANGES = {
    "the removal of its allow": (lists(("allow", KEPT), ("allow", CUT)), lists(("allow", KEPT))),
    "a new deny": (lists(("allow", "7000:7010")), lists(("deny", CUT), ("allow", "7000:7010"))),
    "a new reject": (lists(("allow", "7000:7010")), lists(("reject", CUT), ("allow", "7000:7010"))),
    "a pure reorder": (
        lists(("allow", "7000:7010"), ("deny", CUT)),
        lists(("deny", CUT), ("allow", "7000:7010")),
    ),
}


@pytest.mark.parametrize("reason", CHANGES)
@pytest.mark.parametrize("way", ["out through source NAT", "in through a floating IP", "out through a floating IP"])
def test_a_connection_is_cut_at_once_and_another_loses_nothing_on_its_way(
    lab: Lab, enforce: Enforcer, way: str, reason: str
) -> None:
    lab.masquerade()
    if "floating" in way:
        lab.floating_ip(FLOATING, lab.red.address())
    outward = way.startswith("out")
    group, rules = Guard(), policy()

    def protect(*now: list[Rule]) -> None:
        listed = edited(rules, *now)
        enforce(red=Guard(ALLOW_ALL, listed, id=group.id) if outward else Guard(listed, ALLOW_ALL, id=group.id))

    before, after = CHANGES[reason]
    protect(*before)
    client, destination = (lab.red, lab.outside.address()) if outward else (lab.outside, ip_address(FLOATING))
    with Flows() as flows:
        flows.open(client, destination, [KEPT], kept=True)
        flows.open(client, destination, [CUT], kept=False)
        flows.change(lambda: protect(*after))


def test_a_rule_on_a_floating_ip_never_matches_and_one_on_the_fixed_ip_does(lab: Lab, enforce: Enforcer) -> None:
    lab.floating_ip(FLOATING, lab.red.address())
    for destination, outcome in ((FLOATING, Outcome.SILENT), (str(lab.red.address()), Outcome.PASSED)):
        allow = policy(rule("allow", "tcp", 22, destination=f"{destination}/32"))
        enforce(red=Guard(allow, ALLOW_ALL))
        assert lab.outside.probe("tcp", FLOATING, 22).outcome is outcome


def test_translation_shows_the_other_side_the_translated_address(lab: Lab, enforce: Enforcer) -> None:
    lab.masquerade()
    lab.floating_ip(FLOATING, lab.red.addresses[1])
    enforce(red=Guard(ALLOW_ALL, ALLOW_ALL))
    gateway = str(lab.port("outside").fixed_ips[0])
    for source, seen in ((lab.red.addresses[0], gateway), (lab.red.addresses[1], FLOATING)):
        with lab.red.connect("tcp", lab.outside.address(), 22, source=source) as connection:
            assert str(connection.client_address) == seen
