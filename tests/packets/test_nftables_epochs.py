"""Epochs that come round: 7 of them, so that a few changes are enough."""

import subprocess

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, epoch, marks, udp
from portward.dataplane.nftables.namespace import Step
from portward.lab import Datagram, Lab, Outcome
from portward.model import ICMP, UDP

MASK = 0xF
LAST = 7


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_idle_connection_stays_denied_or_allowed_when_its_epoch_comes_round(
    lab: Lab, protocol: str, version: int
) -> None:
    """Denied: no packet revives it. Allowed: the server's push still reaches the client that has been silent."""
    kept_ports = [
        edited(ALLOW_ALL, both("allow", protocol, 5001), both("allow", protocol, 6000 + number)) for number in range(2)
    ]
    with enforcing(lab, ct_mark_mask=MASK) as enforce:
        enforce(blue=Guard(ingress=ALLOW_ALL))
        address = lab.blue.address(version)
        kept = lab.red.connect(protocol, address, 5001, push="server")
        cut = [lab.red.connect(protocol, address, 5002, push=push) for push in ("client", "server")]
        accepted = epoch(lab.router_netns)
        assert marks(lab.router_netns)[5002] == {accepted}
        seen = []
        for number in range(2 * LAST + 3):
            enforce(blue=Guard(ingress=kept_ports[number % 2]))
            seen.append(epoch(lab.router_netns))
            assert marks(lab.router_netns)[5001] <= {accepted, 0}
            if seen[-1] == accepted:
                assert [connection.exchange(0.1) for connection in cut] == [False, False]
        assert seen.count(accepted) == 2
        assert 0 not in seen
        assert kept.exchange()
        for connection in (kept, *cut):
            connection.close()


def test_marks_are_cleared_twice_a_round_and_not_otherwise(lab: Lab) -> None:
    steps: list[tuple[int, Step]] = []
    changes = 0
    with enforcing(lab, ct_mark_mask=MASK, on_step=lambda step: steps.append((changes, step))) as enforce:
        for changes in range(2 * LAST):
            enforce(blue=Guard(ingress=udp(5001 + changes)))
        assert epoch(lab.router_netns) == LAST
    assert [number for number, step in steps if step is Step.MARKS_CLEARED] == [0, 3, 7, 10]


def test_a_connection_that_another_announces_is_judged_by_its_own_rules(lab: Lab, enforce: Enforcer) -> None:
    """As helpers do: the kernel gives it the mark of the one that announced it, which is accepted."""
    announce = """
    table inet helper {
        ct expectation announced { protocol udp; dport 9876; timeout 2m; size 12; l3proto ip; }
        chain forward {
            type filter hook forward priority -10; policy accept;
            udp dport 5001 ct expectation set "announced"
        }
    }
    """
    subprocess.run(["ip", "netns", "exec", lab.router_netns, "nft", "-f", "-"], input=announce, text=True, check=True)
    enforce(red=Guard(ingress=udp(5555), egress=ALLOW_ALL))
    with lab.red.connect("udp", lab.blue.address(), 5001) as announcing:
        assert announcing.exchange()
        assert lab.blue.probe("udp", lab.red.address(), 9876).outcome is Outcome.SILENT
        enforce(red=Guard(ingress=udp(9876), egress=ALLOW_ALL))
        assert announcing.exchange()
        assert lab.blue.probe("udp", lab.red.address(), 9876).outcome is Outcome.PASSED


@pytest.mark.parametrize("version", [4, 6])
def test_an_icmp_error_follows_its_connection_without_a_rule_for_icmp(
    lab: Lab, enforce: Enforcer, version: int
) -> None:
    lab.blue.close_port("udp", 5001)
    enforce(blue=Guard(ingress=udp(5001)))
    probe = lab.red.probe("udp", lab.blue.address(version), 5001)
    assert (probe.outcome, probe.reporter) == (Outcome.UNREACHABLE, lab.blue.address(version))


def test_an_icmp_error_revives_no_connection(lab: Lab, enforce: Enforcer) -> None:
    """All ICMP is allowed, so judged by rules it would pass, and write the mark of the connection that it quotes."""
    ping = policy(both("allow", "icmp"))
    enforce(blue=Guard(ingress=ALLOW_ALL, egress=ping))
    with lab.red.connect("udp", lab.blue.address(), 5002, source_port=40002) as cut:
        accepted = epoch(lab.router_netns)
        lab.blue.close_port("udp", 5002)
        enforce(blue=Guard(ingress=ping, egress=ping))
        quoted = Datagram(
            source=lab.red.address(),
            destination=lab.blue.address(),
            protocol=UDP,
            source_port=40002,
            destination_port=5002,
            payload=b"",
        ).to_bytes()
        error = Datagram(
            source=lab.blue.address(),
            destination=lab.red.address(),
            protocol=ICMP,
            icmp=(3, 3, bytes(4)),
            payload=quoted,
        )
        lab.blue.forge(error)
        assert marks(lab.router_netns)[5002] == {accepted}
        assert not cut.exchange(0.2)


def test_an_agent_with_another_mask_takes_over_under_traffic(lab: Lab) -> None:
    """The old table goes on marking new connections while marks are cleared; 1 of the old mask is 1 of the new."""
    flows = [lab.red.flow(lab.blue.address(), port) for port in (5001, 5004)]
    flows += [lab.red.flow(lab.blue.address(6), port, source_port=40000) for port in (5001, 5004)]
    guards = {"blue": Guard(ingress=udp(5001))}
    with enforcing(lab, ct_mark_mask=0xFF) as enforce:
        enforce(**guards)
    with lab.red.stream(flows, rate=8_000) as stream:
        for mask in (0xF, 0xFF0, 0xFFFF, 0xFF):
            with enforcing(lab, ct_mark_mask=mask) as enforce:
                enforce(**guards)
        counts = stream.stop()
    for flow, count in zip(flows, counts, strict=True):
        assert count.received == (count.sent if flow.port == 5001 else 0), flow


def test_a_mark_of_another_mask_revives_nothing_when_its_number_comes(lab: Lab) -> None:
    """The old table still marked with 5 when the new one began, with 1, to count to 5."""
    with enforcing(lab, ct_mark_mask=0xFF) as enforce:
        for number in range(5):
            enforce(blue=Guard(ingress=udp(5002, 6000 + number)))
        cut = lab.red.connect("udp", lab.blue.address(), 5002)
        assert marks(lab.router_netns)[5002] == {5}
    with enforcing(lab, ct_mark_mask=0xF) as enforce:
        for number in range(5):
            enforce(blue=Guard(ingress=udp(6000 + number)))
            assert epoch(lab.router_netns) == number + 1
        assert not cut.exchange(0.2)
    cut.close()
