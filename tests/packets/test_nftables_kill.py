"""An agent that dies at any step of a change, under traffic: nothing leaks, nothing is lost, the next one goes on."""

import pytest

from packets.builders import ALLOW_ALL, Guard, address_set, edited, new_id, policy, rule, state_of
from packets.nftables_router import BUILDING, apply_and_die, enforcing, epoch, epochs, ruleset, udp
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome
from portward.model import HostState

MASK = 0xF  # so that epochs come round, and marks are cleared, every few changes
KEPT = udp(5001, 5002)
BEFORE = {"blue": Guard(ingress=KEPT), "red": Guard(egress=ALLOW_ALL)}
CHANGES = {
    "a policy edited": {"blue": Guard(ingress=edited(KEPT, *udp(5001, 5002, 5003).rules)), "red": BEFORE["red"]},
    "a policy replaced": {"blue": Guard(ingress=udp(5002, 5001)), "red": BEFORE["red"]},
    "a port covered": {**BEFORE, "green": Guard()},
    "a port uncovered": {"blue": Guard(ingress=ALLOW_ALL), "red": Guard(egress=KEPT)},
    "the other port uncovered": {"blue": BEFORE["blue"]},
}
SET = new_id()
NAMING = {"blue": Guard(ingress=policy(rule("allow", "udp", 5006, source_set=SET), *KEPT.rules)), "red": BEFORE["red"]}


@pytest.mark.parametrize("step", Step)
def test_an_agent_killed_at_any_step_leaks_nothing_and_loses_nothing(lab: Lab, step: Step) -> None:
    flows = [
        lab.red.flow(lab.blue.address(version), port, source_port=source_port)
        for version in (4, 6)
        for port, source_port in ((5001, 40001), (5002, None), (5004, 40004), (5005, None))
    ]
    edits = step is Step.EDITED
    guards_before, changes = (NAMING, {"a member comes": NAMING}) if edits else (BEFORE, CHANGES)
    with enforcing(lab, ct_mark_mask=MASK) as enforce:
        before = enforce(sets=[address_set(SET)], **guards_before)
    with lab.red.stream(flows, rate=6_000) as stream:
        for name, guards in changes.items():
            members = ["192.0.2.1/32"] if edits else []
            after = state_of(lab.ports, guards, before, [address_set(SET, *members)])
            # Marks are cleared when epochs come round, so it takes a few changes to get there.
            states = [before, after] * 8 if step is Step.MARKS_CLEARED else [before, after]
            armed = 1 if step is Step.MARKS_CLEARED else -1
            assert apply_and_die(states, step, armed=armed, ct_mark_mask=MASK), f"{name}: never came to {step}"
            assert apply_and_die([before], step, ct_mark_mask=MASK) or step in (Step.MARKS_CLEARED, Step.EDITED)
            left = epochs(lab.router_netns)
            with enforcing(lab, ct_mark_mask=MASK) as enforce:
                enforce(**BEFORE)
            assert epoch(lab.router_netns) not in left
        counts = stream.stop()
    assert all(count.sent > 500 for count in counts)
    for flow, count in zip(flows, counts, strict=True):
        assert count.received == (count.sent if flow.port in (5001, 5002) else 0), flow


@pytest.mark.parametrize("step", BUILDING)
def test_whoever_comes_after_a_killed_agent_finds_nothing_in_the_way(lab: Lab, step: Step) -> None:
    """From an empty namespace, and back to one."""
    covered = state_of(lab.ports, BEFORE, HostState(generation=0))
    assert apply_and_die([covered], step)
    with enforcing(lab) as enforce:
        enforce(**BEFORE)
        whole = ruleset(lab.router_netns)
        assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is Outcome.PASSED
        assert lab.red.probe("udp", lab.blue.address(), 5004).outcome is Outcome.SILENT
    if step is not Step.PREPARED:
        assert apply_and_die([covered, HostState(generation=9)], step)
    with enforcing(lab) as enforce:
        enforce(**BEFORE)
        assert len(ruleset(lab.router_netns)) == len(whole)
