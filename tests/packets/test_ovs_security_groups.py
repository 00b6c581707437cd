"""Beside Neutron's own firewall on the same bridge: a packet passes when both let it, whoever changes."""

import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.enforcer import Enforcer
from packets.ours import change_flows
from packets.security_groups import clean_up, flows, load, own
from portward.dataplane.openvswitch.driver import OpenvswitchDataplane
from portward.lab import Lab, Outcome

pytestmark = pytest.mark.parametrize("kind", ["vm"])

SMTP, SSH = 25, 22


@pytest.fixture
def enforce(lab: Lab) -> Iterator[Enforcer]:
    """The dataplane of a bridge that Neutron's firewall has its flows on; all is open."""
    load(lab, flows(lab))
    enforcer = Enforcer(lab)
    enforcer.dataplane.close()
    enforcer.dataplane = OpenvswitchDataplane(
        run_dir=lab.switch.run_dir, netns=lab.switch.netns, beside_security_groups=True
    )
    enforcer()
    yield enforcer
    enforcer.close()


def narrow(lab: Lab, port: int) -> None:
    """Security groups let in new connections to this TCP port alone."""
    lab.switch.ofctl("del-flows", lab.switch.bridge, "table=82")
    load(lab, flows(lab, tcp_in=port))


def only(port: int) -> Guard:
    return Guard(ingress=policy(both("allow", "tcp", port)), egress=ALLOW_ALL)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("enforce")
def test_what_both_allow_passes_between_machines_and_from_outside_and_is_answered(lab: Lab, version: int) -> None:
    for sender in (lab.red, lab.outside):
        for protocol, port in (("tcp", SMTP), ("udp", 53), ("icmp", None)):
            assert sender.probe(protocol, lab.blue.address(version), port).outcome is Outcome.PASSED
    assert lab.blue.probe("tcp", lab.outside.address(version), SMTP).outcome is Outcome.PASSED


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("security_group", "firewall_group", "outcome"),
    [(SMTP, SMTP, Outcome.PASSED), (SMTP, SSH, Outcome.SILENT), (SSH, SMTP, Outcome.SILENT)],
)
def test_a_connection_needs_the_security_group_and_the_firewall_group(
    lab: Lab, enforce: Enforcer, security_group: int, firewall_group: int, outcome: Outcome, version: int
) -> None:
    narrow(lab, security_group)
    enforce(blue=only(firewall_group))
    for sender in (lab.red, lab.outside):
        assert sender.probe("tcp", lab.blue.address(version), SMTP).outcome is outcome


def test_a_firewall_group_decides_for_what_leaves_too(lab: Lab, enforce: Enforcer) -> None:
    enforce(red=Guard(ingress=ALLOW_ALL, egress=policy(both("allow", "tcp", SMTP))))
    assert lab.red.probe("tcp", lab.blue.address(), SMTP).outcome is Outcome.PASSED
    assert lab.red.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.SILENT
    enforce(red=Guard(ingress=ALLOW_ALL, egress=policy(both("reject"))))
    assert lab.red.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.RESET


def test_neither_loses_a_flow_to_the_other(lab: Lab, enforce: Enforcer) -> None:
    before = own(lab)
    for port in (SMTP, SSH):
        enforce(blue=only(port))
    assert own(lab) == before
    narrow(lab, SMTP)
    enforce(blue=only(SMTP))
    assert lab.red.probe("tcp", lab.blue.address(), SMTP).outcome is Outcome.PASSED


def test_a_connection_lives_while_either_side_changes_and_is_cut_when_the_firewall_group_denies_it(
    lab: Lab, enforce: Enforcer
) -> None:
    enforce(blue=only(SMTP))
    connection = lab.red.connect("tcp", lab.blue.address(), SMTP)
    narrow(lab, SMTP)
    assert connection.exchange()
    enforce(blue=Guard(ingress=policy(both("allow", "tcp", "20:30")), egress=ALLOW_ALL))
    assert connection.exchange()
    enforce(blue=only(SSH))
    assert not connection.exchange()
    connection.close()


def test_where_the_security_groups_flows_are_missing_nothing_comes_to_a_machine(lab: Lab, enforce: Enforcer) -> None:
    change_flows(lab, "del-flows", "table=81")
    enforce.heals_soon()
    assert lab.red.probe("tcp", lab.blue.address(), SMTP).outcome is Outcome.SILENT


def test_hooks_that_the_other_firewall_removes_are_back_at_once_and_what_passed_meanwhile_is_told(
    lab: Lab, enforce: Enforcer
) -> None:
    enforce(blue=only(SMTP))
    flow = lab.red.flow(lab.blue.address(), 53)  # which the security group allows
    with capture_logs() as logged, lab.red.stream([flow], rate=1000) as stream:
        before = time.monotonic()
        clean_up(lab, flows(lab))
        enforce.heals_soon()
        took = time.monotonic() - before
        passed = stream.counts()[0].received
        assert lab.red.probe("tcp", lab.blue.address(), SSH).outcome is Outcome.SILENT
        (count,) = stream.stop()
    (told,) = [line for line in logged if line["event"] == "hooks_were_gone"]
    print(f"{passed} of {count.sent} passed during a clean-up of {1000 * took:.0f} ms; what was told: {told}")
    assert 0.9 * passed <= told["undecided"] <= told["undecided_at_most"] <= passed + 50
    assert count.received == passed, "once the hooks are back, nothing passes"
