"""Beside others in one namespace: their tables, marks and traffic stay as they were, and ours is not theirs to ride."""

import subprocess

import pytest

from packets.builders import ALLOW_ALL, Guard
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, epoch, generation_id, marks, nft, udp
from portward.lab import Datagram, Lab, Outcome, Place
from portward.model import UDP, HostState

FOREIGN = """
table inet neighbour {
    set covered { type ifname; elements = { "qr-x" }; }
    map egress { type ifname : verdict; elements = { "qr-x" : jump other }; }
    counter seen { }
    chain other { return; }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct mark and 0xffff0000 == 0 ct mark set ct mark or 0xabcd0000
        iifname vmap @egress
    }
}
table ip raw {
    chain notes { comment "of somebody else"; }
}
"""
PASSED, SILENT = Outcome.PASSED, Outcome.SILENT


def load(netns: str, text: str) -> None:
    subprocess.run(["ip", "netns", "exec", netns, "nft", "-f", "-"], input=text, text=True, check=True)


def foreign(netns: str) -> str:
    return "".join(nft(netns, f"-a list table {table}") for table in ("inet neighbour", "ip raw"))


def test_foreign_tables_are_byte_identical_after_everything_that_an_agent_does(lab: Lab) -> None:
    load(lab.router_netns, FOREIGN)
    before = foreign(lab.router_netns)
    for _ in range(2):
        with enforcing(lab, ct_mark_mask=0xF) as enforce:
            for number in range(20):
                enforce(blue=Guard(ingress=udp(5001, 5002 + number % 2)), red=Guard(egress=ALLOW_ALL))
            enforce(blue=Guard(up=False))
            enforce()
            enforce(red=Guard())
    with enforcing(lab) as enforce:
        assert enforce.dataplane.cleanup() == (
            f"namespace {lab.router_netns}: forwarded traffic is no longer filtered by Portward",
        )
    assert foreign(lab.router_netns) == before
    assert "portward" not in nft(lab.router_netns, "list ruleset")


def test_what_others_do_to_their_own_tables_is_none_of_ours(lab: Lab, enforce: Enforcer) -> None:
    guards = {"blue": Guard(ingress=udp(5001))}
    enforce(**guards)
    before = epoch(lab.router_netns)
    for _ in range(3):
        load(lab.router_netns, FOREIGN)
        changed = generation_id(lab.router_netns)
        enforce(**guards)
        assert generation_id(lab.router_netns) == changed
        nft(lab.router_netns, "delete table inet neighbour")
        enforce(**guards)
    assert epoch(lab.router_netns) == before


def test_bits_of_marks_that_belong_to_others_keep_their_value(lab: Lab) -> None:
    load(lab.router_netns, FOREIGN)
    with enforcing(lab, ct_mark_mask=0xF0) as enforce, lab.red.connect("udp", lab.blue.address(), 5001) as connection:
        assert marks(lab.router_netns)[5001] == {0xABCD0000}
        for number in range(40):
            enforce(blue=Guard(ingress=udp(5001, 5002 + number)))
            if number % 3:  # also idle through some epochs
                assert connection.exchange()
                assert marks(lab.router_netns)[5001] == {0xABCD0000 | epoch(lab.router_netns) << 4}
        enforce()
        assert marks(lab.router_netns)[5001] == {0xABCD0000}


def test_marks_of_others_in_our_bits_are_cleared_before_anything_is_enforced(lab: Lab, enforce: Enforcer) -> None:
    load(lab.router_netns, FOREIGN.replace("0xabcd0000", "0xabcd0001"))
    with lab.red.connect("udp", lab.blue.address(), 5001) as connection:
        assert marks(lab.router_netns)[5001] == {0xABCD0001}
        nft(lab.router_netns, "delete table inet neighbour")
        enforce(blue=Guard())
        assert epoch(lab.router_netns) == 1
        assert not connection.exchange(0.2)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("forger", ["green", "outside"])
def test_a_third_network_cannot_ride_anothers_accepted_connection(
    lab: Lab, enforce: Enforcer, forger: str, version: int
) -> None:
    """The forger's own port is covered by no group; the connection's receiver is."""
    enforce(blue=Guard(ingress=ALLOW_ALL))
    source, destination = lab.red.address(version), lab.blue.address(version)
    with lab.red.connect("udp", destination, 5001, source_port=40001) as connection:
        assert connection.exchange()
        arrived = lab.blue.count(Place.ARRIVED, "udp dport 5001")
        forged = Datagram(
            source=source, destination=destination, protocol=UDP, source_port=40001, destination_port=5001, payload=b"x"
        )
        lab.hosts[forger].forge(forged, count=5)
        assert connection.exchange()
        assert arrived.packets() == {"match": 1}
        arrived.remove()


def test_without_the_reverse_path_check_it_can(lab: Lab) -> None:
    """So the test above sees what it claims to see."""
    with enforcing(lab, reverse_path="off") as enforce:
        enforce(blue=Guard(ingress=ALLOW_ALL))
        arrived = lab.blue.count(Place.ARRIVED, "udp dport 5001", drop=True)
        forged = Datagram(
            source=lab.red.address(),
            destination=lab.blue.address(),
            protocol=UDP,
            source_port=40001,
            destination_port=5001,
            payload=b"x",
        )
        lab.green.forge(forged, count=5)
        assert lab.red.probe("icmp", lab.blue.address()).outcome is PASSED
        assert arrived.packets() == {"match": 5}
        arrived.remove()


def test_cleanup_says_which_namespace_is_open_and_finds_what_an_earlier_agent_left(lab: Lab) -> None:
    with enforcing(lab) as enforce:
        enforce(blue=Guard())
    assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is SILENT
    with enforcing(lab) as enforce:
        (said,) = enforce.dataplane.cleanup()
        assert lab.router_netns in said
        assert enforce.dataplane.cleanup() == ()
    assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is PASSED


def test_a_state_without_ports_ends_what_an_earlier_agent_enforced(lab: Lab) -> None:
    with enforcing(lab) as enforce:
        enforce(blue=Guard())
    with enforcing(lab) as enforce:
        enforce.dataplane.apply(HostState(generation=7))
    assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is PASSED


def test_the_table_of_another_agent_stays_where_no_port_of_ours_is_bound(lab: Lab) -> None:
    with enforcing(lab, owner="theirs") as theirs:
        theirs(blue=Guard())
    before = nft(lab.router_netns, "list table inet portward")
    with enforcing(lab, owner="ours") as ours:
        ours.dataplane.apply(HostState(generation=1))
        assert ours.dataplane.cleanup() == ()
    assert nft(lab.router_netns, "list table inet portward") == before


def test_a_port_of_ours_is_enforced_where_another_agents_table_stood_and_nothing_of_that_is_left(lab: Lab) -> None:
    with enforcing(lab, owner="theirs") as theirs:
        theirs(blue=Guard(), red=Guard())
    with enforcing(lab, owner="ours") as ours:
        ours(blue=Guard(ingress=udp(5001)))
        assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is Outcome.PASSED
        assert lab.red.probe("udp", lab.blue.address(), 5002).outcome is Outcome.SILENT
        ours()
    assert "portward" not in nft(lab.router_netns, "list ruleset")


def test_the_router_itself_answers_whatever_covers_its_ports(lab: Lab, enforce: Enforcer) -> None:
    enforce(red=Guard(), blue=Guard())
    for address in lab.port("red").fixed_ips:
        assert lab.red.probe("icmp", address).outcome is Outcome.PASSED
