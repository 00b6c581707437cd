"""The order of a change: nothing wrong at any moment, and nothing sent when nothing changed."""

from packets.builders import ALLOW_ALL, Guard, both, edited, policy
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, generation_id, marks, nft, ruleset, udp
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome, probe_all

PASSED, SILENT = Outcome.PASSED, Outcome.SILENT


def outcome(lab: Lab, port: int) -> Outcome:
    return lab.red.probe("udp", lab.blue.address(), port).outcome


def test_a_state_that_is_enforced_already_sends_nothing(lab: Lab, enforce: Enforcer) -> None:
    guard = Guard(ingress=udp(5001), egress=ALLOW_ALL)
    enforce(blue=guard)
    before = generation_id(lab.router_netns)
    enforce(blue=guard)
    assert generation_id(lab.router_netns) == before


def test_a_rule_that_is_disabled_changes_nothing(lab: Lab, enforce: Enforcer) -> None:
    guard = Guard(ingress=udp(5001), egress=ALLOW_ALL)
    enforce(blue=guard)
    before = generation_id(lab.router_netns)
    with_disabled = edited(guard.ingress, both("deny", enabled=False), *guard.ingress.rules)
    enforce(blue=Guard(ingress=with_disabled, egress=ALLOW_ALL))
    assert generation_id(lab.router_netns) == before


def test_the_new_policy_decides_from_the_switch_on_and_no_sooner(lab: Lab) -> None:
    seen: list[tuple[Step, Outcome, Outcome]] = []

    def look(step: Step) -> None:
        seen.append((step, outcome(lab, 5001), outcome(lab, 5002)))

    with enforcing(lab, on_step=look) as enforce:
        guard = Guard(ingress=udp(5001))
        enforce(blue=guard)
        seen.clear()
        enforce(blue=Guard(ingress=edited(guard.ingress, *udp(5002).rules), id=guard.id))
    assert seen == [
        (Step.PREPARED, PASSED, SILENT),
        (Step.SWITCHED, SILENT, PASSED),
        (Step.REMOVED, SILENT, PASSED),
    ]


def test_a_port_is_covered_and_uncovered_by_the_switch(lab: Lab) -> None:
    seen: list[tuple[Step, Outcome]] = []
    with enforcing(lab, on_step=lambda step: seen.append((step, outcome(lab, 5001)))) as enforce:
        red = Guard(ingress=ALLOW_ALL, egress=ALLOW_ALL)
        enforce(red=red)
        for guards, before, after in (({"blue": Guard()}, PASSED, SILENT), ({}, SILENT, PASSED)):
            seen.clear()
            enforce(red=red, **guards)
            assert seen == [(Step.PREPARED, before), (Step.SWITCHED, after), (Step.REMOVED, after)]


def test_nothing_of_earlier_changes_stays_behind(lab: Lab, enforce: Enforcer) -> None:
    first = {"blue": Guard(ingress=udp(5001))}
    enforce(**first)
    once = ruleset(lab.router_netns)
    for ports in ((5001, 5002), (5003,)):
        enforce(red=Guard(), blue=Guard(ingress=udp(*ports)))
    enforce(**first)
    assert len(ruleset(lab.router_netns).splitlines()) == len(once.splitlines())


def test_when_the_last_port_goes_so_does_every_trace(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard(ingress=ALLOW_ALL))
    assert outcome(lab, 5001) is PASSED
    enforce()
    assert "portward" not in nft(lab.router_netns, "list ruleset")
    assert marks(lab.router_netns)[5001] == {0}


def test_no_packet_is_lost_or_leaked_by_any_kind_of_change(lab: Lab, enforce: Enforcer) -> None:
    """Red and blue take turns to refuse 5004 and 5005, which therefore never pass; 5001 and 5002 always do."""
    flows = [
        lab.red.flow(lab.blue.address(version), port, source_port=source_port)
        for version in (4, 6)
        for port, source_port in ((5001, 40001), (5002, None), (5004, 40004), (5005, None))
    ]
    some = udp(5001, 5002, 5003)
    fewer = policy(both("reject", "tcp"), *udp(5002, 5001).rules)
    changes = [
        {"red": Guard(egress=some), "blue": Guard(ingress=ALLOW_ALL)},
        {"red": Guard(egress=ALLOW_ALL), "blue": Guard(ingress=some)},  # both sides, the other way round
        {"blue": Guard(ingress=fewer)},  # a port uncovered, a policy replaced
        {"blue": Guard(ingress=edited(fewer, *some.rules))},  # a policy edited
        {"red": Guard(egress=fewer), "blue": Guard(ingress=ALLOW_ALL)},
        {"red": Guard(egress=some), "green": Guard(up=False)},
        {"red": Guard(egress=some), "blue": Guard(ingress=ALLOW_ALL, egress=ALLOW_ALL)},  # a port covered
    ]
    enforce(**changes[0])
    with lab.red.stream(flows, rate=12_000) as stream:
        for _ in range(80):
            for guards in changes:
                enforce(**guards)
        counts = stream.stop()
    assert all(count.sent > 500 for count in counts)
    for flow, count in zip(flows, counts, strict=True):
        assert count.received == (count.sent if flow.port in (5001, 5002) else 0), flow


def test_rejects_above_100_a_second_and_port_are_silence(lab: Lab, enforce: Enforcer) -> None:
    enforce(blue=Guard(ingress=policy(both("reject"))), green=Guard(ingress=policy(both("reject"))))
    requests = [lab.red.request("tcp", lab.blue.address(), 1000 + number) for number in range(300)]
    outcomes = [probe.outcome for probe in probe_all(requests, 0.2)]
    assert 100 <= outcomes.count(Outcome.RESET) <= 160
    assert outcomes.count(Outcome.RESET) + outcomes.count(SILENT) == 300
    assert lab.red.probe("tcp", lab.green.address(), 1000).outcome is Outcome.RESET, "another port has its own measure"
