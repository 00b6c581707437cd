"""What admins assign above and below tenants' groups, by its use cases; on both kinds of port, live and restarted."""

from collections.abc import Iterator

import pytest

from packets.builders import ALLOW_ALL, Guard, address_set, both, edited, new_id, policy, rule
from packets.enforcer import KINDS, Enforcer, dataplane_of
from packets.flows import Flows
from portward.lab import Lab, Outcome
from portward.model import Stratum

pytestmark = pytest.mark.parametrize("kind", KINDS)

MAIL, WEB, TLS, SSH, METRICS = 25, 80, 443, 22, 9100
KEPT, CUT = 7001, 7002
TENANTS = ("red", "blue", "green")
OPEN = Guard(ALLOW_ALL, ALLOW_ALL)


def admin(*rules: object, way: str = "ingress", position: int = 0) -> Guard:
    """A group of the admin stratum with these rules in one direction, and none in the other."""
    return Guard(**{way: policy(*rules)}, stratum=Stratum.ADMIN, position=position)


def passes(lab: Lab, sender: str, receiver: str, protocol: str, port: int | None, version: int = 4) -> bool:
    destination = lab.hosts[receiver].address(version)
    return lab.hosts[sender].probe(protocol, destination, port).outcome is Outcome.PASSED


@pytest.fixture
def restart(lab: Lab, enforce: Enforcer) -> Iterator[object]:
    """Ends the dataplane and begins with a new one, which finds what the first left."""

    def again() -> None:
        enforce.dataplane.close()
        enforce.dataplane = dataplane_of(lab)
        report = enforce.dataplane.apply(enforce.state)
        assert [port for port in report.ports if port.error] == []

    return again


def test_nobody_reaches_port_25_outside_whatever_a_tenant_allows(lab: Lab, enforce: Enforcer, restart: object) -> None:
    no_mail = admin(both("pass", "tcp", f"{MAIL + 1}:65535"), both("deny", "tcp", MAIL), way="egress")
    eager = Guard(ALLOW_ALL, policy(both("allow", "tcp", MAIL), both("allow")))
    enforce(**dict.fromkeys(TENANTS, (no_mail, eager)))
    for _ in range(2):
        enforce.check(enforce.requests([MAIL, WEB]))
        for version in (4, 6):
            assert not passes(lab, "red", "outside", "tcp", MAIL, version)
            assert passes(lab, "red", "outside", "tcp", WEB, version)
        restart()


def test_monitoring_always_reaches_its_port_and_a_tenant_denies_it_in_vain(
    lab: Lab, enforce: Enforcer, restart: object
) -> None:
    monitors = new_id()
    reach = admin(
        *(rule("allow", "tcp", METRICS, source_set=monitors, version=version) for version in (4, 6)),
    )
    closed = Guard(policy(both("deny", "tcp", METRICS), both("allow", "tcp", WEB)), ALLOW_ALL)
    sets = [address_set(monitors, *lab.green.addresses)]
    enforce(sets=sets, red=(reach, closed), blue=(Guard(), reach))
    for _ in range(2):
        enforce.check(enforce.requests([METRICS, WEB]))
        for tenant in ("red", "blue"):
            assert passes(lab, "green", tenant, "tcp", METRICS, 4)
            assert passes(lab, "green", tenant, "tcp", METRICS, 6)
            assert not passes(lab, "outside", tenant, "tcp", METRICS)
        restart()


def test_web_is_left_to_the_tenants_and_the_rest_of_the_internet_is_denied(
    lab: Lab, enforce: Enforcer, restart: object
) -> None:
    inside = new_id()
    front = admin(
        *(rule("pass", source_set=inside, version=version) for version in (4, 6)),
        both("pass", "tcp", WEB),
        both("pass", "tcp", TLS),
        both("deny"),
    )
    server = Guard(policy(both("allow", "tcp", WEB), both("allow", "tcp", SSH)), ALLOW_ALL)
    sets = [address_set(inside, *(address for name in TENANTS for address in lab.hosts[name].addresses))]
    enforce(sets=sets, red=(front, server), blue=(front, OPEN), green=(front, Guard()))
    for _ in range(2):
        enforce.check(enforce.requests([WEB, TLS, SSH]))
        assert passes(lab, "outside", "red", "tcp", WEB)
        assert not passes(lab, "outside", "red", "tcp", TLS)  # the tenant's own last word
        assert not passes(lab, "outside", "red", "tcp", SSH)  # which the tenant allows in vain
        assert passes(lab, "blue", "red", "tcp", SSH)
        assert not passes(lab, "outside", "blue", "icmp", None)
        restart()


def test_icmp_is_allowed_unless_the_tenant_says_otherwise(lab: Lab, enforce: Enforcer, restart: object) -> None:
    echo = policy(rule("allow", "icmp", icmp_type=8), rule("allow", "icmp", icmp_type=128, version=6))
    below = Guard(echo, echo, stratum=Stratum.BASELINE)
    silent = Guard(policy(both("allow", "tcp", WEB)), ALLOW_ALL)  # has no rule about ICMP
    refusing = Guard(policy(both("deny", "icmp"), both("allow")), ALLOW_ALL)
    default = Guard(policy(both("deny", enabled=False)), ALLOW_ALL)  # as with `ingress_enabled` false
    enforce(red=(silent, below), blue=(refusing, below), green=(below, default))
    for _ in range(2):
        enforce.check(enforce.requests([WEB]))
        for version in (4, 6):
            assert passes(lab, "outside", "red", "icmp", None, version)
            assert passes(lab, "outside", "green", "icmp", None, version)
            assert not passes(lab, "outside", "blue", "icmp", None, version)
            assert not passes(lab, "outside", "green", "tcp", WEB, version)
        restart()


def test_groups_of_one_stratum_decide_by_position_and_one_that_is_down_takes_no_part(enforce: Enforcer) -> None:
    first, second = admin(both("deny", "tcp", WEB), position=1), admin(both("allow", "tcp", WEB), position=2)
    for groups in (
        (second, first, Guard()),
        (admin(both("allow", "tcp", WEB), position=0), first, Guard()),
        (Guard(first.ingress, stratum=Stratum.ADMIN, position=1, up=False), second, Guard()),
        (first,),  # no tenant group: what no rule decides passes
    ):
        enforce(blue=groups)
        enforce.check(enforce.requests([WEB, SSH]))


def test_what_an_admin_denies_is_cut_at_once_and_what_stays_allowed_loses_nothing(lab: Lab, enforce: Enforcer) -> None:
    above = admin(both("deny", "udp", 9))
    members = new_id()
    enforce(sets=[address_set(members)], blue=(above, OPEN))
    with Flows() as flows:
        for version in (4, 6):
            flows.open(lab.red, lab.blue.address(version), [KEPT], kept=True)
            flows.open(lab.red, lab.blue.address(version), [CUT], kept=False)
        denies = [
            rule("deny", protocol, CUT, source_set=members, version=version)
            for protocol in ("tcp", "udp")
            for version in (4, 6)
        ]

        def change() -> None:
            shut = Guard(edited(above.ingress, *denies), stratum=Stratum.ADMIN, id=above.id)
            enforce(sets=[address_set(members)], blue=(shut, OPEN))  # denies what an empty set holds: nothing
            enforce(sets=[address_set(members, *lab.red.addresses)], blue=(shut, OPEN))

        flows.change(change)
