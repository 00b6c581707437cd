"""Live connections through address translation (IPv4): rules see addresses as in the forward path."""

from ipaddress import ip_address

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy, rule
from packets.enforcer import Enforcer
from packets.flows import Flows
from portward.lab import Lab, Outcome

KEPT, CUT = 7001, 7002
FLOATING = "203.0.113.50"


def only(kept: bool) -> list[object]:
    ports = (KEPT,) if kept else (KEPT, CUT)
    return [both("allow", protocol, port) for protocol in ("tcp", "udp") for port in ports]


@pytest.mark.parametrize("way", ["out through source NAT", "in through a floating IP", "out through a floating IP"])
def test_a_connection_is_cut_at_once_and_another_loses_nothing_on_its_way(
    lab: Lab, enforce: Enforcer, way: str
) -> None:
    lab.masquerade()
    fixed = lab.red.address()
    if "floating" in way:
        lab.floating_ip(FLOATING, fixed)
    outward = way.startswith("out")
    before = policy(*only(kept=False))
    after = edited(before, *only(kept=True))

    def guard(rules: object) -> dict[str, Guard]:
        made = Guard(ALLOW_ALL, rules, id=group_id) if outward else Guard(rules, ALLOW_ALL, id=group_id)
        return {"red": made}

    group_id = Guard().id
    enforce(**guard(before))
    client, destination = (lab.red, lab.outside.address()) if outward else (lab.outside, ip_address(FLOATING))
    with Flows() as flows:
        flows.open(client, destination, [KEPT], kept=True)
        flows.open(client, destination, [CUT], kept=False)
        flows.change(lambda: enforce(**guard(after)))


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
