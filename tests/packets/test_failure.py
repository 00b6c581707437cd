"""What fails on a host, whatever the kind of port: it is said, what was enforced stays, and all heals with the cause.

What only one of the dataplanes can meet is where that is tested: ``test_nftables_*`` and ``test_ovs_*``.
"""

import select
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from packets.builders import ALLOW_ALL, Guard, both, edited, new_id, policy, state_of
from packets.enforcer import KINDS, Enforcer
from packets.nftables_router import nft, serial, udp
from packets.ours import change_flows, footprint
from packets.refusals import REASON, REFUSED, refusing
from packets.steady import steady
from portward.lab import Lab, LabPort, Outcome
from portward.model import HostState

PASSED, SILENT = Outcome.PASSED, Outcome.SILENT
OLD = udp(5001, 5003, 5005)
OLD_GUARDS = {"blue": Guard(ingress=OLD), "red": Guard(egress=ALLOW_ALL)}
NEW_GUARDS = {
    "blue": Guard(ingress=edited(OLD, *udp(5002, 5003, 5005).rules)),
    "green": Guard(),
    "red": OLD_GUARDS["red"],
}
OLD_DECIDES, NEW_DECIDES = (PASSED, SILENT), (SILENT, PASSED)


def decides(lab: Lab) -> tuple[Outcome, ...]:
    """What becomes of a packet that the old policies alone allow, and of one that the new ones alone do."""
    return tuple(lab.red.probe("udp", lab.blue.address(), port).outcome for port in (5001, 5002))


def errors(enforce: Enforcer, wanted: HostState) -> set[str | None]:
    """What is said of the ports when ``wanted`` is to be enforced; ``None``: that one of them is."""
    return {port.error for port in enforce.dataplane.apply(wanted).ports}


def comes_to_rest(enforce: Enforcer, wanted: HostState) -> bool:
    """Whether an agent stops trying: once what a switch tells of the change itself, late, is heard."""
    for _ in range(3):
        if not select.select(enforce.dataplane.watched(), [], [], 0)[0]:
            return True
        errors(enforce, wanted)
    return False


@pytest.fixture
def under_traffic(kind: str, lab: Lab, enforce: Enforcer) -> Iterator[None]:
    """The old policies are enforced; what the new ones decide the same way is sent all the time."""
    enforce(**OLD_GUARDS)
    with steady(lab, kind, allowed=(5003, 5005), denied=(5004, 5006)):
        yield


@pytest.mark.usefixtures("under_traffic")
@pytest.mark.parametrize("adopting", [False, True], ids=["change", "build"])
@pytest.mark.parametrize(("kind", "step", "in_force"), REFUSED)
def test_a_step_that_is_refused_again_and_again_changes_nothing_piles_up_nothing_and_heals(
    kind: str, lab: Lab, enforce: Enforcer, step: str, in_force: bool, adopting: bool
) -> None:
    if adopting:
        enforce.restart()
    wanted = state_of(enforce.ports, NEW_GUARDS, enforce.state)
    sizes = []
    with refusing(step) as refused:
        for attempt in range(1, 5):
            said = errors(enforce, wanted)
            assert all(error is not None and REASON in error for error in said), said
            assert decides(lab) == (NEW_DECIDES if in_force else OLD_DECIDES)
            assert comes_to_rest(enforce, wanted), "it would try without a pause"
            assert len(refused) >= attempt
            sizes.append(footprint(lab, kind))
    assert sizes[3] == sizes[1], "each attempt leaves more behind"
    assert errors(enforce, wanted) == {None}
    assert decides(lab) == NEW_DECIDES
    healed = footprint(lab, kind)
    enforce.restart()
    enforce(**NEW_GUARDS)  # which removes whatever an earlier life left
    assert footprint(lab, kind) == healed, "something was left behind"


@pytest.mark.usefixtures("under_traffic")
@pytest.mark.parametrize(("kind", "step"), [(kind, step) for kind, step, _ in REFUSED])
def test_after_a_refused_step_another_change_is_made_as_if_nothing_had_been(
    kind: str, lab: Lab, enforce: Enforcer, step: str
) -> None:
    """Names that leftovers of the first bear are used again by the second: a list and a device that come back."""
    before = enforce(**NEW_GUARDS)
    size = footprint(lab, kind)
    with refusing(step):
        assert errors(enforce, state_of(enforce.ports, OLD_GUARDS, before)) != {None}
    wanted = enforce(**NEW_GUARDS)
    assert footprint(lab, kind) == size, "something was left behind"
    assert decides(lab) == NEW_DECIDES
    assert lab.red.probe("udp", lab.green.address(), 5003).outcome is SILENT
    with refusing(step):
        errors(enforce, state_of(enforce.ports, OLD_GUARDS, wanted))
        errors(enforce, state_of(enforce.ports, NEW_GUARDS, wanted))
    enforce(**OLD_GUARDS)
    assert decides(lab) == OLD_DECIDES
    assert lab.red.probe("udp", lab.green.address(), 5001).outcome is PASSED


