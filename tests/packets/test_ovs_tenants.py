"""Networks of a bridge never meet: tags, subports of trunks, equal addresses of two tenants, zones in other hands."""

from collections.abc import Iterator

import msgspec
import pytest

from fake_switch.frame import ACK, SYN
from fake_switch.wire import encode
from packets.builders import ALLOW_ALL, Guard, both, policy
from packets.machines import BROADCAST, UPLINK, Machine, Machines, machines_on_a_bridge
from portward.model import Binding

RED, BLUE, GREEN = 1, 2, 3
PORT, DENIED = 9001, 9002
TAG = 101  # on the frames of the trunk's machine that are its subport's
#: Two tenants with the same addresses and MACs.
CLIENTS = {network: Machine(f"client-{network}", 11, network) for network in (RED, BLUE)}
SERVERS = {network: Machine(f"server-{network}", 12, network) for network in (RED, BLUE)}
ROUTERS = {network: Machine(f"router-{network}", 1, network) for network in (RED, BLUE, GREEN)}
OUTSIDE = Machine("outside", 99, network=None, device=UPLINK)
#: One device, two ports: what it sends without a tag is the parent's, in the red network; the subport is in the green.
PARENT, SUBPORT = Machine("trunk", 21, RED), Machine("subport", 22, GREEN)

ALLOWS = Guard(ingress=policy(both("allow", "udp", PORT), both("allow", "tcp", PORT)), egress=ALLOW_ALL)
DENIES = Guard(egress=ALLOW_ALL)
GUARDS = {
    **dict.fromkeys(CLIENTS.values(), ALLOWS),
    SERVERS[RED]: ALLOWS,
    SERVERS[BLUE]: DENIES,
    PARENT: ALLOWS,
    SUBPORT: Guard(ingress=policy(both("allow", "udp", PORT)), egress=policy(both("allow", "udp", PORT))),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Machines]:
    with machines_on_a_bridge() as made:
        made.admit(*ROUTERS.values(), OUTSIDE)
        made.add(*CLIENTS.values(), *SERVERS.values(), PARENT)
        made.plug(*CLIENTS.values(), *SERVERS.values())
        plug_trunk(made)
        made.enforce(GUARDS)
        yield made


def plug_trunk(lab: Machines) -> None:
    """As neutron-openvswitch-agent does: a bridge for the machine's device, patches from it to br-int, one a port."""
    lab.vsctl("add-br", "tbr", "--", "set", "bridge", "tbr", "datapath_type=netdev")
    lab.vsctl("add-port", "tbr", PARENT.device, "--", "set", "interface", PARENT.device, iface_id(PARENT))
    for machine, ours, theirs, tag in ((PARENT, "tpi", "tpt", []), (SUBPORT, "spi", "spt", [f"tag={TAG}"])):
        inner = ("add-port", "br-int", ours, f"tag={machine.network}")
        outer = ("add-port", "tbr", theirs, *tag)
        patches = [
            ("set", "interface", name, "type=patch", f"options:peer={peer}", iface_id(machine))
            for name, peer in ((ours, theirs), (theirs, ours))
        ]
        lab.vsctl(*inner, "--", *outer, "--", *patches[0], "--", *patches[1])


def iface_id(machine: Machine) -> str:
    return f"external_ids:iface-id={machine.id}"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("first", [RED, BLUE])
def test_equal_packets_of_two_tenants_are_decided_each_by_its_own_rules(
    lab: Machines, version: int, first: int
) -> None:
    source_port = 41000 + 10 * first + version
    for network in (first, RED + BLUE - first) * 2:
        frame = CLIENTS[network].udp(SERVERS[network], PORT, version, source_port=source_port)
        wanted = {SERVERS[RED].name: [encode(frame)]} if network == RED else {}
        assert lab.send(CLIENTS[network], frame) == wanted


