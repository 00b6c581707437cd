"""A third network sends packets of a connection that it has no part in: the reverse-path check stops them."""

import pytest

from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.enforcer import Enforcer
from portward.lab import Datagram, Lab, Outcome, Place
from portward.model import ICMP, ICMPV6, TCP, UDP

PROTOCOLS = {"tcp": TCP, "udp": UDP}
SERVICE, CLIENT = 6000, 5000
FORGED = 20
ACK = 16


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("entry", ["covered", "uncovered"])
@pytest.mark.parametrize("direction", ["original", "reply"])
def test_a_forged_tuple_of_an_accepted_connection_goes_nowhere(
    lab: Lab, enforce: Enforcer, direction: str, entry: str, protocol: str, version: int
) -> None:
    service = policy(both("allow", protocol, SERVICE))
    guards = {"red": Guard(egress=service), "blue": Guard(ingress=service)}
    if entry == "covered":
        guards["green"] = Guard(ingress=ALLOW_ALL, egress=ALLOW_ALL)
    enforce(**guards)
    red, blue = lab.red.address(version), lab.blue.address(version)
    ends = ((red, CLIENT), (blue, SERVICE))
    (source, source_port), (destination, port) = ends if direction == "original" else ends[::-1]
    victim = lab.blue if direction == "original" else lab.red
    family = "ip" if version == 4 else "ip6"
    match = (
        f"{family} saddr {source} {family} daddr {destination} {protocol} sport {source_port} {protocol} dport {port}"
    )
    push = "client" if direction == "original" else "server"
    with lab.red.connect(protocol, blue, SERVICE, source_port=CLIENT, push=push) as connection:
        arrived = victim.count(Place.ARRIVED, match)
        assert connection.exchange()
        genuine = arrived.packets()["match"]
        assert genuine >= 1, "the counter sees genuine packets, so it would see forged ones"
        forged = Datagram(
            source=source,
            destination=destination,
            protocol=PROTOCOLS[protocol],
            source_port=source_port,
            destination_port=port,
            tcp_flags=ACK,
            payload=b"forged",
        )
        lab.green.forge(forged, count=FORGED)
        assert connection.exchange(), "the connection itself goes on"
        assert arrived.packets()["match"] == genuine + 1, "forged packets arrived beside its own"


def test_the_forged_packets_would_arrive_if_nothing_were_filtered(lab: Lab) -> None:
    red, blue = lab.red.address(), lab.blue.address()
    arrived = lab.blue.count(Place.ARRIVED, f"ip saddr {red} udp sport {CLIENT} udp dport {SERVICE}", drop=True)
    forged = Datagram(source=red, destination=blue, protocol=UDP, source_port=CLIENT, destination_port=SERVICE)
    lab.green.forge(forged, count=FORGED)
    assert arrived.packets()["match"] == FORGED


@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_icmp_error_does_not_revive_a_connection_that_was_cut(
    lab: Lab, enforce: Enforcer, version: int
) -> None:
    red, blue = lab.red.address(version), lab.blue.address(version)
    guard = Guard(policy(both("allow")), ALLOW_ALL)
    enforce(blue=guard)
    with lab.red.connect("udp", blue, SERVICE, source_port=CLIENT) as connection:
        assert connection.exchange()
        enforce(blue=Guard(policy(both("allow", "icmp")), ALLOW_ALL, id=guard.id))
        assert not connection.exchange(timeout=0.1)
        arrived = lab.blue.count(Place.ARRIVED, "icmp type 3" if version == 4 else "icmpv6 type 1")
        reply = Datagram(source=blue, destination=red, protocol=UDP, source_port=SERVICE, destination_port=CLIENT)
        unreachable = Datagram(
            source=red,
            destination=blue,
            protocol=ICMP if version == 4 else ICMPV6,
            icmp=(3, 3, bytes(4)) if version == 4 else (1, 4, bytes(4)),
            payload=reply.to_bytes(),
        )
        lab.red.forge(unreachable, count=FORGED)
        assert lab.red.probe("icmp", blue).outcome is Outcome.PASSED, "later than the forged ones"
        assert arrived.packets()["match"] == 0
        assert not connection.exchange(timeout=0.1)
