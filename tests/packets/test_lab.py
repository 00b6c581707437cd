"""The lab itself: what it promises to tests, demo and benchmarks."""

import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from portward.dataplane.netns import in_namespace
from portward.lab import Datagram, Lab, LabError, LabExists, NoSuchLab, NotConnected, Outcome, Place, Stream, probe_all
from portward.lab import state as states
from portward.lab.namespaces import add_namespace, delete_namespace, nft
from portward.lab.state import Process
from portward.model import TCP, UDP

NETNS = Path("/run/netns")


def links() -> str:
    return Path("/proc/net/dev").read_text().replace(" ", "")


def test_every_host_reaches_every_other_on_any_port(lab: Lab) -> None:
    requests = [
        one.request(protocol, other.address(version), port)
        for one in lab.hosts.values()
        for other in lab.hosts.values()
        if one is not other
        for version in (4, 6)
        for protocol, port in (("tcp", 1), ("tcp", 65535), ("udp", 1), ("udp", 65535), ("icmp", None))
    ]
    assert {probe.outcome for probe in probe_all(requests)} == {Outcome.PASSED}


def test_every_address_of_a_host_can_send_and_be_reached(lab: Lab) -> None:
    requests = [
        lab.red.request("udp", destination, 53, source=source)
        for source in lab.red.addresses
        for destination in lab.blue.addresses
        if source.version == destination.version
    ]
    assert {probe.outcome for probe in probe_all(requests)} == {Outcome.PASSED}


def test_a_thousand_silent_probes_cost_the_time_of_a_few(lab: Lab) -> None:
    nft(lab.router_netns, "table inet t { chain c { type filter hook forward priority 0; policy drop; }; }")
    start = time.monotonic()
    probes = probe_all([lab.red.request("udp", lab.blue.address(), port) for port in range(1, 1001)])
    assert {probe.outcome for probe in probes} == {Outcome.SILENT}
    assert time.monotonic() - start < 10


def test_tcp_echoes_what_it_is_sent(lab: Lab) -> None:
    talk = f"""if True:
        import socket
        connection = socket.create_connection(("{lab.blue.address()}", 80))
        connection.sendall(b"hello")
        print(connection.recv(9))
    """
    ran = in_namespace(
        lab.red.netns, lambda: subprocess.run([sys.executable, "-c", talk], capture_output=True, text=True)
    )
    assert ran.stdout == "b'hello'\n"


def test_a_closed_port_answers_with_a_reset_or_an_icmp_error(lab: Lab) -> None:
    for protocol, outcome in (("tcp", Outcome.RESET), ("udp", Outcome.UNREACHABLE)):
        lab.blue.close_port(protocol, 9)
        for version in (4, 6):
            assert lab.red.probe(protocol, lab.blue.address(version), 9).outcome is outcome


def test_a_program_on_a_host_gets_what_is_sent_to_its_port(lab: Lab) -> None:
    with lab.red.connect("udp", lab.blue.address(), 53) as one, lab.red.connect("udp", lab.blue.address(), 54) as two:
        assert [one.exchange(), two.exchange(), one.exchange()] == [True] * 3