def test_the_answer_of_one_tenant_is_no_answer_to_the_other(lab: Machines) -> None:
    asked = CLIENTS[RED].tcp(SERVERS[RED], PORT, source_port=42000, tcp_flags=SYN)
    assert lab.send(CLIENTS[RED], asked) == {SERVERS[RED].name: [encode(asked)]}
    answer = asked.reply().with_(identification=1)
    assert lab.send(SERVERS[BLUE], answer) == {}
    assert lab.send(SERVERS[RED], answer) == {CLIENTS[RED].name: [encode(answer)]}
    onward = asked.with_(tcp_flags=ACK)
    assert lab.send(CLIENTS[BLUE], onward) == {}
    assert lab.send(CLIENTS[RED], onward) == {SERVERS[RED].name: [encode(onward)]}


@pytest.mark.parametrize("mac", [BROADCAST, "33:33:00:00:00:01", "fa:16:3e:ff:ff:ff"])
def test_frames_to_all_and_to_nobody_stay_in_their_network(lab: Machines, mac: str) -> None:
    for network in (RED, BLUE):
        frames = [it.with_(eth_dst=mac) for it in (CLIENTS[network].arp(SERVERS[network]),
                                                   CLIENTS[network].udp(SERVERS[network], PORT))]  # fmt: skip
        theirs = {it.name for it in (SERVERS[network], ROUTERS[network])}
        got = lab.send(CLIENTS[network], *frames)
        assert got.keys() - theirs - {OUTSIDE.name, PARENT.name} == set()
        assert sorted(got[OUTSIDE.name]) == sorted(encode(frame.with_(vlan=network)) for frame in frames)


@pytest.mark.parametrize("vlan", [0, RED, BLUE, GREEN, TAG, 4095])
def test_a_frame_with_a_tag_or_two_never_leaves_a_machine(lab: Machines, vlan: int) -> None:
    client = CLIENTS[RED]
    for frame in (client.arp(SERVERS[RED]), client.udp(SERVERS[RED], PORT), client.udp(SERVERS[RED], PORT, 6)):
        for mac in (BROADCAST, frame.eth_dst):
            once = encode(frame.with_(vlan=vlan, eth_dst=mac))
            for kind in (b"\x81\x00", b"\x88\xa8"):  # 802.1Q, 802.1ad
                frames = [once[:12] + kind + once[14:], once[:12] + kind + once[14:16] + once[12:]]
                assert lab.send_bytes(client, frames) == {}


def test_a_tag_from_outside_says_the_network_and_one_that_nobody_has_says_none(lab: Machines) -> None:
    frame = OUTSIDE.udp(SERVERS[RED], PORT, source_port=43000)
    assert lab.send(OUTSIDE, frame.with_(vlan=RED)) == {SERVERS[RED].name: [encode(frame)]}
    assert lab.send(OUTSIDE, frame.with_(vlan=BLUE)) == {}
    assert lab.send(OUTSIDE, frame.with_(vlan=77, eth_dst=BROADCAST)) == {}
    assert lab.send(OUTSIDE, frame.with_(eth_dst=BROADCAST)) == {}


@pytest.mark.parametrize("outer", [b"\x81\x00", b"\x88\xa8"], ids=["802.1Q", "802.1ad"])
def test_the_inner_of_two_tags_from_outside_is_no_way_into_a_network(lab: Machines, outer: bytes) -> None:
    """A switch may be set to see both."""
    lab.vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
    lab.appctl("revalidator/purge")  # what was cached before says nothing of second tags
    try:
        for mac in (SERVERS[RED].mac, BROADCAST):
            inner = encode(OUTSIDE.udp(SERVERS[RED], PORT, vlan=RED, eth_dst=mac))
            for network in (77, RED, BLUE):
                tag = outer + network.to_bytes(2, "big")
                assert lab.send_bytes(OUTSIDE, [inner[:12] + tag + inner[12:]]) == {}
    finally:
        lab.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")


def test_a_trunk_sends_without_a_tag_as_the_parent_and_with_its_tag_as_the_subport(lab: Machines) -> None:
    for machine, router, vlan in ((PARENT, ROUTERS[RED], None), (SUBPORT, ROUTERS[GREEN], TAG)):
        lab.send(router, router.arp(machine))  # the bridge learns where the router is
        frame = machine.udp(router, PORT)
        assert lab.send(PARENT, frame.with_(vlan=vlan)) == {router.name: [encode(frame)]}


