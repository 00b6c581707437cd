"""Live connections through address translation (IPv4): rules see addresses as in the forward path."""

from ipaddress import ip_address

import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, policy, rule
from packets.enforcer import KINDS, Enforcer
from packets.flows import Flows
from portward.lab import Host, Lab, Outcome
from portward.model import Address, Rule

pytestmark = pytest.mark.parametrize("kind", KINDS)

KEPT, CUT = 7001, 7002
FLOATING = "203.0.113.50"


def lists(*actions: tuple[str, int | str]) -> list[list[Rule]]:
    return [both(action, protocol, ports) for action, ports in actions for protocol in ("tcp", "udp")]


#: Rules before and after each change; ``None``: the port is in no group.
CHANGES: dict[str, tuple[list[list[Rule]] | None, list[list[Rule]]]] = {
    "the removal of its allow": (lists(("allow", KEPT), ("allow", CUT)), lists(("allow", KEPT))),
    "a new deny": (lists(("allow", "7000:7010")), lists(("deny", CUT), ("allow", "7000:7010"))),
    "a new reject": (lists(("allow", "7000:7010")), lists(("reject", CUT), ("allow", "7000:7010"))),
    "a pure reorder": (
        lists(("allow", "7000:7010"), ("deny", CUT)),
        lists(("deny", CUT), ("allow", "7000:7010")),
    ),
    "its allow becoming a reject": (
        lists(("allow", KEPT), ("allow", CUT)),
        lists(("allow", KEPT), ("reject", CUT)),
    ),
    "the port being covered": (None, lists(("allow", KEPT))),
}
WAYS = ["out through source NAT", "in through a floating IP", "out through a floating IP"]


class Protection:
    """Red's port and its rules in the direction in which connections are opened on their way."""

    def __init__(self, lab: Lab, enforce: Enforcer, way: str) -> None:
        lab.masquerade()
        if "floating" in way:
            lab.floating_ip(FLOATING, lab.red.address())
        self._enforce = enforce
        self._outward = way.startswith("out")
        self._group, self._rules = Guard(), policy()
        self.client: Host = lab.red if self._outward else lab.outside
        self.destination: Address = lab.outside.address() if self._outward else ip_address(FLOATING)

    def __call__(self, rules: list[list[Rule]] | None) -> None:
        """Protect the port with ``rules``, or not at all."""
        if rules is None:
            self._enforce()
            return
        listed = edited(self._rules, *rules)
        ingress, egress = (ALLOW_ALL, listed) if self._outward else (listed, ALLOW_ALL)
        self._enforce(red=Guard(ingress, egress, id=self._group.id))


@pytest.mark.parametrize("reason", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_is_cut_at_once_and_another_loses_nothing_on_its_way(
    lab: Lab, enforce: Enforcer, way: str, reason: str
) -> None:
    protect = Protection(lab, enforce, way)
    before, after = CHANGES[reason]
    protect(before)
    with Flows() as flows:
        flows.open(protect.client, protect.destination, [KEPT], kept=True)
        flows.open(protect.client, protect.destination, [CUT], kept=False)
        flows.change(lambda: protect(after))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("push", ["client", "server"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_after_changes_that_a_translated_connection_slept_through_its_first_packet_is_judged_from_whichever_end(
    lab: Lab, enforce: Enforcer, protocol: str, push: str, way: str
) -> None:
    protect = Protection(lab, enforce, way)
    protect(lists(("allow", KEPT), ("allow", CUT)))
    with (
        protect.client.connect(protocol, protect.destination, KEPT, push=push) as kept,
        protect.client.connect(protocol, protect.destination, CUT, push=push) as cut,
    ):
        for number in range(3):
            protect(lists(("allow", KEPT), ("allow", 8000 + number)))
        assert not cut.exchange(timeout=0.1)
        assert kept.exchange()


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