@pytest.mark.parametrize("push", ["client", "server"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_connection_says_whether_it_still_carries_data(lab: Lab, protocol: str, push: str) -> None:
    for version in (4, 6):
        with lab.red.connect(protocol, lab.blue.address(version), 700, push=push) as connection:
            assert connection.exchange()
            block = "table inet t { chain c { type filter hook forward priority 0; policy drop; }; }"
            nft(lab.router_netns, block)
            assert not connection.exchange(timeout=0.1)
            nft(lab.router_netns, "delete table inet t")
            assert connection.exchange(timeout=3)


def test_a_udp_connection_that_its_client_pushes_is_never_replied_to(lab: Lab) -> None:
    arrived = lab.red.count(Place.ARRIVED, "udp sport 700")
    with lab.red.connect("udp", lab.blue.address(), 700, push="client") as connection:
        assert all(connection.exchange() for _ in range(5))
    assert arrived.packets() == {"match": 0}


def test_a_connection_that_does_not_come_about_is_a_typed_error(lab: Lab) -> None:
    nft(lab.router_netns, "table inet t { chain c { type filter hook forward priority 0; policy drop; }; }")
    for protocol in ("tcp", "udp"):
        with pytest.raises(NotConnected):
            lab.red.connect(protocol, lab.blue.address(), 700, timeout=0.05)


def test_a_stream_is_counted_at_both_ends_and_reaches_fifty_thousand_packets_a_second(lab: Lab) -> None:
    flows = [
        lab.red.flow(lab.blue.address(version), port, source_port=source_port)
        for version in (4, 6)
        for port, source_port in ((5000, 4000), (5001, None))
    ]
    with lab.red.stream(flows, rate=50_000) as stream:
        start = time.monotonic()
        wait_for_packets(stream, 50_000)
        seconds = time.monotonic() - start
        counts = stream.stop()
    assert seconds < 2
    assert [count.sent - count.received for count in counts] == [0] * len(flows)
    assert max(count.sent for count in counts) - min(count.sent for count in counts) <= 64


def test_a_stream_without_a_source_port_sends_valid_packets_from_many(lab: Lab) -> None:
    first_ports = lab.red.count(Place.SENT, "udp dport 5001 udp sport 1024-1100")
    nft(lab.router_netns, "table inet t { chain c { type filter hook forward priority 0; ct state invalid drop; }; }")
    with lab.red.stream([lab.red.flow(lab.blue.address(version), 5001) for version in (4, 6)], rate=2000) as stream:
        wait_for_packets(stream, 400)
        counts = stream.stop()
    # Connection tracking calls a packet with a wrong checksum invalid.
    assert [count.sent - count.received for count in counts] == [0, 0]
    assert first_ports.packets() == {"match": 2 * 77}


@pytest.mark.parametrize(("family", "source"), [("ip", "198.51.100.7"), ("ip6", "2001:db8:7::1")])
@pytest.mark.parametrize(("protocol", "number"), [("udp", UDP), ("tcp", TCP)])
def test_a_forged_packet_arrives_as_it_was_written(
    lab: Lab, protocol: str, number: int, family: str, source: str
) -> None:
    forged = Datagram(
        source=ip_address(source),
        destination=lab.blue.address(4 if family == "ip" else 6),
        protocol=number,
        source_port=1,
        destination_port=2,
    )
    match = f"{family} saddr {source} {protocol} sport 1 {protocol} dport 2"
    arrived = lab.blue.count(Place.ARRIVED, match, drop=True)
    lab.green.forge(forged, count=3)
    assert arrived.packets() == {"match": 3}


def test_two_hosts_do_not_echo_each_other_for_ever(lab: Lab) -> None:
    red, blue = lab.red.address(), lab.blue.address()
    answers = lab.red.count(Place.ARRIVED, f"ip saddr {blue} udp sport 2 udp dport 1")
    lab.green.forge(Datagram(source=red, destination=blue, protocol=UDP, source_port=1, destination_port=2))
    assert lab.red.probe("udp", blue, 2).outcome is Outcome.PASSED, "later than the first answer"
    assert lab.red.probe("udp", blue, 2).outcome is Outcome.PASSED, "later than what red would say to that"
    assert answers.packets() == {"match": 1}


def test_nothing_of_a_lab_is_ever_in_the_namespace_that_makes_it() -> None:
    before = links().splitlines()[2:]
    with Lab.create("links", networks=3):
        assert [line.split(":")[0] for line in links().splitlines()[2:]] == [line.split(":")[0] for line in before]


def test_a_second_lab_of_the_same_name_is_refused_and_the_first_goes_on(lab: Lab) -> None:
    with pytest.raises(LabExists, match="portward lab down"):
        Lab.create(lab.name)
    assert lab.red.probe("icmp", lab.blue.address()).outcome is Outcome.PASSED


def test_a_namespace_of_somebody_else_is_neither_taken_nor_removed() -> None:
    add_namespace("pw-taken-blue")
    try:
        with pytest.raises(LabExists, match="pw-taken-blue"):
            Lab.create("taken")
        assert os.listdir(NETNS) == ["pw-taken-blue"]
        with pytest.raises(NoSuchLab):
            Lab.open("taken")
    finally:
        delete_namespace("pw-taken-blue")


def test_two_labs_stand_side_by_side() -> None:
    with Lab.create("side-one") as one, Lab.create("side-two") as two:
        one.destroy()
        assert two.red.probe("tcp", two.blue.address(), 80).outcome is Outcome.PASSED
        assert Lab.names() == ["side-two"]


def test_destroy_leaves_nothing_and_may_be_called_again() -> None:
    lab = Lab.create("gone")
    (process,) = lab.state.processes
    lab.destroy()
    lab.destroy()
    assert not Path(f"/proc/{process.pid}").exists()
    assert os.listdir(NETNS) == []
    assert Lab.names() == []


def test_a_lab_whose_creator_was_killed_works_on_and_is_taken_down_by_another_process() -> None:
    create = (
        "import os, signal; from portward.lab import Lab; Lab.create('orphan'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", create])
    assert child.returncode == -signal.SIGKILL
    lab = Lab.open("orphan")
    try:
        assert lab.red.probe("udp", lab.blue.address(), 53).outcome is Outcome.PASSED
        (process,) = lab.state.processes
        down = subprocess.run(
            [sys.executable, "-c", "from portward.cli import main; main()", "lab", "down", "orphan"],
            capture_output=True,
            text=True,
        )
        assert (down.returncode, down.stderr) == (0, "")
        assert not Path(f"/proc/{process.pid}/cmdline").exists() or not Path(f"/proc/{process.pid}/cmdline").read_text()
        assert os.listdir(NETNS) == []
    finally:
        lab.destroy()


def test_a_process_that_took_over_the_id_of_one_of_the_lab_is_not_killed() -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        lab = Lab.create("reused")
        (process,) = lab.state.processes
        lab.destroy()
        states.claim(msgspec.structs.replace(lab.state, processes=(Process(bystander.pid, process.started),)))
        Lab.open("reused").destroy()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


def test_who_holds_a_lab_that_others_took_down_does_not_destroy_the_next_of_that_name() -> None:
    old = Lab.create("again")
    Lab.open("again").destroy()
    with Lab.create("again") as new:
        old.destroy()
        assert new.red.probe("tcp", new.blue.address(), 80).outcome is Outcome.PASSED
        assert Lab.names() == ["again"]


def test_a_lab_that_cannot_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portward.lab.build._HOST_TABLE", "table inet broken { no such thing }")
    with pytest.raises(LabError, match="nft"):
        Lab.create("broken")
    assert os.listdir(NETNS) == []
    assert Lab.names() == []


def wait_for_packets(stream: Stream, wanted: int) -> None:
    deadline = time.monotonic() + 5
    while sum(count.sent for count in stream.counts()) < wanted:
        assert time.monotonic() < deadline, "the sender is too slow"
        time.sleep(0.01)
