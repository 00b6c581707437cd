"""Each action at each end of the way through the router, and the borders of what rules match."""

import itertools

import pytest

from packets.builders import ALLOW_ALL, Guard, both, policy, rule
from packets.enforcer import KINDS, Enforcer
from portward.lab import Lab, Outcome
from portward.model import Policy

pytestmark = pytest.mark.parametrize("kind", KINDS)

#: What a policy may do with a packet: allow, deny, reject, or have no rule for it; ``None``: the port is not covered.
LISTS: dict[str, Policy | None] = {
    "uncovered": None,
    "allow": policy(both("allow")),
    "deny": policy(both("deny")),
    "reject": policy(both("reject")),
    "empty": policy(),
}
#: ICMP type and code, ICMPv6 type and code: administratively prohibited.
PROHIBITED = {4: (3, 13), 6: (1, 1)}


@pytest.mark.parametrize(("egress", "ingress"), list(itertools.product(LISTS, LISTS)))
def test_both_ports_on_the_way_must_allow(lab: Lab, enforce: Enforcer, egress: str, ingress: str) -> None:
    guards = {}
    if LISTS[egress] is not None:
        guards["red"] = Guard(ingress=LISTS["allow"], egress=LISTS[egress])
    if LISTS[ingress] is not None:
        guards["blue"] = Guard(ingress=LISTS[ingress], egress=LISTS["allow"])
    enforce(**guards)
    ways = ((lab.red, lab.blue), (lab.blue, lab.red))
    enforce.check(
        [
            one.request(protocol, other.address(version), None if protocol == "icmp" else 1234)
            for one, other in ways
            for version in (4, 6)
            for protocol in ("tcp", "udp", "icmp")
        ]
    )


@pytest.mark.parametrize("version", [4, 6])
def test_reject_tells_the_sender_at_once(kind: str, lab: Lab, enforce: Enforcer, version: int) -> None:
    enforce(blue=Guard(ingress=policy(both("reject"))))
    blue, router = lab.blue.address(version), lab.port("red").fixed_ips
    reporters = router if kind == "router" else (blue,)  # a switch has no address of its own
    assert lab.red.probe("tcp", blue, 22).outcome is Outcome.RESET
    for probe in (lab.red.probe("udp", blue, 53), lab.red.probe("icmp", blue)):
        assert probe.outcome is Outcome.UNREACHABLE
        assert (probe.icmp_type, probe.icmp_code) == PROHIBITED[version]
        assert probe.reporter in reporters


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_range_holds_both_its_borders_and_no_more(
    lab: Lab, enforce: Enforcer, protocol: str, version: int
) -> None:
    rules = [rule("allow", protocol, ports, version=version) for ports in ("0:1024", "4000:4001", "65535")]
    enforce(blue=Guard(ingress=policy(*rules), egress=ALLOW_ALL))
    ports = [1, 1023, 1024, 1025, 3999, 4000, 4001, 4002, 65534, 65535]
    enforce.check([lab.red.request(protocol, lab.blue.address(version), port) for port in ports])


def test_a_source_port_range_holds_both_its_borders_and_no_more(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard(ingress=policy(rule("allow", "udp", source_ports="5000:5002")), egress=ALLOW_ALL))
    ports = [4999, 5000, 5001, 5002, 5003]
    enforce.check([lab.red.request("udp", lab.blue.address(), 53, source_port=port) for port in ports])


def test_prefixes_and_single_addresses_match_what_is_in_them(lab: Lab, enforce: Enforcer) -> None:
    rules = policy(
        rule("deny", source="10.1.0.11/32"),
        rule("allow", source="10.1.0.8/29", destination="10.2.0.10/31"),
        rule("deny", source="fd00:1::b/128", version=6),
        rule("allow", source="fd00:1::8/125", destination="fd00:2::a/127", version=6),
    )
    enforce(blue=Guard(ingress=rules, egress=ALLOW_ALL))
    pairs = [
        (source, destination)
        for source, destination in itertools.product(lab.red.addresses, lab.blue.addresses)
        if source.version == destination.version
    ]
    assert len(pairs) == 32
    enforce.check([lab.red.request("udp", destination, 53, source=source) for source, destination in pairs])


def test_a_rule_of_one_ip_version_says_nothing_about_the_other(lab: Lab, enforce: Enforcer) -> None:
    for version in (4, 6):
        enforce(blue=Guard(ingress=policy(rule("allow", version=version)), egress=ALLOW_ALL))
        enforce.check(enforce.requests([22]))
        assert lab.red.probe("tcp", lab.blue.address(version), 22).outcome is Outcome.PASSED


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_errors_come_back_without_a_rule_for_icmp(lab: Lab, enforce: Enforcer, version: int) -> None:
    closed = 9
    lab.blue.close_port("udp", closed)
    udp = policy(both("allow", "udp"))
    enforce(red=Guard(ingress=udp, egress=udp), blue=Guard(ingress=udp, egress=udp))
    blue = lab.blue.address(version)
    probe = lab.red.probe("udp", blue, closed)
    assert probe.outcome is Outcome.UNREACHABLE
    assert probe.reporter == blue
    assert (probe.icmp_type, probe.icmp_code) == ((3, 3) if version == 4 else (1, 4))
    assert lab.red.probe("icmp", blue).outcome is Outcome.SILENT
