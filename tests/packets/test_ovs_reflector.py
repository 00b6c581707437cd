"""The reflector answers rejected packets as it should, heals, and stays: real frames in and out of its device."""

import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from packets.bare_switch import PATIENCE, bare_switch, until
from packets.frames import answer_of, encode, ident_of
from portward.dataplane.netns import in_namespace
from portward.dataplane.openvswitch.ovsdb import Ovsdb
from portward.dataplane.openvswitch.reflector import Reflector
from portward.model import ICMP, ICMPV6, SCTP, TCP, UDP, Packet
from portward.semantics import Answer

HOST = "pw-reflector"
ASKER = bytes.fromhex("fa163e000001")
SENTINEL = 1 << 30
RESET, PROHIBITED = Answer.TCP_RESET, Answer.ADMIN_PROHIBITED


@pytest.fixture
def reflector() -> Iterator[Reflector]:
    """One that stands, in a namespace that is the switch's."""
    subprocess.run(["ip", "netns", "add", HOST], check=True)
    made = Reflector("br-test")
    try:
        in_namespace(HOST, made.ensure)
        yield made
    finally:
        in_namespace(HOST, made.remove)
        subprocess.run(["ip", "netns", "delete", HOST], check=True)


def packet(version: int, protocol: int, **fields: Any) -> Packet:
    source, destination = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    if protocol in (TCP, UDP, SCTP):
        fields = {"source_port": 40000, "destination_port": 7} | fields
    return Packet(
        **{"source": ip_address(source), "destination": ip_address(destination), "protocol": protocol} | fields
    )


