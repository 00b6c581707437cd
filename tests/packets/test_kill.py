"""An agent that dies at any step of a change, under traffic: nothing leaks, nothing is lost, the next one goes on."""

import pytest

from packets.builders import ALLOW_ALL, Guard, address_set, edited, new_id, policy, rule, state_of
from packets.deaths import DEATHS, HALF_SENT, apply_and_die
from packets.enforcer import Enforcer
from packets.nftables_router import enforcing, epoch, epochs, udp
from packets.ours import footprint, wipe
from packets.steady import steady
from portward.dataplane.nftables.namespace import Step
from portward.lab import Lab, Outcome

MASK = 0xF  # so that epochs of a router come round, and marks are cleared, every few changes
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
PLACES = [(kind, step) for kind, step, _ in DEATHS]


@pytest.mark.parametrize(("kind", "step"), PLACES)
def test_an_agent_killed_at_any_step_of_any_change_leaks_nothing_and_loses_nothing(
    kind: str, lab: Lab, enforce: Enforcer, step: str
) -> None:
    before = enforce(**BEFORE)
    with steady(lab, kind, allowed=(5001, 5002), denied=(5004, 5005)):
        for name, guards in CHANGES.items():
            after = state_of(enforce.ports, guards, before)
            assert apply_and_die(lab, [before, after], step), f"{name}: never came to {step}"
            enforce.restart()
            enforce(**BEFORE)
        assert apply_and_die(lab, [before], step), f"taking over, never came to {step}"
        enforce.restart()
        enforce(**BEFORE)


@pytest.mark.parametrize("step", [Step.MARKS_CLEARED, Step.EDITED])
def test_a_routers_agent_killed_at_a_step_of_few_changes_leaks_nothing_and_loses_nothing(lab: Lab, step: Step) -> None:
    """It takes a few changes until epochs come round, and a member of a set for one that is edited."""
    guards, members = (NAMING, ["192.0.2.1/32"]) if step is Step.EDITED else (CHANGES["a policy edited"], [])
    with enforcing(lab, ct_mark_mask=MASK) as enforce:
        before = enforce(sets=[address_set(SET)], **(NAMING if step is Step.EDITED else BEFORE))
    after = state_of(lab.ports, guards, before, [address_set(SET, *members)])
    with steady(lab, "router", allowed=(5001, 5002), denied=(5004, 5005)):
        assert apply_and_die(lab, [before, after] * 8, step, armed=1, ct_mark_mask=MASK), f"never came to {step}"
        with enforcing(lab, ct_mark_mask=MASK) as enforce:
            enforce(**BEFORE)


@pytest.mark.parametrize("step", [Step.PREPARED, Step.SWITCHED, Step.REMOVED])
def test_no_epoch_that_a_killed_agent_left_on_a_router_is_the_next_ones(
    lab: Lab, enforce: Enforcer, step: Step
) -> None:
    states = [enforce(**BEFORE), state_of(enforce.ports, CHANGES["a policy replaced"], enforce.state)]
    assert apply_and_die(lab, states, step)
    left = epochs(lab.router_netns)
    enforce.restart()
    enforce(**BEFORE)
    assert epoch(lab.router_netns) not in left


@pytest.mark.parametrize(("kind", "step"), [("router", Step.MARKS_CLEARED), *PLACES])
def test_whoever_comes_after_a_killed_agent_finds_nothing_in_the_way(
    kind: str, lab: Lab, enforce: Enforcer, step: str
) -> None:
    """From a host where nothing is enforced, and back to one."""
    wipe(lab, kind)
    none = enforce.state
    covered = state_of(enforce.ports, BEFORE, none)
    assert apply_and_die(lab, [covered], step)
    enforce.restart()
    enforce(**BEFORE)
    whole = footprint(lab, kind)
    assert lab.red.probe("udp", lab.blue.address(), 5001).outcome is Outcome.PASSED
    assert lab.red.probe("udp", lab.blue.address(), 5004).outcome is Outcome.SILENT
    if step not in (Step.PREPARED, HALF_SENT):  # nothing is prepared where nothing is to be enforced
        assert apply_and_die(lab, [covered, none], step)
    enforce.restart()
    enforce(**BEFORE)
    assert footprint(lab, kind) == whole, "something was left behind"