@dataclass(frozen=True)
class Damage:
    """What somebody does to objects of ours: with nft or ovs-ofctl."""

    command: str
    #: Whether all passes until it is repaired: so on a router, to which we add a filter; a switch passes what we admit.
    opens: bool

    def do(self, lab: Lab) -> None:
        if self.opens:
            netns = lab.router_netns
            nft(netns, self.command.format(build=f"v{serial(netns)}", device=lab.port("blue").device))
        else:
            command, _, arguments = self.command.partition(" ")
            change_flows(lab, command, *arguments.split())


DAMAGES = [
    *(
        ("router", Damage(command, opens=True))
        for command in (
            "flush ruleset",
            "delete table inet portward",
            "flush chain inet portward forward",
            "delete chain inet portward forward",
            "insert rule inet portward forward accept",
            "flush map inet portward {build}/ingress",
            "insert rule inet portward {build}/ingress/{device} return",
            "add table inet portward {{ flags dormant; }}",
        )
    ),
    *(
        ("vm", Damage(command, opens=False))
        for command in (
            "del-flows",
            "del-flows table=0",
            "del-flows table=157",
            "mod-flows table=157,actions=drop",
            "del-flows table=160",
        )
    ),
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES, ids=lambda it: it if isinstance(it, str) else it.command)
def test_what_somebody_did_to_ours_is_repaired_when_it_is_noticed_and_opens_no_switch(
    kind: str, lab: Lab, enforce: Enforcer, damage: Damage
) -> None:
    enforce(**OLD_GUARDS)
    assert decides(lab) == OLD_DECIDES
    before = footprint(lab, kind)
    with lab.red.stream([lab.red.flow(lab.blue.address(version), 5004) for version in (4, 6)], rate=500) as denied:
        damage.do(lab)
        assert decides(lab) == ((PASSED, PASSED) if damage.opens else (SILENT, SILENT))
        enforce.comes_to(lambda: decides(lab) == OLD_DECIDES)
        assert any(count.received for count in denied.stop()) is damage.opens
    assert footprint(lab, kind) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("push", ["client", "server"])
def test_accepted_connections_outlive_a_restart_and_others_are_cut(lab: Lab, enforce: Enforcer, push: str) -> None:
    enforce(blue=Guard(ingress=ALLOW_ALL))
    kept, cut = (
        [
            lab.red.connect(protocol, lab.blue.address(version), port, push=push)
            for protocol in ("tcp", "udp")
            for version in (4, 6)
        ]
        for port in (5001, 5002)
    )
    enforce.restart()
    enforce(blue=Guard(ingress=policy(both("allow", "tcp", 5001), both("allow", "udp", 5001))))
    assert [connection.exchange() for connection in kept] == [True] * 4
    assert [connection.exchange(0.2) for connection in cut] == [False] * 4
    assert [connection.retransmitted for connection in kept[:2]] == [0, 0]
    for connection in (*kept, *cut):
        connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_finds_what_it_would_make_and_makes_no_more(kind: str, lab: Lab, enforce: Enforcer) -> None:
    enforce(**OLD_GUARDS)
    enforce(**NEW_GUARDS)
    before = footprint(lab, kind)
    enforce.restart()
    enforce(**NEW_GUARDS)
    assert footprint(lab, kind) == before
    assert decides(lab) == NEW_DECIDES


def appear(lab: Lab, port: LabPort, kind: str) -> None:
    """The device of a port that nothing was known of is there."""
    if kind == "router":
        subprocess.run(["ip", "-n", port.netns, "link", "add", port.device, "type", "veth"], check=True)
    else:
        interface = ("--", "set", "interface", port.device, "type=internal", f"external_ids:iface-id={port.port_id}")
        lab.switch.vsctl("add-port", lab.switch.bridge, port.device, f"tag={port.vlan}", *interface)


def vanish(lab: Lab, port: LabPort, kind: str) -> None:
    """And it is gone again."""
    if kind == "router":
        subprocess.run(["ip", "-n", port.netns, "link", "del", port.device], check=True)
    else:
        lab.switch.unplug(port)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_missing_is_the_error_of_its_port_alone_whenever_it_comes_and_goes(
    kind: str, lab: Lab, enforce: Enforcer
) -> None:
    late = msgspec.structs.replace(
        enforce.ports["green"], port_id=new_id(), name="late", device="pw-late", mac="fa:16:3e:0e:0e:0e", fixed_ips=()
    )
    enforce.state = state_of({**enforce.ports, "late": late}, {**OLD_GUARDS, "late": Guard()}, enforce.state)
    for _ in range(2):
        assert enforce.errors_soon() == [late.port_id]
        assert decides(lab) == OLD_DECIDES
        appear(lab, late, kind)
        enforce.heals_soon()
        assert decides(lab) == OLD_DECIDES
        vanish(lab, late, kind)
    assert enforce.errors_soon() == [late.port_id]