def ethernet(data: bytes, port: int = 1) -> bytes:
    """``data`` as the switch sends it to the reflector for the refusing ``port``."""
    return struct.pack("!HI", 0x0200, port) + ASKER + (b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00") + data


def answers(reflector: Reflector, *frames: bytes) -> list[bytes]:
    """What comes back for ``frames``."""
    with in_namespace(HOST, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as device:
        device.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        device.bind((reflector.device, 3))
        device.settimeout(PATIENCE)
        for frame in (*frames, ethernet(encode(packet(4, UDP), SENTINEL), port=0xFFFF)):
            device.send(frame)
        found: list[bytes] = []
        while True:
            data, sender = device.recvfrom(1 << 16)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            if ident_of(data[14:]) == SENTINEL:
                return found
            found.append(data)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_whole(data: bytes) -> bool:
    """Whether the checksum of the upper layer is right."""
    six = data[0] >> 4 == 6
    upper, protocol = (data[40:], data[6]) if six else (data[20:], data[9])
    addresses = data[8:40] if six else data[12:20]
    pseudo = addresses + struct.pack("!II", len(upper), protocol)
    return checksum(upper if protocol == ICMP else pseudo + upper) == 0xFFFF


@pytest.mark.parametrize(
    ("version", "protocol", "expected"),
    [(4, TCP, RESET), (6, TCP, RESET), (4, UDP, PROHIBITED), (6, UDP, PROHIBITED), (4, SCTP, PROHIBITED),
     (6, SCTP, PROHIBITED), (4, 47, PROHIBITED), (6, 47, PROHIBITED)],
)  # fmt: skip
def test_a_rejected_packet_is_answered_from_its_destination(
    reflector: Reflector, version: int, protocol: int, expected: Answer
) -> None:
    asked = packet(version, protocol)
    (frame,) = answers(reflector, ethernet(encode(asked, 5), port=77))
    assert answer_of(frame[14:]) is expected
    assert ident_of(frame[14:]) == 5
    assert (frame[:6], frame[6:12]) == (ASKER, struct.pack("!HI", 0x0200, 77))
    ends = (asked.destination.packed, asked.source.packed)
    assert frame[14:][12:20] == b"".join(ends) if version == 4 else frame[14:][8:40] == b"".join(ends)
    assert is_whole(frame[14:])


@pytest.mark.parametrize(("version", "protocol", "kind"), [(4, ICMP, 8), (6, ICMPV6, 128), (4, ICMP, 13)])
def test_a_query_is_answered(reflector: Reflector, version: int, protocol: int, kind: int) -> None:
    (frame,) = answers(reflector, ethernet(encode(packet(version, protocol, icmp_type=kind, icmp_id=3), 6)))
    assert answer_of(frame[14:]) is PROHIBITED


def reset(version: int) -> bytes:
    data = bytearray(encode(packet(version, TCP), 9))
    flags = (20 if version == 4 else 40) + 13
    data[flags] |= 4
    at = flags + 3
    data[at : at + 2] = (int.from_bytes(data[at : at + 2], "big") - 4).to_bytes(2, "big")
    return bytes(data)


def later_fragment(version: int) -> bytes:
    data = encode(packet(version, UDP), 9)
    if version == 6:
        return data[:4] + struct.pack("!H", len(data) - 32) + b"\x2c" + data[7:40] + struct.pack(
            "!BBHI", UDP, 0, 8 << 3, 1
        ) + data[40:]  # fmt: skip
    data = data[:6] + b"\0\x08" + data[8:]
    return data[:10] + (0xFFFF ^ checksum(data[:10] + b"\0\0" + data[12:20])).to_bytes(2, "big") + data[12:]


def unanswerable() -> Iterator[tuple[str, bytes]]:
    def udp(version: int = 4, **fields: str) -> bytes:
        return ethernet(encode(packet(version, UDP, **{name: ip_address(text) for name, text in fields.items()}), 9))

    for kind in (3, 4, 5, 11, 12):
        yield f"icmp {kind}", ethernet(encode(packet(4, ICMP, icmp_type=kind), 9))
    for kind in (1, 2, 3, 4, 137):
        yield f"icmpv6 {kind}", ethernet(encode(packet(6, ICMPV6, icmp_type=kind), 9))
    for version in (4, 6):
        yield f"reset, IPv{version}", ethernet(reset(version))
        yield f"later fragment, IPv{version}", ethernet(later_fragment(version))
    for address in ("224.0.0.1", "239.1.2.3", "255.255.255.255"):
        yield f"to {address}", udp(destination=address)
    for address in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
        yield f"from {address}", udp(source=address)
    yield "to ff02::1", udp(6, destination="ff02::1")
    yield "from ::", udp(6, source="::")
    yield "to all stations", b"\xff" * 6 + udp()[6:]
    yield "to a group of stations", bytes.fromhex("01005e000001") + udp()[6:]
    yield "from all stations", udp()[:6] + b"\xff" * 6 + udp()[12:]
    yield "arp", udp()[:12] + b"\x08\x06" + bytes(46)
    yield "cut off", udp()[:30]


UNANSWERABLE = dict(unanswerable())


@pytest.mark.parametrize("what", UNANSWERABLE)
def test_what_must_have_no_answer_has_none(reflector: Reflector, what: str) -> None:
    assert answers(reflector, UNANSWERABLE[what]) == []


def test_a_first_fragment_is_answered(reflector: Reflector) -> None:
    data = encode(packet(4, UDP), 8)
    data = data[:6] + b"\x20\0" + data[8:]
    data = data[:10] + (0xFFFF ^ checksum(data[:10] + b"\0\0" + data[12:20])).to_bytes(2, "big") + data[12:]
    assert len(answers(reflector, ethernet(data))) == 1


def test_a_refusing_port_answers_at_most_a_hundred_times_a_second_and_others_as_ever(reflector: Reflector) -> None:
    flood = [ethernet(encode(packet(4, UDP), number + 1), port=3) for number in range(2000)]
    beside = [ethernet(encode(packet(6, TCP), number + 5000), port=4 + 65536 * number) for number in range(50)]
    began = time.monotonic()
    found = answers(reflector, *flood, *beside)
    seconds = time.monotonic() - began
    assert 100 <= sum(frame[11] == 3 for frame in found) <= 102 + 100 * seconds
    assert sum(frame[11] == 4 for frame in found) == 50
    # The low 16 bits alone say which port it is.
    again = answers(reflector, *(ethernet(encode(packet(4, UDP), 9), port=3 + 65536 * way) for way in range(1000)))
    assert len(again) <= 102 + 100 * (time.monotonic() - began)


def test_it_says_nothing_of_itself(reflector: Reflector) -> None:
    with in_namespace(HOST, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as device:
        device.bind((reflector.device, 3))
        device.settimeout(2.5)  # routers are solicited, and addresses checked for doubles, within a second of its start
        with pytest.raises(TimeoutError):
            device.recv(1 << 16)
    for namespace in (HOST, reflector.namespace):
        shown = subprocess.run(["ip", "-n", namespace, "-6", "address"], capture_output=True, text=True, check=True)
        assert shown.stdout == ""


def works(reflector: Reflector) -> bool:
    return len(answers(reflector, ethernet(encode(packet(4, TCP), 5)))) == 1


BREAKAGES = {
    "the table": "ip netns exec {namespace} nft delete table netdev portward",
    "one rule": "ip netns exec {namespace} nft flush chain netdev portward answer",
    "the device": "ip -n {host} link delete {device}",
    "the other end": "ip -n {namespace} link delete answers",
    "the device's place": "ip -n {host} link set {device} netns {namespace}",
    "its state": "ip -n {host} link set {device} down",
    "the other end's state": "ip -n {namespace} link set answers down",
    "the namespace": "ip netns delete {namespace}",
    "the namespace, and another made": "ip netns delete {namespace} && ip netns add {namespace}",
    "the mount": "umount -l /run/netns/{namespace}",
}


@pytest.mark.parametrize("what", BREAKAGES)
@pytest.mark.parametrize("restarted", [False, True], ids=["same agent", "another agent"])
def test_what_somebody_removes_is_made_again(reflector: Reflector, what: str, restarted: bool) -> None:
    names = {"namespace": reflector.namespace, "host": HOST, "device": reflector.device}
    subprocess.run(BREAKAGES[what].format(**names), shell=True, check=True)
    other = Reflector("br-test")
    mended = reflector
    if restarted:
        reflector.close()  # held open, its namespace would stay
        mended = other
    in_namespace(HOST, mended.ensure)
    assert works(mended)
    other.close()
    until(lambda: len(in_namespace(HOST, socket.if_nameindex)) == 2)  # lo and the device: none is left over


def test_it_stays_when_the_agent_goes_and_the_next_takes_it_over(reflector: Reflector) -> None:
    names = [in_namespace(HOST, lambda: socket.if_nametoindex(reflector.device))]
    reflector.close()
    assert works(reflector)
    in_namespace(HOST, reflector.ensure)
    assert works(reflector)
    assert names == [in_namespace(HOST, lambda: socket.if_nametoindex(reflector.device))]


def test_to_ensure_what_stands_changes_nothing_and_takes_no_time(reflector: Reflector) -> None:
    monitor = subprocess.Popen(
        ["ip", "netns", "exec", reflector.namespace, "nft", "monitor"], stdout=subprocess.PIPE, text=True
    )
    try:
        took = []
        for _ in range(20):
            began = time.monotonic()
            in_namespace(HOST, reflector.ensure)
            took.append(time.monotonic() - began)
        assert sorted(took)[10] < 0.005
    finally:
        monitor.kill()
        assert monitor.communicate()[0] == ""


def test_two_removals_leave_nothing(reflector: Reflector) -> None:
    in_namespace(HOST, reflector.remove)
    in_namespace(HOST, reflector.remove)
    assert not Path("/run/netns", reflector.namespace).exists()
    assert [name for _, name in in_namespace(HOST, socket.if_nameindex)] == ["lo"]


def test_a_switch_in_userspace_takes_its_answers_and_finds_it_again_when_it_was_made_anew() -> None:
    with bare_switch() as switch:
        switch.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        silent = "addrgenmode none up"  # no address of the kernel's own, of which it would tell the other end
        switch.ip("link add vm type veth peer name vmx", f"link set vm {silent}", f"link set vmx {silent}")
        switch.vsctl("add-port", "br-int", "vm", "--", "set", "interface", "vm", "ofport_request=1")
        made, database = Reflector("br-int", switch.run_dir), Ovsdb(switch.run_dir)

        def port() -> int | None:
            database.update()
            seen = database.bridge("br-int")
            return next((each.ofport for each in seen.interfaces if each.name == made.device), None) if seen else None

        try:
            in_namespace(switch.netns, made.ensure)
            until(lambda: (database.update(), database.connected)[1])
            database.add_reflector("br-int", made.device)
            until(lambda: port() is not None)
            for _ in range(2):
                number = port()
                switch.ofctl(
                    "add-flow", "br-int", f"in_port=1,actions=set_field:02:00:00:00:00:01->eth_dst,output:{number}"
                )
                switch.ofctl("add-flow", "br-int", f"in_port={number},actions=output:1")
                switch.control("revalidator/purge")
                with in_namespace(switch.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as vm:
                    vm.bind(("vmx", 3))
                    vm.settimeout(PATIENCE)
                    for version, protocol in ((4, TCP), (6, TCP), (4, UDP), (6, UDP)):
                        vm.send(ethernet(encode(packet(version, protocol), 5), port=9))
                        while (frame := vm.recvfrom(1 << 16))[1][2] == socket.PACKET_OUTGOING:
                            pass
                        assert ident_of(frame[0][14:]) == 5
                        assert is_whole(frame[0][14:])
                switch.ip(f"link delete {made.device}")
                in_namespace(switch.netns, made.ensure)
                database.add_reflector("br-int", made.device)
                until(lambda: port() is not None)
        finally:
            in_namespace(switch.netns, made.remove)
            database.close()
