"""Connections that exist when a change comes: TCP and UDP, pushed by client or server, one-way UDP, IPv4 and IPv6.

In every test connections to ``KEPT`` keep running and lose no packet; those to ``CUT`` end with the change.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy
from packets.enforcer import KINDS, Enforcer
from packets.flows import Flows
from portward.lab import Lab, Outcome
from portward.model import Policy

pytestmark = pytest.mark.parametrize("kind", KINDS)

KEPT, CUT = 7001, 7002


def lists(*actions: tuple[str, int | str]) -> Policy:
    return policy(*(both(action, protocol, port) for action, port in actions for protocol in ("tcp", "udp")))


KEEP_ONLY = lists(("allow", KEPT))
KEEP_AND_CUT = lists(("allow", KEPT), ("allow", CUT))


@dataclass(frozen=True)
class Change:
    """Guards before and after; an empty one covers nothing."""

    before: dict[str, Guard]
    after: dict[str, Guard]


def blue_ingress(before: Policy, after: Policy) -> Change:
    """An edit of the policy that guards blue's ingress."""
    group = Guard()
    return Change(
        {"blue": Guard(before, ALLOW_ALL, id=group.id)},
        {"blue": Guard(edited(before, list(after.rules)), ALLOW_ALL, id=group.id)},
    )


def cuts() -> dict[str, Callable[[], Change]]:
    open_, shut = Guard(ALLOW_ALL, ALLOW_ALL), Guard(KEEP_ONLY, ALLOW_ALL)
    return {
        "a new deny before the allow": lambda: blue_ingress(
            lists(("allow", "7000:7010")), lists(("deny", CUT), ("allow", "7000:7010"))
        ),
        "a new reject before the allow": lambda: blue_ingress(
            lists(("allow", "7000:7010")), lists(("reject", CUT), ("allow", "7000:7010"))
        ),
        "the removal of its allow": lambda: blue_ingress(KEEP_AND_CUT, KEEP_ONLY),
        "a pure reorder": lambda: blue_ingress(
            lists(("allow", "7000:7010"), ("deny", CUT)), lists(("deny", CUT), ("allow", "7000:7010"))
        ),
        "its rule being disabled": lambda: blue_ingress(
            KEEP_AND_CUT, policy(list(KEEP_ONLY.rules), both("allow", "tcp", CUT, enabled=False))
        ),
        "its allow becoming a reject": lambda: blue_ingress(KEEP_AND_CUT, lists(("allow", KEPT), ("reject", CUT))),
        "its allow being narrowed": lambda: blue_ingress(lists(("allow", f"{KEPT}:{CUT}")), KEEP_ONLY),
        "another policy in the group": lambda: Change(
            {"blue": open_}, {"blue": Guard(KEEP_ONLY, ALLOW_ALL, id=open_.id)}
        ),
        "the port's move to another group": lambda: Change({"blue": open_}, {"blue": shut}),
        "the port being covered": lambda: Change({}, {"blue": shut}),
        "the sender's port being covered": lambda: Change({}, {"red": Guard(ALLOW_ALL, KEEP_ONLY)}),
        "an edit of the sender's egress": lambda: Change(
            {"red": Guard(ALLOW_ALL, KEEP_AND_CUT, id=open_.id), "blue": shut_of(KEEP_AND_CUT)},
            {"red": Guard(ALLOW_ALL, edited(KEEP_AND_CUT, list(KEEP_ONLY.rules)), id=open_.id), "blue": open_},
        ),
    }


def shut_of(rules: Policy) -> Guard:
    return Guard(policy(list(rules.rules)), ALLOW_ALL)


@pytest.mark.parametrize("how", ["their policies", "the rules of these"])
def test_two_ports_that_exchange_what_decides_for_them_lose_and_keep_at_once(
    lab: Lab, enforce: Enforcer, how: str
) -> None:
    """What one allows and the other denies is the other way round after a single change."""
    one, other = lists(("allow", "7001:7002"), ("deny", CUT + 1)), lists(("allow", KEPT), ("allow", CUT + 1))
    groups = Guard(), Guard()

    def protect(blue: Policy, green: Policy) -> None:
        enforce(blue=Guard(blue, ALLOW_ALL, id=groups[0].id), green=Guard(green, ALLOW_ALL, id=groups[1].id))

    swapped = (other, one) if how == "their policies" else (edited(one, *other.rules), edited(other, *one.rules))
    protect(one, other)
    with Flows() as flows:
        for host, cut in ((lab.blue, CUT), (lab.green, CUT + 1)):
            for version in (4, 6):
                flows.open(lab.red, host.address(version), [KEPT], kept=True)
                flows.open(lab.red, host.address(version), [cut], kept=False)
        flows.change(lambda: protect(*swapped))
    assert lab.red.probe("udp", lab.blue.address(), CUT + 1).outcome is Outcome.PASSED
    assert lab.red.probe("udp", lab.green.address(), CUT).outcome is Outcome.PASSED