def test_a_trunks_ports_get_what_their_own_groups_let_in_with_their_tags(lab: Machines) -> None:
    for machine, vlan in ((PARENT, None), (SUBPORT, TAG)):
        router = ROUTERS[RED if machine is PARENT else GREEN]
        for mac in (machine.mac, BROADCAST):
            let_in, kept_out = (router.udp(machine, port, eth_dst=mac) for port in (PORT, DENIED))
            got = lab.send(router, let_in, kept_out).get(PARENT.name)
            assert got == [encode(let_in.with_(vlan=vlan))]
    arp = ROUTERS[GREEN].arp(SUBPORT)
    assert lab.send(ROUTERS[GREEN], arp)[PARENT.name] == [encode(arp.with_(vlan=TAG))]


def test_each_port_of_a_trunk_is_held_to_its_own_rules_and_addresses(lab: Machines) -> None:
    denied = SUBPORT.udp(ROUTERS[GREEN], DENIED)
    as_the_other = [
        PARENT.udp(ROUTERS[GREEN], PORT, vlan=TAG),
        SUBPORT.udp(ROUTERS[RED], PORT),
        PARENT.udp(ROUTERS[RED], PORT, vlan=RED),
        SUBPORT.udp(ROUTERS[GREEN], PORT, vlan=GREEN),
    ]
    assert lab.send(PARENT, denied.with_(vlan=TAG)) == {}
    assert [lab.send(PARENT, it.with_(eth_dst=mac)) for it in as_the_other for mac in (it.eth_dst, BROADCAST)] == [
        {}
    ] * 8
    assert ROUTERS[RED].name in lab.send(PARENT, PARENT.udp(ROUTERS[RED], DENIED))


def test_a_zone_that_another_port_gets_carries_nothing_over(lab: Machines) -> None:
    """One machine takes the place of another: addresses, rules and zone are the same, and nothing is accepted yet."""
    first, second = Machine("first", 31, RED), Machine("second", 31, RED)
    zones = 4096, 4096 + len(GUARDS)  # just enough
    lab.add(first, second)
    lab.plug(first)
    lab.restart_dataplane(zones)
    lab.enforce({**GUARDS, first: ALLOWS})
    opened = first.udp(SERVERS[RED], PORT, source_port=44000)
    answer = opened.reply()
    assert lab.send(first, opened) == {SERVERS[RED].name: [encode(opened)]}
    assert lab.send(SERVERS[RED], answer) == {first.name: [encode(answer)]}
    zone = zone_of(lab, first)
    assert "44000" in lab.appctl("dpctl/dump-conntrack", f"zone={zone}")
    lab.unplug(first)
    lab.enforce(GUARDS)
    lab.plug(second)
    lab.enforce({**GUARDS, second: ALLOWS})
    assert zone_of(lab, second) == zone
    assert lab.send(SERVERS[RED], answer) == {}
    lab.unplug(second)
    lab.enforce(GUARDS)


def test_a_device_that_is_bound_to_another_port_carries_nothing_over(lab: Machines) -> None:
    """It bears no id, so the ports alone say whose it is; addresses and rules of both are the same."""
    first = Machine("first-bound", 32, RED)
    second = Machine("second-bound", 32, RED, device=first.device)
    lab.add(first)
    lab.vsctl("add-port", "br-int", first.device, f"tag={RED}")
    opened = first.udp(SERVERS[RED], PORT, source_port=45000)
    for machine, seen in ((first, [encode(opened.reply())]), (second, None)):
        state = lab.state_of({**GUARDS, machine: ALLOWS})
        port = msgspec.structs.replace(machine.to_model(), binding=Binding(netns=None, device=first.device))
        ports = [msgspec.structs.replace(it, port=port) if it.port.id == port.id else it for it in state.ports]
        lab.state = msgspec.structs.replace(state, ports=tuple(ports))
        lab.realise()
        if machine is first:
            assert lab.send(first, opened) == {SERVERS[RED].name: [encode(opened)]}
        assert lab.send(SERVERS[RED], opened.reply()).get(first.name) == seen
    lab.unplug(first)
    lab.enforce(GUARDS)


def zone_of(lab: Machines, machine: Machine) -> str:
    """The connection-tracking zone of a machine's port."""
    return lab.vsctl("get", "interface", machine.device, "external_ids:portward-zone").strip('"\n').split()[0]