def run(lab: Lab, enforce: Enforcer, change: Change) -> None:
    enforce(**change.before)
    with Flows() as flows:
        for version in (4, 6):
            flows.open(lab.red, lab.blue.address(version), [KEPT], kept=True)
            flows.open(lab.red, lab.blue.address(version), [CUT], kept=False)
        flows.change(lambda: enforce(**change.after))


@pytest.mark.parametrize("reason", cuts())
def test_a_connection_is_cut_at_once_and_another_loses_nothing_by(lab: Lab, enforce: Enforcer, reason: str) -> None:
    run(lab, enforce, cuts()[reason]())


def test_admin_state_down_cuts_all_that_crosses_the_port_and_nothing_else(lab: Lab, enforce: Enforcer) -> None:
    guard = Guard(ALLOW_ALL, ALLOW_ALL)
    enforce(blue=guard, green=Guard(ALLOW_ALL, ALLOW_ALL))
    with Flows() as flows:
        flows.open(lab.red, lab.blue.address(4), [CUT], kept=False)
        flows.open(lab.blue, lab.outside.address(6), [CUT], kept=False)
        flows.open(lab.red, lab.green.address(4), [KEPT], kept=True)
        flows.open(lab.outside, lab.green.address(6), [KEPT], kept=True)
        down = Guard(ALLOW_ALL, ALLOW_ALL, up=False, id=guard.id)
        flows.change(lambda: enforce(blue=down, green=Guard(ALLOW_ALL, ALLOW_ALL)))


@pytest.mark.parametrize("reason", ["an unrelated rule", "a reorder", "uncovering", "the same state again"])
def test_a_change_that_alters_no_verdict_of_a_connection_costs_it_no_packet(
    lab: Lab, enforce: Enforcer, reason: str
) -> None:
    rules = lists(("allow", KEPT), ("deny", 9))
    group = Guard()
    before = {"blue": Guard(rules, ALLOW_ALL, id=group.id)}
    reordered = edited(rules, list(reversed(rules.rules)))
    longer = edited(rules, both("reject", "tcp", 23), list(rules.rules))
    after = {
        "an unrelated rule": {"blue": Guard(longer, ALLOW_ALL, id=group.id)},
        "a reorder": {"blue": Guard(reordered, ALLOW_ALL, id=group.id)},
        "uncovering": {},
        "the same state again": before,
    }[reason]
    enforce(**before)
    with Flows() as flows:
        for version in (4, 6):
            flows.open(lab.red, lab.blue.address(version), [KEPT], kept=True)
        flows.change(lambda: enforce(**after))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("push", ["client", "server"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_connection_that_was_cut_goes_on_when_it_is_allowed_again(
    lab: Lab, enforce: Enforcer, protocol: str, push: str, version: int
) -> None:
    guard = Guard(lists(("allow", KEPT)), ALLOW_ALL)
    enforce(blue=guard)
    with lab.red.connect(protocol, lab.blue.address(version), KEPT, push=push) as connection:
        assert connection.exchange()
        enforce(blue=Guard(lists(("deny", KEPT)), ALLOW_ALL, id=guard.id))
        assert not connection.exchange(timeout=0.1)
        enforce(blue=guard)
        assert connection.exchange(timeout=3)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("side", ["the receiver's ingress", "the sender's egress"])
@pytest.mark.parametrize("push", ["client", "server"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_after_changes_that_a_connection_slept_through_its_first_packet_is_judged_from_whichever_end(
    lab: Lab, enforce: Enforcer, protocol: str, push: str, side: str, version: int
) -> None:
    def protect(rules: Policy) -> None:
        if side == "the receiver's ingress":
            enforce(blue=Guard(rules, ALLOW_ALL))
        else:
            enforce(red=Guard(ALLOW_ALL, rules))

    protect(KEEP_AND_CUT)
    address = lab.blue.address(version)
    with (
        lab.red.connect(protocol, address, KEPT, push=push) as kept,
        lab.red.connect(protocol, address, CUT, push=push) as cut,
    ):
        for number in range(3):
            protect(lists(("allow", KEPT), ("allow", 8000 + number)))
        assert not cut.exchange(timeout=0.1)
        assert kept.exchange()
